#!/usr/bin/env bats
# raw: bytes and holes.

load ../helpers
load common

@test "holes, zeroes and data" {
  mkpattern a.raw 9M 21
  same_content a.raw raw
  same_map a.raw raw
  cp --sparse=never a.raw full.raw
  same_map full.raw raw
  cmp <(qimg convert -q -f raw -O raw full.raw out.raw && cat out.raw) a.raw
}

@test "sizes that are no multiple of a sector" {
  local size
  for size in 0 1 511 512 513 65535 1000001; do
    head -c "$size" /dev/urandom >a.raw
    same_content a.raw raw
    same_map a.raw raw
    [ "$(qimg info -f raw --output json a.raw | jq '."virtual-size"')" = \
      $(((size + 511) / 512 * 512)) ]
  done
}

@test "a file that is one hole, and one that ends with a hole" {
  truncate -s 3M a.raw
  same_map a.raw raw
  same_content a.raw raw
  printf x | dd of=a.raw bs=1 seek=100000 conv=notrunc status=none
  truncate -s 3333333 a.raw
  same_map a.raw raw
  same_content a.raw raw
}

@test "what is written is sparse" {
  mkpattern a.raw 8M 22
  qimg convert -q -f raw -O raw a.raw b.raw
  cmp a.raw b.raw
  [ "$(stat -c %b b.raw)" -le "$(stat -c %b a.raw)" ]
  truncate -s 4G a.raw
  qimg convert -q -f raw -O raw a.raw c.raw
  [ "$(stat -c %s c.raw)" = $((4 << 30)) ]
  [ "$(stat -c %b c.raw)" -le "$(stat -c %b b.raw)" ]
}

@test "create makes a hole" {
  qimg create -q -f raw a.raw 1G
  [ "$(stat -c '%s %b' a.raw)" = '1073741824 0' ]
  [ "$(qimg create -f raw --output json b.raw 1000 >/dev/null &&
    stat -c %s b.raw)" = 1024 ]
}

@test "content that looks like another format stays raw when told" {
  qemu-img create -q -f qcow2 inner.qcow2 1M
  qimg convert -q -f raw -O raw inner.qcow2 copy.raw
  cmp -n "$(stat -c %s inner.qcow2)" inner.qcow2 copy.raw
  [ "$(qimg info -f raw --output json inner.qcow2 | jq -r .format)" = raw ]
}

@test "what is no file is refused at once" {
  mkfifo pipe
  mkdir dir
  one_line 1 convert -f raw -O raw pipe out.raw
  one_line 1 convert -f raw -O raw dir out.raw
  one_line 1 convert -f raw -O raw missing out.raw
  one_line 1 convert -f raw -O raw /dev/null out.raw
  [ ! -e out.raw ]
}
