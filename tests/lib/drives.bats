#!/usr/bin/env bats
# The dirty set of a drive when things happen behind its back: what cannot be
# known is estimated or full, never wrongly clean.

load ../helpers

# vm.qcow2: a drive with bitmap b, a full backup in repo, and one write since.
setup() {
  qemu-img create -q -f qcow2 vm.qcow2 8M
  qemu-io -c 'write -P 1 0 2M' vm.qcow2
  qimg bitmap add -q --drive vm.qcow2 b
  qimg backup -q --full --drive vm.qcow2 --bitmap b --to repo
  qemu-io -c 'write -P 2 1M 64k' vm.qcow2
}

# status DRIVE: that of the whole set, then its extents.
status() {
  qimg bitmap show --drive "$1" b --output json |
    jq -c '[.status, (.extents[] | [.offset // .start, .length])]'
}

increment() {
  qimg backup -q --incremental --drive "$1" --bitmap b --to repo
}

full='["full",[0,8388608]]'

@test "an overlay by another tool counts by its allocation" {
  mv vm.qcow2 base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 vm.qcow2
  qemu-io -c 'write -P 3 4M 5k' -c 'write -z 5M 64k' vm.qcow2
  [ "$(status vm.qcow2)" = \
    '["estimated",[1048576,65536],[4194304,65536],[5242880,65536]]' ]
}

@test "a writer that was killed: full at the anchor, estimated above it" {
  hold_image vm.qcow2
  crash_holder
  [ "$(status vm.qcow2)" = "$full" ]
  qimg bitmap clear -q --drive vm.qcow2 b
  qimg snapshot create -q --drive vm.qcow2 s
  hold_image vm.qcow2
  tell_holder 'write -P 3 4M 64k' 'flush'
  crash_holder
  [[ $(status vm.qcow2) == '["estimated"'* ]]
}

@test "a layer that was put back from a copy is noticed" {
  cp vm.qcow2 old.qcow2
  increment vm.qcow2
  qimg snapshot create -q --drive vm.qcow2 s
  cp old.qcow2 vm@s.qcow2
  [ "$(status vm.qcow2)" = "$full" ]
  run ! increment vm.qcow2
}

@test "another base under the anchor is noticed" {
  qimg snapshot create -q --drive vm.qcow2 s
  qimg bitmap clear -q --drive vm.qcow2 b
  [ "$(status vm.qcow2)" = '["exact"]' ]
  qemu-img create -q -f qcow2 other.qcow2 8M
  qemu-img rebase -u -b other.qcow2 -F qcow2 vm.qcow2
  [ "$(status vm.qcow2)" = "$full" ]
}

@test "a damaged record is unknown, never absent" {
  local at
  at=$(LC_ALL=C grep -obUaP 'QIMG\x00' vm.qcow2 | head -n 1 | cut -d: -f1)
  printf '\xff' | dd of=vm.qcow2 bs=1 seek=$((at + 40)) conv=notrunc \
    status=none
  run ! qimg bitmap show --drive vm.qcow2 b
  run ! increment vm.qcow2
  oracle_check vm.qcow2
}

@test "what was past the end at some time is dirty" {
  qemu-img resize -q vm.qcow2 10M
  [ "$(status vm.qcow2)" = '["exact",[1048576,65536],[8388608,2097152]]' ]
  increment vm.qcow2
}

@test "a shrink that a commit saw is not forgotten" {
  qimg snapshot create -q --drive vm.qcow2 s
  qimg bitmap clear -q --drive vm.qcow2 b
  qemu-img resize -q --shrink vm.qcow2 4M
  qemu-img resize -q --shrink vm@s.qcow2 4M
  qimg commit -q --drive vm.qcow2
  qemu-img resize -q vm.qcow2 8M
  [[ $(status vm.qcow2) == *'[4194304,4194304]'* ]]
}

@test "an increment is not taken on a point that is gone" {
  rm -r repo/points/000001*
  run ! increment vm.qcow2
  [[ $(status vm.qcow2) == '["exact",[1048576,65536]]' ]]
}

@test "a tag with a colon is a file name and no protocol" {
  qimg snapshot create -q --drive vm.qcow2 2026-01-01T12:30
  oracle_check vm.qcow2
  qemu-io -c 'read -P 2 1M 64k' vm.qcow2 | grep -qv 'verification failed'
}

@test "a new head and the backups may be read by whom the drive may" {
  chmod 600 vm.qcow2
  qimg snapshot create -q --drive vm.qcow2 s
  [ "$(stat -c %a vm.qcow2)" = 600 ]
  increment vm.qcow2
  [ "$(stat -c %a repo/points/000002*/vm.qcow2)" = 600 ]
}

@test "a live head is not taken for one that was committed" {
  local n code
  qimg snapshot create -q --drive vm.qcow2 s
  mv vm.qcow2 head.qcow2
  ln -s head.qcow2 vm
  # Killed when the mark is written, before the link is flipped.
  for ((n = 1; n < 100; n++)); do
    rm -rf try && mkdir try && cp -a head.qcow2 vm@s.qcow2 vm try
    code=0
    (cd try && QIMG_FAULT=symlink:1:kill "$QIMG" commit -q --drive vm) ||
      code=$?
    [ $code = 0 ] || break
  done
  cd try
  qemu-io -c 'write -P 9 3M 64k' head.qcow2
  run ! qimg commit -q --drive vm@s.qcow2
  [ -e head.qcow2 ]
  qimg commit -q --drive vm
  qemu-io -c 'read -P 9 3M 64k' vm | grep -qv 'verification failed'
}

@test "a disk of no bytes can have no bitmap" {
  qemu-img create -q -f qcow2 none.qcow2 0
  expect_code 6 qimg bitmap add --node none.qcow2 b
  oracle_check none.qcow2
}

@test "a missing refcount block does not cost the header" {
  local at
  at=$(od -An -tu8 --endian=big -j48 -N8 vm.qcow2)
  dd if=/dev/zero of=vm.qcow2 bs=1 seek=$((at)) count=8 conv=notrunc \
    status=none
  cp vm.qcow2 before.qcow2
  run timeout 10 "$QIMG" bitmap add --node vm.qcow2 n
  [ "$status" = 4 ]
  cmp -n 512 vm.qcow2 before.qcow2
}

# helps: runs the command that the message names, as a shell reads it.
helps() {
  [[ $stderr =~ \'(qimg [^\']*)\' ]]
  eval "${BASH_REMATCH[1]}" >/dev/null
}

@test "a refusal names the command that helps, in words of a shell" {
  local drive='my disks/vm $(touch x).qcow2' base='my disks/b&w (old).qcow2'
  mkdir 'my disks'
  qemu-img create -q -f qcow2 "$base" 1M
  qemu-img create -q -f qcow2 -b 'b&w (old).qcow2' -F qcow2 "$drive"
  expect_code 1 qimg bitmap show --drive "$drive" 'b 1'
  helps
  expect_code 1 qimg bitmap merge --drive "$drive" --into 'b 1' x
  helps
  qimg bitmap remove -q --drive "$drive" 'b 1'
  qimg bitmap add -q --node "$base" 'it'\''s *'
  expect_code 6 qimg commit --drive "$drive"
  [[ $stderr == *"--node my\\ disks/b\\&w\\ \\(old\\).qcow2 "* ]]
  [ ! -e x ]
}
