#!/usr/bin/env bats
# qimg snapshot create on drives, and -l, -a, -c, -d inside an image.

load ../helpers
load common

setup() {
  mkimage vm.qcow2 4M 41
  qimg bitmap add -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 1 0 64k'
  qemu-img convert -O raw vm.qcow2 want.raw
}

dirty() {
  qimg bitmap show --drive "$1" daily --output json |
    jq -c '[.extents[] | [.offset // .start, .length]]'
}

backing() {
  qemu-img info -U --output=json "$1" | jq -r '."backing-filename"'
}

@test "a plain file: the new head takes its name" {
  expect_code 0 qimg snapshot create --drive vm.qcow2 before
  says "'vm@before.qcow2'" "'vm.qcow2'"
  [ "$(backing vm.qcow2)" = vm@before.qcow2 ]
  oracle_equal vm.qcow2 want.raw
  oracle_check vm.qcow2
  oracle_check vm@before.qcow2
  [ "$(dirty vm.qcow2)" = '[[0,65536]]' ]
  write vm.qcow2 'write -P 2 1M 64k'
  oracle_equal vm@before.qcow2 want.raw
  [ "$(dirty vm.qcow2)" = '[[0,65536],[1048576,65536]]' ]
}

@test "a drive link: a new file, and the link is flipped" {
  ln -s vm.qcow2 web
  qimg snapshot create -q --drive web one
  [ "$(readlink web)" = web.one.qcow2 ]
  [ "$(backing web)" = vm.qcow2 ]
  mkdir heads
  qimg snapshot create -q --drive web --overlay heads/two.qcow2 two
  [ "$(realpath web)" = "$PWD/heads/two.qcow2" ]
  oracle_equal web want.raw
  [ "$(dirty web)" = '[[0,65536]]' ]
}

@test "a link in another folder leads to the head where it is" {
  mkdir links
  ln -s ../vm.qcow2 links/web
  qimg snapshot create -q --drive links/web one
  [ "$(realpath links/web)" = "$PWD/web.one.qcow2" ]
  oracle_equal web.one.qcow2 want.raw
}

@test "all bitmaps get a segment of the same granularity and state" {
  qimg bitmap add -q --drive vm.qcow2 -g 4k fine
  qimg bitmap disable -q --drive vm.qcow2 fine
  qimg snapshot create -q --drive vm.qcow2 s
  run_qimg info --output json vm.qcow2
  json '."format-specific".data.bitmaps | length == 2'
  json '."format-specific".data.bitmaps[] | select(.name == "fine")
    | .granularity == 4096 and .flags == []'
}

@test "without a tag the time is taken" {
  qimg snapshot create -q --drive vm.qcow2
  [[ $(backing vm.qcow2) =~ ^vm@[0-9]{8}T[0-9]{6}Z\.qcow2$ ]]
}

@test "the same again: done, as long as nothing was written" {
  local before
  qimg snapshot create -q --drive vm.qcow2 s
  before=$(state)
  expect_code 0 qimg snapshot create -q --drive vm.qcow2 s
  [ "$before" = "$(state)" ]
  write vm.qcow2 'write -P 2 1M 64k'
  refuses 1 snapshot create --drive vm.qcow2 s : exists
}

@test "--dry-run, JSON, quiet" {
  local before
  before=$(state)
  expect_code 0 qimg snapshot create -n --drive vm.qcow2 s
  says 'vm@s.qcow2'
  expect_code 0 qimg snapshot create --dry-run --output json \
    --drive vm.qcow2 s
  json '.["dry-run"] and (.steps | length == 3)'
  [ "$before" = "$(state)" ]
  expect_code 0 qimg snapshot create --output json --drive vm.qcow2 s
  json '.snapshot == "vm@s.qcow2" and .head == "vm.qcow2"'
  json '.qimg and .drive == "vm.qcow2" and .["dry-run"] == false'
  expect_code 0 qimg snapshot create --quiet --drive vm.qcow2 t
  [ -z "$output$stderr" ]
}

