#!/usr/bin/env bats
# The rules of the house: who includes whom, what the library may call and
# export, how long things are, what every command must have.

load helpers

setup() {
  cd "$QIMG_SRC" || exit 1
}

# Prints the project's files that match, committed or about to be.
files() {
  git -c safe.directory='*' ls-files -co --exclude-standard -- "$@" |
    sort -u | while read -r f; do
      if [ -f "$f" ]; then echo "$f"; fi
    done
}

# Fails, and says why, when there is something on stdin.
none() {
  local found
  found=$(cat)
  [ -z "$found" ] || {
    printf '%s:\n%s\n' "$1" "$found"
    return 1
  }
}

# Prints "FILE: INCLUDED" for what the files on stdin include of the project,
# except that which matches the pattern.
includes_except() {
  # shellcheck disable=SC2016 # they are fields of awk
  xargs -r awk -v allowed="^($1)\$" '
    /^#[ \t]*include[ \t]*"/ {
      split($0, part, "\"")
      if (part[2] !~ allowed)
        print FILENAME ": " part[2]
    }'
}

# objects LIST [FOLDER]: prints the objects of the library (lib) or of the
# program (cmd), those below a folder of the tree.
objects() {
  find "$QIMG_BUILD/${2-}" -name '*.o' | awk -v build="$QIMG_BUILD" '
    NR == FNR { list = list $0 " "; next }
    index(list, substr($0, length(build) + 1) " ")' "$QIMG_BUILD/$1.list" -
}

# ------------------------------------------------------- who includes whom

@test "cmd includes lib/qimg.h and cmd/common alone" {
  files 'cmd/*.[ch]' |
    grep -vE '^cmd/(qemu-img/|common/main[.]c$)' |
    includes_except 'lib/qimg[.]h|cmd/common/[a-z0-9_-]+[.]h' |
    none "included by cmd"
  # What is called qemu-img has a room of its own, and main opens the door.
  files 'cmd/qemu-img/*.[ch]' cmd/common/main.c |
    includes_except 'lib/qimg[.]h|cmd/(qemu-img/)?common/[a-z0-9_-]+[.]h' |
    none "included by cmd/qemu-img"
}

# The parts of the public header find each other where they are installed.
@test "lib includes lib alone" {
  files 'lib/*.[ch]' | includes_except 'lib/[a-z0-9_]+[.]h|qimg[a-z-]*[.]h' |
    none "included by lib"
}

@test "a format includes lib and its own folder alone" {
  local f name
  for f in $(files 'formats/*.[ch]'); do
    name=${f#formats/}
    name=${name%%/*}
    name=${name%.[ch]}
    echo "$f" |
      includes_except "lib/[a-z0-9_]+[.]h|formats/$name/[a-z0-9_]+[.]h"
  done | none "included by formats"
}

@test "every header compiles alone" {
  local h
  for h in $(files 'lib/*.h' 'formats/*.h' 'cmd/*.h' 'tests/*.h'); do
    # shellcheck disable=SC2086 # both are words
    echo "#include \"$h\"" | $QIMG_CC -std=c11 $QIMG_CPPFLAGS \
      -fsyntax-only -x c - 2>&1 || echo "$h"
  done | none "headers that need others first"
}

# -------------------------------------------------- what the library is

@test "global symbols carry qi_ or the name of their format" {
  objects lib | xargs nm -A -g --defined-only | awk -v build="$QIMG_BUILD/" '
    {
      file = substr($1, 1, index($1, ":") - 1)
      sub(build, "", file)
      name = "qi"
      if (match(file, "formats/[^/.]*"))
        name = "qi|" substr(file, RSTART + 8, RLENGTH - 8)
    }
    $3 !~ "^((" name ")_|__odr_asan|__asan|DW\\.ref)" { print file ": " $3 }' |
    none "symbols without prefix"
}

# The linker says nothing when the program has its own of what is in an
# archive, and then all callers get that one.
@test "program and library define nothing twice" {
  { objects lib && objects cmd; } | xargs nm -g --defined-only |
    awk '$2 ~ /[TDBR]/ { print $3 }' | grep -v '^__' | sort | uniq -d |
    none "defined twice"
}

@test "lib and formats neither print nor exit" {
  { objects lib lib && objects lib formats; } | xargs nm -A -u | awk '
    { sub(/^_*/, "", $3); sub(/_chk$/, "", $3); sub(/@.*/, "", $3) }
    $3 ~ /^(v?f?printf|puts|putchar|perror|stdout|stderr)$/ ||
    $3 ~ /^(_?exit|_Exit|quick_exit|abort|errx?|warnx?)$/ {
      print $1 " " $3
    }' | none "called by the library"
}

