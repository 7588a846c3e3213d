#!/usr/bin/env bats
# The program itself: how it finds its command, options, help, completions.

load ../helpers
load common

commands() {
  qimg --complete commands | grep -vx help
}

# pairs: every command and subcommand, one a line
pairs() {
  local c s
  for c in $(commands); do
    echo "$c"
    for s in $(qimg --complete commands "$c"); do echo "$c $s"; done
  done
}

# -------------------------------------------------------------- dispatch

@test "without a command: usage on stderr, exit code 2" {
  expect_code 2 "$QIMG"
  [ -z "$output" ]
  [[ $stderr == "usage: qimg COMMAND"* ]]
}

@test "--version, -V" {
  local o
  for o in --version -V; do
    expect_code 0 "$QIMG" "$o"
    [[ $output =~ ^"qimg "[0-9]+[.][0-9]+[.][0-9]+$ ]]
  done
}

@test "--version of every command" {
  local path version
  version=$(qimg --version)
  while read -r path; do
    # shellcheck disable=SC2086 # command and subcommand
    expect_code 0 "$QIMG" $path --version
    [ "$output" = "$version" ]
    [ -z "$stderr" ]
  done < <(pairs)
  refuses 2 graph --version=1 : "option --version takes no value"
}

@test "a link named qimg-COMMAND runs the command" {
  ln -s "$QIMG" qimg-create
  ln -s "$QIMG" qimg-info
  ln -s "$QIMG" qimg-bitmap
  ln -s "$QIMG" qimg-nothing
  expect_code 0 ./qimg-create -q -f qcow2 a.qcow2 1M
  expect_code 0 ./qimg-info a.qcow2
  says "image: a.qcow2"
  expect_code 0 ./qimg-bitmap list a.qcow2
  expect_code 2 ./qimg-nothing
  complains "unknown command 'nothing'"
}

@test "a link named qemu-img understands commands" {
  ln -s "$QIMG" qemu-img
  expect_code 0 ./qemu-img create -q -f qcow2 a.qcow2 1M
  expect_code 0 ./qemu-img check a.qcow2
}

@test "an unknown command is answered with the nearest one" {
  local try
  for try in cretae:create inof:info snapshto:snapshot bitmpa:bitmap; do
    refuses 2 "${try%:*}" : "unknown command '${try%:*}'" \
      "did you mean '${try#*:}'?"
  done
  refuses 2 frobnicate : "unknown command 'frobnicate'" "'qimg --help'"
  [[ $stderr != *"did you mean"* ]]
  refuses 2 bitmap ad : "did you mean 'add'?"
  refuses 2 backup lst : "did you mean 'list'?"
  refuses 2 backup -q list : "subcommand 'list' comes before the options"
  refuses 2 bitmap frobnicate : "try 'qimg bitmap --help'"
  refuses 2 bitmap : "needs a subcommand"
  refuses 2 --frobnicate : "unknown option --frobnicate"
}

# ------------------------------------------------------------------ help

@test "--help lists every command with its summary" {
  local c
  for o in --help -h help; do
    expect_code 0 "$QIMG" "$o"
    [ -z "$stderr" ]
    for c in $(commands); do
      grep -qE "^  $c +[a-z].{10,}" <<<"$output"
    done
  done
}

@test "the help of a command has usage, options, subcommands, examples" {
  local path o
  while read -r path; do
    # shellcheck disable=SC2086 # command and subcommand
    expect_code 0 "$QIMG" $path --help
    [ -z "$stderr" ]
    [[ $output == "usage: qimg $path"* ]]
    case $path in
    bitmap | snapshot) says "Subcommands:" ;;
    *) says "Options:" "Examples:" "  qimg $path" "--help" ;;
    esac
    # shellcheck disable=SC2086
    for o in $(qimg --complete options $path); do
      [[ $output =~ [[:space:]]${o}[][:space:],=[] ]] || {
        echo "$path: its help lacks $o"
        false
      }
    done
    # shellcheck disable=SC2086
    [ "$output" = "$(qimg help $path)" ]
    # shellcheck disable=SC2086
    [ "$output" = "$(qimg $path -h)" ]
  done < <(pairs)
}

