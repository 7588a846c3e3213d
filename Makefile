# SPDX-License-Identifier: MIT
#
# qimg - build, test and install.
#
#   make [all]       the program and the library
#   make check       build, then run all tests; T= chooses some of them
#   make check-long  the same without samples, and long random lives: hours
#   make lint        formatter, static analysis, scripts, man pages
#   make demo        backups of a disk of real files, each point proved
#   make bench       measurements, ten to thirteen minutes; README=1 puts those next
#                    to qemu-img into README.md
#   make install     into DESTDIR/PREFIX; uninstall takes it away again
#   make deps        install what building and testing need (needs root)
#   make clean
#
#   B=DIR            build folder; build, or build-san with SAN=1
#   SAN=1            with the address and undefined behaviour sanitizers
#   WERROR=1         warnings are errors
#   V=1              show the commands
#   T='PATTERN...'   tests to run: a file, a folder or a glob below tests/
#
# A new file below cmd/, formats/, lib/, man/ or tests/ needs no change here.

B := $(if $(SAN),build-san,build)
PREFIX := /usr/local
DESTDIR :=
T :=

goals := $(or $(MAKECMDGOALS),all)

.PHONY: all check check-long lint demo bench install uninstall deps clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
all:

ifneq ($(filter deps,$(goals)),)

# `make deps check` on a bare machine: the libraries must be there before they
# are looked for. So this make installs them, and a second one does the rest.

rest := $(filter-out deps,$(goals))
jobs = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

deps:
	@.ci/deps
	@rm -f $(B)/config.mk

ifneq ($(rest),)
.PHONY: $(rest)
$(firstword $(rest)): deps
	+@$(MAKE) --no-print-directory $(jobs) $(rest)
$(wordlist 2,$(words $(rest)),$(rest)): $(firstword $(rest)) ;
endif

else

# ------------------------------------------------------------ libraries

need := zlib libzstd libxxhash jansson
# Better with: faster zlib; nbd: names, by a library that is loaded when it is
# needed, not linked.
want := libdeflate
lazy := libnbd

# Asked once, and again by a clean or by `make deps`.
$(B)/config.mk: Makefile
	@mkdir -p $(@D)
	@pkg-config --exists --print-errors $(need) || { \
	  echo 'qimg needs pkg-config, $(need): run "make deps"' >&2; \
	  exit 1; }
	@pkgs='$(need)' def= link=; \
	 for p in $(want) $(lazy); do \
	   pkg-config --exists $$p || continue; \
	   pkgs="$$pkgs $$p"; \
	   def="$$def -DHAVE_$$(echo $$p | tr a-z A-Z)"; \
	 done; \
	 for p in $$pkgs; do \
	   case ' $(lazy) ' in *" $$p "*) ;; *) link="$$link $$p" ;; esac; \
	 done; \
	 { echo "LIB_CFLAGS := $$def $$(pkg-config --cflags $$pkgs)"; \
	   echo "LIB_LIBS := $$(pkg-config --libs $$link) -ldl"; } >$@

ifneq ($(filter-out clean uninstall,$(goals)),)
include $(B)/config.mk
endif

# ---------------------------------------------------------------- flags

WARNINGS := -Wall -Wextra -Wshadow -Wundef -Wvla -Wcast-align \
	-Wpointer-arith -Wwrite-strings -Wformat=2 -Wimplicit-fallthrough \
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wno-unused-parameter -Wno-missing-field-initializers \
	$(if $(WERROR),-Werror)

ifdef SAN
CFLAGS ?= -O1 -g
HARDENING := -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=all
else
CFLAGS ?= -O2 -g
HARDENING := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
LINK_HARDENING := -Wl,-z,relro,-z,now
endif

QIMG_CPPFLAGS := -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(LIB_CFLAGS) \
	$(CPPFLAGS)
compile := $(CC) -std=c11 $(QIMG_CPPFLAGS) $(WARNINGS) $(HARDENING) -fPIE \
	-pthread $(CFLAGS)
link := $(compile) -pie $(LINK_HARDENING) $(LDFLAGS)
libs := $(LIB_LIBS) -lm

say = @printf '  %-8s %s\n' $1 $(patsubst $(B)/%,%,$@)
Q := $(if $(V),,@)

# -------------------------------------------------------------- sources

LIB_SRC := $(wildcard lib/*.c formats/*.c formats/*/*.c)
CMD_SRC := $(wildcard cmd/*.c cmd/common/*.c cmd/qemu-img/*.c \
	cmd/qemu-img/common/*.c)
TEST_SRC := $(wildcard tests/lib/*.c tests/formats/*.c tests/cmd/*/*.c \
	tests/bench/*.c)

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o) $(B)/gen/formats.o
CMD_OBJ := $(CMD_SRC:%.c=$(B)/%.o) $(B)/gen/commands.o \
	$(B)/gen/stock-commands.o
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)

# Names of formats: formats/NAME.c or formats/NAME/. raw comes last, because
# it takes whatever the others do not.
formats := $(sort $(patsubst formats/%.c,%,$(wildcard formats/*.c)) \
	$(patsubst formats/%/,%,$(dir $(wildcard formats/*/*.c))))