# ----------------------------------------------------------- how it reads

@test "no source file is over 600 lines" {
  files '*.c' '*.h' | xargs -r wc -l |
    awk '$1 > 600 && $2 != "total" { print $2 ": " $1 }' | none "too long"
}

@test "no function is over 120 lines" {
  # shellcheck disable=SC2016 # they are fields of awk
  files '*.c' '*.h' | xargs -r awk '
    FNR == 1 { start = 0 }
    /^[a-z]/ { head = $0 }
    /^\{/ { start = FNR }
    /^\}/ && start {
      if (FNR - start > 121)
        print FILENAME ":" start ": " FNR - start - 1 " lines: " head
      start = 0
    }' /dev/null | none "too long"
}

@test "nothing is left to do" {
  # In two halves, or it would find itself.
  files | xargs -r grep -nIE "\\b(TO""DO|FIX""ME|X""XX)\\b" /dev/null |
    none "left to do"
}

@test "no path of somebody's machine" {
  files | xargs -r grep -nIE \
    '(^|[^A-Za-z0-9_.$}/-])/(home|root|Users|work|workspace|build)/[a-z]' \
    /dev/null | none "absolute paths"
}

@test "the top level has what it has" {
  files | cut -d/ -f1 | sort -u |
    { grep -vxE 'cmd|lib|formats|man|tests|completions|Makefile|README\.md|LICENSE|\..*' || true; } |
    none "at the top level"
}

# ------------------------------------------------ what every command has

commands() {
  files 'cmd/*.c' | sed -n 's|^cmd/\([^/]*\)\.c$|\1|p'
}

@test "every command has a man page and tests" {
  local c f
  for c in $(commands); do
    for f in "man/qimg-$c.1" "tests/cmd/$c.bats"; do
      [ -f "$f" ] || echo "$f"
    done
  done | none "missing"
}

@test "every format has tests" {
  local f
  for f in $(files 'formats/*.c' | sed 's|^formats/||; s|[./].*||' | sort -u); do
    [ -f "tests/formats/$f.bats" ] || grep -qw "$f" tests/formats/foreign.bats ||
      echo "tests/formats/$f.bats"
  done | none "missing"
}

# options_of COMMAND: its options and those of its subcommands.
options_of() {
  local s
  qimg --complete options "$1"
  for s in $(qimg --complete commands "$1"); do
    qimg --complete options "$1" "$s"
  done
}

@test "man pages name every option of their command" {
  local c page option
  for c in $(commands); do
    [ -f "man/qimg-$c.1" ] || continue
    # Wide, so that no option is broken; without overstrikes.
    page=$(mandoc -Tascii -O width=1000 "man/qimg-$c.1" | sed 's/.\x08//g')
    for option in $(options_of "$c"); do
      [[ $page =~ [^A-Za-z0-9-]${option}[^A-Za-z0-9-] ]] ||
        echo "man/qimg-$c.1: $option"
    done
  done | none "options without a word in the man page"
}

@test "pages that are referred to exist" {
  local page
  files 'man/*.[17]' | xargs -r grep -ho '^\.Xr qimg[^ ]* [17]' |
    awk '{ print $2 "." $3 }' | sort -u | while read -r page; do
      [ -f "man/$page" ] || echo "$page"
    done | none "missing"
}
