#!/usr/bin/env bats
# qimg snapshot list and revert: the layers of a drive, and its bitmaps.

load ../helpers
load common
load layers

# ------------------------------------------------------------------- list

@test "list: layers, topmost first, with tags, sizes and states" {
  mklayers link
  have 'three.qcow2 two.qcow2=t2 one.qcow2=t1'
  run_qimg snapshot list --drive d --output json
  json '.qimg and .drive == "d" and (.layers | length == 3)'
  json 'all(.layers[]; ."virtual-size" == 4194304 and ."actual-size" > 0 and
    .format == "qcow2" and .shared == false and .foreign == false)'
  json '[.layers[] | [.head, .frozen]] ==
    [[true, false], [false, true], [false, true]]'
  expect_code 0 qimg snapshot list --drive d
  says SNAPSHOT 'three.qcow2' 'head' 'frozen'
  [ "$(wc -l <<<"$output")" = 4 ]
}

@test "list: foreign, shared, raw, and those of another drive" {
  truncate -s 1M disk.raw
  ln -s disk.raw d
  qimg snapshot create -q --drive d --overlay two.qcow2 t1
  qimg clone -q --drive d --tag t2 copy.qcow2
  qemu-img create -q -f qcow2 -b two.qcow2 -F qcow2 three.qcow2
  ln -sfn three.qcow2 d
  run_qimg snapshot list --drive d --output json
  json '[.layers[] | [.foreign, .shared, .format]] ==
    [[true, false, "qcow2"], [false, true, "qcow2"], [true, false, "raw"]]'
  ln -sfn copy.qcow2 d
  qimg snapshot create -q --drive d --overlay c2.qcow2 own
  run_qimg snapshot list --drive d
  says own 'head'
}

@test "list: while another process has the image, and only with a drive" {
  mklayers link
  hold_image three.qcow2
  expect_code 0 qimg snapshot list --drive d
  expect_code 0 qimg snapshot list -U --drive d
  release_image
  refuses 2 snapshot list : --drive
  refuses 2 snapshot list --drive d x
  refuses 1 snapshot list --drive gone : "'gone'"
}

# ----------------------------------------------------------------- revert

