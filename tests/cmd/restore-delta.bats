#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # $status is that of each test
# qimg restore --delta: what is there becomes the point again, in place, and no
# more of it is written than differs.

load ../helpers
load common

# A repository with two points of drive vm, 4 MiB: one.raw is its content at the
# first, two.raw at the second and now.
setup_file() {
  cd "$BATS_FILE_TMPDIR" || return
  mkimage vm.qcow2 4M 21
  qimg bitmap add -q --drive vm.qcow2 daily
  qemu-img convert -O raw vm.qcow2 one.raw
  qimg backup -q --full --drive vm.qcow2 --bitmap daily --to repo
  write vm.qcow2 'write -P 5 1M 100k' 'write -z 2M 128k' 'write -P 6 4092k 4k'
  qemu-img convert -O raw vm.qcow2 two.raw
  qimg backup -q --incremental --drive vm.qcow2 --bitmap daily --to repo
}

setup() {
  cp -a "$BATS_FILE_TMPDIR/." .
}

# delta POINT TARGET [OPTION...]: says what it did in $output.
delta() {
  expect_code 0 qimg restore --from repo --at "$1" --delta --output json \
    "${@:3}" "$2"
}

@test "the drive itself: only what differs is written, and its bitmap has it" {
  local inode
  inode=$(stat -c %i vm.qcow2)
  expect_code 0 qimg restore --from repo --at 000001 --delta -n vm.qcow2
  says "would restore drive 'vm' of point '000001-" "qcow2, 4 MiB, 320 KiB differ"
  oracle_equal vm.qcow2 two.raw
  delta 000001 vm.qcow2
  json '.delta and .drives[0].differing == 327680'
  json '.drives[0] | .written + .zero == 327680'
  oracle_equal vm.qcow2 one.raw
  oracle_check vm.qcow2
  [ "$inode" = "$(stat -c %i vm.qcow2)" ]
  # There is no more to do.
  inode=$(sha256sum vm.qcow2)
  delta 000001 vm.qcow2
  json '.drives[0] | .differing == 0 and .written == 0 and .zero == 0'
  [ "$inode" = "$(sha256sum vm.qcow2)" ]
  # It is the same drive: the next increment holds what came back.
  expect_code 0 qimg backup --incremental --drive vm.qcow2 --bitmap daily \
    --to repo
  says "320 KiB dirty"
  qimg restore -q --from repo now.qcow2
  oracle_equal now.qcow2 one.raw
  expect_code 0 qimg restore --from repo --delta vm.qcow2
  says "0 B differed"
}

@test "files of any size, raw and qcow2" {
  local f
  # Shorter, longer, empty, and with bytes where the point is zero.
  for f in '-s 1M' '-s 5M' '-s 0' '-s 1000K'; do
    cp two.raw a.raw
    # shellcheck disable=SC2086 # both are words
    truncate $f a.raw
    delta 000001 a.raw -O raw
    cmp a.raw one.raw
  done
  tr '\0' x <one.raw >a.raw
  delta 000002 a.raw -O raw
  cmp a.raw two.raw
  # Zeroes are holes.
  [ "$(stat -c %b a.raw)" -lt $(($(stat -c %s a.raw) / 512)) ]
  for f in 1M 5M; do
    qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 $f
    write a.qcow2 'write -P 1 512k 512k'
    qimg bitmap add -q --drive a.qcow2 b
    delta 000001 a.qcow2
    oracle_equal a.qcow2 one.raw
    oracle_check a.qcow2
    [ "$(qemu-img info --output=json a.qcow2 | jq '."virtual-size"')" = 4194304 ]
    expect_code 0 qimg bitmap show --output json --drive a.qcow2 b
    json '.["dirty-bytes"] >= 1048576'
    rm a.qcow2
  done
}

