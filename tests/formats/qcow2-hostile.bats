#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own $status
# qcow2: images that are damaged or made to do harm. Each is refused with one
# line, the documented exit code, in time; or read as far as it is whole.

load ../helpers
load common

# Offsets of header fields.
VERSION=4 BACKING_OFFSET=8 BACKING_SIZE=16 CLUSTER_BITS=20 SIZE=24 CRYPT=32
L1_SIZE=36 L1_OFFSET=40 REFTABLE_OFFSET=48 REFTABLE_CLUSTERS=56
SNAPSHOTS=60 SNAPSHOTS_OFFSET=64 INCOMPATIBLE=72 REFCOUNT_ORDER=96
HEADER_LENGTH=100

setup() {
  qemu-img create -q -f qcow2 good.qcow2 4M
  scribble good.qcow2
}

# refused CODE WORDS: qimg does not open bad.qcow2; CODE is that of native
# commands, WORDS are in the message. A check counts what QEMU's counts.
refused() {
  local args check=check
  run_apart qemu-img check bad.qcow2
  if [ "$status" = 2 ]; then
    check=
    expect_code 2 timeout -s KILL 10 "$QIMG" check bad.qcow2
  fi
  for args in info map $check 'convert -O raw' 'convert -f qcow2 -O qcow2'; do
    # shellcheck disable=SC2086 # it is several words
    case $args in
    convert*) one_line 1 $args bad.qcow2 out ;;
    *) one_line 1 $args bad.qcow2 ;;
    esac
    [[ $stderr == *"$2"* ]] || {
      printf 'no "%s" in: %s\n' "$2" "$stderr"
      return 1
    }
    [ ! -e out ]
  done
  one_line "$1" bitmap list --node bad.qcow2
  one_line "$1" bitmap add --node bad.qcow2 b
}

# bad_field FIELD BYTES VALUE CODE WORDS
bad_field() {
  echo "at $1: $3"
  cp good.qcow2 bad.qcow2
  poke_be bad.qcow2 "$1" "$2" "$3"
  cp bad.qcow2 copy.qcow2
  refused "$4" "$5"
  cmp bad.qcow2 copy.qcow2
}

@test "header: numbers out of range" {
  poke_be good.qcow2 $VERSION 4 1
  one_line 1 info -f qcow2 good.qcow2
  [[ $stderr == *'version 1'* ]]
  poke_be good.qcow2 $VERSION 4 3
  bad_field $VERSION 4 4 1 'version 4'
  bad_field $CLUSTER_BITS 4 8 4 'cluster_bits is 8'
  bad_field $CLUSTER_BITS 4 22 4 'cluster_bits is 22'
  bad_field $CLUSTER_BITS 4 30 4 'cluster_bits is 30'
  bad_field $CLUSTER_BITS 4 0xffffffff 4 'cluster_bits'
  bad_field $SIZE 8 -1 4 'size is'
  bad_field $SIZE 8 $((1 << 62)) 4 'l1_size is'
  bad_field $CRYPT 4 3 4 'crypt_method is 3'
  bad_field $REFCOUNT_ORDER 4 7 4 'refcount_order is 7'
  bad_field $HEADER_LENGTH 4 0 4 'header_length is 0'
  bad_field $HEADER_LENGTH 4 103 4 'header_length is 103'
  bad_field $HEADER_LENGTH 4 105 4 'header_length is 105'
  bad_field $HEADER_LENGTH 4 0x7ffffff8 4 'header_length'
}

@test "header: tables that are not there" {
  bad_field $L1_SIZE 4 0 4 'l1_size is 0'
  bad_field $L1_SIZE 4 0xffffffff 4 'l1_size is 4294967295'
  bad_field $L1_SIZE 4 0x80000 4 'L1 table'
  bad_field $L1_OFFSET 8 $((1 << 40)) 4 'L1 table'
  bad_field $L1_OFFSET 8 512 4 'not aligned'
  bad_field $L1_OFFSET 8 -65536 4 'L1 table'
  bad_field $REFTABLE_OFFSET 8 $((1 << 40)) 4 'refcount table'
  bad_field $REFTABLE_OFFSET 8 1 4 'not aligned'
  bad_field $REFTABLE_CLUSTERS 4 0 4 'refcount_table_clusters is 0'
  bad_field $REFTABLE_CLUSTERS 4 0xffffffff 4 'refcount_table_clusters'
  bad_field $REFTABLE_CLUSTERS 4 128 4 'refcount table'
  bad_field $SNAPSHOTS 4 65537 4 'nb_snapshots is 65537'
  poke_be good.qcow2 $SNAPSHOTS 4 1
  bad_field $SNAPSHOTS_OFFSET 8 $((1 << 40)) 4 'snapshot table'
}