@test "revert to the latest snapshot: content, dirty set, names" {
  local kind
  for kind in link plain; do
    mklayers $kind
    as_planned snapshot revert --drive d t2
    json '.bytes == null and .head and .snapshot'
    sound t2.raw
    is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
    # The head is fresh, and records what is written.
    write d 'write -P 7 128k 64k'
    is_dirty 'exact 64+128 1024+64 2048+64 3072+64'
    if [ $kind = link ]; then
      have 'three.qcow2 two.qcow2=t2 one.qcow2=t1'
    else
      have 'd d@t2.qcow2=t2 d@t1.qcow2=t1'
    fi
    rm -rf ./*
  done
}

@test "revert to an earlier snapshot leaves the layers between on disk" {
  mklayers link
  expect_code 0 qimg snapshot revert --drive d t1
  [[ $stderr == *"'two.qcow2' is left"* ]]
  sound t1.raw
  have 'three.qcow2 one.qcow2=t1'
  # What reads otherwise than at the start, and what the revert changed.
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
  [ -e two.qcow2 ]
  # As long as it is there, nothing is merged into what it rests on.
  refuses 6 commit --drive d : "'two.qcow2'"
  refuses 6 snapshot delete --drive d t1 : "'two.qcow2'"
  rm two.qcow2
  qimg snapshot delete -q --drive d t1
  sound t1.raw
}

@test "revert: run twice, and again after a change" {
  local before
  mklayers link
  qimg snapshot revert -q --drive d t2
  before=$(state)
  expect_code 0 qimg snapshot revert -q --drive d t2
  [ -z "$output$stderr" ]
  [ "$before" = "$(state)" ]
  write d 'write -P 7 128k 64k'
  qimg snapshot revert -q --drive d t2
  sound t2.raw
}

@test "revert: a bitmap that starts in the head, and one that starts between" {
  mklayers link
  qimg bitmap add -q --drive d -g 4k fresh
  write d 'write -P 8 512k 4k'
  qimg snapshot revert -q --drive d t1
  # All that the lost layers hide reads as before its start.
  is_dirty 'exact 64+64 512+64 2048+64 3072+64' fresh
  rm -rf ./*
  mklayers link
  qimg bitmap clear -q --drive d b
  layer t3 four.qcow2 'write -P 5 0 64k'
  qimg snapshot revert -q --drive d t3
  sound t3.raw
  is_dirty 'exact 0+64'
  qimg snapshot revert -q --drive d t1 2>/dev/null
  is_dirty 'exact 0+128 2048+64 3072+64'
}

@test "revert: removed bitmaps stay removed, paused ones paused" {
  mklayers link
  qimg bitmap add -q --drive d p
  qimg bitmap disable -q --drive d p
  qimg bitmap remove -q --drive d b
  qimg snapshot revert -q --drive d t2
  refuses 1 bitmap show --drive d b : "no bitmap 'b'"
  run_qimg bitmap list --drive d --output json
  json '.bitmaps | length == 1 and .[0].name == "p" and .[0].state == "paused"'
}

@test "revert: the disk gets its old size again" {
  mklayers link
  qimg resize -q d 8M
  write d 'write -P 8 6M 64k'
  qimg snapshot revert -q --drive d t2
  sound t2.raw
  is_dirty 'exact 64+64 1024+64 2048+64 3072+64'
  qimg resize -q --shrink d 1M
  qimg snapshot revert -q --drive d t2
  sound t2.raw
  is_dirty 'exact 64+64 1024+3072'
}

@test "revert: in-use segments, a head of another tool" {
  mklayers link
  hold_image three.qcow2
  crash_holder
  expect_code 0 qimg snapshot revert -q --drive d t2
  sound t2.raw
  run dirty
  [[ $output == *' 64+64 1024+64 2048+64 3072+64' ]]
  qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 four.qcow2
  write four.qcow2 'write -P 9 512k 64k'
  ln -sfn four.qcow2 d
  expect_code 0 qimg snapshot revert -q --drive d t2
  [[ $stderr == *'another tool'* ]]
  sound t2.raw
  have 'four.qcow2 two.qcow2=t2 one.qcow2=t1'
  run dirty
  [[ $output == *'512+64'* ]]
}

@test "revert: what is refused" {
  mklayers link
  refuses 1 snapshot revert --drive d nope : "'nope'" 'snapshot list'
  refuses 1 snapshot revert --drive d '' : "no snapshot ''"
  refuses 2 snapshot revert --drive d
  refuses 2 snapshot revert t1 : --drive
  refuses 2 snapshot revert --drive d t1 t2
  qimg bitmap add -q --node three.qcow2 mine
  refuses 6 snapshot revert --drive d t1 : "'mine'" \
    'qimg bitmap remove --node three.qcow2 mine'
  qimg bitmap remove -q --node three.qcow2 mine
  qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 child.qcow2
  refuses 6 snapshot revert --drive d t1 : child.qcow2
  rm child.qcow2
  hold_image three.qcow2
  refuses 5 snapshot revert --drive d t1 : "$HOLD_PID" qemu-io
  release_image
  hold_daemon three.qcow2
  refuses 5 snapshot revert --drive d t1 : "$HOLD_PID" qemu-storage
  release_daemon
  qimg snapshot revert -q --drive d t2
}

@test "revert: what an ended run of another command has left goes first" {
  mklayers link
  QIMG_FAULT=unlink:1:kill run "$QIMG" snapshot delete -q --drive d t1
  [ -e two.qcow2 ]
  qimg snapshot revert -q --drive d t2
  [ ! -e two.qcow2 ]
  qimg commit -q --drive d
  have one.qcow2
  sound t2.raw
}

@test "revert: the head keeps its mode" {
  mklayers link
  chmod 600 three.qcow2
  chmod 444 two.qcow2
  qimg snapshot revert -q --drive d t2
  [ "$(stat -c %a three.qcow2)" = 600 ]
}

@test "revert: no space" {
  local n before
  mklayers link
  before=$(state)
  for n in 1 2 3 5; do
    QIMG_FAULT=write:$n:ENOSPC expect_code 7 qimg snapshot revert --drive d t1
    complains 'No space left'
    [ "$before" = "$(state)" ]
  done
}

# ------------------------------------------------------------ the promise

@test "a bitmap on a drive survives all that; one on a node is there alone" {
  local f
  mklayers link
  qimg bitmap add -q --node one.qcow2 mine
  qimg bitmap add -q --drive d mydrive
  write d 'write -P 7 512k 64k'
  layer t3 four.qcow2 'write -P 8 768k 64k'
  is_dirty 'exact 512+64 768+64' mydrive
  qimg commit -q --drive d
  is_dirty 'exact 512+64 768+64' mydrive
  is_dirty 'exact 64+64 512+64 768+64 1024+64 2048+64 3072+64'
  qimg snapshot revert -q --drive d t2
  sound t2.raw
  # What it was before 512K and 768K were written; 2M is as before t2.
  is_dirty 'exact 512+64 768+64 2048+64' mydrive
  qimg snapshot delete -q --drive d t2
  is_dirty 'exact 512+64 768+64 2048+64' mydrive
  qimg commit -q --drive d
  have one.qcow2
  sound t2.raw
  is_dirty 'exact 512+64 768+64 2048+64' mydrive
  run_qimg bitmap list --node one.qcow2 --output json
  json '[.bitmaps[] | select(.name == "mine")] | length == 1'
  for f in ./*.qcow2; do
    [ "$f" = ./one.qcow2 ] || refuses 1 bitmap show --node "$f" mine
  done
  refuses 1 bitmap show --drive d mine
}
