/* SPDX-License-Identifier: MIT */
/*
 * one.c - one run of a command, measured; or of what limits one
 *
 *	one COMMAND [ARGUMENT]...	the command, its output thrown away
 *	one --write BYTES FILE		so many bytes from memory to a new file
 *	one --store BYTES FILE		the same, until they are on the disk
 *	one --read FILE...		all bytes of files, holes left out
 *	one --copy FROM TO		both: what a plain copy takes
 *
 * Prints the seconds from its start to its end, CPU seconds, the most bytes of
 * memory that it had, and how many it has written (by write() and the like: the
 * kernel does not count those that files share). Where that failed, so does
 * this, with the same exit code, and prints no figures.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1 << 20)

static char piece[PIECE];

static void fail(const char *what)
{
	fprintf(stderr, "one: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		fail(name);
	return fd;
}

/* To `out`, or to nowhere when that is negative; the same offsets. */
static void pass_data(const char *name, int out)
{
	int in = open_file(name, O_RDONLY);
	off_t end = 0, at;

	while ((at = lseek(in, end, SEEK_DATA)) >= 0) {
		end = lseek(in, at, SEEK_HOLE);
		while (at < end) {
			size_t want = end - at < PIECE ? (size_t)(end - at) :
							 PIECE;
			ssize_t got = pread(in, piece, want, at);

			if (got <= 0)
				fail(name);
			if (out >= 0 &&
			    pwrite(out, piece, (size_t)got, at) != got)
				fail("written too little");
			at += got;
		}
	}
	if (errno != ENXIO)
		fail(name);
	close(in);
}

static void write_bytes(uint64_t bytes, int out)
{
	while (bytes) {
		size_t want = bytes < PIECE ? (size_t)bytes : PIECE;

		if (write(out, piece, want) != (ssize_t)want)
			fail("written too little");
		bytes -= want;
	}
}

static void write_to(char **arg, bool store)
{
	int out = open_file(arg[1], O_WRONLY | O_CREAT | O_TRUNC);

	memset(piece, 1, PIECE);
	write_bytes(strtoull(arg[0], NULL, 10), out);
	if (store && fdatasync(out))
		fail(arg[1]);
}

/* In the child, from which it does not return. */
static void run(char **arg)
{
	const char *what = arg[0];

	if (strcmp(what, "--write") == 0 && arg[1] && arg[2]) {
		write_to(arg + 1, false);
	} else if (strcmp(what, "--store") == 0 && arg[1] && arg[2]) {
		write_to(arg + 1, true);
	} else if (strcmp(what, "--copy") == 0 && arg[1] && arg[2]) {
		pass_data(arg[1],
			  open_file(arg[2], O_WRONLY | O_CREAT | O_TRUNC));
	} else if (strcmp(what, "--read") == 0) {
		while (*++arg)
			pass_data(*arg, -1);
	} else {
		if (dup2(open_file("/dev/null", O_WRONLY), STDOUT_FILENO) < 0)
			fail("/dev/null");
		execvp(what, arg);
		fail(what);
	}
	_exit(0);
}

/* Of a child that has ended and is still to be waited for. */
static uint64_t bytes_written(pid_t pid)
{
	char name[64], line[128];
	uint64_t bytes = 0;
	FILE *io;

	snprintf(name, sizeof(name), "/proc/%d/io", (int)pid);
	io = fopen(name, "re");
	if (!io)
		fail(name);
	while (fgets(line, sizeof(line), io))
		if (strncmp(line, "wchar: ", 7) == 0)
			bytes = strtoull(line + 7, NULL, 10);
	fclose(io);
	return bytes;
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	double start, took;
	siginfo_t info;
	struct rusage usage;
	uint64_t written;
	int status;
	pid_t pid;

	if (argc < 2) {
		fputs("usage: one COMMAND [ARGUMENT]...\n", stderr);
		return 2;
	}
	start = seconds_now();
	pid = fork();
	if (pid == 0)
		run(argv + 1);
	if (pid < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0)
		fail(argv[1]);
	took = seconds_now() - start;
	written = bytes_written(pid);
	if (wait4(pid, &status, 0, &usage) < 0)
		fail(argv[1]);
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "one: %s: signal %d\n", argv[1],
			WTERMSIG(status));
		return 128 + WTERMSIG(status);
	}
	if (WEXITSTATUS(status) != 0)
		return WEXITSTATUS(status);
	printf("%.6f %.6f %llu %llu\n", took,
	       seconds(usage.ru_utime) + seconds(usage.ru_stime),
	       (unsigned long long)usage.ru_maxrss << 10,
	       (unsigned long long)written);
	return 0;
}
