#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own variables
# qimg rebase: another backing file. QEMU's tools tell whether the content is
# what it was; the bitmaps of the drive say the same as before.

load ../helpers
load common

# backing IMG: what it records, "" for none.
backing() {
  qemu-img info -U --output=json "$1" | jq -r '.["backing-filename"] // ""'
}

# dirty DRIVE: "OFFSET+LENGTH" in KiB of each extent, then the status.
dirty() {
  qimg bitmap show --drive "$1" --output json b |
    jq -r '[(.extents[] | "\(.offset / 1024)+\(.length / 1024)"), .status] |
      join(" ")'
}

# have DRIVE WORDS: what is dirty in it.
have() {
  [ "$(dirty "$1")" = "$2" ] || {
    echo "dirty: $(dirty "$1"), not $2"
    return 1
  }
}

# mkdrive: d -> three.qcow2 > two.qcow2 > one.qcow2, with bitmap b from one
# on. In two after it: 64 KiB at 1M; in three: 64 KiB at 2M. want.raw: all.
mkdrive() {
  mkimage one.qcow2 4M 7
  ln -s one.qcow2 d
  qimg bitmap add -q --drive d b
  qimg snapshot create -q --drive d --overlay two.qcow2 s1
  write two.qcow2 'write -P 2 1M 64k'
  qimg snapshot create -q --drive d --overlay three.qcow2 s2
  write three.qcow2 'write -P 3 2M 64k'
  qemu-img convert -O raw d want.raw
}

all='1024+64 2048+64'

@test "an image reads as before on each other base" {
  local new
  mkchain
  mkimage other.qcow2 3M 9 -o cluster_size=4k
  head -c 1M /dev/urandom >short.raw
  qemu-img convert -O raw top.qcow2 want.raw
  for new in base.qcow2 other.qcow2 short.raw base.qcow2 '' mid.qcow2; do
    expect_code 0 qimg rebase -b "$new" top.qcow2
    [ -z "$output$stderr" ]
    [ "$(backing top.qcow2)" = "$new" ]
    oracle_check top.qcow2
    oracle_equal top.qcow2 want.raw
  done
  # The format was found, and is recorded for the next reader.
  qemu-img info --output=json top.qcow2 |
    jq -e '.["backing-filename-format"] == "qcow2"'
}

@test "only clusters that differ are copied" {
  mkchain
  qimg rebase -b base.qcow2 top.qcow2 --output json >out
  # mid has 64k..256k, top has 128k..192k of it.
  jq -e '.written == 131072 and .zero == 0' out
  # The same data, at another place.
  qemu-img convert -O qcow2 -o cluster_size=8k base.qcow2 copy.qcow2
  qimg rebase -b copy.qcow2 top.qcow2 --output json >out
  jq -e '.written == 0 and .zero == 0' out
}

@test "what both chains share is not read" {
  mkimage base.qcow2 2M 1 -c
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 b.qcow2
  qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2
  write a.qcow2 'write -P 1 0 64k'
  write b.qcow2 'write -P 1 64k 64k'
  # No compressed cluster can be read any more, but these two are.
  qemu-io -f qcow2 -c 'write -P 4 0 128k' base.qcow2 >/dev/null
  perl -e 'open my $f, "+<", "base.qcow2"; for my $at (6 .. 7) {
    seek $f, $at * 65536, 0; print $f "x" x 65536 }'
  run qemu-img convert -O raw base.qcow2 base.raw
  [ "$status" != 0 ]
  expect_code 0 qimg rebase -b b.qcow2 top.qcow2 --output json
  json '.written == 131072'
}

@test "zeroes above data stay zeroes, without a backing file before, too" {
  qemu-img create -q -f qcow2 top.qcow2 2M
  mkimage base.qcow2 2M 3
  qimg rebase -b base.qcow2 top.qcow2 --output json >out
  jq -e '.written == 0 and .zero > 0' out
  truncate -s 2M want.raw
  oracle_equal top.qcow2 want.raw
  oracle_check top.qcow2
  # Version 2 has no zero clusters: they are written.
  qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 2M
  qimg rebase -b base.qcow2 old.qcow2
  oracle_equal old.qcow2 want.raw
  oracle_check old.qcow2
}

