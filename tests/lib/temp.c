/* SPDX-License-Identifier: MIT */
/* temp.c - files that appear complete or not at all */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/lock.h"
#include "lib/temp.h"
#include "tests/lib/tap.h"

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f))
		abort();
}

static bool holds(const char *path, const char *text)
{
	char got[64] = "";
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(got, 1, sizeof(got) - 1, f) : 0;

	if (f)
		fclose(f);
	return f && n == strlen(text) && !memcmp(got, text, n);
}

/* Names in the folder, hidden ones too. */
static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n - 2;
}

static int start(struct qi_temp *t, const char *path, enum qi_temp_mode mode,
		 struct qi_error *e)
{
	int ret = qi_temp_open(t, path, mode, e);

	return ret ? ret : qi_file_write(t->file, 0, 3, "new", e);
}

static void test_new(void)
{
	struct qi_error e = { "" };
	struct qi_temp t;

	ok(!start(&t, "d/a", QI_TEMP_NEW, &e), "a new file%s", e.text);
	ok(access("d/a", F_OK) && entries("d") == 1, "is hidden at first");
	ok(!qi_temp_publish(&t, &e) && holds("d/a", "new") && entries("d") == 1,
	   "and appears complete");
	ok(!t.file && !t.path && !t.target, "nothing is left of its maker");
	ok(qi_temp_open(&t, "d/a", QI_TEMP_NEW, &e) == -EEXIST &&
		   strstr(e.text, "exists already") && entries("d") == 1,
	   "what exists is not replaced by a new one");
	ok(!start(&t, "d/b", QI_TEMP_NEW, &e), "another");
	qi_temp_discard(&t);
	qi_temp_discard(&t);
	ok(entries("d") == 1, "leaves nothing when it is discarded, twice");
	ok(!start(&t, "d/b", QI_TEMP_NEW, &e), "a third");
	put("d/b", "theirs");
	ok(qi_temp_publish(&t, &e) == -EEXIST && holds("d/b", "theirs") &&
		   entries("d") == 2,
	   "does not replace what came in between");
}

static void test_replace(void)
{
	struct qi_error e = { "" };
	struct qi_file *f;
	struct qi_temp t;

	put("d/c", "old");
	if (symlink("d/c", "link") || symlink("nothing", "dangling"))
		abort();
	ok(!start(&t, "link", QI_TEMP_REPLACE, &e), "a link is followed%s",
	   e.text);
	ok(holds("d/c", "old"), "the old file stays while there is no new one");
	ok(!qi_temp_publish(&t, &e) && holds("d/c", "new") &&
		   readlink("link", (char[8]){ 0 }, 8) == 3,
	   "the file is replaced, not the link");
	ok(qi_temp_open(&t, "dangling", QI_TEMP_REPLACE, &e) == -ENOENT &&
		   strstr(e.text, "a link to nothing"),
	   "a link to nothing is refused");
	put("d/c", "old");
	if (qi_file_open(&f, "d/c", true, &e) ||
	    qi_lock(f, QI_ACCESS_READ, false, &e))
		abort();
	ok(qi_temp_open(&t, "d/c", QI_TEMP_REPLACE, &e) == -EBUSY &&
		   holds("d/c", "old"),
	   "a file in use is not replaced");
	ok(!start(&t, "d/c", QI_TEMP_OWNED, &e) && !qi_temp_publish(&t, &e) &&
		   holds("d/c", "new"),
	   "but for its owner");
	qi_file_close(f, NULL);
	ok(qi_temp_open(&t, "no/folder", QI_TEMP_NEW, &e) < 0 &&
		   strstr(e.text, "'no/folder'"),
	   "the message names the file, not the hidden one");
}

/* In a child, where the fault layer is not chosen yet. */
static void test_fault(const char *fault)
{
	unsigned before = entries("d");
	int status = 0;
	pid_t pid;

	put("d/old", "old");
	pid = fork();
	if (pid == 0) {
		struct qi_error e;
		struct qi_temp t;

		setenv("QIMG_FAULT", fault, 1);
		if (start(&t, "d/old", QI_TEMP_REPLACE, &e)) {
			qi_temp_discard(&t);
			_exit(1);
		}
		_exit(qi_temp_publish(&t, &e) ? 1 : 0);
	}
	waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%s is told", fault);
	ok(holds("d/old", "old"), "and the old file is untouched");
	unlink("d/old");
	ok(entries("d") == before, "with nothing beside it");
}

int main(void)
{
	if (mkdir("d", 0755))
		abort();
	/* First: the fault layer is chosen at the first call of a process. */
	test_fault("write:1:ENOSPC");
	test_fault("sync:1:EIO");
	test_fault("rename:1:EIO");
	test_new();
	test_replace();
	return tap_done();
}
