#!/usr/bin/env bats
# qcow2: what QEMU wrote is read as QEMU reads it, and what is written is what
# QEMU reads.

load ../helpers
load common

# ---------------------------------------------------------------- reading

@test "versions and features" {
  local o
  for o in compat=0.10 compat=1.1 lazy_refcounts=on refcount_bits=1 \
    refcount_bits=2 refcount_bits=4 refcount_bits=8 refcount_bits=32 \
    refcount_bits=64 preallocation=metadata preallocation=falloc \
    preallocation=full extended_l2=on extended_l2=on,cluster_size=16k \
    extended_l2=on,preallocation=metadata,cluster_size=2M; do
    echo "-o $o"
    qemu-img create -q -f qcow2 -o "$o" a.qcow2 5000192
    same a.qcow2
    scribble a.qcow2
    same a.qcow2
    rm a.qcow2
  done
}

@test "all cluster sizes" {
  local size compat
  for ((size = 512; size <= 2 << 20; size *= 2)); do
    for compat in 0.10 1.1; do
      echo "$size, compat=$compat"
      qemu-img create -q -f qcow2 -o "cluster_size=$size,compat=$compat" \
        a.qcow2 5000192
      scribble a.qcow2
      same a.qcow2
      rm a.qcow2
    done
  done
}

@test "compressed clusters" {
  local type size
  mkpattern a.raw 3000K 7
  for type in zlib zstd; do
    for size in 512 4k 64k 2M; do
      echo "$type, $size"
      qemu-img convert -c -f raw -O qcow2 \
        -o "compression_type=$type,cluster_size=$size" a.raw a.qcow2
      same a.qcow2
      # Some of them are written over.
      qemu-io -f qcow2 -c 'write -P 9 300k 70k' -c 'discard 1M 128k' \
        a.qcow2 >/dev/null
      same a.qcow2
      rm a.qcow2
    done
  done
}

@test "compressed clusters with subclusters" {
  mkpattern a.raw 3000K 7
  qemu-img convert -c -f raw -O qcow2 -o extended_l2=on a.raw a.qcow2
  qemu-io -f qcow2 -c 'write -P 9 300k 3k' -c 'write -P 9 1M 2k' a.qcow2 \
    >/dev/null
  same a.qcow2
}

@test "subclusters of all kinds over a base" {
  local i commands=()
  mkpattern base.raw 4M 3
  qemu-img create -q -f qcow2 -b base.raw -F raw -o extended_l2=on a.qcow2
  for ((i = 0; i < 60; i++)); do
    commands+=(-c "write -P $((i + 1)) $((i * 66))k $((i % 9 * 2 + 2))k")
    commands+=(-c "write -z $((i * 66 + 20))k $((i % 5 * 2 + 2))k")
    commands+=(-c "discard $((i * 66 + 40))k $((i % 7 * 2 + 2))k")
  done
  qemu-io -f qcow2 -d unmap "${commands[@]}" a.qcow2 >/dev/null
  same a.qcow2
}

@test "internal snapshots" {
  qemu-img create -q -f qcow2 a.qcow2 4M
  scribble a.qcow2
  qemu-img snapshot -c one a.qcow2
  qemu-io -f qcow2 -c 'write -P 9 0 300k' -c 'discard 2500k 512k' a.qcow2 \
    >/dev/null
  qemu-img snapshot -c two a.qcow2
  qemu-io -f qcow2 -c 'write -P 8 100k 100k' a.qcow2 >/dev/null
  same_content a.qcow2
  same_map a.qcow2
  expect_code 0 qimg check a.qcow2
  # Both count references; QEMU adds up the snapshots' clusters in its own way.
  [ "$(qimg check --output json a.qcow2 | jq '[.corruptions, .leaks]')" = \
    "$(qemu-img check --output=json a.qcow2 | jq '[.corruptions, .leaks]')" ]
  qemu-img snapshot -a one a.qcow2
  same_content a.qcow2
  expect_code 0 qimg check -q a.qcow2
}

