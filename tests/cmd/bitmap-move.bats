#!/usr/bin/env bats
# qimg bitmap move: another address, the same set and state.

load ../helpers
load common

# dirty KIND PATH NAME: "OFFSET+LENGTH" in KiB of each extent, in one line.
dirty() {
  qimg bitmap show "--$1" "$2" --output json "$3" |
    jq -r '[.extents[] | "\(.offset / 1024)+\(.length / 1024)"] | join(" ")'
}

# theirs IMG NAME: the same, as QEMU exports the bitmap.
theirs() {
  nbdinfo --json --map="qemu:dirty-bitmap:$2" -- \
    [ qemu-nbd -r -f qcow2 -B "$2" "$1" ] |
    jq -r '[.[] | select(.type == 1) |
      "\(.offset / 1024)+\(.length / 1024)"] | join(" ")'
}

# is KIND PATH NAME WORDS: what it says; of a node, what QEMU says, too.
is() {
  local have
  have=$(dirty "${@:1:3}")
  [ "$have" = "$4" ] || {
    echo "$2 $3: $have, not $4"
    return 1
  }
  [ "$1" = drive ] || [ "$(theirs "$2" "$3")" = "$4" ] || {
    echo "$2 $3, by QEMU: $(theirs "$2" "$3"), not $4"
    return 1
  }
}

# move ARG...: as it should end.
move() {
  expect_code 0 "$QIMG" bitmap move -q "$@"
  [ -z "$output" ]
}

# bitmaps IMG...: "NAME KIND STATE" of all that they hold, sorted.
bitmaps() {
  qimg bitmap list --output json "$@" |
    jq -r '[.bitmaps[] | "\(.name) \(.attachment) \(.state)"] |
      sort | join(", ")'
}

field() {
  qimg bitmap show --drive "$1" --output json "$2" | jq -r ".$3"
}

all_clean() {
  local f
  for f in *.qcow2; do
    oracle_check "$f"
  done
}

# a.qcow2 with a node bitmap x that has 64 KiB + 4; b.qcow2 of the same size.
setup() {
  qimg create -q -f qcow2 a.qcow2 4M
  qimg create -q -f qcow2 b.qcow2 4M
  qimg bitmap add -q --node a.qcow2 -g 4k x
  write a.qcow2 'write -P 1 64k 4k'
}

@test "usage" {
  refuses 2 bitmap move --to-node b.qcow2 x : \
    "exactly one of --drive and --node"
  refuses 2 bitmap move --node a.qcow2 x : \
    "exactly one of --to-drive and --to-node"
  refuses 2 bitmap move --node a.qcow2 --to-node b.qcow2 --to-drive b.qcow2 x : \
    "exactly one of --to-drive and --to-node"
  refuses 2 bitmap move --node a.qcow2 --to-node b.qcow2 : \
    "an argument is missing"
  [ "$(qimg --complete arguments bitmap move)" = :bitmap ]
  [ "$(qimg --complete values bitmap move --to-node)" = :file ]
  [ "$(qimg --complete values bitmap move --to-drive)" = :file ]
}

@test "node to node: set, state, granularity; a larger disk" {
  expect_code 0 "$QIMG" bitmap move --node a.qcow2 --to-node b.qcow2 x
  [ "$output" = "moved bitmap 'x' of node 'a.qcow2': it is bitmap 'x' of node\
 'b.qcow2' now" ]
  [ -z "$stderr" ]
  [ "$(bitmaps a.qcow2)" = "" ]
  [ "$(bitmaps b.qcow2)" = "x node enabled" ]
  is node b.qcow2 x 64+4
  write b.qcow2 'write -P 1 128k 4k'
  is node b.qcow2 x "64+4 128+4"
  qimg bitmap disable -q --node b.qcow2 x
  qimg create -q -f qcow2 -o cluster_size=4k c.qcow2 5M
  move --node b.qcow2 --to-node c.qcow2 --as $'n\303\244me' x
  [ "$(bitmaps c.qcow2)" = $'n\303\244me node disabled' ]
  is node c.qcow2 $'n\303\244me' "64+4 128+4 4096+1024"
  # Nothing is left of the notes.
  move --node c.qcow2 --to-node c.qcow2 --as x $'n\303\244me'
  is node c.qcow2 x "64+4 128+4 4096+1024"
  move --node c.qcow2 --to-node c.qcow2 --as z x
  all_clean
}

