/* SPDX-License-Identifier: MIT */
/*
 * hook.h - commands of the user that run before and after an operation
 */
#ifndef QIMG_HOOK_H
#define QIMG_HOOK_H

/* What the command finds in its environment, besides what qimg was given. */
struct qi_variable {
	const char *name, *value; /* value NULL: "" */
};

/*
 * Run a command by /bin/sh and wait for it. It reads nothing, and what it
 * prints goes to stderr. Variables end with a NULL name. Returns an exit code:
 * 0, or after a message that names the option, failed or interrupted. When
 * qimg is asked to stop while it runs, so is the command.
 */
int qi_hook_run(const char *option, const char *command,
		const struct qi_variable *variables);

#endif
