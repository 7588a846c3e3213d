#!/usr/bin/env bats
# qimg restore: any point, to any format, checked against copies of the drive.

load ../helpers
load common

teardown() {
  unmount_small
}

# A repository with three points of drive vm; one.raw to three.raw are its
# content at each.
setup_file() {
  cd "$BATS_FILE_TMPDIR" || return
  mkimage vm.qcow2 4M 11
  qimg bitmap add -q --drive vm.qcow2 daily
  qemu-img convert -O raw vm.qcow2 one.raw
  qimg backup -q --full --drive vm.qcow2 --bitmap daily --to repo
  write vm.qcow2 'write -P 5 1M 100k' 'write -z 2M 128k'
  qemu-img convert -O raw vm.qcow2 two.raw
  qimg backup -q --incremental --drive vm.qcow2 --bitmap daily --to repo
  qemu-img resize -q vm.qcow2 6M
  write vm.qcow2 'write -P 6 5M 64k'
  qemu-img convert -O raw vm.qcow2 three.raw
  qimg backup -q --incremental --drive vm.qcow2 --bitmap daily --to repo
}

setup() {
  cp -a "$BATS_FILE_TMPDIR/." .
}

@test "every point, by id, prefix and 'last', is what the drive was" {
  local ids
  mapfile -t ids < <(qimg backup list --output json repo |
    jq -r '.points[].id')
  [ ${#ids[@]} = 3 ]
  qimg restore -q --from repo --at "${ids[0]}" a.qcow2
  oracle_equal a.qcow2 one.raw
  qimg restore -q --from repo --at 000002 b.qcow2
  oracle_equal b.qcow2 two.raw
  qimg restore -q --from repo --at last c.qcow2
  oracle_equal c.qcow2 three.raw
  qimg restore -q --from repo d.qcow2
  oracle_equal d.qcow2 three.raw
  oracle_check d.qcow2
  # Stock tools restore the same.
  qemu-img convert -O raw "repo/points/${ids[1]}/vm.qcow2" e.raw
  oracle_equal e.raw two.raw
}

@test "--at TIME: the last point not after it" {
  qimg restore -q --from repo --at 2999-12-31 a.qcow2
  oracle_equal a.qcow2 three.raw
  # Three points of one second: the last of them.
  local when
  when=$(qimg backup list --output json repo | jq -r '.points[2].time')
  qimg restore -q --from repo --at "${when%Z}" b.qcow2
  oracle_equal b.qcow2 three.raw
  refuses 1 restore --from repo --at 0000 z.qcow2 : "'0000' fits several"
  refuses 1 restore --from repo --at 000009 z.qcow2 : "no point '000009'" \
    "'qimg backup list repo'"
  refuses 1 restore --from repo --at 1999-12-31T23:59 z.qcow2 : 1999-12-31
}

@test "-O, -o, -c, -m: formats, options, compression, threads" {
  qimg restore -q --from repo -O raw a.raw
  cmp a.raw three.raw
  qimg restore -q --from repo -o cluster_size=4k,compat=0.10 -m 3 b.qcow2
  run_qimg bitmap list --drive b.qcow2
  [[ $output != *daily* ]]
  [ "$(qemu-img info --output=json b.qcow2 | jq '."cluster-size"')" = 4096 ]
  oracle_equal b.qcow2 three.raw
  qimg restore -q --from repo -c -o compression_type=zstd c.qcow2
  oracle_equal c.qcow2 three.raw
  [ "$(qemu-img check --output=json c.qcow2 |
    jq '."compressed-clusters" > 0')" = true ]
  expect_code 0 qimg restore --from repo -o help x.qcow2
  says cluster_size
  [ ! -e x.qcow2 ]
}

# made_like FILE...: format, options and bitmaps, as qemu-img has them.
made_like() {
  local f
  for f; do
    qemu-img info --output=json "$f" | jq -S '[.format, ."cluster-size",
      ."virtual-size", ."format-specific".data]'
  done
}

@test "a drive gets the format, options and bitmaps that it had" {
  local o kinds=() like
  qemu-img create -q -f raw r.raw 1M
  qimg create -q -f qcow2 -o cluster_size=32k,extended_l2=on,lazy_refcounts=on \
    -o compression_type=zstd,refcount_bits=32 a.qcow2 3M
  qimg create -q -f qcow2 -o compat=0.10,cluster_size=4k b.qcow2 2M
  qimg create -q -f qcow2 -b a.qcow2 -F qcow2 -o cluster_size=128k c.qcow2
  qimg bitmap add -q --drive c.qcow2 weekly
  qimg bitmap add -q --drive c.qcow2 -g 4k --disabled 'of a $day'
  qimg create -q -f qcow2 -o data_file=d.data d.qcow2 1M
  write c.qcow2 'write -P 3 0 200k'
  for o in r.raw a.qcow2 b.qcow2 c.qcow2 d.qcow2; do kinds+=(--drive "$o"); done
  qimg backup -q --full "${kinds[@]}" --to mixed
  mkdir out
  expect_code 0 qimg restore --from mixed --output json out
  json '.drives | map([.drive, .filename, .format, .bitmaps]) == [
    ["r", "out/r.raw", "raw", 0], ["a", "out/a.qcow2", "qcow2", 0],
    ["b", "out/b.qcow2", "qcow2", 0], ["c", "out/c.qcow2", "qcow2", 2],
    ["d", "out/d.qcow2", "qcow2", 0]]'
  like=$(made_like r.raw a.qcow2 b.qcow2)
  [ "$(cd out && made_like r.raw a.qcow2 b.qcow2)" = "$like" ]
  # Two bitmaps of a chain; a new drive on which nothing is dirty.
  [ "$(made_like out/c.qcow2)" = "$(made_like c.qcow2)" ]
  oracle_check out/c.qcow2
  oracle_equal out/c.qcow2 c.qcow2
  expect_code 0 qimg bitmap list --output json --drive out/c.qcow2
  json '.bitmaps | map([.name, .granularity, .state, .["dirty-bytes"]]) == [
    ["weekly", 65536, "enabled", 0], ["of a $day", 4096, "paused", 0]]'
  # Data beside the image is no option that a restore repeats.
  [ "$(made_like out/d.qcow2 | jq '.[3]["data-file"]')" = null ]
  # Single options are other ones, the rest as it was.
  qimg restore -q --from mixed --drive a -o refcount_bits=16 a2.qcow2
  [ "$(made_like a2.qcow2 | sed 's/\("refcount-bits":\) 16/\1 32/')" = \
    "$(made_like a.qcow2)" ]
  # Those that do not go together with a given one are left out.
  qimg restore -q --from mixed --drive a -o compat=0.10 a3.qcow2
  qemu-img info --output=json a3.qcow2 | jq -e '."cluster-size" == 32768 and
    ."format-specific".data == {"compat": "0.10", "compression-type": "zlib",
      "refcount-bits": 16}'
  qimg restore -q --from mixed --drive b -o compression_type=zstd b2.qcow2
  refuses 1 restore --from mixed --drive a -o compat=0.10,refcount_bits=32 \
    a4.qcow2 : "needs compat=1.1"
  refuses 2 restore --from mixed -o data_file=x out : "'data_file'" --drive
  qimg restore -q --from mixed --drive c -O raw c.raw
  oracle_equal c.raw c.qcow2
}

