#!/usr/bin/env bats
# tests/bench/speed works: it measures, says what is wrong, and what it makes of
# its figures is well formed. How fast anything is, is not asked here.

load ../helpers

speed() {
  "$QIMG_SRC/tests/bench/speed" "$@"
}

# balanced FILE: tags are closed in the right order, and it has no other < or &.
balanced() {
  perl -0777 -ne '
    s/&(amp|lt|quot);//g;
    while (s{^[^<&]*<(/?)(\w+)(( [\w:-]+="[^"<&]*")*)(/?)>}{}) {
      if ($1) { (pop @open // "") eq $2 or die "</$2> closes nothing\n" }
      elsif (!$5) { push @open, $2 }
    }
    die "unclosed: @open; left: ", substr $_, 0, 80 if @open or /\S/;
  ' "$1"
}

@test "a quick run: table, JSON, chart, Markdown" {
  # The memory and the size of files must hold even so.
  expect_code 0 speed --quick --save saved \
    --only '^(start|convert raw|convert -c, zlib|resize|200 layers: map|XFS: convert raw to raw)'
  printf '%s\n' "$output"
  [[ $output == *"A QUICK RUN: these are no results"* ]]
  [[ $output == *"XFS: convert raw to raw "*"not measured: not in a quick run"* ]]
  jq -e '
    def measured: .seconds > 0 and .cpu > 0 and .memory > 1000000 and
      (.runs | length == 1);
    .data.quick and (.cases | length == 6) and
    (.cases[:-1] | all(.ratio > 0 and .distance > 0 and
      (.qimg | measured) and (."qemu-img" | measured))) and
    (.cases[] | select(.name == "convert raw to qcow2") |
      .qimg.written > 10e6 and .limit.what == "write") and
    (.cases[] | select(.command | startswith("convert -c")) |
      .qimg.size <= ."qemu-img".size and .larger == false) and
    (.cases[-1] | has("not-measured"))' saved/speed.json

  expect_code 0 speed --from saved/speed.json --markdown --svg again.svg
  [[ $output == *"| start: info | "*"| 2 | "* ]]
  [[ $output == *"A QUICK RUN"* ]]
  cmp again.svg saved/speed.svg
  balanced again.svg
  [ "$(grep -c 'class="target"' again.svg)" = 5 ]
}

# Each case of these files has a fault of its own.
@test "what fails is told, and is no result" {
  cat >cases <<'EOT'
no file | 2 | 64 | start | - | info small/none.qcow2
$memory | 2 | 1 | start | - | info small/disk.qcow2
slow | 1000000 | 64 | start | - | info small/disk.qcow2
EOT
  expect_code 1 speed --quick --cases cases
  [[ $output == *"no file "*"FAILED: qemu-img info small/none.qcow2: "*"No such file"* ]]
  [[ $output == *'$memory '*"MEMORY"* ]]
  [[ $output == *"slow "*"  missed"* ]]
  [[ $output == *"1 failed, 0 larger, 1 with too much memory"* ]]
  expect_code 1 speed --quick --cases cases --only slow --strict
  [[ $stderr == "speed: "* ]]
}

@test "a qimg that fails, or writes what differs or is larger, is found out" {
  cat >bad <<'EOT'
#!/bin/bash
case $1 in
info) echo "out of order" >&2 && exit 1 ;;
convert)
  [ "$2" != -c ] || exec qemu-img convert -f raw -O qcow2 "${@: -2}"
  exec qemu-img create -q -f qcow2 "${@: -1}" 64M
  ;;
*) echo "qimg 0" ;;
esac
EOT
  chmod +x bad
  QIMG=$PWD/bad expect_code 1 speed --quick --json \
    --only '^(start|convert raw to qcow2|convert -c, zlib)'
  jq -e '.cases | length == 3 and
    (.[0].failed | test("^qimg info .*out of order")) and
    (.[1].failed | test("they differ")) and
    (.[2].larger) and all(.[:2][]; has("ratio") | not)' <<<"$output"
}
