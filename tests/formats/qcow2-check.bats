#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own variables
# qimg check against qemu-img check on images that are damaged at random
# places, and repair of the same. QIMG_ROUNDS and QIMG_SEED make long runs of it.

load ../helpers
load common

# mkzoo: images of all kinds in ./zoo, and their data file here, too.
mkzoo() {
  local size width t
  mkdir -p zoo
  cd zoo || return
  for size in 512 4k 64k 2M; do mkone "size$size" -o cluster_size=$size; done
  for width in 1 2 4 8 32 64; do
    mkone "width$width" -o "refcount_bits=$width,cluster_size=4k"
  done
  mkone extended -o extended_l2=on
  mkone old -o compat=0.10
  mkone lazy -o lazy_refcounts=on
  mkone external -o data_file=data.raw
  mkone wide512 -o cluster_size=512,refcount_bits=64
  qemu-img convert -O qcow2 -c size64k.qcow2 packed.qcow2
  qemu-img convert -O qcow2 -c -o cluster_size=4k size64k.qcow2 packed4k.qcow2
  for t in size64k size4k old; do
    cp $t.qcow2 snapshots-$t.qcow2
    qemu-img snapshot -c one snapshots-$t.qcow2
    write snapshots-$t.qcow2 'write -P 9 64k 128k'
    qemu-img snapshot -c two snapshots-$t.qcow2
    write snapshots-$t.qcow2 'write -P 8 1M 64k'
  done
  for t in size64k size4k; do
    cp $t.qcow2 bitmaps-$t.qcow2
    qemu-img bitmap --add bitmaps-$t.qcow2 one
    qemu-img bitmap --add -g 512 --disable bitmaps-$t.qcow2 two
    write bitmaps-$t.qcow2 'write 1M 400k'
  done
  qemu-img create -q -f qcow2 -b size64k.qcow2 -F qcow2 overlay.qcow2
  write overlay.qcow2 'write -P 5 100k 300k' 'write -z 512k 128k'
  cd ..
  cp zoo/data.raw .
  cp zoo/size64k.qcow2 .
}

# mkone NAME OPTION...: some of everything in 4 MiB.
mkone() {
  qemu-img create -q -f qcow2 "${@:2}" "$1.qcow2" 4M
  write "$1.qcow2" 'write -P 1 0 300k' 'write -P 2 1M 200k' \
    'write -z 1100k 64k' 'discard 128k 64k' 'write -P 3 3000k 70k'
}

write() {
  local args=() image=$1 command
  shift
  for command; do args+=(-c "$command"); done
  qemu-io -f qcow2 "${args[@]}" "$image" >/dev/null
}

agree() {
  perl "$QIMG_SRC/tests/formats/agree" "$1" zoo "$(rounds "$2")" \
    "${QIMG_SEED:-1}"
}

# clean IMG: both programs find nothing.
clean() {
  expect_code 0 "$QIMG" check "$1"
  qemu-img check -q "$1"
}