@test "node to drive, drive to drive, drive to node" {
  qimg create -q -f qcow2 c.qcow2 4M
  ln -s b.qcow2 vm
  move --node a.qcow2 --to-drive vm x
  is drive vm x 64+4
  [ "$(field vm x status)" = exact ]
  [ "$(bitmaps a.qcow2 b.qcow2)" = "x drive enabled" ]
  # It follows the drive now.
  qimg snapshot create -q --drive vm s
  write vm 'write -P 2 1M 4k'
  is drive vm x "64+4 1024+4"
  local checkpoint
  checkpoint=$(field vm x checkpoint)
  move --drive vm --to-drive c.qcow2 --as y x
  is drive c.qcow2 y "64+4 1024+4"
  [ "$(field c.qcow2 y checkpoint)" != "$checkpoint" ]
  refuses 1 bitmap show --drive vm x : "no bitmap 'x'"
  # The name is free again, although the snapshot still has a segment.
  qimg bitmap add -q --drive vm -g 4k x
  is drive vm x ""
  qimg bitmap disable -q --drive c.qcow2 y
  qimg create -q -f qcow2 d.qcow2 4M
  move --drive c.qcow2 --to-drive d.qcow2 y
  [ "$(field d.qcow2 y state)" = paused ]
  is drive d.qcow2 y "64+4 1024+4"
  # A backup must not take what was paused for all that changed.
  qimg bitmap enable -q --drive d.qcow2 y
  move --drive d.qcow2 --to-drive c.qcow2 y
  qimg bitmap clear -q --drive vm x
  qimg backup -q --full --drive c.qcow2 --to repo
  refuses 6 backup --incremental --drive c.qcow2 --bitmap y --to repo : \
    "bitmap 'y'"
  move --drive c.qcow2 --to-node a.qcow2 y
  [ "$(bitmaps a.qcow2)" = "y node enabled" ]
  is node a.qcow2 y "64+4 1024+4"
  [ "$(bitmaps c.qcow2 d.qcow2)" = "" ]
  all_clean
}

@test "inside one image: one write" {
  qimg snapshot create -q --drive b.qcow2 s
  qimg bitmap add -q --drive b.qcow2 -g 4k d
  write b.qcow2 'write -P 2 0 4k'
  qimg snapshot create -q --drive b.qcow2 t
  write b.qcow2 'write -P 2 2M 4k'
  local checkpoint
  checkpoint=$(field b.qcow2 d checkpoint)
  expect_code 0 "$QIMG" bitmap move --drive b.qcow2 --to-drive b.qcow2 \
    --as e -n d
  says "  1. write the header of 'b.qcow2': make bitmap 'd' of drive"
  [[ $output != *"  2. "* ]]
  # The same bitmap of the same drive: backups go on.
  qimg backup -q --full --drive b.qcow2 --bitmap d --to repo
  write b.qcow2 'write -P 2 3M 4k'
  checkpoint=$(field b.qcow2 d checkpoint)
  move --drive b.qcow2 --to-drive b.qcow2 --as e d
  [ "$(field b.qcow2 e checkpoint)" = "$checkpoint" ]
  is drive b.qcow2 e 3072+4
  # The drive to its head, and back.
  move --drive b.qcow2 --to-node b.qcow2 e
  [ "$(bitmaps b.qcow2)" = "e node enabled" ]
  is node b.qcow2 e 3072+4
  write b.qcow2 'write -P 2 1M 4k'
  is node b.qcow2 e "1024+4 3072+4"
  move --node b.qcow2 --to-node b.qcow2 --as f e
  move --node b.qcow2 --to-drive b.qcow2 --as g f
  is drive b.qcow2 g "1024+4 3072+4"
  [ "$(bitmaps b.qcow2)" = "g drive enabled" ]
  # A name that layers below still know.
  refuses 1 bitmap show --drive b.qcow2 d : "no bitmap 'd'"
  move --drive b.qcow2 --to-drive b.qcow2 --as d g
  is drive b.qcow2 d "1024+4 3072+4"
  move --drive b.qcow2 --to-node b.qcow2 d
  [ "$(bitmaps b.qcow2)" = "d node enabled" ]
  move --node b.qcow2 --to-drive b.qcow2 d
  is drive b.qcow2 d "1024+4 3072+4"
  refuses 1 bitmap move --drive b.qcow2 --to-drive b.qcow2 d : \
    "this address already" "--as"
  ln -s b.qcow2 other
  refuses 1 bitmap move --drive b.qcow2 --to-drive other d : "--as"
  qemu-img check -q b.qcow2
  oracle_check "b@t.qcow2"
}

