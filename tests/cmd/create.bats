#!/usr/bin/env bats
# qimg create: empty images that qemu-img finds good.

load ../helpers
load common

teardown() {
  unmount_small
}

# same_info OURS THEIRS: but for name and place, qemu-img sees no difference.
same_info() {
  diff <(qemu-img info --output json "$1" |
    jq -S 'del(.. | .filename?, ."actual-size"?, .children?)') \
    <(qemu-img info --output json "$2" |
      jq -S 'del(.. | .filename?, ."actual-size"?, .children?)')
}

@test "qcow2 with each option: as qemu-img makes it" {
  local o
  while read -r o; do
    # shellcheck disable=SC2086
    expect_code 0 "$QIMG" create -f qcow2 $o a.qcow2 10M
    [ "$output" = "created 'a.qcow2': qcow2, 10 MiB" ]
    [ -z "$stderr" ]
    # shellcheck disable=SC2086
    qemu-img create -q -f qcow2 $o b.qcow2 10M
    same_info a.qcow2 b.qcow2
    oracle_check a.qcow2
    qemu-io -f qcow2 -c 'write -P 5 1M 3M' -c 'read -P 5 1M 3M' \
      -c 'read -P 0 0 1M' -c 'read -P 0 4M 6M' a.qcow2 >/dev/null
    oracle_check a.qcow2
    rm a.qcow2 b.qcow2
  done <<'END'

-o cluster_size=4k
-o cluster_size=512
-o cluster_size=2M
-o compat=0.10
-o compat=v3,lazy_refcounts=on
-o compression_type=zstd
-o refcount_bits=1
-o refcount_bits=64
-o cluster_size=128k -o refcount_bits=32
END
}

@test "raw: a hole of the right size" {
  expect_code 0 "$QIMG" create a.raw 10M
  [ "$output" = "created 'a.raw': raw, 10 MiB" ]
  [ "$(stat -c '%s %b' a.raw)" = "10485760 0" ]
  expect_code 0 "$QIMG" create -f raw b.raw 1000
  [ "$(stat -c %s b.raw)" = 1024 ]
}

@test "sizes: 0, odd, from -o, large" {
  local n
  for n in 0 1 512 1000 65537 1T; do
    qimg create -q -f qcow2 a.qcow2 "$n"
    qemu-img create -q -f qcow2 b.qcow2 "$n"
    same_info a.qcow2 b.qcow2
    rm a.qcow2
  done
  expect_code 0 "$QIMG" create -f qcow2 -o size=3M c.qcow2
  [ "$(qemu-img info --output json c.qcow2 | jq '."virtual-size"')" = 3145728 ]
  refuses 1 create -f qcow2 d.qcow2 : "the size of 'd.qcow2' is not given"
  refuses 1 create -f qcow2 d.qcow2 7E : "too large"
  refuses 1 create -f qcow2 -o size=3M d.qcow2 3M : "'d.qcow2'" "twice"
  refuses 1 create -o size=3M d.raw 3M : "'d.raw'" "twice"
}

@test "-b, -F: an overlay, its size that of what is below" {
  mkimage base.qcow2 3M 1
  mkdir deep
  expect_code 0 "$QIMG" create -f qcow2 -b base.qcow2 -F qcow2 a.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 b.qcow2
  same_info a.qcow2 b.qcow2
  oracle_equal a.qcow2 base.qcow2
  # The name is seen from the overlay.
  qimg create -q -f qcow2 --backing=../base.qcow2 --backing-format qcow2 \
    deep/c.qcow2
  oracle_equal deep/c.qcow2 base.qcow2
  qimg create -q -f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 d.qcow2
  same_info d.qcow2 b.qcow2
  qimg create -q -f qcow2 -b base.qcow2 -F qcow2 longer.qcow2 5M
  [ "$(qemu-img info --output json longer.qcow2 | jq '."virtual-size"')" = \
    5242880 ]
  refuses 1 create -f qcow2 -b base.qcow2 -F qcow2 deep/e.qcow2 : \
    "cannot use the backing file" "'deep/base.qcow2'"
  refuses 1 create -f raw -b base.qcow2 -F qcow2 e.raw : "backing"
  refuses 1 create -f raw -F qcow2 e.raw 1M : "backing"
}

@test "-u: the backing file is not looked at" {
  refuses 1 create -f qcow2 -b gone.qcow2 -F qcow2 a.qcow2 1M : \
    "'gone.qcow2'" "No such file"
  expect_code 0 "$QIMG" create -f qcow2 -u -b gone.qcow2 -F qcow2 a.qcow2 1M
  [ "$(qemu-img info --output json a.qcow2 | jq -r '."backing-filename"')" = \
    gone.qcow2 ]
  refuses 1 create --backing-unsafe -f qcow2 -b gone.qcow2 -F qcow2 b.qcow2 : \
    "size"
}

