#!/usr/bin/env bats
# qimg compare: text and exit codes of qemu-img.

load ../helpers
load common

# same_verdict CODE ARG...: stdout and exit code are qemu-img's.
same_verdict() {
  local code=$1 theirs
  shift
  run_apart qemu-img compare "$@"
  theirs=$output
  [ "$status" = "$code" ]
  expect_code "$code" "$QIMG" compare "$@"
  diff <(echo "$theirs") <(echo "$output")
}

@test "equal content, whatever the format" {
  mkpattern a.raw 2M 1
  qemu-img convert -f raw -O qcow2 a.raw a.qcow2
  qemu-img convert -f raw -O qcow2 -c a.raw packed.qcow2
  same_verdict 0 a.raw a.qcow2
  same_verdict 0 packed.qcow2 a.qcow2
  same_verdict 0 a.qcow2 a.qcow2
  mkchain
  qemu-img convert -O raw top.qcow2 flat.raw
  same_verdict 0 top.qcow2 flat.raw
}

@test "the first difference: exit code 1" {
  mkpattern a.raw 2M 1
  for at in 0 1 511 65536 1000000 2097151; do
    cp a.raw b.raw
    turn_byte b.raw "$at"
    expect_code 1 "$QIMG" compare a.raw b.raw
    # qemu-img tells the sector.
    [ "$output" = "$(qemu-img compare -f raw -F raw a.raw b.raw)" ]
    expect_code 1 "$QIMG" compare --output json a.raw b.raw
    json --argjson at "$at" '.qimg and .result == "different" and
      .offset <= $at and .offset > $at - 512'
  done
}