@test "a restored drive goes on in the same repository, by a resync" {
  mkdir out
  qimg restore -q --from repo out
  write out/vm.qcow2 'write -P 9 512k 64k'
  expect_code 3 qimg backup --auto --drive out/vm.qcow2 --bitmap daily --to repo
  says "resync, 64 KiB differ"
  write out/vm.qcow2 'write -P 9 768k 64k'
  expect_code 0 qimg backup --auto --drive out/vm.qcow2 --bitmap daily --to repo
  says "incremental, 64 KiB dirty"
  # The drive that was there before is another one.
  expect_code 3 qimg backup --auto --drive vm.qcow2 --bitmap daily --to repo
  says resync
  qimg restore -q --from repo b.qcow2
  oracle_equal b.qcow2 vm.qcow2
  # Two restores of one point are two drives.
  qimg restore -q --from repo c.qcow2
  [ "$(for f in b c; do qimg bitmap list --output json --drive $f.qcow2 |
    jq -r '.bitmaps[].checkpoint'; done | sort -u | wc -l)" = 2 ]
}

@test "--drive: which ones, where a point has several; a folder takes all" {
  local image n replaced kinds=()
  mkimage data.qcow2 2M 12
  qimg bitmap add -q --drive data.qcow2 daily
  qimg backup -q --full --drive vm.qcow2 --drive data.qcow2 --bitmap daily \
    --to repo
  refuses 2 restore --from repo z.qcow2 : --drive "'vm', 'data'" folder
  refuses 2 restore --from repo --drive vm --drive data z.qcow2 : folder
  qimg restore -q --from repo --drive data z.qcow2
  oracle_equal z.qcow2 data.qcow2
  refuses 1 restore --from repo --drive nothing y.qcow2 : "'nothing'" \
    "it has 'vm', 'data'"
  refuses 1 restore --from repo no/ : "'no/vm.qcow2'"
  mkdir all some
  expect_code 0 qimg restore --from repo all
  says "'all/vm.qcow2'" "'all/data.qcow2'"
  oracle_equal all/vm.qcow2 vm.qcow2
  oracle_equal all/data.qcow2 data.qcow2
  qimg restore -q --from repo --drive data --drive data -O raw some/
  [ "$(ls some)" = data.raw ]
  # All or none: one is there already, or gets there meanwhile.
  rm all/vm.qcow2
  refuses 1 restore --from repo all : "'all/data.qcow2' exists already"
  rm all/data.qcow2
  QIMG_FAULT=rename:2:EIO expect_code 1 qimg restore --from repo all
  complains "'all/data.qcow2'"
  [ -z "$(ls -A all)" ]
  # What has replaced a file stays, and is named: there is no other.
  for ((n = 1; n < 40; n++)); do
    echo mine | tee all/vm.qcow2 >all/data.qcow2
    QIMG_FAULT=sync:$n:EIO run_qimg restore --from repo --force all
    fault_fired || break
    [ "$status" = 1 ]
    replaced=$(grep -Lx mine all/*) || true
    case $replaced in
    '') complains "qimg: cannot " ;;
    all/vm.qcow2) complains "qimg: 'all/vm.qcow2' was replaced, and no" ;;
    *) complains "qimg: 'all/vm.qcow2' and 'all/data.qcow2' were replaced" ;;
    esac
    kinds[${#replaced}]=1
    for image in $replaced; do oracle_equal "$image" "${image#all/}"; done
    [ "$(ls -A all)" = $'data.qcow2\nvm.qcow2' ]
  done
  [ "$status" = 0 ]
  [ ${#kinds[@]} = 3 ]
  # A new one goes again.
  rm all/*
  echo mine >all/vm.qcow2
  QIMG_FAULT=rename:2:EIO expect_code 1 qimg restore --from repo --force all
  [ "$(ls -A all)" = vm.qcow2 ]
  rm all/*
  QIMG_FAULT=write:20:ENOSPC expect_code 7 qimg restore --from repo all
  [ -z "$(ls -A all)" ]
}

@test "a manifest cannot name files outside, or options that do" {
  local m
  m=$(echo repo/points/000001-*/manifest.json)
  sed -i 's/"compat": "1.1"/&, "data_file": "victim", "backing_file": "v"/' "$m"
  reseal "$m"
  qimg restore -q --from repo --at 000001 a.qcow2
  oracle_equal a.qcow2 one.raw
  [ "$(made_like a.qcow2 | jq '.[3]["data-file"]')" = null ]
  [ ! -e victim ]
  sed -i 's|"name": "vm"|"name": "../vm"|' "$m"
  reseal "$m"
  mkdir out
  refuses 4 restore --from repo --at 000001 out : "is not a manifest"
}

