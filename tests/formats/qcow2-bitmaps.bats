#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own $status
# qcow2: bitmaps, written by one program and read by the other; directories
# that are damaged.

load ../helpers
load common

# qemu_dirty IMG NAME: what QEMU serves of a bitmap, one "offset length" a run.
qemu_dirty() {
  local pid code=0
  cp "$1" nbd.qcow2
  # A bitmap that records cannot be exported read only.
  qemu-img bitmap --disable -f qcow2 nbd.qcow2 "$2"
  rm -f sock nbd.pid
  qemu-nbd -r -t -f qcow2 -B "$2" -k "$PWD/sock" --pid-file nbd.pid --fork \
    nbd.qcow2 >nbd.log 2>&1 3>&-
  pid=$(cat nbd.pid)
  nbdinfo --json --map="qemu:dirty-bitmap:$2" 'nbd+unix:///?socket=sock' |
    jq -r '[.[] | select(.type == 1)] | reduce .[] as $x ([];
        if length > 0 and .[-1].offset + .[-1].length == $x.offset
        then .[-1].length += $x.length else . + [$x] end)
      | .[] | "\(.offset) \(.length)"' || code=$?
  kill "$pid"
  return $code
}

# qimg_dirty IMG NAME: what qimg sees.
qimg_dirty() {
  qimg bitmap show --node "$1" --output json "$2" |
    jq -r '.extents[] | "\(.offset) \(.length)"'
}

# same_bits IMG NAME
same_bits() {
  qemu_dirty "$1" "$2" >dirty.qemu
  qimg_dirty "$1" "$2" >dirty.qimg
  diff dirty.qemu dirty.qimg
}

# qemu_list IMG: name, flags and granularity of each bitmap.
qemu_list() {
  qemu-img info --output=json "$1" |
    jq -r '."format-specific".data.bitmaps // [] | sort_by(.name)[] |
      "\(.name) \(.flags | sort | join("+")) \(.granularity)"'
}

@test "bits that QEMU wrote" {
  local g size
  for size in 4k 64k 2M; do
    for g in 512 64k 1M; do
      echo "cluster size $size, granularity $g"
      qemu-img create -q -f qcow2 -o cluster_size=$size a.qcow2 40000000
      qemu-img bitmap --add -g $g a.qcow2 b
      qemu-io -f qcow2 -c 'write 0 1k' -c 'write 3M 70k' -c 'write -z 9M 3M' \
        -c 'write 20M 18M' -c 'write 39999488 512' a.qcow2 >/dev/null
      same_bits a.qcow2 b
      [ -s dirty.qimg ]
      rm a.qcow2
    done
  done
}

@test "bitmaps of a large disk" {
  qemu-img create -q -f qcow2 a.qcow2 3T
  qemu-img bitmap --add -g 64k a.qcow2 b
  qemu-io -f qcow2 -c 'write 0 64k' -c 'write 1T 64k' -c 'write 2999G 64k' \
    a.qcow2 >/dev/null
  same_bits a.qcow2 b
  [ "$(wc -l <dirty.qimg)" = 3 ]
}

