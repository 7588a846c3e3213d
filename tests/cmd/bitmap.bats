#!/usr/bin/env bats
# qimg bitmap: bitmaps of drives and of image files.

load ../helpers
load common

setup() {
  qimg create -q -f qcow2 vm.qcow2 2M
}

# theirs IMG FILTER: what qemu-img says of the bitmaps of an image.
theirs() {
  qemu-img info --output json "$1" |
    jq -c '."format-specific".data.bitmaps // [] |'"$2"
}

@test "exactly one of --drive and --node" {
  local verb
  for verb in add remove clear enable disable show; do
    refuses 2 bitmap "$verb" x : "exactly one of --drive and --node" \
      "try 'qimg bitmap $verb --help'"
    refuses 2 bitmap "$verb" --drive vm.qcow2 --node vm.qcow2 x : \
      "exactly one of --drive and --node"
    refuses 2 bitmap "$verb" --drive vm.qcow2 : "an argument is missing"
  done
  refuses 2 bitmap list : "exactly one of --drive, --node and paths"
  refuses 2 bitmap list --drive vm.qcow2 vm.qcow2 : "exactly one of"
}

@test "add: QEMU sees it; -g, --disabled" {
  expect_code 0 "$QIMG" bitmap add --drive vm.qcow2 daily
  [ "$output" = "added bitmap 'daily' of drive 'vm.qcow2'" ]
  [ -z "$stderr" ]
  expect_code 0 "$QIMG" bitmap add --node vm.qcow2 -g 1M --disabled audit
  [ "$output" = "added bitmap 'audit' of node 'vm.qcow2'" ]
  qimg bitmap add -q --node vm.qcow2 --granularity=4k fine
  oracle_check vm.qcow2
  [ "$(theirs vm.qcow2 'map([.name, .granularity, .flags]) | sort')" = \
    '[["audit",1048576,[]],["daily",65536,["auto"]],["fine",4096,["auto"]]]' ]
  write vm.qcow2 'write -P 1 64k 4k'
  expect_code 0 "$QIMG" bitmap show --output json --drive vm.qcow2 daily
  json '.["dirty-bytes"] == 65536'
  expect_code 0 "$QIMG" bitmap show --output json --node vm.qcow2 fine
  json '.["dirty-bytes"] == 4096'
  expect_code 0 "$QIMG" bitmap show --output json --node vm.qcow2 audit
  json '.["dirty-bytes"] == 0'
}

@test "add: what is refused" {
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg bitmap add -q --node vm.qcow2 audit
  refuses 1 bitmap add --drive vm.qcow2 daily : "'daily' already"
  refuses 1 bitmap add --node vm.qcow2 audit : "'audit' already"
  refuses 6 bitmap add --node vm.qcow2 daily : "drive bitmap" \
    "choose another name"
  run_qimg bitmap add --drive vm.qcow2 audit
  [ "$status" != 0 ]
  complains "'audit'" "choose another name, or: 'qimg bitmap remove --node"
  local g
  for g in 0 256 3000 3K 4G 7E; do
    refuses 2 bitmap add --drive vm.qcow2 -g $g x : "--granularity" \
      "power of two from 512 to 2G"
  done
  refuses 1 bitmap add --drive vm.qcow2 "" : "name"
  refuses 1 bitmap add --drive vm.qcow2 "$(printf 'x%.0s' {1..1024})" : "name"
  qimg bitmap add -q --drive vm.qcow2 "$(printf 'x%.0s' {1..1023})"
  oracle_check vm.qcow2
}

@test "add: images that cannot hold bitmaps say what would help" {
  qimg create -q a.raw 1M
  qimg create -q -f qcow2 -o compat=0.10 old.qcow2 1M
  qimg create -q -f qcow2 -o cluster_size=1k small.qcow2 1M
  local f
  for f in a.raw old.qcow2; do
    run_qimg bitmap add --node "$f" x
    [ "$status" = 6 ] || [ "$status" = 1 ]
    complains "'$f'" "qemu-img\|qimg" || complains "'$f'" "'q"
  done
  run_qimg bitmap add --drive small.qcow2 x
  [ "$status" != 0 ]
  complains "'small.qcow2'"
}