@test "header: backing names" {
  poke_be good.qcow2 $BACKING_OFFSET 8 1024
  bad_field $BACKING_SIZE 4 1024 4 'backing file name'
  bad_field $BACKING_SIZE 4 0xffffffff 4 'backing file name'
  poke_be good.qcow2 $BACKING_SIZE 4 20
  bad_field $BACKING_OFFSET 8 65530 4 'backing file name'
  bad_field $BACKING_OFFSET 8 -8 4 'backing file name'
}

@test "header: extensions that are too long" {
  local at
  at=$(extension good.qcow2 6803f857)
  bad_field $((at - 4)) 4 0xffffffff 4 'header extension'
  bad_field $((at - 4)) 4 65537 4 'header extension'
}

@test "header: a feature that is not known is named" {
  local at
  bad_field $INCOMPATIBLE 8 32 1 'incompatible bit 5'
  bad_field $INCOMPATIBLE 8 $((1 << 62)) 1 'incompatible bit 62'
  at=$(extension good.qcow2 6803f857)
  poke good.qcow2 "$at + 1" '\005flux capacitor\0'
  bad_field $INCOMPATIBLE 8 32 1 'flux capacitor'
}

@test "header: truncated files" {
  local size
  for size in 4 71 72 103; do
    head -c $size good.qcow2 >bad.qcow2
    one_line 1 info -f qcow2 bad.qcow2
    one_line 1 check -f qcow2 bad.qcow2
    one_line 1 convert -f qcow2 -O raw bad.qcow2 out
  done
  head -c 65536 good.qcow2 >bad.qcow2
  refused 4 'truncated'
}

@test "data that is cut off is not made up" {
  head -c 1000000 good.qcow2 >bad.qcow2
  one_line 1 convert -O raw bad.qcow2 out
  [[ $stderr == *'is it truncated'* ]]
  # But the last cluster of a file need not be a whole one.
  qemu-img create -q -f qcow2 bad.qcow2 70000
  qemu-io -f qcow2 -c 'write -P 7 0 70000' bad.qcow2 >/dev/null
  truncate -s $(($(stat -c %s bad.qcow2) - 60000)) bad.qcow2
  same_content bad.qcow2
}

# l2_entry: where the entry of guest offset 64k is.
l2_entry() {
  echo $(($(be good.qcow2 "$(be good.qcow2 $L1_OFFSET 8)" 8) &
    0x00ffffffffffff00 + 8))
}

# bad_entry OFFSET VALUE: a table entry that leads astray. Reading fails with
# one line, or there is nothing to be read; check says what is wrong.
bad_entry() {
  echo "entry at $(($1)): $2"
  cp good.qcow2 bad.qcow2
  poke_be bad.qcow2 "$1" 8 "$2"
  one_line 1 convert -O raw bad.qcow2 out
  [[ $stderr == *bad.qcow2* ]]
  [ ! -e out ]
  run_qimg check -q bad.qcow2
  [ "$status" = 1 ] || [ "$status" = 2 ]
}

@test "L1 and L2 entries that lead astray" {
  local l1 l2
  l1=$(be good.qcow2 $L1_OFFSET 8)
  l2=$(l2_entry)
  bad_entry "$l1" $((1 << 63 | 1 << 50))
  bad_entry "$l1" $((1 << 63 | 5 << 16 | 512))
  bad_entry "$l2" $((1 << 63 | 1 << 50))
  bad_entry "$l2" $((1 << 63 | 5 << 16 | 512))
  # Compressed: outside the file; garbage inside.
  bad_entry "$l2" $((1 << 62 | 1 << 50))
  bad_entry "$l2" $((1 << 62 | 5 << 16))
}

@test "an L2 table that is the L1 table, and one that is the header" {
  local l1
  l1=$(be good.qcow2 $L1_OFFSET 8)
  for target in 0 "$l1"; do
    cp good.qcow2 bad.qcow2
    poke_be bad.qcow2 "$l1" 8 $((1 << 63 | target))
    run_qimg convert -O raw bad.qcow2 out
    [ "$status" -le 1 ]
    rm -f out
    run_qimg check -q bad.qcow2
    if [ "$target" != 0 ]; then [ "$status" = 2 ]; fi
  done
}

