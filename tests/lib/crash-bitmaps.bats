#!/usr/bin/env bats
# What is left when a command that fills or moves a bitmap is killed at each
# of its writes, or when a write or sync fails: images that check clean, no bit
# lost; and the same command again ends as without that. A kill at a sync
# leaves what the write before it has left.

load ../helpers

# dirty KIND PATH NAME: numbers of the dirty blocks of 4 KiB, or fails. The
# segment of a drive is no bitmap of the node.
dirty() {
  [ "$1" = drive ] || qimg --complete node-bitmaps "$2" | grep -qxF "$3" ||
    return
  qimg bitmap show "--$1" "$2" --output json "$3" 2>/dev/null |
    jq -r '.extents[] | range(.offset / 4096; (.offset + .length) / 4096)'
  [ "${PIPESTATUS[0]}" = 0 ]
}

# final: all that the images and the address `to` say.
final() {
  qimg bitmap list --output json ./*.qcow2 |
    jq -c '.bitmaps[] | [.node, .name, .attachment, .state]'
  # shellcheck disable=SC2086 # it is three words
  dirty $to
}

# has_all: what was printed is no less than was wanted.
has_all() {
  sort -u >../have
  [ -z "$(comm -23 ../want ../have)" ]
}

# The new bitmap has all when it is there, and those before it until then. A
# drive is right as long as it says anything.
no_bit_lost() {
  local from blocks all
  # shellcheck disable=SC2086
  if all=$(dirty $to); then has_all <<<"$all"; fi || return
  for from in "${sources[@]}"; do
    # shellcheck disable=SC2086
    blocks=$(dirty $from) || continue
    if [[ $from == drive* ]]; then has_all <<<"$blocks" || return; fi
    all+=$'\n'$blocks
  done
  has_all <<<"$all"
}

images_are_clean() {
  local f code
  for f in *.qcow2; do
    code=0
    qemu-img check -q "$f" >/dev/null || code=$?
    [ $code = 0 ] || [ $code = 3 ] || return
  done
}

# each_call COMMAND...: with what has to be said in ./want, the address that
# gets it in $to, those that have it in $sources.
each_call() {
  command=("$QIMG" "$@")
  sort -u -o want want
  rm -rf whole
  cp -a drive whole
  (cd whole && "${command[@]}" && final >../want.final)
  least=6 each_fault "${command[@]}"
  (cd try && images_are_clean)
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  images_are_clean
  no_bit_lost
  # The kill may have come when all was done.
  "${command[@]}" 2>../err || grep "has no bitmap" ../err
  final | diff ../want.final -
}

faults=write:kill

# drive/one.qcow2 and drive/two.qcow2, drives; node bitmap n of one has 0 and 2M;
# drive bitmap d of two has 64K and 1M, in two layers.
setup() {
  mkdir drive
  cd drive || return
  qemu-img create -q -f qcow2 one.qcow2 4M
  qimg bitmap add -q --node one.qcow2 -g 4k n
  qemu-io -c 'write -q 0 4k' -c 'write -q 2M 8k' one.qcow2
  qemu-img create -q -f qcow2 two.qcow2 4M
  ln -s two.qcow2 vm
  qimg bitmap add -q --drive vm -g 4k d
  qemu-io -c 'write -q 64k 4k' two.qcow2
  qimg snapshot create -q --drive vm --overlay top.qcow2 s
  qemu-io -c 'write -q 1M 4k' top.qcow2
  cd ..
}

# Populate writes as merge does.
@test "merge" {
  (cd drive && dirty drive vm d) >want
  to="drive vm d" sources=("drive vm d")
  each_call bitmap merge -q --drive vm --into d one.qcow2:n
}

@test "move: node to node" {
  (cd drive && dirty node one.qcow2 n) >want
  to="node two.qcow2 x" sources=("node one.qcow2 n")
  rm drive/top.qcow2
  # shellcheck disable=SC2034 # each_fault has it
  faults="write:kill sync:EIO"
  each_call bitmap move -q --node one.qcow2 --to-node two.qcow2 \
    --as x n
}

@test "move: node to drive" {
  (cd drive && dirty node one.qcow2 n) >want
  to="drive vm n" sources=("node one.qcow2 n")
  each_call bitmap move -q --node one.qcow2 --to-drive vm n
}

@test "move: drive to drive" {
  (cd drive && dirty drive vm d) >want
  to="drive one.qcow2 d" sources=("drive vm d")
  each_call bitmap move -q --drive vm --to-drive one.qcow2 d
}

@test "move: drive to a layer that has its segment" {
  (cd drive && dirty drive vm d) >want
  to="node two.qcow2 d" sources=("drive vm d")
  each_call bitmap move -q --drive vm --to-node two.qcow2 d
}

@test "move: inside one image" {
  (cd drive && dirty drive vm d) >want
  to="node top.qcow2 d" sources=("drive vm d")
  each_call bitmap move -q --drive vm --to-node top.qcow2 d
  (cd drive && dirty node one.qcow2 n) >want
  to="drive one.qcow2 y" sources=("node one.qcow2 n")
  each_call bitmap move -q --node one.qcow2 --to-drive one.qcow2 --as y n
}

@test "move: taking over a chain" {
  local f below=one
  for f in mid over; do
    qemu-img create -q -f qcow2 -F qcow2 -b drive/$below.qcow2 -u \
      drive/$f.qcow2 4M
    qemu-img rebase -u -F qcow2 -b $below.qcow2 drive/$f.qcow2
    qemu-img bitmap --add -g 4k drive/$f.qcow2 n
    below=$f
  done
  qemu-io -c 'write -q 512k 4k' drive/over.qcow2
  (cd drive && dirty node one.qcow2 n && dirty node over.qcow2 n) >want
  to="drive over.qcow2 n"
  sources=("node one.qcow2 n" "node mid.qcow2 n" "node over.qcow2 n")
  each_call bitmap move -q --node one.qcow2 --to-drive over.qcow2 n
}
