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
  json '.["dry-run"] and .drive == "vm.qcow2" and (.steps | length > 1) and
    .bytes == 131072'
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

# ------------------------------------------------- an image, as qemu-img

# mkoverlays: base.qcow2 < mid.qcow2 < top.qcow2 as mkchain; want.raw: top.
mkoverlays() {
  rm -f ./*
  mkchain
  qemu-img convert -O raw top.qcow2 want.raw
}

# is_empty IMG: it has no cluster of its own.
is_empty() {
  qemu-img map --output=json "$1" | jq -e 'all(.[]; .depth > 0)'
}

@test "an image: into its backing file, then it is empty and reads the same" {
  mkoverlays
  expect_code 0 qimg commit top.qcow2
  [ "$output" = 'Image committed.' ]
  oracle_equal mid.qcow2 want.raw
  oracle_equal top.qcow2 want.raw
  oracle_check mid.qcow2
  oracle_check top.qcow2
  is_empty top.qcow2
  # As QEMU has it.
  mkoverlays
  cp -a . ../theirs
  qimg commit -q top.qcow2
  (cd ../theirs && qemu-img commit -q top.qcow2)
  oracle_equal mid.qcow2 ../theirs/mid.qcow2
  oracle_equal base.qcow2 ../theirs/base.qcow2
}

@test "an image: -d leaves it, -b goes further down" {
  mkoverlays
  gzip <top.qcow2 >before.gz
  expect_code 0 qimg commit -q -d top.qcow2
  [ -z "$output" ]
  gunzip <before.gz | cmp - top.qcow2
  oracle_equal mid.qcow2 want.raw
  mkoverlays
  expect_code 0 qimg commit -b base.qcow2 -p top.qcow2
  oracle_equal base.qcow2 want.raw
  oracle_equal top.qcow2 want.raw
  oracle_check base.qcow2
  mkoverlays
  expect_code 0 qimg commit --output json -r 100M -f qcow2 top.qcow2
  json '.filename == "top.qcow2" and .bytes == 196608 and
    (.base | endswith("mid.qcow2")) and (.["dry-run"] | not)'
}

@test "an image: other sizes and cluster sizes (QIMG_SEED)" {
  local seed=${QIMG_SEED:-1} rounds i n size k
  rounds=$(rounds 8)
  for ((i = seed; i < seed + rounds; i++)); do
    RANDOM=$i
    rm -rf ./*
    echo "seed $i"
    for k in base mid top; do
      n=$((1 << RANDOM % 9 + 9))
      size=$(((RANDOM % 1000 + 1) * 512))
      set -- -q -f qcow2 -o "cluster_size=$n"
      case $k in
      mid) set -- "$@" -b base.qcow2 -F qcow2 ;;
      top) set -- "$@" -b mid.qcow2 -F qcow2 ;;
      esac
      qemu-img create "$@" $k.qcow2 "$size"
      for n in 1 2 3; do
        write $k.qcow2 "write -P $((RANDOM % 4)) 0 $((size / n / 512 * 512))" \
          "write -z $((size / 1024 << 9)) 512" \
          "write -P $n $((RANDOM % size / 512 * 512)) 512"
      done
    done
    qemu-img convert -O raw top.qcow2 want.raw
    size=$(stat -c %s want.raw)
    set --
    k=mid
    if ((RANDOM % 2)); then set -- -b base.qcow2 && k=base; fi
    qemu-img convert -O raw $k.qcow2 old.raw
    qimg commit -q "$@" top.qcow2
    oracle_equal top.qcow2 want.raw
    qemu-img convert -O raw $k.qcow2 new.raw
    # What a longer one has past the end of the image stays.
    if [ "$(stat -c %s old.raw)" -gt "$size" ]; then
      dd if=want.raw of=old.raw conv=notrunc status=none
      cmp old.raw new.raw
    else
      cmp want.raw new.raw
    fi
    oracle_check top.qcow2
    oracle_check $k.qcow2
  done
}

@test "an image: bitmaps and snapshots of it stay, those below are marked" {
  mkoverlays
  qimg bitmap add -q --node mid.qcow2 below
  qimg bitmap add -q --node top.qcow2 own
  write top.qcow2 'write -P 7 1M 64k'
  qemu-img snapshot -c inside top.qcow2
  write top.qcow2 'write -P 8 1M 64k'
  qemu-img convert -O raw top.qcow2 want.raw
  qimg commit -q top.qcow2
  oracle_equal top.qcow2 want.raw
  oracle_check top.qcow2
  is_empty top.qcow2
  run_qimg bitmap show --node mid.qcow2 below --output json
  json '[.extents[] | [.offset, .length]] ==
    [[131072, 65536], [524288, 131072], [1048576, 65536]]'
  run_qimg bitmap show --node top.qcow2 own --output json
  json '[.extents[] | [.offset, .length]] == [[1048576, 65536]]'
  qemu-img snapshot -l top.qcow2 | grep -q inside
  # The snapshot has what it had.
  qemu-img convert -l inside -O raw top.qcow2 inside.raw
  cmp -n 4096 <(tr '\0' '\007' </dev/zero | head -c 4096) \
    <(tail -c +1048577 inside.raw)
}

@test "an image that is a drive: its dirty set stays" {
  [ "$(dirty vm.qcow2)" = "$all" ]
  qimg commit -q vm.qcow2
  oracle_equal vm.qcow2 want.raw
  [ "$(dirty vm.qcow2)" = "$all" ]
  is_empty vm.qcow2
  write vm.qcow2 'write -P 6 3M 64k'
  qimg bitmap clear -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 6 2M 64k'
  qimg commit -q vm.qcow2
  [ "$(dirty vm.qcow2)" = '[[2097152,65536]]' ]
}

@test "an image: what cannot be, and --dry-run" {
  mkoverlays
  local before
  before=$(state)
  expect_code 0 qimg commit -n top.qcow2
  says 'copy the data' "empty 'top.qcow2'"
  [ "$before" = "$(state)" ]
  refuses 1 commit base.qcow2 : 'does not have a backing file'
  refuses 1 commit -b nope top.qcow2 : "did not find 'nope'"
  refuses 2 commit --drive top.qcow2 top.qcow2 : --drive
  refuses 2 commit --drive top.qcow2 -d : -d
  qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 sibling.qcow2
  refuses 1 commit top.qcow2 : sibling.qcow2
  refuses 1 commit -b base.qcow2 top.qcow2 : sibling.qcow2
  rm sibling.qcow2
  qimg bitmap add -q --node mid.qcow2 mine
  refuses 1 commit -b base.qcow2 top.qcow2 : "'mine'"
  hold_image top.qcow2
  refuses 1 commit top.qcow2 : "$HOLD_PID"
  release_image
}

@test "a base that cannot be written is seen before it grows" {
  rm ./*
  make_luks locked.qcow2 1M x
  qemu-img create -q -f qcow2 top.qcow2 2M
  write top.qcow2 'write -P 1 0 64k'
  qemu-img rebase -u -b locked.qcow2 -F qcow2 top.qcow2
  refuses 1 commit top.qcow2 : encrypted
  refuses 1 commit --drive top.qcow2 : encrypted
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  local f code
  oracle_equal top.qcow2 ../want.raw
  for f in top mid; do
    code=0
    qemu-img check -q $f.qcow2 >../log || code=$?
    [ $code = 0 ] || [ $code = 3 ]
  done
  qimg commit -q top.qcow2
  oracle_equal mid.qcow2 ../want.raw
  is_empty top.qcow2 >/dev/null
}

@test "an image: killed or failing at each call, and again" {
  mkoverlays
  mkdir drive
  mv ./*.qcow2 drive
  least=5 each_fault "$QIMG" commit -q top.qcow2
}

@test "what fails after the switch is a warning: done, code 3" {
  local n code count=0
  mv vm.qcow2 head.qcow2
  ln -s head.qcow2 web
  mkdir drive
  mv ./*.qcow2 web drive
  for ((n = 1; n < 200; n++)); do
    rm -rf try
    cp -a drive try
    code=0
    QIMG_FAULT=change:$n:EIO "$QIMG" commit -q --drive try/web 2>err || code=$?
    fault_fired || break
    case $code in
    0) [ "$(readlink try/web)" = vm@s.qcow2 ] ;;
    3)
      count=$((count + 1))
      [ "$(readlink try/web)" = vm@s.qcow2 ]
      grep -q '^qimg: warning: the commit is done, but' err
      ;;
    *) [ "$(readlink try/web)" = head.qcow2 ] ;;
    esac
    oracle_equal try/web want.raw
  done
  [ $count = 3 ]
}

@test "a plain file does not become a file of another format" {
  rm -rf ./*
  truncate -s 1M base.raw
  qemu-img create -q -f qcow2 -b base.raw -F raw vm.qcow2
  refuses 6 commit --drive vm.qcow2 : "raw format" "ln -s"
  mv vm.qcow2 head.qcow2
  ln -s head.qcow2 vm
  qimg commit -q --drive vm
}
