#!/usr/bin/env bats
# qimg backup, backup list, backup verify.

load ../helpers
load common

setup() {
  mkimage vm.qcow2 4M 21
  qimg bitmap add -q --drive vm.qcow2 daily
}

teardown() {
  unmount_small
}

full() {
  qimg backup -q --full --drive vm.qcow2 --bitmap daily --to repo "$@"
}

increment() {
  qimg backup -q --incremental --drive vm.qcow2 --bitmap daily --to repo
}

# The image of the last point is what the drive is.
last_is() {
  local image
  image=$(find repo/points -name "${2:-vm}.qcow2" | sort | tail -n 1)
  oracle_equal "$image" "$1"
}

@test "full, then increments of no more than what is dirty" {
  full
  last_is vm.qcow2
  write vm.qcow2 'write -P 1 1M 64k' 'write -P 2 3M 100k'
  expect_code 0 qimg backup --incremental --drive vm.qcow2 --bitmap daily \
    --to repo --output json
  json '.points // [.point] | .[0].drives[0]
    | .dirty == 196608 and .stored <= 196608'
  last_is vm.qcow2
  # Nothing changed, nothing copied.
  increment
  run_qimg backup list --output json repo
  json '.points | length == 3 and .[2].drives[0].dirty == 0'
  json '.points | .[0].type == "full" and .[1].type == "incremental"
    and .[1].parent == .[0].id and .[2].parent == .[1].id'
  qimg backup verify -q --read-data repo
}

@test "across a snapshot and a commit" {
  local n
  full
  write vm.qcow2 'write -P 1 0 64k'
  qimg snapshot create -q --drive vm.qcow2 s
  write vm.qcow2 'write -P 2 1M 64k'
  increment
  last_is vm.qcow2
  write vm.qcow2 'write -P 3 2M 64k' 'write -z 64k 64k'
  qimg commit -q --drive vm.qcow2
  write vm.qcow2 'write -P 4 3M 64k'
  increment
  last_is vm.qcow2
  run_qimg backup list --output json repo
  json '[.points[].drives[0].dirty][1:] == [131072, 196608]'
  # The files of a point are sound for QEMU too.
  for n in repo/points/*/vm.qcow2; do oracle_check "$n"; done
}

@test "a drive link; its name is that of the link" {
  mv vm.qcow2 disk.qcow2
  ln -s disk.qcow2 web
  qimg backup -q --full --drive web --bitmap daily --to repo
  qimg snapshot create -q --drive web s
  write web.s.qcow2 'write -P 9 0 64k'
  qimg backup -q --incremental --drive web --bitmap daily --to repo
  last_is web web
}

@test "several drives make one point" {
  mkimage data.qcow2 2M 22
  qimg bitmap add -q --drive data.qcow2 daily
  qimg backup -q --full --drive vm.qcow2 --drive data.qcow2 --bitmap daily \
    --to repo
  write data.qcow2 'write -P 7 0 64k'
  qimg backup -q --incremental --drive vm.qcow2 --drive data.qcow2 \
    --bitmap daily --to repo
  run_qimg backup list --output json repo
  json '[.points[1].drives[] | [.name, .dirty]]
    == [["vm", 0], ["data", 65536]]'
  last_is vm.qcow2
  last_is data.qcow2 data
  # All or nothing: the second one has no such bitmap.
  qimg bitmap add -q --drive vm.qcow2 other
  refuses 6 backup --full --drive vm.qcow2 --drive data.qcow2 --bitmap other \
    --to repo : 'data.qcow2' "'qimg bitmap add"
}

@test "-c, -m: compressed, and the same bytes for any number of threads" {
  full -c -m 1
  qimg backup -q --full --drive vm.qcow2 --bitmap daily --to repo -c -m 4
  cmp repo/points/*/vm.qcow2
  [ "$(qemu-img check --output=json "$(echo repo/points/000001*/vm.qcow2)" |
    jq '."compressed-clusters" > 0')" = true ]
  last_is vm.qcow2
}

