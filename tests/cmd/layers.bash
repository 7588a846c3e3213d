# A drive of several layers with a bitmap, and what is true of it: loaded after
# helpers and common by the tests of commands that make layers one.
# shellcheck shell=bash

# Where a test may keep a copy of its folder.
# shellcheck disable=SC2034 # tests use it
copy=$BATS_TEST_TMPDIR.copy

# mklayers link|plain: drive d of three layers, with snapshots t1 and t2, and a
# bitmap since the lowest; N.raw is the content at tN, want.raw the present one.
mklayers() {
  qemu-img create -q -f qcow2 one.qcow2 4M
  write one.qcow2 'write -P 1 0 2M'
  if [ "$1" = link ]; then ln -s one.qcow2 d; else mv one.qcow2 d; fi
  qimg bitmap add -q --drive d b
  write d 'write -P 2 1M 64k'
  layer t1 two.qcow2 'write -P 3 3M 64k' 'write -z 64k 64k'
  layer t2 three.qcow2 'write -P 4 2M 64k'
  qemu-img convert -O raw d want.raw
}

# layer TAG FILE COMMAND...: a snapshot, then writes into the new head.
layer() {
  qemu-img convert -O raw d "$1.raw"
  if [ -L d ]; then
    qimg snapshot create -q --drive d --overlay "$2" "$1"
  else
    qimg snapshot create -q --drive d "$1"
  fi
  [ $# = 2 ] || write d "${@:3}"
}

# dirty [NAME]: "OFFSET+LENGTH" in KiB of each extent, after the status.
dirty() {
  qimg bitmap show --drive d "${1:-b}" --output json |
    jq -r '[.status, (.extents[] |
      "\(.offset / 1024)+\(.length / 1024)")] | join(" ")'
}

is_dirty() {
  [ "$(dirty "${2:-b}")" = "$1" ] || {
    echo "dirty: $(dirty "${2:-b}"), not $1"
    return 1
  }
}

# layers: of drive d, topmost first, each as FILE or FILE=SNAPSHOT.
layers() {
  qimg snapshot list --drive d --output json | jq -r '[.layers[] |
    (.node | sub(".*/"; "")) + if .snapshot then "=" + .snapshot else "" end] |
    join(" ")'
}

have() {
  [ "$(layers)" = "$1" ] || {
    echo "layers: $(layers), not $1"
    return 1
  }
}

# sound [RAW]: content as in it, and no image has a fault.
sound() {
  local f
  qemu-img compare -q -F raw d "${1:-want.raw}"
  for f in d *.qcow2; do
    [ ! -e "$f" ] || oracle_check "$f"
  done
  no_hidden_files
}

# as_planned COMMAND...: --dry-run changes nothing, and tells the steps that
# the command then does, and how many bytes it copies.
as_planned() {
  local before bytes plan
  before=$(state)
  expect_code 0 qimg "$@" --dry-run --output json
  json '.["dry-run"] and (.steps | length > 0)'
  plan=$(jq -c '[.steps[] | sub("[:] [0-9]+ bytes.*"; "")]' <<<"$output")
  bytes=$(jq .bytes <<<"$output")
  [ "$before" = "$(state)" ]
  expect_code 0 qimg "$@" --dry-run
  says 'nothing was changed'
  [ "$before" = "$(state)" ]
  expect_code 0 qimg "$@" --output json
  json --argjson plan "$plan" --argjson bytes "$bytes" '
    (.["dry-run"] | not) and .drive == "d" and .bytes == $bytes and
    [.steps[] | sub("[:] [0-9]+ bytes.*"; "")] == $plan'
}
