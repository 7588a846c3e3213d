#!/usr/bin/env bats
# qimg clone: a new drive on a layer of another one.

load ../helpers
load common
load layers


@test "a clone of the present: the drive gets a snapshot, both go on" {
  local kind base
  for kind in link plain; do
    mklayers $kind
    as_planned clone --drive d --tag t3 copy
    base=three.qcow2
    [ $kind = link ] || base=d@t3.qcow2
    json --arg b $base '.clone == "copy" and .base == $b'
    sound
    oracle_equal copy want.raw
    oracle_check copy
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    # No bitmaps; a drive of its own, whose changes are its own.
    run_qimg bitmap list --drive copy --output json
    json '.bitmaps == []'
    write copy 'write -P 9 0 64k'
    sound
    qimg bitmap add -q --drive copy b
    write copy 'write -P 8 1M 64k'
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    qimg snapshot create -q --drive copy c1
    run_qimg snapshot list --drive d --output json
    json '[.layers[] | [.snapshot, .shared]][0:2] ==
      [[null, false], ["t3", true]]'
    rm -rf ./*
  done
}

@test "--at a snapshot: the drive itself does not change" {
  local before
  mklayers link
  before=$(sha256sum two.qcow2 three.qcow2)
  as_planned clone --drive d --at t1 copy.qcow2
  json '.base == "one.qcow2" and .clone == "copy.qcow2"'
  oracle_equal copy.qcow2 t1.raw
  oracle_check copy.qcow2
  [ "$before" = "$(sha256sum two.qcow2 three.qcow2)" ]
  sound
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
  # A second one needs no mark: the layer may be read-only by then.
  before=$(sha256sum one.qcow2)
  qimg clone -q --drive d --at t1 copy2.qcow2
  [ "$before" = "$(sha256sum one.qcow2)" ]
}

@test "on a head without data: no other snapshot" {
  local list
  mklayers link
  qimg snapshot create -q --drive d --overlay four.qcow2 t3
  list=$(layers)
  qimg clone -q --drive d copy.qcow2
  have "$list"
  oracle_equal copy.qcow2 want.raw
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
}

@test "run twice: done, as long as nobody has written to it" {
  local before
  mklayers link
  qimg clone -q --drive d copy.qcow2
  before=$(state)
  expect_code 0 qimg clone -q --drive d copy.qcow2
  [ -z "$output$stderr" ]
  [ "$before" = "$(state)" ]
  write copy.qcow2 'write -P 1 0 4k'
  refuses 1 clone --drive d copy.qcow2 : exists
}

@test "other folders, and names with spaces and colons" {
  mkdir 'a: b' links
  mklayers link
  ln -s ../three.qcow2 links/d
  qimg clone -q --drive links/d --tag 'ä: 1' 'a: b/co:py é'
  oracle_equal "./three.qcow2" want.raw
  oracle_equal "$PWD/a: b/co:py é" want.raw
  qimg clone -q --drive d --at t1 'x:y'
  oracle_equal ./x:y t1.raw
  run_qimg bitmap list --drive 'a: b/co:py é' --output json
  json '.bitmaps == []'
}

@test "--tag for a head that is empty: a warning, and no snapshot" {
  mklayers link
  qimg snapshot create -q --drive d t3
  have_before=$(layers)
  expect_code 0 qimg clone -q --drive d --tag t4 copy.qcow2
  [[ $stderr == "qimg: warning: no snapshot 't4' is made"*"'t3'"* ]]
  have "$have_before"
  # Run again: the clone is there, and so is what it was asked for.
  expect_code 0 qimg clone -q --drive d --tag t3 copy.qcow2
  [ -z "$stderr" ]
}

@test "raw and v2: no mark, and a warning that says so" {
  truncate -s 1M low
  qemu-io -f raw -c 'write -P 1 0 64k' low >/dev/null
  ln -s low d
  expect_code 0 qimg clone -q --drive d --tag t1 copy.qcow2
  [[ $stderr == *"'low' cannot be marked as shared"* ]]
  qemu-img compare -q -f raw low copy.qcow2
  refuses 6 commit --drive d : copy.qcow2
  # The drive stays a drive, and its clone another one.
  [ "$(readlink d)" = d.t1.qcow2 ]
  qimg bitmap add -q --drive d b
  qimg bitmap add -q --drive copy.qcow2 c
  refuses 1 bitmap show --drive copy.qcow2 b : "no bitmap 'b'"
}

@test "a shared layer is written by neither drive, until it is unshared" {
  mkdir away
  qemu-img create -q -f qcow2 one.qcow2 1M
  ln -s one.qcow2 d
  write d 'write -P 1 0 64k'
  # Out of sight: the mark alone keeps the clone from harm.
  qimg clone -q --drive d --tag t1 away/copy.qcow2
  write away/copy.qcow2 'write -P 2 64k 64k'
  refuses 6 commit --drive d : "'one.qcow2'" 'clone --unshare'
  refuses 6 snapshot delete --drive d t1 : "'one.qcow2'"
  refuses 6 commit --drive away/copy.qcow2
  as_planned_unshare one.qcow2
  qimg snapshot delete -q --drive d t1
  refuses 1 clone --unshare "$(readlink d)" : 'not marked'
}

as_planned_unshare() {
  local before
  before=$(state)
  expect_code 0 qimg clone --unshare "$1" -n --output json
  json --arg n "$1" '.node == $n and .shared == false and .["dry-run"]'
  [ "$before" = "$(state)" ]
  expect_code 0 qimg clone --unshare "$1"
  says "'$1' is not shared"
}

@test "--unshare: not while two images in the folder rest on it" {
  mklayers link
  qimg clone -q --drive d --at t1 copy.qcow2
  refuses 6 clone --unshare one.qcow2 : copy.qcow2 two.qcow2
  rm copy.qcow2
  expect_code 0 qimg clone -q --unshare one.qcow2
  [ -z "$output$stderr" ]
  qimg snapshot delete -q --drive d t1
  sound
  refuses 1 clone --unshare three.qcow2 : 'not marked'
  refuses 1 clone --unshare t1.raw : 'not marked'
  refuses 1 clone --unshare gone : "'gone'"
}

@test "what cannot be is seen before the drive gets a snapshot" {
  mklayers link
  mkdir ro
  chmod 555 ro
  refuses 2 clone copy.qcow2 : --drive
  refuses 2 clone --drive d : path
  refuses 2 clone --drive d a b
  refuses 2 clone --drive d --at t1 --tag t4 copy.qcow2 : --at
  refuses 2 clone --unshare one.qcow2 copy.qcow2 : --unshare
  refuses 1 clone --drive d --at nope copy.qcow2 : "'nope'" 'snapshot list'
  refuses 1 clone --drive gone copy.qcow2 : "'gone'"
  refuses 1 clone --drive d --tag t1 copy.qcow2 : "'t1'"
  refuses 1 clone --drive d one.qcow2 : exists
  refuses 1 clone --drive d d : exists
  refuses 1 clone --drive d no/copy.qcow2 : "'no/copy.qcow2'"
  refuses 1 clone --drive d t1.raw/copy.qcow2 : "'t1.raw/copy.qcow2'"
  refuses 1 clone --drive d '' : "''"
  refuses 1 clone --drive d ro/ : "'ro/'"
  refuses 1 clone --drive d --tag t3 d.t3.qcow2 : "'d.t3.qcow2'" --tag
  ln -s nowhere dangling
  refuses 1 clone --drive d dangling : exists
  [ "$(id -u)" = 0 ] ||
    refuses 1 clone --drive d ro/copy.qcow2 : "'ro/copy.qcow2'"
  rm -rf ./*
  mklayers plain
  refuses 1 clone --drive d --tag t3 d@t3.qcow2 : "'d@t3.qcow2'" --tag
  qimg bitmap add -q --node d mine
  refuses 6 clone --drive d copy.qcow2 : "'mine'" 'ln -s'
}

@test "a layer in use" {
  mklayers link
  hold_image three.qcow2
  refuses 5 clone --drive d copy.qcow2 : "$HOLD_PID" qemu-io
  release_image
  hold_daemon one.qcow2
  refuses 5 clone --drive d --at t1 copy.qcow2 : "$HOLD_PID" qemu-storage
  release_daemon
}

@test "no space" {
  local n code
  mklayers link
  cp -a . "$copy"
  for ((n = 1; n < 40; n += 2)); do
    rm -rf ./*
    cp -a "$copy/." .
    code=0
    QIMG_FAULT=write:$n:ENOSPC "$QIMG" clone -q --drive d copy.qcow2 2>err ||
      code=$?
    fault_fired || break
    qemu-img compare -q -F raw d want.raw
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    # The snapshot's own mark is made up for by that of the clone.
    if [ $code = 0 ] || [ $code = 3 ]; then
      qemu-img compare -q -F raw copy.qcow2 want.raw
      continue
    fi
    [ $code = 7 ]
    [ ! -e copy.qcow2 ]
    no_hidden_files
    qimg clone -q --drive d copy.qcow2
    qemu-img compare -q -F raw copy.qcow2 want.raw
  done
  [ "$n" -gt 3 ]
  [ "$n" -lt 40 ]
}
