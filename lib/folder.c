/* SPDX-License-Identifier: MIT */
/* folder.c - names of files: rename, link, remove, and make that durable */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/bytes.h"
#include "lib/file.h"

static atomic_ulong name_changes;

unsigned long qi_name_changes(void)
{
	return name_changes;
}

static int name_result(int failed, const char *what, const char *path,
		       struct qi_error *e)
{
	return failed ? qi_fail(e, errno, "cannot %s '%s': %s", what, path,
				strerror(errno)) :
			0;
}

/* The same of what may have changed a name that leads to a file. */
static int change_result(int failed, const char *what, const char *path,
			 struct qi_error *e)
{
	name_changes++;
	return name_result(failed, what, path, e);
}

int qi_rename(const char *from, const char *to, struct qi_error *e)
{
	return change_result(qi_file_layer()->rename(from, to, 0), "rename to",
			     to, e);
}

int qi_rename_new(const char *from, const char *to, struct qi_error *e)
{
	struct stat st;

	if (qi_file_layer()->rename(from, to, RENAME_NOREPLACE) == 0)
		return change_result(0, "make", to, e);
	/* A file system without the flag: look, and take the small risk. */
	if (errno == EINVAL) {
		if (lstat(to, &st) && errno == ENOENT)
			return qi_rename(from, to, e);
		errno = EEXIST;
	}
	return name_result(-1, "make", to, e);
}

int qi_link(const char *from, const char *to, struct qi_error *e)
{
	return change_result(qi_file_layer()->link(from, to), "make", to, e);
}

int qi_symlink(const char *target, const char *path, struct qi_error *e)
{
	return change_result(qi_file_layer()->symlink(target, path),
			     "make the link", path, e);
}

int qi_unlink(const char *path, struct qi_error *e)
{
	return change_result(qi_file_layer()->unlink(path), "remove", path, e);
}

int qi_mkdir(const char *path, struct qi_error *e)
{
	return name_result(qi_file_layer()->mkdir(path, 0777),
			   "make the folder", path, e);
}

int qi_rmdir(const char *path, struct qi_error *e)
{
	return name_result(qi_file_layer()->rmdir(path), "remove the folder",
			   path, e);
}

int qi_sync_folder(const char *dir, struct qi_error *e)
{
	int fd = qi_file_layer()->open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC,
				       0);
	int failed;

	if (fd < 0)
		return name_result(-1, "open the folder", dir, e);
	failed = qi_file_layer()->sync(fd);
	/* Some network file systems cannot sync a folder: nothing to do. */
	if (failed && (errno == EINVAL || errno == ENOTSUP))
		failed = 0;
	failed = name_result(failed, "sync the folder", dir, e);
	qi_file_layer()->close(fd);
	return failed;
}

int qi_sync_folder_of(const char *path, struct qi_error *e)
{
	QI_AUTOFREE char *dir = qi_path_folder(path);

	if (!dir)
		return qi_fail(e, ENOMEM, "out of memory");
	return qi_sync_folder(dir, e);
}
