#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own variables
# qimg resize: larger and smaller disks, with QEMU as the oracle.

load ../helpers
load common

# kinds: options of images that differ on disk.
# shellcheck disable=SC2054 # the commas are inside
kinds=(cluster_size=64k cluster_size=512 cluster_size=2M compat=0.10
  extended_l2=on,cluster_size=16k refcount_bits=1
  refcount_bits=64,cluster_size=512 lazy_refcounts=on compression_type=zstd
  data_file=d.raw data_file=d.raw,data_file_raw=on)

# mkdisk OPTIONS SIZE [OPTION...]: disk.qcow2 with all sorts of clusters, and
# its content in want.raw.
mkdisk() {
  qemu-img create -q -f qcow2 -o "$1" "${@:3}" disk.qcow2 "$2"
  [[ $1 == *data_file* ]] || write disk.qcow2 'write -c -P 9 2M 2M'
  write disk.qcow2 'write -P 1 0 2200k' 'write -z 1M 300k' \
    'write -P 3 3900k 100k' 'write -P 4 3999k 97k'
  [ "$2" = 4M ] || write disk.qcow2 'write -P 7 7900k 292k'
  qemu-img convert -O raw disk.qcow2 want.raw
}

# resized SIZE: disk.qcow2 has this size now, what want.raw has where that
# was, zeroes in what is new, and nothing is wrong with it.
resized() {
  truncate -s "$1" want.raw
  oracle_check disk.qcow2
  oracle_equal disk.qcow2 want.raw
  [ "$(virtual_size disk.qcow2)" = "$(stat -c %s want.raw)" ]
}

virtual_size() {
  qemu-img info --output=json "$1" | jq '."virtual-size"'
}

facts() {
  qemu-img info --output=json "$1" |
    jq -S 'del(.filename, .["actual-size"], .children)'
}

dirty() {
  qimg bitmap show "$@" --output json |
    jq -c '[.extents[] | [.offset // .start, .length]]'
}

@test "all kinds of images, to and fro" {
  local kind size
  for kind in $(some "${kinds[@]}"); do
    rm -f -- *
    mkdisk "$kind" 8M
    for size in 9M 5M 10M 1000k 3333632 12M 1M 512 64M; do
      echo "-o $kind, $size"
      qimg resize -q --shrink disk.qcow2 $size
      resized $size
      [ ! -e d.raw ] || [ "$(stat -c %s d.raw)" = "$(stat -c %s want.raw)" ]
    done
    [[ $kind != *raw=on* ]] || cmp d.raw want.raw
  done
}

@test "random sizes and writes" {
  local seed=${QIMG_SEED-$RANDOM} i size off
  echo "QIMG_SEED=$seed"
  RANDOM=$seed
  mkdisk cluster_size=4k 8M
  for i in $(some {1..25}); do
    size=$(((RANDOM * 32768 + RANDOM) % 32768 * 512 + 512))
    qimg resize -q --shrink disk.qcow2 $size
    resized $size
    off=$(((RANDOM * 32768 + RANDOM) % (size / 512) * 512))
    write disk.qcow2 "write -P $i $off $((size - off))"
    qemu-img convert -O raw disk.qcow2 want.raw
  done
}

@test "what it says, and what info then says, is as with qemu-img" {
  local size
  for size in 12M +1M +0 8388608; do
    mkdisk cluster_size=64k 8M
    cp disk.qcow2 q.qcow2
    qemu-img resize q.qcow2 "$size" >said
    expect_code 0 qimg resize disk.qcow2 "$size"
    [ "$output" = "$(<said)" ]
    [ -z "$stderr" ]
    diff <(facts q.qcow2) <(facts disk.qcow2)
  done
  for size in 1M -7M -512 5000192; do
    mkdisk cluster_size=64k 8M
    cp disk.qcow2 q.qcow2
    qemu-img resize --shrink q.qcow2 "$size" >said
    expect_code 0 qimg resize --shrink disk.qcow2 "$size"
    [ "$output" = "$(<said)" ]
    diff <(facts q.qcow2) <(facts disk.qcow2)
    oracle_equal q.qcow2 disk.qcow2
  done
}

