#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own variables
# qimg amend: other options for images that exist, with QEMU as the oracle.

load ../helpers
load common

# mkdisk OPTIONS [OPTION...]: disk.qcow2 with all sorts of clusters on a base
# that is longer, and its content in want.raw.
mkdisk() {
  [ -e base.qcow2 ] || {
    qemu-img create -q -f qcow2 base.qcow2 9M
    write base.qcow2 'write -P 9 0 9M'
  }
  rm -f disk.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 -o "$1" disk.qcow2 8M
  write disk.qcow2 'write -c -P 2 6M 2M' 'write -P 1 0 3M' \
    'write -z 1M 300k' 'write -z 5M 1M' 'write -P 3 4M 100k'
  qemu-img convert -O raw disk.qcow2 want.raw
}

# amended: content and consistency are what they should be.
amended() {
  oracle_check disk.qcow2
  oracle_equal disk.qcow2 want.raw
}

facts() {
  qemu-img info --output=json "$1" |
    jq -S 'del(.filename, .["actual-size"], .children)'
}

# same_as_qemu OPTS: qemu-img makes of a copy what qimg makes of the image.
same_as_qemu() {
  echo "-o $1"
  cp disk.qcow2 q.qcow2
  qemu-img amend -o "$1" q.qcow2
  expect_code 0 qimg amend -o "$1" disk.qcow2
  [ -z "$output$stderr" ]
  diff <(facts q.qcow2) <(facts disk.qcow2)
  amended
}

@test "all that can change, as qemu-img does it" {
  local o
  mkdisk compat=1.1
  for o in lazy_refcounts=on refcount_bits=64 lazy_refcounts=off \
    refcount_bits=16,compat=0.10 compat=0.10 compat=1.1,lazy_refcounts=on \
    refcount_bits=32 compat=v3 refcount_bits=16,compat=v2 \
    compat=1.1,refcount_bits=8 backing_file=base.qcow2,backing_fmt=qcow2; do
    same_as_qemu $o
  done
}

@test "every width to every other, in clusters of all sizes" {
  local size from to
  for size in 512 64k 2M; do
    for from in $(some 1 2 4 8 16 32 64); do
      rm -f disk.qcow2
      qemu-img create -q -f qcow2 -o cluster_size=$size,refcount_bits="$from" \
        disk.qcow2 4M
      write disk.qcow2 'write -P 1 0 3M' 'write -P 4 3500k 10k'
      qemu-img convert -O raw disk.qcow2 want.raw
      for to in 64 1 $from; do
        echo "$size $from $to"
        qimg amend -o "refcount_bits=$to" disk.qcow2
        amended
        [ "$(qemu-img info --output=json disk.qcow2 |
          jq '."format-specific".data."refcount-bits"')" = "$to" ]
      done
      write disk.qcow2 'write -P 7 1M 3M'
      oracle_check disk.qcow2
    done
  done
}

@test "refcounts that do not fit are found before the first write" {
  qemu-img create -q -f qcow2 disk.qcow2 4M
  write disk.qcow2 'write -P 1 0 1M'
  qemu-img snapshot -c s disk.qcow2
  refuses 1 amend -o refcount_bits=1,lazy_refcounts=on disk.qcow2 : \
    '1 bits' snapshots
  qimg amend -o refcount_bits=2 disk.qcow2
  oracle_check disk.qcow2
  qemu-img snapshot -d s disk.qcow2
  qimg amend -o refcount_bits=1 disk.qcow2
  oracle_check disk.qcow2
}

@test "version 2 keeps what reads as zero, in snapshots too" {
  local kind n
  for kind in $(some cluster_size=64k cluster_size=512 cluster_size=2M); do
    mkdisk "$kind"
    for n in 1 2 3; do
      qemu-img snapshot -c s$n disk.qcow2
      write disk.qcow2 "write -P 4$n ${n}M 100k" "write -z $((n + 3))M 64k" \
        "write -z 0 256k" "write -P 5 64k 64k"
    done
    qemu-img convert -O raw disk.qcow2 want.raw
    for n in 1 2 3; do qemu-img convert -l s$n -O raw disk.qcow2 s$n.raw; done
    same_as_qemu compat=0.10
    for n in 1 2 3; do
      qemu-img convert -l s$n -O raw disk.qcow2 now.raw
      cmp s$n.raw now.raw
    done
    same_as_qemu compat=1.1
    for n in 3 1 2; do
      qemu-img snapshot -a s$n disk.qcow2
      oracle_check disk.qcow2
      oracle_equal disk.qcow2 s$n.raw
    done
  done
}