@test "check counts what QEMU counts" {
  local l1 l2 refblock value
  l1=$(be good.qcow2 $L1_OFFSET 8)
  l2=$(l2_entry)
  refblock=$(be good.qcow2 "$(be good.qcow2 $REFTABLE_OFFSET 8)" 8)
  same_check good.qcow2
  # Refcounts: of a data cluster 0 and 2, of the header 0, of the last 2.
  for value in '12 0' '12 2' '0 0' '31 2'; do
    cp good.qcow2 bad.qcow2
    poke_be bad.qcow2 "$refblock + 2 * ${value% *}" 2 "${value#* }"
    echo "refcount $value"
    same_check_counts bad.qcow2
  done
  # An L2 entry that is gone, one that is there twice, one without COPIED.
  for value in 0 "$(be good.qcow2 "$l2 + 8" 8)" \
    $(($(be good.qcow2 "$l2" 8) & ~(1 << 63))); do
    cp good.qcow2 bad.qcow2
    poke_be bad.qcow2 "$l2" 8 "$value"
    echo "L2 entry $value"
    same_check_counts bad.qcow2
  done
}

# Corruptions and leaks, and the exit code.
same_check_counts() {
  local code=0
  qemu-img check --output=json -f qcow2 "$1" 2>/dev/null >check.qemu || code=$?
  run_qimg check --output json "$1"
  [ "$status" = $code ]
  diff <(jq -c '[.corruptions, .leaks]' check.qemu) \
    <(jq -c '[.corruptions, .leaks]' <<<"$output")
}

@test "entries that the version or the kind of table does not have" {
  # Zero clusters in version 2.
  qemu-img create -q -f qcow2 -o compat=0.10 bad.qcow2 4M
  scribble bad.qcow2
  poke_be bad.qcow2 "$(L1=$(be bad.qcow2 $L1_OFFSET 8) &&
    be bad.qcow2 "$L1" 8) & 0x00ffffffffffff00" 8 1
  run ! qemu-io -f qcow2 -r -c 'read 0 64k' bad.qcow2
  one_line 1 map bad.qcow2
  [[ $stderr == *'version 2'* ]]
  one_line 1 convert -O raw bad.qcow2 out
  # Subclusters that are allocated in no cluster, and both ways in one.
  local l2 bits
  for bits in '0 1' "$((1 << 63 | 5 << 16)) $((1 << 32 | 1))"; do
    qemu-img create -q -f qcow2 -o extended_l2=on bad.qcow2 4M
    qemu-io -f qcow2 -c 'write 0 64k' bad.qcow2 >/dev/null
    l2=$(($(be bad.qcow2 "$(be bad.qcow2 $L1_OFFSET 8)" 8) &
      0x00ffffffffffff00))
    poke_be bad.qcow2 "$l2" 8 "${bits% *}"
    poke_be bad.qcow2 "$l2 + 8" 8 "${bits#* }"
    run ! qemu-io -f qcow2 -r -c 'read 0 64k' bad.qcow2
    one_line 1 map bad.qcow2
    [[ $stderr == *'is damaged'* ]]
    one_line 1 convert -O raw bad.qcow2 out
  done
  [ ! -e out ]
}

@test "a way of compression that is not known" {
  bad_field 104 1 2 1 'compression type 2'
  bad_field 104 1 1 4 'feature bit'
  poke_be good.qcow2 $INCOMPATIBLE 8 8
  bad_field 104 1 0 4 'feature bit'
}

@test "65535 bitmaps and 65536 snapshots are listed in time" {
  local args seconds=8 # of seconds: what is not linear takes minutes
  if [ "${QIMG_SAN-}" ]; then seconds=30; fi
  cp good.qcow2 bad.qcow2
  perl -e '
    open my $f, "+<:raw", "bad.qcow2" or die;
    read $f, my $head, 4096;
    my $at = ((-s $f) + 65535) & ~65535;
    my ($dir, $table) = ("", "");
    for my $i (1 .. 65535) {
      # Long names that are alike, some of them twice.
      my $name = "x" x 60 . ($i & ~1);
      $dir .= pack("Q> L> L> C C n L>", $at, 0, 1, 1, 16, length $name, 0);
      $dir .= $name . "\0" x (-(24 + length $name) % 8);
    }
    for my $i (0 .. 65535) {
      $table .= pack("Q> L> n n x20 L>", 196608, 1, 5, 5, 0);
      $table .= sprintf "%05d%05d", $i, $i;
      $table .= "\0" x (-length($table) % 8);
    }
    seek $f, $at, 0;
    print $f $dir, $table;
    my $len = unpack "x100 L>", $head;
    seek $f, $len, 0;
    print $f pack("L>4 Q>2", 0x23852875, 24, 65535, 0, length $dir, $at),
      substr $head, $len, 2000;
    my $snapshots = $at + length $dir;
    die if $snapshots % 8;
    seek $f, 88, 0;
    print $f pack "Q>", 1;
    # The table must be aligned to clusters.
    my $aligned = ($snapshots + length($table) + 65535) & ~65535;
    seek $f, $aligned, 0;
    print $f $table;
    seek $f, 60, 0;
    print $f pack "L> Q>", 65536, $aligned;'
  for args in 'info bad.qcow2' 'info --output json bad.qcow2' \
    'map bad.qcow2' 'snapshot -l bad.qcow2' 'bitmap list --node bad.qcow2'; do
    echo "$args"
    # Time of the processor, because others may need it, too.
    # shellcheck disable=SC2016,SC2086 # in there; it is several words
    expect_code 0 bash -c 'ulimit -t "$0" && exec "$@"' $seconds "$QIMG" $args
  done
  # Names in a table of more than 64 MiB are not taken into memory.
  poke_be bad.qcow2 $SNAPSHOTS_OFFSET 8 $((1 << 28))
  perl -e '
    open my $f, "+<:raw", "bad.qcow2" or die;
    my $at = 1 << 28;
    for (1 .. 2000) {
      seek $f, $at, 0;
      print $f pack "Q> L> n n x20 L>", 196608, 1, 65535, 65535, 0;
      $at += (40 + 2 * 65535 + 7) & ~7;
    }
    truncate $f, $at + 65536;'
  one_line 1 snapshot -l bad.qcow2
  [[ $stderr == *'more than'* ]]
  expect_code 0 timeout -s KILL 10 "$QIMG" info bad.qcow2
  [[ $stderr == *'warning: '*'more than'* ]]
}