@test "help of what is not there" {
  refuses 2 help crete : "did you mean 'create'?"
  refuses 2 help bitmap ad : "did you mean 'add'?"
}

@test "examples of the help are command lines that can be read" {
  local path line
  while read -r path; do
    # shellcheck disable=SC2086
    while read -r line; do
      read -ra words <<<"${line%%|*}"
      run_qimg "${words[@]:1}"
      if [[ $stderr == *"try 'qimg "* || $stderr == *"did you mean"* ]]; then
        echo "$line: $stderr"
        false
      fi
    done < <(qimg help $path | sed -n '1,/^Examples:/d; s/^  qimg/qimg/p')
  done < <(pairs)
}

# --------------------------------------------------------------- options

@test "options and arguments may be mixed; -- ends the options" {
  expect_code 0 "$QIMG" create a.raw 1M -f raw -q
  [ -f a.raw ]
  expect_code 0 "$QIMG" info a.raw --output=json
  json '.format == "raw"'
  expect_code 0 "$QIMG" create -q -- -f.raw 1M
  [ -f ./-f.raw ]
}

@test "long options may be shortened, short ones joined" {
  expect_code 0 "$QIMG" create --form qcow2 --quie a.qcow2 1M
  [ "$(format_of a.qcow2)" = qcow2 ]
  expect_code 0 "$QIMG" create -qfqcow2 b.qcow2 1M
  [ "$(format_of b.qcow2)" = qcow2 ]
}

@test "option errors: code 2, or the 1 of qemu-img's own commands" {
  refuses 2 graph --frob : "unknown or ambiguous option --frob" \
    "try 'qimg graph --help'"
  refuses 2 bitmap add -Z : "unknown option -Z" "try 'qimg bitmap add --help'"
  refuses 2 backup --to : "option --to needs a value"
  refuses 2 graph --force-share=3 x : "option --force-share takes no value"
  refuses 2 graph --output xml x : "--output: 'xml' is not one of"
  refuses 2 bitmap add : "an argument is missing"
  refuses 2 bitmap add a b : "unexpected argument 'b'"
  refuses 2 commit --wait=soon : "--wait: 'soon' is not a number from 0"
  refuses 2 commit --progress=much : "--progress: 'much' is not one of"
  refuses 2 commit --wait=2s : "--wait: '2s' is not a number from 0"
  refuses 2 commit -m 3x : "--parallel: '3x' is not a number from 1"
  refuses 2 commit -m 0 : "--parallel: '0' is not a number from 1"
  refuses 2 commit -m 99999999999 : "--parallel: '99999999999' is not"
  refuses 2 bitmap add -g 1x --drive a b : "--granularity: '1x' is not a size"
  local c
  for c in create info check map convert compare; do
    refuses 1 "$c" --frob : "try 'qimg $c --help'"
  done
  refuses 1 create a.raw 1x : "image size '1x' is not a size"
  refuses 1 map -s -1 a.raw : "--start-offset: '-1' is not a size"
}