@test "bitmaps of a node in the smallest clusters" {
  local verb
  qemu-img create -q -f qcow2 -o cluster_size=512 small.qcow2 1M
  qimg bitmap add -q --node small.qcow2 -g 4k x
  write small.qcow2 'write -P 1 64k 8k'
  [ "$(qimg bitmap show --node small.qcow2 x --output json |
    jq -c '[.extents[] | .offset, .length]')" = '[65536,8192]' ]
  for verb in clear disable enable remove; do
    expect_code 0 qimg bitmap $verb --node small.qcow2 x
    oracle_check small.qcow2
  done
  # The header holds no more than fits into its cluster.
  qimg create -q base.raw 1M
  qemu-img create -q -f qcow2 -o cluster_size=512 \
    -b "$(printf './%.0s' {1..175})base.raw" -F raw full.qcow2 1M
  refuses 1 bitmap add --node full.qcow2 x : "header is full"
}

@test "remove, clear, enable, disable on drives and nodes" {
  local kind
  for kind in drive node; do
    qimg bitmap add -q --$kind vm.qcow2 one
    write vm.qcow2 'write -P 1 0 64k'
    expect_code 0 "$QIMG" bitmap disable --$kind vm.qcow2 one
    [ "$output" = "disabled bitmap 'one' of $kind 'vm.qcow2'" ]
    [ "$(theirs vm.qcow2 'map(.flags)')" = '[[]]' ]
    write vm.qcow2 'write -P 1 1M 64k'
    expect_code 0 "$QIMG" bitmap show --$kind vm.qcow2 one --output json
    json '.["dirty-bytes"] == 65536'
    expect_code 0 "$QIMG" bitmap enable --$kind vm.qcow2 one
    [ "$output" = "enabled bitmap 'one' of $kind 'vm.qcow2'" ]
    [ "$(theirs vm.qcow2 'map(.flags)')" = '[["auto"]]' ]
    expect_code 0 "$QIMG" bitmap clear --$kind vm.qcow2 one
    [ "$output" = "cleared bitmap 'one' of $kind 'vm.qcow2'" ]
    expect_code 0 "$QIMG" bitmap show --$kind vm.qcow2 one --output json
    json '.["dirty-bytes"] == 0'
    oracle_check vm.qcow2
    expect_code 0 "$QIMG" bitmap remove --$kind vm.qcow2 one
    [ "$output" = "removed bitmap 'one' of $kind 'vm.qcow2'" ]
    [ "$(theirs vm.qcow2 length)" = 0 ]
    oracle_check vm.qcow2
  done
}

@test "a drive's bitmap is not a node's, and the other way round" {
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg bitmap add -q --node vm.qcow2 audit
  local verb
  for verb in remove clear enable disable; do
    refuses 6 bitmap $verb --node vm.qcow2 daily : "drive bitmap" \
      "'qimg bitmap $verb --drive"
    refuses 1 bitmap $verb --drive vm.qcow2 audit : "'audit'" \
      "'qimg bitmap list --drive vm.qcow2'"
    refuses 1 bitmap $verb --drive vm.qcow2 none : "'none'" "bitmap list"
    refuses 1 bitmap $verb --node vm.qcow2 none : "'none'"
  done
  refuses 1 bitmap show --drive vm.qcow2 none : "'none'" "bitmap list --drive"
  refuses 1 bitmap show --node vm.qcow2 none : "'none'" "bitmap list --node"
}

@test "a clear gives a new checkpoint; the address outlives snapshots" {
  ln -s vm.qcow2 vm
  qimg bitmap add -q --drive vm daily
  checkpoint() { qimg bitmap show --drive vm daily --output json | jq -r .checkpoint; }
  local one two
  one=$(checkpoint)
  qimg bitmap clear -q --drive vm daily
  two=$(checkpoint)
  [ "$one" != "$two" ]
  qimg snapshot create -q --drive vm
  [ "$(checkpoint)" = "$two" ]
  expect_code 0 "$QIMG" bitmap show --drive vm daily --output json
  json '.layers | length == 2 and .[1].anchor and (.[0].anchor | not)'
  expect_code 0 "$QIMG" bitmap clear -q --drive vm daily
  expect_code 0 "$QIMG" bitmap show --drive vm daily --output json
  json '.layers | length == 1 and .[0].anchor'
}

