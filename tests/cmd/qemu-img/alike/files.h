/* SPDX-License-Identifier: MIT */
/*
 * files.h - folders that start out equal, and what differs in them later
 */
#ifndef ALIKE_FILES_H
#define ALIKE_FILES_H

#include <dirent.h>

#include "lib/bytes.h"
#include "lib/qimg.h"
#include "tests/cmd/qemu-img/alike/tools.h"

struct entry {
	char *name; /* below the folder */
	struct stat st;
};

/* All that is in a folder, parents first. */
struct tree {
	struct entry *entries;
	size_t count;
};

static struct tree fixtures;
static int fixture_dir;

/* When all fixtures were written: what is younger, somebody has touched. */
#define LONG_AGO 1000000000

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name,
		      ((const struct entry *)b)->name);
}

static void list_below(struct tree *t, int dir, const char *prefix)
{
	int fd = openat(dir, *prefix ? prefix : ".", O_RDONLY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *de;

	if (!d)
		die(prefix);
	while ((de = readdir(d))) {
		struct entry *e;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		t->entries = realloc(t->entries,
				     (t->count + 1) * sizeof(*t->entries));
		if (!t->entries)
			die("realloc");
		e = &t->entries[t->count++];
		e->name = format("%s%s%s", prefix, *prefix ? "/" : "",
				 de->d_name);
		if (fstatat(dir, e->name, &e->st, AT_SYMLINK_NOFOLLOW))
			die(e->name);
		if (S_ISDIR(e->st.st_mode)) {
			char *name = format("%s", e->name);

			list_below(t, dir, name);
			free(name);
		}
	}
	closedir(d);
}

static struct tree list(int dir)
{
	struct tree t = { 0 };

	list_below(&t, dir, "");
	if (t.count)
		qsort(t.entries, t.count, sizeof(*t.entries), by_name);
	return t;
}

static void free_tree(struct tree *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->entries[i].name);
	free(t->entries);
	*t = (struct tree){ 0 };
}

static const struct entry *find_entry(const struct tree *t, const char *name)
{
	struct entry key = { .name = (char *)(uintptr_t)name };

	return t->count ? bsearch(&key, t->entries, t->count, sizeof(key),
				  by_name) :
			  NULL;
}

/* ------------------------------------------------------------- contents */

#define CHUNK (256 << 10)

/* Where the data is that begins at or after `off`; false when there is none. */
static bool next_data(int fd, off_t off, off_t *start, off_t *stop)
{
	*start = lseek(fd, off, SEEK_DATA);
	if (*start < 0)
		return false;
	*stop = lseek(fd, *start, SEEK_HOLE);
	return true;
}

static void copy_data(int from, int to)
{
	static char buf[CHUNK];
	off_t start, stop = 0;

	while (next_data(from, stop, &start, &stop)) {
		for (off_t at = start; at < stop;) {
			size_t len = qi_min((size_t)(stop - at), sizeof(buf));
			ssize_t n = pread(from, buf, len, at);

			if (n <= 0 || pwrite(to, buf, (size_t)n, at) != n)
				die("copying a fixture");
			at += n;
		}
	}
}

static void copy_entry(const struct entry *e, int to)
{
	const struct timespec times[2] = { { .tv_sec = LONG_AGO },
					   { .tv_sec = LONG_AGO } };
	char target[4096] = "";
	int in, out;

	if (S_ISDIR(e->st.st_mode)) {
		if (mkdirat(to, e->name, e->st.st_mode & 07777))
			die(e->name);
		return;
	}
	if (S_ISLNK(e->st.st_mode)) {
		if (readlinkat(fixture_dir, e->name, target,
			       sizeof(target) - 1) < 0 ||
		    symlinkat(target, to, e->name))
			die(e->name);
		return;
	}
	in = openat(fixture_dir, e->name, O_RDONLY | O_CLOEXEC);
	out = openat(to, e->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		     0600);
	if (in < 0 || out < 0 || ftruncate(out, e->st.st_size))
		die(e->name);
	copy_data(in, out);
	if (fchmod(out, e->st.st_mode & 07777) || futimens(out, times))
		die(e->name);
	close(in);
	close(out);
}

/* Is it a regular file as it was copied? */
static bool untouched(const struct entry *e)
{
	const struct entry *was = find_entry(&fixtures, e->name);

	return was && S_ISREG(e->st.st_mode) &&
	       was->st.st_mode == e->st.st_mode &&
	       was->st.st_size == e->st.st_size &&
	       e->st.st_mtim.tv_sec == LONG_AGO && !e->st.st_mtim.tv_nsec;
}

/* The folder gets what the fixtures are, and nothing else. */
static void restore(int dir)
{
	struct tree now = list(dir);

	for (size_t i = now.count; i-- > 0;) {
		const struct entry *e = &now.entries[i];
		bool is_dir = S_ISDIR(e->st.st_mode);

		if (untouched(e))
			continue;
		if (is_dir && find_entry(&fixtures, e->name))
			continue;
		if (unlinkat(dir, e->name, is_dir ? AT_REMOVEDIR : 0))
			die(e->name);
	}
	for (size_t i = 0; i < fixtures.count; i++) {
		const struct entry *e = &fixtures.entries[i];

		if (faccessat(dir, e->name, F_OK, AT_SYMLINK_NOFOLLOW))
			copy_entry(e, dir);
	}
	free_tree(&now);
}

/*
 * The first byte in which the files differ, or -1. Past the end of the shorter
 * one everything differs.
 */
static off_t first_difference(int a, int b, off_t a_size, off_t b_size)
{
	static char left[CHUNK], right[CHUNK];
	off_t size = qi_min(a_size, b_size), at = 0;

	while (at < size) {
		off_t a_start, a_stop, b_start, b_stop, start = size, stop;
		ssize_t n;

		stop = size;
		if (next_data(a, at, &a_start, &a_stop)) {
			start = qi_min(start, a_start);
			stop = qi_min(stop, a_stop);
		}
		if (next_data(b, at, &b_start, &b_stop)) {
			start = qi_min(start, b_start);
			stop = qi_min(stop, b_stop);
		}
		for (at = start; at < stop; at += n) {
			size_t len = qi_min((size_t)(stop - at), sizeof(left));

			n = pread(a, left, len, at);
			if (n <= 0 || pread(b, right, (size_t)n, at) != n)
				die("comparing files");
			if (!memcmp(left, right, (size_t)n))
				continue;
			for (len = 0; left[len] == right[len];)
				len++;
			return at + (off_t)len;
		}
	}
	return a_size == b_size ? -1 : size;
}

#endif
