#!/usr/bin/env bats
# qimg map: the extents that qemu-img finds.

load ../helpers
load common

same_text() {
  diff <(qimg map "$@") <(qemu-img map "$@")
}

# Later versions of qemu-img say whether an extent is compressed.
same_json() {
  local filter=${FILTER-.}
  filter=".[] | $filter | del(.compressed)"
  diff <(qimg map --output json "$@" | jq -c "$filter") \
    <(qemu-img map --output json "$@" | jq -c "$filter")
}

@test "text and JSON are those of qemu-img" {
  mkchain
  mkimage packed.qcow2 2M 3 -c
  mkpattern plain.raw 2M 4
  qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k sub.qcow2 2M
  write sub.qcow2 'write 4k 8k' 'write -z 16k 12k' 'write 1M 130k'
  qemu-img create -q -f qcow2 none.qcow2 2M
  # An overlay longer and one shorter than what is below.
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 long.qcow2 3M
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 short.qcow2 1M
  # qemu-img gives the place of subclusters in which nothing is stored.
  FILTER="select(.present)" same_json sub.qcow2
  same_text sub.qcow2
  for f in base.qcow2 top.qcow2 none.qcow2 \
    long.qcow2 short.qcow2 plain.raw packed.qcow2; do
    same_json "$f"
    # qemu-img has no text for what is compressed.
    [ "$f" = packed.qcow2 ] || same_text -f "$(format_of "$f")" "$f"
  done
}

@test "compressed extents have text, too" {
  mkimage packed.qcow2 1M 3 -c
  expect_code 0 "$QIMG" map packed.qcow2
  says "compressed      packed.qcow2"
}

@test "-s and -l: a part; past the end nothing" {
  mkchain
  same_json -s 100k -l 300000 top.qcow2
  same_text --start-offset=100k --max-length=300000 top.qcow2
  same_json -s 1M top.qcow2
  same_json -l 64k top.qcow2
  expect_code 0 "$QIMG" map --output json -s 3M top.qcow2
  [ "$output" = "[]" ]
  expect_code 0 "$QIMG" map --output json -l 0 top.qcow2
  [ "$output" = "[]" ]
}

@test "-f: the format is taken, not found" {
  mkimage a.qcow2 1M 1
  same_json -f raw a.qcow2
  mkpattern b.raw 1M 1
  refuses 1 map -f qcow2 b.raw : "'b.raw'"
}

@test "an image in use: refused with the holder's name; -U reads" {
  mkimage a.qcow2 1M 1
  hold_image a.qcow2
  refuses 1 map a.qcow2 : "'a.qcow2' is in use" "$HOLD_PID (qemu-io)" "--wait"
  refuses 1 map --wait=0 a.qcow2 : "in use"
  expect_code 0 "$QIMG" map -U --output json a.qcow2
  json 'length > 0'
  same_json -U a.qcow2
  release_image
}

@test "--wait waits for the image" {
  mkimage a.qcow2 1M 1
  hold_image a.qcow2
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 "$QIMG" map --wait=20 a.qcow2
  release_image
}

@test "what cannot be read: code 1, one message, nothing changed" {
  mkbad
  refuses 1 map gone.qcow2 : "'gone.qcow2'" "No such file or directory"
  refuses 1 map a.qcow2 : "loop" "'a.qcow2'"
  refuses 1 map orphan.qcow2 : "'gone.qcow2'"
  refuses 1 map folder : "'folder'"
  refuses 1 map fifo : "'fifo'"
  head -c 200 cut.qcow2 >stub.qcow2
  refuses 1 map stub.qcow2 : "'stub.qcow2'"
}

@test "an image whose tables are cut off is damaged" {
  mkimage a.qcow2 1M 1
  # The L1 table is at the fourth cluster.
  truncate -s 190000 a.qcow2
  run_qimg map a.qcow2
  [ "$status" = 1 ]
  [[ $stderr == "qimg: "* ]]
}
