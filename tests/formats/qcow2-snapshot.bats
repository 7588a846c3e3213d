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
  for o in $(some cluster_size=512 cluster_size=4k cluster_size=64k \
    cluster_size=2M compat=0.10 extended_l2=on,cluster_size=128k \
    refcount_bits=64 refcount_bits=8 lazy_refcounts=on); do
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
  # Not a byte was changed.
  cmp a.qcow2 b.qcow2
  qemu-img create -q -f qcow2 -o refcount_bits=2 a.qcow2 10M
  qemu-io -c 'write -P 1 0 1M' a.qcow2
  qimg snapshot -c one a.qcow2
  qimg snapshot -c two a.qcow2
  cp a.qcow2 b.qcow2
  expect_code 1 qimg snapshot -c three a.qcow2
  cmp a.qcow2 b.qcow2
  expect_code 1 qimg snapshot -a one a.qcow2
  cmp a.qcow2 b.qcow2
  good
}

# is_dirty: marked as not closed, in version 3.
is_dirty() {
  [ "$(be a.qcow2 4 4)" = 3 ] && (($(be a.qcow2 72 8) & 1))
}

# survived WHAT FILE...: the image is clean, or has leaks, or says itself that
# it must be repaired, which loses nothing; its content is one of the files.
survived() {
  local what=$1 code=0 f found=
  shift
  qemu-img check -q a.qcow2 || code=$?
  if is_dirty; then
    # Reading does not need the refcounts.
    qimg convert -q --force -O raw a.qcow2 got.raw
    one_line 4 bitmap add --node a.qcow2 b
    [[ $stderr == *"qimg check -r all a.qcow2"* ]]
  elif [ "$(be a.qcow2 4 4)" = 3 ]; then
    [ $code = 0 ] || [ $code = 3 ] || {
      echo "$what: check says $code, and it is not marked"
      return 1
    }
  fi
  qemu-img check -q -r all a.qcow2
  oracle_check a.qcow2
  for f in "$@"; do
    if qemu-img compare -q -F raw a.qcow2 "$f"; then found=1; fi
  done
  [ -n "$found" ] || {
    echo "$what: the content is another"
    return 1
  }
  if [ "$(qemu-img snapshot -l a.qcow2 | grep -c one)" = 1 ]; then
    qemu-img convert -l one -O raw a.qcow2 got.raw
    cmp got.raw ../one.raw
  fi
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  local f kept=()
  for f in $keeps; do kept+=("../$f"); done
  survived "$1" "${kept[@]}"
}

# end_each OPTIONS KEEPS ARG...: qimg snapshot ARG ended at each of its calls,
# and with each of them failing; KEEPS is what the image may hold then.
end_each() {
  local o=$1
  keeps=$2
  shift 2
  rm -rf drive
  qemu-img create -q -f qcow2 -o "$o" start.qcow2 3M
  qemu-io -c 'write -P 1 0 1M' -c 'write -c -P 8 2M 64k' start.qcow2
  qemu-img snapshot -c one start.qcow2
  qemu-img convert -O raw start.qcow2 one.raw
  qemu-io -c 'write -P 2 128k 512k' -c 'write -z 2M 64k' start.qcow2
  qemu-img snapshot -c two start.qcow2
  qemu-io -c 'write -P 3 0 256k' start.qcow2
  qemu-img convert -O raw start.qcow2 now.raw
  mkdir drive
  mv start.qcow2 drive/a.qcow2
  # shellcheck disable=SC2034 # each_fault has it
  faults="change:kill change:EIO"
  least=5 each_fault "$QIMG" snapshot "$@" a.qcow2
  oracle_check try/a.qcow2
}

@test "create, apply and delete ended at each call" {
  local o
  for o in extended_l2=on,cluster_size=64k,refcount_bits=8 compat=0.10; do
    echo "-o $o"
    end_each "$o" now.raw -c three
    end_each "$o" 'now.raw one.raw' -a one
    end_each "$o" now.raw -d two
  done
}

@test "extra data that nobody knows stays as it is" {
  local o at
  for o in compat=1.1 compat=0.10; do
    echo "-o $o"
    rm -f a.qcow2
    qemu-img create -q -f qcow2 -o "$o" a.qcow2 10M
    qemu-io -c 'write -P 1 0 1M' a.qcow2
    qemu-img snapshot -c one a.qcow2
    qemu-img snapshot -c two a.qcow2
    # The first entry gets 40 bytes of extra data, 16 more than are known,
    # before its id "1" and name "one"; the second entry moves up.
    at=$(be a.qcow2 64 8)
    dd if=a.qcow2 of=table bs=1 skip="$at" count=200 status=none
    poke_be a.qcow2 $((at + 36)) 4 40
    poke a.qcow2 $((at + 64)) 'what is it then?1one\0\0\0\0'
    dd if=table of=a.qcow2 bs=1 skip=72 seek=$((at + 88)) count=72 \
      conv=notrunc status=none
    qemu-img snapshot -l a.qcow2 | grep -q two
    dd if=a.qcow2 of=want bs=1 skip="$at" count=84 status=none
    qimg snapshot -c three a.qcow2
    qimg snapshot -d two a.qcow2
    at=$(be a.qcow2 64 8)
    dd if=a.qcow2 of=got bs=1 skip="$at" count=84 status=none
    cmp want got
    good
    qimg snapshot -a one a.qcow2
    good
  done
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