@test "the head of a chain, clusters of all sizes, a data file, snapshots" {
  local how
  # The backing file is longer, and not zero where the point is.
  tr '\0' x <two.raw >base.raw
  printf x >>base.raw
  truncate -s 6M base.raw
  for how in cluster_size=2M cluster_size=512 extended_l2=on; do
    rm -f over.qcow2
    qemu-img create -q -f qcow2 -b base.raw -F raw -o $how over.qcow2
    delta 000002 over.qcow2
    oracle_equal over.qcow2 two.raw
    oracle_check over.qcow2
  done
  qemu-img create -q -f qcow2 -o data_file=d.data,data_file_raw=on d.qcow2 4M
  delta 000001 d.qcow2
  cmp d.data one.raw
  # An old state inside the image stays.
  qemu-img snapshot -c old vm.qcow2
  delta 000001 vm.qcow2
  oracle_equal vm.qcow2 one.raw
  qimg snapshot -a old vm.qcow2
  oracle_equal vm.qcow2 two.raw
  # A drive link: the head is written, in its folder.
  mkdir images
  mv vm.qcow2 images
  ln -s images/vm.qcow2 vm
  qimg snapshot create -q --drive vm --overlay images/top.qcow2 s
  delta 000001 vm
  oracle_equal images/top.qcow2 one.raw
  oracle_equal images/vm.qcow2 two.raw
  expect_code 0 qimg backup --incremental --drive vm --bitmap daily --to repo
  qimg restore -q --from repo now.qcow2
  oracle_equal now.qcow2 one.raw
}

@test "several drives in a folder" {
  mkimage data.qcow2 2M 12
  qimg backup -q --full --drive vm.qcow2 --drive data.qcow2 --to both
  mkdir out
  cp vm.qcow2 data.qcow2 out
  write out/vm.qcow2 'write -P 9 0 1'
  write out/data.qcow2 'write -P 9 1M 1'
  expect_code 0 qimg restore --from both --delta -p out
  says "'out/vm.qcow2': qcow2, 4 MiB, 64 KiB differed" \
    "'out/data.qcow2': qcow2, 2 MiB, 64 KiB differed"
  [[ $stderr == *"compare: 100.0%"* || $stderr != *%* ]]
  expect_code 0 qimg restore --from both --delta --progress=json out
  [[ $stderr == *'"operation": "compare", "done": 6291456, "total": 6291456'* ]]
  oracle_equal out/vm.qcow2 vm.qcow2
  oracle_equal out/data.qcow2 data.qcow2
  rm out/data.qcow2
  refuses 1 restore --from both --delta out : "'out/data.qcow2'"
  ln -s vm.qcow2 out/data.qcow2
  refuses 1 restore --from both --delta out : "are the same file"
}

# damage AT: the first stored byte of the first point at AT, or after, is
# another one now; sets $at to where that is in the disk.
damage() {
  local map host
  map=$(qemu-img map --output=json repo/points/000001-*/vm.qcow2 |
    jq -c "map(select(.data and .start >= $1))[0]")
  at=$(jq .start <<<"$map") host=$(jq .offset <<<"$map")
  printf '\xa5' | dd of="$(echo repo/points/000001-*/vm.qcow2)" bs=1 \
    seek="$host" conv=notrunc status=none
}

@test "what is damaged in the repository is not written" {
  local at
  damage $((3 << 20))
  # All differs: what comes before is written, the window with it is not.
  tr '\0-\377' '\1-\377\0' <one.raw >a.raw
  cp a.raw b.raw
  expect_code 4 qimg restore --from repo --at 000001 --delta -O raw -m 1 a.raw
  complains "'a.raw' was changed in part: the data of drive 'vm' in point" \
    "at $((at / 65536 * 65536)), 65536 bytes, is not what was backed up"
  cmp -n $((3 << 20)) a.raw one.raw
  cmp -i $((3 << 20)) a.raw b.raw
  qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 4M
  write a.qcow2 'write -P 7 0 4M'
  expect_code 4 qimg restore --from repo --at 000001 --delta -m 1 a.qcow2
  qemu-io -f qcow2 -c 'read -P 7 3M 1M' a.qcow2 >read.log
  run ! grep -i fail read.log
  # In the first one nothing is written at all.
  damage 0
  refuses 4 restore --from repo --at 000001 --delta -O raw b.raw : "at $at,"
  # What does not differ need not be read.
  qimg restore -q --from repo --at 000001 --delta -O raw one.raw
}

