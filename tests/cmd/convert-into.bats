#!/usr/bin/env bats
# qimg convert: into what is there, onto a backing file, of a part of an image,
# of a damaged one; how files are read and written.

load ../helpers
load common

# A disk of 1 MiB with one cluster of data, and one of zeroes that are written.
mksource() {
  truncate -s 1M src.raw
  write src.raw 'write -P 7 64k 64k' 'write -P 0 256k 64k' -f raw
}

# write IMG COMMAND... [-f FMT]: by qemu-io.
write() {
  local img=$1 c=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -f ]; do
    c+=(-c "$1")
    shift
  done
  qemu-io "$@" "${c[@]}" "$img" >/dev/null
}

# allocation IMG: start, length, depth, zero and data of all runs.
allocation() {
  qemu-img map -f "$(format_of "$1")" --output=json "$1" |
    sed 's/, "present": [a-z]*//; s/, "offset": [0-9]*//'
}

# as_qemu FROM TO...: convert gives the image TO as qemu-img does, all options
# the same: what is where, and what it reads as.
as_qemu() {
  local to=${*: -1}
  local theirs=theirs-$to
  [ ! -e "$to" ] || cp "$to" "$theirs"
  qemu-img convert "${@:1:$#-1}" "$theirs"
  expect_code 0 "$QIMG" convert "$@"
  [ -z "$output$stderr" ]
  oracle_equal "$to" "$theirs"
  diff <(allocation "$to") <(allocation "$theirs")
  [[ $to == *.raw ]] || oracle_check "$to"
  rm "$to" "$theirs"
}

@test "-n: what is there is written; what it has more stays" {
  mksource
  local o format
  while read -r format o; do
    qemu-img create -q -f "$format" "t.$format" 3M
    write "t.$format" 'write -P 9 0 3M' -f "$format"
    # shellcheck disable=SC2086
    as_qemu -n $o -f raw -O "$format" src.raw "t.$format"
  done <<'END'
raw
raw -S 0
qcow2
qcow2 --target-is-zero
END
}

@test "-n: the end of the source inside a cluster; the format is found" {
  truncate -s 200704 src.raw
  write src.raw 'write -P 7 100k 96k' -f raw
  qemu-img create -q -f qcow2 t.qcow2 1M
  write t.qcow2 'write -P 9 0 1M'
  expect_code 0 "$QIMG" convert -n src.raw t.qcow2
  oracle_check t.qcow2
  run_apart qemu-io -c 'read -P 0 0 100k' -c 'read -P 7 100k 96k' \
    -c 'read -P 9 196k 828k' t.qcow2
  [[ $output != *failed* ]]
  # All of it packed, in an image that is there.
  expect_code 0 "$QIMG" convert -n -c --output json src.raw t.qcow2
  json '.format == "qcow2" and .written == 135168 and .zero == 65536'
  oracle_check t.qcow2
}

@test "-n: enabled bitmaps of the target know; the inode is the same" {
  mksource
  qemu-img create -q -f qcow2 t.qcow2 2M
  qemu-img bitmap --add t.qcow2 on
  qemu-img bitmap --add --disable t.qcow2 off
  local inode
  inode=$(stat -c %i t.qcow2)
  expect_code 0 "$QIMG" convert -n --target-is-zero src.raw t.qcow2
  [ "$(stat -c %i t.qcow2)" = "$inode" ]
  expect_code 0 "$QIMG" bitmap list --output json t.qcow2
  json '[.bitmaps[] | .["dirty-bytes"]] == [131072, 0]'
  expect_code 0 "$QIMG" convert -n src.raw t.qcow2
  expect_code 0 "$QIMG" bitmap list --output json t.qcow2
  json '[.bitmaps[] | .["dirty-bytes"]] == [1048576, 0]'
  oracle_check t.qcow2
}

# refuse_all [OPTION...]: of each line, ARG...: TEXT, convert fails with TEXT,
# and no file is changed.
refuse_all() {
  local before args want
  before=$(state)
  while IFS=: read -r args want; do
    # shellcheck disable=SC2086
    expect_code 1 "$QIMG" convert "$@" $args
    complains "${want# }"
  done
  [ "$(state)" = "$before" ]
}