@test "a bitmap that has the name of a removed drive bitmap is its node's" {
  ln -s b.qcow2 vm
  qimg bitmap add -q --drive vm d
  qimg snapshot create -q --drive vm --overlay top.qcow2 s
  write vm 'write -P 2 0 4k'
  move --drive vm --to-node top.qcow2 d
  [ "$(bitmaps top.qcow2)" = "d node enabled" ]
  refuses 1 bitmap add --drive vm d : "node bitmap of that name"
  refuses 1 bitmap clear --drive vm d : "no bitmap 'd'"
  qimg bitmap disable -q --node top.qcow2 d
  refuses 6 commit --drive vm : "the node bitmap 'd'"
  qimg snapshot create -q --drive vm --overlay new.qcow2 t
  write vm 'write -P 2 1M 64k'
  # What is committed into its node is recorded when it records, and it stays.
  qimg commit -q --drive vm
  is node top.qcow2 d 0+64
  qimg bitmap enable -q --node top.qcow2 d
  qimg snapshot create -q --drive vm --overlay new.qcow2 t
  write vm 'write -P 2 2M 64k'
  qimg commit -q --drive vm
  is node top.qcow2 d "0+64 2048+64"
  [ "$(bitmaps top.qcow2)" = "d node enabled" ]
  expect_code 0 "$QIMG" rebase -q -b "" top.qcow2
  [ "$(bitmaps top.qcow2)" = "d node enabled" ]
  oracle_check top.qcow2
}

@test "a drive to a layer further down, which has a segment of it" {
  ln -s b.qcow2 vm
  qimg create -q -f qcow2 root.qcow2 4M
  qimg rebase -q -u -b root.qcow2 -F qcow2 b.qcow2
  qimg bitmap add -q --drive vm -g 4k d
  write vm 'write -P 2 0 4k'
  qimg snapshot create -q --drive vm --overlay mid.qcow2 s
  write vm 'write -P 2 1M 4k'
  qimg snapshot create -q --drive vm --overlay top.qcow2 t
  write vm 'write -P 2 2M 4k'
  expect_code 0 "$QIMG" bitmap move --drive vm --to-node mid.qcow2 -n d
  says "  1. write the header of 'mid.qcow2'" \
    "  2. write the header of 'top.qcow2'" \
    "  3. write the header of 'mid.qcow2': remove the note"
  move --drive vm --to-node mid.qcow2 d
  is node mid.qcow2 d "0+4 1024+4 2048+4"
  [ "$(bitmaps mid.qcow2)" = "d node enabled" ]
  [ "$(bitmaps top.qcow2)" = "" ]
  refuses 1 bitmap show --drive vm d : "no bitmap 'd'"
  # Its layer cannot go away below it.
  refuses 6 commit --drive mid.qcow2 : "frozen"
  qimg commit -q --drive vm
  refuses 6 commit --drive vm : "the node bitmap 'd'"
  is node mid.qcow2 d "0+4 1024+4 2048+64"
  refuses 1 bitmap show --drive vm d : "no bitmap 'd'"
  # Under a name that another bitmap of the drive has.
  qimg bitmap add -q --drive vm e
  qimg bitmap add -q --drive vm f
  refuses 1 bitmap move --drive vm --to-node b.qcow2 --as f e : \
    "drive 'vm', of which 'b.qcow2' is a layer, has a bitmap 'f'"
  refuses 1 bitmap move --drive vm --to-node b.qcow2 --as d e : "--as"
  move --drive vm --to-node b.qcow2 --as other e
  all_clean
}

