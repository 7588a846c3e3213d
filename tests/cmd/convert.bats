#!/usr/bin/env bats
# qimg convert: copies that qemu-img finds good and equal.

load ../helpers
load common

teardown() {
  unmount_small
}

@test "between formats, chains and ways of storing" {
  mkpattern a.raw 3M 1
  mkchain
  local o n=0
  while read -r o; do
    n=$((n + 1))
    for source in a.raw top.qcow2; do
      # shellcheck disable=SC2086
      expect_code 0 "$QIMG" convert -O qcow2 $o $source "$n.qcow2"
      [ -z "$output$stderr" ]
      oracle_check "$n.qcow2"
      oracle_equal $source "$n.qcow2"
      rm "$n.qcow2"
    done
  done <<'END'

-c
--compress -o compression_type=zstd
-o cluster_size=4k
-c -o cluster_size=2M
-o compat=0.10
-m 1
--parallel=8 -c
END
  expect_code 0 "$QIMG" convert top.qcow2 flat.raw
  oracle_equal top.qcow2 flat.raw
  expect_code 0 "$QIMG" convert -f raw -O raw a.raw b.raw
  cmp a.raw b.raw
  # Zeroes become holes.
  [ "$(stat -c %b b.raw)" -le "$(stat -c %b a.raw)" ]
}

@test "compression makes it smaller, and the options are kept" {
  mkpattern a.raw 3M 1
  qimg convert -O qcow2 a.raw plain.qcow2
  qimg convert -O qcow2 -c -o compression_type=zstd,cluster_size=128k \
    a.raw packed.qcow2
  [ "$(stat -c %s packed.qcow2)" -lt "$(stat -c %s plain.qcow2)" ]
  qemu-img info --output json packed.qcow2 | jq -e \
    '."cluster-size" == 131072 and
     ."format-specific".data."compression-type" == "zstd"'
  qemu-img check --output json packed.qcow2 | jq -e '."compressed-clusters" > 0'
}

@test "levels of compression: ours is no larger than QEMU's, and can be chosen" {
  local type level size cluster=8192
  # Text, which gets much smaller with each level.
  find "$QIMG_SRC"/{lib,formats,cmd,man} -type f -exec cat {} + >text.raw
  truncate -s %64k text.raw
  for type in zlib zstd; do
    for size in 65536 $cluster; do
      qemu-img convert -c -O qcow2 \
        -o compression_type=$type,cluster_size="$size" text.raw stock.qcow2
      qimg convert --force -c -O qcow2 \
        -o compression_type=$type,cluster_size="$size" text.raw usual.qcow2
      # But for the end of the last cluster.
      [ "$(stat -c %s usual.qcow2)" -lt \
        $(($(stat -c %s stock.qcow2) + size)) ]
    done
    for level in 1 9; do
      qimg convert --force -c -O qcow2 \
        -o compression_type=$type,cluster_size=$cluster \
        -o compression_level=$level text.raw $level.qcow2
      oracle_equal text.raw $level.qcow2
    done
    [ "$(stat -c %s 9.qcow2)" -le "$(stat -c %s usual.qcow2)" ]
    [ "$(stat -c %s 9.qcow2)" -lt "$(stat -c %s 1.qcow2)" ]
    [ "$(stat -c %s usual.qcow2)" -le "$(stat -c %s 1.qcow2)" ]
  done
  refuses 1 convert -c -O qcow2 -o compression_level=0 text.raw no.qcow2 : \
    "must be from 1 to 12 with zlib"
  refuses 1 convert -c -O qcow2 \
    -o compression_type=zstd,compression_level=23 text.raw no.qcow2 : \
    "must be from 1 to 22 with zstd"
  # It is not an option of the drop-in, nor in its help.
  ln -s "$QIMG" qemu-img
  expect_code 1 ./qemu-img create -f qcow2 -o compression_level=1 no.qcow2 1M
  [[ $stderr == *"Invalid parameter 'compression_level'"* ]]
  [[ $(./qemu-img create -f qcow2 -o help) != *compression_level* ]]
  [[ $(qimg create -f qcow2 -o help) == *compression_level* ]]
}

