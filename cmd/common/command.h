/* SPDX-License-Identifier: MIT */
/*
 * command.h - what a command tells about itself
 *
 * Each cmd/NAME.c ends with one `const struct qi_command qi_command_NAME`.
 * The table of all of them is generated from the file names.
 */
#ifndef QIMG_COMMAND_H
#define QIMG_COMMAND_H

#include "cmd/common/option.h"

#define QI_ARGS_ANY UINT32_MAX

/* A constant list of strings with NULL at its end. */
#define QI_LINES(...)             \
	(const char *const[])     \
	{                         \
		__VA_ARGS__, NULL \
	}

/*
 * One command or subcommand. The option table feeds the parser, --help, the
 * completions and the test of the manual page. Lists end with NULL.
 */
struct qi_command {
	const char *name;
	const char *summary;	     /* one line, lower case, no full stop */
	const char *const *synopsis; /* what follows the name, one a line */
	const struct qi_option *options; /* ends with a NULL name */
	const char *const *examples;	 /* whole command lines */
	const struct qi_command *const *subcommands;
	unsigned min_args, max_args;	/* arguments that are no options */
	enum qi_complete_kind complete; /* what those are */
	bool is_qemu_img; /* its exit codes are those of qemu-img */
	/*
	 * Called with the options stored and the arguments counted; returns
	 * the exit code. NULL: there are only subcommands.
	 */
	int (*run)(int argc, char **argv);
};

/* Generated; sorted by name, NULL at the end. */
extern const struct qi_command *const qi_commands[];

/* NULL when the list (may be NULL) has no command of that name. */
const struct qi_command *qi_command_find(const struct qi_command *const *list,
					 const char *name);

/* `qimg --complete KIND ...`; always quiet about errors. */
int qi_complete(int argc, char **argv);

#endif
