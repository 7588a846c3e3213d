#!/usr/bin/env bats
# qimg bitmap merge, qimg bitmap populate: bits from elsewhere.

load ../helpers
load common

# dirty KIND PATH NAME: "OFFSET+LENGTH" in KiB of each extent, in one line.
dirty() {
  qimg bitmap show "--$1" "$2" --output json "$3" |
    jq -r '[.extents[] | "\(.offset / 1024)+\(.length / 1024)"] | join(" ")'
}

is_dirty() {
  local have
  have=$(dirty "${@:1:3}")
  [ "$have" = "$4" ] || {
    echo "$2 $3: $have, not $4"
    return 1
  }
}

# node bitmaps one (4K, bits at 64K) and two (512, 1M + 512), drive bitmap d.
setup() {
  qimg create -q -f qcow2 vm.qcow2 4M
  qimg bitmap add -q --node vm.qcow2 -g 4k one
  write vm.qcow2 'write -P 1 64k 4k'
  qimg bitmap disable -q --node vm.qcow2 one
  qimg bitmap add -q --node vm.qcow2 -g 512 two
  write vm.qcow2 'write -P 1 1049088 512'
  qimg bitmap disable -q --node vm.qcow2 two
  qimg bitmap add -q --drive vm.qcow2 d
}

@test "usage" {
  local verb
  for verb in "merge --into x" "populate --allocated"; do
    # shellcheck disable=SC2086 # they are words
    refuses 2 bitmap $verb y : "exactly one of --drive and --node"
    # shellcheck disable=SC2086
    refuses 2 bitmap $verb --node vm.qcow2 : "an argument is missing"
  done
  refuses 2 bitmap merge --node vm.qcow2 one : "--into is missing"
  refuses 2 bitmap populate --node vm.qcow2 one : \
    "exactly one of --allocated and --differs-from"
  refuses 2 bitmap populate --node vm.qcow2 --allocated --differs-from \
    vm.qcow2 one : "exactly one of --allocated and --differs-from"
  [ "$(qimg --complete arguments bitmap merge)" = :bitmap ]
  [ "$(qimg --complete values bitmap merge --into)" = :bitmap ]
  [ "$(qimg --complete arguments bitmap populate)" = :bitmap ]
  [ "$(qimg --complete values bitmap populate --differs-from)" = :file ]
}

@test "merge on a node: as qemu-img does it, across granularities" {
  cp vm.qcow2 theirs.qcow2
  qemu-img bitmap --merge one --merge two theirs.qcow2 d
  qemu-img bitmap --merge one theirs.qcow2 two
  expect_code 0 "$QIMG" bitmap merge --node vm.qcow2 --into two one
  [ "$output" = "merged 1 bitmap into bitmap 'two' of node 'vm.qcow2'" ]
  is_dirty node vm.qcow2 two "64+4 1024.5+0.5"
  is_dirty node theirs.qcow2 two "64+4 1024.5+0.5"
  is_dirty node vm.qcow2 one "64+4"
  # The flag stays, and bits are added to what is there.
  expect_code 0 "$QIMG" bitmap list --node vm.qcow2 --output json
  json '.bitmaps | map([.name, .enabled]) ==
    [["one", false], ["two", false], ["d", true]]'
  expect_code 0 "$QIMG" bitmap merge --drive vm.qcow2 --into d vm.qcow2:one \
    vm.qcow2:two
  [ "$output" = "merged 2 bitmaps into bitmap 'd' of drive 'vm.qcow2'" ]
  is_dirty drive vm.qcow2 d "64+64 1024+64"
  is_dirty node theirs.qcow2 d "64+64 1024+64"
  oracle_check vm.qcow2
  oracle_equal vm.qcow2 theirs.qcow2
  # A second time changes nothing, and neither does itself.
  expect_code 0 "$QIMG" bitmap merge -q --node vm.qcow2 --into two one two
  [ -z "$output$stderr" ]
  is_dirty node vm.qcow2 two "64+4 1024.5+0.5"
  oracle_check vm.qcow2
}

@test "merge on a drive: whole dirty sets, whatever the layers say" {
  ln -s vm.qcow2 vm
  qimg bitmap add -q --drive vm e
  write vm 'write -P 2 2M 64k'
  qimg snapshot create -q --drive vm s
  write vm 'write -P 3 3M 64k'
  qimg bitmap clear -q --drive vm d
  is_dirty drive vm d ""
  expect_code 0 "$QIMG" bitmap show --drive vm d --output json
  local checkpoint
  checkpoint=$(jq -r .checkpoint <<<"$output")
  expect_code 0 "$QIMG" bitmap merge -q --drive vm --into d e
  is_dirty drive vm d "2048+64 3072+64"
  expect_code 0 "$QIMG" bitmap show --drive vm d --output json
  json --arg c "$checkpoint" '.status == "exact" and .checkpoint == $c'
  # An overlay of another tool: its allocation counts, before and after.
  qemu-img create -q -f qcow2 -b vm.s.qcow2 -F qcow2 top.qcow2
  write top.qcow2 'write -P 4 512k 64k'
  ln -sfn top.qcow2 vm
  qimg bitmap merge -q --drive vm --into d vm.qcow2:one 2>err
  grep -q 'made by another tool' err
  is_dirty drive vm d "64+64 512+64 2048+64 3072+64"
  write top.qcow2 'write -P 4 768k 64k'
  is_dirty drive vm d "64+64 512+64 768+64 2048+64 3072+64"
  expect_code 0 "$QIMG" bitmap show --drive vm d --output json
  json '.layers[0].status == "exact"'
  # A paused one stays so.
  qimg bitmap disable -q --drive vm e
  qimg bitmap merge -q --drive vm --into e d
  write top.qcow2 'write -P 4 1536k 64k'
  is_dirty drive vm e "64+64 512+64 768+64 2048+64 3072+64"
  qemu-img check -q top.qcow2
}