# made_by_libvirt: base < mid < top, each with an enabled bitmap c of 64 KiB;
# content, and bits, at 0 in base, at 1M in mid and at 2M in top.
made_by_libvirt() {
  local f below=
  for f in base mid top; do
    if [ -n "$below" ]; then
      qemu-img create -q -f qcow2 -b $below.qcow2 -F qcow2 $f.qcow2
    else
      qemu-img create -q -f qcow2 $f.qcow2 4M
      write $f.qcow2 'write -P 1 3M 64k'
    fi
    qemu-img bitmap --add -g 4k $f.qcow2 c
    case $f in
    base) write $f.qcow2 'write -P 2 0 4k' ;;
    mid) write $f.qcow2 'write -P 2 1M 4k' ;;
    top) write $f.qcow2 'write -P 2 2M 4k' ;;
    esac
    below=$f
  done
}

@test "a chain that libvirt made is taken over" {
  made_by_libvirt
  expect_code 0 "$QIMG" bitmap move --node base.qcow2 --to-drive top.qcow2 -n c
  says "  1. write the header of 'base.qcow2': give the image an id" \
    "  2. write the header of 'top.qcow2': copy bitmap 'c' of node \
'base.qcow2', bitmap 'c' and what is allocated in 'mid.qcow2', bitmap 'c' and \
what is allocated in 'top.qcow2' together to 'c' of drive 'top.qcow2'" \
    "  3. write the header of 'base.qcow2': remove node bitmap 'c'" \
    "  4. write the header of 'mid.qcow2': remove node bitmap 'c'" \
    "  5. write the header of 'top.qcow2': remove the note"
  mkdir twin
  cp -- *.qcow2 twin
  move --node base.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c "0+4 1024+64 2048+64"
  [ "$(field top.qcow2 c status)" = exact ]
  [ "$(bitmaps base.qcow2 mid.qcow2)" = "" ]
  [ "$(bitmaps top.qcow2)" = "c drive enabled" ]
  all_clean
  oracle_equal top.qcow2 twin/top.qcow2
  # From then on it is a drive's bitmap like any other.
  qimg backup -q --full --drive top.qcow2 --bitmap c --to repo
  qimg snapshot create -q --drive top.qcow2 s
  write top.qcow2 'write -P 3 512k 4k'
  expect_code 0 "$QIMG" backup --incremental --drive top.qcow2 --bitmap c \
    --to repo --output json
  cd twin
  move --node base.qcow2 --to-drive top.qcow2 --as daily c
  is drive top.qcow2 daily "0+4 1024+64 2048+64"
  [ "$(bitmaps base.qcow2 mid.qcow2 top.qcow2)" = "daily drive enabled" ]
  all_clean
}

