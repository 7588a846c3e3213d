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
    state: "enabled", enabled: true, granularity: 65536,
    "dirty-bytes": 131072, reason: null}'
  json '.nodes | map(.overlays) == [[], ["top.qcow2"]]'
  json '.nodes | map([.marks, .unfinished]) | . == [[[], null], [[], null]]'
  json '.drives[0] | .path == "vm" and .link and .head == "top.qcow2" and
    .["other-links"] == [] and (.bitmaps | map(del(.checkpoint)) ==
    [{name: "daily", attachment: "drive", state: "enabled", gap: false,
      granularity: 131072, "dirty-bytes": 131072, status: "exact",
      reason: null}])'
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
  says ' [color=black, label="base.qcow2\lqcow2, 2 MiB' \
    '[style=rounded, color=black, label="drive vm\lbitmap daily: enabled' \
    'with \"quote\".qcow2'
  # top, other, and two drives on their heads; the third stands alone.
  [ "$(grep -c 'n[0-9]* -> n[0-9]*;' <<<"$output")" = 2 ]
  [ "$(grep -c 'd[0-9]* -> n[0-9]*;' <<<"$output")" = 3 ]
}

@test "graphviz can draw it, with all that is worth a look" {
  command -v dot >/dev/null || skip "needs graphviz"
  mkgraph
  mkbad
  ln -s 'no "where"' lost
  qemu-img create -q -f qcow2 $'with "quote\\".qcow2' 1M
  expect_code 3 "$QIMG" graph --output dot .
  dot -Tsvg <<<"$output" >out.svg
  local text
  for text in 'base.qcow2' 'drive vm' 'bitmap audit: enabled' 'gone.qcow2' \
    'with &quot;quote\&quot;.qcow2' 'no &quot;where&quot;' \
    'stroke="red" stroke-dasharray' 'stroke="red" points'; do
    sed 's/&#45;/-/g; s/&#39;/'\''/g; s/&#160;/ /g' out.svg | grep -qF "$text" || {
      echo "not in the picture: $text"
      return 1
    }
  done
}

@test "what is broken is shown, with code 3; the rest is shown, too" {
  mkgraph
  mkbad
  expect_code 3 "$QIMG" graph orphan.qcow2
  says "orphan.qcow2: qcow2, 1 MiB" \
    "   orphan: its backing file 'gone.qcow2' is not there"
  [[ $output != *error* ]]
  expect_code 3 "$QIMG" graph --output json orphan.qcow2
  json '.nodes | length == 1 and (.[0] | .marks == ["orphan"] and
    (.error | contains("No such file")))'
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

@test "an orphan below others is marked, wherever one starts" {
  qemu-img create -q -f qcow2 -u -b gone.qcow2 -F qcow2 orphan.qcow2 1M
  qemu-img create -q -f qcow2 -u -b orphan.qcow2 -F qcow2 top.qcow2 1M
  ln -s top.qcow2 vm
  local from
  for from in top.qcow2 vm .; do
    expect_code 3 "$QIMG" graph --output json $from
    json '.nodes | map([.path, .marks]) | sort ==
      [["orphan.qcow2", ["orphan"]], ["top.qcow2", []]]'
  done
  # The drive is in the picture although it cannot be opened.
  json '.drives | map([.path, .head]) == [["vm", "top.qcow2"]]'
  expect_code 3 "$QIMG" graph --output dot vm
  says 'style=dashed, color=red, label="gone.qcow2\l"'
}

@test "links that lead nowhere" {
  mkgraph
  mkdir away
  ln -s gone.qcow2 lost
  ln -s round round
  ln -s away folder
  ln -s ../away/gone.qcow2 away/far
  expect_code 3 "$QIMG" graph .
  says "lost:" "broken link: drive 'lost' is a link to 'gone.qcow2', which is" \
    "round:" "too many links"
  expect_code 3 "$QIMG" graph --output json . lost --scan away
  json '.broken | map([.path, .target]) | sort == [
    ["away/far", "../away/gone.qcow2"], ["lost", "gone.qcow2"],
    ["round", "round"]]'
  json '.nodes | length == 3'
  expect_code 3 "$QIMG" graph --output dot .
  says 'style="rounded,dashed", color=red, label="lost\l'
  refuses 1 graph lost : "'lost' is a link to 'gone.qcow2', which is not there"
  # The other commands say the same.
  refuses 1 bitmap list --drive lost : "'gone.qcow2', which is not there" \
    "'ln -sfn IMAGE lost'"
}

