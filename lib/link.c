/* SPDX-License-Identifier: MIT */
/* link.c - drive links, and what an operation must not break */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/drive.h"

bool qi_same_folder(const char *a, const char *b)
{
	QI_AUTOFREE char *x = qi_path_folder(a);
	QI_AUTOFREE char *y = qi_path_folder(b);
	struct stat s, t;

	return x && y && !stat(x, &s) && !stat(y, &t) && s.st_dev == t.st_dev &&
	       s.st_ino == t.st_ino;
}

char *qi_backing_name(const char *base, const char *overlay)
{
	const char *name = qi_path_name(base);

	/* "word:" in front would be a protocol. */
	if (qi_same_folder(base, overlay))
		return qi_format_text("%s%s", strchr(name, ':') ? "./" : "",
				      name);
	return realpath(base, NULL);
}

int qi_drive_flip(struct qi_drive *d, const char *head, struct qi_error *e)
{
	QI_AUTOFREE char *target = NULL;
	QI_AUTOFREE char *temp = qi_path_temporary(d->path);
	int ret;

	target = qi_same_folder(d->path, head) ? strdup(qi_path_name(head)) :
						 realpath(head, NULL);
	if (!target || !temp)
		return qi_no_memory(e);
	ret = qi_symlink(target, temp, e);
	if (ret == -EEXIST) {
		/* Left by a run that was ended; the drive's head is locked. */
		ret = qi_unlink(temp, e);
		if (!ret)
			ret = qi_symlink(target, temp, e);
	}
	if (ret)
		return ret;
	ret = qi_rename(temp, d->path, e);
	if (ret) {
		qi_unlink(temp, NULL);
		return ret;
	}
	return qi_sync_folder_of(d->path, e) ? 1 : 0;
}

void qi_change_problem(struct qi_change *c, const struct qi_error *e,
		       const char *fmt, ...)
{
	char what[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(c->problem, sizeof(c->problem), "%s: %s", what, e->text);
}

const char *qi_node_own_bitmap(struct qi_node *n)
{
	const struct qi_stored_bitmap *all;
	size_t count;

	if (!n->format->bitmaps)
		return NULL;
	all = n->format->bitmaps->list(n, &count);
	for (size_t i = 0; i < count; i++)
		if (!qi_node_segment(n, all[i].name))
			return all[i].name;
	return NULL;
}
