/* SPDX-License-Identifier: MIT */
/* drive.c - drives: whichever node is the head now */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/drive.h"
#include "lib/name.h"

#define MAX_LINKS 40

/* Follow *path one symbolic link further. 1: done, 0: it is none. */
static int follow(const struct qi_drive *d, char **path, struct qi_error *e)
{
	char target[4096];
	ssize_t n = readlink(*path, target, sizeof(target) - 1);
	QI_AUTOFREE char *dir = NULL;
	char *next;

	if (n < 0 && errno == EINVAL)
		return 0;
	if (n < 0 && (errno == ENOENT || errno == ENOTDIR) &&
	    strcmp(*path, d->path))
		return qi_fail(e, errno,
			       "drive '%s' is a link to '%s', which is not "
			       "there; 'ln -sfn IMAGE %s' mends it",
			       d->path, *path, d->path);
	if (n < 0 && strcmp(*path, d->path))
		return qi_fail(e, errno, "cannot open drive '%s': '%s': %s",
			       d->path, *path, strerror(errno));
	if (n < 0)
		return qi_fail(e, errno, "cannot open drive '%s': %s", d->path,
			       strerror(errno));
	target[n] = '\0';
	dir = qi_path_folder(*path);
	next = dir ? qi_path_join(dir, target) : NULL;
	if (!next)
		return qi_no_memory(e);
	free(*path);
	*path = next;
	return 1;
}

/* Not file:PATH, or json:{...}: there are no links in such names. */
static bool is_plain_path(const char *path)
{
	struct qi_name name;
	bool yes;

	if (qi_name_parse(&name, path, NULL))
		return false;
	yes = !strcmp(name.path, path);
	qi_name_clear(&name);
	return yes;
}

/* Backing names are relative to where the head really is. */
static int find_head(struct qi_drive *d, struct qi_error *e)
{
	int ret;

	d->head_path = strdup(d->path);
	if (!d->head_path)
		return qi_no_memory(e);
	if (!is_plain_path(d->path))
		return 0;
	for (int i = 0; i < MAX_LINKS; i++) {
		ret = follow(d, &d->head_path, e);
		if (ret <= 0)
			return ret;
		d->is_link = true;
	}
	return qi_fail(e, ELOOP, "cannot open drive '%s': too many links",
		       d->path);
}

int qi_drive_add(struct qi_graph *g, const char *path,
		 const struct qi_open *how, struct qi_drive **out,
		 struct qi_error *e)
{
	struct qi_drive *d = calloc(1, sizeof(*d));
	int ret;

	if (!d)
		return qi_no_memory(e);
	d->strict = how->strict;
	d->is_layer = how->layer;
	d->path = strdup(path);
	ret = d->path ? find_head(d, e) : qi_no_memory(e);
	if (!ret)
		ret = qi_graph_add(g, d->head_path, how, &d->head, e);
	if (ret) {
		qi_drive_free(d);
		return ret;
	}
	*out = d;
	return 0;
}

void qi_drive_free(struct qi_drive *d)
{
	if (!d)
		return;
	free(d->path);
	free(d->head_path);
	free(d);
}

const char *qi_drive_path(const struct qi_drive *d)
{
	return d->path;
}

bool qi_drive_is_link(const struct qi_drive *d)
{
	return d->is_link;
}

struct qi_node *qi_drive_head(const struct qi_drive *d)
{
	return d->head;
}

struct qi_node *qi_drive_recorded(const struct qi_drive *d)
{
	struct qi_node *n = d->head;

	while (n && !(qi_record_state_of(n) == QI_RECORD_VALID &&
		      !qi_uuid_is_null(&n->record->drive)))
		n = n->facts.backing;
	return n;
}

struct qi_uuid qi_drive_uuid(const struct qi_drive *d)
{
	const struct qi_node *n = qi_drive_recorded(d);

	return n ? n->record->drive : (struct qi_uuid){ { 0 } };
}

bool qi_node_is_of_other(const struct qi_drive *d, const struct qi_node *n)
{
	struct qi_uuid drive = qi_drive_uuid(d);

	return qi_record_state_of(n) == QI_RECORD_VALID &&
	       !qi_uuid_is_null(&n->record->drive) &&
	       !qi_uuid_equal(&n->record->drive, &drive);
}

bool qi_node_is_empty(struct qi_node *n)
{
	struct qi_ranges *r;
	struct qi_range any;
	int ret = qi_ranges_allocated(&r, n);

	if (ret)
		return false;
	ret = qi_ranges_next(r, &any, NULL);
	qi_ranges_free(r);
	return ret == 0;
}