@test "two links to a head are names of one drive" {
  mkgraph
  ln -s top.qcow2 second
  ln -s vm third
  expect_code 0 "$QIMG" graph .
  says "drive second (link), also third (link), also vm (link)"
  [ "$(grep -c 'bitmap daily' <<<"$output")" = 1 ]
  expect_code 0 "$QIMG" graph --output json vm second vm top.qcow2
  json '.drives | length == 1 and .[0].path == "vm" and
    .[0]["other-links"] == ["second"]'
  expect_code 0 "$QIMG" graph --output dot vm second
  says 'label="drive vm\lalso: second\l'
}

@test "images that another tool put on a drive" {
  mkgraph
  qemu-img create -q -f qcow2 -b top.qcow2 -F qcow2 mid.qcow2
  qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 head.qcow2
  ln -sfn head.qcow2 vm
  expect_code 0 "$QIMG" graph --output json .
  json '[.nodes[] | select(.marks == ["foreign"]) | .path] | sort ==
    ["head.qcow2", "mid.qcow2"]'
  json '.drives[] | select(.link) | .bitmaps[0] | .status == "estimated" and
    (.reason | contains("head.qcow2"))'
  # The drive continues above a layer that is foreign.
  qimg bitmap clear -q --drive vm daily 2>/dev/null
  expect_code 0 "$QIMG" graph .
  [ "$(grep -c 'foreign: made by another tool' <<<"$output")" = 1 ]
  expect_code 0 "$QIMG" graph --output json .
  json '[.nodes[] | select(.marks != []) | .path] == ["mid.qcow2"]'
}

@test "layers that are of no use any more" {
  qimg create -q -f qcow2 vm.qcow2 1M
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg snapshot create -q --drive vm.qcow2 first
  local from
  for from in . vm.qcow2 'vm@first.qcow2'; do
    expect_code 0 "$QIMG" graph --output json "$from"
    json '[.nodes[].marks[]] == []'
  done
  mkdir away
  mv vm.qcow2 away
  for from in . 'vm@first.qcow2'; do
    expect_code 0 "$QIMG" graph --output json "$from"
    json '.nodes | map(.marks) == [["unused"]]'
    json '.drives == []'
  done
  # A head is none of them, even if it was a layer.
  ln -s 'vm@first.qcow2' link
  expect_code 0 "$QIMG" graph .
  says "drive link" "frozen"
  [[ $output != *unused* ]]
}

@test "a layer that was changed for another" {
  qimg create -q -f qcow2 vm.qcow2 1M
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg snapshot create -q --drive vm.qcow2 first
  qimg create -q -f qcow2 other.qcow2 1M
  qemu-img rebase -u -b other.qcow2 -F qcow2 vm.qcow2
  expect_code 0 "$QIMG" graph vm.qcow2
  says "parent-changed: the layer below is not the one" "full ('vm.qcow2': "
  [[ $output != *"snapshot first"* ]]
  expect_code 0 "$QIMG" graph --output json vm.qcow2
  json '.nodes[0].marks == ["parent-changed"] and .nodes[1].marks == []'
  # Nothing below is another layer, too; one that is gone is only gone.
  qemu-img rebase -u -b "" vm.qcow2
  expect_code 0 "$QIMG" graph --output json vm.qcow2
  json '.nodes[0].marks == ["parent-changed"]'
  qemu-img rebase -u -b gone.qcow2 -F qcow2 vm.qcow2
  expect_code 3 "$QIMG" graph --output json vm.qcow2
  json '.nodes[0].marks == ["orphan"]'
}

