#!/usr/bin/env bats
# qimg check: the counts, text, JSON and exit codes of qemu-img.

load ../helpers
load common

# refcount IMG CLUSTER VALUE: set one of the first refcount block, where
# qemu-img puts that.
refcount() {
  printf '%b' "\\x00\\x0$3" |
    dd of="$1" bs=1 seek=$((131072 + 2 * $2)) conv=notrunc status=none
}

# same_check CODE [OPTION...] IMG: stdout and exit code are qemu-img's.
same_check() {
  local code=$1 theirs
  shift
  run_apart qemu-img check "$@"
  theirs=$output
  [ "$status" = "$code" ]
  expect_code "$code" "$QIMG" check "$@"
  diff <(echo "$theirs") <(echo "$output")
}

@test "clean images: text and JSON are those of qemu-img" {
  mkimage a.qcow2 2M 1
  mkimage packed.qcow2 2M 1 -c
  mkchain
  qemu-img create -q -f qcow2 none.qcow2 1G
  qemu-img bitmap --add a.qcow2 one
  for f in a.qcow2 packed.qcow2 top.qcow2 none.qcow2; do
    same_check 0 "$f"
    expect_code 0 "$QIMG" check --output json "$f"
    diff <(jq -S . <<<"$output") \
      <(qemu-img check --output json "$f" | jq -S .)
  done
}

@test "leaks: exit code 3" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  write a.qcow2 'write -P 7 0 256k'
  truncate -s 2M a.qcow2
  refcount a.qcow2 20 1
  refcount a.qcow2 22 1
  same_check 3 a.qcow2
  [[ $stderr == *"Leaked cluster 20 refcount=1 reference=0"* ]]
  run_qimg check --output=json a.qcow2
  json '.leaks == 2 and .corruptions == null'
}

@test "corruption: exit code 2" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  write a.qcow2 'write -P 7 0 256k'
  refcount a.qcow2 5 0
  same_check 2 a.qcow2
  [[ $stderr == *"ERROR cluster 5 refcount=0 reference=1"* ]]
  expect_code 2 "$QIMG" check --output=json a.qcow2
  json '.corruptions == 2 and .["check-errors"] == 0'
  # Corruption counts more than leaks.
  truncate -s 2M a.qcow2
  refcount a.qcow2 20 1
  same_check 2 a.qcow2
}

@test "-q: no summary, findings are shown all the same" {
  qemu-img create -q -f qcow2 a.qcow2 1M
  expect_code 0 "$QIMG" check -q a.qcow2
  [ -z "$output$stderr" ]
  write a.qcow2 'write -P 7 0 256k'
  refcount a.qcow2 5 0
  expect_code 2 "$QIMG" check --quiet a.qcow2
  [ -z "$output" ]
  [[ $stderr == *"ERROR cluster 5"* ]]
}

@test "-f: the format is taken, not found; raw cannot be checked" {
  mkimage a.qcow2 1M 1
  same_check 0 -f qcow2 a.qcow2
  refuses 63 check -f raw a.qcow2 : "'a.qcow2'" "'raw'"
  mkpattern b.raw 1M 1
  refuses 63 check b.raw : "'b.raw'"
  refuses 1 check -f qcow2 b.raw : "'b.raw'"
}

@test "an image in use: refused with the holder's name; -U reads" {
  mkimage a.qcow2 1M 1
  hold_image a.qcow2
  refuses 1 check a.qcow2 : "'a.qcow2' is in use" "$HOLD_PID (qemu-io)"
  expect_code 0 "$QIMG" check -U a.qcow2
  release_image
}

@test "--wait waits for the image" {
  mkimage a.qcow2 1M 1
  hold_image a.qcow2
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 "$QIMG" check --wait=20 -q a.qcow2
  release_image
}

@test "only the image itself is looked at" {
  mkbad
  expect_code 0 "$QIMG" check -q a.qcow2
  expect_code 0 "$QIMG" check -q orphan.qcow2
}