@test "--dry-run shows the steps and changes nothing" {
  local before
  before=$(state)
  expect_code 0 qimg backup -n --full --drive vm.qcow2 --bitmap daily --to repo
  says 'make the repository' 'store all' 'clear bitmap'
  [ "$before" = "$(state)" ]
  full
  write vm.qcow2 'write -P 1 1M 64k'
  before=$(state)
  expect_code 0 qimg backup --dry-run --full --drive vm.qcow2 --to repo
  says "  1. store all of drive 'vm.qcow2'"
  expect_code 0 qimg backup --dry-run --incremental --drive vm.qcow2 \
    --bitmap daily --to repo
  says "  1. store 65536 dirty bytes of drive 'vm.qcow2' on point 000001-" \
    "  2. clear bitmap 'daily' of drive 'vm.qcow2'"
  expect_code 0 qimg backup -n --incremental --drive vm.qcow2 \
    --bitmap daily --to repo --output json
  json '.["dry-run"] and .point == null and (.steps | length == 2)'
  [ "$before" = "$(state)" ]
}

@test "text, quiet, progress" {
  local number='[0-9.]+ (B|KiB|MiB)' line
  expect_code 0 qimg backup --full --drive vm.qcow2 --bitmap daily --to repo
  line="^backup 000001-[0-9]{8}T[0-9]{6}Z of 'vm': full, 4 MiB in size,"
  line+=" $number copied, [0-9.]+ s \\($number of files\\)\$"
  [[ $output =~ $line ]]
  write vm.qcow2 'write -P 1 1M 100k'
  expect_code 0 qimg backup --incremental --drive vm.qcow2 --bitmap daily \
    --to repo
  line="^backup 000002-[0-9]{8}T[0-9]{6}Z of 'vm': incremental,"
  line+=" 128 KiB dirty, 128 KiB copied, [0-9.]+ s \\($number of files\\)\$"
  [[ $output =~ $line ]]
  expect_code 0 qimg backup -q -p --incremental --drive vm.qcow2 \
    --bitmap daily --to repo
  [ -z "$output$stderr" ]
  expect_code 0 qimg backup --full --drive vm.qcow2 --to repo --progress=json
  tail -1 <<<"$stderr" | jq -e '.progress | .operation == "backup" and
    .percent == 100 and .done == .total'
  expect_code 0 qimg backup list repo
  says ID full incremental 000001- 000002- never
  qimg backup verify -q repo
  qimg backup verify -q --read-data repo 000001
  qimg backup pin -q repo 000002
  run_qimg backup list repo
  line='^000001-[^ ]+ +[0-9]+ s +full +1 +4 MiB +[0-9.]+ [KM]iB +[0-9]+ s ago, data$'
  [[ $(sed -n 2p <<<"$output") =~ $line ]]
  line='^000002-[^ ]+ +[0-9]+ s +incremental, pinned +2 +4 MiB +.* [0-9]+ s ago$'
  [[ $(sed -n 3p <<<"$output") =~ $line ]]
  run_qimg backup list --output json repo
  json '[.points[].chain][:3] == [1, 2, 3] and .points[1].pinned and
    (.points[0].verified | .["read-data"] and .problems == 0 and
      (.time | test("^[0-9-]{10}T[0-9:]{8}Z$"))) and
    (.points[1].verified["read-data"] | not)'
  rm repo/points/000001-*/vm.hashes
  expect_code 4 qimg backup verify -q repo 000001
  run_qimg backup list repo
  [[ $(sed -n 2p <<<"$output") == *" damaged" ]]
  refuses 1 backup list nothing : "'nothing'"
  refuses 2 backup list : "argument is missing"
}

@test "JSON of a point" {
  expect_code 0 qimg backup --full --drive vm.qcow2 --bitmap daily --to repo \
    --output json
  json '.qimg and .["dry-run"] == false and (.steps | length == 2)'
  json '.point | (.id | startswith("000001-")) and .type == "full" and
    .parent == null and .problem == null and .["file-size"] > 0 and
    (.time | test("^[0-9-]{10}T[0-9:]{8}Z$")) and (.seconds | type == "number")'
  json '.point.drives | length == 1 and (.[0] | .name == "vm" and
    .["virtual-size"] == 4194304 and .bitmap == "daily" and .exact and
    .reason == null and .stored + .zero <= 4194304 and
    .["from-checkpoint"] != .["to-checkpoint"] and (.["drive-id"] != null))'
  local to
  to=$(jq -r '.point.drives[0]["to-checkpoint"]' <<<"$output")
  [ "$(qimg bitmap show --output json --drive vm.qcow2 daily |
    jq -r .checkpoint)" = "$to" ]
}

