#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own $DEVICE
# qcow2: images on block devices, which have a size of their own.

load ../helpers
load common

setup() {
  [ "$(id -u)" = 0 ] || skip "only root can make loop devices"
  truncate -s 32M below
  DEVICE=$(losetup -f --show below 2>/dev/null) ||
    skip "there are no loop devices"
}

teardown() {
  if [ -n "${DEVICE-}" ]; then losetup -d "$DEVICE"; fi
}

@test "what QEMU wrote is read: info, map, check, content" {
  qemu-img create -q -f qcow2 "$DEVICE" 16M
  scribble "$DEVICE"
  diff <(qimg info "$DEVICE") \
    <(qemu-img info "$DEVICE" | sed '/^Child node/,/^$/d')
  same "$DEVICE"
  # The end of the image is not that of the device.
  expect_code 0 qimg check --output json "$DEVICE"
  [ "$(jq '."image-end-offset"' <<<"$output")" -lt $((8 << 20)) ]
  qemu-img create -q -f qcow2 -b "$DEVICE" -F qcow2 top.qcow2
  same top.qcow2
  qemu-img create -q -u -f qcow2 -b "host_device:$DEVICE" -F raw top.qcow2 4M
  same top.qcow2
}

@test "what is written in place is what QEMU reads" {
  qemu-img create -q -f qcow2 "$DEVICE" 16M
  scribble "$DEVICE"
  expect_code 0 qimg convert -q -O raw "$DEVICE" before.raw
  expect_code 0 qimg bitmap add --node "$DEVICE" b
  expect_code 0 qimg snapshot -c one "$DEVICE"
  oracle_check "$DEVICE"
  qemu-io -f qcow2 -c 'write -P 9 0 3M' "$DEVICE" >/dev/null
  expect_code 0 qimg snapshot -a one "$DEVICE"
  expect_code 0 qimg snapshot -d one "$DEVICE"
  oracle_check "$DEVICE"
  oracle_equal "$DEVICE" before.raw
  qemu-img create -q -f qcow2 -b "$DEVICE" -F qcow2 top.qcow2 17M
  qemu-io -f qcow2 -c 'write -P 7 1M 2M' -c 'write -P 8 16M 64k' top.qcow2 \
    >/dev/null
  cp top.qcow2 same.qcow2
  qimg convert -q -O raw top.qcow2 after.raw
  ln -s top.qcow2 drive
  expect_code 0 qimg commit --drive drive
  oracle_check "$DEVICE"
  oracle_equal "$DEVICE" after.raw
}

@test "a device that is full: no space, and no damage" {
  losetup -d "$DEVICE"
  DEVICE=
  truncate -s 1M below
  DEVICE=$(losetup -f --show below)
  qemu-img create -q -f qcow2 "$DEVICE" 2M
  qemu-io -f qcow2 -c 'write -P 1 0 704k' "$DEVICE" >/dev/null
  expect_code 7 qimg bitmap add --node "$DEVICE" b
  [[ $stderr == *"fills the device"* ]]
  expect_code 1 qimg snapshot -c one "$DEVICE"
  qemu-img create -q -f qcow2 -b "$DEVICE" -F qcow2 top.qcow2
  qemu-io -f qcow2 -c 'write -P 7 0 1M' top.qcow2 >/dev/null
  ln -s top.qcow2 drive
  expect_code 7 qimg commit --drive drive
  same_check "$DEVICE"
  oracle_check "$DEVICE"
  qemu-io -f qcow2 -r -c 'read -P 7 0 1M' top.qcow2 >read.log
  run ! grep -i fail read.log
}

@test "a device in use is refused, as QEMU refuses it" {
  qemu-img create -q -f qcow2 "$DEVICE" 16M
  hold_image "$DEVICE"
  expect_code 1 qimg map "$DEVICE"
  [[ $stderr == *"'$DEVICE' is in use: process $HOLD_PID (qemu-io)"* ]]
  expect_code 5 qimg bitmap add --node "$DEVICE" b
  expect_code 0 qimg info "$DEVICE"
  expect_code 0 qimg map -U "$DEVICE"
  release_image
}

@test "a raw device" {
  mkpattern a.raw 32M 5
  dd if=a.raw of="$DEVICE" bs=1M status=none conv=fsync
  diff <(qimg info -f raw "$DEVICE") \
    <(qemu-img info -f raw "$DEVICE" | sed '/^Child node/,/^$/d')
  same_map "$DEVICE" raw
  expect_code 0 qimg convert -q -f raw -O qcow2 "$DEVICE" a.qcow2
  oracle_equal a.raw a.qcow2
}
