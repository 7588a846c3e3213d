#!/usr/bin/env bats
# qemu-img measure and bench: the numbers and the content that QEMU's have.

load ../../helpers

setup() {
  mkdir bin
  ln -s "$QIMG" bin/qemu-img
}

# same ARG...: both say the same and exit with the same code.
same() {
  local code=0
  run_apart "$BATS_TEST_TMPDIR/bin/qemu-img" measure "$@"
  /usr/bin/qemu-img measure "$@" >want 2>want.err || code=$?
  [ "$status" = $code ]
  [ "$output" = "$(<want)" ]
  [ "$stderr" = "$(<want.err)" ]
}

@test "measure: sizes, whatever the options" {
  local args
  while read -r args; do
    # shellcheck disable=SC2086
    same -O qcow2 $args
  done <<'END'
--size 0
--size 1 -o cluster_size=512
--size 65537 -o extended_l2=on,refcount_bits=1
--size 5G -o cluster_size=4k,refcount_bits=64
--size 7T -o cluster_size=2M,extended_l2=on
--size 1G -o compat=0.10,preallocation=falloc
--output=json --size 1T -o refcount_bits=1
--size 1P -o cluster_size=512
--size 1G -o cluster_size=3k
--size 1G -o compat=what
--size 1G -o refcount_bits=1,compat=0.10
--size 1G -o preallocation=what
END
  same --size 1000
}

@test "measure: what an image has, in all its layers, and its bitmaps" {
  qemu-img create -q -f qcow2 base.qcow2 20M
  qemu-io -c 'write -P 1 0 300k' -c 'write -P 1 7M 300k' base.qcow2 >/dev/null
  qemu-img create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 \
    top.qcow2 33000k
  qemu-io -c 'write -P 3 1M 9k' -c 'write -z 7M 100k' -c 'write -P 1 25M 4k' \
    -c 'write -c -P 1 26M 4k' top.qcow2 >/dev/null
  qemu-img bitmap --add top.qcow2 b
  qemu-img bitmap --add -g 4k top.qcow2 a-name-that-is-longer
  qemu-img create -q -f qcow2 -o preallocation=metadata full.qcow2 10M
  qemu-io -c 'write -P 3 1M 9k' full.qcow2 >/dev/null
  truncate -s 3000100 sparse.raw
  local args
  while read -r args; do
    # shellcheck disable=SC2086
    same $args
  done <<'END'
-O qcow2 top.qcow2
-O qcow2 -o cluster_size=512 top.qcow2
-O qcow2 -o cluster_size=2M,compat=0.10 top.qcow2
-O qcow2 -o backing_file=what top.qcow2
-O raw top.qcow2
-O qcow2 full.qcow2
-O qcow2 -f raw sparse.raw
-O qcow2 -o preallocation=full -f raw sparse.raw
END
}

@test "measure: a disk of 1 TiB of which all is mapped" {
  qimg create -q -f qcow2 -o preallocation=metadata big.qcow2 1T
  run_apart bin/qemu-img measure -O qcow2 -o cluster_size=2M big.qcow2
  [ "$output" = "required size: 12582912
fully allocated size: 1099524210688
bitmaps size: 0" ]
}

@test "bench: what is written, in which format, how many at once" {
  local format args
  for format in raw qcow2; do
    /usr/bin/qemu-img create -q -f $format want 1M
    /usr/bin/qemu-img create -q -f $format got 1M
    while read -r args; do
      # shellcheck disable=SC2086
      /usr/bin/qemu-img bench -q -w -f $format $args want
      # shellcheck disable=SC2086
      expect_code 0 bin/qemu-img bench -q -w -f $format $args got
      /usr/bin/qemu-img compare -q -f $format -F $format want got
    done <<'END'
-c 10 -d 2 --flush-interval 4 --pattern 1
-c 10 -d 2 --flush-interval 4 --no-drain -o 64k --pattern 2
-c 4 -s 64k -S 300k --pattern 3
-c 100 -s 7k -S 9k --pattern 4 -t none
-c 15 -s 64k -o 3k --pattern 5 -d 1
END
    /usr/bin/qemu-img check -q -f $format got || [ $format = raw ]
    expect_code 1 bin/qemu-img bench -q -w -f $format -c 1 -o 2M got
    [ "$stderr" = "qemu-img: Failed request: Input/output error" ]
    rm want got
  done
}