@test "headers: longer ones, with extensions that nobody knows" {
  local args
  qemu-img create -q -f qcow2 base.qcow2 4M
  scribble base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 good.qcow2 5M
  # Up to 4 KiB they are rewritten with all that is in them.
  for args in 0 8 24 '0 12345678 100' '16 12345678 1 11111111 0 22222222 7' \
    '400 12345678 2000'; do
    echo "$args"
    cp good.qcow2 a.qcow2
    # shellcheck disable=SC2086 # it is several words
    stretch_header a.qcow2 $args
    same a.qcow2
    diff <(qimg info a.qcow2) \
      <(qemu-img info a.qcow2 | sed '/^Child node/,/^$/d')
    head -c 4096 a.qcow2 | tr -cd FZ >unknown.before
    qimg bitmap add -q --node a.qcow2 b
    qimg snapshot -c one a.qcow2
    oracle_check a.qcow2
    same_content a.qcow2
    [ "$(qemu-img info --output=json a.qcow2 |
      jq -r '."backing-filename" + " " + .snapshots[0].name')" = \
      "base.qcow2 one" ]
    head -c 4096 a.qcow2 | tr -cd FZ | cmp - unknown.before
  done
}

@test "headers of more than 4 KiB are read, but not written" {
  local args
  qemu-img create -q -f qcow2 base.qcow2 4M
  scribble base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 good.qcow2 5M
  for args in '0 12345678 4096' '40000' '16 12345678 30000 11111111 30000' \
    '0 12345678 64700'; do
    echo "$args"
    cp good.qcow2 a.qcow2
    # shellcheck disable=SC2086 # it is several words
    stretch_header a.qcow2 $args
    same a.qcow2
    [ "$(qimg info --output json a.qcow2 | jq -r '."backing-filename"')" = \
      base.qcow2 ]
    cp a.qcow2 copy.qcow2
    one_line 1 bitmap add --node a.qcow2 b
    [[ $stderr == *"its header has "*" bytes"* ]]
    one_line 1 snapshot -c one a.qcow2
    cmp a.qcow2 copy.qcow2
  done
}

@test "a header of 104 bytes, as older versions wrote it" {
  qemu-img create -q -f qcow2 a.qcow2 4M
  scribble a.qcow2
  # The 8 bytes of the later fields become an extension without data.
  [ "$(be a.qcow2 100 4)" = 112 ]
  poke_be a.qcow2 100 4 104
  poke_be a.qcow2 104 8 $((0x12345678 << 32))
  same a.qcow2
  qimg bitmap add -q --node a.qcow2 b
  [ "$(be a.qcow2 100 4)" = 104 ]
  oracle_check a.qcow2
  same a.qcow2
}

@test "feature bits: compatible ones stay, autoclear ones go with a write" {
  local compatible=80 autoclear=88
  qemu-img create -q -f qcow2 good.qcow2 4M
  scribble good.qcow2
  poke_be good.qcow2 $compatible 8 $((1 << 40 | 1))
  poke_be good.qcow2 $autoclear 8 $((1 << 50))
  cp good.qcow2 a.qcow2
  same a.qcow2
  expect_code 0 qimg info a.qcow2
  cmp good.qcow2 a.qcow2
  qimg bitmap add -q --node a.qcow2 b
  [ "$(be a.qcow2 $autoclear 8)" = 1 ]
  [ "$(be a.qcow2 $compatible 8)" = $((1 << 40 | 1)) ]
  cp good.qcow2 a.qcow2
  qimg snapshot -c one a.qcow2
  [ "$(be a.qcow2 $autoclear 8)" = 0 ]
  # Guest data is a write, too.
  cp good.qcow2 a.qcow2
  qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2
  qemu-io -f qcow2 -c 'write -P 9 0 64k' top.qcow2 >/dev/null
  ln -s top.qcow2 drive
  qimg commit -q --drive drive
  [ "$(be a.qcow2 $autoclear 8)" = 0 ]
  [ "$(be a.qcow2 $compatible 8)" = $((1 << 40 | 1)) ]
}

@test "dirty and corrupt images are read, and say so" {
  local bit
  qemu-img create -q -f qcow2 -o lazy_refcounts=on good.qcow2 4M
  scribble good.qcow2
  for bit in 1 2; do
    cp good.qcow2 a.qcow2
    poke_be a.qcow2 72 8 $bit
    diff <(qimg info a.qcow2) \
      <(qemu-img info a.qcow2 | sed '/^Child node/,/^$/d')
    diff <(qimg info --output json a.qcow2 | jq -S 'del(.qimg)') \
      <(qemu-img info --output json a.qcow2 |
        jq -S 'del(.. | .children? // empty)')
    same_content a.qcow2
    same_map a.qcow2
    one_line 4 bitmap add --node a.qcow2 b
  done
}

