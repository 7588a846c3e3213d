#!/usr/bin/env bats
# qimg info: the text and JSON of qemu-img, and what only qimg knows.

load ../helpers
load common

# same_text [OPTION...] IMG: our text is that of qemu-img.
same_text() {
  # Later versions add a part on the file below, which says nothing new.
  diff <(qimg info "$@") <(qemu-img info "$@" | sed '/^Child node/,/^$/d')
}

same_json() {
  diff <(qimg info --output json "$@" |
    jq -S 'if type == "array" then map(del(.qimg)) else del(.qimg) end') \
    <(qemu-img info --output json "$@" |
      jq -S 'del(.. | .children? // empty)')
}

@test "text and JSON are those of qemu-img, for each kind of image" {
  mkimage a.qcow2 2M 1
  mkpattern b.raw 1M 2
  qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 10M
  qemu-img create -q -f qcow2 -o cluster_size=2M big.qcow2 1G
  qemu-img create -q -f qcow2 -o lazy_refcounts=on,refcount_bits=1 c.qcow2 1M
  qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k s.qcow2 1M
  qemu-img create -q -f qcow2 -o compression_type=zstd z.qcow2 1M
  qemu-img create -q -f qcow2 huge.qcow2 1.5T
  mkdir -p in/here
  cp a.qcow2 in/here/
  for f in a.qcow2 b.raw old.qcow2 big.qcow2 c.qcow2 s.qcow2 z.qcow2 \
    huge.qcow2 ./a.qcow2 in/here/a.qcow2 "$PWD/a.qcow2"; do
    same_text "$f"
    same_json "$f"
  done
}

@test "text and JSON with bitmaps and backing files" {
  mkchain
  qemu-img bitmap --add top.qcow2 one
  qemu-img bitmap --add -g 1M --disable top.qcow2 two
  mkdir deep
  qemu-img create -q -f qcow2 -b ../top.qcow2 -F qcow2 deep/more.qcow2
  qemu-img create -q -f qcow2 -b "$PWD/base.qcow2" -F qcow2 abs.qcow2
  for f in top.qcow2 deep/more.qcow2 abs.qcow2; do
    same_text "$f"
    same_json "$f"
    same_json --backing-chain "$f"
  done
  same_text --backing-chain top.qcow2
  expect_code 0 "$QIMG" info --backing-chain --output json deep/more.qcow2
  json 'map(.filename) ==
    ["deep/more.qcow2", "deep/../top.qcow2", "deep/../mid.qcow2",
     "deep/../base.qcow2"]'
}

@test "internal snapshots, data files, backing files of all kinds" {
  qemu-img create -q -f qcow2 a.qcow2 2M
  write a.qcow2 'write -P 1 0 100k'
  qemu-img snapshot -c one a.qcow2
  qemu-img snapshot -c 'a long name, with spaces' a.qcow2
  qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on d.qcow2 1M
  for f in a.qcow2 d.qcow2; do
    same_text "$f"
    same_json "$f"
  done
  for name in "file:$PWD/a.qcow2" "file:a.qcow2" "./a.qcow2" \
    "json:{\"driver\":\"qcow2\",\"file.filename\":\"$PWD/a.qcow2\"}"; do
    qemu-img create -q -u -f qcow2 -b "$name" -F qcow2 top.qcow2 2M
    same_text top.qcow2
    same_json top.qcow2
    same_text --backing-chain top.qcow2
  done
}

@test "damage that hides only a part is a warning" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  qemu-img bitmap --add a.qcow2 one
  qemu-img snapshot -c one a.qcow2
  cp a.qcow2 b.qcow2
  # The table of snapshots, then the directory of bitmaps, become garbage.
  perl -e '
    open my $f, "+<:raw", "a.qcow2" or die;
    seek $f, 64, 0;
    read $f, my $at, 8;
    seek $f, unpack("Q>", $at), 0;
    print $f "\377" x 64;
    open $f, "+<:raw", "b.qcow2" or die;
    read $f, my $head, 4096;
    my $dir = index $head, pack "L>2", 0x23852875, 24;
    seek $f, unpack("Q>", substr $head, $dir + 24, 8), 0;
    print $f "\377" x 64;'
  expect_code 0 "$QIMG" info a.qcow2
  [[ $stderr == "qimg: warning: 'a.qcow2' is damaged: "*snapshot* ]]
  says "file format: qcow2" "name: one"
  expect_code 0 "$QIMG" info --output json b.qcow2
  [[ $stderr == "qimg: warning: the bitmaps of 'b.qcow2'"*damaged* ]]
  json '.qimg["bitmaps-problem"] | contains("damaged")'
  json '.snapshots | length == 1'
  expect_code 0 "$QIMG" map b.qcow2
}

