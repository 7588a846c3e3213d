#!/usr/bin/env bats
# --strict: layers that another tool has put on a drive are refused.

load ../helpers
load ../cmd/common

# vm: a drive of one layer with bitmap b, and with a full backup in repo. The
# layer has bitmap n.
setup() {
  qemu-img create -q -f qcow2 one.qcow2 4M
  ln -s one.qcow2 vm
  qimg bitmap add -q --drive vm b
  qimg bitmap add -q --node one.qcow2 n
  qimg backup -q --full --drive vm --bitmap b --to repo
}

# each CODE TEXT...: what each command says of the drive, with --strict.
each() {
  local code=$1 args
  shift
  for args in "bitmap add --drive vm -n c" "bitmap clear --drive vm -n b" \
    "bitmap remove --drive vm -n b" "bitmap disable --drive vm -n b" \
    "bitmap enable --drive vm -n b" "bitmap list --drive vm" \
    "bitmap merge -n --drive vm --into b one.qcow2:n" \
    "bitmap populate -n --drive vm --allocated b" \
    "bitmap move -n --drive vm --to-drive vm --as c b" \
    "bitmap move -n --drive vm --to-node one.qcow2 b" \
    "bitmap move -n --node one.qcow2 --to-drive vm n" \
    "bitmap show --drive vm b" "bitmap show -U --drive vm b" \
    "snapshot create -n --drive vm s" \
    "backup -n --full --drive vm --to repo" \
    "backup -n --full --drive vm --to new" \
    "backup -n --full --drive vm --bitmap b --to new" \
    "backup -n --incremental --drive vm --bitmap b --to repo"; do
    echo "$args"
    # shellcheck disable=SC2086 # they are words
    if [ "$code" = 0 ]; then
      expect_code 0 qimg $args --strict
    else
      refuses "$code" $args --strict : "$@"
    fi
  done
}

# foreign NAME: qemu-img puts a layer on the drive.
foreign() {
  qemu-img create -q -f qcow2 -b "$(readlink vm)" -F qcow2 "$1"
  ln -sf "$1" vm
}

@test "a head that another tool has made" {
  each 0
  foreign two.qcow2
  each 6 "'two.qcow2', a layer of drive 'vm', was made by another tool" \
    'without --strict'
  refuses 6 commit --drive vm --strict : "'two.qcow2'"
  qimg bitmap show --drive vm b >/dev/null
  qimg commit -q --drive vm 2>/dev/null
  each 0
}

@test "a layer in the middle counts, until the bitmaps start above it" {
  foreign two.qcow2
  foreign three.qcow2
  # The head is taken on by this, the layer below it is not.
  qimg snapshot create -q --drive vm s
  refuses 6 bitmap show --drive vm b --strict : "'two.qcow2'"
  refuses 6 snapshot create --drive vm --strict t : "'two.qcow2'"
  refuses 6 commit --drive vm --strict : "'two.qcow2'"
  qimg bitmap clear -q --drive vm b
  qimg bitmap add -q --strict --drive vm c
  qimg commit -q --drive vm --strict -n
  foreign four.qcow2
  refuses 6 bitmap show --drive vm b --strict : "'four.qcow2'"
}

@test "without bitmaps the layers above our topmost one count" {
  qimg bitmap remove -q --drive vm b
  foreign two.qcow2
  refuses 6 bitmap add --strict --drive vm c : "'two.qcow2'"
  refuses 6 snapshot create --strict --drive vm s : "'two.qcow2'"
  qimg snapshot create -q --drive vm s
  qimg bitmap add -q --strict --drive vm c
}

@test "a chain that no drive was made of, and a raw base" {
  qemu-img create -q -f qcow2 -b one.qcow2 -F qcow2 x.qcow2
  qemu-img create -q -f raw disk.raw 1M
  qemu-img create -q -f qcow2 -b disk.raw -F raw y.qcow2
  ln -sf y.qcow2 vm
  qimg bitmap add -q --strict --drive vm b
  qimg snapshot create -q --strict --drive vm s
  qimg commit -q --strict --drive vm
  qimg bitmap show --strict --drive vm b
}

@test "--strict is for drives" {
  refuses 2 bitmap add --strict --node one.qcow2 n : 'drives'
  refuses 2 bitmap move --strict --node one.qcow2 --to-node one.qcow2 --as x \
    n : 'drives'
  refuses 2 bitmap show --strict --node one.qcow2 b : 'drives'
  refuses 2 bitmap list --strict one.qcow2 : '--drive'
  refuses 2 commit --strict one.qcow2 : '--drive'
}