@test "refused as by qemu-img, and nothing is changed" {
  local args
  mkdisk cluster_size=64k 8M
  truncate -s 1M r.raw
  # shellcheck disable=SC2086 # they are words
  for args in "disk.qcow2 1M" "disk.qcow2 -1M" "disk.qcow2 +1000" \
    "disk.qcow2 0" "--shrink disk.qcow2 -8M" "--shrink disk.qcow2 -9M" \
    "disk.qcow2 x" "disk.qcow2 7E" "disk.qcow2" "gone.qcow2 1M" \
    "--shrink --preallocation=full disk.qcow2 1M" \
    "--preallocation=full disk.qcow2 +0" "disk.qcow2 1M 2M" \
    "--preallocation=lots disk.qcow2 9M" \
    "-f raw --preallocation=metadata r.raw 2M" "-f raw r.raw 512k"; do
    echo "$args"
    expect_code 1 qemu-img resize $args
    refuses 1 resize $args
  done
  refuses 1 resize disk.qcow2 1M : --shrink "'disk.qcow2'"
  refuses 1 resize disk.qcow2 1000 : --shrink
  refuses 1 resize --shrink disk.qcow2 1000 : 512
  chmod a-w disk.qcow2
  [ -w disk.qcow2 ] || refuses 1 resize disk.qcow2 9M : 'Permission denied'
}

@test "an image in use, a damaged one: one message, nothing changed" {
  mkdisk cluster_size=64k 8M
  mkdir held bad
  qemu-img create -q -f qcow2 held/x.qcow2 1M
  hold_image held/x.qcow2
  expect_code 1 qimg resize held/x.qcow2 2M
  complains "in use" "$HOLD_PID"
  release_image
  qimg resize -q held/x.qcow2 2M
  cd bad || return
  mkbad
  refuses 1 resize cut.qcow2 8M : truncated
  refuses 1 resize orphan.qcow2 8M : "gone.qcow2"
  refuses 1 resize folder 8M
}

@test "--dry-run, JSON, quiet" {
  local before
  mkdisk cluster_size=64k 8M
  before=$(state)
  expect_code 0 qimg resize -n disk.qcow2 +1M
  says "'disk.qcow2'" 9437184
  expect_code 0 qimg resize --dry-run --output json disk.qcow2 9M
  json '.["dry-run"] and .["virtual-size"] == 9437184 and (.steps | length) == 1'
  [ "$before" = "$(state)" ]
  refuses 1 resize -n disk.qcow2 1M : --shrink
  expect_code 0 qimg resize --output json disk.qcow2 9M
  json '.qimg and .filename == "disk.qcow2" and .format == "qcow2"'
  json '.["old-size"] == 8388608 and .["dry-run"] == false'
  expect_code 0 qimg resize -q disk.qcow2 +1M
  [ -z "$output$stderr" ]
}

@test "what lies below the old end does not show" {
  local size
  qemu-img create -q -f qcow2 root.qcow2 40M
  write root.qcow2 'write -P 1 0 40M'
  for size in 10M 9999872 512; do
    rm -f disk.qcow2
    qemu-img create -q -f qcow2 -b root.qcow2 -F qcow2 disk.qcow2 $size
    qemu-img convert -O raw disk.qcow2 want.raw
    qimg resize -q disk.qcow2 50M
    resized 50M
    qimg resize -q --shrink disk.qcow2 20M
    resized 20M
    qimg resize -q --preallocation metadata disk.qcow2 60M
    resized 60M
  done
}

@test "a smaller disk is a smaller file" {
  local size
  mkdisk cluster_size=64k 200M
  write disk.qcow2 'write -P 5 8M 190M'
  qemu-img convert -O raw disk.qcow2 want.raw
  for size in 100M 9M 1M; do
    cp disk.qcow2 q.qcow2
    qemu-img resize -q --shrink q.qcow2 $size
    qimg resize -q --shrink disk.qcow2 $size
    resized $size
    [ "$(stat -c %s disk.qcow2)" -le $(($(stat -c %s q.qcow2) + 262144)) ]
    # And holes are punched in what cannot be cut.
    [ "$(stat -c %b disk.qcow2)" -le $(($(stat -c %b q.qcow2) + 512)) ]
  done
}

