/* SPDX-License-Identifier: MIT */
/*
 * fault.c - a file layer that makes calls fail, for tests
 *
 * QIMG_FAULT=CALL:N:ACTION acts at the Nth call (from 1) of the given kind:
 * CALL is open, read, write, sync, truncate, fallocate, clone, rename, link,
 * symlink, unlink, mkdir, rmdir, or change (any but open and read). ACTION is
 * kill, kill-after, or the number or name (EIO, ENOSPC) of an error. When it
 * acts, the file that QIMG_FAULT_LOG names is made: not every failure of a
 * call is one of the command.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"

enum call {
	OPEN,
	READ,
	WRITE,
	SYNC,
	TRUNCATE,
	FALLOCATE,
	CLONE,
	RENAME,
	LINK,
	SYMLINK,
	UNLINK,
	MKDIR,
	RMDIR,
	CHANGE,
	CALLS,
};

static const char *const call_names[CALLS] = {
	"open",	     "read",  "write",	"sync",	  "truncate",
	"fallocate", "clone", "rename", "link",	  "symlink",
	"unlink",    "mkdir", "rmdir",	"change",
};

enum action { FAIL, KILL, KILL_AFTER };

static struct {
	const struct qi_file_layer *below;
	enum call call;
	atomic_long left;
	enum action action;
	int error;
} fault;

static void leave_mark(void)
{
	const char *path = secure_getenv("QIMG_FAULT_LOG");
	int fd = path ? fault.below->open(path, O_CREAT | O_WRONLY, 0644) : -1;

	if (fd >= 0)
		fault.below->close(fd);
}

static bool is_due(enum call call)
{
	if (fault.call != call &&
	    !(fault.call == CHANGE && call != OPEN && call != READ))
		return false;
	if (atomic_fetch_sub(&fault.left, 1) != 1)
		return false;
	leave_mark();
	return true;
}

/* Runs one call; `result` is an expression of the layer below. */
#define FAULTY(call, type, result)                      \
	do {                                            \
		bool due_ = is_due(call);               \
		type ret_;                              \
		if (due_ && fault.action == FAIL) {     \
			errno = fault.error;            \
			return -1;                      \
		}                                       \
		if (due_ && fault.action == KILL)       \
			kill(getpid(), SIGKILL);        \
		ret_ = (result);                        \
		if (due_ && fault.action == KILL_AFTER) \
			kill(getpid(), SIGKILL);        \
		return ret_;                            \
	} while (0)

static int faulty_open(const char *path, int flags, mode_t mode)
{
	FAULTY(OPEN, int, fault.below->open(path, flags, mode));
}

static int faulty_close(int fd)
{
	return fault.below->close(fd);
}

static ssize_t faulty_read(int fd, void *buf, size_t len, off_t off)
{
	FAULTY(READ, ssize_t, fault.below->read(fd, buf, len, off));
}

static ssize_t faulty_write(int fd, const void *buf, size_t len, off_t off)
{
	FAULTY(WRITE, ssize_t, fault.below->write(fd, buf, len, off));
}

static int faulty_sync(int fd)
{
	FAULTY(SYNC, int, fault.below->sync(fd));
}

static int faulty_truncate(int fd, off_t size)
{
	FAULTY(TRUNCATE, int, fault.below->truncate(fd, size));
}

static int faulty_fallocate(int fd, int mode, off_t off, off_t len)
{
	FAULTY(FALLOCATE, int, fault.below->fallocate(fd, mode, off, len));
}

static int faulty_clone(int to, const struct file_clone_range *range)
{
	FAULTY(CLONE, int, fault.below->clone(to, range));
}

static int faulty_rename(const char *from, const char *to, unsigned flags)
{
	FAULTY(RENAME, int, fault.below->rename(from, to, flags));
}

static int faulty_link(const char *from, const char *to)
{
	FAULTY(LINK, int, fault.below->link(from, to));
}

static int faulty_symlink(const char *target, const char *path)
{
	FAULTY(SYMLINK, int, fault.below->symlink(target, path));
}

static int faulty_unlink(const char *path)
{
	FAULTY(UNLINK, int, fault.below->unlink(path));
}

static int faulty_mkdir(const char *path, mode_t mode)
{
	FAULTY(MKDIR, int, fault.below->mkdir(path, mode));
}

static int faulty_rmdir(const char *path)
{
	FAULTY(RMDIR, int, fault.below->rmdir(path));
}

static const struct qi_file_layer faulty_layer = {
	.open = faulty_open,
	.close = faulty_close,
	.read = faulty_read,
	.write = faulty_write,
	.sync = faulty_sync,
	.truncate = faulty_truncate,
	.fallocate = faulty_fallocate,
	.clone = faulty_clone,
	.rename = faulty_rename,
	.link = faulty_link,
	.symlink = faulty_symlink,
	.unlink = faulty_unlink,
	.mkdir = faulty_mkdir,
	.rmdir = faulty_rmdir,
};

static bool parse_action(const char *text)
{
	if (strcmp(text, "kill") == 0)
		fault.action = KILL;
	else if (strcmp(text, "kill-after") == 0)
		fault.action = KILL_AFTER;
	else if (strcmp(text, "EIO") == 0)
		fault.error = EIO;
	else if (strcmp(text, "ENOSPC") == 0)
		fault.error = ENOSPC;
	else
		fault.error = atoi(text);
	return fault.action != FAIL || fault.error > 0;
}

const struct qi_file_layer *qi_fault_layer(const struct qi_file_layer *below)
{
	const char *wish = secure_getenv("QIMG_FAULT");
	char name[16], action[16];
	long n;

	if (!wish || sscanf(wish, "%15[a-z]:%ld:%15s", name, &n, action) != 3)
		return below;
	for (int i = 0; i < CALLS; i++) {
		if (strcmp(name, call_names[i]) || !parse_action(action))
			continue;
		fault.below = below;
		fault.call = (enum call)i;
		atomic_store(&fault.left, n);
		return &faulty_layer;
	}
	return below;
}