@test "loops in chains" {
  local name
  rebase() {
    qemu-img rebase -u -f qcow2 -F qcow2 -b "$2" "$1"
  }
  loops() {
    one_line 1 info --backing-chain "$1"
    one_line 1 map "$1"
    one_line 1 convert -O raw "$1" out
    one_line 6 bitmap list --drive "$1"
    [[ $stderr == *loop* ]]
  }
  for name in a b c; do qemu-img create -q -f qcow2 $name.qcow2 1M; done
  rebase a.qcow2 a.qcow2
  loops a.qcow2
  rebase a.qcow2 b.qcow2
  rebase b.qcow2 a.qcow2
  loops a.qcow2
  # Through a link, in which each step has another name.
  mkdir sub
  ln -s ../c.qcow2 sub/link.qcow2
  rebase c.qcow2 sub/link.qcow2
  loops c.qcow2
  loops sub/link.qcow2
  rebase c.qcow2 "json:{\"file.filename\":\"$PWD/c.qcow2\"}"
  loops c.qcow2
  # The image itself can still be looked at.
  expect_code 0 qimg info c.qcow2
  expect_code 0 qimg check -q c.qcow2
}

@test "a backing file that is missing, a folder, a device, a pipe" {
  local name
  mkdir dir
  mkfifo pipe
  for name in missing dir pipe /dev/zero ssh://localhost/x; do
    cp good.qcow2 bad.qcow2
    qemu-img rebase -u -f qcow2 -F raw -b $name bad.qcow2
    one_line 1 map bad.qcow2
    one_line 1 convert -O raw bad.qcow2 out
    [[ $stderr == *"$name"* ]]
    expect_code 0 qimg check -q bad.qcow2
  done
}

@test "random damage of metadata never crashes or hangs" {
  local seed=${QIMG_SEED:-1} rounds=${QIMG_ROUNDS:-60} i args code
  qimg bitmap add --drive good.qcow2 b
  qemu-img snapshot -c s good.qcow2
  for ((i = 0; i < rounds; i++)); do
    cp good.qcow2 bad.qcow2
    perl -e '
      srand $ARGV[1];
      open my $f, "+<:raw", $ARGV[0] or die;
      for (1 .. 1 + int rand 4) {
        my $page = int rand 8;
        my $at = $page ? 65536 * $page + 8 * int rand 80 : int rand 600;
        seek $f, $at + int rand 8, 0;
        print $f chr int rand(2) ? rand 256 : (0, 1, 255)[rand 3];
      }' bad.qcow2 $((seed * 1000 + i))
    for args in 'info bad.qcow2' 'check bad.qcow2' 'map bad.qcow2' \
      'convert --force -O qcow2 bad.qcow2 out' 'graph bad.qcow2' \
      'bitmap show --drive bad.qcow2 b'; do
      code=0
      # shellcheck disable=SC2086 # it is several words
      timeout -s KILL 10 "$QIMG" $args >/dev/null 2>err || code=$?
      [ "$code" -le 6 ] || {
        echo "seed $((seed * 1000 + i)), $args: exit code $code"
        head -20 err
        return 1
      }
    done
  done
}