@test "odd sizes, an empty disk, nothing but zeroes" {
  local n
  for n in 0 512 65536 66048 1000448; do
    truncate -s "$n" a.raw
    qimg convert -O qcow2 a.raw a.qcow2
    oracle_check a.qcow2
    oracle_equal a.raw a.qcow2
    rm a.qcow2
  done
  truncate -s 1G a.raw
  qimg convert -O qcow2 a.raw a.qcow2
  [ "$(stat -c %s a.qcow2)" -lt 400000 ]
}

@test "-f: the format is taken, not found" {
  mkimage a.qcow2 1M 1
  qimg convert -f raw a.qcow2 copy
  cmp a.qcow2 copy
  mkpattern b.raw 1M 1
  refuses 1 convert -f qcow2 b.raw c : "'b.raw'"
  refuses 1 convert -f nothing b.raw c : "unknown format 'nothing'"
  refuses 1 convert -O nothing b.raw c : "unknown format 'nothing'"
  refuses 1 convert -O qcow2 -o foo=1 b.raw c : "unknown option 'foo'"
  expect_code 0 "$QIMG" convert -O qcow2 -o help
  says "cluster_size=<size>"
  refuses 1 convert -c b.raw c.raw : "compress"
}

@test "arguments: exactly two" {
  refuses 1 convert : "source and a target"
  refuses 1 convert a : "source and a target"
  refuses 1 convert a b c : "unexpected argument 'c'"
}

@test "--output json: what was copied; --dry-run: nothing is" {
  qemu-img create -q -f qcow2 a.qcow2 2M
  write a.qcow2 'write -P 5 0 256k' 'write -P 6 1M 64k'
  expect_code 0 "$QIMG" convert --dry-run -O qcow2 a.qcow2 b.qcow2
  [ "$output" = "would convert 'a.qcow2' to 'b.qcow2': qcow2, 2 MiB" ]
  [ ! -e b.qcow2 ]
  expect_code 0 "$QIMG" convert --dry-run --output json a.qcow2 b.qcow2
  json '.["dry-run"] and .written == 0'
  [ ! -e b.qcow2 ]
  expect_code 0 "$QIMG" convert --output json -O qcow2 a.qcow2 b.qcow2
  json '.qimg and .filename == "b.qcow2" and .format == "qcow2" and
    .["dry-run"] == false and .written == 327680 and .read >= .written'
  refuses 1 convert --dry-run a.qcow2 b.qcow2 : "exists already"
  refuses 1 convert --dry-run a.qcow2 no/b.raw : "'no/b.raw'"
}

@test "progress: plain, JSON, by signal, never with -q" {
  mkpattern a.raw 2M 1
  expect_code 0 "$QIMG" convert -p a.raw b.raw
  [ -z "$output" ]
  [[ $stderr =~ "convert: 100.0%  2 MiB of 2 MiB"|"2.0 MiB of 2.0 MiB" ]]
  expect_code 0 "$QIMG" convert --progress=json --force a.raw b.raw
  tail -1 <<<"$stderr" | jq -e '.qimg and (.progress | .operation == "convert"
    and .done == .total and .percent == 100)'
  expect_code 0 "$QIMG" convert -pq --force a.raw b.raw
  [ -z "$output$stderr" ]
  expect_code 0 "$QIMG" convert --quiet --progress --force a.raw b.raw
  [ -z "$output$stderr" ]
}

@test "an existing target is kept without --force" {
  mkpattern a.raw 1M 1
  mkimage b.qcow2 1M 2
  refuses 1 convert -O qcow2 a.raw b.qcow2 : "'b.qcow2' exists already" --force
  expect_code 0 "$QIMG" convert --force -O qcow2 a.raw b.qcow2
  oracle_equal a.raw b.qcow2
  # Onto itself: replaced when it is complete, or refused; never lost.
  cp a.raw keep.raw
  run_qimg convert --force a.raw a.raw
  cmp a.raw keep.raw
  no_hidden_files
}