@test "-o help lists the options; unknown ones are refused" {
  expect_code 0 "$QIMG" create -f qcow2 -o help
  says "cluster_size=<size>" "compat=<str>"
  expect_code 0 "$QIMG" create -o help
  says "size=<size>"
  [[ $output != *cluster* ]]
  # All that qemu-img has, by the same names, and one of ours.
  local f
  for f in qcow2 raw; do
    diff <(qemu-img create -f "$f" -o help x | grep -o '^  [^=]*') \
      <(qimg create -f "$f" -o help | grep -o '^  [^=]*' |
        grep -v compression_level)
  done
  expect_code 0 "$QIMG" create -f qcow2 -o 'compat=1.1,?'
  says "cluster_size=<size>"
  refuses 1 create -f nothing -o help : "unknown format 'nothing'"
  refuses 1 create -f nothing a 1M : "unknown format 'nothing'"
  refuses 1 create -f qcow2 -o foo=1 a 1M : "unknown option 'foo'" \
    "'-f qcow2 -o help'"
  local o
  for o in cluster_size=3k cluster_size=4M cluster_size=x compat=2 \
    refcount_bits=3 lazy_refcounts=maybe compression_type=rar \
    lazy_refcounts=on,compat=0.10; do
    refuses 1 create -f qcow2 -o "$o" a 1M : "'${o%%=*}'"
  done
  refuses 1 create -f qcow2 -o size=x a : "'size'"
  refuses 1 create -f raw -o cluster_size=4k a 1M : "'cluster_size'"
}

@test "an existing file is kept without --force" {
  mkimage a.qcow2 1M 1
  refuses 1 create -f qcow2 a.qcow2 1M : "'a.qcow2' exists already" "--force"
  expect_code 0 "$QIMG" create --force -f qcow2 a.qcow2 2M
  [ "$(qemu-img info --output json a.qcow2 | jq '."virtual-size"')" = 2097152 ]
  # A link is followed, not replaced.
  ln -s a.qcow2 link
  refuses 1 create -f qcow2 link 1M : "'link' exists already"
  qimg create -q --force -f qcow2 link 1M
  [ -L link ]
  [ "$(qemu-img info --output json a.qcow2 | jq '."virtual-size"')" = 1048576 ]
  no_hidden_files
}

@test "an image in use is not replaced, not even with --force" {
  mkimage a.qcow2 1M 1
  hold_image a.qcow2
  refuses 1 create --force -f qcow2 a.qcow2 1M : "'a.qcow2' is in use" \
    "$HOLD_PID (qemu-io)"
  release_image
}

@test "-n, --output json, -q" {
  expect_code 0 "$QIMG" create --dry-run -f qcow2 a.qcow2 1M
  [ "$output" = "would create 'a.qcow2': qcow2, 1 MiB" ]
  expect_code 0 "$QIMG" create -n --output json -f qcow2 a.qcow2 1M
  json '.qimg and .filename == "a.qcow2" and .format == "qcow2" and
    .["virtual-size"] == 1048576 and .["dry-run"]'
  [ -z "$(ls -A)" ]
  refuses 1 create -n -f qcow2 no/a.qcow2 1M : "'no/a.qcow2'"
  refuses 1 create -n -f qcow2 -o foo=1 a.qcow2 1M : "'foo'"
  expect_code 0 "$QIMG" create --output=json b.raw 1M
  json '.["dry-run"] == false and .format == "raw"'
  refuses 1 create -n b.raw 1M : "exists already"
  expect_code 0 "$QIMG" create --quiet c.raw 1M
  [ -z "$output$stderr" ]
}

@test "where nothing can be made: one message, nothing left" {
  : >file
  refuses 1 create -f qcow2 no/such/a.qcow2 1M : "'no/such/a.qcow2'" \
    "No such file or directory"
  refuses 1 create file/a.raw 1M : "'file/a.raw'" "Not a directory"
  # Not even root makes files there.
  refuses 1 create /proc/a.raw 1M : "'/proc/a.raw'"
  mkdir folder
  refuses 1 create folder 1M : "'folder'"
  refuses 1 create --force folder 1M : "'folder'"
  refuses 1 create --force /dev/null 1M : "'/dev/null'" "device"
  mkloop
  refuses 1 create -f qcow2 -b a.qcow2 -F qcow2 c.qcow2 : "loop"
  mkimage cut.qcow2 1M 1
  truncate -s 100 cut.qcow2
  refuses 1 create -f qcow2 -b cut.qcow2 -F qcow2 c.qcow2 : "cut.qcow2"
}

@test "any write that fails: no file, none hidden either" {
  local call n
  for call in write:1 write:2 write:3 write:4 sync:1 rename:1 open:1; do
    QIMG_FAULT=$call:ENOSPC refuses 1 create -f qcow2 a.qcow2 1M : \
      "'a.qcow2'" "No space left on device"
  done
  QIMG_FAULT=truncate:1:EIO refuses 1 create a.raw 1M : "'a.raw'"
}

@test "no space" {
  small_disk 16k
  refuses 1 create -f qcow2 small/a.qcow2 1M : "'small/a.qcow2'" \
    "No space left on device"
}