@test "-n, -q, --output json of what changes" {
  local kind
  for kind in drive node; do
    expect_code 0 "$QIMG" bitmap add --$kind vm.qcow2 -n x
    says "nothing was changed; this would be done:" "  1. "
    expect_code 0 "$QIMG" bitmap add --$kind vm.qcow2 --dry-run \
      --output json x
    json --arg kind $kind '.qimg and .[$kind] == "vm.qcow2" and
      .bitmap == "x" and .action == "added" and .["dry-run"] and
      (.steps | length > 0)'
    [ "$(theirs vm.qcow2 length)" = 0 ]
    expect_code 0 "$QIMG" bitmap add --$kind vm.qcow2 --quiet x
    [ -z "$output$stderr" ]
    for verb in disable enable clear remove; do
      local before
      before=$(state)
      expect_code 0 "$QIMG" bitmap $verb --$kind vm.qcow2 -n x
      says "  1. "
      [ "$before" = "$(state)" ]
    done
    expect_code 0 "$QIMG" bitmap remove --$kind vm.qcow2 --output=json x
    json '.action == "removed" and .["dry-run"] == false'
  done
}

@test "list: of a drive, a node, several images" {
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg bitmap add -q --node vm.qcow2 --disabled -g 1M audit
  qimg create -q -f qcow2 b.qcow2 1M
  qemu-img bitmap --add b.qcow2 $'evil\e[31m'
  write vm.qcow2 'write -P 1 0 100k'
  expect_code 0 "$QIMG" bitmap list vm.qcow2 b.qcow2
  [ "$output" = "\
NAME          ATTACHED TO         STATE     GRANULARITY    DIRTY
daily         drive, in vm.qcow2  enabled        64 KiB  128 KiB
audit         node vm.qcow2       disabled        1 MiB      0 B
evil\\x1b[31m  node b.qcow2        enabled        64 KiB      0 B" ]
  expect_code 0 "$QIMG" bitmap list --drive vm.qcow2
  [ "$output" = "\
NAME   ATTACHED TO     STATE    GRANULARITY    DIRTY  STATUS
daily  drive vm.qcow2  enabled       64 KiB  128 KiB  exact" ]
  [[ $output != *audit* ]]
  qimg bitmap disable -q --drive vm.qcow2 daily
  expect_code 0 "$QIMG" bitmap list --drive vm.qcow2 --output json
  json '.bitmaps | length == 1 and (.[0] | .name == "daily" and
    .attachment == "drive" and .drive == "vm.qcow2" and .state == "paused" and
    .granularity == 65536 and (.checkpoint | length == 36) and
    .["dirty-bytes"] == 131072 and .status == "paused" and .gap)'
  expect_code 0 "$QIMG" bitmap list --node vm.qcow2 --output json
  json '.bitmaps | map([.name, .attachment, .node, .enabled]) ==
    [["daily", "drive", "vm.qcow2", false], ["audit", "node", "vm.qcow2", false]]'
  json '.bitmaps | map(.["dirty-bytes"]) == [131072, 0]'
  json '.bitmaps[0].anchor and (.bitmaps[0].checkpoint | length == 36)'
}

@test "list: how well it is known what is dirty" {
  ln -s vm.qcow2 vm
  qimg bitmap add -q --drive vm daily
  qimg bitmap add -q --node vm.qcow2 audit
  qimg bitmap disable -q --drive vm daily
  qimg bitmap enable -q --drive vm daily
  expect_code 0 "$QIMG" bitmap list --drive vm
  says "0 B  exact, with a gap"
  expect_code 0 "$QIMG" bitmap list --drive vm --output json
  json '.bitmaps[0] | .status == "exact" and .gap and
    (.reason | contains("paused"))'
  expect_code 0 "$QIMG" bitmap show --drive vm daily
  says "of 2 MiB, exact, with a gap"
  expect_code 0 "$QIMG" bitmap show --drive vm daily --output json
  json '.status == "exact" and .gap == true'
  qimg bitmap clear -q --drive vm daily
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 foreign.qcow2
  write foreign.qcow2 'write -P 2 192k 64k'
  ln -sfn foreign.qcow2 vm
  expect_code 0 "$QIMG" bitmap list --drive vm
  says "64 KiB  estimated"
  expect_code 0 "$QIMG" bitmap list --drive vm --output json
  json '.bitmaps[0] | .["dirty-bytes"] == 65536 and (.gap | not) and
    (.reason | contains("foreign.qcow2"))'
  hold_image vm.qcow2
  crash_holder
  expect_code 0 "$QIMG" bitmap list vm.qcow2
  says "in use       64 KiB      -"
  expect_code 0 "$QIMG" bitmap list --output json vm.qcow2
  json '.bitmaps | map([.["dirty-bytes"], .state]) |
    . == [[null, "in use"], [null, "in use"]]'
  expect_code 0 "$QIMG" bitmap list --drive vm
  says "2 MiB  full"
  expect_code 0 "$QIMG" bitmap list --drive vm --output json
  json '.bitmaps[0] | .status == "full" and .["dirty-bytes"] == 2097152 and
    (.reason | contains("vm.qcow2"))'
}

@test "list: very many bitmaps, in time" {
  local seconds=20 # what is not linear takes minutes
  if [ "${QIMG_SAN-}" ]; then seconds=60; fi
  qemu-img bitmap --add vm.qcow2 a
  # All with names that are alike, and with the same bits, which go on after
  # the end of the disk.
  perl -e '
    open my $f, "+<:raw", "vm.qcow2" or die;
    read $f, my $head, 4096;
    my $extension = index $head, pack "L>2", 0x23852875, 24;
    die if $extension < 0;
    my $at = ((-s $f) + 65535) & ~65535;
    my $table = $at + (1 << 23);
    my $dir = "";
    for my $i (1 .. 65535) {
      my $name = "x" x 60 . $i;
      $dir .= pack "Q> L>2 C2 n L>", $table, 1, 0, 1, 16, length $name, 0;
      $dir .= $name . "\0" x (-(24 + length $name) % 8);
    }
    die if length $dir > 1 << 23;
    seek $f, $at, 0;
    print $f $dir;
    seek $f, $table, 0;
    print $f pack("Q>", $table + 65536), "\0" x 65528, "\5" x 65536;
    seek $f, $extension + 8, 0;
    print $f pack "L>2 Q>2", 65535, 0, length $dir, $at;'
  # shellcheck disable=SC2016 # in there
  expect_code 0 bash -c 'ulimit -t "$0" && exec "$@"' $seconds \
    "$QIMG" bitmap list --output json vm.qcow2
  # Of each eight bits of 64 KiB two are set.
  json '.bitmaps | length == 65535 and
    all(.[]; .["dirty-bytes"] == 524288 and .state == "disabled")'
}

@test "list: of what is not there" {
  mkbad
  refuses 1 bitmap list gone.qcow2 : "'gone.qcow2'"
  refuses 1 bitmap list --drive gone.qcow2 : "'gone.qcow2'"
  refuses 4 bitmap list cut.qcow2 : "'cut.qcow2' is damaged"
  refuses 6 bitmap list --drive a.qcow2 : "loop"
  expect_code 1 "$QIMG" bitmap list --output json vm.qcow2 gone.qcow2
  json '.bitmaps == [] and (.error | contains("gone.qcow2"))'
}

@test "show: extents, layers, their status and reason" {
  ln -s vm.qcow2 vm
  qimg bitmap add -q --drive vm daily
  write vm 'write -P 1 0 64k' 'write -P 1 1M 128k'
  # Another tool puts an overlay on the drive: its allocation map is taken.
  qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 foreign.qcow2
  write foreign.qcow2 'write -P 2 192k 64k'
  ln -sfn foreign.qcow2 vm
  expect_code 0 "$QIMG" bitmap show --drive vm daily
  says "bitmap: daily" "drive: vm" "state: enabled" "granularity: 64 KiB" \
    "checkpoint: " "layers:" "foreign.qcow2: estimated (" \
    "vm.qcow2: exact, anchor" \
    "Offset          Length" "0               0x10000" \
    "0x30000         0x10000" "0x100000        0x20000" \
    "dirty: 256 KiB (262144 bytes) in 3 extents, 12.50% of 2 MiB, estimated"
  expect_code 0 "$QIMG" bitmap show --drive vm daily --output json
  json '.status == "estimated" and .gap == false and
    .["dirty-bytes"] == 262144 and
    .["virtual-size"] == 2097152'
  json '.extents == [{offset: 0, length: 65536}, {offset: 196608,
    length: 65536}, {offset: 1048576, length: 131072}]'
  json '.layers | map([.node, .status, .anchor]) ==
    [["foreign.qcow2", "estimated", false], ["vm.qcow2", "exact", true]]'
  json '.layers | (.[0].reason | length > 5) and .[1].reason == null'
}