@test "verify: text, JSON, quiet, progress" {
  full
  increment
  expect_code 0 qimg backup verify repo
  [ "$output" = "verified 2 points: 8 files, no problems" ]
  expect_code 0 qimg backup verify --read-data repo 000001
  [[ $output =~ ^"verified 1 point: 5 files, "[0-9.]+" MiB read, no problems"$ ]]
  expect_code 0 qimg backup verify -q repo last
  [ -z "$output$stderr" ]
  expect_code 0 qimg backup verify --read-data --progress=json -q repo
  [ -z "$output$stderr" ]
  expect_code 0 qimg backup verify --read-data -p repo
  [[ $stderr == *"verify: 100.0%"* ]]
  expect_code 0 qimg backup verify --output json --read-data repo
  json '.qimg and .["read-data"] and .findings == [] and .problems == 0 and
    .files == 8 and .bytes > 0'
  rm repo/points/000001*/vm.hashes
  expect_code 4 qimg backup verify --output json repo
  json '.problems == (.findings | length) and .problems > 0 and
    (.findings[0] | contains("vm.hashes"))'
  expect_code 4 qimg backup verify -q repo
  [[ $output == *vm.hashes* ]]
}

@test "verify waits for a prune that changes the files of a point" {
  local id pid
  full
  id=$(basename repo/points/0*)
  mkdir "repo/points/.rebuilt-$id"
  # A lock says that somebody is at work.
  hold_image repo/qimg-repository.json raw
  "$QIMG" backup verify --read-data repo >out 2>&1 &
  pid=$!
  sleep 0.5
  [ ! -s out ]
  rmdir "repo/points/.rebuilt-$id"
  wait $pid
  release_image
  grep -q 'no problems$' out
}

@test "several first backups at once" {
  local n pids=()
  cp vm.qcow2 b.qcow2
  cp vm.qcow2 c.qcow2
  for n in vm b c; do
    "$QIMG" backup -q --full --wait=60 --drive $n.qcow2 --to repo &
    pids+=($!)
  done
  for n in "${pids[@]}"; do wait "$n"; done
  [ "$(find repo/points -name manifest.json | wc -l)" = 3 ]
  qimg backup verify -q repo
}

