// SPDX-License-Identifier: MIT
/*
 * hook.c - commands of the user that run before and after an operation
 */
#include "cmd/common/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd/common/option.h"
#include "cmd/common/print.h"

/* In the child. */
static void become(const char *command, const struct qi_variable *v)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(126);
	for (; v->name; v++)
		if (setenv(v->name, v->value ? v->value : "", 1))
			_exit(126);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

/* A signal comes before there is a child, or when that is ready for it. */
static pid_t start(const char *command, const struct qi_variable *v)
{
	sigset_t all, before;
	pid_t child;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	child = fork();
	if (!child) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (!child)
		become(command, v);
	return child;
}

/*
 * The status of waitpid(); told: no signal ends it. One can come at any time,
 * also just before a call that it should wake, so there is none of that kind.
 */
static int wait_for(pid_t child, bool told)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	pid_t ended;
	int status;

	while (!(ended = waitpid(child, &status, WNOHANG))) {
		if (!told && qi_interrupted(NULL)) {
			kill(child, SIGTERM);
			told = true;
		}
		nanosleep(&pause, NULL);
	}
	return ended < 0 ? -1 : status;
}

int qi_hook_run(const char *option, const char *command,
		const struct qi_variable *variables)
{
	bool was_interrupted = qi_interrupted(NULL);
	int status;
	pid_t child;

	fflush(stdout);
	child = start(command, variables);
	/* A signal that was there before ends nothing. */
	status = child < 0 ? -1 : wait_for(child, was_interrupted);
	if (!status)
		return QI_EXIT_OK;
	if (!was_interrupted && qi_interrupted(NULL)) {
		qi_say_error("interrupted while the command of %s was running",
			     option);
		return QI_EXIT_INTERRUPTED;
	}
	if (status == -1)
		qi_say_error("cannot run the command of %s: %s", option,
			     strerror(errno));
	else if (WIFSIGNALED(status))
		qi_say_error("the command of %s was ended by signal %d", option,
			     WTERMSIG(status));
	else
		qi_say_error("the command of %s has failed with status %d",
			     option, WEXITSTATUS(status));
	return QI_EXIT_FAILED;
}
