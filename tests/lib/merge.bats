#!/usr/bin/env bats
# What a merge into a layer below finds out before it writes, and what it
# leaves when it is ended.

load ../helpers
load ../cmd/common

# The tag of the lower layer and the bitmaps of the head, each alone, fit.
@test "a record that has no room for what comes down: nothing is written" {
  local i tag
  tag=$(printf 'x%.0s' {1..150})
  qimg create -q -f qcow2 a.qcow2 4M
  ln -s a.qcow2 vm
  qimg snapshot create -q --drive vm "$tag"
  qimg snapshot create -q --drive vm s
  qemu-io -f qcow2 -c 'write -P 2 0 64k' vm
  for ((i = 10; i < 56; i++)); do
    qimg bitmap add -q --drive vm b$i
  done
  refuses 1 commit -n --drive vm : "is full"
  refuses 1 commit --drive vm : "is full"
}
