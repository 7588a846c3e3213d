#!/usr/bin/env bats
# qimg backup: layers as sources, limits, hooks, waiting, what others are told.

load ../helpers
load common

setup() {
  mkimage vm.qcow2 4M 31
  qimg bitmap add -q --drive vm.qcow2 daily
}

teardown() {
  unmount_small
}

backup() {
  qimg backup --drive vm.qcow2 --bitmap daily --to repo "$@"
}

points() {
  find repo/points -mindepth 1 -maxdepth 1 | sort
}

# last_is IMAGE [NAME]: the image of the last point is what this is.
last_is() {
  oracle_equal "$(points | tail -n 1)/${2:-vm}.qcow2" "$1"
}

# --- layers

@test "node: a layer of a running machine, by increment, without a write" {
  local sum
  backup -q --full
  write vm.qcow2 'write -P 1 0 64k'
  mv vm.qcow2 base.qcow2
  ln -s base.qcow2 vm
  qimg snapshot create -q --drive vm one
  write vm.one.qcow2 'write -P 2 1M 64k'
  hold_image vm.one.qcow2
  tell_holder 'write -P 3 2M 64k'
  # The head is in use; the layer below is only read.
  expect_code 5 qimg backup --auto --drive vm --bitmap daily --to repo
  sum=$(sha256sum base.qcow2)
  expect_code 0 qimg backup --incremental --node base.qcow2 --bitmap daily \
    --to repo --output json
  # The drive is known by its id; its bitmap was not cleared.
  json '.point.drives[0] | .name == "vm" and .type == "incremental" and
    .dirty == 65536 and .["to-checkpoint"] == null'
  last_is base.qcow2
  [ "$sum" = "$(sha256sum base.qcow2)" ]
  # What is dirty stays so, and the point to build on is the same.
  expect_code 0 qimg backup --auto --node base.qcow2 --bitmap daily --to repo
  [ "$(jq -r .parent repo/points/000003-*/manifest.json)" = \
    "$(basename repo/points/000001-*)" ]
  release_image
  expect_code 0 qimg backup --incremental --drive vm --bitmap daily --to repo \
    --output json
  json '.point.drives[0] | .dirty == 196608 and
    (.parent | startswith("000001-"))'
  last_is vm
  # The next one goes on from there.
  write vm 'write -P 4 3M 64k'
  expect_code 0 qimg backup --incremental --drive vm --bitmap daily --to repo
  says '64 KiB dirty'
  last_is vm
  qimg backup verify -q --read-data repo
}

@test "node: one without a bitmap, and one with its own" {
  qimg bitmap add -q --node vm.qcow2 own
  qimg backup -q --full --node vm.qcow2 --name web --to repo
  refuses 6 backup --incremental --node vm.qcow2 --bitmap own --to repo : \
    'that of the node alone' 'qimg bitmap move --node vm.qcow2 own --to-drive'
  refuses 6 backup --incremental --node vm.qcow2 --bitmap none --to repo : \
    "has nothing of a drive bitmap 'none'" '--full'
  write vm.qcow2 'write -P 1 0 64k'
  expect_code 3 qimg backup --auto --node vm.qcow2 --bitmap own --name web \
    --to repo --output json
  json '.point.drives[0] | .name == "web" and .type == "resync" and
    .dirty == 65536 and (.reason | contains("node alone"))'
  last_is vm.qcow2 web
  # A drive that was not known is called as its file is.
  qimg backup -q --full --node vm.qcow2 --to other
  ls other/points/*/vm.qcow2
  hold_image vm.qcow2
  refuses 5 backup --resync --node vm.qcow2 --name web --to repo : vm.qcow2
  release_image
  refuses 2 backup --full --node vm.qcow2 --node vm.qcow2 --name web \
    --to repo : '--name'
}

@test "name: what the drive is called in the repository" {
  backup -q --full --name 'the web'
  ls repo/points/000001-*/'the web.qcow2'
  refuses 1 backup --full --drive vm.qcow2 --to repo --name a/b : "as 'a/b'"
  refuses 1 backup --full --drive vm.qcow2 --to repo --name .x : "as '.x'"
  refuses 1 backup --full --drive vm.qcow2 --to repo --name '' : "as ''"
}

# --- limits

