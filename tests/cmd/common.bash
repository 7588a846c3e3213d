# Common to tests/cmd, loaded after helpers: what an error looks like, what a
# command leaves behind, and images to try it on.
# shellcheck shell=bash

# json FILTER...: jq finds that this is true of $output, one JSON document.
json() {
  jq -es 'length == 1' >/dev/null <<<"$output" || {
    printf 'not one JSON document:\n%s\n' "$output"
    return 1
  }
  jq -e "$@" >/dev/null <<<"$output" || {
    printf 'not true: %s\nof: %s\n' "$*" "$output"
    return 1
  }
}

# says TEXT...: stdout of the last command has each of these.
says() {
  local text
  for text; do
    [[ $output == *"$text"* ]] || {
      printf 'not in stdout: %s\n--- stdout:\n%s\n' "$text" "$output"
      return 1
    }
  done
}

# complains TEXT...: the last command printed one line on stderr, in the form
# of the house, that has each of these; nothing on stdout.
complains() {
  local text
  [[ $stderr != *$'\n'* && $stderr =~ ^"qimg: "[^A-Z] ]] || {
    printf 'not one line of a message:\n%s\n' "$stderr"
    return 1
  }
  for text; do
    [[ $stderr == *"$text"* ]] || {
      printf 'not in stderr: %s\n--- stderr:\n%s\n' "$text" "$stderr"
      return 1
    }
  done
  [ -z "$output" ] || {
    printf 'stdout of a failure:\n%s\n' "$output"
    return 1
  }
}

# state [FOLDER]: all files below it, hidden ones too, with their content.
state() {
  find "${1-.}" -mindepth 1 ! -name 'hold.*' -printf '%p %y %l\n' \
    -type f -exec sha256sum {} + | sort
}

# reseal MANIFEST: it was changed, and is to be taken for what was written.
reseal() {
  local body end=$',\n  "checksum": "'
  slurp body "$1"
  body=${body%"$end"*}
  printf '%s%s%s"\n}\n' "$body" "$end" \
    "$(printf %s "$body" | xxh128sum | cut -c1-32)" >"$1"
}

# refuses CODE ARG... [: TEXT...]: qimg fails with CODE and a message that
# has the texts, and no file has changed, come or gone.
refuses() {
  local code=$1 before args=() after
  shift
  while [ $# -gt 0 ] && [ "$1" != : ]; do
    args+=("$1")
    shift
  done
  shift $(($# > 0))
  before=$(state)
  expect_code "$code" "$QIMG" "${args[@]}"
  complains "$@"
  after=$(state)
  [ "$before" = "$after" ] || {
    echo "files changed by: ${args[*]}"
    diff <(echo "$before") <(echo "$after")
    return 1
  }
}

# hidden_files: none was left.
no_hidden_files() {
  local found
  found=$(find . -name '.*' ! -name .)
  [ -z "$found" ] || {
    printf 'left behind: %s\n' "$found"
    return 1
  }
}

# small_disk SIZE: ./small is a file system of this size. Without the right to
# mount one the test is skipped; unmount_small belongs into teardown.
small_disk() {
  mkdir small
  mount -t tmpfs -o "size=$1" none small 2>/dev/null ||
    skip "only root can mount a small file system"
}

# sharing_disk TYPE: the same of a type, xfs or btrfs, whose files can share
# blocks. It lives in memory.
sharing_disk() {
  small_disk 400M
  truncate -s 320M small/disk
  if ! "mkfs.$1" -q small/disk >/dev/null 2>&1 ||
    ! mount -o loop small/disk small 2>/dev/null; then
    skip "no file system of type $1 can be made and mounted"
  fi
}

unmount_small() {
  while mountpoint -q "$BATS_TEST_TMPDIR/small" 2>/dev/null; do
    umount "$BATS_TEST_TMPDIR/small" || return
  done
}

# turn_byte FILE AT...: one bit of each, so another byte whatever it was.
turn_byte() {
  perl -e 'open my $f, "+<:raw", shift or die;
    for my $at (@ARGV) {
      seek $f, $at, 0; read $f, my $c, 1;
      seek $f, $at, 0; print $f chr(ord($c) ^ 1);
    }' "$@"
}

# mkimage FILE SIZE SEED [OPTION...]: a qcow2 image with the pattern in it.
mkimage() {
  mkpattern "$1.raw" "$2" "$3"
  qemu-img convert -f raw -O qcow2 "${@:4}" "$1.raw" "$1"
  rm "$1.raw"
}

# mkchain: base.qcow2 < mid.qcow2 < top.qcow2, 2 MiB, with data in each.
mkchain() {
  mkimage base.qcow2 2M 1
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2
  qemu-io -f qcow2 -c 'write -P 2 64k 192k' mid.qcow2 >/dev/null
  qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2
  qemu-io -f qcow2 -c 'write -P 3 128k 64k' -c 'write -z 512k 128k' \
    top.qcow2 >/dev/null
}

# mkloop: a.qcow2 and b.qcow2 are each other's backing files.
mkloop() {
  qemu-img create -q -f qcow2 -u -b b.qcow2 -F qcow2 a.qcow2 1M
  qemu-img create -q -f qcow2 -u -b a.qcow2 -F qcow2 b.qcow2 1M
}

# write IMG COMMAND...: have qemu-io write to a qcow2 image.
write() {
  local args=() image=$1
  shift
  for command; do args+=(-c "$command"); done
  qemu-io -f qcow2 "${args[@]}" "$image" >/dev/null
}

# mkbad: files that every reader has to refuse by exit code $1, with what the
# caller gives before each and after: cut.qcow2 lost its end.
mkbad() {
  mkimage cut.qcow2 1M 5
  truncate -s 100000 cut.qcow2
  mkloop
  qemu-img create -q -f qcow2 -u -b gone.qcow2 -F qcow2 orphan.qcow2 1M
  mkdir folder
  mkfifo fifo
}

# hold_daemon IMG: as hold_image, by a qemu-storage-daemon; release_daemon.
# It ends with the test, also with one that fails.
hold_daemon() {
  local n
  rm -f hold.pid
  setpriv --pdeathsig KILL \
    qemu-storage-daemon --blockdev "file,node-name=f,filename=$1" \
    --blockdev qcow2,node-name=q,file=f --pidfile hold.pid >hold.log 2>&1 3>&- &
  HOLD_PID=$!
  for ((n = 0; n < 500; n++)); do
    # It is made when all is open.
    if [ -e hold.pid ]; then return 0; fi
    kill -0 "$HOLD_PID" 2>/dev/null || break
    sleep 0.02
  done
  echo "hold_daemon: qemu-storage-daemon does not hold $1:"
  cat hold.log
  return 1
}

release_daemon() {
  kill "$HOLD_PID"
  wait "$HOLD_PID" || true
}
