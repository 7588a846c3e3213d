#!/usr/bin/env bats
# qimg dd: parts of disks.

load ../helpers
load common

@test "a part of an image, as qemu-img takes it" {
  local range
  mkpattern a.raw 2M 1
  qemu-img convert -O qcow2 -c a.raw a.qcow2
  for range in "" "count=3" "bs=1000 skip=1 count=7" "bs=64k skip=3" \
    "bs=1M skip=2" "bs=3k count=999999"; do
    # shellcheck disable=SC2086 # they are words
    "$QIMG" dd $range if=a.qcow2 of=x.raw
    # shellcheck disable=SC2086
    qemu-img dd $range if=a.qcow2 of=y.raw
    cmp x.raw y.raw
    rm x.raw
  done
  "$QIMG" dd -O qcow2 -o cluster_size=4k bs=4k skip=1 --output json \
    if=a.raw of=x.qcow2 >out
  jq -e '.offset == 4096 and .length == 2093056' out
  qemu-img dd -O qcow2 bs=4k skip=1 if=a.raw of=y.qcow2
  qemu-img compare x.qcow2 y.qcow2
  qemu-img check -q x.qcow2
}

@test "what it refuses" {
  mkpattern a.raw 1M 1
  expect_code 1 "$QIMG" dd if=a.raw
  expect_code 1 "$QIMG" dd if=a.raw of=x bs=0
  [[ $stderr = *"bs is from 1 to 2147483647"* ]]
  expect_code 1 "$QIMG" dd if=a.raw of=x seek=1
  [[ $stderr = *"'seek=1' is none of"* ]]
  expect_code 1 "$QIMG" dd if=a.raw of=x bs=1M skip=2
  [[ $stderr = *"skip= goes past the end of 'a.raw'"* ]]
  [ ! -e x ]
  # A file that is there stays, unless told otherwise.
  echo precious >x
  expect_code 1 "$QIMG" dd if=a.raw of=x
  [ "$(cat x)" = precious ]
  "$QIMG" dd --force if=a.raw of=x
  cmp a.raw x
  # Also if it is the source.
  expect_code 1 "$QIMG" dd --force count=1 if=a.raw of=a.raw
  cmp a.raw x
}