# next N: sets $n to 0..N-1. RANDOM itself does not go on in subshells.
next() {
  n=$((RANDOM % $1))
}

# random_image FILE [BACKING]: of any size and kind, with some writes.
random_image() {
  local size options writes=() i at len
  next 9
  options=cluster_size=$((512 << n))
  next 6
  if [ "$n" = 0 ]; then
    options+=,compat=0.10
  elif [ "$n" -lt 3 ] && [ "${options#*=}" -ge 16384 ]; then
    options+=,extended_l2=on
  fi
  next 40
  size=$((65536 * (n + 1)))
  next 3
  size=$((size + 512 * n))
  qemu-img create -q -f qcow2 -o "$options" ${2:+-b "$2" -F "${2##*.}"} "$1" \
    "$size"
  next 8
  for ((i = n; i > 0; i--)); do
    next $((size / 512))
    at=$((n * 512))
    next 200
    len=$((n * 512 + 512))
    ((at + len <= size)) || len=$((size - at))
    next 6
    case $n in
    0) writes+=("write -z $at $len") ;;
    *) writes+=("write -P $((n - 1)) $at $len") ;;
    esac
  done
  [ ${#writes[@]} = 0 ] || write "$1" "${writes[@]}"
}

# random_chain PREFIX LENGTH [BACKING]: sets $last to its top.
random_chain() {
  local i
  last=${3-}
  for ((i = 0; i < $2; i++)); do
    random_image "$1$i.qcow2" "$last"
    last=$1$i.qcow2
  done
}

@test "random chains of other sizes and cluster sizes (QIMG_SEED)" {
  local seed=${QIMG_SEED:-1} rounds i n last old new
  rounds=$(rounds 10)
  for ((i = seed; i < seed + rounds; i++)); do
    RANDOM=$i
    rm -f ./*
    next 4
    random_chain a $((n + 1))
    old=$last new=
    next 6
    case $n in
    1) new=a0.qcow2 ;;
    2) random_chain b 2 a0.qcow2 && new=$last ;;
    3) random_chain b 2 && new=$last ;;
    4) new=$old old= ;;
    5) mkpattern new.raw 700K "$i" && new=new.raw ;;
    esac
    random_image top.qcow2 "$old"
    qemu-img convert -O raw top.qcow2 want.raw
    echo "seed $i: from '$old' to '$new'"
    qimg rebase -b "$new" top.qcow2
    [ "$(backing top.qcow2)" = "$new" ]
    oracle_check top.qcow2
    oracle_equal top.qcow2 want.raw
  done
}

@test "a layer goes: its bits go up, exactly" {
  mkdrive
  have d "$all exact"
  # The bitmap goes on in the layer below, where it starts.
  qimg rebase -b one.qcow2 three.qcow2
  have d "$all exact"
  oracle_equal d want.raw
  qimg rebase -b '' three.qcow2
  have d "$all exact"
  oracle_equal d want.raw
  [ "$(backing three.qcow2)" = '' ]
  write d 'write -P 5 3M 64k'
  have d "$all 3072+64 exact"
}

@test "the layer goes that a bitmap starts in; a foreign base; a middle layer" {
  mkdrive
  qemu-img create -q -f qcow2 -b one.qcow2 -F qcow2 foreign.qcow2
  write foreign.qcow2 'write -P 9 0 4M'
  qimg rebase -b foreign.qcow2 two.qcow2
  have d "$all exact"
  oracle_equal d want.raw
  qimg rebase -b foreign.qcow2 three.qcow2
  have d "$all exact"
  oracle_equal d want.raw
  qimg rebase -b one.qcow2 three.qcow2
  have d "$all exact"
  qimg bitmap clear -q --drive d b
  qimg rebase -b '' d
  have d exact
}

@test "layers that count by their allocation do so afterwards" {
  mkdrive
  qemu-img bitmap --remove two.qcow2 b
  have d "$all estimated"
  qimg rebase -b one.qcow2 three.qcow2
  have d "$all exact"
  # A head that another tool has made continues the drive.
  qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 four.qcow2
  write four.qcow2 'write -P 4 3M 64k'
  ln -sf four.qcow2 d
  qimg rebase -b one.qcow2 four.qcow2
  have d "$all 3072+64 exact"
}

@test "a removed bitmap does not come back from below" {
  mkdrive
  ln -sf two.qcow2 d2
  qimg bitmap remove -q --drive d b
  qimg snapshot create -q --drive d --overlay four.qcow2 s3
  qimg rebase -b one.qcow2 four.qcow2
  refuses 1 bitmap show --drive d b : "no bitmap 'b'"
}

@test "what was full stays full" {
  mkdrive
  # A layer is swapped behind the drive.
  cp two.qcow2 spare.qcow2
  qemu-img rebase -u -b one.qcow2 -F qcow2 three.qcow2
  have d '0+4096 full'
  qimg rebase -b two.qcow2 three.qcow2
  [[ $(dirty d) == '0+4096 '* ]]
  qimg bitmap clear -q --drive d b
  have d exact
}

@test "a node bitmap is not marked: what it reads has not changed" {
  mkchain
  qimg bitmap add -q --node top.qcow2 n
  qimg rebase -b base.qcow2 top.qcow2
  qimg rebase -b '' top.qcow2
  run_qimg bitmap show --node top.qcow2 n --output json
  json '.extents == []'
}

@test "unsafe: the header alone, and all is dirty where it cannot be known" {
  mkdrive
  # Under another name it is the same layer.
  mv two.qcow2 moved.qcow2
  qimg rebase -u -b moved.qcow2 -F qcow2 three.qcow2
  have d "$all exact"
  qimg rebase -u -b one.qcow2 three.qcow2
  have d '0+4096 full'
  qimg rebase -u -b moved.qcow2 three.qcow2
  have d "$all exact"
  # A base without a record, which is not known again by its name.
  qemu-img create -q -f raw old.raw 4M
  qemu-img create -q -f qcow2 -b old.raw -F raw v.qcow2
  qimg bitmap add -q --drive v.qcow2 b
  qimg bitmap add -q --node v.qcow2 n
  ln old.raw same.raw
  qimg rebase -u -b same.raw -F raw v.qcow2
  have v.qcow2 exact
  cp old.raw new.raw
  expect_code 0 qimg rebase -u -b new.raw -F raw v.qcow2
  [[ $stderr == 'qimg: warning: '*dirty* ]]
  have v.qcow2 '0+4096 full'
  run_qimg bitmap show --node v.qcow2 n --output json
  json '.extents[0].length == 4194304'
  qimg bitmap clear -q --drive v.qcow2 b
  have v.qcow2 exact
  oracle_check v.qcow2
}

@test "unsafe: a file that is not there, none at all" {
  mkchain
  qimg rebase -u -b later.qcow2 -F qcow2 top.qcow2
  [ "$(backing top.qcow2)" = later.qcow2 ]
  # The old backing file is not there now; nor need it be.
  qimg rebase -u -b mid.qcow2 top.qcow2
  [ "$(backing top.qcow2)" = mid.qcow2 ]
  qimg rebase -u top.qcow2
  [ "$(backing top.qcow2)" = '' ]
  oracle_check top.qcow2
}

@test "unsafe: what rests on the image is warned of" {
  mkchain
  mkdir far
  cp base.qcow2 new.qcow2
  qemu-img create -q -f qcow2 -b "$PWD/mid.qcow2" -F qcow2 far/o.qcow2
  # The same base, and none that knows better.
  expect_code 0 qimg rebase -n -u -b base.qcow2 mid.qcow2
  [ -z "$stderr" ]
  # Safe mode changes nothing for them.
  expect_code 0 qimg rebase -n -b new.qcow2 mid.qcow2
  [ -z "$stderr" ]
  expect_code 0 qimg rebase -n -u -b new.qcow2 mid.qcow2
  [[ $stderr == "qimg: warning: images that rest on 'mid.qcow2' may read"*\
"bitmaps"*": 'top.qcow2'" ]]
  expect_code 0 qimg rebase -u --scan far -b new.qcow2 mid.qcow2
  [[ $stderr == *": 'top.qcow2' and 'far/o.qcow2'" ]]
  [ "$(backing mid.qcow2)" = new.qcow2 ]
  # Nothing rests on this one.
  expect_code 0 qimg rebase -u -b new.qcow2 top.qcow2
  [ -z "$stderr" ]
}

@test "a link in another folder: names are relative to the image" {
  local mode
  mkchain
  cp base.qcow2 new.qcow2
  mkdir links
  ln -s ../top.qcow2 links/vm
  qemu-img convert -O raw top.qcow2 want.raw
  qimg rebase -b new.qcow2 -F qcow2 links/vm
  [ "$(backing top.qcow2)" = new.qcow2 ]
  oracle_equal top.qcow2 want.raw
  for mode in "" -u; do
    # shellcheck disable=SC2086 # it may be no word
    qimg rebase $mode -b base.qcow2 links/vm
    [ "$(backing top.qcow2)" = base.qcow2 ]
    oracle_equal top.qcow2 want.raw
    qimg rebase -u -b new.qcow2 top.qcow2
  done
  [ -L links/vm ]
  # Names of other kinds have no links in them.
  qimg rebase -u -b base.qcow2 file:top.qcow2
  [ "$(backing top.qcow2)" = base.qcow2 ]
  qimg resize -q \
    'json:{"driver": "qcow2", "file.filename": "top.qcow2"}' 3M
  ln -s gone dangling
  refuses 1 rebase -u -b base.qcow2 dangling : "'gone'"
}

@test "--dry-run says how much, and changes nothing" {
  local before
  mkdrive
  before=$(state)
  expect_code 0 qimg rebase -n -b one.qcow2 three.qcow2
  says 'merge the bitmaps' "copy data into 'three.qcow2': 65536 bytes" \
    "make 'one.qcow2' the backing file"
  expect_code 0 qimg rebase -n -b one.qcow2 three.qcow2 --output json
  json '.["dry-run"] and .bytes == 65536 and (.steps | length == 3)'
  expect_code 0 qimg rebase -n -u -b '' three.qcow2 --output json
  json '.["dry-run"] and .bytes == 0 and (.steps | length == 1)'
  [ "$before" = "$(state)" ]
}

@test "quiet, progress, threads, a format that is told" {
  mkchain
  expect_code 0 qimg rebase -q -p -m 3 -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
  [ -z "$output$stderr" ]
  expect_code 0 qimg rebase --progress=json -b '' top.qcow2
  [ -z "$output" ]
  tail -1 <<<"$stderr" | jq -e '.progress.operation == "rebase"'
}

@test "what cannot be, before anything is written" {
  mkdrive
  mkbad
  refuses 1 rebase three.qcow2 : -b -u
  refuses 1 rebase -b one.qcow2 : missing
  refuses 1 rebase -b gone.qcow2 three.qcow2 : "'gone.qcow2'" 'new backing'
  refuses 1 rebase -b one.qcow2 -F nope three.qcow2 : "'nope'"
  refuses 1 rebase -u -b gone.qcow2 three.qcow2 : -F
  refuses 1 rebase -b three.qcow2 three.qcow2 : 'rest on itself'
  refuses 1 rebase -b three.qcow2 one.qcow2 : 'rest on itself'
  refuses 1 rebase -u -b three.qcow2 one.qcow2 : 'rest on itself'
  refuses 1 rebase -f raw -b one.qcow2 want.raw : 'no backing files'
  refuses 1 rebase -b a.qcow2 three.qcow2 : loop
  refuses 1 rebase -b '' orphan.qcow2 : "'gone.qcow2'"
  refuses 1 rebase -b '' cut.qcow2 : truncated
  refuses 1 rebase -u -b "$(printf '%01024d' 1)" -F qcow2 three.qcow2 : 1023
}

@test "a dropped layer that was shorter stays in the dirty set" {
  mkimage a.qcow2 1M 7
  write a.qcow2 'write -P 1 0 1M'
  ln -s a.qcow2 d
  qimg bitmap add -q --drive d b
  qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 m.qcow2 512K
  qemu-img create -q -f qcow2 -b m.qcow2 -F qcow2 h.qcow2 1M
  ln -sfn h.qcow2 d
  qemu-img convert -O raw d want.raw
  qimg rebase -b a.qcow2 -F qcow2 h.qcow2 2>/dev/null
  oracle_equal d want.raw
  # What is past the end of the short layer became zero.
  [[ $(dirty d 2>/dev/null) == *512+512* ]]
}

@test "the same file in another format is another disk" {
  mkimage a.qcow2 1M 7
  qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2
  qimg bitmap add -q --node top.qcow2 n
  refuses 1 rebase -b a.qcow2 -F raw top.qcow2 : "'a.qcow2'" raw
  qimg rebase -u -b a.qcow2 -F raw top.qcow2 2>/dev/null
  [ "$(qimg bitmap show --node top.qcow2 n --output json |
    jq -c '[.extents[] | .offset, .length]')" = '[0,1048576]' ]
}

@test "-c: what is copied is compressed" {
  local packed
  mkchain
  qemu-img convert -O raw top.qcow2 want.raw
  expect_code 0 qimg rebase -c -b '' top.qcow2
  packed=$(qemu-img check --output=json top.qcow2 | jq '."compressed-clusters"')
  [ "$packed" -gt 0 ]
  oracle_equal top.qcow2 want.raw
}

@test "a bitmap that has no place is not lost: refused" {
  mkdrive
  qimg bitmap add -q --node two.qcow2 mine
  qemu-img create -q -f qcow2 -o compat=0.10 -b three.qcow2 -F qcow2 old.qcow2
  refuses 1 rebase -b one.qcow2 old.qcow2 : 'old.qcow2'
  qemu-img create -q -f qcow2 -b three.qcow2 -F qcow2 four.qcow2
  qemu-img bitmap --add four.qcow2 b
  refuses 1 rebase -b one.qcow2 four.qcow2 : "node bitmap 'b'" \
    'bitmap remove --node'
  # Others stay on their node.
  qimg rebase -b one.qcow2 three.qcow2
  qimg bitmap show --node two.qcow2 mine >out
}

@test "images in use" {
  mkchain
  hold_image top.qcow2
  refuses 1 rebase -b base.qcow2 top.qcow2 : "$HOLD_PID"
  release_image
  hold_daemon base.qcow2
  refuses 1 rebase -b '' top.qcow2 : "$HOLD_PID"
  # Only the header of one image is changed.
  qimg rebase -u -b base.qcow2 -F qcow2 top.qcow2
  release_daemon
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  local code=0
  oracle_equal d ../want.raw
  have d "$all exact"
  qemu-img check -q three.qcow2 || code=$?
  [ $code = 0 ] || [ $code = 3 ]
  qimg rebase -b "$new" three.qcow2
  [ "$(backing three.qcow2)" = "$new" ]
  oracle_equal d ../want.raw
  have d "$all exact"
}

@test "killed or failing at each call: old or new, and again finishes" {
  local new
  mkdrive
  mkimage other.qcow2 4M 8
  mkdir drive
  mv ./*.qcow2 d drive
  for new in one.qcow2 other.qcow2; do
    least=10 each_fault "$QIMG" rebase -b $new three.qcow2
  done
}
