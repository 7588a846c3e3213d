#!/usr/bin/env bats
# What is left when a command is killed at each of its calls that change
# something, or when that call fails: content old or new, at most leaks, a
# dirty set that is a superset; and the same command again finishes.

load ../helpers

# make_drive link|plain: a drive of two layers, changed in both since the start
# of its bitmap; want.raw is its content, want.dirty its dirty set.
make_drive() {
  mkdir drive
  cd drive || return
  qemu-img create -q -f qcow2 base.qcow2 8M
  qemu-io -c 'write -P 1 0 2M' base.qcow2
  if [ "$1" = link ]; then ln -s base.qcow2 d; else mv base.qcow2 d; fi
  qimg bitmap add -q --drive d b
  qemu-io -c 'write -P 2 1M 64k' d
  qimg snapshot create -q --drive d one
  qemu-io -c 'write -P 3 3M 128k' -c 'write -z 0 64k' d
  qemu-img convert -O raw d ../want.raw
  dirty >../want.dirty
  cd ..
}

dirty() {
  qimg bitmap show --drive d b --output json |
    jq -c '[.extents[] | [.offset // .start, .length]]'
}

# Nothing that matters is lost. $1: what is being tried, for the message.
intact() {
  local f code
  qemu-img compare -q -F raw d ../want.raw || {
    echo "$1: content"
    return 1
  }
  for f in d *.qcow2; do
    [ -e "$f" ] || continue
    code=0
    qemu-img check -q "$f" || code=$?
    [ $code = 0 ] || [ $code = 3 ] || {
      echo "$1: check of $f: $code"
      return 1
    }
  done
}

# each_call KIND COMMAND...: in the folder of the drive.
each_call() {
  make_drive "$1"
  command=("$QIMG" "${@:2}")
  each_fault "${command[@]}"
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  intact "$1"
  [ "$status" != 0 ] || return 0
  after_fault "$1"
  "${command[@]}" >/dev/null 2>../err || finished "$1"
  seen again || intact "$1, again"
  # No unfinished file stays behind.
  [ -z "$(find . -name '.*qimg*')" ]
}

# shellcheck disable=SC2317 # look runs them
# By default the dirty set stays as it is, and the rerun succeeds.
after_fault() {
  diff <(dirty) ../want.dirty
}

# shellcheck disable=SC2317
finished() {
  echo "$1: cannot be run again: $(<../err)"
  return 1
}

@test "bitmap clear" {
  # shellcheck disable=SC2317 # look runs it
  after_fault() { dirty; }
  each_call link bitmap clear -q --drive d b
}

@test "bitmap add and remove" {
  # shellcheck disable=SC2317 # look runs it
  finished() { grep -q "has a bitmap 'other' already" ../err; }
  each_call link bitmap add -q --drive d other
  # shellcheck disable=SC2317
  finished() { grep -q "no bitmap 'b'" ../err; }
  # shellcheck disable=SC2317
  after_fault() { :; }
  rm -rf drive
  each_call plain bitmap remove -q --drive d b
}

@test "snapshot create, drive link" {
  each_call link snapshot create -q --drive d two
}

@test "snapshot create, plain file" {
  each_call plain snapshot create -q --drive d two
}

# A run that was ended after its last change has nothing left to commit.
@test "commit, drive link" {
  # shellcheck disable=SC2317 # look runs it
  finished() { grep -q 'has no backing file' ../err; }
  each_call link commit -q --drive d
}

@test "commit, plain file" {
  # shellcheck disable=SC2317 # look runs it
  finished() { grep -q 'has no backing file' ../err; }
  each_call plain commit -q --drive d
}

# The dirty set is that of before, or it is empty and the point is there.
@test "backup, full and incremental" {
  # shellcheck disable=SC2317 # each_fault runs it
  look() {
    local id
    [ "$status" != 0 ] || return 0
    intact "$1"
    if [ "$(points | wc -l)" = 1 ]; then
      diff <(dirty) ../want.dirty
    fi
    "${command[@]}"
    qimg backup verify -q --read-data repo
    for id in $(points | tail -n +2); do
      qemu-img compare -q -F raw "repo/points/$id/d.qcow2" ../want.raw
    done
    [ -z "$(find . -name '.*partial*')" ]
  }
  # shellcheck disable=SC2317 # look runs it
  points() {
    qimg backup list --output json repo | jq -r '.points[].id'
  }
  make_drive link
  (cd drive && qimg backup -q --full --drive d --bitmap b --to repo)
  qemu-io -c 'write -P 4 5M 100k' drive/d
  qemu-img convert -O raw drive/d want.raw
  (cd drive && dirty >../want.dirty)
  command=("$QIMG" backup -q --incremental --drive d --bitmap b --to repo)
  faults="change:kill change:kill-after" least=20 each_fault "${command[@]}"
}

@test "create and convert leave all or nothing under the name" {
  local n code action
  head -c 300k /dev/urandom >in.raw
  truncate -s 2M in.raw
  for action in kill EIO ENOSPC; do
    for ((n = 1; n < 100; n++)); do
      code=0
      QIMG_FAULT=change:$n:$action "$QIMG" convert -f raw -O qcow2 in.raw \
        out.qcow2 2>err || code=$?
      [ $code != 0 ] || break
      # The last sync is of the folder: the file is complete by then.
      if [ -e out.qcow2 ]; then
        qemu-img compare -q -f raw -F qcow2 in.raw out.qcow2
        rm out.qcow2
      fi
      [ $action = kill ] || [ "$(wc -l <err)" = 1 ]
    done
    [ "$n" -gt 5 ]
    oracle_check out.qcow2
    [ -z "$(find . -name '.*qimg*')" ]
    rm out.qcow2
  done
}