@test "merge from other files; names with colons" {
  qimg create -q -f qcow2 other:x.qcow2 2M
  qimg bitmap add -q --node ./other:x.qcow2 -g 4k 'a:b'
  write "$PWD/other:x.qcow2" 'write -P 5 0 4k'
  qimg bitmap merge -q --node vm.qcow2 --into one ./other:x.qcow2:a:b
  is_dirty node vm.qcow2 one "0+4 64+4"
  # A bitmap of the target that is called like that wins.
  qimg bitmap add -q --node vm.qcow2 -g 4k './other:x.qcow2:a:b'
  qimg bitmap merge -q --node vm.qcow2 --into two ./other:x.qcow2:a:b
  is_dirty node vm.qcow2 two "1024.5+0.5"
  qimg bitmap merge -q --node vm.qcow2 --into two \
    "$PWD/other:x.qcow2:a:b"
  is_dirty node vm.qcow2 two "0+4 1024.5+0.5"
}

@test "merge: what is refused" {
  refuses 1 bitmap merge --node vm.qcow2 --into none one : \
    "'qimg bitmap add --node vm.qcow2 none'"
  refuses 1 bitmap merge --drive vm.qcow2 --into none d : \
    "'qimg bitmap add --drive vm.qcow2 none'"
  refuses 1 bitmap merge --node vm.qcow2 --into one none : "no bitmap 'none'"
  refuses 1 bitmap merge --node vm.qcow2 --into one gone.qcow2:x : \
    "no bitmap 'gone.qcow2:x'"
  refuses 1 bitmap merge --drive vm.qcow2 --into d one : "no bitmap 'one'"
  refuses 6 bitmap merge --node vm.qcow2 --into d one : "drive bitmap" \
    "'qimg bitmap merge --drive DRIVE --into d SOURCE'"
  refuses 6 bitmap merge --node vm.qcow2 --into one d : "a segment"
  refuses 6 bitmap merge --drive vm.qcow2 --into d vm.qcow2:d : "a segment"
  qimg create -q -f qcow2 large.qcow2 5M
  qimg bitmap add -q --node large.qcow2 x
  refuses 6 bitmap merge --node vm.qcow2 --into one large.qcow2:x : \
    "larger than that of 'vm.qcow2'"
  qimg bitmap add -q --node large.qcow2 y
  hold_image large.qcow2
  refuses 5 bitmap merge --node vm.qcow2 --into one large.qcow2:x : "in use"
  crash_holder
  refuses 6 bitmap merge --node large.qcow2 --into y vm.qcow2:one : \
    "'qimg bitmap clear --node large.qcow2 y'"
  qimg bitmap clear -q --node large.qcow2 y
  refuses 6 bitmap merge --node large.qcow2 --into y x : "cannot be read"
  qimg bitmap merge -q --node large.qcow2 --into y vm.qcow2:one
  is_dirty node large.qcow2 y "64+64"
  # The set is full already.
  printf '\0' | dd of=vm.qcow2 bs=1 seek=95 conv=notrunc status=none
  refuses 6 bitmap merge --drive vm.qcow2 --into d large.qcow2:y : \
    "the whole disk" "'qimg bitmap clear --drive vm.qcow2 d'"
}

@test "merge: a dry run, JSON" {
  local before
  before=$(state)
  expect_code 0 "$QIMG" bitmap merge --node vm.qcow2 --into two -n one
  says "nothing was changed" "  1. read bitmap 'one' of node 'vm.qcow2'" \
    "  2. write the header of 'vm.qcow2'"
  [ "$before" = "$(state)" ]
  expect_code 0 "$QIMG" bitmap merge --node vm.qcow2 --into two \
    --output json one two
  json '.node == "vm.qcow2" and .bitmap == "two" and .action == "merged" and
    .sources == ["one", "two"] and .["dry-run"] == false and
    (.steps | length == 3)'
}