@test "version 2 without a backing file, and preallocated zeroes" {
  local o
  for o in '' '-b base.qcow2 -F qcow2'; do
    qemu-img create -q -f qcow2 base.qcow2 4M
    write base.qcow2 'write -P 9 0 4M'
    # shellcheck disable=SC2086 # they are words
    qemu-img create -q -f qcow2 $o disk.qcow2 4M
    write disk.qcow2 'write -P 1 0 3M' 'write -z 0 1M' 'write -z -u 1M 1M' \
      'write -z 3500k 100k'
    qemu-img convert -O raw disk.qcow2 want.raw
    qimg amend -o compat=0.10 disk.qcow2
    amended
    write disk.qcow2 'write -P 3 0 4M'
    oracle_check disk.qcow2
    rm disk.qcow2
  done
}

@test "size, as resize" {
  local size
  mkdisk compat=1.1
  for size in 12M 1M 8M; do
    qimg amend -o size=$size disk.qcow2
    truncate -s $size want.raw
    amended
    [ "$(qemu-img info --output=json disk.qcow2 | jq '."virtual-size"')" = \
      "$(stat -c %s want.raw)" ]
  done
  qemu-img snapshot -c s disk.qcow2
  refuses 1 amend -o size=9M,compat=0.10 disk.qcow2 : 'disk size'
  qimg amend -o compat=0.10 disk.qcow2
  refuses 1 amend -o size=9M disk.qcow2 : 'version 2'
  qimg amend -o size=9M,compat=1.1 disk.qcow2
  truncate -s 9M want.raw
  amended
}

@test "external data files" {
  qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on disk.qcow2 4M
  write disk.qcow2 'write -P 1 0 1M'
  qemu-img convert -O raw disk.qcow2 want.raw
  refuses 1 amend -o compat=0.10 disk.qcow2 : 'another file'
  refuses 1 amend -o data_file=gone.raw disk.qcow2 : gone.raw
  refuses 1 amend -o data_file= disk.qcow2 : name
  same_as_qemu data_file_raw=off
  refuses 1 amend -o data_file_raw=on disk.qcow2 : made
  cp d.raw e.raw
  qimg amend -o data_file=e.raw disk.qcow2
  rm d.raw
  amended
}

@test "bitmaps are not lost: refused, with what removes them" {
  mkdisk compat=1.1
  qemu-img bitmap --add disk.qcow2 mine
  refuses 1 amend -o compat=0.10 disk.qcow2 : "'mine'" 'bitmap remove --node'
  qimg bitmap add -q --drive disk.qcow2 daily
  qimg bitmap remove -q --node disk.qcow2 mine
  refuses 1 amend -o compat=0.10 disk.qcow2 : "'daily'" 'bitmap remove --drive'
  # Everything else leaves them alone.
  qimg bitmap show --drive disk.qcow2 daily >before
  qimg amend -o refcount_bits=8,lazy_refcounts=on disk.qcow2
  qimg bitmap show --drive disk.qcow2 daily | diff before -
  amended
  qimg bitmap remove -q --drive disk.qcow2 daily
  qimg amend -o compat=0.10,refcount_bits=16 disk.qcow2
  amended
}