@test "a source in use: refused with the holder's name; -U reads; --wait" {
  mkimage a.qcow2 1M 1
  hold_image a.qcow2
  refuses 1 convert a.qcow2 b.raw : "'a.qcow2' is in use" "$HOLD_PID (qemu-io)"
  expect_code 0 "$QIMG" convert -U a.qcow2 b.raw
  refuses 1 convert --force b.raw a.qcow2 : "'a.qcow2' is in use"
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 "$QIMG" convert --wait=20 a.qcow2 c.raw
  release_image
  cmp b.raw c.raw
}

@test "bad sources: code 1, one message, no target" {
  mkbad
  refuses 1 convert gone.qcow2 t.raw : "'gone.qcow2'" "No such file"
  refuses 1 convert a.qcow2 t.raw : "loop"
  refuses 1 convert orphan.qcow2 t.raw : "'gone.qcow2'"
  refuses 1 convert folder t.raw : "'folder'"
  refuses 1 convert fifo t.raw : "'fifo'"
  refuses 1 convert cut.qcow2 t.raw : "'cut.qcow2'" "truncated"
  mkpattern b.raw 1M 1
  QIMG_FAULT=read:3:EIO refuses 1 convert b.raw t.raw : "Input/output error"
}

@test "bad targets: one message, nothing left" {
  mkpattern a.raw 1M 1
  : >file
  mkdir folder
  refuses 1 convert a.raw no/b.raw : "'no/b.raw'" "No such file"
  refuses 1 convert a.raw file/b.raw : "'file/b.raw'" "Not a directory"
  refuses 1 convert a.raw /proc/b.raw : "'/proc/b.raw'"
  refuses 1 convert --force a.raw folder : "'folder'"
}

@test "any write that fails: no file, none hidden either" {
  mkpattern a.raw 1M 1
  local call
  for call in write:1 write:2 write:3 write:4 sync:1 rename:1; do
    QIMG_FAULT=$call:ENOSPC refuses 1 convert -O qcow2 a.raw b.qcow2 : \
      "'b.qcow2'" "No space left on device"
    QIMG_FAULT=$call:ENOSPC refuses 1 convert -c -O qcow2 a.raw b.qcow2 : \
      "'b.qcow2'" "No space left on device"
  done
  mkimage old.qcow2 1M 2
  QIMG_FAULT=write:4:ENOSPC refuses 1 convert --force -O qcow2 \
    a.raw old.qcow2 : "'old.qcow2'"
}

@test "no space" {
  mkpattern a.raw 8M 1
  small_disk 1M
  refuses 1 convert -O qcow2 a.raw small/b.qcow2 : "'small/b.qcow2'" \
    "No space left on device"
  refuses 1 convert a.raw small/b.raw : "'small/b.raw'" "No space left"
}

@test "a limit of the file size" {
  mkpattern a.raw 2M 1
  # shellcheck disable=SC2016
  expect_code 1 bash -c 'trap "" XFSZ; ulimit -f 600; exec "$@"' _ \
    "$QIMG" convert -O qcow2 a.raw b.qcow2
  complains "'b.qcow2'" "File too large"
  [ ! -e b.qcow2 ]
  no_hidden_files
}

@test "interrupted: code 130, nothing left" {
  mkpattern a.raw 64M 1
  "$QIMG" convert -O qcow2 -c -m 1 a.raw b.qcow2 2>err 3>&- &
  local pid=$! code=0 n
  for ((n = 0; n < 1000; n++)); do
    if compgen -G '.b.qcow2*' >/dev/null; then break; fi
    sleep 0.01
  done
  kill -TERM "$pid"
  wait "$pid" || code=$?
  cat err
  [ "$code" = 130 ]
  [ "$(cat err)" = "qimg: interrupted" ]
  [ ! -e b.qcow2 ]
  no_hidden_files
}
