#!/usr/bin/env bats
# Images by names that say more than where the file is; see lib/name.h.

load ../helpers
load ../formats/common

part='json:{"driver":"raw","offset":OFF,"size":LEN,"file":{"driver":"file","filename":"a.raw"}}'

# part_of OFF LEN: the name of that part of a.raw.
part_of() {
  local name=${part/OFF/$1}
  echo "${name/LEN/$2}"
}

@test "a part of a raw file: read, map, write" {
  local at name
  mkpattern a.raw 2M 31
  # Not qemu-img's, which reads wrong bytes where it starts inside a sector.
  for at in "1000 1048576" "524288 65536" "0 512" "2097152 0"; do
    # shellcheck disable=SC2086 # they are two words
    name=$(part_of $at)
    qimg convert --force -q -O raw "$name" ours
    cmp ours <(tail -c +$((${at% *} + 1)) a.raw | head -c "${at#* }")
    [ "$(qimg info --output json "$name" | jq -cS '.filename, ."virtual-size"')" = \
      "$(qemu-img info --output json "$name" |
        jq -cS '.filename, ."virtual-size"')" ]
  done
  sync a.raw
  name=$(part_of 4096 1000448)
  diff <(qemu-img map --output json "$name" | jq -c '.[] | del(.compressed)') \
    <(qimg map --output json "$name" | jq -c '.[]')
  # What is around it stays.
  cp a.raw b.raw
  head -c 1M /dev/urandom >new
  qemu-img create -q -f qcow2 -F raw -b "json:{\"driver\":\"raw\",\"offset\":524288,\"size\":1048576,\"file.filename\":\"$PWD/b.raw\"}" over.qcow2
  qemu-io -f qcow2 -c 'write -s new 0 1M' over.qcow2 >/dev/null
  qimg commit -q over.qcow2
  dd if=new of=a.raw bs=512K seek=1 conv=notrunc status=none
  cmp a.raw b.raw
}

@test "a part that is not in the file" {
  truncate -s 1M a.raw
  one_line 1 info "$(part_of 2097152 0)"
  [[ $stderr == *"no disk can start at 2097152 in it" ]]
  one_line 1 info "$(part_of 512 1048576)"
  one_line 1 info "$(part_of 0 1000)"
  one_line 1 info "$(part_of -1 512)"
  one_line 1 info 'json:{"driver":"qcow2","offset":1,"file.filename":"a.raw"}'
  one_line 1 resize "$(part_of 0 512)" 1M
  [ "$(stat -c %s a.raw)" = 1048576 ]
  qimg resize -q 'json:{"driver":"raw","offset":512,"file.filename":"a.raw"}' 2M
  [ "$(stat -c %s a.raw)" = 2097664 ]
}

@test "another backing file than the one that is recorded, or none" {
  mkpattern a.raw 1M 32
  truncate -s 1M b.raw
  qimg create -q -f qcow2 -b b.raw -F raw top.qcow2
  qimg convert -q -O raw 'json:{"driver":"qcow2","file.filename":"top.qcow2",
    "backing":{"driver":"raw","file":{"driver":"file","filename":"a.raw"}}}' out
  cmp a.raw out
  # One that is missing does not matter then.
  rm b.raw
  qimg convert --force -q -O raw "json:{'driver':'qcow2','backing':null,
    'file.filename':'top.qcow2'}" out
  cmp -n 1048576 out /dev/zero
  one_line 1 convert --force -q -O raw 'json:{"driver":"qcow2",
    "file.filename":"top.qcow2","backing":"a.raw"}' out
  one_line 1 info 'json:{"driver":"qcow2","file.filename":"top.qcow2",
    "backing.file.filename":"a.raw"}'
}

