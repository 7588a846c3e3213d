#!/usr/bin/env bats
# qimg graph: drives, images, who backs whom, bitmaps, what is broken.

load ../helpers
load common

# A base with two overlays, one of them under a drive link.
mkgraph() {
  qemu-img create -q -f qcow2 base.qcow2 2M
  qemu-img bitmap --add base.qcow2 audit
  write base.qcow2 'write -P 1 0 100k'
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 other.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
  ln -s top.qcow2 vm
  qimg bitmap add -q --drive vm -g 128k daily
  write top.qcow2 'write -P 2 0 100k'
}

@test "a tree: shared images once, bitmaps with attachment and dirty bytes" {
  mkgraph
  expect_code 0 "$QIMG" graph .
  [ -z "$stderr" ]
  [ "$(sed 's/, [^,]* on disk//' <<<"$output")" = "\
base.qcow2: qcow2, 2 MiB
|  bitmap audit on node: enabled, granularity 64 KiB, 128 KiB dirty
|- other.qcow2: qcow2, 2 MiB
|     drive other.qcow2
\`- top.qcow2: qcow2, 2 MiB
      drive vm (link)
         bitmap daily on drive: enabled, granularity 128 KiB, 128 KiB dirty, exact" ]
}

@test "strokes follow the locale" {
  mkgraph
  LC_ALL=C.UTF-8 expect_code 0 "$QIMG" graph .
  says "├─ other.qcow2" "└─ top.qcow2" "│  bitmap audit"
}

@test "a named image says which overlays are not shown" {
  mkgraph
  expect_code 0 "$QIMG" graph base.qcow2
  says "not shown: its overlay other.qcow2" "not shown: its overlay top.qcow2"
  expect_code 0 "$QIMG" graph --output json base.qcow2
  json '.nodes[0]["overlays-not-shown"] | sort == ["other.qcow2", "top.qcow2"]'
  json '.drives == []'
}

@test "JSON: nodes, drives, bitmaps" {
  mkgraph
  expect_code 0 "$QIMG" graph --output=json vm
  json '.qimg and .broken == []'
  json '.nodes | map([.path, .backing, .format, .["virtual-size"]]) ==
    [["top.qcow2", "base.qcow2", "qcow2", 2097152],
     ["base.qcow2", null, "qcow2", 2097152]]'
  json '.nodes[0]["backing-filename"] == "base.qcow2"'
  json '.nodes[0].record | .state == "valid" and .["drive-id"] != null'
  json '.nodes[1].bitmaps[0] == {name: "audit", attachment: "node",
    state: "enabled", granularity: 65536, "dirty-bytes": 131072}'
  json '.drives[0] | .path == "vm" and .link and .head == "top.qcow2" and
    (.bitmaps == [{name: "daily", attachment: "drive", state: "enabled",
      granularity: 131072, "dirty-bytes": 131072, status: "exact"}])'
  json '.drives[0]["drive-id"] == .nodes[0].record["drive-id"]'
}

@test "snapshots: frozen layers and their tags" {
  qimg create -q -f qcow2 vm.qcow2 1M
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg snapshot create -q --drive vm.qcow2 first
  qimg snapshot create -q --drive vm.qcow2 second
  expect_code 0 "$QIMG" graph vm.qcow2
  says "vm@first.qcow2: qcow2, 1 MiB" "frozen, snapshot first" \
    "frozen, snapshot second" "drive vm.qcow2"
  [ "$(grep -c drive\ vm <<<"$output")" = 1 ]
  expect_code 0 "$QIMG" graph --output json vm.qcow2
  json '.nodes | length == 3 and (map(.record.frozen) == [false, true, true])'
}

@test "--scan: all images of folders, once each" {
  mkgraph
  mkdir more
  qemu-img create -q -f qcow2 more/x.qcow2 1M
  : >more/notes.txt
  expect_code 0 "$QIMG" graph --scan . --scan more --output json
  json '.nodes | map(.path | sub("^\\./"; "")) | sort ==
    ["base.qcow2", "more/x.qcow2", "other.qcow2", "top.qcow2"]'
  expect_code 0 "$QIMG" graph vm --scan . --output json
  json '.nodes | length == 3'
  json '.drives | length == 2'
}

@test "--output dot: a graph that dot can read" {
  mkgraph
  qemu-img create -q -f qcow2 'with "quote".qcow2' 1M
  expect_code 0 "$QIMG" graph --output dot .
  [[ $output == "digraph qimg {"*"}" ]]
  says ' [shape=box, color=black, label="base.qcow2\nqcow2, 2 MiB' \
    '[shape=ellipse, label="drive vm\nbitmap daily: enabled' \
    'with \"quote\".qcow2'
  # top, other, and two drives on their heads; the third stands alone.
  [ "$(grep -c 'n[0-9]* -> n[0-9]*;' <<<"$output")" = 2 ]
  [ "$(grep -c 'd[0-9]* -> n[0-9]*;' <<<"$output")" = 3 ]
  if command -v dot >/dev/null; then dot -Tsvg <<<"$output" >/dev/null; fi
}

@test "what is broken is shown, with code 3; the rest is shown, too" {
  mkgraph
  mkbad
  expect_code 3 "$QIMG" graph orphan.qcow2
  says "orphan.qcow2: qcow2, 1 MiB" "error: " "'gone.qcow2'" "No such file"
  expect_code 3 "$QIMG" graph --output json a.qcow2
  json '.nodes | length == 2'
  json '.nodes[0].error | contains("loop")'
  json '[.nodes[].backing] | sort == [null, "b.qcow2"]'
  expect_code 3 "$QIMG" graph a.qcow2
  says "b.qcow2: qcow2" "a.qcow2: qcow2" "is a loop"
  expect_code 3 "$QIMG" graph vm gone.qcow2 cut.qcow2
  says "drive vm" "gone.qcow2:" "No such file" "truncated"
  expect_code 3 "$QIMG" graph --output json vm gone.qcow2 cut.qcow2
  json '.broken | map(.path) == ["gone.qcow2", "cut.qcow2"]'
  json '.drives | length == 1'
  expect_code 3 "$QIMG" graph --output dot vm gone.qcow2
  says "color=red"
}

@test "nothing but what is broken: a message, and the code of its class" {
  mkbad
  refuses 1 graph gone.qcow2 : "'gone.qcow2'" "No such file"
  refuses 4 graph cut.qcow2 : "'cut.qcow2' is damaged" "truncated"
  refuses 1 graph --scan gone : "'gone'" "No such file"
  ln -s nowhere link
  refuses 1 graph link : "'nowhere'"
  refuses 2 graph : "give a path or --scan"
  expect_code 1 "$QIMG" graph --output json gone.qcow2
  json '.nodes == [] and (.broken | length == 1)'
}

@test "bitmaps that are lost or in use" {
  mkgraph
  printf '\0' | dd of=base.qcow2 bs=1 seek=95 conv=notrunc status=none
  expect_code 0 "$QIMG" graph vm
  says "error: " "has written to the image"
  expect_code 0 "$QIMG" graph --output json vm
  json '.nodes[1]["bitmaps-problem"] | length > 0'
  hold_image top.qcow2
  expect_code 0 "$QIMG" graph -U --output json vm
  json '.drives[0].bitmaps[0].status != "exact"'
  release_image
}

@test "images in use are shown, with and without -U; nothing is changed" {
  mkgraph
  hold_image top.qcow2
  local before
  before=$(state)
  expect_code 0 "$QIMG" graph --force-share vm
  expect_code 0 "$QIMG" graph .
  [ "$before" = "$(state)" ]
  release_image
}
