#!/usr/bin/env bats
# The manual: its markup, and its examples, which are run as they stand.
#
# A line of a literal display that starts with "$ " is a command; one that
# starts with "> " continues it. The commands of a page run in order, in one
# shell, in a folder that is empty at first. Each has to succeed, unless it
# ends with "# exit status N".

load helpers

pages() {
  printf '%s\n' "$QIMG_SRC"/man/*.[17]
}

# Prints a page as text, wide, without overstrikes.
page_text() {
  mandoc -Tascii -O width=1000 "$1" | sed 's/.\x08//g'
}

# Prints the commands of a page, one a line.
commands_of() {
  # shellcheck disable=SC2016 # they are fields of awk
  page_text "$1" | awk '
    /^ *[$] / { if (n++) print command; sub(/^ *[$] /, ""); command = $0 }
    /^ *> / { sub(/^ *> /, ""); sub(/\\$/, "", command)
              command = command $0 }
    END { if (n) print command }'
}

# Makes of commands on stdin a script that stops at the first surprise.
script_of() {
  local command want
  while IFS= read -r command; do
    want=0
    [[ $command =~ '# exit status '([0-9]+)$ ]] && want=${BASH_REMATCH[1]}
    printf 'echo %q\n' "\$ $command"
    printf '%s\n' "$command"
    # shellcheck disable=SC2016 # the script expands them
    printf 'got=$?; [ $got = %s ] || { echo "exit status $got"; exit 1; }\n' \
      "$want"
  done
}

# run_examples PAGE: the page has examples, and they do what they should.
run_examples() {
  local name=${1##*/}
  commands_of "$1" | script_of >"$name.sh"
  [ -s "$name.sh" ] || {
    echo "man/$name: no examples"
    return 1
  }
  mkdir "$name"
  (cd "$name" && bash "../$name.sh" </dev/null) >"$name.log" 2>&1 || {
    echo "man/$name:"
    cat "$name.log"
    return 1
  }
}

# names WORD: the page on stdin has the word, not as part of another one.
names() {
  grep -qE -- "(^|[^A-Za-z0-9-])$1([^A-Za-z0-9-]|\$)"
}

@test "mandoc finds nothing to warn of" {
  local found
  found=$(pages | xargs mandoc -Tlint -W warning 2>&1) || true
  [ -z "$found" ] || {
    echo "$found"
    return 1
  }
}

# What house.bats says of commands, for their subcommands.
@test "pages name every subcommand and its options" {
  local c s page option missing=0
  for c in $(qimg --complete commands); do
    [ -f "$QIMG_SRC/man/qimg-$c.1" ] || continue
    page=$(page_text "$QIMG_SRC/man/qimg-$c.1")
    for s in $(qimg --complete commands "$c"); do
      names "$c $s" <<<"$page" || {
        echo "man/qimg-$c.1: $s"
        missing=1
      }
      for option in $(qimg --complete options "$c" "$s"); do
        names "$option" <<<"$page" || {
          echo "man/qimg-$c.1: $s $option"
          missing=1
        }
      done
    done
  done
  [ $missing = 0 ]
}

@test "qimg(1) refers to every other page" {
  local page name missing=0
  for page in $(pages); do
    name=${page##*/}
    [ "$name" != qimg.1 ] || continue
    grep -q "^\.Xr ${name%.*} ${name##*.}" "$QIMG_SRC/man/qimg.1" || {
      echo "$name"
      missing=1
    }
  done
  [ $missing = 0 ]
}

@test "the examples of every page work as they stand" {
  local page failed=0
  mkdir bin
  ln -s "$QIMG" bin/qimg
  PATH=$PWD/bin:$PATH
  for page in $(pages); do
    run_examples "$page" || failed=1
  done
  [ $failed = 0 ]
}