@test "show: a lost segment at the anchor makes everything dirty" {
  qimg bitmap add -q --drive vm.qcow2 daily
  printf '\0' | dd of=vm.qcow2 bs=1 seek=95 conv=notrunc status=none
  expect_code 0 "$QIMG" bitmap show --drive vm.qcow2 daily
  says "vm.qcow2: full, anchor (" "100.00% of 2 MiB, full"
}

@test "show draws a bar on a terminal" {
  command -v script >/dev/null || skip "needs script"
  qimg bitmap add -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 1 0 1M'
  NO_COLOR=1 script -qec "$QIMG bitmap show --drive vm.qcow2 daily" /dev/null \
    </dev/null >screen
  grep -F '[################################' screen
  grep -q '\[#\{32\} \{32\}\]' screen
  expect_code 0 "$QIMG" bitmap show --drive vm.qcow2 daily
  [[ $output != *"[#"* ]]
}

@test "a drive in use by QEMU: nothing changes, readers with -U work" {
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg bitmap add -q --node vm.qcow2 audit
  hold_image vm.qcow2
  local verb
  for verb in add remove clear enable disable; do
    refuses 5 bitmap $verb --drive vm.qcow2 daily : "'vm.qcow2' is in use" \
      "process $HOLD_PID (qemu-io)" "--wait"
    refuses 5 bitmap $verb --node vm.qcow2 -n audit : "$HOLD_PID (qemu-io)"
  done
  refuses 5 bitmap show --drive vm.qcow2 daily : "$HOLD_PID (qemu-io)"
  refuses 5 bitmap show --node vm.qcow2 audit : "$HOLD_PID (qemu-io)"
  expect_code 0 "$QIMG" bitmap show -U --drive vm.qcow2 daily
  # No bits to show: they are in the memory of the process.
  expect_code 0 "$QIMG" bitmap list --force-share --drive vm.qcow2
  expect_code 0 "$QIMG" bitmap list -U vm.qcow2
  says "in use"
  (
    sleep 0.3
    echo quit >hold.fifo
  ) 3>&- &
  expect_code 0 "$QIMG" bitmap clear -q --wait=20 --drive vm.qcow2 daily
  release_image
}

