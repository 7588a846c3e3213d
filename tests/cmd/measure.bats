#!/usr/bin/env bats
# qimg measure: the numbers of qemu-img.

load ../helpers
load common

# same ARG...: text and JSON are qemu-img's.
same() {
  diff <(qemu-img measure "$@") <("$QIMG" measure "$@")
  diff <(qemu-img measure --output json "$@" | jq -S .) \
    <("$QIMG" measure --output json "$@" | jq -S .)
}

@test "empty disks and images" {
  same --size 10G
  same -O qcow2 --size 10G
  same -O qcow2 -o cluster_size=4k,extended_l2=off --size 1T
  mkpattern a.raw 3M 1
  same -O qcow2 a.raw
  qemu-img convert -O qcow2 -c a.raw a.qcow2
  qemu-img bitmap --add a.qcow2 b
  qemu-img snapshot -c s a.qcow2
  same -O qcow2 -o cluster_size=2M a.qcow2
  same -O qcow2 -l s a.qcow2
  same a.qcow2
}

@test "what it refuses" {
  expect_code 1 "$QIMG" measure
  [[ $stderr = *"give an image, or --size"* ]]
  mkpattern a.raw 1M 1
  expect_code 1 "$QIMG" measure --size 1M a.raw
  expect_code 1 "$QIMG" measure -O qcow2 -o cluster_size=3 a.raw
  expect_code 1 "$QIMG" measure -O nothing a.raw
  [[ $stderr = *"unknown format 'nothing'"* ]]
  expect_code 0 "$QIMG" measure -O qcow2 -o help
  [[ $output = *"cluster_size=<size>"* ]]
}
