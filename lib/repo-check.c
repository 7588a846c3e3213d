/* SPDX-License-Identifier: MIT */
/* repo-check.c - what is in a repository that should not be, or is missing */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/files.h"
#include "lib/point.h"

static void say(struct qi_repo_check *c, bool is_problem, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void say(struct qi_repo_check *c, bool is_problem, const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*(is_problem ? &c->problems : &c->notes) += 1;
	if (c->finding)
		c->finding(c->arg, is_problem, text);
}

/* Calls fn with each name in a folder, "." and ".." apart. */
static int each_name(const char *path,
		     void (*fn)(struct qi_repo_check *c, const void *of,
				const char *name),
		     struct qi_repo_check *c, const void *of,
		     struct qi_error *e)
{
	DIR *dir = opendir(path);
	struct dirent *d;

	if (!dir)
		return qi_cannot_read_folder(path, e);
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			fn(c, of, d->d_name);
	closedir(dir);
	return 0;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

/* -------------------------------------------------------------- folders */

static void check_top(struct qi_repo_check *c, const void *of, const char *name)
{
	static const char *const known[] = { QI_REPO_MARK, "README",
					     "CHECKSUMS",  "points",
					     "lost+found", NULL };

	(void)of;
	if (!is_one_of(name, known))
		say(c, false, "'%s' is no part of the repository", name);
}

static void check_folder(struct qi_repo_check *c, const void *of,
			 const char *name)
{
	const struct qi_repo *r = of;

	if (!strncmp(name, QI_POINT_PARTIAL, strlen(QI_POINT_PARTIAL)))
		say(c, false,
		    "'points/%s' is a point that is being written or removed, "
		    "or that an interrupted run has left; the next backup "
		    "removes it",
		    name);
	else if (!strncmp(name, QI_POINT_REBUILT, strlen(QI_POINT_REBUILT)))
		say(c, false,
		    "'points/%s' has files that take the place of those in "
		    "point %s; when that was interrupted, the next backup "
		    "goes on with it",
		    name, name + strlen(QI_POINT_REBUILT));
	else if (qi_repo_index(r, name) == SIZE_MAX)
		say(c, false, "'points/%s' is no point", name);
}

/* --------------------------------------------------------------- points */

static bool is_missing(const struct qi_repo *r, const struct qi_point *p,
		       const char *file)
{
	QI_AUTOFREE char *path = qi_repo_file(r, p->id, file);
	struct stat st;

	return path && lstat(path, &st) && errno == ENOENT;
}

static void check_file(struct qi_repo_check *c, const void *of,
		       const char *name)
{
	static const char *const known[] = { "manifest.json", "CHECKSUMS",
					     "pinned", "verified.json", NULL };
	const struct qi_point *p = of;

	for (size_t i = 0; i < p->drive_count; i++)
		if (!strcmp(name, p->drives[i].file) ||
		    !strcmp(name, p->drives[i].hashes))
			return;
	if (!is_one_of(name, known))
		say(c, false, "point %s: '%s' is no part of it", p->id, name);
}

static void check_drive(struct qi_repo_check *c, const struct qi_repo *r,
			const struct qi_point *p,
			const struct qi_point_drive *d)
{
	size_t i = d->parent ? qi_repo_index(r, d->parent) : SIZE_MAX;

	if (is_missing(r, p, d->file))
		say(c, true, "point %s: '%s' is missing", p->id, d->file);
	if (is_missing(r, p, d->hashes))
		say(c, true, "point %s: '%s' is missing", p->id, d->hashes);
	if (d->parent && i == SIZE_MAX)
		say(c, true,
		    "point %s: point %s, which drive '%s' rests on, is missing",
		    p->id, d->parent, d->name);
	else if (d->parent && (r->points[i].problem ||
			       !qi_point_find(&r->points[i], d->name)))
		say(c, true,
		    "point %s: point %s, which drive '%s' rests on, cannot be "
		    "used",
		    p->id, d->parent, d->name);
}

static int check_point(struct qi_repo_check *c, const struct qi_repo *r,
		       const struct qi_point *p, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(r->points_path, p->id);

	if (!path)
		return qi_no_memory(e);
	if (p->problem && is_missing(r, p, "manifest.json"))
		say(c, true, "point %s: without a manifest it is no backup",
		    p->id);
	else if (p->problem)
		say(c, true, "point %s: %s", p->id, p->problem);
	if (p->problem)
		return 0;
	if (is_missing(r, p, "CHECKSUMS"))
		say(c, true, "point %s: 'CHECKSUMS' is missing", p->id);
	for (size_t i = 0; i < p->drive_count; i++)
		check_drive(c, r, p, &p->drives[i]);
	return each_name(path, check_file, c, p, e);
}

int qi_repo_check(struct qi_repo *r, struct qi_repo_check *c,
		  struct qi_error *e)
{
	int ret = each_name(r->path, check_top, c, r, e);

	if (!ret)
		ret = each_name(r->points_path, check_folder, c, r, e);
	for (size_t i = 0; i < r->count && !ret; i++)
		ret = check_point(c, r, &r->points[i], e);
	return ret;
}