@test "taking over: what starts in the middle or in the head" {
  made_by_libvirt
  refuses 1 bitmap move --node mid.qcow2 --to-drive top.qcow2 c : \
    "'base.qcow2', which is below 'mid.qcow2'" \
    "'qimg bitmap move --node base.qcow2 c --to-drive top.qcow2'" "--as"
  refuses 1 bitmap move --node top.qcow2 --to-drive top.qcow2 c : "--as"
  move --node mid.qcow2 --to-drive top.qcow2 --as two c
  is drive top.qcow2 two "1024+4 2048+64"
  [ "$(bitmaps base.qcow2)" = "c node enabled" ]
  [ "$(bitmaps mid.qcow2 top.qcow2)" = "two drive enabled" ]
  qimg bitmap remove -q --node base.qcow2 c
  qimg bitmap add -q --node top.qcow2 -g 4k c
  write top.qcow2 'write -P 4 256k 4k'
  move --node top.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c 256+4
  all_clean
}

@test "taking over: layers that do not know count as they are allocated" {
  # No bitmap in the middle, the wrong state in the head.
  made_by_libvirt
  qemu-img bitmap --remove mid.qcow2 c
  qemu-img bitmap --disable top.qcow2 c
  expect_code 0 "$QIMG" bitmap move --node base.qcow2 --to-drive top.qcow2 -n c
  says "node 'base.qcow2', what is allocated in 'mid.qcow2', \
what is allocated in 'top.qcow2' together to 'c'"
  move --node base.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c "0+4 1024+64 2048+64"
  [ "$(field top.qcow2 c state)" = enabled ]
  rm -- *.qcow2
  # Bits that are lost; an internal snapshot, to which it may have gone back.
  made_by_libvirt
  qemu-io -f qcow2 -c 'write 1536k 4k' -c 'sigraise 9' top.qcow2 || true
  qemu-img bitmap --remove mid.qcow2 c
  move --node base.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c "0+4 1024+64 1536+64 2048+64"
  [ "$(bitmaps ./*.qcow2)" = "c drive enabled" ]
  all_clean
  rm -- *.qcow2
  made_by_libvirt
  qemu-img bitmap --remove mid.qcow2 c
  qemu-img snapshot -c s mid.qcow2
  expect_code 0 "$QIMG" bitmap move --node base.qcow2 --to-drive top.qcow2 -n c
  says "all of the disk for 'mid.qcow2', bitmap 'c' and what is allocated in \
'top.qcow2' together"
  move --node base.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c 0+4096
}

@test "taking over: a bitmap that was added when its layer had been written to" {
  qemu-img create -q -f qcow2 base.qcow2 4M
  qemu-img bitmap --add -g 4k base.qcow2 c
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
  write top.qcow2 'write -P 2 1M 64k'
  qemu-img bitmap --add -g 4k top.qcow2 c
  move --node base.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c "1024+64"
}

@test "taking over: sizes; one that is paused; one in use" {
  made_by_libvirt
  qemu-img bitmap --remove top.qcow2 c
  qemu-img resize -q top.qcow2 6M
  qemu-img bitmap --add -g 4k top.qcow2 c
  qemu-img bitmap --disable base.qcow2 c
  move --node base.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c "0+4 1024+64 2048+64 4096+2048"
  [ "$(field top.qcow2 c state)" = paused ]
  qimg bitmap enable -q --drive top.qcow2 c
  qimg backup -q --full --drive top.qcow2 --to repo
  refuses 6 backup --incremental --drive top.qcow2 --bitmap c --to repo : "'c'"
  rm -- *.qcow2
  made_by_libvirt
  qemu-img bitmap --remove top.qcow2 c
  qemu-img resize -q --shrink top.qcow2 2M
  move --node base.qcow2 --to-drive top.qcow2 c
  is drive top.qcow2 c "0+4 1024+64"
  qimg resize -q top.qcow2 3M
  is drive top.qcow2 c "0+4 1024+64 2048+1024"
  all_clean
  rm -- *.qcow2
  made_by_libvirt
  hold_image mid.qcow2
  refuses 5 bitmap move --node base.qcow2 --to-drive top.qcow2 c : "in use"
  crash_holder
  refuses 6 bitmap move --node mid.qcow2 --to-drive top.qcow2 c : \
    "'qimg bitmap remove --node mid.qcow2 c'"
}