@test "verify a part of the data: all of it in as many runs as it takes" {
  local n found=0 image
  mkimage vm.qcow2 13M 3
  qimg backup -q --full --drive vm.qcow2 --to repo
  for n in 100 30 12.5% 30 27.5 25; do
    qimg backup verify --output json --read-data=$n repo
  done >runs
  # Each chunk once, and not all of them in a row.
  jq -es 'map(.bytes) | .[0] == (.[1:5] | add) and
    (.[5] / .[0] | . > 0.2 and . < 0.3)' runs
  run_qimg backup list repo
  [[ $output == *" ago, 25% of data" ]]
  run_qimg backup list --output json repo
  json '.points[0].verified | .["read-data"] and .percent == 25'
  expect_code 0 qimg backup verify --read-data=0.5% repo
  [[ $output =~ " read, which is 0.5% of the data, no problems"$ ]]
  # Damage is found by one of the runs, and by all from then on.
  image=$(echo repo/points/*/vm.qcow2)
  turn_byte "$image" $((20 * 65536 + 7))
  for n in 1 2 3 4 5; do
    status=0
    "$QIMG" backup verify -q --read-data=25 repo || status=$?
    [ $found = 0 ] || [ "$status" = 4 ]
    [ "$status" != 4 ] || found=1
  done
  [ $found = 1 ]
  # What does not look there tells of it all the same; parts go on elsewhere.
  expect_code 4 qimg backup verify repo
  says "damage was found by a run that has read more" "--read-data repo 0"
  run_qimg backup list repo
  [[ $output == *" damaged" ]]
  turn_byte "$image" $((20 * 65536 + 7))
  qimg backup verify -q --read-data=25 repo
  run_qimg backup list repo
  [[ $output == *" ago, 25% of data" ]]
  for n in 0 101 '' 1x nan; do
    expect_code 2 qimg backup verify --read-data=$n repo
    complains "'$n' is not a percentage from 0.0001 to 100"
  done
}

@test "verify a part, where nothing can be noted: by chance" {
  local n
  truncate -s 64K one.raw
  printf x | dd of=one.raw conv=notrunc status=none
  qimg backup -q --full --drive one.raw --to repo
  hold_image repo/qimg-repository.json raw
  for n in {1..20}; do
    qimg backup verify --output json --read-data=50% repo
  done >runs
  release_image
  # The only chunk there is, in some of them.
  jq -es 'map(.bytes) | unique == [0, 65536]' runs
  [ -z "$(find repo -name verified.json)" ]
}

@test "without a bitmap: full only, and the drive is only read" {
  local before
  before=$(sha256sum vm.qcow2)
  qimg backup -q --full --drive vm.qcow2 --to repo
  [ "$before" = "$(sha256sum vm.qcow2)" ]
  last_is vm.qcow2
  refuses 2 backup --incremental --drive vm.qcow2 --to repo : --bitmap
}

@test "bitmaps that cannot serve an increment: code 6, and what helps" {
  refuses 1 backup --incremental --drive vm.qcow2 --bitmap daily --to repo \
    : "'repo' is not a backup repository" "'qimg backup --full'"
  full
  refuses 6 backup --incremental --drive vm.qcow2 --bitmap none --to repo \
    : "no bitmap 'none'" "'qimg bitmap add --drive vm.qcow2 none'"
  # Rolled back to before the backup.
  cp vm.qcow2 old.qcow2
  increment
  cp old.qcow2 vm.qcow2
  increment # the clear after the last point was lost: taken again
  increment
  cp old.qcow2 vm.qcow2
  refuses 6 backup --incremental --drive vm.qcow2 --bitmap daily --to repo \
    : --full
  full
  # Paused for a while.
  qimg bitmap disable -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 3 0 64k'
  qimg bitmap enable -q --drive vm.qcow2 daily
  refuses 6 backup --incremental --drive vm.qcow2 --bitmap daily --to repo \
    : disabled --full
  full
  # Lost by a writer that was killed.
  hold_image vm.qcow2
  crash_holder
  refuses 6 backup --incremental --drive vm.qcow2 --bitmap daily --to repo \
    : --full
  full
  increment
  last_is vm.qcow2
}

@test "an estimated dirty set serves, with a warning" {
  full
  mv vm.qcow2 disk.qcow2
  ln -s disk.qcow2 vm
  qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 foreign.qcow2
  write foreign.qcow2 'write -P 8 1M 64k'
  ln -sf foreign.qcow2 vm
  expect_code 0 qimg backup --incremental --drive vm --bitmap daily --to repo
  [[ $stderr == *"qimg: warning: drive 'vm': the dirty set is not exact"* ]]
  [[ $stderr == *"estimated: 'foreign.qcow2': "* ]]
  [ "$(grep -c 'made by another tool; it is' <<<"$stderr")" = 1 ]
  json_of_last() { qimg backup list --output json repo | jq -r "$1"; }
  [ "$(json_of_last '.points[1].drives[0].exact')" = false ]
  last_is foreign.qcow2
}

@test "a full one has no dirty set of which to warn" {
  ln -s vm.qcow2 vm
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 foreign.qcow2
  ln -sfn foreign.qcow2 vm
  expect_code 0 qimg backup --full --drive vm --bitmap daily --to repo
  [ "$(grep -c 'made by another tool' <<<"$stderr")" = 1 ]
  [[ $stderr != *"not exact"* ]]
}

@test "a bitmap that could not be cleared is found before the first write" {
  local new how
  full
  mv vm.qcow2 disk.qcow2
  qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 vm.snap1
  qemu-img bitmap --add vm.snap1 daily
  ln -s vm.snap1 vm
  write vm 'write -P 1 1M 64k'
  for how in --incremental --full; do
    for new in '' -n; do
      # shellcheck disable=SC2086 # none
      expect_code 1 qimg backup $new $how --drive vm --bitmap daily --to repo
      [[ $stderr == *"'vm.snap1' has a node bitmap of that name"* ]]
      [[ $stderr == *"'qimg bitmap remove --node vm.snap1 daily'"* ]]
      [[ $stderr != *"choose another name"* ]]
    done
  done
  expect_code 1 qimg backup -n --full --drive vm --bitmap daily --to other
  [[ $stderr == *"node bitmap of that name"* ]]
  [ "$(qimg backup list --output json repo | jq '.points | length')" = 1 ]
  # As the message says. What the layer has is dirty anyway.
  qimg bitmap remove -q --node vm.snap1 daily
  qimg backup -q --incremental --drive vm --bitmap daily --to repo
  last_is vm
}

@test "a drive in use is refused and named, and not changed" {
  hold_image vm.qcow2
  refuses 5 backup --full --drive vm.qcow2 --bitmap daily --to repo \
    : "$HOLD_PID" qemu-io
  # Without a bitmap to clear it can be read, when the user insists.
  refuses 5 backup --full --drive vm.qcow2 --to repo : "$HOLD_PID" qemu-io
  refuses 2 backup --full -U --drive vm.qcow2 --bitmap daily --to repo \
    : --force-share --bitmap
  expect_code 0 qimg backup -q --full -U --drive vm.qcow2 --to forced
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 qimg backup -q --full --wait=20 --drive vm.qcow2 --to forced
  release_image
  hold_daemon vm.qcow2
  refuses 5 backup --full --drive vm.qcow2 --bitmap daily --to repo \
    : "$HOLD_PID" qemu-storage
  release_daemon
}

@test "bad use" {
  refuses 2 backup
  refuses 2 backup --full --to repo : --drive
  refuses 2 backup --full --drive vm.qcow2 : --to
  refuses 2 backup --full --incremental --drive vm.qcow2 --to repo
  refuses 1 backup --full --drive none.qcow2 --to repo : "'none.qcow2'"
  mkdir other
  echo mine >other/file
  refuses 1 backup --full --drive vm.qcow2 --to other : "'other'"
  refuses 1 backup --full --drive vm.qcow2 --to vm.qcow2/repo : 'vm.qcow2/repo'
  refuses 1 backup --full --drive vm.qcow2 --to /sys/repo : "'/sys/repo'"
}

@test "bad drives, bad repositories" {
  mkbad
  refuses 6 backup --full --drive a.qcow2 --to repo : loop
  refuses 1 backup --full --drive orphan.qcow2 --to repo : "'gone.qcow2'"
  refuses 4 backup --full --drive cut.qcow2 --to repo : truncated
  refuses 1 backup --full --drive folder --to repo : "'folder'"
  full
  echo '{}' >repo/qimg-repository.json
  refuses 4 backup --full --drive vm.qcow2 --to repo : qimg-repository.json
  refuses 4 backup list repo : qimg-repository.json
  refuses 4 backup verify repo : qimg-repository.json
}

@test "a full disk: code 7, no point, and the bitmap as it was" {
  small_disk 2M
  write vm.qcow2 'write -P 1 0 4M'
  mkdir small/repo
  expect_code 7 qimg backup --full --drive vm.qcow2 --bitmap daily \
    --to small/repo
  complains "no room in 'small/repo': the backup can take 4194304 bytes" \
    '--compress'
  [ -z "$(find small -path '*points/*')" ]
  # How small it gets is not known before. This does not.
  head -c 4M /dev/urandom >noise
  write vm.qcow2 'write -s noise 0 4M'
  expect_code 7 qimg backup --full --drive vm.qcow2 --bitmap daily \
    --to small/repo --compress
  complains 'No space left'
  [ -z "$(find small -path '*points/*')" ]
  expect_code 0 qimg bitmap show --output json --drive vm.qcow2 daily
  json '.["dirty-bytes"] == 4194304'
}

@test "no space: code 7, no point, and the bitmap as it was" {
  full
  write vm.qcow2 'write -P 1 0 1M'
  QIMG_FAULT=write:4:ENOSPC expect_code 7 qimg backup --incremental \
    --drive vm.qcow2 --bitmap daily --to repo
  complains 'No space left'
  no_hidden_files
  run_qimg backup list --output json repo
  json '.points | length == 1'
  increment
  last_is vm.qcow2
}

@test "verify finds a flipped byte: data, hashes, manifest, metadata" {
  local f at
  full
  write vm.qcow2 'write -P 1 0 1M'
  increment
  expect_code 0 qimg backup verify repo
  cp -a repo good
  for f in vm.qcow2 vm.hashes manifest.json CHECKSUMS; do
    rm -rf repo
    cp -a good repo
    f=$(echo repo/points/000002*/"$f")
    at=$(($(stat -c %s "$f") / 2))
    # Data is in the third cluster of the image, after header and tables.
    [[ $f != *.qcow2 ]] || at=$((3 * 65536 + 7))
    turn_byte "$f" "$at"
    echo "$f at $at"
    expect_code 4 qimg backup verify --read-data repo
    [[ $stderr$output == *000002* ]]
  done
}