@test "an existing target needs --force; --dry-run changes nothing" {
  echo mine >a.qcow2
  chmod 604 a.qcow2
  refuses 1 restore --from repo a.qcow2 : --force
  [ "$(<a.qcow2)" = mine ]
  # Who cannot read the backup cannot read a new file; an old one hands on its
  # own mode. Its owner can write to it in any case.
  chmod 440 repo/points/000003-*/vm.qcow2
  qimg restore -q --from repo --force a.qcow2
  oracle_equal a.qcow2 three.raw
  qimg restore -q --from repo -o data_file=d.data --force d.qcow2
  qimg restore -q --from repo m.qcow2
  [ "$(stat -c %a a.qcow2 d.qcow2 d.data m.qcow2 | xargs)" = \
    "604 640 640 640" ]
  expect_code 0 qimg restore --from repo --dry-run b.qcow2
  says "would restore drive 'vm' of point '000003-" "to 'b.qcow2': qcow2, 6 MiB"
  expect_code 0 qimg restore --from repo -n --output json b.qcow2
  json '.["dry-run"] and .drives[0].written == 0'
  [ ! -e b.qcow2 ]
  refuses 1 restore --from repo -n a.qcow2 : --force
}

@test "text, JSON, quiet, progress" {
  expect_code 0 qimg restore --from repo a.qcow2
  says "'a.qcow2'" "'vm'"
  expect_code 0 qimg restore -q --from repo b.qcow2
  [ -z "$output$stderr" ]
  expect_code 0 qimg restore --from repo --output json c.qcow2
  json '.qimg and (.point | startswith("000003-")) and (.drives | length) == 1'
  json '.delta == false and .["dry-run"] == false'
  json '.drives[0] | .filename == "c.qcow2" and .drive == "vm" and
    .format == "qcow2" and .["virtual-size"] == 6291456 and
    .differing == null and .written > 0 and .zero > 0 and .bitmaps == 1 and
    .["past-end"] == 0'
  expect_code 0 qimg restore -q -p --from repo d.qcow2
  [ -z "$output$stderr" ]
  expect_code 0 qimg restore --progress --from repo e.qcow2
  [[ $stderr == *"restore: 100.0%"* ]]
}

