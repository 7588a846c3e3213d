#!/usr/bin/env bats
# qimg backup --resync and --auto, and the hash of all content of a point.

load ../helpers
load common

setup() {
  mkimage vm.qcow2 4M 31
  qimg bitmap add -q --drive vm.qcow2 daily
}

back_up() {
  qimg backup -q "$1" --drive vm.qcow2 --bitmap daily --to repo "${@:2}"
}

# The bitmap is lost, as a writer that was killed leaves it.
lose_bitmap() {
  qemu-io -c 'write -P 77 2M 64k' -c flush -c 'sigraise 9' vm.qcow2 || true
}

# last FILTER: of the last point of repo, by jq.
last() {
  qimg backup list --output json "${2:-repo}" | jq -c ".points[-1] | $1"
}

# The last point is what the drive is; so says its hash, which is that of a
# full backup, too.
is_right() {
  qimg backup verify -q --read-data repo
  oracle_equal "repo/points/$(last .id | tr -d \")/vm.qcow2" vm.qcow2
  rm -rf other
  qimg backup -q --full --drive vm.qcow2 --to other "$@"
  [ "$(last '.drives[0]["root-hash"]')" = \
    "$(last '.drives[0]["root-hash"]' other)" ]
}

@test "resync: what differs, and increments go on from there" {
  back_up --full
  lose_bitmap
  refuses 6 backup --incremental --drive vm.qcow2 --bitmap daily --to repo : \
    'take one with --resync or --full'
  expect_code 0 qimg backup -n --resync --drive vm.qcow2 --bitmap daily \
    --to repo
  says "compare all of drive 'vm.qcow2' with point 000001-" "clear bitmap"
  expect_code 0 qimg backup --resync --drive vm.qcow2 --bitmap daily --to repo
  says " of 'vm': resync, 64 KiB differ, 64 KiB copied"
  [ "$(last '[.type, .drives[0].dirty, .drives[0].stored]')" = \
    '["resync",65536,65536]' ]
  is_right
  write vm.qcow2 'write -P 5 1M 64k'
  back_up --incremental
  [ "$(last '[.type, .drives[0].stored]')" = '["incremental",65536]' ]
  is_right
  # Nothing differs.
  back_up --resync
  [ "$(last '[.type, .drives[0].dirty]')" = '["resync",0]' ]
  is_right
}

@test "resync: without a bitmap, of a disk in another format and size" {
  local size
  back_up --full
  for size in 5M 3M 3333120 512 1M; do
    qimg resize -q --shrink vm.qcow2 $size
    rm -rf raw
    mkdir raw
    qemu-img convert -O raw vm.qcow2 raw/vm.img
    before=$(sha256sum raw/vm.img)
    qimg backup -q --resync --drive raw/vm.img --to repo
    [ "$before" = "$(sha256sum raw/vm.img)" ]
    is_right
  done
}