bool qi_drive_is_unfinished(const struct qi_drive *d, const char *path,
			    char tag[QI_TAG_MAX + 1])
{
	const struct qi_open how = { .no_backing = true };
	const struct qi_record *ours = d->head->record, *r;
	struct qi_graph *g;
	struct qi_node *n;
	bool yes = false;

	if (!d->is_link || qi_record_state_of(d->head) != QI_RECORD_VALID ||
	    qi_graph_new(&g))
		return false;
	if (!qi_graph_add(g, path, &how, &n, NULL) &&
	    qi_record_state_of(n) == QI_RECORD_VALID) {
		r = n->record;
		yes = qi_uuid_equal(&r->drive, &ours->drive) &&
		      qi_uuid_equal(&r->parent, &ours->image) &&
		      qi_node_is_empty(n);
		if (yes && tag)
			memcpy(tag, r->tag, sizeof(r->tag));
	}
	qi_graph_free(g);
	return yes;
}

/*
 * How many layers from the head on matter to the drive's bitmaps: down to where
 * the first of them starts; without any, to the topmost that has a record.
 */
static int count_layers(struct qi_drive *d, size_t *out, struct qi_error *e)
{
	const struct qi_node *recorded = qi_drive_recorded(d);
	struct qi_drive_bitmap *all;
	struct qi_dirty *dirty;
	size_t count, layers;
	int ret = qi_drive_bitmaps(d, &all, &count, e);

	*out = 0;
	for (const struct qi_node *n = d->head; recorded && n != recorded;
	     n = n->facts.backing)
		*out += 1;
	for (size_t i = 0; i < count && !ret; i++) {
		ret = qi_dirty_new(d, all[i].name, &dirty, e);
		if (ret)
			break;
		qi_dirty_layers(dirty, &layers);
		*out = qi_max(*out, layers - 1);
		qi_dirty_free(dirty);
	}
	free(all);
	return ret;
}

int qi_drive_check_strict(struct qi_drive *d, struct qi_error *e)
{
	const struct qi_node *n = d->head;
	size_t layers = 0;
	int ret = d->strict ? count_layers(d, &layers, e) : 0;

	for (size_t i = 0; i < layers && !ret; i++, n = n->facts.backing)
		if (qi_record_state_of(n) == QI_RECORD_NONE ||
		    (qi_record_state_of(n) == QI_RECORD_VALID &&
		     qi_uuid_is_null(&n->record->drive)))
			ret = qi_fail(e, ESTALE,
				      "'%s', a layer of drive '%s', was made "
				      "by another tool; the same command "
				      "without --strict takes it as one that "
				      "continues the drive, with all that it "
				      "has allocated as dirty",
				      n->path, d->path);
	return ret;
}

int qi_node_check_marks(const struct qi_node *n, const char *what,
			struct qi_error *e)
{
	const struct qi_record *r = n->record;

	if (qi_graph_is_stock(n->graph) ||
	    qi_record_state_of(n) != QI_RECORD_VALID ||
	    !(r->frozen || r->shared))
		return 0;
	return qi_fail(e, ESTALE,
		       "cannot %s '%s': %s, and an image in another folder may "
		       "rest on it; when none does, 'qimg clone --unshare %s' "
		       "says so",
		       what, n->path,
		       r->shared ? "clones were made on it" :
				   "a snapshot has frozen it",
		       QI_WORD(n->path));
}

int qi_drive_check(struct qi_drive *d, struct qi_error *e)
{
	const struct qi_record *r = d->head->record;
	struct qi_files above;
	int ret;

	/* The link was followed before the locks were taken. */
	if (!qi_node_is_file(d->head, d->path))
		return qi_fail(e, ESTALE,
			       "drive '%s' got another head while it was being "
			       "opened; try again",
			       d->path);
	ret = qi_drive_check_strict(d, e);
	if (ret)
		return ret;
	if (!d->is_warned && qi_record_state_of(d->head) == QI_RECORD_NONE &&
	    qi_drive_recorded(d)) {
		d->is_warned = true;
		qi_warn(d->head->graph,
			"'%s' was made by another tool; it is taken as the "
			"head that continues this drive",
			d->head->path);
	}
	if (qi_record_state_of(d->head) != QI_RECORD_VALID || !r->frozen)
		return 0;
	ret = qi_node_dependents(d->head, NULL, &above, e);
	for (size_t i = 0; !ret && i < above.count; i++)
		if (!qi_drive_is_unfinished(d, above.path[i], NULL))
			ret = qi_fail(e, ESTALE,
				      "'%s' is a frozen layer and not the head "
				      "of a drive: '%s' was made on it",
				      d->head->path, above.path[i]);
	qi_files_free(&above);
	return ret;
}

const struct qi_record_bitmap *qi_drive_segment(const struct qi_drive *d,
						const struct qi_node *n,
						const char *name)
{
	struct qi_uuid drive = qi_drive_uuid(d);

	if (qi_record_state_of(n) != QI_RECORD_VALID ||
	    qi_uuid_is_null(&drive) ||
	    !qi_uuid_equal(&n->record->drive, &drive))
		return NULL;
	return qi_record_find(n->record, name);
}

