#!/usr/bin/env bats
# qcow2: guest data written into images that exist, of all kinds; seen through
# a commit, which is what writes most.

load ../helpers
load common

# commit_into OPTIONS TOP_OPTIONS: a base with OPTIONS takes in an overlay that
# is larger, with data, zeroes and compressed clusters; content as QEMU saw it.
commit_into() {
  rm -f -- *
  qemu-img create -q -f qcow2 -o "$1" base.qcow2 40M
  qemu-io -c 'write -P 1 0 10M' -c 'write -P 2 20M 3M' base.qcow2
  qemu-img create -q -f qcow2 -o "$2" -b base.qcow2 -F qcow2 top.qcow2 44M
  qemu-io -c 'write -P 5 1M 300k' -c 'write -P 6 30M 5000' \
    -c 'write -z 2M 1M' -c 'write -P 9 43M 1M' top.qcow2
  qemu-io -c 'write -c -P 8 22M 2M' top.qcow2
  qemu-img convert -O raw top.qcow2 want.raw
  ln -s top.qcow2 drive
  qimg commit -q --drive drive
  [ "$(readlink drive)" = base.qcow2 ]
  [ ! -e top.qcow2 ]
  oracle_check base.qcow2
  qimg check -q base.qcow2
  qemu-img compare -q base.qcow2 want.raw
}

@test "commit into all kinds of images" {
  local o
  for o in cluster_size=512 cluster_size=4k cluster_size=2M compat=0.10 \
    extended_l2=on,cluster_size=128k refcount_bits=1 refcount_bits=64 \
    refcount_bits=4,cluster_size=512 lazy_refcounts=on compression_type=zstd \
    data_file=d.raw data_file=d.raw,data_file_raw=on; do
    echo "-o $o"
    commit_into "$o" cluster_size=64k
  done
}

@test "commit from all kinds of images" {
  local o
  for o in cluster_size=4k cluster_size=2M compat=0.10 \
    extended_l2=on,cluster_size=16k compression_type=zstd; do
    echo "-o $o"
    commit_into cluster_size=64k "$o"
  done
}

@test "a raw external data file stays a copy of the disk" {
  commit_into data_file=d.raw,data_file_raw=on cluster_size=64k
  qemu-img compare -q -f raw -F raw d.raw want.raw
}

@test "clusters that an internal snapshot shares are copied, not changed" {
  local o
  for o in cluster_size=512 cluster_size=64k extended_l2=on compat=0.10; do
    qemu-img create -q -f qcow2 -o "$o" base.qcow2 10M
    qemu-io -c 'write -P 1 0 4M' base.qcow2
    qemu-io -c 'write -c -P 3 5M 128k' base.qcow2
    qemu-img snapshot -c before base.qcow2
    qemu-img convert -O raw base.qcow2 before.raw
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
    qemu-io -c 'write -P 2 1M 100k' -c 'write -z 5M 128k' top.qcow2
    qemu-img convert -O raw top.qcow2 want.raw
    ln -sf top.qcow2 drive
    qimg commit -q --drive drive
    oracle_check base.qcow2
    qemu-img compare -q base.qcow2 want.raw
    qemu-img snapshot -a before base.qcow2
    qemu-img compare -q base.qcow2 before.raw
    rm base.qcow2
  done
}

@test "a base that grows does not show what lies below its old end" {
  local o size
  for o in cluster_size=64k cluster_size=512 compat=0.10 \
    extended_l2=on,cluster_size=64k cluster_size=2M; do
    for size in 10M 9999872 1M; do
      echo "-o $o, $size"
      rm -f -- *
      qemu-img create -q -f qcow2 root.qcow2 40M
      qemu-io -c 'write -P 1 0 40M' root.qcow2
      qemu-img create -q -f qcow2 -o "$o" -b root.qcow2 -F qcow2 base.qcow2 \
        "$size"
      qemu-io -c 'write -P 7 100k 10k' base.qcow2
      qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 60M
      qemu-io -c 'write -P 5 20M 100k' top.qcow2
      qemu-img convert -O raw top.qcow2 want.raw
      ln -s top.qcow2 drive
      qimg commit -q --drive drive
      oracle_check base.qcow2
      qemu-img compare -q base.qcow2 want.raw
    done
  done
}

@test "node bitmaps of the base record what a commit writes" {
  qemu-img create -q -f qcow2 base.qcow2 10M
  qemu-img bitmap --add base.qcow2 on
  qemu-img bitmap --add --disable base.qcow2 off
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 12M
  qemu-io -c 'write -P 2 1M 64k' -c 'write -z 3M 64k' top.qcow2
  ln -s top.qcow2 drive
  qimg commit -q --drive drive
  oracle_check base.qcow2
  run_qimg bitmap show --node base.qcow2 on --output json
  [ "$(jq -c '[.extents[] | [.offset // .start, .length]]' <<<"$output")" = \
    '[[1048576,65536],[3145728,65536]]' ]
  run_qimg bitmap show --node base.qcow2 off --output json
  [ "$(jq '.extents | length' <<<"$output")" = 0 ]
}
