#!/usr/bin/env bats
# qimg backup audit: the live drive against a point, and what a bitmap has missed.

load ../helpers
load common

# A name that a command line has to quote.
drive="my vm.qcow2"

setup() {
  mkimage "$drive" 4M 51
  write "$drive" 'write -P 8 512k 128k' 'write -P 9 3M 64k'
  qimg bitmap add -q --drive "$drive" daily
  qimg backup -q --full --drive "$drive" --bitmap daily --to repo
}

# past_the_bitmap: the file is written to, as no tool does: two bytes where two
# chunks meet.
past_the_bitmap() {
  local at
  at=$(qemu-img map --output=json "$drive" | jq 'map(select(.start <= 589823 and
    .start + .length > 589823))[0] | .offset + 589823 - .start')
  printf 'xx' | dd "of=$drive" bs=1 "seek=$at" conv=notrunc status=none
}

# audit CODE [OPTION]...: which changes nothing.
audit() {
  local before
  before=$(state)
  expect_code "$1" qimg backup audit --drive "$drive" "${@:2}" repo
  [ "$before" = "$(state)" ]
}

@test "what a bitmap has missed is found, and a resync mends it" {
  audit 0 --bitmap daily
  [[ $output == "drive 'my vm.qcow2' against point 000001-"*": 4 MiB compared, \
0 B differ and are dirty, 0 B differ and are not, 0 B are dirty and do not differ" ]]
  # Something else, and the same once more.
  write "$drive" 'write -P 1 1M 100k' 'write -P 9 3M 64k'
  audit 0 --bitmap daily
  [[ $output != Offset* ]]
  says '128 KiB differ and are dirty, 0 B differ and are not, 64 KiB are dirty and'
  past_the_bitmap
  audit 4 --bitmap daily --output json
  json '[.ranges[] | [.kind, .offset, .length]] == [
      ["missed", 524288, 131072],
      ["expected", 1048576, 131072],
      ["spare", 3145728, 65536]] and
    .expected == 131072 and .missed == 131072 and .spare == 65536 and
    .bytes == 4194304 and (.point | startswith("000001-"))'
  audit 4 --bitmap daily --quiet -m 1
  [ "$output" = "Offset          Length
0x80000         0x20000" ]
  [[ $stderr == "qimg: bitmap 'daily' of drive 'my vm.qcow2' misses 128 KiB that \
differ from point 000001-"* ]]
  # The command that it names, with the name as a shell wants it.
  eval "$(sed "s/.*; '\(qimg backup .*\)' stores .*/\1/" <<<"$stderr")"
  audit 0 --bitmap daily
  says 'point 000002-' '0 B differ and are dirty, 0 B differ and are not'
  oracle_equal repo/points/000002-*/"my vm.qcow2" "$drive"
}

@test "what an increment would have lost" {
  write "$drive" 'write -P 1 1M 64k'
  past_the_bitmap
  qimg backup -q --incremental --drive "$drive" --bitmap daily --to repo
  # It is not dirty since the last point either.
  audit 4 --bitmap daily
  says '0x80000         0x20000' 'point 000002-'
  # Across a snapshot, in a layer of which the bitmap knows all.
  qimg snapshot create -q --drive "$drive" s
  write "$drive" 'write -P 2 2M 64k'
  audit 4 --bitmap daily --output json
  json '[.missed, .expected, .spare] == [131072, 65536, 0]'
}

@test "without a bitmap: what differs, in any format, from any point" {
  write "$drive" 'write -P 1 1M 64k'
  qimg backup -q --incremental --drive "$drive" --bitmap daily --to repo
  audit 0
  [[ $output == "drive 'my vm.qcow2' against point 000002-"*": 4 MiB compared, 0 B differ" ]]
  audit 0 --at 000001
  [[ $output == "Offset          Length
0x100000        0x10000
drive "*" against point 000001-"*": 4 MiB compared, 64 KiB differ" ]]
  audit 0 --at 000001 -q
  [ -z "$output$stderr" ]
  # Another size: what is more is not zero, or it is.
  qemu-img convert -O raw "$drive" a.img
  truncate -s 5M a.img
  printf x | dd of=a.img bs=1 seek=5000000 conv=notrunc status=none
  expect_code 0 qimg backup audit --drive a.img --name "my vm" --output json repo
  json '[.ranges[] | [.kind, .offset]] == [["expected", 4980736]] and
    .bytes == 5242880 and .missed == 0'
  # It ends in a chunk of data, which is not the same then.
  truncate -s 3174400 a.img
  expect_code 0 qimg backup audit --drive a.img --name "my vm" --output json repo
  json '.bytes == 3174400 and
    [.ranges[] | [.offset, .length]] == [[3145728, 28672]]'
}

@test "where no increment could be taken: code 6" {
  refuses 6 backup audit --drive "$drive" --bitmap other repo : \
    "no bitmap 'other'"
  write "$drive" 'write -P 1 1M 64k'
  qimg backup -q --incremental --drive "$drive" --bitmap daily --to repo
  refuses 6 backup audit --drive "$drive" --bitmap daily --at 000001 repo : \
    "does not start at point 000001-"
  audit 0 --bitmap daily --at last
  qimg bitmap clear -q --drive "$drive" daily
  refuses 6 backup audit --drive "$drive" --bitmap daily repo : \
    'does not start at the last' --resync
  cp "$drive" web.qcow2
  refuses 6 backup audit --drive web.qcow2 repo : "no backup of drive 'web'"
  refuses 1 backup audit --drive web.qcow2 --at 000001 repo : "no drive 'web'"
  # Hashes that are gone, or damaged, are nothing to compare with.
  rm repo/points/000002-*/*.hashes
  refuses 6 backup audit --drive "$drive" repo : hashes
}

@test "bad use, drives in use, progress" {
  refuses 2 backup audit repo : --drive
  refuses 2 backup audit --drive "$drive" : 'an argument is missing'
  refuses 1 backup audit --drive "$drive" nothing : "'nothing'"
  refuses 1 backup audit --drive "$drive" --at 000009 repo : "'000009'"
  audit 0 -p
  [[ $stderr == *"audit: 100.0%  4.0 MiB of 4.0 MiB"* ]]
  hold_image "$drive"
  refuses 5 backup audit --drive "$drive" repo : "my vm.qcow2"
  qimg backup audit -U --drive "$drive" repo
  release_image
  # Its bitmap was in use, and is whole again.
  qimg backup audit --wait=1 --drive "$drive" --bitmap daily repo
}
