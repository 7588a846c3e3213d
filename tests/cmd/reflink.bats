#!/usr/bin/env bats
# Where a file system lets files share blocks, data is not copied.

load ../helpers
load common

teardown() {
  unmount_small
}

# kib FILE [shared]: KiB of it that are no holes, or are in other files, too.
kib() {
  filefrag -sv -b1024 "$1" | awk -F: -v what="$2" '
    $1 + 0 == $1 && $NF ~ what { sum += $4 } END { print sum + 0 }'
}

# shared FILE MIN [MAX]: so many KiB of it are in other files, too.
shared() {
  local n
  n=$(kib "$1" shared)
  [ "$n" -ge "$2" ] && [ "$n" -le "${3-$n}" ] || {
    echo "$1: $n KiB are shared"
    return 1
  }
}

# mkdata FILE SIZE SEED: long runs of data, with holes and zeroes between them.
mkdata() {
  perl -e '
    my ($file, $mib, $seed) = @ARGV;
    srand $seed;
    my $noise = pack "L*", map { 1 + int rand 4294967295 } 1 .. 1 << 18;
    open my $out, ">:raw", $file or die "$file: $!\n";
    for my $i (0 .. $mib - 1) {
      next if $i % 4 == 3;
      seek $out, $i << 20, 0;
      print $out $i % 4 == 2 ? "\0" x (1 << 20) : $noise ^ chr($i) x (1 << 20);
    }
    truncate $out, $mib << 20;
    close $out or die "$file: $!\n";
  ' "$@"
}

# in_both WHAT: the test, once on each file system, in ./small.
in_both() {
  local type
  for type in xfs btrfs; do
    sharing_disk $type
    echo "--- $type"
    (cd small && "$@")
    unmount_small
    rmdir small
  done
}

to_qcow2() {
  local o least n=0
  mkdata a.raw 16 1
  # The end is no whole block, not even a sector.
  printf x >>a.raw
  while read -r least o; do
    n=$((n + 1))
    # shellcheck disable=SC2086
    qimg convert -f raw -O qcow2 $o a.raw $n.qcow2
    oracle_check $n.qcow2
    oracle_equal a.raw $n.qcow2
    shared $n.qcow2 "$least"
  done <<'END'
8192
8192 -m 1
8192 -o cluster_size=4k
8192 -o cluster_size=2M
8192 -o extended_l2=on
8192 -o preallocation=metadata
0 -o cluster_size=512
END
  qimg convert -O qcow2 -o data_file=d.raw,data_file_raw=on a.raw d.qcow2
  oracle_equal a.raw d.qcow2
  shared d.raw 8192
  # The same as where nothing can be shared, and with other threads.
  qimg convert -O qcow2 -S 4k a.raw apart.qcow2
  shared apart.qcow2 0 0
  cmp 1.qcow2 apart.qcow2
  cmp 1.qcow2 2.qcow2
}

@test "raw to qcow2: the same image, but shared" {
  in_both to_qcow2
}

to_raw() {
  mkdata a.raw 16 2
  truncate -s $((16 * 1048576 - 100)) a.raw
  qimg convert -f raw a.raw b.raw
  # Its size is one of whole sectors.
  truncate -s %512 a.raw
  cmp a.raw b.raw
  shared b.raw 8000
  # Zeroes are found.
  [ "$(kib b.raw)" -lt 9000 ]
  # A chain with all kinds of clusters, in no order.
  qemu-img convert -O qcow2 a.raw base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
  write top.qcow2 'write -P 5 7M 64k' 'write -P 6 1M 1M' 'write -z 4M 192k' \
    'write -P 7 5000k 3k' 'write -P 8 256k 192k' 'write -P 9 8M 64k' \
    'write -c -P 10 9M 64k' 'write -P 11 9280k 64k'
  qemu-img snapshot -c s base.qcow2
  qimg convert top.qcow2 c.raw
  oracle_equal top.qcow2 c.raw
  shared c.raw 7000
  qimg convert -O qcow2 top.qcow2 c.qcow2
  oracle_check c.qcow2
  oracle_equal top.qcow2 c.qcow2
  shared c.qcow2 7000
  # What is written to one of them is not in the other one.
  sha256sum base.qcow2 top.qcow2 >before
  qemu-io -f raw -c 'write -P 99 0 16773120' c.raw >/dev/null
  write c.qcow2 'write -P 99 0 16773120'
  sha256sum --quiet -c before
  # Clusters of the source that are no blocks.
  qemu-img convert -O qcow2 -o cluster_size=512 a.raw small.qcow2
  qimg convert small.qcow2 d.raw
  cmp a.raw d.raw
}

@test "to raw, and from chains" {
  in_both to_raw
}

not_shared() {
  local o
  mkdata a.raw 16 3
  sync a.raw
  while read -r o; do
    # shellcheck disable=SC2086
    qimg convert -f raw -O ${o} a.raw x
    shared x 0 0
    oracle_equal a.raw x
    rm x
  done <<'END'
raw -S 0
raw -S 4k
raw -o preallocation=full
raw -o preallocation=falloc
raw --salvage
raw -r 1G
qcow2 -o preallocation=falloc
qcow2 -c
END
  ln -s "$QIMG" qemu-img
  ./qemu-img dd -f raw -O raw if=a.raw of=x
  shared x 0 0
  rm x
  # There may be room that was kept for what is written there.
  fallocate -l 16M x
  qimg convert -n -f raw -O raw a.raw x
  cmp a.raw x
  shared x 0 0
  # The zeroes among the data are not looked for.
  for o in 'qimg convert' './qemu-img convert'; do
    rm x
    $o -C -f raw -O raw a.raw x
    cmp a.raw x
    shared x $((12 * 1024 - 64))
  done
}

@test "what wants room of its own, or all of the bytes, is copied" {
  in_both not_shared
}

each_failure() {
  local n
  mkdata a.raw 16 4
  mkdir drive
  mv a.raw drive
  qimg convert -O qcow2 drive/a.raw want.qcow2
  for n in 1 2; do
    QIMG_FAULT=clone:$n:22 qimg convert -O qcow2 drive/a.raw x.qcow2
    fault_fired
    cmp want.qcow2 x.qcow2
    shared x.qcow2 0 8191
    rm x.qcow2
  done
  each_fault "$QIMG" convert -m 1 -O qcow2 a.raw b.qcow2
}

look() {
  if [ "$status" = 0 ] || [ -e b.qcow2 ]; then
    oracle_check b.qcow2
    oracle_equal a.raw b.qcow2
  fi
}

@test "a copy where sharing fails; nothing is left of a failure" {
  sharing_disk xfs
  (BATS_TEST_TMPDIR=$PWD/small && cd small && each_failure)
}
