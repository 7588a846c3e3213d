/* SPDX-License-Identifier: MIT */
/*
 * rebase.c - another backing file under an image
 *
 * Order of writes, each durable before the next: the image's segments get
 * what the layers that it leaves behind had (a superset, and an anchor moves
 * up with them); data that would read differently; the header with the new
 * backing file and the new parent, which is the switch. Until then the image
 * reads what it read, and so it does after it.
 *
 * The guest sees no change in all this, so nothing is marked as dirty. In
 * unsafe mode it may, so everything is, unless the file is the same.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/copy.h"
#include "lib/drive.h"
#include "lib/name.h"

struct work {
	const struct qi_rebase *how;
	struct qi_node *n;
	struct qi_node *base; /* the new one; NULL: none, or not opened */
	struct qi_node
		*common;       /* first layer below n that is below base, too */
	struct qi_drive drive; /* as seen from n */
	const char *name;      /* to be recorded, NULL: none */
	const char *format;
	struct qi_carry carry;
	struct qi_copy_stats *stats;
};

static const char *wanted_name(const struct qi_rebase *r)
{
	return r->backing_name && *r->backing_name ? r->backing_name : NULL;
}

int qi_rebase_open(struct qi_graph *g, const char *path, struct qi_rebase *r,
		   struct qi_error *e)
{
	const char *name = wanted_name(r);
	const struct qi_open top = { .format = r->format,
				     .access = QI_ACCESS_WRITE,
				     .no_backing = r->unsafe };
	const struct qi_open below = { .format = r->backing_format,
				       .access = QI_ACCESS_READ };
	QI_AUTOFREE char *where = NULL;
	int ret;

	r->base = NULL;
	if (r->backing_format && !qi_format_find(r->backing_format))
		return qi_fail(e, EINVAL, "unknown backing format '%s'",
			       r->backing_format);
	ret = qi_graph_add(g, path, &top, &r->node, e);
	if (ret || r->unsafe || !name)
		return ret;
	where = qi_name_beside(r->node->path, name);
	if (!where)
		return qi_no_memory(e);
	ret = qi_graph_add(g, where, &below, &r->base, e);
	return ret ? qi_context(e, ret, "new backing file") : 0;
}

static int refuse_loop(const struct work *w, struct qi_error *e)
{
	return qi_fail(e, EINVAL, "'%s' would rest on itself", w->n->path);
}

/* Its new parent, for a node that has a record. */
static int set_parent(struct work *w, const struct qi_uuid *parent,
		      struct qi_error *e)
{
	if (qi_record_state_of(w->n) == QI_RECORD_UNKNOWN ||
	    (qi_record_state_of(w->n) == QI_RECORD_NONE && !w->carry.record))
		return 0;
	if (!w->carry.record && qi_record_copy(&w->carry.record, w->n->record))
		return qi_no_memory(e);
	w->carry.record->parent = *parent;
	return 0;
}

static struct qi_uuid image_uuid(const struct qi_node *n)
{
	return n && qi_record_state_of(n) == QI_RECORD_VALID ?
		       n->record->image :
		       (struct qi_uuid){ { 0 } };
}

/* ----------------------------------------------------------------- data */

static int differing(struct work *w, uint64_t unit, struct qi_ranges **out)
{
	struct qi_node *old = w->n->facts.backing;
	uint64_t size = w->n->facts.size;
	struct qi_ranges *in[2], *all;
	int ret = qi_ranges_above(&in[0], old, w->common, size);

	if (ret)
		return ret;
	ret = qi_ranges_above(&in[1], w->base, w->common, size);
	if (ret) {
		qi_ranges_free(in[0]);
		return ret;
	}
	ret = qi_ranges_union(&all, in, 2);
	return ret ? ret :
		     qi_ranges_differing(out, w->n, old, w->base, unit, all,
					 &w->how->progress);
}

static int copy_data(struct work *w, struct qi_error *e)
{
	struct qi_copy copy = { .src = w->n,
				.compress = w->how->compress,
				.threads = w->how->threads };
	int ret = w->n->format->edit(w->n, &copy.writer, e);

	if (ret)
		return ret;
	copy.writer->gets_backing = w->name != NULL;
	if (differing(w, copy.writer->unit, &copy.ranges))
		ret = qi_no_memory(e);
	else
		ret = qi_copy_run(&copy, w->stats, e);
	if (!ret)
		ret = copy.writer->ops->finish(copy.writer, e);
	qi_ranges_free(copy.ranges);
	copy.writer->ops->free(copy.writer);
	return ret;
}

