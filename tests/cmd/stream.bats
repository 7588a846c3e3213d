#!/usr/bin/env bats
# qimg stream --drive: data of lower layers is pulled up into the head.

load ../helpers
load common
load layers

@test "the whole disk: the head rests on nothing, layers stay on disk" {
  local kind
  for kind in link plain; do
    mklayers $kind
    as_planned stream --drive d
    json '.bytes > 0 and .base == null'
    sound
    [[ $(layers) =~ ^[^\ ]+$ ]]
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    # It records what is written, and no other image is needed for it.
    mkdir away
    mv ./*.qcow2 away
    [ $kind = plain ] || mv away/three.qcow2 .
    write d 'write -P 7 0 64k'
    is_dirty 'exact 0+128 1024+64 2048+64 3072+64'
    [ $kind = plain ] || [ -e away/one.qcow2 ]
    rm -rf ./*
  done
}

@test "--base: the head rests on that layer, with its snapshot" {
  mklayers link
  layer t3 four.qcow2 'write -P 5 128k 64k'
  qemu-img convert -O raw d want.raw
  as_planned stream --drive d --base one.qcow2
  json '.base == "one.qcow2" and .bytes == 196608 and .head == "four.qcow2"'
  sound
  have 'four.qcow2 one.qcow2=t1'
  is_dirty 'exact 64+128 1024+64 2048+64 3072+64'
  qemu-img compare -q -F raw two.qcow2 t2.raw
  qimg snapshot revert -q --drive d t1
  sound t1.raw
}

@test "a range: the head gets it, and nothing else changes" {
  local list
  mklayers link
  list=$(layers)
  as_planned stream --drive d --offset 1M --length 512k
  json '.bytes == 524288'
  sound
  have "$list"
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
  qemu-img map --output=json three.qcow2 | jq -e '[.[] |
    select(.depth == 0) | .length] | add == 524288 + 65536'
  # Only what the layers above the base have.
  as_planned stream --drive d --base one.qcow2 --offset 2M
  json '.bytes == 65536'
  have "$list"
  # From the start on, and a range of nothing.
  qimg stream -q --drive d --offset 0
  have "$list"
  sound
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
  refuses 2 stream --drive d --length 0 : --length
  refuses 1 stream --drive d --offset 4M : 'past the end'
  expect_code 0 qimg stream -q --drive d --offset 3M --length 1E
  have "$list"
}

@test "-c compresses what is copied" {
  mklayers link
  qimg stream -q -c --drive d
  qemu-img check --output=json three.qcow2 | jq -e '."compressed-clusters" > 20'
  sound
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
}

@test "run twice, and with nothing to do" {
  local before
  mklayers link
  qimg stream -q --drive d --base one.qcow2
  before=$(state)
  expect_code 0 qimg stream -q --drive d --base one.qcow2
  qimg stream -q --drive d --offset 2M --length 64k
  [ "$before" = "$(state)" ]
  qimg stream -q --drive d
  before=$(state)
  expect_code 0 qimg stream --drive d
  says 'nothing: the head rests on no other layer'
  [ "$before" = "$(state)" ]
  refuses 6 stream --drive d --base one.qcow2 : "'one.qcow2'" 'snapshot list'
}

@test "quiet, progress, threads" {
  mklayers link
  cp -a . "$copy"
  expect_code 0 qimg stream -q -p --drive d
  [ -z "$output$stderr" ]
  cd "$copy"
  expect_code 0 qimg stream --progress=json --parallel 1 --drive d
  tail -1 <<<"$stderr" | jq -e '.progress | .operation == "stream" and
    .percent == 100'
}

@test "bitmaps that start in each layer, of several granularities" {
  local base
  for base in one two ''; do
    qemu-img create -q -f qcow2 one.qcow2 4M
    ln -s one.qcow2 d
    qimg bitmap add -q --drive d -g 4k low
    qimg bitmap add -q --drive d paused
    qimg bitmap add -q --drive d gone
    write d 'write -P 1 1M 4k'
    layer t1 two.qcow2 'write -P 2 0 4k'
    qimg bitmap add -q --drive d -g 128k mid
    qimg bitmap disable -q --drive d paused
    write d 'write -P 2 2M 4k'
    layer t2 three.qcow2 'write -P 3 3M 4k'
    qimg bitmap add -q --drive d -g 16k top
    qimg bitmap remove -q --drive d gone
    write d 'write -P 3 512k 4k'
    qemu-img convert -O raw d want.raw
    qimg stream -q --drive d ${base:+--base $base.qcow2}
    sound
    is_dirty 'exact 0+4 512+4 1024+4 2048+4 3072+4' low
    is_dirty 'exact 512+128 2048+128 3072+128' mid
    is_dirty 'exact 512+16' top
    [[ $(dirty paused) == *' 0+64 1024+64' ]]
    refuses 1 bitmap show --drive d gone : "no bitmap 'gone'"
    rm -rf ./*
  done
}

@test "other cluster sizes, disk sizes in both orders, raw and v2 below" {
  local sizes base low
  for low in raw qcow2 v2; do
    for sizes in '1M 4M 2M' '4M 1M 2M'; do
      # shellcheck disable=SC2086 # three words
      set -- $sizes
      case $low in
      raw) truncate -s "$1" low ;;
      v2) qemu-img create -q -f qcow2 -o compat=0.10 low "$1" ;;
      *) qemu-img create -q -f qcow2 -o cluster_size=4k low "$1" ;;
      esac
      qemu-io -f "${low/v2/qcow2}" -c 'write -P 1 512k 100k' low >/dev/null
      qemu-img create -q -f qcow2 -o cluster_size=1M -b low \
        -F "${low/v2/qcow2}" two.qcow2 "$2"
      write two.qcow2 'write -P 3 900k 4k'
      ln -s two.qcow2 d
      qimg bitmap add -q --drive d b
      layer t1 three.qcow2
      qimg resize -q --shrink d "$3"
      write d 'write -P 4 300k 4k'
      qemu-img convert -O raw d want.raw
      cp -a . "$copy"
      for base in two.qcow2 low ''; do
        qimg stream -q --drive d ${base:+--base $base}
        sound
        if [ "$sizes" = '4M 1M 2M' ]; then
          is_dirty 'exact 256+64 1024+1024'
        else
          is_dirty 'exact 256+64'
        fi
      done
      rm -rf ./* "$copy"
    done
  done
}

@test "foreign layers and killed writers" {
  mklayers link
  hold_image two.qcow2
  crash_holder
  qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 four.qcow2
  write four.qcow2 'write -P 6 256k 64k'
  ln -sfn four.qcow2 d
  qemu-img convert -O raw d want.raw
  cp -a . "$copy"
  expect_code 0 qimg stream -q --drive d --base one.qcow2
  [[ $stderr == *'another tool'* ]]
  qemu-img compare -q -F raw d want.raw
  [[ $(dirty) == *' 64+64 256+64 1024+64 2048+64 3072+64' ]]
  rm -rf ./*
  cp -a "$copy/." .
  # A killed writer at the anchor: all is dirty, and stays so.
  hold_image one.qcow2
  crash_holder
  qimg stream -q --drive d
  qemu-img compare -q -F raw d want.raw
  [[ $(dirty) == *' 0+4096' ]]
}

@test "node bitmaps, siblings and clones are not touched" {
  mklayers link
  qimg bitmap add -q --node one.qcow2 mine
  qimg bitmap add -q --node two.qcow2 mine
  qemu-img create -q -f qcow2 -b two.qcow2 -F qcow2 child.qcow2
  before=$(sha256sum one.qcow2 two.qcow2)
  qimg stream -q --drive d
  [ "$before" = "$(sha256sum one.qcow2 two.qcow2)" ]
  sound
  # One on the head stays there; a drive bitmap that needs its place is told.
  rm -rf ./*
  mklayers link
  qimg bitmap add -q --node three.qcow2 mine
  qimg stream -q --drive d --base one.qcow2
  run_qimg bitmap show --node three.qcow2 mine --output json
  json '.extents == []'
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
}

@test "what is refused" {
  mklayers link
  refuses 2 stream : --drive
  refuses 2 stream --drive d x
  refuses 6 stream --drive d --base three.qcow2 : "'three.qcow2'"
  refuses 6 stream --drive d --base gone : "'gone'" 'snapshot list'
  refuses 1 stream --drive gone : "'gone'"
  hold_image three.qcow2
  refuses 5 stream --drive d : "$HOLD_PID" qemu-io
  release_image
  hold_daemon two.qcow2
  refuses 5 stream --drive d : "$HOLD_PID" qemu-storage
  release_daemon
  mkbad
  refuses 6 stream --drive a.qcow2 : loop
  refuses 1 stream --drive orphan.qcow2 : "'gone.qcow2'"
  refuses 4 stream --drive cut.qcow2 : truncated
}

@test "no space at any write" {
  local n code
  mklayers link
  cp -a . "$copy"
  for ((n = 1; n < 60; n += 1 + n / 8)); do
    rm -rf ./*
    cp -a "$copy/." .
    code=0
    QIMG_FAULT=write:$n:ENOSPC "$QIMG" stream -q --drive d 2>err || code=$?
    fault_fired || break
    qemu-img compare -q -F raw d want.raw
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    [ $code != 0 ] || continue
    [ $code = 7 ]
    qimg stream -q --drive d
    qemu-img compare -q -F raw d want.raw
  done
  [ "$n" -gt 3 ]
  [ "$n" -lt 60 ]
}
