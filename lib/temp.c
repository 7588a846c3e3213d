/* SPDX-License-Identifier: MIT */
/* temp.c - files that appear under their name complete, or not at all */
#include <errno.h>

#include "lib/bytes.h"
#include "lib/lock.h"
#include "lib/temp.h"

/* May what is there be replaced? Takes its lock for a moment. */
static int check_existing(const char *path, enum qi_temp_mode mode,
			  struct qi_error *e)
{
	struct qi_file *f;
	struct stat st;
	int ret;

	if (mode == QI_TEMP_OWNED || lstat(path, &st))
		return 0;
	if (mode == QI_TEMP_NEW)
		return qi_fail(e, EEXIST,
			       "'%s' exists already; --force "
			       "replaces it",
			       path);
	ret = qi_file_open(&f, path, true, e);
	if (ret == -ENOENT)
		return qi_fail(e, ENOENT, "'%s' is a link to nothing", path);
	if (ret)
		return ret;
	/* A rename would replace the name of a device, not what is in it. */
	if (!stat(path, &st) && S_ISBLK(st.st_mode))
		ret = qi_fail(e, EINVAL, "'%s' is a device, not a file", path);
	else
		ret = qi_lock(f, QI_ACCESS_WRITE, false, e);
	qi_file_close(f, NULL);
	return ret == -ENOLCK ? 0 : ret;
}

/* Remove what an ended run has left under the hidden name. */
static int remove_leftover(const char *path, struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	int ret = qi_file_open(&f, path, true, e);

	if (ret == -ENOENT)
		return 0;
	if (!ret && !qi_claim(f))
		return qi_fail(e, EBUSY, "another process is making it");
	return ret ? ret : qi_unlink(path, e);
}

/* A new file under the hidden name that nobody else takes for a leftover. */
static int create_hidden(struct qi_temp *t, struct qi_error *e)
{
	for (;;) {
		int ret = qi_file_create(&t->file, t->path, e);

		if (!ret && qi_claim(t->file) && qi_file_is_current(t->file))
			return 0;
		if (!ret) {
			/* Another process was between our two calls. */
			qi_file_close(t->file, NULL);
			t->file = NULL;
			continue;
		}
		if (ret == -EEXIST)
			ret = remove_leftover(t->path, e);
		if (ret)
			return ret;
	}
}

/* Why what is at the name cannot be written, in the words of qemu-img. */
static int say_stock(const char *path, int ret, struct qi_error *e)
{
	struct stat st;

	if (ret == -EBUSY)
		return qi_stock(e, ret,
				"Failed to get \"write\" lock\nIs another "
				"process using the image [%s]?",
				path);
	if (ret != -EINVAL || stat(path, &st))
		return qi_stock(e, ret, "Could not create '%s': %s", path,
				strerror(-ret));
	return qi_stock(e, ret,
			S_ISCHR(st.st_mode) ?
				"Cannot grow device files" :
				"Could not resize file: Invalid argument");
}

/*
 * What ext4 was told to empty it writes to the disk when it is next closed, so
 * that no power cut finds it empty. Whether a new image is durable is another's
 * decision, so it is closed while it is empty; and what is empty is left alone.
 */
static int make_empty(struct qi_file *f, struct qi_error *e)
{
	struct qi_file *again = NULL;
	int ret = 0;

	/* Another process may have filled it before it was locked. */
	if (qi_file_open(&again, f->path, false, NULL) ||
	    again->dev != f->dev || again->ino != f->ino || again->size)
		ret = qi_file_resize(f, 0, e);
	else
		f->size = 0;
	if (again)
		qi_file_close(again, NULL);
	return ret;
}

static int open_in_place(struct qi_temp *t, struct qi_error *e)
{
	int ret = qi_file_create(&t->file, t->target, e);
	bool created = !ret;

	if (ret == -EEXIST)
		ret = qi_file_open_or_create(&t->file, t->target, e);
	if (!ret)
		ret = qi_lock(t->file, QI_ACCESS_WRITE, false, e);
	if (ret == -ENOLCK)
		ret = 0;
	if (ret)
		return say_stock(t->target, ret, e);
	/* Until now another process could have made it its own. */
	t->is_new = created;
	t->file->name = t->name;
	return t->file->is_device ? 0 : make_empty(t->file, e);
}

static int start_in_place(struct qi_temp *t, const char *path,
			  struct qi_error *e)
{
	int ret;

	t->target = strdup(path);
	t->name = strdup(path);
	ret = t->target && t->name ? open_in_place(t, e) :
				     qi_fail(e, ENOMEM, "out of memory");
	if (ret)
		qi_temp_discard(t);
	return ret;
}

int qi_temp_open(struct qi_temp *t, const char *path, enum qi_temp_mode mode,
		 struct qi_error *e)
{
	int ret;

	*t = (struct qi_temp){ .mode = mode };
	if (mode == QI_TEMP_IN_PLACE)
		return start_in_place(t, path, e);
	ret = check_existing(path, mode, e);
	if (ret)
		return ret;
	t->target = mode != QI_TEMP_NEW ? realpath(path, NULL) : NULL;
	if (!t->target)
		t->target = strdup(path);
	t->name = strdup(path);
	if (t->target && t->name)
		t->path = qi_path_temporary(t->target);
	if (!t->path)
		ret = qi_fail(e, ENOMEM, "out of memory");
	else
		ret = create_hidden(t, e);
	if (ret) {
		/* The hidden name means nothing to the user. */
		if (ret != -ENOMEM)
			qi_fail(e, -ret, "cannot create '%s': %s", path,
				ret == -EBUSY ? "another process is making it" :
						strerror(-ret));
		free(t->path);
		t->path = NULL;
		qi_temp_discard(t);
		return ret;
	}
	t->file->name = t->name;
	if (mode != QI_TEMP_NEW)
		qi_file_copy_mode(t->file, t->target);
	return 0;
}

int qi_temp_sync(struct qi_temp *t, struct qi_error *e)
{
	int ret = t->is_synced ? 0 : qi_file_sync(t->file, e);

	t->is_synced = !ret;
	return ret;
}

int qi_temp_publish(struct qi_temp *t, struct qi_error *e)
{
	int ret = qi_temp_sync(t, e), closed;

	closed = qi_file_close(t->file, ret ? NULL : e);
	t->file = NULL;
	if (!ret)
		ret = closed;
	if (!ret && t->mode == QI_TEMP_IN_PLACE) {
		t->is_new = false;
		qi_temp_discard(t);
		return 0;
	}
	if (!ret)
		ret = t->mode == QI_TEMP_NEW ?
			      qi_rename_new(t->path, t->target, e) :
			      qi_rename(t->path, t->target, e);
	if (ret) {
		qi_temp_discard(t);
		return ret;
	}
	free(t->path);
	t->path = NULL;
	ret = qi_sync_folder_of(t->target, e);
	qi_temp_discard(t);
	return ret;
}

void qi_temp_discard(struct qi_temp *t)
{
	if (t->file)
		qi_file_close(t->file, NULL);
	if (t->path)
		qi_unlink(t->path, NULL);
	if (t->is_new)
		qi_unlink(t->target, NULL);
	free(t->path);
	free(t->target);
	free(t->name);
	*t = (struct qi_temp){ 0 };
}
