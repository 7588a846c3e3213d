/* SPDX-License-Identifier: MIT */
/* run.h - running programs, and reading what they left, for C tests */
#ifndef RUN_H
#define RUN_H

#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Say why the test itself cannot go on. */
static inline void die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Starts a program; its output goes to the files "out" and "err". */
static inline pid_t start_argv(const char *const argv[])
{
	posix_spawn_file_actions_t files;
	const int flags = O_WRONLY | O_CREAT | O_TRUNC;
	pid_t pid;
	int ret;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "out", flags, 0644);
	posix_spawn_file_actions_addopen(&files, 2, "err", flags, 0644);
	/* It takes strings that are not const and leaves them alone. */
	ret = posix_spawnp(&pid, argv[0], &files, NULL,
			   (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&files);
	if (ret) {
		errno = ret;
		die(argv[0]);
	}
	return pid;
}

/* Waits for its end; the exit code, or 128 and the signal. */
static inline int end_of(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int run_argv(const char *const argv[])
{
	return end_of(start_argv(argv));
}

/* run("qimg", "info", "x"): the exit code, or 128 and the signal. */
#define run(...) run_argv((const char *[]){ __VA_ARGS__, NULL })

/* The program under test. */
static inline const char *qimg_path(void)
{
	const char *path = getenv("QIMG");

	if (!path)
		die("QIMG is not set: run the tests by make check");
	return path;
}

/* The whole file, with a zero byte after it; free it. */
static inline char *slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	char *text;

	if (!f || fstat(fileno(f), &st))
		die(path);
	text = calloc(1, (size_t)st.st_size + 1);
	if (!text ||
	    fread(text, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
		die(path);
	fclose(f);
	if (len)
		*len = (size_t)st.st_size;
	return text;
}

/* What the last program printed, as JSON; NULL when it is none. */
static inline json_t *output_json(void)
{
	return json_load_file("out", 0, NULL);
}

/* The last program's messages, as TAP comments. */
static inline void show_messages(void)
{
	char *text = slurp("err", NULL);

	for (char *rest, *line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest))
		printf("#   %s\n", line);
	free(text);
}

#endif
