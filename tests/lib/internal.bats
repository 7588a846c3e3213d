#!/usr/bin/env bats
# Internal snapshots in layers of a drive: what would delete one, or change
# what it reads, is refused, and says how to remove it.

load ../helpers
load ../cmd/common
load ../cmd/layers

# in_the_way IMAGE COMMAND...: i, in IMAGE, stands in its way.
in_the_way() {
  local image=$1
  shift
  refuses 6 "$@" : "'$image' has the internal snapshot 'i'" \
    "'qimg snapshot -d i $image'"
}

# stays: i of three.qcow2 reads as when it was made.
stays() {
  qemu-img convert -l i -O raw three.qcow2 inner.raw
  cmp inner.raw want.raw
}

@test "in the head: revert, commit, delete, stream" {
  mklayers link
  qemu-img snapshot -c i three.qcow2
  for command in "snapshot revert --drive d t2" "snapshot revert --drive d t1" \
    "commit --drive d" "commit --drive d --into one.qcow2" \
    "snapshot delete --drive d t2" "stream --drive d" \
    "stream --drive d --base one.qcow2"; do
    # shellcheck disable=SC2086 # they are words
    in_the_way three.qcow2 $command
    # shellcheck disable=SC2086
    in_the_way three.qcow2 $command --dry-run
  done
  # Data that the head gets is none of theirs, nor what layers below become.
  qimg stream -q --drive d --offset 0 --length 1M
  qimg stream -q --drive d --base two.qcow2
  qimg snapshot delete -q --drive d t1
  stays
  # As the messages say.
  qimg snapshot -d i three.qcow2
  qimg commit -q --drive d
  sound
}

@test "in a layer below: it goes the other way, or not at all" {
  mklayers link
  qemu-img snapshot -c i two.qcow2
  # Up would remove the file that has it.
  expect_code 0 qimg snapshot delete --drive d t2
  [ -e two.qcow2 ]
  [ ! -e three.qcow2 ]
  sound
  qemu-img convert -l i -O raw two.qcow2 inner.raw
  cmp inner.raw t2.raw
  in_the_way two.qcow2 commit --drive d
}

@test "in the lowest layer: it may get data" {
  mklayers link
  qemu-img snapshot -c i one.qcow2
  qimg commit -q --drive d --into one.qcow2
  qemu-img convert -l i -O raw one.qcow2 inner.raw
  cmp inner.raw t1.raw
  sound
}

@test "rebase warns, as it does what qemu-img does" {
  mklayers link
  qemu-img snapshot -c i three.qcow2
  expect_code 0 qimg rebase -b one.qcow2 -F qcow2 three.qcow2
  [[ $stderr == *warning*"internal snapshot 'i'"* ]]
  sound
  expect_code 0 qimg rebase -b one.qcow2 -F qcow2 three.qcow2
  [ -z "$stderr" ]
}