@test "a point in use is refused and named; --wait" {
  local image
  image=$(echo repo/points/000003*/vm.qcow2)
  hold_image "$image"
  refuses 5 restore --from repo a.qcow2 : "$HOLD_PID (qemu-io)"
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 qimg restore -q --from repo --wait=20 a.qcow2
  release_image
  oracle_equal a.qcow2 three.raw
}

@test "a target in use is not replaced" {
  mkimage a.qcow2 1M 12
  hold_image a.qcow2
  refuses 5 restore --from repo --force a.qcow2 : "$HOLD_PID (qemu-io)"
  release_image
}

@test "a full disk: code 7, nothing left" {
  small_disk 1M
  refuses 7 restore --from repo small/a.qcow2 : "'small/a.qcow2'" \
    "No space left on device"
}

@test "what cannot be: no repository, no folder, no space, wrong options" {
  refuses 1 restore --from nothing a.qcow2 : "'nothing'"
  refuses 1 restore --from repo no/a.qcow2 : "'no/a.qcow2'"
  refuses 1 restore --from repo one.raw/a.qcow2 : "Not a directory"
  refuses 1 restore --from repo /sys/a.qcow2 : "'/sys/a.qcow2'"
  refuses 2 restore a.qcow2 : --from
  refuses 2 restore --from repo
  refuses 1 restore --from repo -O nothing a.qcow2 : "'nothing'"
  refuses 1 restore --from repo -o bogus=1 a.qcow2 : "'bogus'"
  refuses 2 restore --from repo -o size=1M a.qcow2 : "leave out option 'size'"
  refuses 2 restore --from repo -o backing_fmt=raw,backing_file=one.raw \
    a.qcow2 : "leave out option 'backing_file'"
  QIMG_FAULT=write:2:ENOSPC expect_code 7 qimg restore --from repo a.qcow2
  complains 'No space left'
  [ ! -e a.qcow2 ]
  no_hidden_files
}