@test "a drive in use by qemu-storage-daemon" {
  command -v qemu-storage-daemon >/dev/null || skip "needs the daemon"
  qimg bitmap add -q --drive vm.qcow2 daily
  hold_daemon vm.qcow2
  refuses 5 bitmap clear --drive vm.qcow2 daily : "'vm.qcow2' is in use" \
    "process $HOLD_PID (qemu-storage-da)"
  expect_code 0 "$QIMG" bitmap list -U vm.qcow2
  release_daemon
  expect_code 0 "$QIMG" bitmap clear --drive vm.qcow2 daily
}

@test "bad images: one message, nothing changed" {
  mkbad
  local verb
  for verb in add remove clear enable disable show; do
    refuses 1 bitmap $verb --drive gone.qcow2 x : "'gone.qcow2'"
    refuses 6 bitmap $verb --drive a.qcow2 x : "loop"
    refuses 1 bitmap $verb --drive orphan.qcow2 x : "'gone.qcow2'"
    refuses 4 bitmap $verb --node cut.qcow2 x : "'cut.qcow2' is damaged"
    refuses 1 bitmap $verb --node folder x : "'folder'"
  done
}

@test "a write that fails: the image is good, and says what it said" {
  qimg bitmap add -q --drive vm.qcow2 daily
  write vm.qcow2 'write -P 1 0 64k'
  cp vm.qcow2 keep.qcow2
  local n verb
  for verb in clear disable remove; do
    for n in 1 2 3 4; do
      cp keep.qcow2 vm.qcow2
      QIMG_FAULT=write:$n:ENOSPC run_qimg bitmap $verb --drive vm.qcow2 daily
      [ "$status" = 0 ] || [ "$status" = 7 ]
      if [ "$status" = 7 ]; then complains "No space left on device"; fi
      [ "$n" != 1 ] || [ "$status" = 7 ]
      qemu-img check -q vm.qcow2 || [ $? = 3 ]
      expect_code 0 "$QIMG" bitmap list vm.qcow2
      oracle_equal vm.qcow2 keep.qcow2
    done
  done
}