@test "what is refused, with what would help" {
  refuses 1 snapshot create --drive vm.qcow2 a/b : "'a/b'"
  refuses 1 snapshot create --drive vm.qcow2 '' : "''"
  refuses 1 snapshot create --drive vm.qcow2 --overlay x.qcow2 s : --overlay
  refuses 2 snapshot create : --drive
  refuses 2 snapshot create --drive vm.qcow2 a b
  touch vm@s.qcow2
  refuses 1 snapshot create --drive vm.qcow2 s : "'vm@s.qcow2'"
  rm vm@s.qcow2
  qimg bitmap add -q --node vm.qcow2 mine
  refuses 6 snapshot create --drive vm.qcow2 s : "'mine'" 'ln -s'
  qimg bitmap remove -q --node vm.qcow2 mine
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 child.qcow2
  refuses 6 snapshot create --drive vm.qcow2 s : child.qcow2
  rm child.qcow2
  truncate -s 1M disk.raw
  refuses 6 snapshot create --drive disk.raw s : raw 'ln -s'
}

@test "bad drives and places: one message, nothing changed" {
  mkbad
  refuses 1 snapshot create --drive gone.qcow2 s : "'gone.qcow2'"
  refuses 6 snapshot create --drive a.qcow2 s : loop
  refuses 1 snapshot create --drive orphan.qcow2 s : "'gone.qcow2'"
  refuses 4 snapshot create --drive cut.qcow2 s : truncated
  refuses 1 snapshot create --drive folder s : "'folder'"
  ln -s vm.qcow2 web
  refuses 1 snapshot create --drive web --overlay want.raw s : "'want.raw'"
  # The head may have got its mark by then, which says nothing so far.
  local place files
  files=$(ls -A)
  for place in no/x.qcow2 want.raw/x.qcow2 /sys/x.qcow2; do
    expect_code 1 qimg snapshot create --drive web --overlay $place s
    complains "'$place'"
    [ "$(ls -A)" = "$files" ]
    [ "$(readlink web)" = vm.qcow2 ]
    oracle_equal web want.raw
    [ "$(dirty web)" = '[[0,65536]]' ]
  done
  qimg snapshot create -q --drive web s
}

@test "no space: code 7, the drive is what it was, nothing is left" {
  local n before
  before=$(ls -A)
  for n in 1 2 3 5; do
    QIMG_FAULT=write:$n:ENOSPC expect_code 7 qimg snapshot create \
      --drive vm.qcow2 s
    complains 'No space left'
    [ "$(ls -A)" = "$before" ]
    oracle_equal vm.qcow2 want.raw
    [ "$(dirty vm.qcow2)" = '[[0,65536]]' ]
  done
  qimg snapshot create -q --drive vm.qcow2 s
}

@test "a frozen layer is no drive" {
  qimg snapshot create -q --drive vm.qcow2 s
  refuses 6 snapshot create --drive vm@s.qcow2 t : frozen
  refuses 6 bitmap clear --drive vm@s.qcow2 daily : frozen
}

@test "a raw disk behind a link" {
  mkpattern disk.raw 2M 42
  cp disk.raw want.raw
  ln -s disk.raw web
  qimg snapshot create -q --drive web s
  oracle_equal web.s.qcow2 want.raw
  [ "$(backing web)" = disk.raw ]
  cmp disk.raw want.raw
}

@test "a drive in use is refused and named, and not changed" {
  hold_image vm.qcow2
  refuses 5 snapshot create --drive vm.qcow2 s : "$HOLD_PID" qemu-io
  release_image
  hold_daemon vm.qcow2
  refuses 5 snapshot create --drive vm.qcow2 s : "$HOLD_PID" qemu-storage
  release_daemon
  hold_image vm.qcow2
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 qimg snapshot create -q --wait=20 --drive vm.qcow2 s
  release_image
}

@test "-l, -c, -a, -d: as qemu-img" {
  qimg snapshot -c one vm.qcow2
  write vm.qcow2 'write -P 3 2M 64k'
  qemu-img snapshot -c two vm.qcow2
  diff <(qemu-img snapshot -l vm.qcow2) <(qimg snapshot -l vm.qcow2)
  diff <(qemu-img snapshot -l vm.qcow2) <(qimg snapshot -f qcow2 vm.qcow2)
  qimg snapshot -a one vm.qcow2
  oracle_equal vm.qcow2 want.raw
  [ "$(dirty vm.qcow2)" = '[[0,65536],[2097152,65536]]' ]
  qimg snapshot -q -d one vm.qcow2
  qimg snapshot -d 2 vm.qcow2
  [ -z "$(qemu-img snapshot -l vm.qcow2)" ]
  oracle_check vm.qcow2
  refuses 1 snapshot -d one vm.qcow2 : "'one'"
  refuses 1 snapshot -c x -d y vm.qcow2
  hold_image vm.qcow2
  expect_code 1 qimg snapshot -l vm.qcow2
  expect_code 0 qimg snapshot -U -l vm.qcow2
  release_image
}
