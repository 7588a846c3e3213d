#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own variables
# What a merge into a layer below finds out before it writes, and what it
# leaves when it is ended.

load ../helpers
load ../cmd/common

# The tag of the lower layer and the bitmaps of the head, each alone, fit.
@test "a record that has no room for what comes down: nothing is written" {
  local i tag
  tag=$(printf 'x%.0s' {1..150})
  qimg create -q -f qcow2 a.qcow2 4M
  ln -s a.qcow2 vm
  qimg snapshot create -q --drive vm "$tag"
  qimg snapshot create -q --drive vm s
  qemu-io -f qcow2 -c 'write -P 2 0 64k' vm
  for ((i = 10; i < 56; i++)); do
    qimg bitmap add -q --drive vm b$i
  done
  refuses 1 commit -n --drive vm : "is full"
  refuses 1 commit --drive vm : "is full"
}

# mkdrive [SIZE]: link vm; a.qcow2, all 1, holds snapshot t0; vm.t0.qcow2, of
# that SIZE and with 2 in its first half MiB, holds t1; the head has 3 in 1 MiB.
# t0.raw, t1.raw and want.raw are what they read as.
mkdrive() {
  mkdir drive
  cd drive || return
  qimg create -q -f qcow2 a.qcow2 1M
  qemu-io -f qcow2 -c 'write -P 1 0 1M' a.qcow2
  ln -s a.qcow2 vm
  qimg bitmap add -q --drive vm b
  qimg snapshot create -q --drive vm t0
  [ $# = 0 ] || qimg resize -q vm "$1"
  qemu-io -f qcow2 -c 'write -P 2 0 512k' vm
  qimg snapshot create -q --drive vm t1
  qemu-io -f qcow2 -c 'write -P 3 0 1M' vm
  qemu-img convert -O raw a.qcow2 ../t0.raw
  qemu-img convert -O raw vm.t0.qcow2 ../t1.raw
  qemu-img convert -O raw vm ../want.raw
  cd ..
}

# back TAG: a copy of the drive in try goes back to the snapshot, and that is
# as it was; or this is refused, which is counted in $refused.
back() {
  rm -rf copy
  cp -a try copy
  cd copy || return
  run --separate-stderr "$QIMG" snapshot revert -q --drive vm "$1"
  # shellcheck disable=SC2154 # run sets them
  if [ "$status" = 0 ]; then
    qemu-img convert -O raw vm now.raw
    cmp now.raw ../"$1".raw
  # After the switch of a commit, the old head may be there still.
  elif [[ $stderr != *'other images have it as their backing file'* ]]; then
    [ "$status" = 6 ]
    complains 'holds part of a merge'
    refused=$((refused + 1))
    [ $refused != 1 ] || is_said "$1"
  fi
  cd ..
}

is_said() {
  refuses 6 snapshot revert -n --drive vm "$1" : 'holds part of a merge'
  refuses 6 clone --drive vm --at "$1" c.qcow2 : 'holds part of a merge'
  run_qimg snapshot list --drive vm
  grep -Eq "^$1 .* unfinished\$" <<<"$output"
  run_qimg snapshot list --drive vm --output json
  json --arg tag "$1" '[.layers[] | select(.unfinished) | .snapshot] == [$tag]'
  run_qimg graph .
  says 'snapshot delete or commit was interrupted'
}

# ended TAG OTHER COMMAND...: killed before each of its changes, and run again.
# TAG is that of the layer that is merged into, and goes; OTHER, if any, stays.
ended() {
  tag=$1 other=$2 refused=0 looks=0
  command=("$QIMG" "${@:3}")
  # shellcheck disable=SC2034 # each_fault has it
  faults=change:kill
  each_fault "${command[@]}"
  [ $refused -gt 0 ]
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  "$QIMG" snapshot list --drive vm >../list
  cd ..
  if grep -q "^$tag " list; then back "$tag"; fi
  looks=$((looks + 1))
  [ -z "$other" ] || ((looks % 4)) || back "$other"
  cd try || return
  "${command[@]}" 2>/dev/null || true
  qemu-img compare -q -F raw vm ../want.raw
  "$QIMG" graph . >../graph
  if grep interrupted ../graph; then return 1; fi
}

@test "a commit that was ended: its snapshot is not gone back to" {
  mkdrive
  ended t1 t0 commit -q --drive vm
}

@test "a snapshot delete down that was ended, and a layer that grows" {
  mkdrive 2M
  # Of t1 the head has all, and of t0 the layer above.
  ended t0 t1 snapshot delete -q --drive vm t0
}

@test "a commit over layers that was ended" {
  mkdrive
  ended t0 "" commit -q --drive vm --into a.qcow2
}