@test "populate --allocated: of one layer, of all" {
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 top.qcow2 6M
  write top.qcow2 'write -P 6 2M 100k' 'write -z 5M 64k'
  qimg bitmap add -q --node top.qcow2 -g 4k n
  expect_code 0 "$QIMG" bitmap populate --node top.qcow2 --allocated n
  [ "$output" = \
    "populated bitmap 'n' of node 'top.qcow2': 192 KiB are allocated" ]
  is_dirty node top.qcow2 n "2048+128 5120+64"
  qimg bitmap add -q --drive top.qcow2 -g 4k all
  write top.qcow2 'write -P 7 256k 4k'
  qimg bitmap populate -q --drive top.qcow2 --allocated all
  is_dirty drive top.qcow2 all "64+64 256+64 1024+64 2048+128 5120+64"
  is_dirty node top.qcow2 n "256+4 2048+128 5120+64"
  oracle_check top.qcow2
  # What a layer has past the end of the disk is none of it.
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 short.qcow2 512k
  qimg bitmap add -q --drive short.qcow2 s
  qimg bitmap populate -q --drive short.qcow2 --allocated s
  is_dirty drive short.qcow2 s "64+64"
  oracle_check short.qcow2
}

@test "populate --differs-from: exact to 512 bytes, of any format" {
  local img
  mkimage a.qcow2 3M 7
  qemu-img convert -O raw a.qcow2 a.raw
  qimg bitmap add -q --node a.qcow2 -g 512 n
  qimg bitmap add -q --drive a.qcow2 --disabled -g 4k d
  # Equal bytes that are written anew are no difference.
  qemu-io -f raw -c 'read -v 128k 512' a.raw >/dev/null
  write a.qcow2 'write -P 0xd1 1000448 512' 'write -P 0xd1 1001472 1k' \
    'write -z 2M 512' 'write -P 0xd1 3145216 512'
  qimg bitmap clear -q --node a.qcow2 n
  cmp -l a.raw <(qemu-img dd -O raw if=a.qcow2 of=b.raw && cat b.raw) |
    awk '{ print int(($1 - 1) / 512) * 512 }' | uniq >want
  for img in a.raw "$PWD/a.raw"; do
    expect_code 0 "$QIMG" bitmap populate --node a.qcow2 --differs-from \
      "$img" n
    says "populated bitmap 'n' of node 'a.qcow2': " "differ from '$img'"
    qimg bitmap show --node a.qcow2 --output json n | jq -r \
      '.extents[] | range(.offset; .offset + .length; 512)' | diff want -
  done
  # Against a chain, by the guest's view; what is shorter counts.
  qemu-img convert -O qcow2 a.raw base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 old.qcow2 1M
  qimg bitmap populate -q --drive a.qcow2 --differs-from old.qcow2 d
  is_dirty drive a.qcow2 d "976+4 1024+2048"
  # Nothing past our end.
  qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 long.qcow2 9M
  write long.qcow2 'write -P 1 0 512' 'write -P 1 8M 64k'
  qimg bitmap clear -q --node a.qcow2 n
  qimg bitmap populate -q --node a.qcow2 --differs-from long.qcow2 n
  is_dirty node a.qcow2 n "0+0.5"
  oracle_check a.qcow2
}

@test "populate: what is refused, dry run, JSON, progress" {
  refuses 1 bitmap populate --node vm.qcow2 --allocated none : \
    "'qimg bitmap add --node vm.qcow2 none'"
  refuses 6 bitmap populate --node vm.qcow2 --allocated d : \
    "'qimg bitmap populate --drive DRIVE --allocated d'"
  refuses 1 bitmap populate --node vm.qcow2 --differs-from gone.raw one : \
    "'gone.raw'"
  make_luks luks.qcow2 1M secret
  refuses 1 bitmap populate --node vm.qcow2 --differs-from luks.qcow2 one : \
    "encrypted"
  qimg create -q other.raw 4M
  local before
  before=$(state)
  expect_code 0 "$QIMG" bitmap populate --node vm.qcow2 --differs-from \
    other.raw --dry-run one
  says "  1. compare node 'vm.qcow2' with 'other.raw'" \
    "  2. write the header of 'vm.qcow2'"
  [ "$before" = "$(state)" ]
  hold_image other.raw
  refuses 5 bitmap populate --node vm.qcow2 --differs-from other.raw one : \
    "'other.raw' is in use"
  release_image
  expect_code 0 "$QIMG" bitmap populate --node vm.qcow2 --differs-from \
    other.raw --output json --progress=json one
  json '.action == "populated" and .["differs-from"] == "other.raw" and
    .bytes == 8192'
  tail -n 1 <<<"$stderr" | jq -e .
}

@test "populate: an image that cannot be read changes nothing" {
  qimg create -q other.raw 4M
  dd if=/dev/urandom of=other.raw bs=1M count=3 conv=notrunc status=none
  local before
  before=$(qimg bitmap show --node vm.qcow2 two)
  QIMG_FAULT=read:12:EIO run_qimg bitmap populate --node vm.qcow2 \
    --differs-from other.raw two
  [ "$status" = 1 ]
  complains "'"
  [ "$before" = "$(qimg bitmap show --node vm.qcow2 two)" ]
  oracle_check vm.qcow2
}