@test "an L1 table that is longer than the disk needs" {
  qemu-img create -q -f qcow2 a.qcow2 1G
  scribble a.qcow2
  qemu-img resize -q --shrink a.qcow2 4M
  poke_be a.qcow2 36 4 8192
  same_content a.qcow2
  same_map a.qcow2
}

@test "data files: beside the image, and where QEMU looks for them" {
  local o
  mkdir sub
  for o in data_file=sub/data.raw data_file=sub/data.raw,data_file_raw=on \
    data_file=file:sub/data.raw,extended_l2=on; do
    echo "$o"
    rm -f sub/*
    qemu-img create -q -f qcow2 -o "$o" sub/a.qcow2 4M
    scribble sub/a.qcow2
    same sub/a.qcow2
    diff <(qimg info sub/a.qcow2) \
      <(qemu-img info sub/a.qcow2 | sed '/^Child node/,/^$/d')
  done
  # In the folder of the image.
  (cd sub && qemu-img create -q -f qcow2 -o data_file=b.raw b.qcow2 4M &&
    scribble b.qcow2 && qimg convert -O raw b.qcow2 content.raw)
  expect_code 0 qimg convert -q -O raw sub/b.qcow2 b.out
  cmp b.out sub/content.raw
  # One in each folder: nobody can know.
  truncate -s 4M b.raw
  one_line 1 map sub/b.qcow2
  [[ $stderr == *"'sub/b.raw' and 'b.raw' could both be meant"* ]]
  (cd sub && same b.qcow2)
  rm b.raw sub/b.raw
  one_line 1 map sub/b.qcow2
  [[ $stderr == *"'sub/b.raw'"* ]]
  expect_code 0 qimg info sub/b.qcow2
}

@test "data files: an image that does not name its own" {
  local at name
  qemu-img create -q -f qcow2 -o data_file=data.raw a.qcow2 4M
  scribble a.qcow2
  cp a.qcow2 named.qcow2
  at=$(extension a.qcow2 44415441)
  poke_be a.qcow2 "$at - 8" 4 1
  expect_code 0 qimg info a.qcow2
  one_line 1 map a.qcow2
  [[ $stderr == *'"data-file.filename":"DATA"'* ]]
  for name in '"file.filename":"a.qcow2","data-file.filename":"data.raw"' \
    '"file":{"driver":"file","filename":"a.qcow2"},
      "data-file":{"driver":"file","filename":"data.raw"}'; do
    name="json:{\"driver\":\"qcow2\",$name}"
    qimg convert --force -q -O raw "$name" out.raw
    oracle_equal named.qcow2 out.raw
    diff <(qimg map "$name") <(qemu-img map "$name")
    one_line 1 map "${name/a.qcow2/out.raw}"
  done
  qemu-img create -q -f qcow2 plain.qcow2 4M
  one_line 1 map "${name/a.qcow2/plain.qcow2}"
}

@test "snapshot tables: extra data of all lengths" {
  local extra
  for extra in 0 8 16 24 32 1000 1024; do
    echo "$extra bytes"
    qemu-img create -q -f qcow2 a.qcow2 1M
    perl -e '
      my ($file, $extra) = @ARGV;
      open my $f, "+<:raw", $file or die;
      my $at = ((-s $f) + 65535) & ~65535;
      my $table = "";
      for my $i (1 .. 3) {
        my $more = substr pack("Q>3", $i << 33, 1 << 20, 77) . "Z" x $extra,
          0, $extra;
        $table .= pack("Q> L> n n L> L> Q> L> L>", 196608, 1, 1, 4, 1e9 + $i,
          6e8, 3723 * 1e9 + 4e6, 5 << $i, $extra) . "$more${i}snap";
        $table .= "\0" x (-length($table) % 8);
      }
      seek $f, $at, 0;
      print $f $table;
      seek $f, 60, 0;
      print $f pack "L> Q>", 3, $at;
    ' a.qcow2 $extra
    diff <(qimg info a.qcow2 2>&1) \
      <(qemu-img info a.qcow2 2>&1 | sed '/^Child node/,/^$/d')
    diff <(qimg snapshot -l a.qcow2) <(qemu-img snapshot -l a.qcow2)
    diff <(qimg info --output json a.qcow2 | jq -S .snapshots) \
      <(qemu-img info --output json a.qcow2 | jq -S .snapshots)
  done
}

@test "disks of no size, of a sector, of 63 terabytes" {
  local size
  for size in 0 512 1536 65536 66048 63T; do
    qemu-img create -q -f qcow2 a.qcow2 "$size"
    [ "$(qimg info --output json a.qcow2 | jq '."virtual-size"')" = \
      "$(qemu-img info --output=json a.qcow2 | jq '."virtual-size"')" ]
    same_map a.qcow2
    same_check a.qcow2
  done
  qemu-io -f qcow2 -c 'write -P 7 62T 64k' a.qcow2 >/dev/null
  same_map a.qcow2
}

@test "chains: relative, absolute, file:, json:" {
  local name size base
  mkdir sub
  qemu-img create -q -f qcow2 sub/base.qcow2 4M
  scribble sub/base.qcow2
  base=$PWD/sub/base.qcow2
  for name in base.qcow2 ./base.qcow2 ../sub/base.qcow2 "$base" \
    "file:$base" "json:{\"driver\":\"qcow2\",\"file.filename\":\"$base\"}" \
    "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",
      \"filename\":\"$base\"}}"; do
    for size in 3M 4M 5000192; do
      echo "$name, $size"
      rm -f sub/top.qcow2
      qemu-img create -q -f qcow2 -b "$name" -F qcow2 sub/top.qcow2 $size
      qemu-io -f qcow2 -c 'write -P 6 100k 50k' -c 'write -z 1500k 100k' \
        -c 'discard 1M 64k' sub/top.qcow2 >/dev/null
      same sub/top.qcow2
    done
  done
}

@test "chains: raw bases of odd size, format told and not told" {
  local size
  mkdir sub
  for size in 3000000 3000320 1 65537; do
    head -c "$size" /dev/urandom >sub/base.raw
    qemu-img create -q -f qcow2 -b base.raw -F raw sub/told.qcow2 4M
    cp sub/told.qcow2 sub/untold.qcow2
    # An extension of another type: the format is not recorded any more.
    poke_be sub/untold.qcow2 "$(extension sub/untold.qcow2 e2792aca) - 8" 4 1
    same sub/told.qcow2
    same_content sub/untold.qcow2
  done
}

@test "chains of ten layers with different clusters and sizes" {
  local i base=0.qcow2
  qemu-img create -q -f qcow2 0.qcow2 5M
  for i in 1 2 3 4 5 6 7 8 9; do
    qemu-img create -q -f qcow2 -b "$base" -F qcow2 \
      -o cluster_size=$((512 << i)) "$i.qcow2" "$((3000 + i * 7919 % 2400))k"
    qemu-io -f qcow2 -c "write -P $i $((i * 239))k $((i * 37))k" \
      -c "write -z $((i * 301))k 64k" -c "write -P 1$i $((i * 97))k 3k" \
      "$i.qcow2" >/dev/null
    base=$i.qcow2
  done
  same 9.qcow2
}

@test "an image that QEMU still writes is read with -U alone" {
  qemu-img create -q -f qcow2 a.qcow2 4M
  scribble a.qcow2
  hold_image a.qcow2
  expect_code 1 qimg convert -O raw a.qcow2 a.raw
  [[ $stderr == *"'a.qcow2' is in use: process $HOLD_PID (qemu-io)"* ]]
  [ ! -e a.raw ]
  qimg convert -U -O raw a.qcow2 a.raw
  release_image
  oracle_equal a.qcow2 a.raw
}

# ---------------------------------------------------------------- writing

@test "convert: all cluster sizes, versions and compressions" {
  local size o
  mkpattern a.raw 5000K 11
  for ((size = 512; size <= 2 << 20; size *= 8)); do
    for o in compat=0.10 compat=1.1; do
      echo "$size $o"
      qimg convert -q -f raw -O qcow2 -o "cluster_size=$size,$o" a.raw a.qcow2
      oracle_check a.qcow2
      oracle_equal a.raw a.qcow2
      same_check a.qcow2
      qimg convert -q -c -f raw -O qcow2 -o "cluster_size=$size,$o" \
        a.raw c.qcow2
      oracle_check c.qcow2
      oracle_equal a.raw c.qcow2
      same_map c.qcow2
      rm a.qcow2 c.qcow2
    done
    qimg convert -q -c -f raw -O qcow2 \
      -o "cluster_size=$size,compression_type=zstd" a.raw c.qcow2
    oracle_check c.qcow2
    oracle_equal a.raw c.qcow2
    rm c.qcow2
  done
}

@test "convert: the same bytes for any number of threads" {
  local o m
  mkpattern a.raw 9M 12
  for o in '' '-c' '-c -o compression_type=zstd' '-o cluster_size=4k'; do
    for m in 1 2 4 7; do
      # shellcheck disable=SC2086 # it is several words
      qimg convert -q -m $m $o -f raw -O qcow2 a.raw $m.qcow2
      cmp 1.qcow2 $m.qcow2
    done
    oracle_equal a.raw 1.qcow2
    rm ./*.qcow2
  done
}

@test "convert: odd sizes, empty disks, chains, back to raw" {
  local size
  for size in 0 512 65536 66048 1000000 1049088; do
    mkpattern a.raw "$size" 13
    qimg convert -q -f raw -O qcow2 a.raw a.qcow2
    oracle_check a.qcow2
    oracle_equal a.raw a.qcow2
    qimg convert -q -O raw a.qcow2 b.raw
    cmp -n "$size" a.raw b.raw
    rm a.qcow2 b.raw
  done
  qemu-img create -q -f qcow2 base.qcow2 4M
  scribble base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 5M
  qemu-io -f qcow2 -c 'write -z 64k 64k' -c 'write -P 7 3500k 9k' top.qcow2 \
    >/dev/null
  qimg convert -q -O qcow2 top.qcow2 flat.qcow2
  oracle_check flat.qcow2
  oracle_equal top.qcow2 flat.qcow2
}

@test "convert: zeroes take no space" {
  truncate -s 64M a.raw
  dd if=/dev/zero of=a.raw bs=1M count=8 conv=notrunc status=none
  qimg convert -q -f raw -O qcow2 a.raw a.qcow2
  oracle_equal a.raw a.qcow2
  [ "$(stat -c %s a.qcow2)" -lt 500000 ]
}

@test "create: all cluster sizes and versions" {
  local size o
  for ((size = 512; size <= 2 << 20; size *= 8)); do
    for o in compat=0.10 compat=1.1 lazy_refcounts=on compression_type=zstd; do
      echo "$size $o"
      qimg create -q -f qcow2 -o "cluster_size=$size,$o" a.qcow2 100M
      oracle_check a.qcow2
      scribble a.qcow2
      oracle_check a.qcow2
      same_content a.qcow2
      rm a.qcow2
    done
  done
}

@test "create: overlays that QEMU understands" {
  local name
  mkdir sub
  mkpattern sub/base.raw 3M 14
  qimg convert -q -f raw -O qcow2 sub/base.raw sub/base.qcow2
  for name in base.qcow2 "$PWD/sub/base.qcow2"; do
    qimg create -q --force -f qcow2 -b "$name" -F qcow2 sub/top.qcow2
    oracle_check sub/top.qcow2
    oracle_equal sub/top.qcow2 sub/base.raw
    [ "$(qemu-img info --output=json sub/top.qcow2 |
      jq -r '."backing-filename" + " " + ."backing-filename-format"')" = \
      "$name qcow2" ]
  done
  qimg create -q --force -f qcow2 -b base.raw -F raw sub/top.qcow2 5M
  scribble sub/top.qcow2
  oracle_check sub/top.qcow2
  same sub/top.qcow2
}

@test "create: what cannot be is refused and leaves nothing" {
  local o
  for o in cluster_size=511 cluster_size=256 cluster_size=4M compat=2 \
    compression_type=lzma compat=0.10,compression_type=zstd nonsense=1 \
    cluster_size=banana; do
    echo "$o"
    one_line 1 create -f qcow2 -o "$o" a.qcow2 1M
  done
  one_line 1 create -f qcow2 a.qcow2 8E
  one_line 1 create -f qcow2 -b missing.qcow2 -F qcow2 a.qcow2
  [ -z "$(ls -A)" ]
}

@test "extensions that go on past the first 4 KiB of the header are read" {
  qemu-img create -q -f qcow2 -o data_file=some.raw a.qcow2 1M
  "$QIMG" info a.qcow2 >before
  # An unknown one of 6000 bytes comes first now.
  perl -e 'open F, "+<", "a.qcow2"; read F, $h, 4096;
    substr($h, 112, 0) = pack("NN", 0x71696d67, 6000) . "x" x 6000;
    seek F, 0, 0; print F $h'
  "$QIMG" info a.qcow2 >after
  diff before after
  grep -q 'data file: some.raw' after
  qemu-img info a.qcow2 | grep -q 'data file: some.raw'
}
