#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own $status
# What a drive's dirty set is, layer by layer, and what becomes of it when the
# chain is changed by us, by other tools, or by accidents.

load ../helpers
load ../formats/common

# layers DRIVE [NAME]: the status of each layer, head first.
layers() {
  qimg bitmap show --drive "$1" --output json "${2:-b}" |
    jq -r '[.layers[].status] | join(" ")'
}

# reason DRIVE N: why layer N (from 0) is what it is.
reason() {
  qimg bitmap show --drive "$1" --output json b |
    jq -r ".layers[$2].reason // \"\""
}

# dirty DRIVE [NAME]: "OFFSET+LENGTH" in KiB of each extent, in one line.
dirty() {
  qimg bitmap show --drive "$1" --output json "${2:-b}" |
    jq -r '[.extents[] | "\(.offset / 1024)+\(.length / 1024)"] | join(" ")'
}

# is_dirty WORDS [NAME], have WORDS: what drive d has.
is_dirty() {
  [ "$(dirty d "${2:-b}")" = "$1" ] || {
    echo "dirty: $(dirty d "${2:-b}"), not $1"
    return 1
  }
}
have() {
  [ "$(layers d)" = "$1" ] || {
    echo "layers: $(layers d), not $1"
    return 1
  }
}

write() {
  local img=$1 args=()
  shift
  while [ $# -gt 0 ]; do
    args+=(-c "$1")
    shift
  done
  qemu-io -f qcow2 "${args[@]}" "$img" >/dev/null
}

# A drive link d to one.qcow2, 4 MiB, with bitmap b and 64 KiB at 1M in it.
setup() {
  qimg create -q -f qcow2 one.qcow2 4M
  ln -s one.qcow2 d
  write d 'write -P 1 0 2M'
  qimg bitmap add -q --drive d b
  write d 'write -P 2 1M 64k'
}

# ...and a second layer, two.qcow2, with 64 KiB at 3M.
second() {
  qimg snapshot create -q --drive d --overlay two.qcow2 t1
  write d 'write -P 3 3M 64k'
}

# foreign FILE [SIZE]: an overlay that another tool made becomes the head.
foreign() {
  qemu-img create -q -f qcow2 -b "$(readlink d)" -F qcow2 "$@"
  ln -sfn "$1" d
}

# spoil_record IMG: one bit of its record flips.
spoil_record() {
  local at
  at=$(extension "$1" 51494d47)
  poke_be "$1" "$at + 30" 1 $(($(be "$1" "$at + 30" 1) ^ 4))
}

# ------------------------------------------------------- status of layers

@test "exact: all layers have their segments" {
  have exact
  is_dirty 1024+64
  second
  have 'exact exact'
  is_dirty '1024+64 3072+64'
}

@test "estimated: an overlay of another tool, by what it has allocated" {
  foreign two.qcow2
  have 'estimated exact'
  is_dirty 1024+64
  write d 'write -P 5 200k 1k' 'write -z 2M 64k'
  is_dirty '192+64 1024+64 2048+64'
  # It gets a record and a segment by any change of the drive's bitmaps.
  qimg bitmap disable -q --drive d b
  qimg bitmap enable -q --drive d b
  have 'exact exact'
  is_dirty '192+64 1024+64 2048+64'
}

@test "estimated: a bitmap that is not in the head's record" {
  second
  foreign three.qcow2
  qimg snapshot create -q --drive d --overlay four.qcow2 t2
  write d 'write -P 5 512k 1k'
  have 'exact estimated exact exact'
  is_dirty '512+64 1024+64 3072+64'
}

@test "a writer that is killed: full at the anchor, estimated above" {
  hold_image one.qcow2
  crash_holder
  have full
  [[ $(reason d 0) == *'in use'* ]]
  is_dirty 0+4096
  qimg bitmap clear -q --drive d b
  second
  hold_image two.qcow2
  crash_holder
  have 'estimated exact'
  is_dirty 3072+64
  # The segment stays lost, whoever writes next.
  write d 'write -P 5 0 1k'
  have 'estimated exact'
  is_dirty '0+64 3072+64'
}

@test "a segment that another tool removed: full at the anchor" {
  second
  qemu-img bitmap --remove two.qcow2 b
  have 'estimated exact'
  is_dirty '1024+64 3072+64'
  qemu-img bitmap --remove one.qcow2 b
  have 'estimated full'
  is_dirty 0+4096
}

@test "a segment that another tool disabled or enabled is not believed" {
  second
  qemu-img bitmap --disable two.qcow2 b
  have 'estimated exact'
  [[ $(reason d 0) == *'disabled by another tool'* ]]
  qemu-img bitmap --enable two.qcow2 b
  qimg bitmap disable -q --drive d b
  have 'paused exact'
  qemu-img bitmap --enable two.qcow2 b
  have 'estimated exact'
  qemu-img bitmap --disable one.qcow2 b
  have 'estimated full'
}

@test "a writer that does not know bitmaps: nothing in the image is believed" {
  second
  # As it leaves the header: the autoclear bit is gone.
  poke_be two.qcow2 88 8 0
  have 'estimated exact'
  [[ $(reason d 0) == *'does not know bitmaps'* ]]
  is_dirty '1024+64 3072+64'
  poke_be one.qcow2 88 8 0
  have 'estimated full'
}

@test "a directory that is damaged" {
  second
  poke_be two.qcow2 "$(extension two.qcow2 23852875) + 16" 8 $((1 << 40))
  have 'estimated exact'
  is_dirty '1024+64 3072+64'
  # Nothing is stored beside it.
  cp two.qcow2 keep
  one_line 4 bitmap clear --drive d b
  cmp two.qcow2 keep
}

@test "a record that is damaged means full, never nothing" {
  cp one.qcow2 keep.qcow2
  second
  cp two.qcow2 keep2.qcow2
  spoil_record two.qcow2
  [[ $(layers d) == full* ]]
  is_dirty 0+4096
  cp keep2.qcow2 two.qcow2
  spoil_record one.qcow2
  [[ $(layers d) == *full* ]]
  is_dirty 0+4096
  # Nobody knows any more that there was a bitmap: no set at all, no backup.
  ln -sfn one.qcow2 d
  rm two.qcow2
  run_qimg bitmap show --drive d b
  [ "$status" != 0 ] || is_dirty 0+4096
  one_line 6 backup --incremental --drive d --bitmap b --to repo || {
    [ "$status" = 1 ] && [[ $stderr == *'no'*'repository'* ]]
  }
  # A new start is possible.
  qimg bitmap add -q --drive d b || qimg bitmap clear -q --drive d b
  have exact
  is_dirty ''
}

@test "paused: what is written then is not in the set" {
  qimg bitmap disable -q --drive d b
  write d 'write -P 5 2M 64k'
  have paused
  is_dirty 1024+64
  second
  have 'paused paused'
  is_dirty 1024+64
  qimg bitmap enable -q --drive d b
  write d 'write -P 5 512k 64k'
  is_dirty '512+64 1024+64'
  # Commits keep the pause.
  qimg bitmap disable -q --drive d b
  qimg commit -q --drive d
  have paused
  write d 'write -P 5 0 64k'
  is_dirty '512+64 1024+64'
}

@test "paused stays paused in a layer that had no segment" {
  foreign two.qcow2
  qimg snapshot create -q --drive d --overlay three.qcow2 t1
  write d 'write -P 5 512k 64k'
  qimg bitmap disable -q --drive d b
  qimg commit -q --drive d
  [ "$(readlink d)" = two.qcow2 ]
  have 'paused exact'
  is_dirty '512+64 1024+64'
  [ "$(qimg bitmap list --drive d --output json |
    jq -r '.bitmaps[0].state')" = paused ]
}

# -------------------------------------------------------------- the chain

@test "a parent that was swapped makes it full" {
  second
  cp one.qcow2 keep.qcow2
  qemu-img convert -O qcow2 keep.qcow2 one.qcow2
  have full
  [[ $(reason d 0) == *'not the one it was made on'* ]]
  is_dirty 0+4096
  cp keep.qcow2 one.qcow2
  have 'exact exact'
  # So does a rebase by another tool, though the content is the same.
  qimg convert -q -O qcow2 one.qcow2 other.qcow2
  qemu-img rebase -u -f qcow2 -F qcow2 -b other.qcow2 two.qcow2
  have full
  qemu-img rebase -u -f qcow2 -b '' two.qcow2
  have full
  # Until the bitmap starts again; the other ones know no better.
  write d 'write -P 5 0 1k'
  qimg bitmap add -q --drive d c
  is_dirty 0+4096
  qimg bitmap clear -q --drive d b
  have exact
  is_dirty ''
  is_dirty '' c
  oracle_check two.qcow2
}

@test "another parent: what starts on it, and what started before" {
  qimg bitmap add -q --drive d c
  second
  qemu-img create -q -f qcow2 other.qcow2 4M
  qimg bitmap add -q --node other.qcow2 n
  qemu-img rebase -u -f qcow2 -F qcow2 -b other.qcow2 two.qcow2
  have full
  qimg backup -q --full --drive d --bitmap c --to repo
  write d 'write -P 5 0 1k'
  qimg backup -q --incremental --drive d --bitmap c --to repo
  qimg restore -q --from repo -O raw out.raw
  oracle_equal d out.raw
  is_dirty 0+4096
}

@test "an older copy of a lower layer is seen by its checkpoint" {
  cp one.qcow2 older.qcow2
  qimg bitmap clear -q --drive d b
  second
  have 'exact exact'
  cp older.qcow2 one.qcow2
  have 'exact full'
  [[ $(reason d 1) == *'another time'* ]]
  is_dirty 0+4096
}

@test "after a clear the layers below count no more" {
  second
  qimg bitmap clear -q --drive d b
  have exact
  is_dirty ''
  # What happens to their segments does not matter.
  qemu-img bitmap --remove one.qcow2 b
  write d 'write -P 5 0 1k'
  have exact
  is_dirty 0+64
  # Lower layers are never written.
  chmod a-w one.qcow2
  qimg bitmap clear -q --drive d b
  is_dirty ''
}

@test "a removed bitmap stays removed, and a new one starts anew" {
  second
  qimg bitmap remove -q --drive d b
  one_line 1 bitmap show --drive d b
  [ -z "$(qimg bitmap list --drive d --output json | jq -r '.bitmaps[]')" ]
  one_line 1 bitmap remove --drive d b
  one_line 1 bitmap clear --drive d b
  qimg snapshot create -q --drive d --overlay three.qcow2 t2
  one_line 1 bitmap show --drive d b
  qimg commit -q --drive d
  one_line 1 bitmap show --drive d b
  qimg commit -q --drive d
  [ "$(readlink d)" = one.qcow2 ]
  one_line 1 bitmap show --drive d b
  qimg bitmap add -q --drive d b
  have exact
  is_dirty ''
  oracle_check one.qcow2
}

@test "a removed one that is added again, and then committed" {
  second
  qimg bitmap remove -q --drive d b
  qimg bitmap add -q --drive d -g 4k b
  write d 'write -P 5 0 1k'
  qimg commit -q --drive d
  have exact
  is_dirty 0+4
}

@test "names: a node bitmap anywhere in the chain is in the way" {
  second
  qimg bitmap add -q --node one.qcow2 taken
  one_line 1 bitmap add --drive d taken
  [[ $stderr == *"'one.qcow2' has a node bitmap"* ]]
  [[ $stderr == *'qimg bitmap move --node one.qcow2 --to-node one.qcow2 --as NEW taken'* ]]
  have 'exact exact'
  qimg bitmap remove -q --node one.qcow2 taken
  qimg bitmap add -q --drive d taken
}

@test "names: a node bitmap that came later stops a commit before it starts" {
  second
  qimg bitmap add -q --drive d late
  qemu-img bitmap --add one.qcow2 late
  mkdir keep
  cp one.qcow2 two.qcow2 keep
  run_qimg commit --drive d
  [ "$status" = 1 ] || [ "$status" = 6 ]
  [[ $stderr == *'qimg bitmap remove --node one.qcow2 late'* ]]
  cmp one.qcow2 keep/one.qcow2
  cmp two.qcow2 keep/two.qcow2
  qimg bitmap remove -q --node one.qcow2 late
  qimg commit -q --drive d
  is_dirty '' late
}

@test "node verbs leave segments alone, drive verbs node bitmaps" {
  local verb
  qimg bitmap add -q --node one.qcow2 n
  cp one.qcow2 keep.qcow2
  for verb in clear remove enable disable; do
    one_line 6 bitmap $verb --node one.qcow2 b
    [[ $stderr == *"qimg bitmap $verb --drive DRIVE b"* ]]
    run_qimg bitmap $verb --drive d n
    [ "$status" = 1 ]
  done
  one_line 1 bitmap show --drive d n
  cmp one.qcow2 keep.qcow2
  # The bits of a segment can be looked at.
  qimg bitmap show --node one.qcow2 b >/dev/null
}

@test "another drive's layers: what starts there is not ours" {
  local drive
  qemu-img create -q -f qcow2 template.qcow2 4M
  for drive in x y; do
    qimg create -q -f qcow2 -b template.qcow2 -F qcow2 $drive.qcow2
    qimg bitmap add -q --drive $drive.qcow2 b
    write $drive.qcow2 'write -P 9 0 1k'
    [ "$(dirty $drive.qcow2)" = 0+64 ]
  done
  # Neither may be committed while the other rests on the same base.
  one_line 6 commit --drive x.qcow2
  [[ $stderr == *y.qcow2* ]]
  # One put on the other by another tool does not take over its bitmap.
  qemu-img rebase -u -f qcow2 -F qcow2 -b x.qcow2 y.qcow2
  qimg bitmap add -q --drive x.qcow2 mine
  one_line 1 bitmap show --drive y.qcow2 mine
  [ "$(layers y.qcow2)" = exact ] || [ "$(dirty y.qcow2)" = 0+4096 ]
  one_line 6 commit --drive y.qcow2
  [[ $stderr == *'another drive'*"'qimg stream --drive y.qcow2'"* ]]
}

@test "two links to one image are one drive" {
  ln -s one.qcow2 e
  qimg bitmap add -q --drive e c
  [ "$(qimg bitmap list --drive d --output json |
    jq -r '[.bitmaps[].name] | sort | join(" ")')" = 'b c' ]
  mkdir sub
  ln -s ../d sub/f
  [ "$(dirty sub/f)" = 1024+64 ]
}

# ------------------------------------------------------------------ sizes

@test "sizes: what was outside the disk at some time is dirty" {
  second
  qemu-img resize -q -f qcow2 two.qcow2 5M
  have 'exact exact'
  is_dirty '1024+64 3072+64 4096+1024'
  qimg bitmap clear -q --drive d b
  is_dirty ''
  qemu-img resize -q -f qcow2 --shrink two.qcow2 3M
  qimg snapshot create -q --drive d --overlay three.qcow2 t2
  qemu-img resize -q -f qcow2 three.qcow2 4M
  is_dirty 3072+1024
  # A commit grows the base and keeps that in mind.
  qimg commit -q --drive d
  [ "$(readlink d)" = two.qcow2 ]
  is_dirty 3072+1024
}

@test "sizes: overlays of other tools that are longer or shorter" {
  foreign two.qcow2 5M
  is_dirty '1024+64 4096+1024'
  foreign three.qcow2 1M
  foreign four.qcow2 4M
  is_dirty '1024+3072'
  qimg snapshot create -q --drive d --overlay five.qcow2 t1
  qimg commit -q --drive d
  is_dirty '1024+3072'
}

# ------------------------------------------------- snapshots and commits

# The set is the same after any number of layers came and went.
@test "snapshots and commits keep the dirty set, drive link" {
  local i
  for i in 1 2 3 4 5; do
    qimg snapshot create -q --drive d t$i
    write d "write -P $i $((i * 640))k 10k" "write -z $((i * 700))k 1k"
  done
  dirty d >before
  have 'exact exact exact exact exact exact'
  for i in 1 2 3 4 5; do
    qimg commit -q --drive d
    dirty d | diff before -
    oracle_check d
  done
  have exact
  [ "$(readlink d)" = one.qcow2 ]
  [ "$(ls)" = "before
d
one.qcow2" ]
}

@test "snapshots and commits keep the dirty set, plain file" {
  local i
  rm d
  mv one.qcow2 d
  for i in 1 2 3 4; do
    qimg snapshot create -q --drive d t$i
    write d "write -P $i $((i * 640))k 10k" "write -z $((i * 700))k 1k"
  done
  dirty d >before
  qemu-img convert -O raw d before.raw
  for i in 1 2 3 4; do
    qimg commit -q --drive d
    dirty d | diff before -
    qemu-img compare -q -F raw d before.raw
  done
  have exact
  oracle_check d
}

@test "a commit records in the base's own bitmaps what it writes" {
  second
  ln -sfn one.qcow2 e
  qemu-img bitmap --add -g 4k one.qcow2 node
  ln -sfn two.qcow2 d
  qimg commit -q --drive d
  [ "$(qimg bitmap show --node one.qcow2 node --output json |
    jq -c '[.extents[] | .offset, .length]')" = '[3145728,65536]' ]
}

@test "a commit by QEMU is recorded by the base's segment" {
  second
  qemu-img commit -q -f qcow2 -d two.qcow2
  ln -sfn one.qcow2 d
  rm two.qcow2
  is_dirty '1024+64 3072+64'
}

# ------------------------------------------------------------ increments

@test "increments: an image that was rolled back is refused" {
  qimg backup -q --full --drive d --bitmap b --to repo
  cp one.qcow2 older.qcow2
  write d 'write -P 6 0 64k'
  qimg backup -q --incremental --drive d --bitmap b --to repo
  cp older.qcow2 one.qcow2
  write d 'write -P 7 2M 64k'
  qimg backup -q --incremental --drive d --bitmap b --to repo || {
    [ "$status" = 6 ]
    return 0
  }
  # Taken again from the point before it, it must be whole.
  qimg restore -q --from repo -O raw out.raw
  oracle_equal d out.raw
}

@test "increments: what a clear, a copy or another start breaks is refused" {
  qimg backup -q --full --drive d --bitmap b --to repo
  cp one.qcow2 copy.qcow2
  qimg bitmap clear -q --drive d b
  one_line 6 backup --incremental --drive d --bitmap b --to repo
  [[ $stderr == *--full* ]]
  qimg bitmap remove -q --drive d b
  qimg bitmap add -q --drive d b
  one_line 6 backup --incremental --drive d --bitmap b --to repo
  qimg backup -q --full --drive d --bitmap b --to repo
  write d 'write -P 8 0 1k'
  qimg backup -q --incremental --drive d --bitmap b --to repo
  # The copy ends where the first point does, which is not the last.
  ln -sfn copy.qcow2 d
  one_line 6 backup --incremental --drive d --bitmap b --to repo
}

@test "a v2 head of another tool continues the drive, through a snapshot too" {
  local before
  qemu-img create -q -f qcow2 -o compat=0.10 -b one.qcow2 -F qcow2 two.qcow2
  ln -sf two.qcow2 d
  write d 'write -P 5 128k 64k'
  before=$(dirty d 2>/dev/null)
  qimg snapshot create -q --drive d s 2>/dev/null
  is_dirty "$before"
  qimg commit -q --drive d --into one.qcow2
  is_dirty "$before"
}

@test "a bitmap that was removed above a v2 head stays so after a revert" {
  second
  qimg bitmap remove -q --drive d b
  qemu-img create -q -f qcow2 -o compat=0.10 -b two.qcow2 -F qcow2 top.qcow2
  ln -sf top.qcow2 d
  qimg snapshot revert -q --drive d t1
  run ! qimg bitmap show --drive d b
}

@test "names: a node bitmap on a head that another tool has made" {
  qemu-img create -q -f qcow2 -b one.qcow2 -F qcow2 two.qcow2
  one_line 1 bitmap add --node two.qcow2 b
  [[ $stderr == *"a drive bitmap that starts in a layer below"* ]]
  qimg bitmap add -q --node two.qcow2 other
}