@test "what comes first counts, whichever thread is faster" {
  local seed=${QIMG_SEED-$RANDOM} first at bad
  echo "QIMG_SEED=$seed"
  RANDOM=$seed
  mkpattern a.raw 16M 1
  for _ in {1..10}; do
    cp a.raw b.raw
    first=$((RANDOM * 256 + RANDOM % 256))
    at=("$first")
    while [ ${#at[@]} -lt 20 ]; do
      at+=($((first + (RANDOM * 32768 + RANDOM) % (16777216 - first))))
    done
    turn_byte b.raw "${at[@]}"
    same_verdict 1 -f raw -F raw a.raw b.raw
  done

  # What is longer is told where all before is equal. That is known late here.
  ln -s "$QIMG" qemu-img
  head -c 1M a.raw >short.raw
  cp short.raw long.raw
  truncate -s 100M long.raw
  turn_byte long.raw $((first % 1048576))
  run_apart qemu-img compare -f raw -F raw short.raw long.raw
  for _ in {1..20}; do
    diff <(echo "$output") \
      <(./qemu-img compare -f raw -F raw short.raw long.raw)
  done

  # A cluster that cannot be read, with a difference on either side of it.
  seq 10000000 | head -c 16M >a.raw
  qemu-img convert -c -f raw -O qcow2 a.raw bad.qcow2
  head -c 40k /dev/zero | tr '\0' '\377' |
    dd of=bad.qcow2 bs=64k seek=30 conv=notrunc status=none
  bad=$(qemu-io -f qcow2 bad.qcow2 < <(printf 'read %dk 64k\n' {0..16320..64}) |
    awk '/at offset/ { if ($NF != at) exit; at += 65536 } END { print at + 0 }')
  [ "$bad" -gt 1048577 ] && [ "$bad" -lt 16000000 ]
  for _ in {1..10}; do
    cp a.raw b.raw
    turn_byte b.raw $((bad + 400000)) $((bad + 500000))
    refuses 4 compare -f raw b.raw bad.qcow2 : "cannot be unpacked"
    first=$((bad - 1048577)) # in another piece that is read
    turn_byte b.raw $first
    expect_code 1 "$QIMG" compare --output json -f raw b.raw bad.qcow2
    json --argjson at $((first / 512 * 512)) '.offset == $at'
  done
}

@test "different sizes" {
  mkpattern a.raw 1M 1
  cp a.raw longer.raw
  truncate -s 2M longer.raw
  same_verdict 0 -f raw -F raw a.raw longer.raw
  same_verdict 0 -f raw -F raw longer.raw a.raw
  says "Warning: Image size mismatch!" "Images are identical."
  same_verdict 1 -s -f raw -F raw a.raw longer.raw
  says "Strict mode: Image size mismatch!"
  expect_code 0 "$QIMG" compare --output json a.raw longer.raw
  json '.result == "equal" and .["size-differs"]'
  expect_code 1 "$QIMG" compare --strict --output json a.raw longer.raw
  json '.result == "size-differs"'
  cp longer.raw more.raw
  printf x | dd of=more.raw bs=1 seek=1500000 conv=notrunc status=none
  same_verdict 1 -f raw -F raw a.raw more.raw
  same_verdict 1 -f raw -F raw more.raw a.raw
}

@test "-s: allocation counts, too" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  qemu-img create -q -f qcow2 b.qcow2 1M
  same_verdict 0 -s a.qcow2 b.qcow2
  write b.qcow2 'write -P 0 128k 64k'
  same_verdict 0 a.qcow2 b.qcow2
  # QEMU names the start of the run that goes on to the end of the disk.
  expect_code 1 "$QIMG" compare -s a.qcow2 b.qcow2
  says 'Strict mode: Offset 131072 block status mismatch!'
  expect_code 1 "$QIMG" compare -s --output=json a.qcow2 b.qcow2
  json '.result == "allocation-differs" and .offset == 131072'
}

@test "-f, -F: formats are taken, not found" {
  mkimage a.qcow2 1M 1
  cp a.qcow2 a.raw
  expect_code 0 "$QIMG" compare -f raw -F raw a.qcow2 a.raw
  expect_code 0 "$QIMG" compare --a-format=qcow2 --b-format=qcow2 a.qcow2 a.raw
  expect_code 1 "$QIMG" compare -f raw -F qcow2 a.raw a.qcow2
  mkpattern b.raw 1M 1
  refuses 2 compare -f qcow2 b.raw b.raw : "'b.raw'"
  refuses 2 compare -F nothing b.raw b.raw : "unknown format 'nothing'"
}

@test "-q: the exit code alone; -p: progress on stderr" {
  mkpattern a.raw 1M 1
  mkpattern b.raw 1M 2
  expect_code 1 "$QIMG" compare -q a.raw b.raw
  [ -z "$output$stderr" ]
  expect_code 0 "$QIMG" compare -p a.raw a.raw
  [ "$output" = "Images are identical." ]
  [[ $stderr == *"compare: 100.0%"* ]]
  expect_code 0 "$QIMG" compare --progress=json a.raw a.raw
  tail -1 <<<"$stderr" | jq -e '.progress.operation == "compare" and
    .progress.percent == 100 and .progress.done == .progress.total'
}

@test "an image in use: refused with the holder's name; -U reads" {
  mkimage a.qcow2 1M 1
  cp a.qcow2 b.qcow2
  hold_image a.qcow2
  refuses 2 compare b.qcow2 a.qcow2 : "'a.qcow2' is in use" \
    "$HOLD_PID (qemu-io)"
  expect_code 0 "$QIMG" compare -U b.qcow2 a.qcow2
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 "$QIMG" compare --wait=20 b.qcow2 a.qcow2
  release_image
}

@test "what cannot be opened: code 2; what cannot be read: code 4" {
  mkbad
  mkpattern b.raw 1M 1
  refuses 2 compare b.raw gone.qcow2 : "'gone.qcow2'" "No such file"
  refuses 2 compare gone.qcow2 b.raw : "'gone.qcow2'"
  refuses 2 compare a.qcow2 b.raw : "loop"
  refuses 2 compare b.raw orphan.qcow2 : "'gone.qcow2'"
  refuses 2 compare folder b.raw : "'folder'"
  refuses 2 compare cut.qcow2 b.raw : "'cut.qcow2'" "truncated"
  mkpattern c.raw 1M 1
  # The head and the end of each are read first, then data.
  QIMG_FAULT=read:1:EIO refuses 2 compare b.raw c.raw : "Input/output error"
  QIMG_FAULT=read:5:EIO refuses 4 compare b.raw c.raw : "Input/output error"
}

@test "what the files of both images have as holes is not read" {
  for name in a b; do
    "$QIMG" create -q -f qcow2 -o preallocation=metadata $name.qcow2 1T
  done
  # All of it takes minutes to read.
  run timeout 20 "$QIMG" compare a.qcow2 b.qcow2
  [ "$status" = 0 ]
  says "Images are identical."
  qemu-io -c 'write -P 7 700G 512' b.qcow2 >/dev/null
  expect_code 1 timeout 20 "$QIMG" compare a.qcow2 b.qcow2
  says "Content mismatch at offset $((700 << 30))!"
}