@test "-n: what is refused, and a dry run" {
  mksource
  truncate -s 512K small.raw
  truncate -s 2M large.raw
  refuse_all <<'END'
-n src.raw small.raw: has 524288 bytes
-n --dry-run src.raw small.raw: has 524288 bytes
-n src.raw src.raw: 'src.raw' is read
-n src.raw gone.raw: No such file
-n -O qcow2 src.raw large.raw: 'large.raw'
-n -c src.raw large.raw: no compression
-n -o size=1 src.raw large.raw: -o and -B
--target-is-zero src.raw new.raw: goes with -n
-S 1000 src.raw new.raw: multiples of 512
--skip-broken-bitmaps src.raw new.raw: --bitmaps
-t fast src.raw new.raw: fast
--bitmaps src.raw new.qcow2: no bitmaps
END
  local before
  before=$(state)
  expect_code 0 "$QIMG" convert -n --dry-run src.raw large.raw
  says "would convert 'src.raw' to 'large.raw': raw, 1 MiB"
  [ "$(state)" = "$before" ]
}

@test "-B: what the backing file has is left to it, as qemu-img does" {
  qemu-img create -q -f qcow2 base.qcow2 3M
  write base.qcow2 'write -P 5 0 3M'
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 4M
  write top.qcow2 'write -P 1 64k 64k' 'write -z 1M 64k' \
    'write -P 0 2560k 64k' 'write -P 0 3560k 64k' 'write -z 3200k 64k'
  truncate -s 4M other.raw
  write other.raw 'write -P 7 64k 64k' -f raw
  local o
  for o in "" "-S 0" -c "-o cluster_size=4k"; do
    # shellcheck disable=SC2086
    as_qemu $o -B base.qcow2 -F qcow2 -O qcow2 top.qcow2 t.qcow2
  done
  as_qemu -o backing_file=base.qcow2,backing_fmt=qcow2 -O qcow2 other.raw \
    t.qcow2
}

@test "-B: a file that is no layer of the source hides nothing, unlike there" {
  qemu-img create -q -f qcow2 base.qcow2 2M
  write base.qcow2 'write -P 5 0 2M'
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
  write top.qcow2 'write -P 1 64k 64k'
  qemu-img create -q -f qcow2 other.qcow2 1M
  expect_code 0 "$QIMG" convert -B other.qcow2 -O qcow2 top.qcow2 t.qcow2
  oracle_equal top.qcow2 t.qcow2
  # The source itself: nothing is left to be copied.
  expect_code 0 "$QIMG" convert -B top.qcow2 -O qcow2 --output json \
    top.qcow2 u.qcow2
  json '.read == 0 and .written == 0'
  oracle_equal top.qcow2 u.qcow2
}

@test "-S: how long zeroes must be to become a hole" {
  # Data of 4k, then 4k, 8k, 16k, ... of zeroes that are written.
  perl -e 'print "x" x 4096; for my $i (0 .. 8) {
    print "x" x 4096, "\0" x (4096 << $i);
  } print "x" x 4096' >src.raw
  cp src.raw more.raw
  truncate -s 3M more.raw
  local s
  for s in 4k 12k 64k 0; do
    as_qemu -f raw -S $s src.raw t.raw
    as_qemu -f raw -O qcow2 -o cluster_size=4k -S $s more.raw t.qcow2
  done
}

@test "-l: a snapshot of the source, by name or id, of the size it had" {
  mkimage s.qcow2 2M 1
  cp s.qcow2 old.qcow2
  qemu-img snapshot -c one s.qcow2
  write s.qcow2 'write -P 2 1M 1M'
  qemu-img resize -q s.qcow2 3M
  write s.qcow2 'write -P 2 2M 1M'
  qemu-img snapshot -c two s.qcow2
  local name
  for name in one 1; do
    expect_code 0 "$QIMG" convert --force -l $name -O qcow2 s.qcow2 t.qcow2
    oracle_equal old.qcow2 t.qcow2
    qemu-img info t.qcow2 | grep -q "(2097152 bytes)"
  done
  expect_code 0 "$QIMG" convert -l two s.qcow2 t.raw
  oracle_equal s.qcow2 t.raw
  expect_code 1 "$QIMG" convert -l three s.qcow2 u.raw
  complains "no internal snapshot 'three'"
  expect_code 1 "$QIMG" convert -l one t.raw u.raw
  complains "raw format" "snapshots"
  [ ! -e u.raw ]
}