@test "refcount blocks past the new end go too" {
  qemu-img create -q -f qcow2 -o cluster_size=512 disk.qcow2 8M
  write disk.qcow2 'write -P 1 0 8M'
  qemu-img convert -O raw disk.qcow2 want.raw
  cp disk.qcow2 q.qcow2
  qemu-img resize -q --shrink q.qcow2 64k
  qimg resize -q --shrink disk.qcow2 64k
  resized 64k
  [ "$(stat -c %s disk.qcow2)" -le $(($(stat -c %s q.qcow2) + 4096)) ]
}

@test "preallocation, as large as qemu-img makes it" {
  local mode kind
  for kind in cluster_size=64k compat=0.10 extended_l2=on,cluster_size=16k \
    data_file=d.raw; do
    for mode in metadata falloc full; do
      echo "-o $kind, $mode"
      rm -f -- *
      # What is freed by a shrink is used again, and must not show.
      mkdisk $kind 8M
      qimg resize -q --shrink disk.qcow2 1M
      truncate -s 1M want.raw
      qimg resize -q --preallocation $mode disk.qcow2 12M
      resized 12M
      run_qimg check --output json disk.qcow2
      json '.["allocated-clusters"] == .["total-clusters"]'
      [ $mode = metadata ] || [ "$(du -kc disk.qcow2 d.raw 2>/dev/null |
        awk 'END { print $1 }')" -ge $((11 * 1024)) ]
    done
  done
}

@test "no room for the preallocation: the disk is what it was" {
  local blocks
  small_disk 20M
  mkdisk cluster_size=64k 8M
  mv disk.qcow2 small/disk.qcow2
  facts small/disk.qcow2 >before
  blocks=$(stat -c %b small/disk.qcow2)
  for mode in full falloc; do
    expect_code 1 qimg resize --preallocation $mode small/disk.qcow2 100M
    complains 'No space left'
    facts small/disk.qcow2 | diff before -
    oracle_check small/disk.qcow2
    oracle_equal small/disk.qcow2 want.raw
    [ "$(stat -c %b small/disk.qcow2)" -le $((blocks + 1024)) ]
  done
  unmount_small
}

@test "raw: to the byte, as qemu-img" {
  local args
  truncate -s 1000 a.raw
  cp a.raw q.raw
  # shellcheck disable=SC2086 # they are words
  for args in "a.raw +100" "a.raw 2000" "a.raw 5000" "--shrink a.raw 100" \
    "--preallocation=full a.raw 1M" "--preallocation=falloc a.raw 2M" \
    "--shrink a.raw -1M" "--shrink a.raw -- -512k"; do
    qemu-img resize -q -f raw ${args/a.raw/q.raw}
    qimg resize -q -f raw $args
    [ "$(stat -c '%s %b' a.raw)" = "$(stat -c '%s %b' q.raw)" ]
  done
}

@test "internal snapshots keep their disks" {
  local kind
  for kind in cluster_size=64k cluster_size=512 refcount_bits=8 \
    extended_l2=on,cluster_size=16k; do
    rm -f -- *
    mkdisk $kind 8M
    cp want.raw snap.raw
    qemu-img snapshot -c s disk.qcow2
    write disk.qcow2 'write -P 4 2M 100k' 'write -P 8 5M 1M'
    qemu-img convert -O raw disk.qcow2 want.raw
    for size in 5M 9M 100k 12M; do
      qimg resize -q --shrink disk.qcow2 $size
      resized $size
    done
    qemu-img snapshot -a s disk.qcow2
    oracle_check disk.qcow2
    oracle_equal disk.qcow2 snap.raw
  done
  rm -f -- *
  mkdisk compat=0.10 8M
  qemu-img snapshot -c s disk.qcow2
  refuses 1 resize disk.qcow2 9M : 'version 2' compat=1.1
}