@test "null: zeroes that nobody stores" {
  qimg convert -q -O raw 'json:{"driver":"null-co","size":"1M"}' out
  cmp -n 1048576 out /dev/zero
  [ "$(stat -c %s out)" = 1048576 ]
  [ "$(qimg info --output json null-co:// |
    jq -cS '[.filename, ."virtual-size", .format]')" = \
    '["null-co://",1073741824,"raw"]' ]
  qimg create -q -f qcow2 -F raw -b 'json:{"driver":"raw","file":{"driver":"null-co","size":1048576}}' \
    top.qcow2
  qemu-io -c 'write -P 1 0 64k' top.qcow2 >/dev/null
  qimg commit -q top.qcow2
  expect_code 1 qimg resize null-co:// 2M
}

@test "what the user forbids is not written" {
  qimg create -q -f qcow2 a.qcow2 1M
  one_line 1 resize 'json:{"file.filename":"a.qcow2","read-only":true}' 2M
  one_line 1 resize 'json:{"file":{"filename":"a.qcow2","read-only":"on"}}' 2M
  one_line 1 resize 'json:{"file.filename":"a.qcow2","force-share":true}' 2M
  hold_image a.qcow2
  one_line 1 map 'json:{"file.filename":"a.qcow2"}'
  qimg map 'json:{"file.filename":"a.qcow2","file.locking":"off"}' >/dev/null
  release_image
}

# serve FILE [OPTION...]: a server of it, as export x, at ./socket.
serve() {
  qemu-nbd --fork --persistent -f raw -x x -k "$PWD/socket" \
    --pid-file="$PWD/pid" "${@:2}" "$1"
}

# Ends the server, also when the test fails.
teardown() {
  if [ -s pid ]; then kill "$(cat pid)"; fi
}

@test "a disk that an NBD server has" {
  local uri
  mkpattern a.raw 3M 33
  cp a.raw b.raw
  serve a.raw
  uri="nbd+unix:///x?socket=$PWD/socket"
  if [[ $(qimg info "$uri" 2>&1) == *"built without libnbd" ]]; then
    skip "built without libnbd"
  fi
  qimg convert -q -f raw -O raw "$uri" out
  cmp a.raw out
  [ "$(qimg info --output json "$uri" | jq -S 'del(.qimg, ."dirty-flag")')" = \
    "$(qemu-img info --output json "$uri" | jq -S 'del(."dirty-flag")')" ]
  diff <(qemu-img map -f raw --output json "$uri" | jq -c '.[]') \
    <(qimg map -f raw --output json "$uri" | jq -c '.[]')
  qimg compare -q -f raw -F raw b.raw "nbd:unix:$PWD/socket:exportname=x"
  qimg convert --force -q -O raw "json:{'driver':'raw','offset':4096,
    'size':8192,'file':{'driver':'nbd','export':'x',
    'server':{'type':'unix','path':'$PWD/socket'}}}" out
  cmp out <(tail -c +4097 a.raw | head -c 8192)
  # Written to, as the base of an image.
  qemu-img create -q -f qcow2 -F raw -b "$uri" top.qcow2 3M
  qemu-io -c 'write -P 9 100k 1M' -c 'write -z 2M 64k' top.qcow2 >/dev/null
  qimg commit -q top.qcow2
  qemu-io -f raw -c 'write -P 9 100k 1M' -c 'write -z 2M 64k' b.raw >/dev/null
  cmp a.raw b.raw
  one_line 1 info "nbd+unix:///y?socket=$PWD/socket"
  one_line 1 info "nbd:unix:$PWD/none"
  [[ $stderr == *"No such file or directory"* ]]
}

@test "an NBD server that allows no writing" {
  truncate -s 1M a.raw
  serve a.raw -r
  local uri="nbd+unix:///x?socket=$PWD/socket"
  if [[ $(qimg info "$uri" 2>&1) == *"built without libnbd" ]]; then
    skip "built without libnbd"
  fi
  qemu-img create -q -f qcow2 -F raw -b "$uri" top.qcow2 1M
  qemu-io -c 'write -P 9 0 64k' top.qcow2 >/dev/null
  expect_code 1 qimg commit top.qcow2
  [[ $stderr == *"its server does not allow it"* ]]
}
