/* SPDX-License-Identifier: MIT */
/*
 * tools.h - the two tools, each with a folder of its own, and what they say
 */
#ifndef ALIKE_TOOLS_H
#define ALIKE_TOOLS_H

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/cmd/qemu-img/alike/table.h"

enum { THEIRS, OURS, TOOLS };

static struct tool {
	const char *name; /* of its folder, too */
	char *path;
	int dir;      /* its folder */
	int out, err; /* what it says goes there */
	pid_t pid;
	int code; /* with which it ended */
} tools[TOOLS] = { { .name = "theirs" }, { .name = "ours" } };

static unsigned seconds = 20; /* that a program may take */

/* A program hangs. */
static void on_alarm(int number)
{
	for (int t = 0; t < TOOLS; t++) {
		if (tools[t].pid > 0)
			kill(tools[t].pid, SIGKILL);
	}
}

static void open_tools(void)
{
	struct sigaction action = { .sa_handler = on_alarm,
				    .sa_flags = SA_RESTART };

	sigaction(SIGALRM, &action, NULL);
	for (int t = 0; t < TOOLS; t++) {
		tools[t].out = memfd_create("out", MFD_CLOEXEC);
		tools[t].err = memfd_create("err", MFD_CLOEXEC);
		if (mkdir(tools[t].name, 0755))
			die(tools[t].name);
		tools[t].dir = open(tools[t].name, O_RDONLY | O_CLOEXEC);
		if (tools[t].out < 0 || tools[t].err < 0 || tools[t].dir < 0)
			die(tools[t].name);
	}
}

static void close_tools(void)
{
	for (int t = 0; t < TOOLS; t++) {
		close(tools[t].out);
		close(tools[t].err);
		close(tools[t].dir);
		free(tools[t].path);
	}
}

static void empty(int fd)
{
	if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET))
		die("memfd");
}

/* Starts a program in a folder, or here; the tool's files get what it says. */
static void start_in(struct tool *tool, int dir, const char *path,
		     const char *const argv[])
{
	posix_spawn_file_actions_t files;
	int ret;

	empty(tool->out);
	empty(tool->err);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, tool->out, 1);
	posix_spawn_file_actions_adddup2(&files, tool->err, 2);
	if (dir != AT_FDCWD)
		posix_spawn_file_actions_addfchdir_np(&files, dir);
	/* It takes strings that are not const and leaves them alone. */
	ret = posix_spawn(&tool->pid, path, &files, NULL,
			  (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&files);
	if (ret) {
		errno = ret;
		die(path);
	}
}

static void end(struct tool *tool)
{
	tool->code = end_of(tool->pid);
	tool->pid = 0;
}

/* One program for each tool, in their folders, at the same time. */
static void run_both(const char *theirs, const char *ours,
		     const char *const argv[])
{
	start_in(&tools[THEIRS], tools[THEIRS].dir, theirs, argv);
	start_in(&tools[OURS], tools[OURS].dir, ours, argv);
	alarm(seconds);
	end(&tools[THEIRS]);
	end(&tools[OURS]);
	alarm(0);
}

/* What was said there, with a zero byte after it; free it. */
static char *heard(int fd, size_t *len)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char *text;

	if (size < 0)
		die("memfd");
	text = malloc((size_t)size + 1);
	if (!text || pread(fd, text, (size_t)size, 0) != size)
		die("memfd");
	text[size] = '\0';
	if (len)
		*len = (size_t)size;
	return text;
}

/* ------------------------------------------------------ helpers, holders */

/* A line of sh in both folders. False, and says so, when it fails. */
static bool help(const char *line)
{
	const char *const argv[] = { "sh", "-ec", line, NULL };

	run_both("/bin/sh", "/bin/sh", argv);
	for (int t = 0; t < TOOLS; t++) {
		char *text;

		if (!tools[t].code)
			continue;
		text = heard(tools[t].err, NULL);
		printf("# !%s\n#   exit code %d in %s: %s\n", line,
		       tools[t].code, tools[t].name, text);
		free(text);
		return false;
	}
	return true;
}

#define MAX_HOLDERS 8

static struct holder {
	pid_t pid;
	int in, out;
} holders[MAX_HOLDERS];
static size_t holder_count;

/* Starts a program that holds something until its stdin ends. */
static void hold_in(int dir, const char *line)
{
	const char *const argv[] = { "sh", "-ec", line, NULL };
	struct holder *h = &holders[holder_count++];
	posix_spawn_file_actions_t files;
	int in[2], out[2], ret;
	struct pollfd word;

	if (holder_count > MAX_HOLDERS || pipe2(in, O_CLOEXEC) ||
	    pipe2(out, O_CLOEXEC))
		die("holder");
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, in[0], 0);
	posix_spawn_file_actions_adddup2(&files, out[1], 1);
	posix_spawn_file_actions_adddup2(&files, out[1], 2);
	posix_spawn_file_actions_addfchdir_np(&files, dir);
	ret = posix_spawn(&h->pid, "/bin/sh", &files, NULL,
			  (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&files);
	close(in[0]);
	close(out[1]);
	h->in = in[1];
	h->out = out[0];
	/* It says something, a prompt, when it has what it holds. */
	word = (struct pollfd){ .fd = h->out, .events = POLLIN };
	if (ret || poll(&word, 1, 10000) != 1)
		die(line);
}

static void release_all(void)
{
	for (size_t i = 0; i < holder_count; i++) {
		close(holders[i].in);
		end_of(holders[i].pid);
		close(holders[i].out);
	}
	holder_count = 0;
}

#endif
