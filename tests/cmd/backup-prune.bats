#!/usr/bin/env bats
# qimg backup prune, merge, pin and unpin: every point that stays restores to
# what it was.

load ../helpers
load common

# take NAME: changes the drive, and makes a point of it; NAME.raw is its content.
take() {
  write vm.qcow2 "write -P $1 $(($1 * 64))k 64k" "write -P $1 $(($1 % 3))M 96k"
  qemu-img convert -O raw vm.qcow2 "$1.raw"
  qimg backup -q "${2:---incremental}" --drive vm.qcow2 --bitmap daily \
    --to repo "${@:3}"
}

# A repository of drive vm with points 1 (full) to $1.
mkrepo() {
  local n
  mkimage vm.qcow2 4M 41
  qimg bitmap add -q --drive vm.qcow2 daily
  take 1 --full
  for ((n = 2; n <= $1; n++)); do take "$n"; done
}

ids() {
  qimg backup list --output json repo |
    jq -r "[.points[].id | split(\"-\")[0] | tonumber] | join(\" \")"
}

# has NUMBERS: the points of repo, which are whole, and with the right content.
has() {
  local n point
  [ "$(ids)" = "$1" ] || {
    echo "points: $(ids), not $1"
    return 1
  }
  for n in $1; do
    point=$(printf 'repo/points/%06d-*/vm.qcow2' "$n")
    # shellcheck disable=SC2086 # it is a pattern
    oracle_equal $point "$n.raw"
    # shellcheck disable=SC2086
    oracle_check $point
  done
  qimg backup verify -q --read-data repo
  [ -z "$(find repo -name '.*')" ]
}

@test "prune: points that stay get what they need, and the series goes on" {
  mkrepo 6
  expect_code 0 qimg backup prune --keep-last 2 -n repo
  says 'store in point 000005-' 'remove point 000004-' 'remove point 000001-' \
    'nothing was changed'
  [ "$(ids)" = "1 2 3 4 5 6" ]
  expect_code 0 qimg backup prune --keep-last 2 repo
  [[ $output == "removed 4 points ("*"), 1 rests on another one now" ]]
  has "5 6"
  [ "$(qimg backup list --output json repo |
    jq -c '[.points[] | .type, .parent == null]')" = \
    '["full",true,"incremental",false]' ]
  take 7
  has "5 6 7"
  # Nothing is to be done.
  expect_code 0 qimg backup prune --keep-last 9 repo --output json
  json '.removed == 0 and .merged == 0 and .steps == []'
  refuses 2 backup prune repo : --keep-last
  refuses 2 backup prune --keep-last 0 repo : --keep-last
}

@test "merge: in the middle, to the end, compressed, other sizes" {
  mkrepo 3
  qimg resize -q vm.qcow2 6M
  take 4 --incremental -c
  qimg resize -q --shrink vm.qcow2 3333120
  take 5
  qimg resize -q vm.qcow2 5M
  take 6
  take 7
  expect_code 0 qimg backup merge repo 000002..000003
  has "1 3 4 5 6 7"
  expect_code 0 qimg backup merge repo 000004..000006 --output json
  json '.removed == 2 and .merged == 1 and .freed > 0'
  has "1 3 6 7"
  qimg backup merge -q repo 000003..last
  has "1 7"
  [ "$(qimg backup list --output json repo |
    jq -c '.points[1] | .type, (.parent | startswith("000001-"))')" = \
    $'"incremental"\ntrue' ]
  qimg backup merge -q repo 000001..000007
  has 7
  take 8
  has "7 8"
  refuses 1 backup merge repo 000008..000007 : 'not older'
  refuses 1 backup merge repo 000007 : 'A..B'
  refuses 1 backup merge repo 000001..last : "'000001'"
}

@test "what is pinned, and the last point of each drive, stays" {
  mkrepo 4
  cp vm.qcow2 other.qcow2
  qimg backup -q --full --drive other.qcow2 --to repo
  take 6
  expect_code 0 qimg backup pin repo 000002
  [[ $output == "point 000002-"*" is pinned" ]]
  qimg backup pin -q repo 000002
  [ "$(qimg backup list --output json repo | jq -c '[.points[].pinned]')" = \
    '[false,true,false,false,false,false]' ]
  refuses 1 backup merge repo 000001..000003 : 'is pinned' \
    "'qimg backup unpin repo 000002-"
  qimg backup prune -q --keep-last 1 repo
  [ "$(ids)" = "2 5 6" ]
  qimg backup unpin -q repo 000002
  qimg backup unpin -q repo 000002
  qimg backup prune -q --keep-last 1 repo
  [ "$(ids)" = "5 6" ]
  oracle_equal repo/points/000006-*/vm.qcow2 6.raw
  qimg backup verify -q --read-data repo
}

