#!/usr/bin/env bats
# qimg commit --drive --into: layers go down into one further below.

load ../helpers
load common
load layers

@test "--into: all layers above go, the dirty set is exactly the same" {
  local kind into
  for kind in link plain; do
    mklayers $kind
    into=one.qcow2
    [ $kind = link ] || into=d@t1.qcow2
    as_planned commit --drive d --into $into
    json '.bytes == 196608'
    json '[.steps[] | select(test("bytes")) | capture(": (?<n>[0-9]+)").n |
      tonumber] | add == 196608'
    sound
    if [ $kind = link ]; then
      have one.qcow2
      json '.head == "one.qcow2"'
      [ "$(find . -name '*.qcow2')" = ./one.qcow2 ]
    else
      have d
      json '.head == "d"'
      [ -z "$(find . -name '*.qcow2')" ]
    fi
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    write d 'write -P 7 0 64k'
    is_dirty 'exact 0+128 1024+64 2048+64 3072+64'
    rm -rf ./*
  done
}

@test "--into: a layer in the middle keeps its snapshot, and what is below" {
  mklayers link
  layer t3 four.qcow2 'write -P 5 128k 64k'
  qemu-img convert -O raw d want.raw
  as_planned commit --drive d --into two.qcow2
  have 'two.qcow2 one.qcow2=t1'
  sound
  is_dirty 'exact 64+128 1024+64 2048+64 3072+64'
  qimg snapshot revert -q --drive d t1
  sound t1.raw
}

@test "--into: run twice, quiet, a layer that is none" {
  local before
  mklayers link
  expect_code 0 qimg commit -q --drive d --into one.qcow2
  [ -z "$output$stderr" ]
  before=$(state)
  expect_code 0 qimg commit -q --drive d --into one.qcow2
  [ "$before" = "$(state)" ]
  refuses 6 commit --drive d --into gone : "'gone'" 'snapshot list'
  refuses 2 commit --into one.qcow2 one.qcow2 : --into
  refuses 2 commit --drive d -b one.qcow2
}

@test "--into: bitmaps that start in each layer, of several granularities" {
  qemu-img create -q -f qcow2 one.qcow2 4M
  ln -s one.qcow2 d
  qimg bitmap add -q --drive d -g 4k low
  qimg bitmap add -q --drive d paused
  qimg bitmap add -q --drive d cleared
  qimg bitmap add -q --drive d gone
  write d 'write -P 1 1M 4k'
  layer t1 two.qcow2 'write -P 2 0 4k'
  qimg bitmap add -q --drive d -g 128k mid
  qimg bitmap disable -q --drive d paused
  qimg bitmap clear -q --drive d cleared
  qimg bitmap remove -q --drive d gone
  write d 'write -P 2 2M 4k'
  layer t2 three.qcow2 'write -P 3 3M 4k'
  qimg bitmap add -q --drive d -g 16k top
  write d 'write -P 3 512k 4k'
  qemu-img convert -O raw d want.raw
  qimg commit -q --drive d --into one.qcow2
  sound
  is_dirty 'exact 0+4 512+4 1024+4 2048+4 3072+4' low
  is_dirty 'exact 512+128 2048+128 3072+128' mid
  is_dirty 'exact 512+16' top
  is_dirty 'exact 512+64 2048+64 3072+64' cleared
  [[ $(dirty paused) == *' 0+64 1024+64' ]]
  refuses 1 bitmap show --drive d gone : "no bitmap 'gone'"
}

@test "--into: sizes, cluster sizes, raw and foreign layers" {
  truncate -s 1M low
  qemu-io -f raw -c 'write -P 1 512k 100k' low >/dev/null
  ln -s low d
  layer t1 two.qcow2 'write -P 2 128k 4k'
  qemu-img create -q -f qcow2 -o cluster_size=4k -b two.qcow2 -F qcow2 \
    three.qcow2 2M
  write three.qcow2 'write -P 3 1600k 4k'
  ln -sfn three.qcow2 d
  layer t2 four.qcow2 'write -P 4 300k 4k'
  qimg resize -q d 4M
  write d 'write -P 5 3M 4k'
  qemu-img convert -O raw d want.raw
  cp -a . "$copy"
  qimg commit -q --drive d --into low
  qemu-img compare -q -f raw -F raw low want.raw
  [ "$(readlink d)" = low ]
  [ "$(LC_ALL=C find . -type f ! -name '*.raw')" = ./low ]
  rm -rf ./*
  cp -a "$copy/." .
  # What a raw base cannot hold is seen first.
  qimg bitmap add -q --drive d b
  refuses 6 commit --drive d --into low : "'low'" convert
  qimg commit -q --drive d --into two.qcow2
  sound
  is_dirty exact
  # A layer between that is larger would have to shrink.
  layer t3 five.qcow2
  layer t4 six.qcow2
  qimg resize -q --shrink d 2M
  refuses 6 commit --drive d --into two.qcow2 : 'shrink' resize
}

@test "--into: killed writers" {
  local image
  for image in two three; do
    mklayers link
    hold_image $image.qcow2
    crash_holder
    qimg commit -q --drive d --into one.qcow2
    qemu-img compare -q -F raw d want.raw
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    rm -rf ./*
  done
  mklayers link
  hold_image one.qcow2
  crash_holder
  qimg commit -q --drive d --into one.qcow2
  qemu-img compare -q -F raw d want.raw
  [[ $(dirty) == *' 0+4096' ]]
}

@test "--into: node bitmaps, siblings and clones of any layer" {
  local image
  mklayers link
  for image in two three; do
    qimg bitmap add -q --node $image.qcow2 mine
    refuses 6 commit --drive d --into one.qcow2 : "'mine'" \
      "qimg bitmap remove --node $image.qcow2 mine"
    qimg bitmap remove -q --node $image.qcow2 mine
  done
  for image in one two three; do
    qemu-img create -q -f qcow2 -b $image.qcow2 -F qcow2 child.qcow2
    refuses 6 commit --drive d --into one.qcow2 : child.qcow2
    rm child.qcow2
  done
  hold_image two.qcow2
  refuses 5 commit --drive d --into one.qcow2 : "$HOLD_PID" qemu-io
  release_image
  # On the layer that stays it records what is written, and stays there.
  qimg bitmap add -q --node one.qcow2 mine
  cp -a . "$copy"
  qimg commit -q --drive d --into one.qcow2
  run_qimg bitmap show --node one.qcow2 mine --output json
  json '[.extents[].length] | add == 196608'
  rm -rf ./*
  cp -a "$copy/." .
  qimg clone -q --drive d --at t2 copy.qcow2
  refuses 6 commit --drive d --into one.qcow2 : two.qcow2
}

@test "--into: foreign layers go, too, when the run before was ended" {
  local n
  for n in 1 2 3; do
    mklayers link
    qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 four.qcow2
    ln -sfn four.qcow2 d
    layer t3 five.qcow2 'write -P 7 0 64k'
    qemu-img convert -O raw d want.raw
    QIMG_FAULT=unlink:$n:kill run "$QIMG" commit -q --drive d --into one.qcow2
    fault_fired
    qimg commit -q --drive d --into one.qcow2
    have one.qcow2
    sound
    [ "$(find . -name '*.qcow2')" = ./one.qcow2 ]
    rm -rf ./*
  done
}

@test "--into: a file that cannot be removed: the same command finishes" {
  local n
  mklayers link
  cp -a . "$copy"
  for n in 1 2; do
    QIMG_FAULT=unlink:$n:EIO run "$QIMG" commit -q --drive d --into one.qcow2
    fault_fired
    [ "$status" = 1 ] || [ "$status" = 3 ]
    sound
    qimg commit -q --drive d --into one.qcow2
    have one.qcow2
    [ "$(find . -name '*.qcow2')" = ./one.qcow2 ]
    rm -rf ./*
    cp -a "$copy/." .
  done
}