@test "a table entry that says all ones" {
  local directory table
  qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 64M
  qemu-img bitmap --add -g 512 a.qcow2 b
  directory=$(be a.qcow2 "$(extension a.qcow2 23852875) + 16" 8)
  table=$(be a.qcow2 "$directory" 8)
  poke_be a.qcow2 "$table + 8" 8 1
  poke_be a.qcow2 "$table + 24" 8 1
  same_bits a.qcow2 b
  [ "$(cat dirty.qimg)" = "16777216 16777216
50331648 16777216" ]
}

@test "bitmaps that qimg made record what QEMU writes" {
  local g
  for g in 512 4k 64k 2M; do
    qimg create -q -f qcow2 a.qcow2 20M
    qimg bitmap add -q --node a.qcow2 -g $g b
    oracle_check a.qcow2
    qemu-io -f qcow2 -c 'write 1k 1k' -c 'write 9M 70k' a.qcow2 >/dev/null
    same_bits a.qcow2 b
    [ -s dirty.qimg ]
    rm a.qcow2
  done
}

@test "flags: what one program sets the other reads" {
  qemu-img create -q -f qcow2 a.qcow2 10M
  qimg bitmap add -q --node a.qcow2 on
  qimg bitmap add -q --node a.qcow2 --disabled -g 1M off
  [ "$(qemu_list a.qcow2)" = "off  1048576
on auto 65536" ]
  qimg bitmap disable -q --node a.qcow2 on
  qimg bitmap enable -q --node a.qcow2 off
  [ "$(qemu_list a.qcow2)" = "off auto 1048576
on  65536" ]
  qemu-img bitmap --disable a.qcow2 off
  qemu-img bitmap --enable a.qcow2 on
  [ "$(qimg bitmap list --node a.qcow2 --output json |
    jq -c '[.bitmaps[] | [.name, .enabled]] | sort')" = \
    '[["off",false],["on",true]]' ]
  oracle_check a.qcow2
}

@test "QEMU merges, clears and removes what qimg made, and the reverse" {
  qemu-img create -q -f qcow2 a.qcow2 10M
  qimg bitmap add -q --node a.qcow2 -g 4k ours
  qemu-img bitmap --add -g 64k a.qcow2 theirs
  qemu-io -f qcow2 -c 'write 1M 5k' a.qcow2 >/dev/null
  qimg bitmap clear -q --node a.qcow2 ours
  [ -z "$(qimg_dirty a.qcow2 ours)" ]
  qemu-io -f qcow2 -c 'write 5M 5k' a.qcow2 >/dev/null
  qemu-img bitmap --add -g 4k a.qcow2 sum
  qemu-img bitmap --merge ours --merge theirs a.qcow2 sum
  same_bits a.qcow2 sum
  [ "$(cat dirty.qimg)" = "1048576 65536
5242880 65536" ]
  same_bits a.qcow2 ours
  [ "$(cat dirty.qimg)" = '5242880 8192' ]
  qemu-img bitmap --clear a.qcow2 ours
  [ -z "$(qimg_dirty a.qcow2 ours)" ]
  qimg bitmap remove -q --node a.qcow2 theirs
  qemu-img bitmap --remove a.qcow2 ours
  [ "$(qimg bitmap list --node a.qcow2 --output json |
    jq -r '.bitmaps[].name')" = sum ]
  qimg bitmap remove -q --node a.qcow2 sum
  [ -z "$(qemu_list a.qcow2)" ]
  oracle_check a.qcow2
}

@test "many bitmaps, long names: nothing leaks" {
  local i name
  name=$(printf '%01023d' 7)
  qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 10M
  for i in {1..40}; do qimg bitmap add -q --node a.qcow2 "b$i"; done
  qimg bitmap add -q --node a.qcow2 "$name"
  one_line 1 bitmap add --node a.qcow2 "${name}8"
  one_line 1 bitmap add --node a.qcow2 ''
  one_line 1 bitmap add --node a.qcow2 b7
  oracle_check a.qcow2
  [ "$(qemu_list a.qcow2 | wc -l)" = 41 ]
  for i in {1..40}; do qimg bitmap remove -q --node a.qcow2 "b$i"; done
  oracle_check a.qcow2
  [ "$(qemu_list a.qcow2)" = "$name auto 4096" ]
}

@test "what cannot hold bitmaps says why, and what would help" {
  qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
  qemu-img create -q -f qcow2 -o cluster_size=2k small.qcow2 1M
  qemu-img create -q -f raw a.raw 1M
  one_line 6 bitmap add --node v2.qcow2 b
  [[ $stderr == *'qimg amend -o compat=1.1'* ]]
  one_line 6 bitmap add --drive small.qcow2 b
  [[ $stderr == *'qimg convert'* ]]
  one_line 6 bitmap add --node a.raw b
  [[ $stderr == *'qimg convert'* ]]
  one_line 6 bitmap add --drive a.raw b
}

@test "a writer that was killed leaves the bitmap in use" {
  qemu-img create -q -f qcow2 a.qcow2 10M
  qimg bitmap add -q --node a.qcow2 b
  qemu-io -f qcow2 -c 'write 0 1M' a.qcow2 >/dev/null
  hold_image a.qcow2
  crash_holder
  [[ $(qimg bitmap list --node a.qcow2 --output json) == *in-use* ]] ||
    qimg bitmap list --node a.qcow2
  one_line 6 bitmap show --node a.qcow2 b
  one_line 6 bitmap disable --node a.qcow2 b
  [[ $stderr == *'qimg bitmap clear --node a.qcow2 b'* ]]
  qimg bitmap clear -q --node a.qcow2 b
  [ -z "$(qimg_dirty a.qcow2 b)" ]
  oracle_check a.qcow2
  qemu-io -f qcow2 -c 'write 5M 64k' a.qcow2 >/dev/null
  same_bits a.qcow2 b
}

# ---------------------------------------------------------------- damage

# broken WORDS: bad.qcow2 opens, its data is all there, and what is wrong with
# its bitmaps is said when they are listed or shown.
broken() {
  local code
  qimg convert --force -q -O raw bad.qcow2 out.raw
  cmp out.raw good.raw
  expect_code 0 qimg info bad.qcow2
  run_qimg check -q bad.qcow2
  [ "$status" -le 3 ]
  run_qimg bitmap list --node bad.qcow2
  code=$status
  if ! [[ $output$stderr =~ unreadable|$1 ]]; then
    run_qimg bitmap show --node bad.qcow2 b
    [ "$status" != 0 ] && [[ $stderr =~ $1 ]]
  fi || {
    printf 'code %s: %s\n%s\n' "$code" "$output" "$stderr"
    return 1
  }
  # It must not be trusted by QEMU's standards and used by ours.
  run_qimg bitmap show --node bad.qcow2 b
  [ "$status" != 0 ]
  # A change of bitmaps works or is refused; it never hurts the data.
  run_qimg bitmap add --node bad.qcow2 other
  code=$status
  qimg convert --force -q -O raw bad.qcow2 out.raw
  cmp out.raw good.raw
  # What was written can be read by QEMU again.
  if [ "$code" = 0 ]; then qemu-img info bad.qcow2 >/dev/null; fi
}

# bad OFFSET BYTES VALUE WORDS
bad() {
  echo "at $(($1)): $3"
  cp good.qcow2 bad.qcow2
  poke_be bad.qcow2 "$1" "$2" "$3"
  broken "$4"
}

make_good() {
  mkpattern good.raw 10M 31
  qemu-img convert -f raw -O qcow2 good.raw good.qcow2
  qemu-img bitmap --add -g 4k good.qcow2 b
  qemu-img bitmap --add good.qcow2 c
  # Nothing is changed by it, but recorded.
  qemu-io -f qcow2 -c 'read 0 1M' good.qcow2 >/dev/null
  extension=$(extension good.qcow2 23852875)
  directory=$(be good.qcow2 "$extension + 16" 8)
  table=$(be good.qcow2 "$directory" 8)
}

@test "the autoclear bit is gone" {
  make_good
  bad 88 8 0 'does not know bitmaps'
}

@test "the bitmaps extension is damaged" {
  make_good
  bad "$extension" 4 0 damaged
  bad "$extension" 4 3 damaged
  bad "$extension" 4 70000 damaged
  bad "$extension + 4" 4 1 damaged
  bad "$extension + 8" 8 0 damaged
  bad "$extension + 8" 8 1000 damaged
  bad "$extension + 8" 8 -1 damaged
  bad "$extension + 16" 8 $((1 << 40)) damaged
  bad "$extension + 16" 8 -65536 damaged
  bad "$extension + 16" 8 $((directory + 512)) damaged
  bad "$extension - 4" 4 16 damaged
}

@test "a directory entry is damaged" {
  make_good
  bad "$directory" 8 $((1 << 40)) 'not in the file'
  bad "$directory" 8 $((table + 512)) 'not in the file'
  bad "$directory + 8" 4 2 'does not fit'
  bad "$directory + 8" 4 0 'does not fit'
  bad "$directory + 8" 4 -1 'not in the file'
  bad "$directory + 12" 4 6 'unknown flags'
  bad "$directory + 12" 4 3 'in use'
  bad "$directory + 16" 1 2 'unknown type'
  bad "$directory + 17" 1 8 'granularity'
  bad "$directory + 17" 1 32 'granularity'
  bad "$directory + 17" 1 200 'granularity'
  bad "$directory + 18" 2 0 damaged
  bad "$directory + 18" 2 2000 damaged
  bad "$directory + 20" 4 -1 damaged
}

@test "a directory entry has extra data" {
  local size
  make_good
  # Between the entry and its name: 8 bytes more, the directory as well.
  cp good.qcow2 bad.qcow2
  size=$(be bad.qcow2 "$extension + 8" 8)
  dd if=good.qcow2 of=tail bs=1 skip=$((directory + 24)) \
    count=$((size - 24)) status=none
  poke_be bad.qcow2 "$directory + 20" 4 8
  poke_be bad.qcow2 "$directory + 24" 8 0
  dd if=tail of=bad.qcow2 bs=1 seek=$((directory + 32)) conv=notrunc status=none
  poke_be bad.qcow2 "$extension + 8" 8 $((size + 8))
  broken 'extra data'
  # The other bitmap of the directory is as good as it was.
  expect_code 0 qimg bitmap show --node bad.qcow2 c
}

@test "a table entry is damaged" {
  local value
  make_good
  for value in $((1 << 50)) $((table + 512)) 2 $((1 << 62)) $((table | 1)); do
    cp good.qcow2 bad.qcow2
    poke_be bad.qcow2 "$table" 8 "$value"
    one_line 4 bitmap show --node bad.qcow2 b
    qimg convert --force -q -O raw bad.qcow2 out.raw
    cmp out.raw good.raw
  done
}