@test "hours, days, weeks, months, years" {
  local n time
  mkrepo 8
  # The time of a point is that of its manifest.
  for n in 1:2024-12-30T01:00 2:2025-12-31T10:00 3:2026-01-01T10:00 \
    4:2026-01-30T10:00 5:2026-01-31T09:00 6:2026-01-31T09:59 \
    7:2026-01-31T10:00 8:2026-02-01T00:00; do
    time=${n#*:}:00Z
    (
      cd repo/points/00000"${n%%:*}"-*
      sed -i "s/\"time\": \".*\"/\"time\": \"$time\"/" manifest.json
      reseal manifest.json
      xxh128sum manifest.json vm.hashes >CHECKSUMS
    )
  done
  # keeps OPTIONS NUMBERS
  keeps() {
    rm -rf copy
    cp -a repo copy
    # shellcheck disable=SC2086 # they are words
    qimg backup prune -q $1 copy
    mv repo full
    mv copy repo
    has "$2"
    rm -rf repo
    mv full repo
  }
  keeps '--keep-hourly 3' '6 7 8'
  keeps '--keep-daily 3' '4 7 8'
  keeps '--keep-weekly 2' '3 8'
  keeps '--keep-weekly 3' '1 3 8'
  keeps '--keep-monthly 3' '2 7 8'
  keeps '--keep-yearly 9' '1 2 8'
  keeps '--keep-last 2 --keep-monthly 2 --keep-yearly 2' '2 7 8'
}

@test "a point that is damaged: nothing is removed" {
  mkrepo 3
  # What a merge has to read.
  printf x | dd of="$(echo repo/points/000002-*/vm.qcow2)" bs=1 \
    seek=$((5 * 65536 + 99)) conv=notrunc status=none
  cp -a repo copy
  refuses 4 backup prune --keep-last 1 repo : 'is not what was backed up'
  printf x >repo/points/000002-*/manifest.json
  refuses 4 backup prune --keep-last 1 repo : 'point 000002-' 'nothing is removed'
}

@test "killed or failing at each call: all points stay whole, again finishes" {
  mkrepo 4
  # shellcheck disable=SC2317 # each_fault runs it
  look() {
    local f n
    for f in repo/points/0*/vm.qcow2; do
      n=$((10#$(sed 's,.*/\(0[0-9]*\)-.*,\1,' <<<"$f")))
      oracle_equal "$f" ../"$n.raw"
    done
    [[ $(ids) == *"3 4" ]]
    qimg backup verify -q --read-data repo
    qimg restore -q --from repo -O raw ../out.raw --force
    cmp ../out.raw ../4.raw
    qimg backup prune -q --keep-last 2 repo
    cp ../*.raw .
    has "3 4"
    rm ./*.raw
  }
  mkdir drive
  cp -a repo drive
  least=10 each_fault "$QIMG" backup prune -q --keep-last 2 repo
}

@test "drives of their own: each keeps its share, and none is lost" {
  local n
  for n in a b; do
    mkimage $n.qcow2 1M 5
    qimg backup -q --full --drive $n.qcow2 --to repo
  done
  for n in 1 2 3; do
    qimg backup -q --resync --drive a.qcow2 --to repo
    qimg backup -q --resync --drive b.qcow2 --to repo
  done
  refuses 1 backup merge repo 000001..last : "has drive 'a'" 'has not'
  qimg backup prune -q --keep-last 2 repo
  [ "$(ids)" = "5 6 7 8" ]
  qimg backup verify -q --read-data repo
}

@test "a point that is missing: nothing is removed" {
  mkrepo 4
  rm -r repo/points/000002-*
  refuses 4 backup prune --keep-last 1 repo : 'point 000003-' 'is missing'
  run_qimg backup list repo
  [[ $output == *" broken "* ]]
}