@test "resync: there has to be a point of the drive" {
  refuses 1 backup --resync --drive vm.qcow2 --bitmap daily --to repo : \
    'not a backup repository' --full
  back_up --full
  cp vm.qcow2 web.qcow2
  refuses 6 backup --resync --drive web.qcow2 --bitmap daily --to repo : \
    "no backup of drive 'web'" 'take one with --full'
  rm repo/points/*/vm.hashes
  refuses 6 backup --resync --drive vm.qcow2 --bitmap daily --to repo : \
    'vm.hashes' 'take one with --full'
  refuses 2 backup --resync --full --drive vm.qcow2 --to repo : --resync
}

@test "auto: the cheapest that is sound, and why it is no increment" {
  local auto=(backup --auto --drive vm.qcow2 --bitmap daily --to repo)
  expect_code 0 qimg "${auto[@]}" -n
  says 'store all'
  [ ! -e repo ]
  expect_code 3 qimg "${auto[@]}"
  [[ $stderr == "qimg: warning: drive 'vm': the backup is not incremental, "* ]]
  [[ $stderr == *"all of the drive was stored: "*"no backup of drive"* ]]
  [ "$(last .type)" = '"full"' ]
  write vm.qcow2 'write -P 5 1M 64k'
  expect_code 0 qimg "${auto[@]}"
  [ -z "$stderr" ]
  [ "$(last '[.type, .drives[0].stored]')" = '["incremental",65536]' ]
  is_right
  lose_bitmap
  expect_code 3 qimg "${auto[@]}" --output json
  json '.point.type == "resync" and (.point.drives[0] | .type == "resync" and
    .exact and (.reason | contains("cannot serve")))'
  [[ $stderr == *"all of the drive was compared: bitmap 'daily' of"* ]]
  is_right
  # A clear by hand, a pause, and hashes that are gone.
  qimg bitmap clear -q --drive vm.qcow2 daily
  expect_code 3 qimg "${auto[@]}"
  [ "$(last .type)" = '"resync"' ]
  qimg bitmap disable -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 6 1M 64k'
  qimg bitmap enable -q --drive vm.qcow2 daily
  expect_code 3 qimg "${auto[@]}"
  [ "$(last '[.type, .drives[0].stored]')" = '["resync",65536]' ]
  is_right
  rm repo/points/000002-*/vm.hashes
  expect_code 3 qimg "${auto[@]}"
  [ "$(last .type)" = '"full"' ]
  oracle_equal "repo/points/$(last .id | tr -d \")/vm.qcow2" vm.qcow2
  # A bitmap that there is not is a mistake, and no reason for another type.
  refuses 6 backup --auto --drive vm.qcow2 --bitmap nope --to repo : "'nope'"
}

@test "auto: several drives, each as it can" {
  mkimage data.qcow2 2M 32
  qimg bitmap add -q --drive data.qcow2 daily
  back_up --full
  write vm.qcow2 'write -P 5 1M 64k'
  expect_code 3 qimg backup --auto --drive vm.qcow2 --drive data.qcow2 \
    --bitmap daily --to repo
  [ "$(last '[.type] + [.drives[] | .type]')" = \
    '["incremental","incremental","full"]' ]
  [[ $stderr == *"drive 'data': "* && $stderr != *"drive 'vm': "* ]]
  is_right
}

@test "the hash of a point: sizes, snapshots and commits in between" {
  local size
  back_up --full -c
  for size in 10M 5111808 1M 700M 512 3M; do
    qimg resize -q --shrink vm.qcow2 $size
    [ $size = 512 ] || write vm.qcow2 'write -P 9 700k 100k'
    back_up --incremental
    is_right
  done
  qimg snapshot create -q --drive vm.qcow2 s
  write vm.qcow2 'write -P 8 1M 64k' 'write -z 2M 64k' 'write -P 0 0 64k'
  back_up --incremental
  is_right -c
  qimg commit -q --drive vm.qcow2
  write vm.qcow2 'discard 0 3M'
  back_up --incremental
  is_right
}

