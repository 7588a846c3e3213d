#!/usr/bin/env bats
# qcow2: encrypted images. What is known without the key is shown, what takes
# the key is refused before anything is written.

load ../helpers
load common

# The times that it takes to open LUKS are measured when it is made, which
# does not always work at the first try.
setup_file() {
  cd "$BATS_FILE_TMPDIR" || exit
  make_luks luks.qcow2 4M x
  qemu-img create -q -f qcow2 --object secret,id=s,data=x \
    -o encrypt.format=aes,encrypt.key-secret=s aes.qcow2 4M
}

setup() {
  cp "$BATS_FILE_TMPDIR"/*.qcow2 .
}

# with_key COMMAND... IMG: QEMU's tool with the image and its key.
with_key() {
  local image=${*: -1}
  "${@:1:$#-1}" --object secret,id=s,data=x --image-opts \
    "driver=qcow2,file.filename=$image,encrypt.key-secret=s"
}

@test "info: text and JSON are those of qemu-img" {
  local img
  for img in luks.qcow2 aes.qcow2; do
    diff <(qimg info $img) \
      <(qemu-img info $img | sed '/^Child node/,/^$/d; /detached header/d')
    diff <(qimg info --output json $img | jq -S 'del(.qimg)') \
      <(qemu-img info --output json $img |
        jq -S 'del(.. | .children?, ."detached-header"?)')
  done
  [ "$(qimg info --output json luks.qcow2 |
    jq '."format-specific".data.encrypt.slots | length')" = 8 ]
}

@test "info: a LUKS header that is gone or cut off" {
  local at
  at=$(extension luks.qcow2 0537be77)
  poke_be luks.qcow2 "$(be luks.qcow2 "$at" 8)" 4 0
  [ "$(qimg info --output json luks.qcow2 |
    jq -c '."format-specific".data.encrypt')" = '{"format":"luks"}' ]
  poke_be luks.qcow2 "$at" 8 $((1 << 50))
  expect_code 0 qimg info luks.qcow2
}

@test "check works, and so do bitmaps and internal snapshots" {
  local img
  for img in luks.qcow2 aes.qcow2; do
    with_key qemu-io -c 'write -P 1 100k 300k' $img >/dev/null
    expect_code 0 qimg check $img
    expect_code 0 qimg bitmap add --node $img b
    expect_code 0 qimg snapshot -c one $img
    with_key qemu-img check -q $img
    with_key qemu-io -c 'read -P 1 100k 300k' $img >read.log
    run ! grep -i fail read.log
    with_key qemu-io -c 'write -P 2 200k 64k' $img >/dev/null
    expect_code 0 qimg snapshot -a one $img
    with_key qemu-img check -q $img
    with_key qemu-io -c 'read -P 1 100k 300k' $img >read.log
    run ! grep -i fail read.log
    expect_code 0 qimg snapshot -d one $img
    with_key qemu-img check -q $img
  done
}

@test "data is refused, as the image, as a layer below, as a target" {
  local img args before
  for img in luks.qcow2 aes.qcow2; do
    qemu-img create -q -u -f qcow2 -b $img -F qcow2 top.qcow2 8M
    ln -sf top.qcow2 drive
    qimg create -q --force -f raw plain.raw 4M
    before=$(sha256sum ./*.qcow2 plain.raw)
    for args in "map $img" "map --output json top.qcow2" \
      "convert -O raw $img out" "convert -O qcow2 top.qcow2 out" \
      "backup --full --drive $img --to points" \
      "backup --full --dry-run --drive drive --to points" \
      "commit --drive drive" "commit --dry-run --drive drive"; do
      echo "$args"
      # shellcheck disable=SC2086 # it is several words
      one_line 1 $args
      [ -z "$output" ]
      [[ $stderr == *"the data of '$img' is encrypted"* ]]
      [ ! -e out ]
    done
    expect_code 4 qimg compare $img plain.raw
    [ "$(sha256sum ./*.qcow2 plain.raw)" = "$before" ]
    rm -f top.qcow2
  done
}