@test "what is refused" {
  qimg bitmap add -q --drive a.qcow2 d
  qimg bitmap add -q --drive b.qcow2 d
  qimg bitmap add -q --node b.qcow2 x
  refuses 6 bitmap move --node a.qcow2 --to-node b.qcow2 --as y d : \
    "segment of a drive bitmap" \
    "'qimg bitmap move --drive DRIVE --to-node b.qcow2 --as y d'"
  refuses 1 bitmap move --node a.qcow2 --to-drive a.qcow2 d : \
    "a segment of that bitmap of drive 'a.qcow2' already"
  refuses 1 bitmap move --node a.qcow2 --to-node b.qcow2 x : \
    "node 'b.qcow2' has a bitmap 'x' already" "--as"
  refuses 1 bitmap move --node a.qcow2 --to-node b.qcow2 --as d x : \
    "a segment of a drive bitmap 'd'" "--as"
  refuses 1 bitmap move --drive a.qcow2 --to-drive b.qcow2 d : \
    "drive 'b.qcow2' has a bitmap 'd' already" "--as"
  refuses 1 bitmap move --drive a.qcow2 --to-drive b.qcow2 --as x d : \
    "node bitmap of that name"
  refuses 1 bitmap move --node a.qcow2 --to-node b.qcow2 --as y none : \
    "'qimg bitmap list --node a.qcow2'"
  refuses 1 bitmap move --drive a.qcow2 --to-node b.qcow2 --as y none : \
    "'qimg bitmap list --drive a.qcow2'"
  refuses 1 bitmap move --node a.qcow2 --to-node a.qcow2 x : \
    "this address already"
  refuses 1 bitmap move --node a.qcow2 --to-node b.qcow2 --as "" x : "name"
  qimg create -q -f qcow2 small.qcow2 1M
  refuses 6 bitmap move --node a.qcow2 --to-node small.qcow2 x : \
    "smaller than that of 'a.qcow2'"
  refuses 6 bitmap move --drive a.qcow2 --to-drive small.qcow2 d : "smaller"
  qimg create -q c.raw 4M
  refuses 6 bitmap move --node a.qcow2 --to-node c.raw x : "raw format"
  qemu-img create -q -f qcow2 -o cluster_size=512 tiny.qcow2 4M
  refuses 6 bitmap move --node a.qcow2 --to-node tiny.qcow2 x : "'tiny.qcow2'"
  refuses 1 bitmap move --node gone.qcow2 --to-node b.qcow2 x : "'gone.qcow2'"
  hold_image b.qcow2
  refuses 5 bitmap move --node a.qcow2 --to-node b.qcow2 --as y x : "in use"
  crash_holder
  refuses 6 bitmap move --node b.qcow2 --to-node a.qcow2 --as y x : \
    "bits are lost" "'qimg bitmap remove --node b.qcow2 x'"
}

@test "from clusters in which no id fits" {
  qemu-img create -q -f qcow2 -o cluster_size=512 tiny.qcow2 4M
  qemu-img bitmap --add -g 4k tiny.qcow2 t
  write tiny.qcow2 'write -P 1 64k 8k'
  move --node tiny.qcow2 --to-node b.qcow2 t
  is node b.qcow2 t 64+8
  [ "$(bitmaps tiny.qcow2)" = "" ]
  move --node b.qcow2 --to-node a.qcow2 --as y t
  qemu-img bitmap --add -g 4k tiny.qcow2 t
  move --node tiny.qcow2 --to-node tiny.qcow2 --as u t
  is node tiny.qcow2 u ""
  all_clean
}

