/* SPDX-License-Identifier: MIT */
/* lock.c - QEMU's lock bytes between two descriptors */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/lock.h"
#include "tests/lib/tap.h"

static struct qi_file *open_it(void)
{
	struct qi_file *f;

	if (qi_file_open(&f, "image", true, NULL))
		abort();
	return f;
}

struct side {
	const char *name;
	enum qi_access access;
	bool force_share;
};

static const struct side sides[] = {
	{ "none", QI_ACCESS_NONE, false },
	{ "read", QI_ACCESS_READ, false },
	{ "write", QI_ACCESS_WRITE, false },
	{ "shared none", QI_ACCESS_NONE, true },
	{ "shared read", QI_ACCESS_READ, true },
};

/* The second row by the first column; as QEMU has it. */
static const bool allowed[5][5] = {
	{ true, true, false, true, true },   { true, true, false, true, true },
	{ false, false, false, true, true }, { true, true, true, true, true },
	{ true, true, true, true, true },
};

static void test_pairs(void)
{
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 5; k++) {
			struct qi_file *a = open_it(), *b = open_it();
			struct qi_error e = { "" };
			int first = qi_lock(a, sides[i].access,
					    sides[i].force_share, &e);
			int second = qi_lock(b, sides[k].access,
					     sides[k].force_share, &e);

			ok(!first && second == (allowed[i][k] ? 0 : -EBUSY),
			   "%s, then %s: %s", sides[i].name, sides[k].name,
			   allowed[i][k] ? "both" : "refused");
			qi_file_close(a, NULL);
			qi_file_close(b, NULL);
		}
	}
}

static void test_release(void)
{
	struct qi_file *a = open_it(), *b = open_it(), *c = open_it();
	struct qi_error e = { "" };

	qi_lock(a, QI_ACCESS_READ, false, &e);
	ok(qi_lock(b, QI_ACCESS_WRITE, false, &e) == -EBUSY, "refused");
	qi_unlock(a);
	ok(!qi_lock(c, QI_ACCESS_WRITE, false, &e),
	   "a refused one holds nothing: a third gets it");
	qi_file_close(c, NULL);
	ok(!qi_lock(b, QI_ACCESS_WRITE, false, &e), "closing releases");
	qi_file_close(a, NULL);
	qi_file_close(b, NULL);
}

static void test_message(void)
{
	struct qi_file *a;
	struct qi_error e = { "" };
	char text[32], byte = 'x';
	int pipes[2];
	pid_t pid;

	if (pipe(pipes))
		abort();
	pid = fork();
	if (pid == 0) {
		if (qi_lock(open_it(), QI_ACCESS_WRITE, false, NULL) ||
		    write(pipes[1], "l", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	if (read(pipes[0], &byte, 1) != 1)
		abort();
	a = open_it();
	snprintf(text, sizeof(text), "process %d (lock)", (int)pid);
	ok(qi_lock(a, QI_ACCESS_READ, false, &e) == -EBUSY &&
		   strstr(e.text, text) && strstr(e.text, "'image' is in use"),
	   "the message names the holder: %s", e.text);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(!qi_lock(a, QI_ACCESS_READ, false, &e), "its end releases");
	qi_file_close(a, NULL);
}

int main(void)
{
	struct qi_file *f;

	if (qi_file_create(&f, "image", NULL))
		abort();
	qi_file_close(f, NULL);
	test_pairs();
	test_release();
	test_message();
	return tap_done();
}
