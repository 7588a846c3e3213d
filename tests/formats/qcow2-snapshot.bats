#!/usr/bin/env bats
# qcow2: internal snapshots made, applied and deleted by both programs in turn.

load ../helpers
load common

good() {
  oracle_check a.qcow2
  qimg check -q a.qcow2
}

# now RAW: the image has this content.
now() {
  good
  qemu-img compare -q -F raw a.qcow2 "$1"
}

@test "both programs in turn, on all kinds of images" {
  local o
  for o in cluster_size=512 cluster_size=4k cluster_size=64k cluster_size=2M \
    compat=0.10 extended_l2=on,cluster_size=128k refcount_bits=64 \
    refcount_bits=8 lazy_refcounts=on; do
    echo "-o $o"
    rm -f a.qcow2
    qemu-img create -q -f qcow2 -o "$o" a.qcow2 40M
    qemu-io -c 'write -P 1 0 10M' -c 'write -P 2 20M 3M' a.qcow2
    qemu-io -c 'write -c -P 8 30M 64k' -c 'write -c -P 8 31M 64k' a.qcow2 ||
      true # cluster sizes above 64k want whole clusters
    qemu-img convert -O raw a.qcow2 one.raw
    qimg snapshot -c one a.qcow2
    now one.raw
    qemu-io -c 'write -P 5 1M 3M' -c 'write -z 21M 1M' \
      -c 'write -P 9 35M 64k' a.qcow2
    qemu-img convert -O raw a.qcow2 two.raw
    qimg snapshot -c two a.qcow2
    now two.raw
    diff <(qemu-img snapshot -l a.qcow2) <(qimg snapshot -l a.qcow2)
    qemu-io -c 'write -P 7 0 3M' a.qcow2
    qimg snapshot -a one a.qcow2
    now one.raw
    qemu-io -c 'write -P 17 0 3M' a.qcow2
    good
    qemu-img snapshot -a two a.qcow2
    now two.raw
    qimg snapshot -a one a.qcow2
    now one.raw
    qimg snapshot -a two a.qcow2
    qimg snapshot -d one a.qcow2
    now two.raw
    qemu-img snapshot -c three a.qcow2
    qemu-img snapshot -d two a.qcow2
    now two.raw
    qimg snapshot -d three a.qcow2
    now two.raw
    [ -z "$(qimg snapshot -l a.qcow2)" ]
  done
}

@test "applying marks what it changes, and only in bitmaps that record" {
  qemu-img create -q -f qcow2 a.qcow2 20M
  qemu-io -c 'write -P 1 0 2M' a.qcow2
  qimg snapshot -c one a.qcow2
  qemu-io -c 'write -P 2 1M 100k' -c 'write -P 3 5M 64k' a.qcow2
  qimg bitmap add -q --node a.qcow2 on
  qimg bitmap add -q --node a.qcow2 --disabled off
  qimg snapshot -a one a.qcow2
  good
  run_qimg bitmap show --node a.qcow2 on --output json
  [ "$(jq -c '[.extents[] | [.offset // .start, .length]]' <<<"$output")" = \
    '[[1048576,131072],[5242880,65536]]' ]
  run_qimg bitmap show --node a.qcow2 off --output json
  [ "$(jq '.extents | length' <<<"$output")" = 0 ]
}

@test "applying brings the size of the disk back" {
  qemu-img create -q -f qcow2 a.qcow2 20M
  qimg bitmap add -q --node a.qcow2 b
  qimg snapshot -c small a.qcow2
  qemu-img bitmap --remove a.qcow2 b
  qemu-img resize -q a.qcow2 30M
  qimg bitmap add -q --node a.qcow2 b
  qimg snapshot -a small a.qcow2
  [ "$(qemu-img info --output=json a.qcow2 | jq '."virtual-size"')" = 20971520 ]
  good
}

@test "refcounts that are too small leave the image as it was" {
  qemu-img create -q -f qcow2 -o refcount_bits=1 a.qcow2 10M
  qemu-io -c 'write -P 1 0 1M' a.qcow2
  cp a.qcow2 b.qcow2
  expect_code 1 qimg snapshot -c one a.qcow2
  [[ $stderr == *'refcounts of 1 bits are too small'* ]]
  good
  qemu-img compare -q a.qcow2 b.qcow2
}

@test "an image with an external data file has none" {
  qemu-img create -q -f qcow2 -o data_file=d.raw a.qcow2 10M
  expect_code 1 qimg snapshot -c one a.qcow2
  good
}

@test "bad names and places" {
  qemu-img create -q -f qcow2 a.qcow2 10M
  expect_code 1 qimg snapshot -d nothing a.qcow2
  expect_code 1 qimg snapshot -a nothing a.qcow2
  expect_code 1 qimg snapshot -c '' a.qcow2
  truncate -s 1M r.raw
  expect_code 1 qimg snapshot -f raw -c one r.raw
  good
}