# ended ARG...: the move, killed when the new bitmap is there.
ended() {
  local n
  for ((n = 1; n < 60; n++)); do
    rm -rf try
    mkdir try
    cp -a -- *.qcow2 try
    [ ! -L vm ] || cp -a vm try
    (cd try && QIMG_FAULT=change:$n:kill "$QIMG" bitmap move -q "$@") || true
    if [ "$(bitmaps try/a.qcow2)" = "x node enabled" ] &&
      [ "$(bitmaps try/b.qcow2)" != "" ]; then
      cp -a try/. .
      rm -r try
      return 0
    fi
  done
  return 1
}

@test "the note of a move that was ended" {
  qimg bitmap add -q --node a.qcow2 y
  cp a.qcow2 keep.qcow2
  qimg bitmap remove -q --node a.qcow2 y
  ended --node a.qcow2 --to-node b.qcow2 x
  qimg create -q -f qcow2 c.qcow2 4M
  qimg bitmap add -q --node c.qcow2 y
  refuses 6 bitmap move --node c.qcow2 --to-node b.qcow2 y : \
    "'b.qcow2' has a note of a command that was ended" "'qimg bitmap move' of 'x'"
  refuses 6 bitmap move --node a.qcow2 --to-node b.qcow2 --as z x : "a note"
  # What is written meanwhile is recorded by both, and is not lost.
  write a.qcow2 'write -P 7 1M 4k'
  expect_code 0 "$QIMG" bitmap move --node a.qcow2 --to-node b.qcow2 -n x
  says "  1. write the header of 'b.qcow2': add what was recorded since" \
    "  2. write the header of 'a.qcow2': remove" "  3. write the header of"
  move --node a.qcow2 --to-node b.qcow2 x
  is node b.qcow2 x "64+4 1024+4"
  move --node c.qcow2 --to-node b.qcow2 y
  refuses 1 bitmap move --node a.qcow2 --to-node b.qcow2 x : "no bitmap 'x'"
  # A note about a bitmap that is gone is about nothing.
  rm b.qcow2
  qimg create -q -f qcow2 b.qcow2 4M
  mv keep.qcow2 a.qcow2
  qimg bitmap remove -q --node a.qcow2 y
  ended --node a.qcow2 --to-node b.qcow2 x
  qimg bitmap remove -q --node b.qcow2 x
  qimg bitmap add -q --node c.qcow2 y
  move --node c.qcow2 --to-node b.qcow2 y
  move --node a.qcow2 --to-node b.qcow2 x
  [ "$(bitmaps a.qcow2 b.qcow2)" = "x node enabled, y node enabled" ]
  all_clean
}

@test "the note of a drive that got another head since" {
  ln -s b.qcow2 vm
  ended --node a.qcow2 --to-drive vm x
  qimg snapshot create -q --drive vm --overlay top.qcow2 s
  write vm 'write -P 3 2M 4k'
  write a.qcow2 'write -P 3 1M 4k'
  move --node a.qcow2 --to-drive vm x
  is drive vm x "64+4 1024+4 2048+4"
  [ "$(bitmaps a.qcow2)" = "" ]
  refuses 1 bitmap move --node a.qcow2 --to-drive vm x : "no bitmap 'x'"
  all_clean
}

@test "JSON" {
  expect_code 0 "$QIMG" bitmap move --node a.qcow2 --to-drive b.qcow2 \
    --output json --as y x
  json '.node == "a.qcow2" and .bitmap == "x" and .action == "moved" and
    .["to-drive"] == "b.qcow2" and .as == "y" and .["dry-run"] == false and
    (.steps | length == 4)'
  expect_code 0 "$QIMG" bitmap move --drive b.qcow2 --to-node a.qcow2 -n \
    --output json y
  json '.drive == "b.qcow2" and .["to-node"] == "a.qcow2" and .as == "y" and
    .["dry-run"] and (.steps | length == 3)'
  [ "$(bitmaps b.qcow2)" = "y drive enabled" ]
}