bool qi_drive_owns(const struct qi_drive *d, const struct qi_node *n,
		   const char *name)
{
	const struct qi_record_bitmap *b = qi_drive_segment(d, n, name);

	return b && !b->removed;
}

int qi_drive_head_record(const struct qi_drive *d, struct qi_record **out,
			 struct qi_error *e)
{
	const struct qi_node *below = d->head->facts.backing;
	struct qi_uuid drive = qi_drive_uuid(d);
	struct qi_record *r;

	if (qi_record_copy(&r, d->head->record))
		return qi_no_memory(e);
	if (qi_record_state_of(d->head) != QI_RECORD_VALID && below &&
	    qi_record_state_of(below) == QI_RECORD_VALID)
		r->parent = below->record->image;
	/* Whatever is stored next, what was committed is not all it has. */
	r->committed = false;
	if (qi_uuid_is_null(&r->drive))
		r->drive = qi_uuid_is_null(&drive) ? qi_uuid_random() : drive;
	*out = r;
	return 0;
}

static int can_store(struct qi_node *n, bool record, struct qi_error *e)
{
	if (n->format->bitmaps)
		return n->format->bitmaps->can_store(n, record, e);
	return qi_stock(e,
			qi_fail(e, ESTALE,
				"'%s' cannot hold bitmaps: it is in %s format; "
				"convert it with 'qimg convert -O qcow2 %s "
				"NEW'",
				n->path, n->format->name, QI_WORD(n->path)),
			"Can't store persistent bitmaps to " QI_STOCK_NODE
			": %s",
			strerror(EOPNOTSUPP));
}

int qi_node_can_store(struct qi_node *n, struct qi_error *e)
{
	return can_store(n, true, e);
}

int qi_node_can_hold(struct qi_node *n, struct qi_error *e)
{
	return can_store(n, false, e);
}

static int serialise(const struct qi_node *n, const struct qi_record *r,
		     void **blob, size_t *len, struct qi_error *e)
{
	int ret = qi_record_serialise(r, blob, len);

	if (ret != -E2BIG)
		return ret ? qi_no_memory(e) : 0;
	return qi_fail(e, E2BIG,
		       "the record of '%s' is full: use fewer drive bitmaps, "
		       "or shorter names",
		       n->path);
}

int qi_node_check_room(struct qi_node *n, const struct qi_record *r,
		       bool bitmaps, struct qi_error *e)
{
	QI_AUTOFREE void *blob = NULL;
	size_t len;
	int ret = serialise(n, r, &blob, &len, e);

	return ret ? ret : n->format->bitmaps->check_room(n, bitmaps, len, e);
}

int qi_node_store(struct qi_node *n, const struct qi_record *r,
		  const struct qi_bitmap_change *changes, size_t count,
		  struct qi_error *e)
{
	QI_AUTOFREE void *blob = NULL;
	size_t len = 0;
	int ret = can_store(n, r, e);

	if (!ret)
		ret = qi_node_check_writable(n, e);
	for (size_t i = 0; r && i < r->count; i++)
		r->bitmaps[i].min_size =
			qi_min(r->bitmaps[i].min_size, n->facts.size);
	if (!ret && r)
		ret = serialise(n, r, &blob, &len, e);
	return ret ? ret :
		     n->format->bitmaps->update(n, changes, count, blob, len,
						e);
}

/* ---------------------------------------------------------------- plans */

int qi_plan_step(struct qi_plan *p, const char *fmt, ...)
{
	char *text, **steps;
	va_list ap;
	int n;

	if (!p)
		return 0;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	steps = n < 0 ? NULL :
			realloc(p->steps, (p->count + 1) * sizeof(char *));
	if (!steps) {
		if (n >= 0)
			free(text);
		return -ENOMEM;
	}
	p->steps = steps;
	p->steps[p->count++] = text;
	return 0;
}

int qi_plan_copy(struct qi_plan *p, const char *from, const char *into,
		 const uint64_t *bytes)
{
	char data[PATH_MAX + 32] = "data", size[32] = "";

	if (!p)
		return 0;
	if (from)
		snprintf(data, sizeof(data), "the data of '%s'", from);
	if (bytes) {
		p->bytes += *bytes;
		snprintf(size, sizeof(size), ": %llu bytes",
			 (unsigned long long)*bytes);
	}
	return qi_plan_step(p, "copy %s into '%s'%s", data, into, size);
}

int qi_plan_backing(struct qi_plan *p, const char *layer, const char *name)
{
	return name ? qi_plan_step(p, "make '%s' the backing file of '%s'",
				   name, layer) :
		      qi_plan_step(p,
				   "make '%s' an image without a backing file",
				   layer);
}

void qi_plan_free(struct qi_plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->steps[i]);
	free(p->steps);
	*p = (struct qi_plan){ 0 };
}
