#!/usr/bin/env bats
# qimg bench: requests that are sent, and what they leave.

load ../helpers
load common

@test "reads, and how fast they were" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  expect_code 0 "$QIMG" bench -c 10 -d 3 a.qcow2
  [[ $output =~ ^'10 reads of 4 KiB, 3 at once: '[0-9.]+' s, ' ]]
  "$QIMG" bench -c 10 -s 8k --output json a.qcow2 >out
  jq -e '.requests == 10 and .bytes == 81920 and .seconds > 0 and
    ."bytes-per-second" / ."requests-per-second" > 8191' out
}

# The part is written that qemu-img would write, too, twice where it starts
# again at the beginning.
@test "writes" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  cp a.qcow2 b.qcow2
  set -- bench -w -c 20 -d 1 -s 32k -S 96k -o 64k --pattern 7 \
    --flush-interval 4
  "$QIMG" "$@" a.qcow2
  qemu-img "$@" b.qcow2
  qemu-img compare a.qcow2 b.qcow2
  qemu-io -c 'read -P 7 64k 32k' a.qcow2 | grep -q 'read 32768'
  qemu-img check -q a.qcow2
}

@test "what it refuses" {
  qemu-img create -q a.raw 1M
  expect_code 1 "$QIMG" bench --pattern 256 a.raw
  expect_code 1 "$QIMG" bench -t sometimes a.raw
  [[ $stderr = *"'sometimes' is no cache mode"* ]]
  expect_code 1 "$QIMG" bench --flush-interval 64 a.raw
  expect_code 1 "$QIMG" bench -w --flush-interval 1 a.raw
  expect_code 1 "$QIMG" bench -w -U a.raw
  expect_code 1 "$QIMG" bench -c 1 -s 2M a.raw
}