@test "sizes: units, hexadecimal, fractions, as qemu-img reads them" {
  local size n=0
  for size in 512 1k 1K 3M 0x100000 1.5M 0.3k 1.2345M 010k 2b 1.0 5.5T; do
    if ! qemu-img create -q -f raw "q$n.raw" "$size" 2>/dev/null; then
      # What it does not take may be an error here, too; never another size.
      n=$((n + 1))
      continue
    fi
    expect_code 0 "$QIMG" create -q -f raw "m$n.raw" "$size"
    [ "$(stat -c %s "q$n.raw")" = "$(stat -c %s "m$n.raw")" ] || {
      echo "$size: $(stat -c %s "q$n.raw" "m$n.raw")"
      false
    }
    n=$((n + 1))
  done
  # Some are huge, and the files are read below.
  rm ./*.raw
  for size in -1 1.5 x 1kk 0x1.8k 8E 9223372036854775808 1e3 "" " 1" 1i; do
    refuses 1 create -- e.raw "$size"
  done
}

# ---------------------------------------------------------------- output

@test "a full or closed stdout is an error" {
  local args
  qimg create -q -f qcow2 a.qcow2 1M
  while read -ra args; do
    # shellcheck disable=SC2016
    expect_code 1 bash -c '"$0" "$@" >/dev/full' "$QIMG" "${args[@]}"
    complains "cannot write to standard output: No space left on device"
  done <<'END'
--help
--version
info a.qcow2
info --output json a.qcow2
map a.qcow2
graph a.qcow2
graph --output json a.qcow2
graph --output dot a.qcow2
bitmap list --output json a.qcow2
END
  # shellcheck disable=SC2016
  expect_code 1 bash -c '"$0" info a.qcow2 >&-' "$QIMG"
  complains "cannot write to standard output"
  # shellcheck disable=SC2016
  expect_code 0 bash -c '"$0" create -q b.raw 1M >&-' "$QIMG"
}

@test "a reader of stdout that goes away ends it without a word" {
  # shellcheck disable=SC2016
  expect_code 0 bash -c '"$0" --help | head -1' "$QIMG"
  [ -z "$stderr" ]
}

@test "names cannot drive the terminal" {
  local evil=$'a\e[31m\n.qcow2'
  qimg create -q -f qcow2 "$evil" 1M
  expect_code 0 "$QIMG" info "$evil"
  says 'image: a\x1b[31m\x0a.qcow2'
  expect_code 1 "$QIMG" info $'no\e]0;x\a'
  complains 'no\x1b]0;x\x07'
  expect_code 0 "$QIMG" info --output json "$evil"
  json --arg name "$evil" '.filename == $name'
  printf -v evil 'bad\xff.qcow2'
  mv -- *31m* "$evil"
  expect_code 0 "$QIMG" info --output json "$evil"
  json '.filename == "bad\ufffd.qcow2"'
}

# ----------------------------------------------------------- completions

@test "--complete commands, options, values, arguments" {
  [ "$(qimg --complete commands bitmap | head -3 | xargs)" = "add clear disable" ]
  [ "$(qimg --complete commands help bitmap)" = \
    "$(qimg --complete commands bitmap)" ]
  [ "$(qimg --complete commands help)" = "$(commands)" ]
  [ "$(qimg --complete options | xargs)" = "--help --version" ]
  qimg --complete options map | grep -qx -- --start-offset
  qimg --complete options map | grep -qx -- -s
  qimg --complete options-help map | grep -qP '^-s\tstart here'
  qimg --complete commands-help | grep -qP '^create\tmake an empty image'
  [ "$(qimg --complete values map --output | xargs)" = "human json" ]
  [ "$(qimg --complete values graph --output= | xargs)" = "human json dot" ]
  # What is optional can only follow the equals sign.
  [ -z "$(qimg --complete values commit --progress)" ]
  [ "$(qimg --complete values commit --progress= | xargs)" = \
    "none plain json" ]
  qimg --complete values create -f | grep -qx qcow2
  [ "$(qimg --complete values backup --to)" = :folder ]
  [ "$(qimg --complete arguments info)" = :file ]
  [ "$(qimg --complete arguments bitmap show)" = :bitmap ]
  expect_code 0 "$QIMG" --complete options nothing
  expect_code 2 "$QIMG" --complete
}

@test "--complete bitmaps, node-bitmaps, points: quiet about what is not" {
  qimg create -q -f qcow2 vm.qcow2 1M
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg bitmap add -q --node vm.qcow2 audit
  qimg backup -q --full --drive vm.qcow2 --bitmap daily --to repo
  [ "$(qimg --complete bitmaps vm.qcow2)" = daily ]
  [ "$(qimg --complete node-bitmaps vm.qcow2)" = audit ]
  [[ $(qimg --complete points repo) =~ ^000001-[0-9TZ]+$ ]]
  local kind
  for kind in bitmaps node-bitmaps points; do
    expect_code 0 "$QIMG" --complete "$kind" nothing
    [ -z "$output$stderr" ]
  done
}

# offered WORD...: what bash would offer for the last word.
offered() {
  # shellcheck disable=SC2016
  PATH=${QIMG%/*}:$PATH bash --norc -c '
    . "$QIMG_SRC/completions/qimg.bash"
    complete -p qimg >/dev/null || exit 1
    COMP_WORDS=(qimg "$@")
    COMP_CWORD=$#
    _qimg
    echo "${COMPREPLY[*]}"' _ "$@"
}

@test "bash offers what fits" {
  qimg create -q -f qcow2 vm.qcow2 1M
  qimg bitmap add -q --drive vm.qcow2 daily
  qimg bitmap add -q --node vm.qcow2 audit
  qimg backup -q --full --drive vm.qcow2 --bitmap daily --to repo
  [ "$(offered cre)" = create ]
  [ "$(offered --v)" = --version ]
  [ "$(offered hel)" = help ]
  [ "$(offered help gra)" = graph ]
  [ "$(offered help bitmap cl)" = clear ]
  [ "$(offered bitmap gra)" = "" ]
  [ "$(offered bitmap cl)" = clear ]
  [ "$(offered map --start)" = --start-offset ]
  [ "$(offered info --output js)" = json ]
  [ "$(offered info --output = js)" = json ]
  [ "$(offered info --output =)" = "human json" ]
  [ "$(offered commit --progress = p)" = plain ]
  [ "$(offered create -f qc)" = qcow2 ]
  [ "$(offered info vm)" = vm.qcow2 ]
  [ "$(offered backup --to rep)" = repo ]
  [ "$(offered bitmap show --drive vm.qcow2 d)" = daily ]
  [ "$(offered bitmap show --node = vm.qcow2 a)" = audit ]
  [[ $(offered restore --from repo --at 0000) =~ ^000001- ]]
}

@test "bash completes at its prompt" {
  command -v script >/dev/null || skip "needs script"
  local bin=${QIMG%/*}
  # The shell is asked to run what it has completed.
  (
    printf '. "%s"\n' "$QIMG_SRC/completions/qimg.bash"
    sleep 0.3
    printf 'qimg crea\t-q -f qc\there.qc'
    printf 'ow2 1M\nexit\n'
  ) | PATH=$bin:$PATH HOME=$PWD timeout 20 \
    script -qec 'bash --norc --noprofile -i' /dev/null >screen 2>&1
  cat screen
  [ "$(format_of here.qcow2)" = qcow2 ]
}

@test "fish offers what fits" {
  command -v fish >/dev/null || skip "needs fish"
  qimg create -q -f qcow2 vm.qcow2 1M
  qimg bitmap add -q --drive vm.qcow2 daily
  # shellcheck disable=SC2016
  ask() {
    PATH=${QIMG%/*}:$PATH HOME=$PWD fish --no-config -c '
      source $QIMG_SRC/completions/qimg.fish
      complete -C $argv[1]' "$1" | cut -f1 | xargs
  }
  [ "$(ask 'qimg cre')" = create ]
  [ "$(ask 'qimg help gra')" = graph ]
  [ "$(ask 'qimg bitmap cl')" = clear ]
  [ "$(ask 'qimg info --output js')" = json ]
  [ "$(ask 'qimg graph --output=d')" = --output=dot ]
  [ "$(ask 'qimg bitmap show --drive vm.qcow2 d')" = daily ]
}

@test "zsh can read its completion" {
  command -v zsh >/dev/null || skip "needs zsh"
  zsh -n "$QIMG_SRC/completions/_qimg"
  [[ $(head -1 "$QIMG_SRC/completions/_qimg") == "#compdef qimg" ]]
}
