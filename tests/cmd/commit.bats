#!/usr/bin/env bats
# qimg commit --drive: the head into its backing node, the bitmaps with it.

load ../helpers
load common

# A drive of two layers with a bitmap, changed in both. want.raw: its content.
setup() {
  mkimage vm.qcow2 4M 31
  qimg bitmap add -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 1 0 64k'
  qimg snapshot create -q --drive vm.qcow2 s
  write vm.qcow2 'write -P 2 1M 64k' 'write -z 2M 64k'
  qemu-img convert -O raw vm.qcow2 want.raw
}

# The extents of the drive's bitmap, as [[offset, length], ...].
dirty() {
  qimg bitmap show --drive "$1" daily --output json |
    jq -c '[.extents[] | [.offset // .start, .length]]'
}

all='[[0,65536],[1048576,65536],[2097152,65536]]'

@test "a plain file: the base takes its name, content and dirty set stay" {
  [ "$(dirty vm.qcow2)" = "$all" ]
  expect_code 0 qimg commit --drive vm.qcow2
  says "'vm.qcow2'"
  [ ! -e vm@s.qcow2 ]
  oracle_equal vm.qcow2 want.raw
  oracle_check vm.qcow2
  [ "$(dirty vm.qcow2)" = "$all" ]
  run_qimg bitmap show --drive vm.qcow2 daily --output json
  json '.status == "exact"'
}

@test "a drive link: it is pointed at the base" {
  mv vm.qcow2 head.qcow2
  ln -s head.qcow2 web
  qimg commit -q --drive web
  [ "$(readlink web)" = vm@s.qcow2 ]
  [ ! -e head.qcow2 ]
  oracle_equal web want.raw
  [ "$(dirty web)" = "$all" ]
}

@test "a bitmap that was cleared in the head has its own bits alone" {
  qimg bitmap clear -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 5 3M 64k'
  qimg commit -q --drive vm.qcow2
  [ "$(dirty vm.qcow2)" = '[[3145728,65536]]' ]
}

@test "a bitmap that was removed stays removed" {
  qimg bitmap remove -q --drive vm.qcow2 daily
  qimg commit -q --drive vm.qcow2
  refuses 1 bitmap show --drive vm.qcow2 daily : "no bitmap 'daily'"
}

@test "a head made by another tool counts by its allocation, with a warning" {
  mv vm.qcow2 head.qcow2
  qemu-img create -q -f qcow2 -b head.qcow2 -F qcow2 foreign.qcow2
  write foreign.qcow2 'write -P 6 3M 64k'
  qemu-img convert -O raw foreign.qcow2 want.raw
  ln -s foreign.qcow2 web
  expect_code 0 qimg commit -q --drive web
  [[ $stderr == *'made by another tool'* ]]
  oracle_equal web want.raw
  [ "$(dirty web)" = "${all%]},[3145728,65536]]" ]
}

@test "--dry-run shows the steps and changes nothing" {
  local before
  before=$(state)
  expect_code 0 qimg commit -n --drive vm.qcow2
  says 'merge the bitmaps' 'copy the data'
  expect_code 0 qimg commit --dry-run --drive vm.qcow2 --output json
  json '.["dry-run"] and .drive == "vm.qcow2" and (.steps | length > 1)'
  [ "$before" = "$(state)" ]
}

@test "JSON, quiet, progress, threads" {
  cp -a . ../copy
  expect_code 0 qimg commit --output json -m 2 --drive vm.qcow2
  json '.qimg and (.steps | length > 1)'
  json '.drive == "vm.qcow2" and .head == "vm.qcow2" and .bytes > 0 and
    .merged == "vm.qcow2" and .["dry-run"] == false'
  cp -a ../copy ../again
  cd ../copy
  expect_code 0 qimg commit -q -p --drive vm.qcow2
  [ -z "$output$stderr" ]
  cd ../again
  expect_code 0 qimg commit --progress=json --parallel 1 --drive vm.qcow2
  [ "$output" = "drive 'vm.qcow2': its head was merged into the layer below,\
 $(sed 's/.*below, \(.*\) copied.*/\1/' <<<"$output") copied; the head is now\
 'vm.qcow2'" ]
  tail -1 <<<"$stderr" | jq -e '.progress | .operation == "commit" and
    .percent == 100'
}

@test "siblings are not corrupted: their list, code 6" {
  qemu-img create -q -f qcow2 -b vm@s.qcow2 -F qcow2 sibling.qcow2
  refuses 6 commit --drive vm.qcow2 : 'sibling.qcow2'
  rm sibling.qcow2
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 child.qcow2
  refuses 6 commit --drive vm.qcow2 : 'child.qcow2'
}

@test "node bitmaps are neither lost nor given another address" {
  qimg bitmap add -q --node vm.qcow2 mine
  refuses 6 commit --drive vm.qcow2 : "'mine'" 'qimg bitmap remove --node'
  qimg bitmap remove -q --node vm.qcow2 mine
  qimg bitmap add -q --node vm@s.qcow2 mine
  refuses 6 commit --drive vm.qcow2 : "'mine'"
  # A drive link leaves the base its name.
  mv vm.qcow2 head.qcow2
  ln -s head.qcow2 web
  qimg commit -q --drive web
  run_qimg bitmap show --node vm@s.qcow2 mine --output json
  json '.extents | length > 0'
}

@test "what cannot be: nothing below, a larger base, a link to the base" {
  qemu-img create -q -f qcow2 one.qcow2 1M
  refuses 6 commit --drive one.qcow2 : 'no backing file'
  qemu-img create -q -f qcow2 large.qcow2 4M
  qemu-img create -q -f qcow2 -b large.qcow2 -F qcow2 small.qcow2 1M
  refuses 6 commit --drive small.qcow2 : 'shrink'
  ln -s vm@s.qcow2 other
  refuses 6 commit --drive vm.qcow2 : "'other'"
  refuses 2 commit : --drive
  mkbad
  refuses 1 commit --drive gone.qcow2 : "'gone.qcow2'"
  refuses 6 commit --drive a.qcow2 : loop
  refuses 1 commit --drive orphan.qcow2 : "'gone.qcow2'"
  refuses 4 commit --drive cut.qcow2 : truncated
  refuses 1 commit --drive folder : "'folder'"
}

@test "a layer in use is refused and named, and not changed" {
  hold_image vm.qcow2
  refuses 5 commit --drive vm.qcow2 : "$HOLD_PID" qemu-io
  release_image
  hold_daemon vm@s.qcow2
  refuses 5 commit --drive vm.qcow2 : "$HOLD_PID" qemu-storage
  release_daemon
  hold_image vm@s.qcow2
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 qimg commit -q --wait=20 --drive vm.qcow2
  release_image
}

@test "no space: code 7, and the drive is what it was" {
  local n code=0
  for n in 2 5 8; do
    code=0
    QIMG_FAULT=write:$n:ENOSPC "$QIMG" commit -q --drive vm.qcow2 2>err ||
      code=$?
    [ $code = 7 ]
    oracle_equal vm.qcow2 want.raw
    [ "$(dirty vm.qcow2)" = "$all" ]
  done
  qimg commit -q --drive vm.qcow2
  oracle_equal vm.qcow2 want.raw
}
