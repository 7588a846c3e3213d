#!/usr/bin/env bats
# qimg restore onto block devices, which have a size, and what was there before.

load ../helpers
load common

setup_file() {
  cd "$BATS_FILE_TMPDIR" || return
  mkimage vm.qcow2 4M 31
  qemu-img convert -O raw vm.qcow2 vm.raw
  qimg backup -q --full --drive vm.qcow2 --to repo
}

# A device of 6 MiB on which all is in use, below.
setup() {
  [ "$(id -u)" = 0 ] || skip "only root can make loop devices"
  cp -a "$BATS_FILE_TMPDIR/." .
  head -c 6M /dev/zero | tr '\0' x >below
  attach
}

attach() {
  DEVICE=$(losetup -f --show below 2>/dev/null) ||
    skip "there are no loop devices"
}

detach() {
  losetup -d "$DEVICE"
  DEVICE=
}

teardown() {
  unmount_small
  if [ -n "${DEVICE-}" ]; then detach; fi
}

@test "all of the disk is written, zeroes too; the rest of the device stays" {
  refuses 1 restore --from repo "$DEVICE" : "is a device" --force
  expect_code 0 qimg restore --from repo --force -n "$DEVICE"
  says "would restore" "to '$DEVICE': raw, 4 MiB, 2 MiB past its end left"
  [ "$(tr -d x <below | wc -c)" = 0 ]
  expect_code 0 qimg restore --from repo --force "$DEVICE"
  says "restored drive 'vm'" "2 MiB past its end left as they are"
  cmp -n $((4 << 20)) "$DEVICE" vm.raw
  detach
  cmp -n $((4 << 20)) below vm.raw
  [ "$(tail -c 2M below | tr -d x | wc -c)" = 0 ]
  [ "$(stat -c %s below)" = 6291456 ]
}

@test "--delta: only what differs is written" {
  expect_code 0 qimg restore --from repo --delta -O raw "$DEVICE"
  says "raw, 4 MiB, 4 MiB differed, 2 MiB past its end"
  printf y | dd of="$DEVICE" bs=1 seek=1M conv=notrunc status=none
  expect_code 0 qimg restore --from repo --delta --output json "$DEVICE"
  json '.drives[0] | .differing == 65536 and .written + .zero == 65536 and
    .["past-end"] == 2097152'
  expect_code 0 qimg restore --from repo --delta "$DEVICE"
  says "0 B differed"
  detach
  cmp -n $((4 << 20)) below vm.raw
  [ "$(tail -c 2M below | tr -d x | wc -c)" = 0 ]
}

@test "a disk that does not end where a chunk does" {
  qemu-img create -q -f qcow2 odd.qcow2 1000K
  write odd.qcow2 'write -P 1 900k 100k'
  qimg backup -q --full --drive odd.qcow2 --to odds
  qimg restore -q --from odds --force "$DEVICE"
  expect_code 0 qimg restore --from odds --delta "$DEVICE"
  says "0 B differed"
  printf y | dd of="$DEVICE" bs=1 seek=1023999 conv=notrunc status=none
  expect_code 0 qimg restore --from odds --delta "$DEVICE"
  says "40 KiB differed"
  detach
  cmp -n 1024000 below <(qemu-img dd -f qcow2 -O raw if=odd.qcow2 of=o.raw &&
    cat o.raw)
  [ "$(tail -c +1024001 below | tr -d x | wc -c)" = 0 ]
}

@test "a device that is too small, in use, or mounted" {
  truncate -s 3M small.raw
  detach
  mv small.raw below
  attach
  refuses 7 restore --from repo --force "$DEVICE" : \
    "'$DEVICE' has 3145728 bytes, and drive 'vm' needs 4194304"
  refuses 7 restore --from repo --delta -n "$DEVICE" : 3145728
  refuses 1 restore --from repo --force -O qcow2 "$DEVICE" : "as raw"
  refuses 1 restore --from repo --force -c "$DEVICE" : "for new images"
  detach
  truncate -s 8M below
  attach
  hold_image "$DEVICE" raw
  refuses 5 restore --from repo --force "$DEVICE" : "$HOLD_PID (qemu-io)"
  release_image
  mkfs.ext4 -q "$DEVICE" 8M
  mkdir small
  mount "$DEVICE" small 2>/dev/null || skip "it cannot be mounted"
  refuses 5 restore --from repo --force "$DEVICE" : "it is mounted"
  refuses 5 restore --from repo --delta "$DEVICE" : "it is mounted"
  umount small
  # A device that has an image, or looks like one.
  qemu-img create -q -f qcow2 "$DEVICE" 4M
  refuses 1 restore --from repo --delta "$DEVICE" : "looks like qcow2"
  qimg restore -q --from repo --delta -O qcow2 "$DEVICE"
  oracle_equal "$DEVICE" vm.raw
  oracle_check "$DEVICE"
}