@test "node bitmaps are those that qemu-img makes" {
  local size g
  mkdisk cluster_size=4k 8M
  for g in 512 4k 64k; do
    qemu-img bitmap --add -g $g disk.qcow2 b$g
  done
  write disk.qcow2 'write -P 1 1M 100k' 'write -P 2 5000k 3192k'
  qemu-img bitmap --disable disk.qcow2 b4k
  qemu-img convert -O raw disk.qcow2 want.raw
  cp disk.qcow2 q.qcow2
  for size in 9M 5555200 2M 8M 1100288 40M; do
    qemu-img resize -q --shrink q.qcow2 $size
    qimg resize -q --shrink disk.qcow2 $size
    resized $size
    diff <(facts q.qcow2) <(facts disk.qcow2)
    for g in 512 4k 64k; do
      echo "$size, $g"
      [ "$(dirty --node disk.qcow2 b$g)" = "$(dirty --node q.qcow2 b$g)" ]
    done
    # QEMU loads and writes them.
    write disk.qcow2 'write -P 1 0 512'
    write q.qcow2 'write -P 1 0 512'
    qemu-img convert -O raw disk.qcow2 want.raw
  done
}

@test "bitmaps that were lost stay so, damage is refused" {
  mkdisk cluster_size=64k 8M
  qemu-img bitmap --add disk.qcow2 b
  qemu-img bitmap --add disk.qcow2 c
  hold_image disk.qcow2
  crash_holder
  expect_code 1 qemu-img resize disk.qcow2 9M
  qimg resize -q disk.qcow2 9M
  resized 9M
  qimg resize -q --shrink disk.qcow2 1M
  resized 1M
  run_qimg bitmap list --node disk.qcow2 --output json
  json '[.. | .state? // empty] | unique == ["in use"]'
  qemu-img bitmap --remove disk.qcow2 b
  qimg bitmap remove -q --node disk.qcow2 c
  oracle_check disk.qcow2
}

@test "a drive: what is cut off and comes back is dirty" {
  mkdisk cluster_size=64k 8M
  mkdir links
  ln -s ../disk.qcow2 links/vm
  qimg bitmap add -q --drive links/vm daily
  qimg resize -q links/vm 9M
  [ "$(dirty --drive links/vm daily)" = '[[8388608,1048576]]' ]
  qimg bitmap clear -q --drive links/vm daily
  qimg resize -q --shrink links/vm 4M
  [ "$(dirty --drive links/vm daily)" = '[]' ]
  qimg resize -q links/vm +4M
  [ "$(dirty --drive links/vm daily)" = '[[4194304,4194304]]' ]
  [ -L links/vm ]
  qimg snapshot create -q --drive links/vm one
  qimg resize -q --shrink links/vm 2M
  qimg resize -q links/vm 8M
  [ "$(dirty --drive links/vm daily)" = '[[2097152,6291456]]' ]
  run_qimg bitmap show --drive links/vm daily --output json
  json '.status == "exact"'
}

@test "a drive whose head was made by another tool" {
  mkdisk cluster_size=64k 8M
  qimg bitmap add -q --drive disk.qcow2 daily
  qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2
  write top.qcow2 'write -P 1 64k 64k'
  qemu-img convert -O raw top.qcow2 want.raw
  ln -s top.qcow2 vm
  qimg resize -q --shrink vm 2M
  qimg resize -q vm 8M
  truncate -s 2M want.raw
  truncate -s 8M want.raw
  oracle_equal top.qcow2 want.raw
  oracle_check top.qcow2
  [ "$(dirty --drive vm daily)" = '[[65536,65536],[2097152,6291456]]' ]
  # Where that cannot be noted it is not done.
  rm top.qcow2
  qemu-img create -q -f qcow2 -o compat=0.10 -b disk.qcow2 -F qcow2 top.qcow2
  refuses 1 resize --shrink vm 2M : 'version 2'
}

