#!/usr/bin/env bats
# make install and uninstall, staged, in a copy of the tree that is built
# already: nothing here touches the build that other tests use.

load helpers

setup() {
  local part
  mkdir -p src/build
  for part in Makefile cmd lib formats man completions; do
    # shellcheck disable=SC2153 # it is assigned, and so is QIMG_SAN
    cp -a "$QIMG_SRC/$part" src/
  done
  for part in cmd lib formats gen config.mk flags lib.list cmd.list \
    libqimg.a qimg; do
    cp -a "$QIMG_BUILD/$part" src/build/
  done
}

# The variables of the make that runs the tests (SAN, CC, ...) are inherited.
stage() {
  make -C src B=build PREFIX=/opt/qimg DESTDIR="$PWD/to stage" "$@"
}

# What has to be there, below PREFIX, with its mode.
expected() {
  local page
  cat <<'END'
644 include/qimg.h
644 include/qimg-backup.h
644 include/qimg-bitmap.h
644 include/qimg-drive.h
644 include/qimg-image.h
644 lib/libqimg.a
644 lib/systemd/system/qimg-backup@.service
644 lib/systemd/system/qimg-backup@.timer
644 share/bash-completion/completions/qimg
644 share/doc/qimg/examples/qimg.cron
644 share/doc/qimg/examples/vm.conf
644 share/fish/vendor_completions.d/qimg.fish
644 share/zsh/site-functions/_qimg
755 bin/qimg
755 share/doc/qimg/examples/backup-guest
END
  for page in "$QIMG_SRC"/man/*.[17]; do
    printf '644 share/man/man%s/%s\n' "${page##*.}" "${page##*/}"
  done
}

installed() {
  find "to stage/opt/qimg" ! -type d -printf '%m %P\n' | sort
}

@test "install puts exactly these files there; uninstall takes them away" {
  umask 077
  stage install
  diff <(expected | sort) <(installed)
  [ -z "$(find "to stage" -type d ! -perm 755)" ]
  # Again, over what is there.
  stage install
  diff <(expected | sort) <(installed)
  echo mine >"to stage/opt/qimg/share/man/man1/other.1"
  stage uninstall
  [ "$(find "to stage" ! -type d -printf '%P\n')" = \
    opt/qimg/share/man/man1/other.1 ]
  # Nothing is there any more, and that is no error.
  stage uninstall
}

@test "what is installed works" {
  local prefix="$PWD/to stage/opt/qimg"
  stage install
  "$prefix/bin/qimg" --version
  cmp "$prefix/bin/qimg" "$QIMG_BUILD/qimg" ||
    [ "$("$prefix/bin/qimg" --help)" = "$(qimg --help)" ]
  bash --norc -c '. "$1" && complete -p qimg' _ \
    "$prefix/share/bash-completion/completions/qimg"
  mandoc -Tlint -W error "$prefix"/share/man/man?/*
  # What runs it finds it there.
  grep -q '^ExecStart=/opt/qimg/bin/qimg backup ' \
    "$prefix/lib/systemd/system/qimg-backup@.service"
  grep -q '^PATH=/opt/qimg/bin:' "$prefix/share/doc/qimg/examples/qimg.cron"
  run -1 grep -r /usr/local "$prefix/lib/systemd" "$prefix/share/doc"
}

@test "the header and the library are all that a program needs" {
  local libs
  stage install
  cat >program.c <<'END'
#include <qimg.h>
#include <stdio.h>

int main(void)
{
	uint64_t size;

	if (!qi_parse_size("1.5G", &size))
		return 1;
	printf("%llu\n", (unsigned long long)size);
	return 0;
}
END
  $QIMG_CC -std=c11 -Wall -Werror -fsyntax-only \
    -I "to stage/opt/qimg/include" program.c
  # With sanitizers a program needs those, too.
  [ -z "$QIMG_SAN" ] || return 0
  read -ra libs <<<"$(sed -n 's/^LIB_LIBS := //p' src/build/config.mk)"
  $QIMG_CC -std=c11 -pthread -I "to stage/opt/qimg/include" -o program \
    program.c "to stage/opt/qimg/lib/libqimg.a" "${libs[@]}" -lm
  [ "$(./program)" = 1610612736 ]
}
