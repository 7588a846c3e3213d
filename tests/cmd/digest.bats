#!/usr/bin/env bats
# qimg digest: equal for equal content, and that of a backup.

load ../helpers
load common

# digests IMAGE...: one a line, without the names.
digests() {
  qimg digest "$@" | sed 's/  .*//'
}

# all_equal IMAGE...: there is one digest.
all_equal() {
  local all
  all=$(digests "$@")
  echo "$all"
  [ "$(wc -l <<<"$all")" = $# ]
  [ "$(sort -u <<<"$all" | wc -l)" = 1 ]
}

@test "equal for equal content, whatever the format" {
  # No whole number of chunks.
  mkpattern a.raw 3333K 1
  qimg convert a.raw a.qcow2
  qemu-img convert -f raw -O qcow2 -c -o cluster_size=4k a.raw packed.qcow2
  # No holes, and zeroes where there are none.
  qemu-img convert -f raw -O raw -S 0 a.raw thick.raw
  qemu-img convert -f raw -O qcow2 -o extended_l2=on,cluster_size=128k \
    a.raw subclusters.qcow2
  all_equal a.raw a.qcow2 packed.qcow2 thick.raw subclusters.qcow2
  mkchain
  qemu-img convert -O raw top.qcow2 flat.raw
  all_equal top.qcow2 flat.raw
  [ "$(digests a.raw)" != "$(digests flat.raw)" ]
  # A name that is a link is that of what is there.
  ln -s top.qcow2 vm
  expect_code 0 qimg digest -m 1 vm a.raw
  [ "$(wc -l <<<"$output")" = 2 ]
  [[ ${output%%$'\n'*} =~ ^[0-9a-f]{32}"  vm"$ ]]
  [ "${output%% *}" = "$(digests flat.raw)" ]
}

@test "one bit, or the size, makes another one" {
  local at size all
  mkpattern a.raw 2M 1
  for at in 0 65535 65536 1000000 2097151; do
    cp a.raw "$at.raw"
    turn_byte "$at.raw" "$at"
  done
  for size in 2096640 2097664 3M 200M; do
    cp a.raw "$size.raw"
    truncate -s "$size" "$size.raw"
  done
  # All zero, too, and nothing at all.
  truncate -s 0 none.raw
  truncate -s 64K zero.raw
  truncate -s 65024 less.raw
  all=$(digests ./*.raw)
  [ "$(wc -l <<<"$all")" = 13 ]
  [ "$(sort -u <<<"$all" | wc -l)" = 13 ]
}

@test "it is the root hash of a backup, also of an increment" {
  mkimage vm.qcow2 4M 2
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg backup -q --full --drive vm.qcow2 --bitmap daily --to repo
  qimg snapshot create -q --drive vm.qcow2 s
  write vm.qcow2 'write -P 1 1M 100k' 'write -z 2M 64k'
  qimg backup -q --incremental -c --drive vm.qcow2 --bitmap daily --to repo
  run_qimg backup list --output json repo
  json --arg is "$(digests vm.qcow2)" '.points[-1]
    | .type == "incremental" and .drives[0]["root-hash"] == $is'
  all_equal repo/points/000002-*/vm.qcow2 vm.qcow2
}

@test "what is not there takes no time" {
  qimg create -q -f qcow2 huge.qcow2 1T
  truncate -s 1T huge.raw
  run_apart timeout 5 "$QIMG" digest huge.qcow2 huge.raw
  [ "$status" = 0 ]
  [ "$(cut -c -32 <<<"$output" | sort -u | wc -l)" = 1 ]
}

@test "JSON and progress" {
  truncate -s 1M a.raw
  truncate -s 3M b.raw
  expect_code 0 qimg digest --output json -p a.raw b.raw
  json '[.images[] | [.filename, .["virtual-size"], (.digest | length)]]
    == [["a.raw", 1048576, 32], ["b.raw", 3145728, 32]]'
  [[ $stderr == "digest: 100.0%  1.0 MiB of 1.0 MiB"* ]]
}

@test "what cannot be read" {
  local bad
  mkbad 4
  truncate -s 1M a.raw
  refuses 2 digest : 'an argument is missing'
  refuses 1 digest a.raw missing : "'missing'"
  refuses 1 digest orphan.qcow2 : 'gone.qcow2'
  refuses 1 digest -f qcow2 a.raw : "'a.raw'"
  for bad in folder fifo; do refuses 1 digest $bad : "'$bad'"; done
  refuses 6 digest a.qcow2 : loop
  refuses 4 digest cut.qcow2 : "'cut.qcow2'"
  hold_image a.raw
  refuses 5 digest a.raw : "'a.raw'"
  qimg digest -U a.raw
  release_image
  qimg digest --wait=1 a.raw
}