formats := $(filter-out raw,$(formats)) $(filter raw,$(formats))
commands := $(sort $(patsubst cmd/%.c,%,$(wildcard cmd/*.c)))
stock := $(sort $(patsubst cmd/qemu-img/%.c,%,$(wildcard cmd/qemu-img/*.c)))

define nl


endef

# $(call table,HEADER,TYPE,NAMES): C text of the array qi_TYPEs.
define table
/* Made by the Makefile from file names. */
#include <stddef.h>
#include "$1"

$(foreach n,$3,extern const struct qi_$2 qi_$2_$n;$(nl))
extern const struct qi_$2 *const qi_$2s[];
const struct qi_$2 *const qi_$2s[] = {
$(foreach n,$3,	&qi_$2_$n,$(nl))	NULL,
};
endef

# $(call keep,FILE,TEXT): FILE holds TEXT. It is written only when that is
# news, so that what depends on it is made again only then.
same = $(and $(findstring x$1x,x$2x),$(findstring x$2x,x$1x))
keep = $(if $(call same,$(file <$1),$2),,$(shell mkdir -p $(dir $1))$(file \
	>$1,$2))

ifdef LIB_LIBS
# What runs qimg has to know the place where PREFIX puts it.
$(foreach f,$(wildcard cmd/service/*),$(call keep,$(B)/gen/$(notdir \
	$f),$(subst /usr/local,$(PREFIX),$(file <$f))))
$(call keep,$(B)/gen/formats.c,$(call table,lib/format.h,format,$(formats)))
$(call keep,$(B)/gen/commands.c,$(call \
	table,cmd/common/command.h,command,$(commands)))
$(call keep,$(B)/gen/stock-commands.c,$(call \
	table,cmd/qemu-img/common/stock.h,stock_command,$(stock)))
$(call keep,$(B)/flags,$(link) $(libs))
$(call keep,$(B)/lib.list,$(LIB_OBJ))
$(call keep,$(B)/cmd.list,$(CMD_OBJ))
endif

# ---------------------------------------------------------------- build

all: $(B)/qimg $(B)/libqimg.a

$(B)/qimg: $(CMD_OBJ) $(B)/libqimg.a $(B)/cmd.list
	$(call say,LINK)
	$(Q)$(link) -o $@ $(CMD_OBJ) $(B)/libqimg.a $(libs)

# Appended, not replaced: two folders may have files of the same name.
$(B)/libqimg.a: $(LIB_OBJ) $(B)/lib.list
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) cqs $@ $(LIB_OBJ)

$(B)/gen/%.o: $(B)/gen/%.c $(B)/flags
	$(call say,CC)
	$(Q)$(compile) -MMD -MP -c -o $@ $<

$(B)/%.o: %.c $(B)/flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(compile) -MMD -MP -c -o $@ $<

$(TEST_BIN): $(B)/%: %.c $(B)/libqimg.a $(B)/flags
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(link) -MMD -MP -o $@ $< $(B)/libqimg.a $(libs)

-include $(LIB_OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(TEST_BIN:=.d)

# ---------------------------------------------------------------- tests

# What scripts below tests/ and .ci/ are told.
run = QIMG='$(abspath $(B))/qimg' QIMG_SRC='$(CURDIR)' \
	QIMG_BUILD='$(abspath $(B))' QIMG_SAN='$(SAN)' QIMG_CC='$(CC)' \
	QIMG_CPPFLAGS='$(QIMG_CPPFLAGS)' T='$(T)'

check: all $(TEST_BIN)
	@$(run) tests/run

# All calls where `check` takes a sample, and long random lives: some hours.
check-long: all $(TEST_BIN)
	@$(run) QIMG_LONG=1 QIMG_LIMIT=$(or $(QIMG_LIMIT),14400) tests/run

lint:
	@$(run) .ci/lint

demo: all
	@$(run) tests/demo

bench: all $(B)/tests/bench/one
	@$(run) tests/bench/run
	$(if $(README),@$(run) tests/bench/speed --from $(B)/bench/speed.json \
	  --readme)

# -------------------------------------------------------------- install

units := $(notdir $(wildcard cmd/service/*.service cmd/service/*.timer))
examples := $(notdir $(wildcard cmd/service/*.conf cmd/service/*.cron))

# SOURCE:DESTINATION below PREFIX:MODE
installed := $(B)/qimg:bin/qimg:755 \
	$(B)/libqimg.a:lib/libqimg.a:644 \
	$(foreach p,$(wildcard lib/qimg*.h),$p:include/$(p:lib/%=%):644) \
	$(foreach p,$(wildcard man/*.1),$p:share/$(p:man/%=man/man1/%):644) \
	$(foreach p,$(wildcard man/*.7),$p:share/$(p:man/%=man/man7/%):644) \
	completions/qimg.bash:share/bash-completion/completions/qimg:644 \
	completions/_qimg:share/zsh/site-functions/_qimg:644 \
	completions/qimg.fish:share/fish/vendor_completions.d/qimg.fish:644 \
	$(foreach p,$(units),$(B)/gen/$p:lib/systemd/system/$p:644) \
	$(foreach p,$(examples),$(B)/gen/$p:share/doc/qimg/examples/$p:644) \
	$(B)/gen/backup-guest:share/doc/qimg/examples/backup-guest:755

# `to` is where each goes, $1 what is done with source, destination and mode.
each_installed = @set -e; for i in $(installed); do \
	  IFS=:; set -- $$i; to='$(DESTDIR)$(PREFIX)'/$$2; $1; done

install: all
	$(call each_installed,echo "  INSTALL  $$to"; install -D -m $$3 $$1 "$$to")

uninstall:
	$(call each_installed,echo "  REMOVE   $$to"; rm -f "$$to")

clean:
	rm -rf $(sort build build-san $(B))

endif