@test "threshold: no point for less, and nothing is lost" {
  local before
  backup -q --full
  before=$(state)
  expect_code 0 qimg backup --incremental --drive vm.qcow2 --bitmap daily \
    --to repo --if-changed
  says "no backup in 'repo': 0 B have changed"
  [ "$before" = "$(state)" ]
  write vm.qcow2 'write -P 1 0 64k'
  before=$(state)
  expect_code 0 qimg backup --auto --drive vm.qcow2 --bitmap daily --to repo \
    --threshold 64.1k --output json
  json '.point == null and .changed == 65536'
  [ "$before" = "$(state)" ]
  backup -q --auto --threshold 64k
  last_is vm.qcow2
  # By comparing, too; but a bitmap can start anew at a point alone.
  expect_code 0 qimg backup --resync --drive vm.qcow2 --to repo --if-changed
  says '0 B have changed'
  qimg backup -q --resync --drive vm.qcow2 --bitmap daily --to repo --if-changed
  [ "$(points | wc -l)" = 3 ]
  # All that has changed is the size.
  qimg resize -q --shrink vm.qcow2 3M
  backup -q --incremental --if-changed
  [ "$(points | wc -l)" = 4 ]
  last_is vm.qcow2
  refuses 2 backup --full --drive vm.qcow2 --to repo --if-changed \
    --threshold 1M : '--if-changed'
}

@test "rate: no faster than that, and holes cost nothing" {
  local start
  qemu-img create -q -f qcow2 big.qcow2 1T
  write big.qcow2 'write -P 1 500G 2M'
  start=${EPOCHREALTIME/./}
  qimg backup -q --full --drive big.qcow2 --to repo --rate 2M
  start=$((${EPOCHREALTIME/./} - start))
  # The first window is free.
  [ $start -gt 450000 ]
  last_is big.qcow2 big
  start=${EPOCHREALTIME/./}
  qimg backup -q --resync --drive big.qcow2 --to repo --rate 2M
  [ $((${EPOCHREALTIME/./} - start)) -gt 450000 ]
  refuses 2 backup --full --drive vm.qcow2 --to repo --rate fast : fast
}

@test "space: asked for before anything is written" {
  qemu-img create -q -f qcow2 -o preallocation=metadata,cluster_size=2M \
    large.qcow2 8T
  expect_code 7 qimg backup --full --drive large.qcow2 --to repo
  complains 'can take 8796093022208 bytes'
  [ ! -e repo ]
}

# --- hooks