@test "the repository is only read" {
  local before data list="find repo -printf %p:%m:%s:%T@:%C@\n"
  chmod -R a-w repo
  before=$($list && state repo)
  qimg restore -q --from repo a.qcow2
  qimg restore -q --from repo --at 000001 --delta a.qcow2
  [ "$before" = "$($list && state repo)" ]
  chmod -R u+w repo
  # Nor is anything written into it.
  ln -s "$PWD/repo/points" points
  refuses 1 restore --from repo repo/new.qcow2 : "is inside the repository"
  refuses 1 restore --from repo points : "is inside the repository"
  refuses 1 restore --from repo --force repo/points/000003*/vm.qcow2 : \
    "is inside the repository"
  refuses 1 restore --from repo --at 000001 --delta \
    repo/points/000003*/vm.qcow2 : "is inside the repository"
  ln -s repo/points/000001*/vm.qcow2 data
  for data in data "$PWD"/repo/points/000001*/vm.qcow2 points/data; do
    refuses 1 restore --from repo --at 000003 --force -o "data_file=$data" \
      y.qcow2 : "$data' is inside the repository"
  done
  ln repo/points/000003*/vm.qcow2 other.qcow2
  refuses 1 restore --from repo --delta other.qcow2 : "a file of the repository"
}

@test "damage in what a point rests on is an error, and leaves no target" {
  local base
  base=$(find repo/points -path '*000001*' -name vm.qcow2)
  truncate -s 70000 "$base"
  expect_code 4 qimg restore --from repo a.qcow2
  complains 'truncated'
  [ ! -e a.qcow2 ]
  no_hidden_files
}

@test "what is damaged is not restored" {
  local f at
  # The content of a cluster of the point in the middle.
  f=$(echo repo/points/000002-*/vm.qcow2)
  at=$(qemu-img map --output=json "$f" |
    jq 'map(select(.depth == 0 and .data))[0] | .offset')
  printf x | dd of="$f" bs=1 seek=$((at + 1000)) conv=notrunc status=none
  refuses 4 restore --from repo a.raw -O raw : "drive 'vm' in point 000003-" \
    'at 1048576, 65536 bytes, is not what was backed up' \
    "'qimg backup verify --read-data repo 000003-"
  refuses 4 restore --from repo --at 000002 a.qcow2 : 'point 000002-'
  qimg restore -q --from repo --at 000001 a.qcow2
  oracle_equal a.qcow2 one.raw
  # Hashes that are gone or changed.
  printf x | dd of="$(echo repo/points/000001-*/vm.hashes)" bs=1 seek=90 \
    conv=notrunc status=none
  refuses 4 restore --from repo --at 000001 b.qcow2 : "vm.hashes' are damaged"
  rm repo/points/000001-*/vm.hashes
  refuses 1 restore --from repo --at 000001 b.qcow2 : vm.hashes
}

@test "an image that got another size is not restored" {
  qemu-img resize -q --shrink repo/points/000001-*/vm.qcow2 1M
  refuses 4 restore --from repo --at 000001 a.qcow2 : \
    'has a disk of 1048576 bytes, not the 4194304'
}