/* For --dry-run: what would be copied. */
static int count_data(struct work *w, uint64_t *bytes, struct qi_error *e)
{
	struct qi_ranges *r;
	struct qi_range x;
	int ret = differing(w, qi_max(w->n->facts.cluster_size, 512), &r);

	*bytes = 0;
	if (ret)
		return qi_no_memory(e);
	while ((ret = qi_ranges_next(r, &x, e)) > 0)
		*bytes += x.len;
	qi_ranges_free(r);
	return ret;
}

/* ----------------------------------------------------------------- safe */

static int plan_steps(struct work *w, struct qi_plan *p, bool dry_run,
		      struct qi_error *e)
{
	uint64_t bytes = 0;
	int ret = 0;

	if (dry_run && !w->how->unsafe)
		ret = count_data(w, &bytes, e);
	if (ret)
		return ret;
	if (w->carry.edits.count && !w->how->unsafe)
		ret = qi_plan_step(p,
				   "merge the bitmaps of the layers that '%s' "
				   "leaves into its own",
				   w->n->path);
	else if (w->carry.edits.count)
		ret = qi_plan_step(p,
				   "mark all as dirty in the bitmaps of '%s'",
				   w->n->path);
	if (!ret && !w->how->unsafe && dry_run)
		ret = qi_plan_step(p, "copy %llu bytes into '%s'",
				   (unsigned long long)bytes, w->n->path);
	else if (!ret && !w->how->unsafe)
		ret = qi_plan_step(p,
				   "copy what would read differently into '%s'",
				   w->n->path);
	if (!ret && w->name)
		ret = qi_plan_step(p, "make '%s' the backing file of '%s'",
				   w->name, w->n->path);
	else if (!ret)
		ret = qi_plan_step(p,
				   "make '%s' an image without a backing file",
				   w->n->path);
	return ret ? qi_no_memory(e) : 0;
}

static int run_safe(struct work *w, struct qi_plan *p, bool dry_run,
		    struct qi_error *e)
{
	struct qi_uuid parent = image_uuid(w->base);
	int ret;

	if (qi_node_is_in_chain(w->n, w->base))
		return refuse_loop(w, e);
	w->common = w->n->facts.backing;
	while (w->common && !qi_node_is_in_chain(w->common, w->base))
		w->common = w->common->facts.backing;
	ret = qi_node_check_edit(w->n, w->how->compress, e);
	if (!ret)
		ret = qi_carry_plan(&w->carry, e);
	if (!ret)
		ret = qi_node_set_backing(w->n, w->name, w->format,
					  w->carry.record, true, e);
	if (!ret)
		ret = plan_steps(w, p, dry_run, e);
	if (ret || dry_run)
		return ret;
	ret = qi_carry_store(&w->carry, e);
	if (!ret)
		ret = copy_data(w, e);
	if (!ret)
		ret = set_parent(w, &parent, e);
	if (!ret)
		ret = qi_node_set_backing(w->n, w->name, w->format,
					  w->carry.record, false, e);
	if (!ret)
		w->n->facts.backing = w->base;
	return ret;
}

/* --------------------------------------------------------------- unsafe */

/* The new backing file, if it is there; nothing is locked or read. */
static int look_at_base(struct work *w, struct qi_graph *g, struct qi_error *e)
{
	const struct qi_open how = { .format = w->how->backing_format };
	QI_AUTOFREE char *where = qi_name_beside(w->n->path, w->name);
	const struct qi_file *own = w->n->file;

	if (!where)
		return qi_no_memory(e);
	if (qi_graph_add(g, where, &how, &w->base, NULL))
		w->base = NULL;
	for (struct qi_node *n = w->base; n; n = n->facts.backing)
		if (n->file->dev == own->dev && n->file->ino == own->ino)
			return refuse_loop(w, e);
	if (!w->format && w->base)
		w->format = w->base->format->name;
	if (!w->format)
		return qi_fail(e, EINVAL,
			       "the new backing file '%s' cannot be opened, so "
			       "its format must be given with -F",
			       w->name);
	return 0;
}

