#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has its own $status
# Calls that fail: a full disk at any write, a sync that fails. One line, the
# right exit code, nothing lost, and nothing is believed before it is durable.

load ../helpers

# A drive link d of two layers with bitmap b, and a backup of it in repo.
setup() {
  mkdir drive
  cd drive || return
  qemu-img create -q -f qcow2 base.qcow2 4M
  qemu-io -c 'write -P 1 0 1M' base.qcow2
  ln -s base.qcow2 d
  qimg bitmap add -q --drive d b
  qimg backup -q --full --drive d --bitmap b --to repo
  qemu-io -c 'write -P 2 1M 64k' d
  qimg snapshot create -q --drive d --overlay top.qcow2 one
  qemu-io -c 'write -P 3 3M 128k' -c 'write -z 0 64k' d
  qemu-img convert -O raw d ../want.raw
  dirty >../want.dirty
  cd ..
}

dirty() {
  qimg bitmap show --drive d b --output json | jq -c .extents
}

# full_disk CODE ARG...: each write in turn finds no space. Past the switch it
# is done, with a warning of what is not.
full_disk() {
  local want=$1 n
  shift
  for ((n = 1; n < 200; n++)); do
    rm -rf try
    cp -a drive try
    cd try || return
    QIMG_FAULT=write:$n:ENOSPC run_qimg "$@"
    if [ "$status" = 0 ]; then
      cd .. && break
    fi
    printf 'write %s: code %s: %s\n' "$n" "$status" "$stderr"
    [ "$status" = "$want" ] ||
      [[ $status == 3 && $stderr == *warning:*', but '* ]]
    [ "$(wc -l <<<"$stderr")" = 1 ]
    [[ $stderr == qimg:*'No space'* ]]
    qemu-img compare -q -F raw d ../want.raw
    diff <(dirty) ../want.dirty
    # Nothing half made is left, in the open or hidden.
    [ -z "$(find . -name '.?*')" ]
    [ ! -e out ]
    "$QIMG" "$@"
    qemu-img check -q base.qcow2 || [ $? = 3 ]
    cd ..
  done
  [ "$n" -gt 1 ]
  [ "$n" -lt 200 ]
}

@test "no space: bitmaps" {
  full_disk 7 bitmap add -q --drive d c
  full_disk 7 bitmap clear -q --drive d b
  full_disk 7 bitmap disable -q --drive d b
  full_disk 7 bitmap remove -q --drive d b
  full_disk 7 bitmap add -q --node base.qcow2 n
}

@test "no space: snapshot, commit" {
  full_disk 7 snapshot create -q --drive d two
  full_disk 7 commit -q --drive d
}

@test "no space: backup, restore" {
  full_disk 7 backup -q --incremental --drive d --bitmap b --to repo
  full_disk 7 backup -q --full --drive d --to new
  full_disk 7 restore -q --from repo out
}

@test "no space: create, convert" {
  full_disk 1 create -q -f qcow2 out 1M
  full_disk 1 convert -q -O qcow2 d out
  full_disk 1 convert -q -c -O qcow2 d out
  full_disk 1 convert -q -O raw d out
}

# A header that says what is not on the disk yet would be wrong after a power
# cut: what fails before the first sync must not be in the header.
@test "a bitmap's bits are durable before the header says so" {
  local verb
  cd drive || return
  for verb in add clear disable remove; do
    cp top.qcow2 before.qcow2
    QIMG_FAULT=sync:1:EIO expect_code 1 qimg bitmap $verb --drive d \
      "$([ $verb = add ] && echo c || echo b)"
    cmp -n 4096 top.qcow2 before.qcow2
    rm before.qcow2
  done
}

@test "a new image is durable before it has its name" {
  cd drive || return
  QIMG_FAULT=sync:1:EIO expect_code 1 qimg convert -O qcow2 d out
  [ ! -e out ]
  QIMG_FAULT=sync:1:EIO expect_code 1 qimg create -f qcow2 out 1M
  [ ! -e out ]
}

# Whichever sync fails, the drive is one of the two, and whole.
@test "a sync that fails: snapshot, commit, backup" {
  local n command
  for command in 'snapshot create --drive d two' 'commit --drive d' \
    'backup --incremental --drive d --bitmap b --to repo'; do
    for ((n = 1; n < 60; n++)); do
      rm -rf try
      cp -a drive try
      cd try || return
      # shellcheck disable=SC2086 # it is several words
      QIMG_FAULT=sync:$n:EIO run_qimg $command
      if ! fault_fired; then
        cd .. && break
      fi
      printf '%s, sync %s: code %s: %s\n' "$command" "$n" "$status" "$stderr"
      # What fails after the change is made is a warning.
      [ "$status" = 1 ] || { [ "$status" = 3 ] && [[ $stderr == *warning* ]]; }
      [ "$(wc -l <<<"$stderr")" = 1 ]
      qemu-img compare -q -F raw d ../want.raw
      [[ $command == backup* ]] || diff <(dirty) ../want.dirty
      cd ..
    done
    [ "$n" -gt 3 ]
    [ "$n" -lt 60 ]
  done
}
