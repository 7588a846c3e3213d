/* SPDX-License-Identifier: MIT */
/*
 * repo-make.c - making a backup repository, and taking it away again
 *
 * Both are done with a lock on the folder, which is held for no longer. The
 * mark is made last and goes first: an end in between leaves what the next run
 * completes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/files.h"
#include "lib/graph.h"
#include "lib/repo.h"
#include "lib/sums.h"

#define MARK_TEXT "{\n  \"qimg-repository\": 1\n}\n"

static const char readme[] =
	"This folder is a backup repository of qimg.\n"
	"\n"
	"points/ID/ is one restore point; IDs sort by age. In it, DRIVE.qcow2\n"
	"is an ordinary qcow2 image: a full one, or one whose backing file is\n"
	"the image of the point before. So any point can be restored without\n"
	"qimg, by\n"
	"\n"
	"    qemu-img convert -O qcow2 points/ID/DRIVE.qcow2 restored.qcow2\n"
	"\n"
	"Never write to an image in here, and never remove a point that a later\n"
	"one has as its parent (see manifest.json). A folder without a\n"
	"manifest.json is no backup. 'xxh128sum -c CHECKSUMS' in a point checks\n"
	"its manifest and hashes; 'qimg backup verify --read-data' checks all.\n";

static bool folder_is_empty(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	bool empty = true;

	while (dir && empty && (d = readdir(dir)))
		empty = !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..");
	if (dir)
		closedir(dir);
	return empty;
}

static int not_ours(const struct qi_repo *r, struct qi_error *e)
{
	return qi_fail(e, EEXIST,
		       "'%s' is neither empty nor a backup repository",
		       r->path);
}

/* -1 and errno, which is ENOENT also when it has just been removed. */
static int open_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat is, st;

	if (fd < 0)
		return -1;
	/* Where there are no such locks, everybody is believed. */
	while (flock(fd, LOCK_EX) && errno == EINTR)
		;
	if (!fstat(fd, &is) && !stat(path, &st) && is.st_ino == st.st_ino &&
	    is.st_dev == st.st_dev)
		return fd;
	close(fd);
	errno = ENOENT;
	return -1;
}

/* Lock the folder, which is made if need be: a descriptor to close. */
static int lock_folder(struct qi_repo *r, struct qi_error *e)
{
	struct stat st;

	for (;;) {
		int fd, ret = stat(r->path, &st) ? qi_mkdir(r->path, e) :
						   -EEXIST;

		/* Or another process has made it. */
		if (ret && ret != -EEXIST)
			return ret;
		r->made_folder = !ret;
		fd = open_folder(r->path);
		if (fd >= 0)
			return fd;
		if (errno != ENOENT)
			return qi_cannot_read_folder(r->path, e);
	}
}

/* Of the other two files, before the mark is there: it is always the same. */
static int write_sums(const struct qi_repo *r, const char *text,
		      struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(r->path, "CHECKSUMS");
	QI_AUTOFREE char *sums = NULL;
	struct qi_hash h = qi_hash_of(MARK_TEXT, strlen(MARK_TEXT));
	struct stat st;
	int ret = path ? 0 : qi_no_memory(e);

	if (ret || !stat(path, &st))
		return ret;
	ret = qi_sums_add(&sums, text, "README", e);
	if (!ret)
		ret = qi_sums_add_hash(&sums, &h, QI_REPO_MARK, e);
	return ret ? ret : qi_write_text(path, sums, e);
}

int qi_repo_check_mark(const struct qi_repo *r, struct qi_error *e)
{
	QI_AUTOFREE char *mark = qi_path_join(r->path, QI_REPO_MARK);
	json_error_t why;
	json_t *root, *version;
	bool good;

	if (!mark)
		return qi_no_memory(e);
	root = json_load_file(mark, 0, &why);
	version = json_object_get(root, "qimg-repository");
	good = json_is_integer(version) && json_integer_value(version) == 1;
	json_decref(root);
	return good ? 0 :
		      qi_fail(e, EUCLEAN,
			      "'%s' is damaged or of a later "
			      "version",
			      mark);
}

/* What a new repository cannot be made in is refused by a plan, too. */
int qi_repo_plan(struct qi_repo *r, struct qi_error *e)
{
	QI_AUTOFREE char *folder = qi_path_folder(r->path);
	struct stat st;

	if (!folder)
		return qi_no_memory(e);
	r->is_planned = true;
	if (!stat(r->path, &st))
		return folder_is_empty(r->path) ? 0 : not_ours(r, e);
	return access(folder, W_OK) ?
		       qi_fail(e, errno, "cannot make folder '%s': %s", r->path,
			       strerror(errno)) :
		       0;
}

/* The folder is locked, and has no mark. */
static int fill(struct qi_repo *r, const char *mark, struct qi_error *e)
{
	QI_AUTOFREE char *text = qi_path_join(r->path, "README");
	struct stat st;
	int ret = text ? 0 : qi_no_memory(e);

	if (!ret && stat(r->points_path, &st))
		ret = qi_mkdir(r->points_path, e);
	if (!ret && stat(text, &st))
		ret = qi_write_text(text, readme, e);
	if (!ret)
		ret = write_sums(r, text, e);
	if (!ret)
		ret = qi_write_text(mark, MARK_TEXT, e);
	if (!ret)
		ret = qi_sync_folder(r->path, e);
	return ret ? ret : qi_sync_folder_of(r->path, e);
}

static void empty(const struct qi_repo *r)
{
	QI_AUTOFREE char *mark = qi_path_join(r->path, QI_REPO_MARK);
	QI_AUTOFREE char *sums = qi_path_join(r->path, "CHECKSUMS");
	QI_AUTOFREE char *text = qi_path_join(r->path, "README");

	if (!mark || !sums || !text || !folder_is_empty(r->points_path))
		return;
	qi_unlink(mark, NULL);
	qi_unlink(sums, NULL);
	qi_unlink(text, NULL);
	qi_rmdir(r->points_path, NULL);
	if (r->made_folder)
		qi_rmdir(r->path, NULL);
}

int qi_repo_make(struct qi_repo *r, struct qi_error *e)
{
	QI_AUTOFREE char *mark = qi_path_join(r->path, QI_REPO_MARK);
	struct stat st;
	int fd, ret = 0;

	if (!mark)
		return qi_no_memory(e);
	fd = lock_folder(r, e);
	if (fd < 0)
		return fd;
	if (!stat(mark, &st)) {
		ret = qi_repo_check_mark(r, e);
	} else if (!r->made_folder && stat(r->points_path, &st) &&
		   !folder_is_empty(r->path)) {
		ret = not_ours(r, e);
	} else {
		ret = fill(r, mark, e);
		r->is_new = !ret;
		if (ret)
			empty(r);
	}
	close(fd);
	return ret;
}

void qi_repo_unmake(const struct qi_repo *r)
{
	int fd = open_folder(r->path);

	if (fd < 0)
		return;
	empty(r);
	close(fd);
}