@test "--bitmaps: names, granularity, state and bits" {
  qemu-img create -q -f qcow2 s.qcow2 64M
  qemu-img bitmap --add s.qcow2 a
  qemu-img bitmap --add -g 128k s.qcow2 b
  write s.qcow2 'write -P 7 1M 1M'
  qemu-img bitmap --disable s.qcow2 b
  write s.qcow2 'write -P 7 4M 1M'
  expect_code 0 "$QIMG" bitmap list --output json s.qcow2
  local want o
  want=$(jq -c '[.bitmaps[] | [.name, .granularity, .state,
    .["dirty-bytes"]]]' <<<"$output")
  for o in -c "-o data_file=t.raw" "-n"; do
    [ "$o" = -n ] && qemu-img create -q -f qcow2 t.qcow2 64M
    # shellcheck disable=SC2086
    expect_code 0 "$QIMG" convert --force --bitmaps -O qcow2 $o s.qcow2 t.qcow2
    oracle_check t.qcow2
    oracle_equal s.qcow2 t.qcow2
    expect_code 0 "$QIMG" bitmap list --output json t.qcow2
    json --argjson want "$want" '[.bitmaps[] | [.name, .granularity, .state,
      .["dirty-bytes"]]] == $want'
  done
  qemu-img create -q -f qcow2 v.qcow2 65M
  refuse_all --bitmaps <<'END'
-n s.qcow2 t.qcow2: 't.qcow2' has a bitmap 'a' already
-n s.qcow2 v.qcow2: 'b': it is of a disk of 67108864
s.qcow2 u.raw: 'u.raw' is in raw format, which has no bitmaps
-O qcow2 -o compat=0.10 s.qcow2 u.qcow2: 'u.qcow2' cannot hold bitmaps
END
}

@test "--skip-broken-bitmaps: those that a writer did not close" {
  qemu-img create -q -f qcow2 s.qcow2 1M
  qemu-img bitmap --add s.qcow2 broken
  hold_image s.qcow2
  crash_holder
  qemu-img bitmap --add s.qcow2 good
  refuses 1 convert --bitmaps -O qcow2 s.qcow2 t.qcow2 : "bitmap 'broken'" \
    --skip-broken-bitmaps "qimg bitmap remove"
  expect_code 0 "$QIMG" convert --bitmaps --skip-broken-bitmaps --output json \
    -O qcow2 s.qcow2 t.qcow2
  [[ $stderr == "qimg: warning: bitmap 'broken' is left out:"* ]]
  json '.["skipped-bitmaps"] == ["broken"]'
  expect_code 0 "$QIMG" bitmap list t.qcow2
  [[ $output == *good* && $output != *broken* ]]
}

@test "--salvage: what cannot be read is zero, and no more is lost" {
  tr '\0' a </dev/zero | head -c 2M >src.raw
  qimg convert -O qcow2 -c src.raw s.qcow2
  # A packed cluster, and the place of another.
  perl -e 'open my $f, "+<:raw", "s.qcow2" or die;
    sub at { seek $f, $_[0], 0; read $f, my $b, 8; unpack "Q>", $b }
    my $l2 = at(at(40)) & 0xfffffffffffe00;
    seek $f, at($l2 + 3 * 8) & (1 << 54) - 1, 0;
    print $f "\xff" x 40;
    seek $f, $l2 + 20 * 8, 0;
    print $f pack "Q>", 1 << 63 | 3 << 9;
    close $f'
  refuses 1 convert s.qcow2 t.raw : "'s.qcow2' is damaged"
  expect_code 0 "$QIMG" convert --salvage --output json s.qcow2 t.raw
  [[ $stderr == *"'s.qcow2' at 196608: it is damaged; 65536 bytes"* ]]
  [[ $stderr == *"'s.qcow2' at 1310720: it is damaged; 65536 bytes"* ]]
  json '.lost >= 131072 and .lost <= 196608'
  dd if=/dev/zero of=src.raw bs=64k seek=3 count=1 conv=notrunc status=none
  dd if=/dev/zero of=src.raw bs=64k seek=20 count=1 conv=notrunc status=none
  [ "$(cmp -l src.raw t.raw | wc -l)" -le 65536 ]
}

@test "-r: no more bytes a second than that" {
  head -c 2M /dev/urandom >src.raw
  local start=${EPOCHREALTIME/./}
  expect_code 0 "$QIMG" convert -r 2M -O qcow2 src.raw t.qcow2
  [ $((${EPOCHREALTIME/./} - start)) -ge 400000 ]
  oracle_equal src.raw t.qcow2
}