@test "verify finds missing files, and what rests on them" {
  full
  write vm.qcow2 'write -P 1 0 1M'
  increment
  rm repo/points/000001*/vm.qcow2
  expect_code 4 qimg backup verify repo
  expect_code 4 qimg backup verify repo last
  rm -r repo/points/000001*
  expect_code 4 qimg backup verify repo
  expect_code 1 qimg backup verify repo nothing
  complains "'nothing'"
}

@test "a damaged manifest does not hide the other points" {
  full
  full
  echo '{' >"$(echo repo/points/000001*/manifest.json)"
  run_qimg backup list repo
  says 000001- 000002-
  expect_code 4 qimg backup verify repo
  qimg restore -q --from repo --at last a.qcow2
  oracle_equal a.qcow2 vm.qcow2
}

@test "a first backup that fails leaves no repository, or a point" {
  local n code
  qimg create -q -f qcow2 first.qcow2 1M
  for ((n = 1; n < 100; n++)); do
    code=0
    QIMG_FAULT=change:$n:EIO "$QIMG" backup -q --full --drive first.qcow2 \
      --to new 2>err || code=$?
    [ $code != 0 ] || break
    [ ! -e new ] || ls new/points/0*
    rm -rf new
  done
  [ "$n" -gt 10 ] && [ "$n" -lt 100 ]
  # A folder that was there stays, empty.
  rm -rf new
  mkdir new
  QIMG_FAULT=change:12:EIO "$QIMG" backup -q --full --drive first.qcow2 \
    --to new 2>err || code=$?
  [ "$code" = 1 ]
  [ -z "$(ls -A new)" ]
}