@test "what cannot be" {
  refuses 1 restore --from repo --delta no.qcow2 : "'no.qcow2'"
  refuses 2 restore --from repo --delta --force vm.qcow2 : --force
  refuses 1 restore --from repo --delta -c vm.qcow2 : "for new images"
  refuses 1 restore --from repo --delta -o compat=1.1 vm.qcow2 : \
    "for new images"
  # A format that was not said has to be that of the drive.
  refuses 1 restore --from repo --delta one.raw : \
    "'one.raw' looks like raw and not like qcow2" "-O"
  qemu-img create -q -f raw r.raw 1M
  qimg backup -q --full --drive r.raw --to raws
  refuses 1 restore --from raws --delta vm.qcow2 : "looks like qcow2"
  # Others rest on it, or somebody has it open.
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 over.qcow2
  refuses 6 restore --from repo --at 000001 --delta vm.qcow2 : over.qcow2
  rm over.qcow2
  hold_image vm.qcow2
  refuses 5 restore --from repo --delta vm.qcow2 : "$HOLD_PID (qemu-io)"
  refuses 5 restore --from repo --delta -n vm.qcow2 : "$HOLD_PID (qemu-io)"
  release_image
  # Somebody may rest on it, in another folder.
  qimg snapshot create -q --drive vm.qcow2 s
  rm vm.qcow2
  refuses 6 restore --from repo --delta vm@s.qcow2 : "has frozen it"
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  local code=0
  qimg check -q vm.qcow2 2>/dev/null || code=$?
  [ $code = 0 ] || [ $code = 3 ] || {
    echo "$1: check: $code"
    return 1
  }
  # Whatever it reads now, its bitmap says all that has changed.
  qimg backup -q --incremental --drive vm.qcow2 --bitmap daily --to repo
  qemu-img convert -O raw vm.qcow2 ../now.raw
  qimg restore -q --force --from repo -O raw ../out.raw
  cmp ../now.raw ../out.raw || {
    echo "$1: the bitmap missed something"
    return 1
  }
  [ "$status" != 0 ] || cmp ../now.raw ../one.raw
  qimg restore -q --from repo --at 000001 --delta vm.qcow2
  qemu-img convert -O raw vm.qcow2 ../now.raw
  cmp ../now.raw ../one.raw
}

@test "killed anywhere: the same command goes on, and no bitmap says too little" {
  mkdir drive
  # Another size, too: it has to grow, or to shrink.
  qemu-img resize -q --shrink vm.qcow2 3M
  mv vm.qcow2 repo drive
  least=5 each_fault "$QIMG" restore -q --from repo --at 000001 --delta vm.qcow2
  cp "$BATS_FILE_TMPDIR/vm.qcow2" drive
  qemu-img resize -q drive/vm.qcow2 5M
  least=5 faults=change:kill each_fault "$QIMG" restore -q --from repo --at 000001 --delta vm.qcow2
}

@test "random writes, sizes and clusters, taken back" {
  local seed=${QIMG_SEED:-$RANDOM} n i size args before
  echo "QIMG_SEED=$seed"
  RANDOM=$seed
  for ((n = $(rounds 4); n; n--)); do
    rm -f a.qcow2
    size=$((RANDOM % 12 * 512 + 512))K
    qemu-img create -q -f qcow2 -o cluster_size=$((512 << RANDOM % 13)) a.qcow2 \
      $size
    args=()
    for ((i = 0; i < 8; i++)); do
      args+=("write -P $((RANDOM % 3)) $((RANDOM % 960))b $((RANDOM % 60))b")
    done
    write a.qcow2 "${args[@]}"
    delta 00000$((RANDOM % 2 + 1)) a.qcow2
    before=$(jq -r .point <<<"$output")
    case $before in
    000001*) oracle_equal a.qcow2 one.raw ;;
    *) oracle_equal a.qcow2 two.raw ;;
    esac
    oracle_check a.qcow2
  done
}