@test "a command that was interrupted" {
  qimg create -q -f qcow2 a.qcow2 1M
  ln -s a.qcow2 vm
  qimg bitmap add -q --drive vm daily
  qimg snapshot create -q --drive vm --overlay b.qcow2 first
  QIMG_FAULT=unlink:1:kill run_qimg commit --drive vm
  [ "$(readlink vm)" = a.qcow2 ]
  [ -e b.qcow2 ]
  expect_code 0 "$QIMG" graph .
  says "unfinished: commit was interrupted: run the same command again"
  [[ $output != *"snapshot first"* ]]
  expect_code 0 "$QIMG" graph --output json .
  json '.nodes | map([.path, .marks, .unfinished]) | sort ==
    [["a.qcow2", [], null], ["b.qcow2", ["unfinished"], "commit"]]'
  json '.drives | map(.path) == ["vm"]'
  qimg commit -q --drive vm
  expect_code 0 "$QIMG" graph --output json .
  json '.nodes | map(.marks) == [[]]'
}

@test "bitmaps that are of no use say why" {
  mkgraph
  hold_image base.qcow2
  crash_holder
  expect_code 0 "$QIMG" graph base.qcow2
  says "audit on node: in use" "(a process has the image open for writing"
  expect_code 0 "$QIMG" graph --output json base.qcow2
  json '.nodes[0].bitmaps[0] | .state == "in use" and
    .["dirty-bytes"] == null and (.reason | contains("did not close it"))'
  hold_image top.qcow2
  crash_holder
  expect_code 0 "$QIMG" graph --output json vm
  json '.drives[0].bitmaps[0] | .status == "full" and
    .["dirty-bytes"] == 2097152 and (.reason | contains("top.qcow2"))'
  expect_code 0 "$QIMG" graph --output dot vm
  says 'color=red, label="drive vm\l' 'color=red, label="base.qcow2\l' \
    "\\l   why: 'top.qcow2': "
}

@test "colours on a terminal alone, and not with NO_COLOR" {
  command -v script >/dev/null || skip "needs script"
  mkgraph
  ln -s gone lost
  qimg bitmap disable -q --drive vm daily
  screen() { script -qec "$QIMG graph ." /dev/null </dev/null || [ $? = 3 ]; }
  TERM=xterm screen >colour
  grep -qF $'\e[33mdaily\e[0m on drive: paused' colour
  grep -qF $'\e[32maudit\e[0m on node' colour
  grep -qF $'\e[31mbroken link: ' colour
  NO_COLOR=1 screen >plain
  grep -qF 'daily on drive: paused' plain
  run ! grep -q $'\e' plain
  expect_code 3 "$QIMG" graph .
  [[ $output != *$'\e'* ]]
}

@test "many images, and long chains" {
  qemu-img create -q -f qcow2 -o cluster_size=512 x.qcow2 1M
  mkdir many chain
  tee many/{1..2000}.qcow2 <x.qcow2 >/dev/null
  # Seconds of processor time: others may be busy.
  ulimit -t 60
  expect_code 0 "$QIMG" graph --output json many
  json '(.nodes | length == 2000) and (.drives | length == 2000)'
  # One that is deeper than a stack.
  qemu-img create -q -f qcow2 -o cluster_size=512 -u -b 0000.qcow2 -F qcow2 \
    y.qcow2 1M
  cp x.qcow2 chain/0000.qcow2
  perl -e 'local $/; my $image = <STDIN>; my $at = index $image, "0000.qcow2";
    die if $at < 0;
    for my $n (1 .. 4999) {
      substr($image, $at, 4) = sprintf "%04d", $n - 1;
      open my $out, ">", sprintf "chain/%04d.qcow2", $n or die;
      print $out $image;
    }' <y.qcow2
  [ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -gt 5100 ] ||
    skip "needs 5000 open files"
  "$QIMG" graph --output json chain/4999.qcow2 >out
  jq -e '.nodes | length == 5000' out
  "$QIMG" graph chain/4999.qcow2 | tail -n 2 >out
  grep -q '   `- chain/4999.qcow2: qcow2, 1 MiB' out
  grep -q '   drive chain/4999.qcow2' out
}