@test "going back to an internal snapshot of a smaller disk counts" {
  mkdisk cluster_size=64k 4M
  qemu-img snapshot -c s disk.qcow2
  qimg resize -q disk.qcow2 8M
  write disk.qcow2 'write -P 5 0 8M'
  qimg bitmap add -q --drive disk.qcow2 daily
  qimg snapshot -a s disk.qcow2
  qimg resize -q disk.qcow2 8M
  [[ $(dirty --drive disk.qcow2 daily) == *'8388608]]' ]] ||
    [[ $(dirty --drive disk.qcow2 daily) == *4194304* ]]
  dirty --drive disk.qcow2 daily | jq -e 'last | .[0] + .[1] == 8388608'
}

@test "going back to an internal snapshot of a larger disk counts" {
  qemu-img create -q -f qcow2 -o cluster_size=256k,extended_l2=on disk.qcow2 \
    6996480
  write disk.qcow2 'write -P 98 1310720 256k'
  qemu-img snapshot -c s disk.qcow2
  qimg bitmap add -q --drive disk.qcow2 -g 512k daily
  qimg bitmap add -q --node disk.qcow2 -g 512k own
  qimg resize -q --shrink disk.qcow2 645632
  qimg snapshot -a s disk.qcow2
  oracle_check disk.qcow2
  for own in "--drive disk.qcow2 daily" "--node disk.qcow2 own"; do
    # shellcheck disable=SC2086 # they are words
    dirty $own | jq -e 'length == 1 and first[0] <= 645632 and
      (first | add) == 6996480'
  done
}

@test "a base of others does not shrink, and may grow" {
  mkdisk cluster_size=64k 8M
  mkdir far
  qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2
  qemu-img create -q -f qcow2 -b "$PWD/disk.qcow2" -F qcow2 far/o.qcow2
  refuses 1 resize --shrink disk.qcow2 1M \
    : "cannot shrink 'disk.qcow2'" "backing file" "corrupted: 'top.qcow2'"
  refuses 1 resize -n --shrink disk.qcow2 1M : "'top.qcow2'"
  refuses 1 resize --shrink --scan far disk.qcow2 1M \
    : "'top.qcow2' and 'far/o.qcow2'"
  rm top.qcow2
  refuses 1 resize --shrink --scan far disk.qcow2 1M : "'far/o.qcow2'"
  refuses 1 resize --shrink --scan gone disk.qcow2 1M : "'gone'"
  expect_code 0 qimg resize --scan far disk.qcow2 9M
  [ -z "$stderr" ]
  resized 9M
  qimg resize -q --shrink disk.qcow2 1M
  resized 1M
}

# The disk has one of the two sizes, with the content of that size; what is
# left behind is at most leaks, and the same command again finishes.
# shellcheck disable=SC2317 # each_fault runs it
look() {
  local code=0 want=new
  qemu-img check -q disk.qcow2 || code=$?
  [ $code = 0 ] || [ $code = 3 ]
  [ "$(virtual_size disk.qcow2)" != 8388608 ] || want=old
  oracle_equal disk.qcow2 ../$want.raw
  dirty --drive disk.qcow2 daily | jq -e 'first == [512000,1048576] or
    first == [512000,512000]' >/dev/null
  qimg resize -q --shrink disk.qcow2 "${args##* }"
  oracle_equal disk.qcow2 ../new.raw
}

@test "killed at each call, and each call fails" {
  local args
  for args in "--quiet 12M" "--shrink 1000k" "--preallocation=full 12M"; do
    rm -rf -- *
    qemu-img create -q -f qcow2 root.qcow2 10M
    write root.qcow2 'write -P 9 0 10M'
    qemu-img create -q -f qcow2 -b root.qcow2 -F qcow2 \
      -o cluster_size=4k disk.qcow2 8M
    write disk.qcow2 'write -P 1 0 3M' 'write -P 3 4M 100k' 'write -z 7M 1M'
    qimg bitmap add -q --drive disk.qcow2 daily
    write disk.qcow2 'write -P 5 500k 1M'
    qemu-img convert -O raw disk.qcow2 old.raw
    cp old.raw new.raw
    truncate -s "${args##* }" new.raw
    mkdir drive
    mv ./*.qcow2 drive
    # shellcheck disable=SC2086 # they are words
    sparse=1 least=5 each_fault "$QIMG" resize -q ${args% *} disk.qcow2 ${args##* }
  done
}

teardown() {
  unmount_small
}
