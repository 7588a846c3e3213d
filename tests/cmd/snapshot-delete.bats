#!/usr/bin/env bats
# qimg snapshot delete: a layer becomes one with the layer above it.

load ../helpers
load common
load layers

@test "delete in the middle, down: the upper layer goes into the lower one" {
  local kind
  for kind in link plain; do
    mklayers $kind
    as_planned snapshot delete --drive d t1
    json '.bytes == 131072 and (.merged | test("two|d@t2"))'
    sound
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    if [ $kind = link ]; then
      have 'three.qcow2 one.qcow2=t2'
      json '.head == "three.qcow2" and .merged == "two.qcow2"'
    else
      have 'd d@t1.qcow2=t2'
    fi
    qemu-img compare -q -F raw "$(find . -name 'one.*' -o -name 'd@t1.*')" \
      t2.raw
    [ ! -e two.qcow2 ] && [ ! -e d@t2.qcow2 ]
    rm -rf ./*
  done
}

@test "delete in the middle, up: the lower layer goes into the upper one" {
  qemu-img create -q -f qcow2 one.qcow2 4M
  ln -s one.qcow2 d
  qimg bitmap add -q --drive d b
  write d 'write -P 1 1M 64k'
  layer t1 two.qcow2 'write -P 2 0 1M'
  layer t2 three.qcow2 'write -P 3 2M 64k'
  qemu-img convert -O raw d want.raw
  as_planned snapshot delete --drive d t1
  json '.bytes == 65536 and .merged == "one.qcow2" and .head == "three.qcow2"'
  [ ! -e one.qcow2 ]
  have 'three.qcow2 two.qcow2=t2'
  sound
  qemu-img compare -q -F raw two.qcow2 t2.raw
  is_dirty 'exact 0+1088 2048+64'
}

@test "delete the latest, down: the head is committed" {
  mklayers link
  as_planned snapshot delete --drive d t2
  json '.head == "two.qcow2" and .merged == "three.qcow2" and .bytes == 65536'
  [ "$(readlink d)" = two.qcow2 ]
  have 'two.qcow2 one.qcow2=t1'
  sound
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
  rm -rf ./*
  mklayers plain
  as_planned snapshot delete --drive d t2
  json '.head == "d"'
  have 'd d@t1.qcow2=t1'
  sound
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
}

@test "delete the latest, up: the head stays, the layer below it goes" {
  local kind
  for kind in link plain; do
    mklayers $kind
    write d 'write -P 5 256k 512k'
    qemu-img convert -O raw d want.raw
    as_planned snapshot delete --drive d t2
    sound
    is_dirty 'exact 64+64 256+512 1024+64 2048+64 3072+64'
    if [ $kind = link ]; then
      have 'three.qcow2 one.qcow2=t1'
    else
      have 'd d@t1.qcow2=t1'
    fi
    rm -rf ./*
  done
}

@test "delete all, one by one, in both orders" {
  local order
  for order in 't1 t2 t3' 't3 t2 t1'; do
    mklayers link
    layer t3 four.qcow2 'write -P 6 128k 64k'
    qemu-img convert -O raw d want.raw
    for tag in $order; do
      qimg snapshot delete -q --drive d "$tag"
      sound
      is_dirty 'exact 64+128 1024+64 2048+64 3072+64'
    done
    [ "$(find . -name '*.qcow2' | wc -l)" = 1 ]
    rm -rf ./*
  done
}

@test "delete: run twice" {
  local before
  mklayers link
  qimg snapshot delete -q --drive d t1
  before=$(state)
  refuses 1 snapshot delete --drive d t1 : "no snapshot 't1'"
  [ "$before" = "$(state)" ]
}

@test "delete: bitmaps that start in each layer, of several granularities" {
  local tag
  for tag in t1 t2; do
    qemu-img create -q -f qcow2 one.qcow2 4M
    ln -s one.qcow2 d
    qimg bitmap add -q --drive d -g 4k low
    write d 'write -P 1 1M 4k'
    layer t1 two.qcow2 'write -P 2 0 4k'
    qimg bitmap add -q --drive d -g 128k mid
    write d 'write -P 2 2M 4k'
    layer t2 three.qcow2 'write -P 3 3M 4k'
    qimg bitmap add -q --drive d -g 16k top
    write d 'write -P 3 512k 4k'
    qemu-img convert -O raw d want.raw
    qimg snapshot delete -q --drive d $tag
    sound
    is_dirty 'exact 0+4 512+4 1024+4 2048+4 3072+4' low
    is_dirty 'exact 512+128 2048+128 3072+128' mid
    is_dirty 'exact 512+16' top
    rm -rf ./*
  done
}

@test "delete: cleared, removed, added again and paused bitmaps" {
  local tag
  for tag in t1 t2; do
    mklayers link
    layer t3 four.qcow2 'write -P 5 128k 64k'
    qimg bitmap clear -q --drive d b
    write d 'write -P 6 0 64k'
    qimg snapshot delete -q --drive d $tag
    is_dirty 'exact 0+64'
    rm -rf ./*

    mklayers link
    qimg bitmap remove -q --drive d b
    qimg snapshot delete -q --drive d $tag
    refuses 1 bitmap show --drive d b : "no bitmap 'b'"
    qimg bitmap add -q --drive d b
    is_dirty exact
    rm -rf ./*

    mklayers link
    qimg bitmap disable -q --drive d b
    write d 'write -P 6 0 64k'
    qimg snapshot delete -q --drive d $tag
    run dirty
    [[ $output == *' 64+64 1024+64 2048+64 3072+64' ]]
    [ "$(qimg bitmap list --drive d --output json |
      jq -r '.bitmaps[0].state')" = paused ]
    rm -rf ./*
  done
}

@test "delete: a bitmap that was removed in the layer that goes" {
  mklayers link
  qimg bitmap remove -q --drive d b
  layer t3 four.qcow2
  qimg snapshot delete -q --drive d t2
  refuses 1 bitmap show --drive d b : "no bitmap 'b'"
  qimg snapshot delete -q --drive d t1
  refuses 1 bitmap show --drive d b : "no bitmap 'b'"
  qimg snapshot delete -q --drive d t3
  refuses 1 bitmap show --drive d b : "no bitmap 'b'"
}

@test "delete: other cluster sizes, disk sizes in both orders" {
  local sizes tag size n
  for sizes in '1M 4M 2M' '4M 1M 2M' '4M 2M 1M' '1M 2M 4M' '2M 4M 4M'; do
    for tag in t1 t2; do
      n=0
      for size in $sizes; do
        case $((n++)) in
        0)
          qemu-img create -q -f qcow2 -o cluster_size=4k one.qcow2 "$size"
          ln -s one.qcow2 d
          write d 'write -P 1 512k 100k'
          qimg bitmap add -q --drive d b
          write d 'write -P 2 64k 4k'
          ;;
        1)
          qemu-img create -q -f qcow2 -o cluster_size=2M -b one.qcow2 \
            -F qcow2 two.qcow2
          ln -sfn two.qcow2 d
          qimg bitmap disable -q --drive d b
          qimg bitmap enable -q --drive d b
          qimg resize -q --shrink d "$size"
          write d 'write -P 3 900k 4k'
          ;;
        2)
          layer t2 three.qcow2
          qimg resize -q --shrink d "$size"
          write d 'write -P 4 300k 4k'
          ;;
        esac
      done
      qemu-img convert -O raw d want.raw
      # The overlay by hand has no tag; it was made on what t1 would hold.
      [ $tag = t2 ] || tag=t2
      qimg snapshot delete -q --drive d "$tag"
      sound
      run dirty
      [[ $output != full* ]]
      rm -rf ./*
    done
  done
}

@test "delete: a foreign layer in the middle, and one as the head" {
  mklayers link
  qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 four.qcow2
  write four.qcow2 'write -P 6 256k 64k'
  ln -sfn four.qcow2 d
  layer t3 five.qcow2 'write -P 7 512k 64k'
  qemu-img convert -O raw d want.raw
  cp -a . "$copy"
  for tag in t1 t2 t3; do
    rm -rf ./*
    cp -a "$copy/." .
    qimg snapshot delete -q --drive d $tag
    sound
    [[ $(dirty) == *' 64+64 256+64 512+64 1024+64 2048+64 3072+64' ]]
  done
  rm -rf ./* "$copy"
  mklayers link
  qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 four.qcow2
  write four.qcow2 'write -P 6 256k 64k'
  ln -sfn four.qcow2 d
  qemu-img convert -O raw d want.raw
  expect_code 0 qimg snapshot delete -q --drive d t2
  [[ $stderr == *'another tool'* ]]
  sound
  [[ $(dirty) == *' 64+64 256+64 1024+64 2048+64 3072+64' ]]
}

@test "delete: killed writers, segments that are in use" {
  local image tag
  for image in one two three; do
    for tag in t1 t2; do
      mklayers link
      # Whoever writes to a lower layer: what reads otherwise is not known.
      [ $image = three ] || qemu-io -c 'write -P 3 3M 4k' -f qcow2 \
        $image.qcow2 >/dev/null
      hold_image $image.qcow2
      crash_holder
      qemu-img convert -O raw d want.raw
      qimg snapshot delete -q --drive d $tag
      qemu-img compare -q -F raw d want.raw
      # At least what is known to differ.
      run dirty
      case $image in
      one) [ "$output" = 'full 0+4096' ] || [ "$output" = 'exact 0+4096' ] ;;
      *) [[ $output == *' 64+64 1024+64 2048+64 3072+64' ]] ;;
      esac
      rm -rf ./*
    done
  done
}

@test "delete: raw and v2 layers below" {
  local kind tag
  for kind in raw v2; do
    for tag in t1 t2; do
      if [ $kind = raw ]; then
        truncate -s 4M low
        qemu-io -f raw -c 'write -P 1 0 1M' low >/dev/null
      else
        qemu-img create -q -f qcow2 -o compat=0.10 low 4M
        write low 'write -P 1 0 1M'
      fi
      ln -s low d
      layer t1 two.qcow2 'write -P 3 3M 64k'
      qimg bitmap add -q --drive d b
      write d 'write -P 3 128k 64k'
      layer t2 three.qcow2 'write -P 4 2M 64k'
      qemu-img convert -O raw d want.raw
      qimg snapshot delete -q --drive d $tag
      qemu-img compare -q -F raw d want.raw
      is_dirty 'exact 128+64 2048+64'
      rm -rf ./*
    done
  done
}

@test "delete: node bitmaps are refused or stay where they are" {
  mklayers link
  qimg bitmap add -q --node two.qcow2 mine
  # It goes the other way, where that keeps the node.
  qimg snapshot delete -q --drive d t1
  have 'three.qcow2 two.qcow2=t2'
  sound
  run_qimg bitmap show --node two.qcow2 mine --output json
  json '.bitmap == "mine" or .name == "mine"'
  qimg bitmap add -q --node three.qcow2 mine
  refuses 6 snapshot delete --drive d t2 : "'mine'" 'bitmap remove --node'
}

@test "delete: siblings and clones" {
  mklayers link
  qemu-img create -q -f qcow2 -b two.qcow2 -F qcow2 child.qcow2
  refuses 6 snapshot delete --drive d t2 : child.qcow2
  # Where both may be done, less is copied down; but that would remove two.
  expect_code 0 qimg snapshot delete --drive d t1
  says 'one now' "'three.qcow2'"
  qemu-img compare -q -F raw child.qcow2 t2.raw
  sound
  rm -rf ./*
  mklayers link
  qimg clone -q --drive d --at t1 copy.qcow2
  refuses 6 snapshot delete --drive d t1 : one.qcow2
  # Above that all can be done.
  qimg snapshot delete -q --drive d t2
  sound
  qemu-img compare -q -F raw copy.qcow2 t1.raw
}

@test "delete: names with spaces, colons, other letters" {
  local dir='a folder: ä'
  mkdir "$dir"
  qemu-img create -q -f qcow2 "./$dir/öne: 1.qcow2" 1M
  ln -s "$dir/öne: 1.qcow2" 'my drive'
  qimg bitmap add -q --drive 'my drive' 'b 1:ü'
  write 'my drive' 'write -P 1 0 64k'
  qimg snapshot create -q --drive 'my drive' --overlay 'nfs:2 .qcow2' 'tag: é'
  write 'my drive' 'write -P 2 64k 64k'
  qimg snapshot create -q --drive 'my drive' --overlay "$dir/x:3" 't 2'
  write 'my drive' 'write -P 3 128k 64k'
  qemu-img convert -O raw 'my drive' want.raw
  cp -a . "$copy"
  qimg snapshot delete -q --drive 'my drive' 'tag: é'
  oracle_equal "$(realpath 'my drive')" want.raw
  qimg snapshot delete -q --drive 'my drive' 't 2'
  oracle_equal "$(realpath 'my drive')" want.raw
  run_qimg bitmap show --drive 'my drive' 'b 1:ü' --output json
  json '.status == "exact" and [.extents[] | .length] == [196608]'
  cp -a "$copy/." .
  ln -sfn "$dir/x:3" 'my drive'
  qimg snapshot revert -q --drive 'my drive' 'tag: é' 2>/dev/null
  run_qimg snapshot list --drive 'my drive' --output json
  json '[.layers[].snapshot] == [null, "tag: é"]'
}

@test "delete: layers in several folders" {
  mkdir low mid links
  qemu-img create -q -f qcow2 low/one.qcow2 4M
  ln -s ../low/one.qcow2 links/d
  ln -s links/d d
  qimg bitmap add -q --drive d b
  write d 'write -P 1 0 64k'
  qimg snapshot create -q --drive links/d --overlay mid/two.qcow2 t1
  write d 'write -P 2 64k 64k'
  qimg snapshot create -q --drive links/d --overlay three.qcow2 t2
  write d 'write -P 3 128k 64k'
  qemu-img convert -O raw d want.raw
  cp -a . "$copy"
  qimg snapshot delete -q --drive d t1
  sound
  is_dirty 'exact 0+192'
  qimg snapshot delete -q --drive links/d t2
  sound
  is_dirty 'exact 0+192'
}

@test "delete: what is refused" {
  mklayers link
  refuses 1 snapshot delete --drive d nope : "'nope'" 'snapshot list'
  refuses 1 snapshot delete --drive d '' : "no snapshot ''"
  refuses 2 snapshot delete --drive d
  refuses 2 snapshot delete t1 : --drive
  hold_image two.qcow2
  refuses 5 snapshot delete --drive d t1 : "$HOLD_PID" qemu-io
  refuses 5 snapshot delete --drive d t2 : "$HOLD_PID" qemu-io
  release_image
  hold_daemon three.qcow2
  refuses 5 snapshot delete --drive d t1 : "$HOLD_PID" qemu-storage
  release_daemon
  qimg snapshot delete -q --drive d t1
}

@test "delete: no space at any write" {
  local n code
  mklayers link
  cp -a . "$copy"
  for ((n = 1; n < 40; n++)); do
    rm -rf ./*
    cp -a "$copy/." .
    code=0
    QIMG_FAULT=write:$n:ENOSPC "$QIMG" snapshot delete -q --drive d t1 2>err ||
      code=$?
    fault_fired || break
    qemu-img compare -q -F raw d want.raw
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    # What it could do without.
    [ $code != 0 ] || continue
    [ $code = 7 ] || [ $code = 3 ]
    qimg snapshot delete -q --drive d t1 || [ $code = 3 ]
    have 'three.qcow2 one.qcow2=t2'
    qemu-img compare -q -F raw d want.raw
  done
  [ "$n" -gt 3 ]
  [ "$n" -lt 40 ]
}