@test "-f: the format is taken, not found" {
  mkimage a.qcow2 1M 1
  same_text -f raw a.qcow2
  same_text --format=qcow2 a.qcow2
  mkpattern b.raw 1M 2
  refuses 1 info -f qcow2 b.raw : "'b.raw'"
  refuses 1 info -f nothing b.raw : "unknown format 'nothing'"
}

@test "what makes an image part of a drive" {
  qimg create -q -f qcow2 vm.qcow2 1M
  ln -s vm.qcow2 vm
  expect_code 0 "$QIMG" info --output json vm.qcow2
  json '.qimg.record.state == "none" and .qimg.bitmaps == []'
  json '.qimg["bitmaps-problem"] == null'
  expect_code 0 "$QIMG" info vm.qcow2
  [[ $output != *"qimg:"* ]]

  qimg bitmap add -q --drive vm daily
  qimg bitmap add -q --node vm.qcow2 --disabled audit
  qimg snapshot create -q --drive vm first
  expect_code 0 "$QIMG" info vm
  says "qimg:" "    image id: " "    parent id: " "    drive id: " \
    "    frozen: false" "    shared: false" "    parent tag: first" \
    "        daily: on drive, enabled"
  expect_code 0 "$QIMG" info --backing-chain --output json vm
  json 'length == 2'
  json '.[0].qimg.record as $top | .[1].qimg.record as $below |
    $top.state == "valid" and $below.state == "valid" and
    $top["parent-id"] == $below["image-id"] and
    $top["drive-id"] == $below["drive-id"] and
    $top["parent-tag"] == "first" and
    ($top.frozen | not) and $below.frozen'
  json '.[1].qimg.bitmaps | map([.name, .attachment, .state, .anchor]) |
    sort == [["audit", "node", "disabled", null],
             ["daily", "drive", "enabled", true]]'
  json '.[0].qimg.bitmaps | map([.name, .attachment, .anchor]) ==
    [["daily", "drive", false]]'
}

@test "bitmaps that are lost or in use are told" {
  qimg create -q -f qcow2 a.qcow2 1M
  qemu-img bitmap --add a.qcow2 one
  hold_image a.qcow2
  expect_code 0 "$QIMG" info -U --output json a.qcow2
  json '.qimg.bitmaps[0].state == "in use"'
  json '."format-specific".data.bitmaps[0].flags == ["in-use", "auto"]'
  release_image
  # The autoclear bit: somebody who knows no bitmaps has written.
  printf '\0' | dd of=a.qcow2 bs=1 seek=95 conv=notrunc status=none
  expect_code 0 "$QIMG" info a.qcow2
  says "    bitmaps: "
  expect_code 0 "$QIMG" info --output json a.qcow2
  json '.qimg["bitmaps-problem"] | length > 10'
}

@test "an image in use can be asked, with and without -U" {
  mkimage a.qcow2 1M 1
  hold_image a.qcow2
  expect_code 0 "$QIMG" info --force-share a.qcow2
  expect_code 0 "$QIMG" info a.qcow2
  release_image
}

@test "what cannot be shown: code 1, one message, nothing changed" {
  mkbad
  refuses 1 info gone.qcow2 : "'gone.qcow2'" "No such file or directory"
  refuses 1 info folder : "'folder'"
  refuses 1 info fifo : "'fifo'"
  refuses 1 info --backing-chain a.qcow2 : "loop" "'a.qcow2'"
  refuses 1 info --backing-chain orphan.qcow2 : "'gone.qcow2'"
  expect_code 0 "$QIMG" info orphan.qcow2
  expect_code 0 "$QIMG" info a.qcow2
  : >empty
  expect_code 0 "$QIMG" info --output json empty
  json '.format == "raw" and .["virtual-size"] == 0'
  head -c 200 cut.qcow2 >stub.qcow2
  refuses 1 info stub.qcow2 : "'stub.qcow2'"
  QIMG_FAULT=read:1:EIO refuses 1 info cut.qcow2 : "Input/output error"
}
