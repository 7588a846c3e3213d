#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own $status
# Where a file system lets files share blocks, data is not copied.

load ../helpers
load common

teardown() {
  unmount_small
}

# kib FILE [shared]: KiB of it that are no holes, or are in other files, too.
kib() {
  filefrag -sv -b1024 "$1" | awk -F: -v what="$2" '
    $1 + 0 == $1 && $NF ~ what && $NF !~ /unwritten/ { sum += $4 } END { print sum + 0 }'
}

# shared FILE MIN [MAX]: so many KiB of it are in other files, too.
shared() {
  local n
  n=$(kib "$1" shared)
  if [ "$n" -lt "$2" ] || [ "$n" -gt "${3-$n}" ]; then
    echo "$1: $n KiB are shared"
    return 1
  fi
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
# on TYPE WHAT...: do that in ./small, a file system of this type.
on() {
  sharing_disk "$1"
  (cd small && "${@:2}")
  unmount_small
  rmdir small
}

to_qcow2() {
  local o least n=0
  mkdata a.raw 8 1
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
4096 -m 4
4096 -o cluster_size=4k
4096 -o cluster_size=2M
4096 -o extended_l2=on,preallocation=metadata
0 -o cluster_size=512
END
  qimg convert -O qcow2 -o data_file=d.raw,data_file_raw=on a.raw d.qcow2
  oracle_equal a.raw d.qcow2
  shared d.raw 4096
  # The same as where nothing is shared, and with one thread.
  qimg convert -O qcow2 -S 4k a.raw apart.qcow2
  shared apart.qcow2 0 0
  cmp 1.qcow2 apart.qcow2
  qimg convert -m 1 -O qcow2 a.raw alone.qcow2
  cmp 1.qcow2 alone.qcow2
}

@test "raw to qcow2: the same image, but shared" {
  on xfs to_qcow2
  on btrfs to_qcow2
}

to_raw() {
  mkdata a.raw 8 2
  # The last sector is not a whole one.
  truncate -s $((9 * 1048576 - 100)) a.raw
  printf x | dd of=a.raw bs=1 seek=$((9 * 1048576 - 101)) conv=notrunc status=none
  qimg convert -f raw a.raw b.raw
  truncate -s %512 a.raw
  cmp a.raw b.raw
  shared b.raw 4096
  # Zeroes are found.
  [ "$(kib b.raw)" -lt 4200 ]
  # A chain with all kinds of clusters, in no order.
  qemu-img convert -O qcow2 a.raw base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
  write top.qcow2 'write -P 5 5M 64k' 'write -P 6 1M 512k' 'write -z 4M 192k' \
    'write -P 7 5000k 3k' 'write -P 8 256k 192k' 'write -P 9 8M 64k' \
    'write -c -P 10 5248k 64k' 'write -P 11 5440k 64k'
  qimg convert top.qcow2 c.raw
  oracle_equal top.qcow2 c.raw
  shared c.raw 3400
  qimg convert -O qcow2 top.qcow2 c.qcow2
  oracle_check c.qcow2
  oracle_equal top.qcow2 c.qcow2
  shared c.qcow2 3400
  # What is written to one of them is not in the other one.
  sha256sum base.qcow2 top.qcow2 >before
  printf '%1048576s' x | dd of=c.raw conv=notrunc status=none
  write c.qcow2 'write -P 99 0 8M'
  sha256sum --quiet -c before
  # Clusters of the source that are no blocks.
  qemu-img convert -O qcow2 -o cluster_size=512 a.raw small.qcow2
  qimg convert small.qcow2 d.raw
  cmp a.raw d.raw
}

@test "to raw, and from chains" {
  on xfs to_raw
  on btrfs to_raw
}

not_shared() {
  local o
  mkdata a.raw 8 3
  while read -r o; do
    # shellcheck disable=SC2086
    qimg convert -f raw $o a.raw x
    shared x 0 0
    [[ $o != *raw* ]] || cmp a.raw x
    rm x
  done <<'END'
-O raw -S 0
-O raw -S 4k
-O raw -o preallocation=full
-O raw -o preallocation=falloc
-O raw --salvage
-O raw -r 1G
-O qcow2 -o preallocation=falloc
-O qcow2 -c
END
  ln -s "$QIMG" qemu-img
  ./qemu-img dd -f raw -O raw if=a.raw of=x
  shared x 0 0
  rm x
  # There may be room that was kept for what is written there.
  fallocate -l 8M x
  qimg convert -n -f raw -O raw a.raw x
  cmp a.raw x
  shared x 0 0
  # The zeroes among the data are not looked for.
  for o in qimg ./qemu-img; do
    rm x
    $o convert -C -f raw -O raw a.raw x
    cmp a.raw x
    shared x $((6 * 1024))
  done
}

@test "what wants room of its own, or all of the bytes, is copied" {
  on xfs not_shared
}

each_failure() {
  mkdir drive
  mkdata drive/a.raw 8 4
  qimg convert -O qcow2 drive/a.raw want.qcow2
  shared want.qcow2 4096
  QIMG_FAULT=clone:1:EIO qimg convert -O qcow2 drive/a.raw x.qcow2
  fault_fired
  cmp want.qcow2 x.qcow2
  shared x.qcow2 1024 3072
  least=8 each_fault "$QIMG" convert -m 1 -O qcow2 a.raw b.qcow2
}

look() {
  if [ "$status" = 0 ] || [ -e b.qcow2 ]; then
    cmp b.qcow2 ../want.qcow2
  fi
}

@test "what cannot be shared after all is written; failures leave nothing" {
  sharing_disk btrfs
  (
    export BATS_TEST_TMPDIR=$PWD/small
    cd small
    each_failure
  )
}