/* Does n keep what lies below, perhaps under another name? */
static bool is_same_base(const struct work *w)
{
	const struct qi_record *r = w->n->record;
	const char *old = w->n->backing_name;
	const char *format = w->n->backing_format;
	QI_AUTOFREE char *where = NULL;

	if (!w->base || !old)
		return !w->name && !old;
	/* The same bytes in another format are another disk. */
	if (!format || strcmp(format, w->base->format->name))
		return false;
	if (qi_record_state_of(w->n) == QI_RECORD_VALID &&
	    !qi_uuid_is_null(&r->parent)) {
		struct qi_uuid uuid = image_uuid(w->base);

		return qi_uuid_equal(&uuid, &r->parent);
	}
	where = qi_name_beside(w->n->path, old);
	return where && qi_node_is_file(w->base, where);
}

/* Its own bitmaps cannot know what changed: all. */
static int mark_all(struct work *w)
{
	const struct qi_stored_bitmap *all;
	size_t count = 0;

	if (qi_node_can_hold(w->n, NULL))
		return 0;
	all = w->n->format->bitmaps->list(w->n, &count);
	for (size_t i = 0; i < count; i++) {
		struct qi_bitmap_change *c;

		if (all[i].problem || !all[i].enabled ||
		    qi_drive_segment(&w->carry.drive, w->n, all[i].name))
			continue;
		c = qi_edits_add(&w->carry.edits);
		if (!c || qi_ranges_one(&c->bits, 0, w->n->facts.size))
			return -ENOMEM;
		c->name = all[i].name;
		c->enabled = true;
		c->granularity_bits = all[i].granularity_bits;
	}
	return 0;
}

/* A parent that no image is: the drive's bitmaps are full until cleared. */
static int forget_parent(struct work *w, struct qi_error *e)
{
	struct qi_uuid unknown = qi_uuid_random();

	if (qi_record_state_of(w->n) != QI_RECORD_VALID ||
	    !qi_uuid_is_null(&w->n->record->parent))
		return 0;
	return set_parent(w, &unknown, e);
}

static int run_unsafe(struct work *w, struct qi_plan *p, bool dry_run,
		      struct qi_error *e)
{
	int ret = 0;

	if (!is_same_base(w)) {
		ret = mark_all(w) ? qi_no_memory(e) : forget_parent(w, e);
		if (!ret && w->carry.edits.count)
			qi_warn(w->n->graph,
				"'%s' may read differently now, so all is dirty "
				"in its bitmaps",
				w->n->path);
	}
	if (!ret)
		ret = qi_node_set_backing(w->n, w->name, w->format,
					  w->carry.record, true, e);
	if (!ret)
		ret = plan_steps(w, p, dry_run, e);
	if (ret || dry_run)
		return ret;
	if (w->carry.edits.count)
		ret = qi_node_store(w->n, NULL, w->carry.edits.changes,
				    w->carry.edits.count, e);
	return ret ? ret :
		     qi_node_set_backing(w->n, w->name, w->format,
					 w->carry.record, false, e);
}

/* Names and formats come from a graph that is gone afterwards. */
static int start_unsafe(struct work *w, struct qi_plan *p, bool dry_run,
			struct qi_error *e)
{
	struct qi_graph *g;
	int ret;

	if (qi_graph_new(&g))
		return qi_no_memory(e);
	ret = w->name ? look_at_base(w, g, e) : 0;
	if (!ret)
		ret = run_unsafe(w, p, dry_run, e);
	qi_graph_free(g);
	return ret;
}

int qi_rebase_run(const struct qi_rebase *r, struct qi_plan *plan, bool dry_run,
		  struct qi_copy_stats *stats, struct qi_error *e)
{
	struct work w = { .how = r,
			  .n = r->node,
			  .base = r->base,
			  .carry = { .drive = { .path = r->node->path,
						.head = r->node },
				     .base = r->base },
			  .name = wanted_name(r),
			  .format = r->backing_format,
			  .stats = stats };
	int ret;

	*stats = (struct qi_copy_stats){ 0 };
	/* Recorded, so that nobody has to probe it again. */
	if (!w.format && w.base)
		w.format = w.base->format->name;
	ret = r->unsafe ? start_unsafe(&w, plan, dry_run, e) :
			  run_safe(&w, plan, dry_run, e);
	qi_carry_clear(&w.carry);
	return ret;
}