@test "check: what is missing, left over or foreign" {
  full
  increment
  expect_code 0 qimg backup check repo
  [ "$output" = "checked 2 points: no problems, 0 things to know" ]
  expect_code 0 qimg backup check -q repo
  [ -z "$output" ]
  mkdir repo/points/.partial-000009-x repo/points/.rebuilt-000001-x
  touch repo/notes.txt repo/points/old "$(echo repo/points/000001-*)/vm.qcow2~"
  expect_code 3 qimg backup check repo
  says "'notes.txt' is no part of the repository" \
    "'points/.partial-000009-x' is a point that is being" \
    "'points/.rebuilt-000001-x' has files that take the place" \
    "'points/old' is no point" "'vm.qcow2~' is no part of it" \
    'no problems, 5 things to know'
  rm repo/points/000002-*/vm.qcow2 repo/points/000002-*/CHECKSUMS
  expect_code 4 qimg backup check repo --output json
  json '.problems == 2 and .points == 2 and
    ([.findings[] | select(.problem) | .text] | sort |
      (.[0] | endswith("\u0027CHECKSUMS\u0027 is missing")) and
      (.[1] | endswith("\u0027vm.qcow2\u0027 is missing")))'
  rm repo/points/000001-*/manifest.json
  expect_code 4 qimg backup check repo
  says 'without a manifest it is no backup' \
    "which drive 'vm' rests on, cannot be used"
  rm -r repo/points/000001-*
  expect_code 4 qimg backup check repo
  says "which drive 'vm' rests on, is missing"
}

@test "a manifest of which something is missing hides no other point" {
  local key
  full
  increment
  cp repo/points/000001-*/manifest.json good.json
  for key in $(jq -r '.drives[0] | keys[]' good.json) file name type; do
    jq "del(.drives[0].\"$key\")" good.json \
      >"$(echo repo/points/000001-*)/manifest.json"
    expect_code 0 qimg backup list --output json repo
    json '.points | length == 2 and (.[1].problem == null)'
    expect_code 0 qimg backup list repo
  done
}
