/* SPDX-License-Identifier: MIT */
/* link.c - drive links, and who else depends on an image */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/drive.h"
#include "lib/name.h"

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
		if (qi_record_state_of(n) != QI_RECORD_VALID ||
		    !qi_record_find(n->record, all[i].name))
			return all[i].name;
	return NULL;
}

/* ------------------------------------------------------------- folders */

void qi_files_free(struct qi_files *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->path[i]);
	free(f->path);
	*f = (struct qi_files){ 0 };
}

static int add_file(struct qi_files *f, const char *path, struct qi_error *e)
{
	char **p = realloc(f->path, (f->count + 1) * sizeof(char *));

	if (!p)
		return qi_no_memory(e);
	f->path = p;
	p[f->count] = strdup(path);
	if (!p[f->count])
		return qi_no_memory(e);
	f->count++;
	return 0;
}

/* Does its signature say that the file is an image (of more than raw)? */
static bool is_image(const char *path)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	uint8_t head[QI_PROBE_BYTES];
	struct stat st;
	ssize_t n;

	if (stat(path, &st) || !S_ISREG(st.st_mode) ||
	    qi_file_open(&f, path, false, NULL))
		return false;
	n = qi_file_read_some(f, 0, sizeof(head), head, NULL);
	return n > 0 &&
	       qi_format_probe(head, (size_t)n) != qi_format_find("raw");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int qi_folder_images(const char *dir, struct qi_files *out, struct qi_error *e)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	int ret = 0;

	*out = (struct qi_files){ 0 };
	if (!d)
		return qi_fail(e, errno, "cannot read folder '%s': %s", dir,
			       strerror(errno));
	while (!ret && (entry = readdir(d))) {
		QI_AUTOFREE char *path = NULL;

		/* Hidden files are unfinished ones. */
		if (entry->d_name[0] == '.')
			continue;
		path = qi_path_join(dir, entry->d_name);
		if (!path)
			ret = qi_no_memory(e);
		else if (is_image(path))
			ret = add_file(out, path, e);
	}
	closedir(d);
	if (ret)
		qi_files_free(out);
	else if (out->count)
		qsort(out->path, out->count, sizeof(char *), by_name);
	return ret;
}

/* Does the image at path record n as its backing file? */
static bool depends_on(const char *path, const struct qi_node *n)
{
	const struct qi_open how = { .no_backing = true };
	struct qi_name name = { 0 };
	QI_AUTOFREE char *where = NULL;
	struct qi_graph *g;
	struct qi_node *o;
	bool yes = false;

	if (qi_graph_new(&g))
		return false;
	if (!qi_graph_add(g, path, &how, &o, NULL) && o->backing_name) {
		where = qi_name_beside(path, o->backing_name);
		if (where && !qi_name_parse(&name, where, NULL))
			yes = qi_node_is_file(n, name.path);
		else
			/* It cannot be told: better one too many. */
			yes = strstr(o->backing_name, qi_path_name(n->path));
	}
	qi_name_clear(&name);
	qi_graph_free(g);
	return yes;
}

int qi_node_dependents(struct qi_node *n, const struct qi_node *except,
		       struct qi_files *out, struct qi_error *e)
{
	QI_AUTOFREE char *dir = qi_path_folder(n->path);
	struct qi_files all;
	int ret = dir ? qi_folder_images(dir, &all, e) : qi_no_memory(e);

	*out = (struct qi_files){ 0 };
	if (ret)
		return ret;
	for (size_t i = 0; i < all.count && !ret; i++) {
		struct stat st;

		/* A link is a name of an image that is in the list itself. */
		if (lstat(all.path[i], &st) || S_ISLNK(st.st_mode) ||
		    (except && qi_node_is_file(except, all.path[i])))
			continue;
		if (depends_on(all.path[i], n))
			ret = add_file(out, all.path[i], e);
	}
	qi_files_free(&all);
	if (ret)
		qi_files_free(out);
	return ret;
}

int qi_node_check_dependents(struct qi_node *n, const struct qi_node *except,
			     const char *what, struct qi_error *e)
{
	struct qi_files f;
	char list[600] = "";
	size_t used = 0;
	int ret = qi_node_dependents(n, except, &f, e);

	if (ret || !f.count)
		return ret;
	for (size_t i = 0; i < f.count && used < sizeof(list); i++) {
		int len = snprintf(list + used, sizeof(list) - used, "%s'%s'",
				   i ? ", " : "", f.path[i]);

		used += len > 0 ? (size_t)len : 0;
	}
	qi_files_free(&f);
	return qi_fail(e, ESTALE,
		       "cannot %s '%s': other images have it as "
		       "their backing file and would be corrupted: %s",
		       what, n->path, list);
}