@test "hashes that are damaged: found, and nothing builds on them" {
  local f
  back_up --full
  write vm.qcow2 'write -P 5 1M 64k'
  back_up --incremental
  f=$(echo repo/points/000002-*/vm.hashes)
  printf 'nonsense' | dd of="$f" bs=1 seek=100 conv=notrunc status=none
  expect_code 4 qimg backup verify repo
  [[ $output == *"vm.hashes"* ]]
  # Checksums that fit do not help it.
  (
    cd "${f%/*}"
    xxh128sum manifest.json vm.hashes >CHECKSUMS
  )
  expect_code 4 qimg backup verify --read-data repo
  [[ $output == *"vm.hashes' are damaged"* ]]
  write vm.qcow2 'write -P 6 64k 64k'
  rm repo/points/*/verified.json # which tells of it
  refuses 4 backup --incremental --drive vm.qcow2 --bitmap daily --to repo : \
    'damaged'
}

@test "a clear that was lost after a resync: nothing is missed" {
  local how
  for how in --incremental --auto; do
    rm -rf repo
    back_up --full
    write vm.qcow2 'write -P 11 0 64k'
    qimg bitmap clear -q --drive vm.qcow2 daily
    cp vm.qcow2 before.qcow2
    back_up --resync
    mv before.qcow2 vm.qcow2
    write vm.qcow2 'write -P 12 1M 64k'
    if [ $how = --incremental ]; then
      refuses 6 backup $how --drive vm.qcow2 --bitmap daily --to repo : \
        'does not start at the last backup'
    else
      expect_code 3 qimg backup $how --drive vm.qcow2 --bitmap daily --to repo
      is_right
    fi
  done
  # Nor when the resync has become one with a later point.
  cp vm.qcow2 before.qcow2
  back_up --incremental
  write vm.qcow2 'write -P 13 2M 64k'
  back_up --incremental
  qimg backup merge -q repo 000002..last
  cp before.qcow2 vm.qcow2
  write vm.qcow2 'write -P 14 3M 64k'
  refuses 6 backup --incremental --drive vm.qcow2 --bitmap daily --to repo : \
    'does not start at the last backup'
}

@test "a disk that shrinks, with zeroes at its new end" {
  qemu-img create -q -f qcow2 vm.qcow2 16M
  write vm.qcow2 'write -P 1 0 16M'
  qimg bitmap add -q --drive vm.qcow2 daily
  back_up --full
  write vm.qcow2 'write -z 4M 2M'
  qimg resize -q --shrink vm.qcow2 6M
  back_up --incremental
  is_right
  qimg restore -q --from repo out.qcow2
  qemu-img convert -O raw vm.qcow2 vm.raw
  qimg backup -q --full --drive vm.raw --to raw
  for size in 5000192 16M 4259840 12M 1M; do
    truncate -s "$size" vm.raw
    qimg backup -q --resync --drive vm.raw --to raw
    qimg backup verify -q --read-data raw
    qimg restore -q --force --from raw -O raw out.raw
    cmp out.raw vm.raw
  done
  # What was cut off and came back as zero does not show what is below it.
  qimg backup merge -q raw 000002..last
  qimg restore -q --force --from raw -O raw out.raw
  cmp out.raw vm.raw
  qimg backup verify -q --read-data raw
}

@test "names with blanks, and those that no list can hold" {
  cp vm.qcow2 ' a b.qcow2'
  qimg backup -q --full --drive ' a b.qcow2' --to repo
  qimg backup verify -q --read-data repo
  (cd repo/points/0* && xxh128sum --quiet -c CHECKSUMS)
  cp vm.qcow2 $'a\nb.qcow2'
  refuses 1 backup --full --drive $'a\nb.qcow2' --to repo : 'control character'
  cp vm.qcow2 $'a\xff.qcow2'
  refuses 1 backup --full --drive $'a\xff.qcow2' --to repo \
    : "drive 'a\xff.qcow2' is not valid UTF-8"
  qimg bitmap add -q --drive vm.qcow2 $'d\xff'
  refuses 1 backup --full --drive vm.qcow2 --bitmap $'d\xff' --to repo \
    : "bitmap 'd\xff' is not valid UTF-8"
  # In the way of nothing else; it is no part of what a restore makes.
  qimg backup -q --full --drive vm.qcow2 --to repo
  qimg restore -q --from repo --at 000002 back.qcow2
  qimg backup verify -q --read-data repo
}

@test "nothing is built on a point in which damage was found" {
  qimg bitmap add -q --drive vm.qcow2 b
  qimg backup -q --full --drive vm.qcow2 --bitmap b --to repo
  qimg backup -q --incremental --drive vm.qcow2 --bitmap b --to repo
  printf x | dd of="$(echo repo/points/000001-*/vm.qcow2)" bs=1 \
    seek=$((5 * 65536 + 99)) conv=notrunc status=none
  expect_code 4 qimg backup verify -q --read-data repo
  local args=(--drive vm.qcow2 --bitmap b --to repo)
  refuses 6 backup --incremental "${args[@]}" : 'point 000001-' damaged --full
  refuses 6 backup --resync "${args[@]}" : 'point 000001-' damaged \
    'take one with --full'
  expect_code 3 qimg backup --auto "${args[@]}"
  says ' of '"'vm'"': full, '
  [[ $stderr == *"point 000001-"*"damaged"* ]]
  qimg backup -q --incremental "${args[@]}"
  qimg restore -q --from repo -O raw back.raw
  oracle_equal vm.qcow2 back.raw
}
