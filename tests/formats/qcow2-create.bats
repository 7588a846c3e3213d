#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own $status
# qcow2: new images of all kinds, empty and with data, as QEMU makes them.

load ../helpers
load common
load ../cmd/common

teardown() {
  unmount_small
}

# pick WORD...: $word is one of them; - stands for none. Not in a subshell, where
# RANDOM starts anew, whatever the seed was.
pick() {
  local words=("$@")
  word=${words[RANDOM % $#]}
  if [ "$word" = - ]; then word=; fi
}

# random_options: $options, as after -o, go together for any image.
random_options() {
  local parts=()
  picked() {
    pick "$@"
    if [ -n "$word" ]; then parts+=("$word"); fi
  }
  if [ $((RANDOM % 6)) = 0 ]; then
    parts=(compat=0.10)
    picked - cluster_size=512 cluster_size=4k
  else
    picked - - refcount_bits=1 refcount_bits=4 refcount_bits=64
    picked - lazy_refcounts=on
    picked - compression_type=zstd
    picked - - data_file=d.raw data_file=d.raw,data_file_raw=on
    if [ $((RANDOM % 2)) = 0 ]; then
      parts+=(extended_l2=on)
      picked - cluster_size=16k cluster_size=2M
    else
      picked - cluster_size=512 cluster_size=4k cluster_size=2M
    fi
  fi
  picked - - preallocation=metadata preallocation=falloc preallocation=full
  printf -v options '%s,' "${parts[@]}"
  options=${options%,}
}

# describe IMG: what QEMU sees in it but for names and places. Which stored
# runs are zero is left out: it tells that by holes of the host file.
describe() {
  qemu-img info --output json "$1" |
    jq -S 'del(.. | .filename?, ."actual-size"?, .children?)'
  qemu-img check --output json "$1" |
    jq -S 'del(.filename, ."image-end-offset")'
  qemu-img map --output json "$1" | jq -r 'reduce .[] as $x ([];
      if length > 0 and .[-1].p == $x.present and .[-1].d == $x.depth
      then .[-1].n += $x.length
      else . + [{p: $x.present, d: $x.depth, n: $x.length}] end)
    | .[] | "\(.n) \(.p) \(.d)"'
}

# both OPTIONS ARG...: create -o OPTIONS a.qcow2 ARG... by both programs. They
# see the same in what they made, and what is written to ours stays.
both() {
  local options=$1
  shift
  echo "-o $options a.qcow2 $*"
  rm -rf ours theirs
  mkdir ours theirs
  (cd ours && qimg create -q -f qcow2 -o "$options" a.qcow2 "$@" &&
    describe a.qcow2) >ours.txt
  (cd theirs && qemu-img create -q -f qcow2 -o "$options" a.qcow2 "$@" &&
    describe a.qcow2) >theirs.txt
  diff ours.txt theirs.txt
  (cd ours && same a.qcow2 &&
    qemu-io -c 'write -P 5 1M 300k' -c 'write -z 1100k 64k' \
      -c 'read -P 5 1M 76k' -c 'read -P 0 0 1M' -c 'read -P 0 2M 1M' \
      a.qcow2 >io.log && ! grep -q failed io.log && oracle_check a.qcow2)
}

@test "preallocation in each kind of image: as QEMU does it" {
  local p x
  for p in metadata full; do
    for x in '' ,extended_l2=on ,compat=0.10 \
      ,data_file=d.raw ,data_file=d.raw,data_file_raw=on; do
      both "preallocation=$p$x" 5M
    done
  done
}

@test "random options: as QEMU has them" {
  local seed=${SEED:-7341} n
  echo "SEED=$seed"
  RANDOM=$seed
  for n in $(some {1..16}); do
    random_options
    pick 3M 5M 4195328
    both "$options" "$word"
  done
}

@test "preallocation over a backing file shows it until it is written" {
  mkimage base.qcow2 3M 1
  local p
  for p in metadata falloc full; do
    qimg create -q -f qcow2 -o "preallocation=$p,extended_l2=on" \
      -b base.qcow2 -F qcow2 a.qcow2 4M
    same a.qcow2
    qemu-img compare -q a.qcow2 base.qcow2
    [ "$p" = metadata ] || [ "$(stat -c %b a.qcow2)" -ge 8192 ]
    rm a.qcow2
    refuses 1 create -f qcow2 -o "preallocation=$p" -b base.qcow2 -F qcow2 \
      a.qcow2 : "'preallocation'" "extended_l2=on"
    # A copy that records a backing file hides all of it.
    mkpattern b.raw 4M 2
    qimg convert -O qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 \
      -o "preallocation=$p,extended_l2=on" b.raw a.qcow2
    same a.qcow2
    qemu-img compare -q a.qcow2 b.raw
    rm a.qcow2
  done
}

@test "room is taken: by the file system, or by zeroes" {
  local p
  qimg create -q -f qcow2 -o preallocation=metadata a.qcow2 64M
  [ "$(stat -c %b a.qcow2)" -lt 2048 ]
  [ "$(stat -c %s a.qcow2)" -gt $((64 << 20)) ]
  for p in falloc full; do
    qimg create -q -f qcow2 -o preallocation=$p b.qcow2 64M
    [ "$(stat -c %b b.qcow2)" -ge $((64 << 11)) ]
    qimg create -q -o preallocation=$p b.raw 64M
    [ "$(stat -c '%s' b.raw)" = $((64 << 20)) ]
    [ "$(stat -c %b b.raw)" -ge $((64 << 11)) ]
    rm b.qcow2 b.raw
  done
  # A file system that cannot keep room is given zeroes.
  QIMG_FAULT=fallocate:1:95 qimg create -q -o preallocation=falloc c.raw 8M
  [ "$(stat -c '%s %b' c.raw)" = "8388608 16384" ]
  refuses 1 create -o preallocation=metadata d.raw 1M : "'raw'" "falloc"
}

@test "no room: known at once, and nothing is left" {
  small_disk 8M
  local f p
  for f in qcow2 raw; do
    for p in falloc full; do
      refuses 1 create -f "$f" -o preallocation=$p small/a 64M : \
        "'small/a'" "No space left on device"
    done
    # It does not even begin to write.
    QIMG_FAULT=write:1:kill refuses 1 create -f "$f" -o preallocation=full \
      small/a 64M : "No space left on device"
  done
  refuses 1 create -f qcow2 -o preallocation=falloc,data_file=d.raw small/a \
    64M : "No space left on device"
  qimg create -q -f qcow2 -o preallocation=metadata small/a 64M
}

@test "interrupted while zeroes are written: nothing is left" {
  small_disk 2000M
  "$QIMG" create -f qcow2 -o preallocation=full small/a 1900M 2>err.txt &
  local pid=$! n
  for ((n = 0; n < 100; n++)); do
    if [ -e small/.a.qimg ]; then break; fi
    sleep 0.01
  done
  sleep 0.05
  kill -INT "$pid" 2>/dev/null || skip "it was too fast"
  n=0
  wait "$pid" || n=$?
  [ "$n" = 0 ] || [ "$n" = 130 ]
  [ "$n" = 0 ] || [ -z "$(ls -A small)" ]
}

@test "a data file: made anew beside the image, never taken over" {
  mkdir deep
  expect_code 0 "$QIMG" create -f qcow2 -o data_file=d.raw deep/a.qcow2 3000000
  # Whole sectors, and no more than the disk.
  [ "$(stat -c %s deep/d.raw)" = 3000320 ]
  cd deep
  oracle_check a.qcow2
  write a.qcow2 'write -P 7 64k 64k' 'write -P 8 2900k 1k'
  same a.qcow2
  [ "$(od -An -tu1 -j 65536 -N 1 d.raw)" -eq 7 ]
  refuses 1 create -f qcow2 -o data_file=d.raw b.qcow2 1M : \
    "'d.raw' exists already" "--force"
  refuses 1 create -n -f qcow2 -o data_file=d.raw b.qcow2 1M : \
    "'d.raw' exists already"
  qimg create -q --force -f qcow2 -o data_file=d.raw b.qcow2 1M
  [ "$(stat -c '%s %b' d.raw)" = "1048576 0" ]
  refuses 1 create -f qcow2 -o data_file= c.qcow2 1M : "'data_file'"
  refuses 1 create -f qcow2 -o data_file=c.qcow2 c.qcow2 1M : "'c.qcow2'"
  refuses 1 create --force -f qcow2 -o data_file=b.qcow2 b.qcow2 1M : \
    "'b.qcow2' cannot be its own data file"
  mkimage base.qcow2 1M 1
  refuses 1 create --force -f qcow2 -o data_file=base.qcow2 -b base.qcow2 \
    -F qcow2 c.qcow2 : "'base.qcow2' cannot be the data file"
  no_hidden_files
}

@test "data_file_raw: the data file is the disk by itself" {
  mkpattern a.raw 3M 3
  qimg convert -O qcow2 -o data_file=d.raw,data_file_raw=on a.raw a.qcow2
  cmp a.raw d.raw
  same a.qcow2
  oracle_equal a.qcow2 a.raw
  # All of it is mapped, each cluster to its own place.
  qemu-img map --output json a.qcow2 |
    jq -e 'all(.[]; .offset == .start and .present)'
  refuses 1 create -f qcow2 -o data_file_raw=on b.qcow2 1M : "'data_file'"
  refuses 1 create -f qcow2 -o data_file=e.raw,data_file_raw=on -b a.qcow2 \
    -F qcow2 b.qcow2 : "'data_file_raw'"
}

@test "convert with all these options: the same bytes by any threads" {
  local seed=${SEED:-2219} n o c
  echo "SEED=$seed"
  RANDOM=$seed
  mkpattern a.raw 9M "$seed"
  truncate -s 9500160 a.raw
  for n in $(some {1..14}); do
    random_options
    o=$options
    c=
    if [[ $o != *preallocation* && $o != *data_file* ]]; then c=-c; fi
    echo "$c -o $o"
    rm -rf one many
    mkdir one many
    # shellcheck disable=SC2086 # nothing, or an option
    qimg convert -m 1 $c -O qcow2 -o "$o" a.raw one/a.qcow2
    # shellcheck disable=SC2086
    qimg convert -m 8 $c -O qcow2 -o "$o" a.raw many/a.qcow2
    diff -r one many
    (cd one && same a.qcow2 && qemu-img compare -q a.qcow2 ../a.raw)
  done
}

@test "many refcount blocks, with packed clusters across them" {
  local seed=${SEED:-77} o c
  echo "SEED=$seed"
  mkpattern a.raw 4M "$seed"
  for o in refcount_bits=64 refcount_bits=16 refcount_bits=1 refcount_bits=2; do
    for c in 512 1k 4k 16k; do
      qimg convert -c -O qcow2 -o "$o,cluster_size=$c" a.raw a.qcow2
      oracle_check a.qcow2
      qemu-img compare -q a.qcow2 a.raw
      rm a.qcow2
    done
  done
}

@test "compression has no place beside a data file or preallocation" {
  mkpattern a.raw 1M 1
  refuses 1 convert -c -O qcow2 -o data_file=d.raw a.raw a.qcow2 : \
    "'data_file'" "ompression"
  refuses 1 convert -c -O qcow2 -o preallocation=metadata a.raw a.qcow2 : \
    "'preallocation'" "ompression"
  refuses 1 convert -c a.raw b.raw : "'raw'"
}

@test "what does not go together is refused before a file is made" {
  local o text
  while read -r o text; do
    refuses 1 create -f qcow2 -o "$o" a.qcow2 1M : "$text"
    refuses 1 create -n -f qcow2 -o "$o" a.qcow2 1M : "$text"
    # And so it is by QEMU.
    run_apart qemu-img create -q -f qcow2 -o "$o" a.qcow2 1M
    [ "$status" = 1 ]
    rm -f ./*
  done <<'END'
extended_l2=on,cluster_size=8k 'extended_l2'
extended_l2=on,compat=0.10 'extended_l2'
data_file=d.raw,compat=0.10 'data_file'
lazy_refcounts=on,compat=0.10 'lazy_refcounts'
refcount_bits=8,compat=0.10 'refcount_bits'
compression_type=zstd,compat=0.10 'compression_type'
preallocation=some 'preallocation'
extent_size_hint=4G 'extent_size_hint'
encryption=on encrypted
encrypt.format=luks encrypted
backing_fmt=raw backing
size=2M size
END
  expect_code 0 "$QIMG" create -q -f qcow2 -o encryption=off a.qcow2 1M
  # Wishes, which a file system may not know.
  expect_code 0 "$QIMG" create -q -o nocow=on,extent_size_hint=64k a.raw 1M
  expect_code 0 "$QIMG" create -q -f qcow2 -o nocow=on b.qcow2 1M
}

@test "limits of size: as QEMU has them" {
  local o size
  while read -r size o; do
    qimg create -q -f qcow2 -o "$o" a.qcow2 "$size"
    qemu-img create -q -f qcow2 -o "$o" b.qcow2 "$size"
    diff <(qemu-img info a.qcow2 | grep virtual) \
      <(qemu-img info b.qcow2 | grep virtual)
    rm a.qcow2 b.qcow2
    refuses 1 create -f qcow2 -o "$o" b.qcow2 $((size + 512)) : "too large"
    run_apart qemu-img create -q -f qcow2 -o "$o" b.qcow2 $((size + 512))
    [ "$status" = 1 ]
  done <<'END'
137438953472 cluster_size=512
35184372088832 cluster_size=8k
70368744177664 cluster_size=16k,extended_l2=on
END
}

@test "a terabyte with metadata: little memory, whole" {
  local limit=32768
  # Sanitizers take memory of their own.
  if [ "$QIMG_SAN" ]; then limit=unlimited; fi
  (ulimit -v $limit && "$QIMG" create -q -f qcow2 \
    -o preallocation=metadata a.qcow2 1T)
  oracle_check a.qcow2
}

# any_call COMMAND...: each change of files in turn fails; nothing is left.
any_call() {
  local call n
  for call in change:ENOSPC change:EIO; do
    for ((n = 1; n < 60; n++)); do
      QIMG_FAULT=${call%:*}:$n:${call#*:} run_qimg "$@"
      [ "$status" != 0 ] || break
      complains "qimg: "
      # The last is the sync of the folder: all is there already.
      if [ -e out/a.qcow2 ]; then
        (cd out && oracle_check a.qcow2)
        rm -f out/*
      fi
      [ -z "$(ls -A out)" ] || {
        echo "$call $n: $*"
        ls -A out
        return 1
      }
    done
    [ "$n" -gt 5 ] && [ "$n" -lt 60 ]
    rm -f out/*
  done
}

@test "any call that fails leaves nothing" {
  mkdir out
  mkpattern a.raw 300K 1
  any_call create -f qcow2 -o preallocation=full out/a.qcow2 3M
  any_call create -f qcow2 -o preallocation=falloc,data_file=d.raw \
    out/a.qcow2 3M
  any_call convert -m 1 -O qcow2 -o data_file=d.raw,data_file_raw=on a.raw \
    out/a.qcow2
}

@test "killed at any call: no name but complete files, and a rerun works" {
  local n
  mkdir out
  for ((n = 1; n < 60; n++)); do
    QIMG_FAULT=change:$n:kill run_qimg create -f qcow2 \
      -o data_file=d.raw,preallocation=falloc out/a.qcow2 1M
    [ "$status" != 0 ] || break
    if [ -e out/d.raw ]; then
      [ "$(stat -c %s out/d.raw)" = 1048576 ]
    fi
    (cd out && if [ -e a.qcow2 ]; then oracle_check a.qcow2; fi)
    qimg create --force -q -f qcow2 -o data_file=d.raw out/a.qcow2 1M
    (cd out && oracle_check a.qcow2 && no_hidden_files)
    rm -f out/*
  done
  [ "$n" -gt 5 ] && [ "$n" -lt 60 ]
}