@test "pre, post: what they find, and when they run" {
  cat >hook <<'END'
echo "$QIMG_HOOK|$QIMG_DRIVES|$QIMG_BITMAP|$QIMG_TO|$QIMG_STATUS|$QIMG_POINT" >>log
# The drives are free.
qemu-io -c 'read 0 512' vm.qcow2 >/dev/null || echo in use >>log
echo said by the hook
END
  expect_code 0 qimg backup --full --drive vm.qcow2 --bitmap daily --to repo \
    --pre 'sh hook; echo before >>log' --post 'sh hook' --output json
  json '.point.id'
  [ "$stderr" = $'said by the hook\nsaid by the hook' ]
  [ "$(sed "s/-[0-9TZ]*$/-TIME/" log)" = "pre|vm.qcow2|daily|repo|0|
before
post|vm.qcow2|daily|repo|0|000001-TIME" ]
  # What it prepared is undone, whatever has happened.
  rm log
  hold_image vm.qcow2
  expect_code 5 qimg backup -q --auto --drive vm.qcow2 --bitmap daily \
    --to repo --pre true --post 'echo $QIMG_STATUS >log'
  release_image
  [ "$(<log)" = 5 ]
  # A pre that fails: no backup.
  expect_code 1 qimg backup --auto --drive vm.qcow2 --bitmap daily --to repo \
    --pre 'exit 9' --post 'echo $QIMG_STATUS >log'
  complains '--pre has failed with status 9'
  [ "$(<log)" = 1 ]
  [ "$(points | wc -l)" = 1 ]
  # A post that fails: there is a backup.
  expect_code 3 qimg backup --auto --drive vm.qcow2 --bitmap daily --to repo \
    --post 'kill $$'
  [[ $stderr == *"--post was ended by signal 15"* ]]
  [ "$(points | wc -l)" = 2 ]
  # Nothing is run for a plan, or a wrong command line.
  rm log
  qimg backup -q -n --full --drive vm.qcow2 --to repo --pre 'echo >log'
  expect_code 2 qimg backup --full --drive vm.qcow2 --pre 'echo >log'
  [ ! -e log ]
}

@test "an end while pre runs: it is told, post runs, no backup" {
  local pid n
  "$QIMG" backup --full --drive vm.qcow2 --to repo \
    --pre 'echo $$ >pid; exec sleep 60' --post 'echo $QIMG_STATUS >log' \
    2>err 3>&- &
  pid=$!
  for ((n = 0; n < 500; n++)); do
    [ ! -s pid ] || break
    sleep 0.02
  done
  kill -TERM $pid
  status=0
  wait $pid || status=$?
  [ $status = 130 ]
  [ "$(<log)" = 130 ]
  grep -q interrupted err
  run ! kill -0 "$(<pid)"
  [ ! -e repo ]
}

@test "TERM and INT end a backup cleanly" {
  local signal pid n
  for signal in TERM INT; do
    rm -rf repo
    # Job control gives INT back to what runs in the background.
    (set -m && exec "$QIMG" backup --full --drive vm.qcow2 --bitmap daily \
      --to repo --rate 64k 2>err 3>&-) &
    pid=$!
    for ((n = 0; n < 500; n++)); do
      [ -z "$(find repo -name '*.hashes' 2>/dev/null)" ] || break
      sleep 0.02
    done
    kill -s $signal $pid
    status=0
    wait $pid || status=$?
    [ $status = 130 ]
    grep -q '^qimg: interrupted' err
    [ ! -e repo ]
  done
  backup -q --full
}

# --- others

@test "wait: for the repository, as for the drives" {
  local pid
  backup -q --full
  mkimage slow.qcow2 4M 32
  "$QIMG" backup -q --full --drive slow.qcow2 --to repo --rate 2M 3>&- &
  pid=$!
  sleep 0.5
  expect_code 5 qimg backup --auto --drive vm.qcow2 --bitmap daily --to repo
  complains qimg-repository.json
  expect_code 5 qimg backup prune -q --keep-last 1 repo
  # Meanwhile the drive is free.
  "$QIMG" backup -q --auto --drive vm.qcow2 --bitmap daily --to repo --wait 3>&- &
  sleep 0.3
  write vm.qcow2 'write -P 9 0 64k'
  wait $pid
  wait $!
  last_is vm.qcow2
  qimg backup prune -q --wait=5 --keep-last 1 repo
  qimg backup pin -q --wait repo last
}

@test "metrics: a file for Prometheus, of failures too" {
  local line
  mkimage data.qcow2 2M 32
  qimg bitmap add -q --drive data.qcow2 daily
  mkdir 'my "repo'
  qimg backup -q --full --drive vm.qcow2 --drive data.qcow2 --bitmap daily \
    --to 'my "repo/r' --metrics-file m.prom
  write vm.qcow2 'write -P 9 0 64k'
  qimg backup -q --auto --drive vm.qcow2 --drive data.qcow2 --bitmap daily \
    --to 'my "repo/r' --metrics-file m.prom
  grep -qxF 'qimg_backup_exit_status{repository="my \"repo/r"} 0' m.prom
  grep -qxF 'qimg_backup_points{repository="my \"repo/r"} 2' m.prom
  grep -qxF 'qimg_backup_drive_dirty_bytes{repository="my \"repo/r",drive="vm",type="incremental"} 65536' m.prom
  grep -qxF 'qimg_backup_drive_size_bytes{repository="my \"repo/r",drive="data",type="incremental"} 2097152' m.prom
  [ "$(stat -c %a m.prom)" = 644 ]
  # Each metric has its help and type before it, and a number.
  awk '/^# HELP/ { help = $3; next }
    /^# TYPE/ { type = $3; if ($4 != "gauge") exit 1; next }
    { split($0, a, "{"); if (a[1] != help || a[1] != type) exit 1
      if ($NF !~ /^[0-9.e+-]+$/) exit 1; n++ }
    END { exit n != 14 }' m.prom
  # The times are those of the last point and of this run.
  line=$(grep '^qimg_backup_last_point_time_seconds' m.prom)
  [ $(($(date +%s) - ${line##* })) -lt 60 ]
  hold_image vm.qcow2
  expect_code 5 qimg backup -q --auto --drive vm.qcow2 --bitmap daily \
    --to 'my "repo/r' --metrics-file m.prom
  release_image
  grep -qxF 'qimg_backup_exit_status{repository="my \"repo/r"} 5' m.prom
  grep -q '^qimg_backup_last_point_time_seconds' m.prom
  run ! grep drive_ m.prom
  expect_code 3 qimg backup -q --full --drive vm.qcow2 --to repo \
    --metrics-file none/m.prom
  complains none/m.prom
  [ "$(points | wc -l)" = 1 ]
  refuses 1 backup --full --drive vm.qcow2 --to repo \
    --metrics-file vm.qcow2 : "'vm.qcow2' is not a file of metrics"
  refuses 2 backup --full --drive vm.qcow2 --to '' : --to
}
