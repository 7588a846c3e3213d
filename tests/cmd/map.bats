#!/usr/bin/env bats
# qimg map: the extents that qemu-img finds.

load ../helpers
load common

# Where a file has holes is certain only when it is on disk.
same_text() {
  sync "${@: -1}"
  diff <(qimg map "$@") <(qemu-img map "$@")
}

# Later versions of qemu-img say whether an extent is compressed.
same_json() {
  local filter=".[] | del(.compressed)"
  sync "${@: -1}"
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
  for f in base.qcow2 top.qcow2 none.qcow2 sub.qcow2 \
    long.qcow2 short.qcow2 plain.raw packed.qcow2; do
    same_json "$f"
    # qemu-img has no text for what is compressed.
    [ "$f" = packed.qcow2 ] || same_text -f "$(format_of "$f")" "$f"
  done
}

@test "all kinds of images, with holes in files, alone and over a base" {
  local o size base
  mkpattern base.raw 3M 5
  qemu-img convert -f raw -O qcow2 base.raw base.qcow2
  for size in 4k 64k 2M; do
    for o in $(some compat=0.10 compat=1.1 preallocation=metadata \
      preallocation=falloc refcount_bits=1,preallocation=metadata \
      data_file=data.raw data_file=data.raw,data_file_raw=on \
      data_file=data.raw,preallocation=metadata \
      extended_l2=on extended_l2=on,preallocation=metadata); do
      [[ $size/$o != 4k/extended* ]] || continue
      echo "$size $o"
      rm -f a.qcow2 data.raw
      qemu-img create -q -f qcow2 -o "cluster_size=$size,$o" a.qcow2 5000192
      same_json a.qcow2
      same_text a.qcow2
      write a.qcow2 'write 64k 200k' 'write 1M 300k' 'write -z 1100k 64k' \
        'write -z 80k 5k' 'write 2500k 600k' 'discard 2600k 256k'
      same_json a.qcow2
      same_text a.qcow2
    done
    for o in compat=1.1 extended_l2=on; do
      [[ $size/$o != 4k/extended* ]] || continue
      for base in 'base.raw -F raw' 'base.qcow2 -F qcow2'; do
        echo "$size $o $base"
        # shellcheck disable=SC2086 # it is several words
        qemu-img create -q -f qcow2 -o "cluster_size=$size,$o" -b $base \
          a.qcow2 5M
        write a.qcow2 'write 64k 200k' 'write 900k 2k' 'write -z 970k 3k' \
          'write 4M 5k' 'discard 100k 50k'
        same_json a.qcow2
        same_text a.qcow2
      done
    done
  done
}

@test "preallocated images: what nobody has written is zero" {
  qemu-img create -q -f qcow2 -o preallocation=metadata a.qcow2 8M
  write a.qcow2 'write 1M 64k'
  expect_code 0 "$QIMG" map --output json a.qcow2
  json 'map([.start, .zero, .data]) == [[0, true, true],
    [1048576, false, true], [1114112, true, true]]'
  expect_code 0 "$QIMG" map a.qcow2
  [ "$(wc -l <<<"$output")" = 2 ]
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