# traced CALLS FILE COMMAND...: the system calls that it makes, to the file. Leaks
# cannot be looked for in a process that is traced.
traced() {
  ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0 \
    strace -f -e trace="$1" -o "$2" "${@:3}"
}

@test "-t, -T: direct access, syncs at each write, or none" {
  command -v strace >/dev/null || skip "there is no strace"
  mkimage s.qcow2 2M 1
  local mode direct least most syncs
  while read -r mode direct least most; do
    traced openat,fdatasync "$mode.trace" \
      "$QIMG" convert --force -t "$mode" -T "$mode" -O qcow2 s.qcow2 t.qcow2
    oracle_check t.qcow2
    oracle_equal s.qcow2 t.qcow2
    [ "$(grep -c 'O_DIRECT|.* = [0-9]' "$mode.trace")" = "$direct" ]
    syncs=$(grep -c fdatasync "$mode.trace")
    echo "$mode: $syncs syncs"
    [ "$syncs" -ge "$least" ]
    [ "$syncs" -le "$most" ]
  done <<'END'
writeback 0 2 3
none 2 2 3
writethrough 0 9 99
directsync 2 9 99
unsafe 0 1 1
END
}

@test "what is written in place is not written out when it is closed" {
  command -v strace >/dev/null || skip "there is no strace"
  local name emptied
  mkimage s.qcow2 2M 1
  cp s.qcow2 old.qcow2
  ln -s "$QIMG" qemu-img
  # ext4 does so with a file that it was told to empty, unless somebody has
  # closed that while it was empty.
  for name in new old; do
    traced openat,ftruncate,close,pwrite64 trace \
      ./qemu-img convert -O qcow2 s.qcow2 $name.qcow2
    oracle_equal s.qcow2 $name.qcow2
    sed -n "/\"$name.qcow2\"/,/pwrite64/p" trace >start
    echo "$name" && cat start
    grep -q pwrite64 start
    emptied=$(grep -c 'ftruncate(.*, 0)' start) || true
    [ "$name $emptied" = "new 0" ] || [ "$name $emptied" = "old 1" ]
  done
  [[ $(sed -n '/ftruncate(.*, 0)/,$p' start) == *close* ]]
}

@test "-n: behind the end of the source a cluster keeps what it has" {
  truncate -s $((2 * 1048576 + 512)) src.raw
  qemu-img create -q -f qcow2 t.qcow2 3M
  write t.qcow2 'write -P 9 0 3M'
  as_qemu -n -f raw -O qcow2 src.raw t.qcow2
}

@test "-B: a file of the chain is no base in another format" {
  qemu-img create -q -f qcow2 base.qcow2 1M
  write base.qcow2 'write -P 3 0 1M'
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2
  qimg convert -O qcow2 -B base.qcow2 -F raw over.qcow2 new.qcow2
  oracle_equal over.qcow2 new.qcow2
}

@test "the drop-in: nothing is made of itself, and what is there stays" {
  ln -s "$QIMG" qemu-img
  local name='json:{"driver":"qcow2",
    "file":{"driver":"file","filename":"top.qcow2"},
    "backing":{"driver":"qcow2",
    "file":{"driver":"file","filename":"old.qcow2"}}}'
  qemu-img create -q -f qcow2 old.qcow2 1M
  qemu-img create -q -f qcow2 top.qcow2 1M
  cp old.qcow2 self.qcow2
  expect_code 1 ./qemu-img create -f qcow2 -b ./self.qcow2 -F qcow2 self.qcow2
  [[ $stderr == *"would rest on itself"* ]]
  cmp old.qcow2 self.qcow2
  expect_code 1 ./qemu-img convert -U -O qcow2 self.qcow2 self.qcow2
  cmp old.qcow2 self.qcow2
  # A layer below that the image does not name.
  expect_code 1 ./qemu-img commit -b other.qcow2 "$name"
  [[ $stderr == *"Did not find 'other.qcow2' in the backing chain"* ]]
}

@test "--salvage is not for what cannot be read at all" {
  qemu-img create -q -f vmdk v.vmdk 1M
  refuses 1 convert --salvage -O raw v.vmdk v.raw : "is not supported"
  [ ! -e v.raw ]
}