@test "refused as by qemu-img, and nothing is changed" {
  local args
  mkdisk compat=1.1
  truncate -s 1M r.raw
  # shellcheck disable=SC2086 # they are words
  for args in "-o cluster_size=4k disk.qcow2" "-o foo=1 disk.qcow2" \
    "-o compression_type=zstd disk.qcow2" "-o help -f raw" "-o help" \
    "-f raw -o size=2M r.raw" "disk.qcow2" "-o compat=2 disk.qcow2" \
    "-o refcount_bits=3 disk.qcow2" "-o refcount_bits=128 disk.qcow2" \
    "-o refcount_bits=0 disk.qcow2" "-o refcount_bits=8,compat=0.10 disk.qcow2" \
    "-o size=1000 disk.qcow2" "-o backing_file=x disk.qcow2" \
    "-o backing_file= disk.qcow2" "-o data_file=x disk.qcow2" \
    "-o data_file_raw=on disk.qcow2" "-o lazy_refcounts=x disk.qcow2" \
    "-o lazy_refcounts=on,compat=0.10 disk.qcow2 more" \
    "-o compat=0.10 gone.qcow2" "-o size=7E disk.qcow2"; do
    echo "$args"
    expect_code 1 qemu-img amend $args
    refuses 1 amend $args
  done
  refuses 1 amend -o cluster_size=4k disk.qcow2 : cluster_size 'qimg convert'
  refuses 1 amend -o foo=1 disk.qcow2 : "'foo'"
  qemu-img create -q -f qcow2 -o extended_l2=on ext.qcow2 1M
  refuses 1 amend -o compat=0.10 ext.qcow2 : 'extended L2'
  qemu-img create -q -f qcow2 -o compression_type=zstd zstd.qcow2 1M
  refuses 1 amend -o compat=0.10 zstd.qcow2 : 'compression type'
}

@test "an image in use: one message, nothing changed" {
  qemu-img create -q -f qcow2 disk.qcow2 1M
  hold_image disk.qcow2
  expect_code 1 qimg amend -o compat=0.10 disk.qcow2
  complains "in use" "$HOLD_PID"
  release_image
  qimg amend -o compat=0.10 disk.qcow2
}

@test "-o help, --dry-run, JSON, progress, --force" {
  local before
  mkdisk compat=1.1
  before=$(state)
  expect_code 0 qimg amend -f qcow2 -o help
  says "Amend options for 'qcow2'" refcount_bits lazy_refcounts
  diff <(grep -o '^  [a-z_.-]*' <<<"$output") \
    <(qemu-img amend -f qcow2 -o help | grep -o '^  [a-z_.-]*=' | tr -d =)
  expect_code 0 qimg amend disk.qcow2 -o help
  says "Amend options for 'qcow2'"
  expect_code 0 qimg amend -n -o compat=0.10 -o lazy_refcounts=off disk.qcow2
  says "compat" "'0.10'" "lazy_refcounts"
  expect_code 0 qimg amend --dry-run --output json -o size=9M disk.qcow2
  json '.["dry-run"] and (.steps | length) == 1 and .format == "qcow2"'
  refuses 1 amend -n -o compat=9 disk.qcow2
  [ "$before" = "$(state)" ]
  expect_code 0 qimg amend -p -o refcount_bits=32 disk.qcow2
  [[ $stderr == *amend*100* ]]
  expect_code 0 qimg amend --force -q -o refcount_bits=16 disk.qcow2
  [ -z "$output$stderr" ]
}

# Content is the same at each moment; what is left behind is at most leaks,
# and the same command again finishes.
# shellcheck disable=SC2317 # each_fault runs it
look() {
  local code=0
  qemu-img check -q disk.qcow2 || code=$?
  [ $code = 0 ] || [ $code = 3 ]
  oracle_equal disk.qcow2 ../want.raw
  qimg amend -o "$o" disk.qcow2
  oracle_equal disk.qcow2 ../want.raw
  qemu-img convert -l s -O raw disk.qcow2 now.raw
  cmp ../s.raw now.raw
}

@test "killed at each call, and each call fails" {
  local o
  mkdisk cluster_size=64k
  qemu-img snapshot -c s disk.qcow2
  write disk.qcow2 'write -P 4 2M 100k' 'write -z 1M 64k'
  qemu-img convert -O raw disk.qcow2 want.raw
  qemu-img convert -l s -O raw disk.qcow2 s.raw
  for o in refcount_bits=64 refcount_bits=16,compat=0.10 \
    compat=1.1,lazy_refcounts=on; do
    rm -rf drive
    mkdir drive
    mv ./*.qcow2 drive
    sparse=1 each_fault "$QIMG" amend -o $o disk.qcow2
    mv try/*.qcow2 .
    amended
  done
}