@test "what cannot be checked: code 1, one message, nothing changed" {
  mkbad
  head -c 106 cut.qcow2 >stub.qcow2
  refuses 1 check gone.qcow2 : "'gone.qcow2'" "No such file or directory"
  refuses 1 check folder : "'folder'"
  refuses 1 check fifo : "'fifo'"
  refuses 1 check stub.qcow2 : "'stub.qcow2' is damaged" "truncated"
}

@test "an image that lost its end: counted like any damage" {
  mkbad
  same_check 2 cut.qcow2
  head -c 200 cut.qcow2 >head.qcow2
  same_check 2 head.qcow2
  expect_code 2 "$QIMG" check -r leaks --dry-run cut.qcow2
  [[ $stderr == *"exceeding the end of the file"* ]]
}

# mkwrong: a.qcow2 with two leaks, one corruption, and a wrong copied flag.
mkwrong() {
  qemu-img create -q -f qcow2 a.qcow2 1M
  write a.qcow2 'write -P 7 0 256k'
  truncate -s 2M a.qcow2
  refcount a.qcow2 20 1
  refcount a.qcow2 22 3
}

@test "-r: text, JSON and exit codes are those of qemu-img" {
  local how
  for how in leaks all; do
    mkwrong
    cp a.qcow2 theirs.qcow2
    run_apart qemu-img check -r $how theirs.qcow2
    echo "$output" >theirs
    expect_code 0 "$QIMG" check -r $how a.qcow2
    diff theirs <(echo "$output")
    [[ $stderr == *"Repairing cluster 22 refcount=3 reference=0"* ]]
    qemu-img check -q a.qcow2
    mkwrong
    expect_code 0 "$QIMG" check --repair=$how --output=json a.qcow2
    json '.["leaks-fixed"] == 2 and .leaks == null'
  done
  mkwrong
  refcount a.qcow2 5 0
  cp a.qcow2 b.qcow2
  run_apart qemu-img check -r leaks b.qcow2
  [ "$status" = 1 ]
  expect_code 1 "$QIMG" check -r leaks a.qcow2
  [[ $stderr == *"'qimg check -r all a.qcow2' repairs"* ]]
  expect_code 0 "$QIMG" check -r all --output=json a.qcow2
  json '.["leaks-fixed"] == 2 and .["corruptions-fixed"] == 1'
  qemu-img check -q a.qcow2
  expect_code 0 "$QIMG" check -q -r all a.qcow2
  [ -z "$output$stderr" ]
}

@test "-r --dry-run: what is wrong is said, nothing is changed" {
  mkwrong
  cp a.qcow2 before.qcow2
  expect_code 3 "$QIMG" check -r all -n a.qcow2
  [[ $output == *"2 leaked clusters were found"* ]]
  cmp a.qcow2 before.qcow2
}

@test "-r wants the image for itself" {
  mkwrong
  refuses 1 check -r all -U a.qcow2 : "--force-share"
  refuses 1 check -r some a.qcow2 : "some"
  hold_image a.qcow2
  expect_code 1 "$QIMG" check -r all a.qcow2
  [[ $stderr == *"'a.qcow2' is in use"* ]]
  release_image
}

@test "encrypted images: their header counts, the data is not needed" {
  local secret=secret,id=s,data=abc f how
  make_luks luks.qcow2 4M abc
  qemu-img create -q -f qcow2 --object $secret aes.qcow2 -o \
    encrypt.format=aes,encrypt.key-secret=s 4M
  for f in luks aes; do
    how=driver=qcow2,encrypt.key-secret=s,file.filename=$f.qcow2
    qemu-io --object $secret --image-opts "$how" -c 'write -P 1 0 300k'
    expect_code 0 "$QIMG" check $f.qcow2
    diff <(echo "$output") \
      <(qemu-img check --object $secret --image-opts "$how")
    refcount $f.qcow2 5 0
    expect_code 0 "$QIMG" check -q -r all $f.qcow2
    qemu-img check -q --object $secret --image-opts "$how"
    qemu-io --object $secret --image-opts "$how" -c 'read -P 1 0 300k' |
      grep -q 'read 307200'
  done
}
