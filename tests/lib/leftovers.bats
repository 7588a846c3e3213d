#!/usr/bin/env bats
# Files of merged layers that an ended run has left: the next run removes what
# nobody has used since, and nothing else.

load ../helpers
load ../cmd/common
load ../cmd/layers

# ended COMMAND...: killed when it would remove the file.
ended() {
  QIMG_FAULT=unlink:1:kill "$QIMG" "$@" 2>/dev/null && return 1
  fault_fired
}

@test "a dry run after it sees what the next run will see" {
  mklayers link
  layer t3 four.qcow2 'write -P 5 0 64k'
  ended snapshot delete -q --drive d t2
  [ "$(find . -name '*.qcow2' | wc -l)" = 4 ]
  as_planned snapshot delete --drive d t1
  json '.steps[0] | test("remove .*, which an earlier run has merged")'
  [ "$(find . -name '*.qcow2' | wc -l)" = 2 ]
  oracle_check four.qcow2
}

@test "one that was used since stays, and a warning says so" {
  local use gone
  for use in 'ln -s GONE link.qcow2' 'write GONE "write -P 9 0 1M"' \
    'qemu-img snapshot -c mine GONE' 'qimg bitmap add -q --node GONE mine' \
    'qemu-img create -q -f qcow2 -b GONE -F qcow2 over.qcow2'; do
    rm -rf ./*
    mklayers link
    layer t3 four.qcow2 'write -P 5 0 64k'
    qemu-img convert -O raw d want.raw
    ended snapshot delete -q --drive d t2
    # Whichever is no layer any more.
    gone=two.qcow2
    [[ $(layers) != *two.qcow2* ]] || gone=three.qcow2
    eval "${use//GONE/$gone}"
    sha256sum $gone >sum
    expect_code 0 qimg snapshot delete --drive d t1
    echo "$use: $stderr"
    [[ $stderr == *"'$gone', which an earlier run has merged, is left"* ]]
    sha256sum -c --quiet sum
    qemu-img compare -q -F raw d want.raw
    # It is said once.
    expect_code 0 qimg bitmap show --drive d b
    [ -z "$stderr" ]
  done
}

@test "a head that was committed, too" {
  local use
  for use in 'qemu-img snapshot -c mine two.qcow2' \
    'qimg bitmap add -q --node two.qcow2 mine' \
    'write two.qcow2 "write -P 9 0 64k"'; do
    rm -rf ./*
    qemu-img create -q -f qcow2 one.qcow2 1M
    ln -s one.qcow2 d
    qimg snapshot create -q --drive d --overlay two.qcow2 s
    write d 'write -P 1 64k 64k'
    ended commit -q --drive d
    [ "$(readlink d)" = one.qcow2 ]
    eval "$use"
    refuses 6 commit --drive d
    [ -e two.qcow2 ]
  done
}

# Without a record a file is known by its name alone, and that may be another's.
@test "a file that only has the name is never removed" {
  mkdir disks
  truncate -s 1M disks/raw
  ln -s disks/raw d
  qimg snapshot create -q --drive d --overlay "$PWD/h.qcow2" t1
  write h.qcow2 'write -P 1 0 64k'
  ended snapshot delete -q --drive h.qcow2 t1
  rm disks/raw
  echo secret >disks/raw
  run_qimg commit --drive h.qcow2
  [ "$status" = 6 ]
  [ "$(<disks/raw)" = secret ]
}

@test "a tag that is given again is deleted again" {
  mklayers link
  layer t3 four.qcow2 'write -P 5 0 64k'
  QIMG_FAULT=unlink:1:EIO expect_code 3 qimg snapshot delete -q --drive d t2
  rm -f three.qcow2
  [[ $(layers) == *two.qcow2* ]] || rm two.qcow2
  qimg snapshot create -q --drive d --overlay five.qcow2 t2
  qimg snapshot delete -q --drive d t2
  [[ $(layers) != *t2* ]]
}
