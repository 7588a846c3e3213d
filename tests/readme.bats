#!/usr/bin/env bats
# shellcheck disable=SC2016 # backquotes are Markdown's, not the shell's
# README.md says what is true: its command lines work, its tour prints what it
# shows, its commands exist, and those that it says are missing are.

load helpers

readme=$QIMG_SRC/README.md

# blocks LANGUAGE: the lines of all blocks of that language.
blocks() {
  awk -v start="\`\`\`$1" '
    $0 == "```" { inside = 0 }
    inside { print }
    $0 == start { inside = 1 }' "$readme"
}

# section TITLE: the lines between this heading or line and the next heading.
section() {
  awk -v title="$1" '
    /^## / { inside = 0 }
    inside { print }
    $0 == title { inside = 1 }' "$readme"
}

# quoted REGEX [FILE]: what matches, without the backquotes.
quoted() {
  grep -oE "$@" | tr -d '`' | sort -u
}

# masked: output without what differs from run to run: times, ids, and sizes of
# files, which depend on the file system. Lines may be drawn in UTF-8.
masked() {
  sed -E 's/└─/`-/g
    s/[0-9]{8}T[0-9]{6}Z/TIME/g
    s/[0-9]{4}(-[0-9]{2}){2} [0-9:]{8}/TIME/g
    s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g
    s/[0-9.]+ [KMG]iB( on disk| of files|  never|$)/SIZE\1/g
    s/[0-9.]+ s /SECONDS /g
    s/ +/ /g'
}

@test "the two command lines are the first thing, and work" {
  cd "$QIMG_SRC"
  run -0 blocks sh
  [ "${lines[0]}" = ".ci/deps && make -j2 demo" ]
  [ "${lines[1]}" = ".ci/deps && make -j2 check" ]
  [ "${#lines[@]}" = 2 ]
  # Within a screen of 25 lines.
  [ "$(grep -nF "${lines[1]}" "$readme" | cut -d: -f1)" -le 25 ]
  grep -qxF "suite='${lines[1]}'" .ci/run
  [ -x .ci/deps ]
  # What a make of them would run. It writes its tables even so: not into a
  # build that another make is at.
  env -u MAKEFLAGS make -n B="$BATS_TEST_TMPDIR/b" demo | grep -q tests/demo
  env -u MAKEFLAGS make -n B="$BATS_TEST_TMPDIR/b" check | grep -q tests/run
  [ -x tests/demo ]
  [ -x tests/run ]
}

@test "targets and files that it names exist" {
  local what
  cd "$QIMG_SRC"
  while read -r what; do
    grep -qE "^\.PHONY:.* $what( |\$)" Makefile || {
      echo "no target $what"
      false
    }
  done < <(quoted '`make [a-z]+[ `]' "$readme" | cut -d' ' -f2)
  for what in $(section "## Where things are" |
    awk '/^```/ { inside = !inside } inside && /^[a-z.M]/ { print $1 }'); do
    what=${what/NAME/backup}
    [ -e "$what" ] || {
      echo "$what is not there"
      false
    }
  done
}

@test "commands and options that it shows exist" {
  local -a word
  local w help
  while read -ra word; do
    if [[ ${word[0]} == -* ]]; then # qimg --version
      qimg "${word[@]}" >/dev/null
      continue
    fi
    if [[ ${word[1]-} =~ ^[a-z]+$ ]] &&
      qimg "${word[0]}" --help | grep -q "^  ${word[1]} "; then
      help=$(qimg "${word[0]}" "${word[1]}" --help)
    else
      help=$(qimg "${word[0]}" --help)
    fi
    for w in "${word[@]}"; do
      case $w in
      -*) grep -qE -- "(^|[ ,])$w([ ,[]|\$)" <<<"$help" || {
        echo "${word[*]}: no option $w"
        return 1
      } ;;
      esac
    done
  done < <(
    {
      blocks console | sed -n 's/^\$ qimg //p'
      blocks text | sed -n 's/^\$ qimg //p'
      quoted '`qimg [^`]+`' "$readme" | sed 's/^qimg //'
    } | sort -u
  )
}

# No help of a command that is not there: qimg exits with 2.
@test "what it says works does, and what is missing is" {
  local -a word
  local text
  text=$(section "## What works, and what does not yet")
  while read -ra word; do
    if [ "${#word[@]}" = 2 ]; then
      qimg "${word[0]}" --help | grep -q "^  ${word[1]} "
    else
      qimg "${word[0]}" --help >/dev/null
    fi
  done < <(quoted '`qimg [a-z ]+`' <<<"$text" | cut -d' ' -f2-)
  while read -ra word; do
    if [ "${#word[@]}" = 2 ]; then
      ! qimg "${word[0]}" --help | grep "^  ${word[1]} "
    else
      expect_code 2 qimg "${word[0]}" --help
    fi || {
      echo "it is there, and README.md says that it is not: ${word[*]}"
      return 1
    }
  done < <(sed '1,/^Not there yet/d; /^It will not/,$d' <<<"$text" |
    quoted '`[a-z]+( [a-z]+)?`')
}

@test "every command of the program is named" {
  local c
  for c in $(qimg --help | sed -n '/^Commands:/,$ s/^  \([a-z]*\) .*/\1/p'); do
    grep -qE "\`qimg ${c}[ \`]" "$readme" || {
      echo "README.md does not name qimg $c"
      return 1
    }
  done
}

@test "the tour prints what it shows" {
  local command
  blocks console >shown
  # It is found where a link can point to.
  unset -f qimg
  mkdir path tour
  ln -s "$QIMG" path/qimg
  PATH=$PWD/path:$PATH
  cd tour
  sed -n 's/^\$ //p' ../shown >../commands
  while read -r command; do
    echo "\$ $command"
    eval "$command" </dev/null
  done <../commands >../printed 2>&1
  diff -u <(masked <../shown) <(masked <../printed)
}

@test "exit codes are those of the library" {
  local code
  for code in 0 1 2 3 4 5 6 7 130; do
    section "## Exit codes" | grep -q "^| $code |"
  done
}