@test "all kinds of images: check says what qemu-img says, damaged or not" {
  local f
  mkzoo
  for f in zoo/*.qcow2; do (cd zoo && same_check "${f#zoo/}"); done
  run agree check 40
  echo "$output"
  [ "$status" = 0 ]
}

@test "all kinds of damage: -r all leaves a clean image with its content" {
  mkzoo
  run agree repair 20
  echo "$output"
  [ "$status" = 0 ]
}

# crash IMG: however a repair ends, the next one finishes it.
crash() {
  qemu-img convert -O raw "$1" want.raw
  before=$(corruptions "$1")
  rm -rf drive
  mkdir drive
  cp "$1" drive/t.qcow2
  each_fault "$QIMG" check -q -r all t.qcow2
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  local now
  [[ $1 != *:EIO* ]] || [ "$status" -le 1 ]
  qemu-img compare -q -F raw t.qcow2 ../want.raw
  # Nobody writes to an image that has got more wrong on the way.
  now=$(corruptions t.qcow2)
  [ "$now" -le "$before" ] ||
    [ "$(qemu-img info --output=json t.qcow2 |
      jq '."format-specific".data.corrupt')" = true ]
  qimg check -q -r all t.qcow2 2>../err
  clean t.qcow2
  qemu-img compare -q -F raw t.qcow2 ../want.raw
}

corruptions() {
  { qemu-img check --output=json "$1" 2>/dev/null || true; } |
    jq '.corruptions // 0'
}

@test "a repair that is killed, or fails, at each of its writes" {
  local l1 l2
  mkzoo
  # Refcounts in place, then flags.
  cp zoo/snapshots-size64k.qcow2 counts.qcow2
  poke_be counts.qcow2 $((0x20000 + 10)) 2 0
  poke_be counts.qcow2 $((0x20000 + 12)) 2 7
  crash counts.qcow2
  # A lost block.
  cp zoo/size64k.qcow2 block.qcow2
  poke_be block.qcow2 $((0x10000)) 8 $((1 << 40))
  crash block.qcow2
  # Tables of the disk and of a snapshot with reserved bits.
  cp zoo/snapshots-size64k.qcow2 tables.qcow2
  l1=$(be tables.qcow2 40 8)
  l2=$(($(be tables.qcow2 "$l1" 8) & 0xfffffffffffe00))
  poke tables.qcow2 $((l2 + 7)) '\x10'
  crash tables.qcow2
}

@test "the dirty and the corrupt bit are cleared by a repair" {
  local bits
  for bits in 1 2 3; do
    qemu-img create -q -f qcow2 -o lazy_refcounts=on a.qcow2 1M
    write a.qcow2 'write -P 7 0 256k'
    poke_be a.qcow2 72 8 $bits
    poke_be a.qcow2 $((0x20000 + 10)) 2 0
    qimg check -q -r all a.qcow2 2>err
    [ "$(be a.qcow2 72 8)" = 0 ]
    qemu-io -c 'read -P 7 0 256k' a.qcow2 | grep -q 'read 262144'
    clean a.qcow2
  done
}

@test "an L2 table that is data as well: the data is not written over" {
  local l1 l2 data
  qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 8M
  write a.qcow2 'write -P 7 0 64k'
  l1=$(be a.qcow2 40 8)
  l2=$(($(be a.qcow2 "$l1" 8) & 0xfffffffffffe00))
  data=$(be a.qcow2 "$l2" 8)
  # The second table is guest data: all its entries are impossible.
  poke_be a.qcow2 $((l1 + 8)) 8 "$data"
  qimg check -q -r all a.qcow2 2>err
  clean a.qcow2
  qemu-io -c 'read -P 7 0 64k' a.qcow2 | grep -q 'read 65536'
}

@test "-r leaks frees leaks and changes nothing else" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  write a.qcow2 'write -P 7 0 256k'
  truncate -s 2M a.qcow2
  poke_be a.qcow2 $((0x20000 + 2 * 20)) 2 1
  poke_be a.qcow2 $((0x20000 + 2 * 5)) 2 3
  expect_code 0 "$QIMG" check -r leaks a.qcow2
  clean a.qcow2
  # What is free and in use makes it unsure what a leak is.
  poke_be a.qcow2 $((0x20000 + 2 * 20)) 2 1
  poke_be a.qcow2 $((0x20000 + 2 * 5)) 2 0
  cp a.qcow2 b.qcow2
  expect_code 1 "$QIMG" check -r leaks a.qcow2
  [[ $stderr == *"'qimg check -r all a.qcow2'"* ]]
  cmp a.qcow2 b.qcow2
}

@test "snapshots: entries that cannot be are dropped, the rest stays" {
  local table
  mkdir x
  qemu-img create -q -f qcow2 a.qcow2 1M
  write a.qcow2 'write -P 7 0 256k'
  qemu-img snapshot -c one a.qcow2
  write a.qcow2 'write -P 8 0 64k'
  qemu-img snapshot -c two a.qcow2
  table=$(be a.qcow2 64 8)
  poke_be a.qcow2 "$table" 8 77
  qimg check -q -r all a.qcow2 2>err
  grep -q 'snapshot 0 is dropped' err
  clean a.qcow2
  [ "$(qemu-img snapshot -l a.qcow2 | grep -c two)" = 1 ]
  [ "$(qemu-img snapshot -l a.qcow2 | grep -c one)" = 0 ]
  qemu-img snapshot -a two a.qcow2
  qemu-io -c 'read -P 8 0 64k' -c 'read -P 7 64k 192k' a.qcow2 >x/out
  [ "$(grep -c failed x/out)" = 0 ]
}

# ---------------------------------------------------------------- bitmaps

# mkbitmaps: a.qcow2 has one, two and three; `at` is the first entry's offset.
mkbitmaps() {
  local x
  qemu-img create -q -f qcow2 a.qcow2 4M
  for x in one two three; do qemu-img bitmap --add -g 64k a.qcow2 $x; done
  write a.qcow2 'write -P 7 0 300k'
  x=$(extension a.qcow2 23852875)
  at=$(be a.qcow2 $((x + 16)) 8)
  ext=$x
}

# bitmaps WANT: names, and flags, as QEMU lists them.
bitmaps() {
  local found
  found=$(qemu-img info --output=json a.qcow2 | jq -r \
    '[."format-specific".data.bitmaps[]? | .name + ":"
      + (.flags | sort | join("+"))] | sort | join(" ")')
  [ "$found" = "$1" ] || {
    echo "bitmaps: $found, expected: $1"
    return 1
  }
}

# repaired WANT: QEMU refuses a.qcow2 before, and is content afterwards.
repaired() {
  run ! qemu-img check -q a.qcow2
  expect_code 2 "$QIMG" check -q a.qcow2
  qimg check -q -r all a.qcow2 2>err
  cat err
  clean a.qcow2
  bitmaps "$1"
  qemu-io -c 'read -P 7 0 300k' a.qcow2 | grep -q 'read 307200'
}

@test "bitmaps: an entry that cannot be is dropped, the others stay" {
  local which
  # Flags, type, granularity, table offset, extra data of the first entry.
  for which in '12 4 128' '16 1 9' '17 1 5' '0 8 77' '20 4 8' '8 4 9'; do
    mkbitmaps
    # shellcheck disable=SC2086 # they are words
    set -- $which
    poke_be a.qcow2 $((at + $1)) "$2" "$3"
    echo "$which"
    case $1 in
    20) # The length of the entry goes with it: nothing after it is found.
      repaired "" ;;
    *)
      repaired "three:auto two:auto"
      grep -q "bitmap 'one' is dropped" err
      ;;
    esac
  done
}

@test "bitmaps: parts of a table that cannot be read become dirty" {
  local table
  mkbitmaps
  table=$(be a.qcow2 "$at" 8)
  poke_be a.qcow2 "$table" 8 $((1 << 60))
  repaired "one:auto three:auto two:auto"
  grep -q "bitmap 'one': 1 of 1 parts" err
  qimg bitmap show --node a.qcow2 one --output json >one.json
  [ "$(jq '[.extents[].length] | add' one.json)" = 4194304 ]
  qimg bitmap show --node a.qcow2 two --output json >two.json
  [ "$(jq '[.extents[].length] | add' two.json)" = 327680 ]
}

@test "bitmaps: two of one name; one in use stays in use" {
  mkbitmaps
  # "one" and "two" are as long as each other, and 32 bytes apart.
  poke a.qcow2 $((at + 32 + 24)) one
  repaired "one:auto+in-use three:auto"
  mkbitmaps
  poke_be a.qcow2 $((at + 12)) 4 3
  expect_code 0 "$QIMG" check -q -r all a.qcow2
  bitmaps "one:auto+in-use three:auto two:auto"
}

@test "bitmaps: directory out of the file, wrong count, stale extension" {
  mkbitmaps
  poke_be a.qcow2 $((ext + 16)) 8 $((1 << 30))
  repaired ""
  mkbitmaps
  poke_be a.qcow2 "$ext" 4 2
  repaired "one:auto+in-use two:auto+in-use"
  mkbitmaps
  # A program that does not know bitmaps has written.
  poke_be a.qcow2 88 8 0
  expect_code 3 "$QIMG" check -q a.qcow2
  qimg check -q -r all a.qcow2 2>err
  clean a.qcow2
  run ! extension a.qcow2 23852875
}

@test "nothing is written over bitmaps that cannot record it" {
  mkbitmaps
  qemu-img create -q -u -f qcow2 -b a.qcow2 -F qcow2 top.qcow2 1M
  qemu-io -c 'write -P 9 512k 64k' top.qcow2 >/dev/null
  # An entry without a name; then one whose table is not in the file.
  poke_be a.qcow2 $((at + 32 + 18)) 2 0
  expect_code 1 qimg commit top.qcow2
  [[ $stderr == *"'qimg check -r all a.qcow2'"* ]]
  mkbitmaps
  poke_be a.qcow2 "$at" 8 $((1 << 40))
  expect_code 1 qimg commit top.qcow2
  [[ $stderr == *"bitmap 'one'"* ]]
  # Leaks are not freed while it is not known what they are.
  expect_code 1 qimg check -q -r leaks a.qcow2
}

@test "a lost table does not bring back what is below" {
  local o l1
  qemu-img create -q -f qcow2 base.qcow2 1M
  qemu-io -c 'write -P 5 0 1M' base.qcow2 >/dev/null
  for o in cluster_size=64k extended_l2=on; do
    qemu-img create -q -f qcow2 -o $o -b base.qcow2 -F qcow2 a.qcow2
    qemu-io -c 'write -P 6 0 1M' a.qcow2 >/dev/null
    l1=$(be a.qcow2 40 8)
    poke_be a.qcow2 "$l1" 8 $(((1 << 63) + (1 << 40)))
    expect_code 0 qimg check -r all a.qcow2
    [[ $stderr == *'the data at 0, '*'is lost'* ]]
    qemu-img check -q a.qcow2
    qemu-io -r -c 'read -P 0 0 1M' a.qcow2 | grep -q 'read 1048576'
  done
}
