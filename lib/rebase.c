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

#include "lib/files.h"
#include "lib/merge.h"
#include "lib/name.h"
#include "lib/onto.h"

struct work {
	const struct qi_rebase *how;
	struct qi_node *n;
	struct qi_onto onto; /* base NULL: none, or not opened */
};

static const char *wanted_name(const struct qi_rebase *r)
{
	return r->backing_name && *r->backing_name ? r->backing_name : NULL;
}

/* Backing names are relative to where a link leads. */
static int add_image(struct qi_graph *g, const char *path,
		     const struct qi_open *how, struct qi_node **out,
		     struct qi_error *e)
{
	struct qi_drive *d;
	int ret = qi_drive_add(g, path, how, &d, e);

	if (ret)
		return ret;
	*out = d->head;
	qi_drive_free(d);
	return 0;
}

int qi_rebase_open(struct qi_graph *g, const char *path, struct qi_rebase *r,
		   struct qi_error *e)
{
	const char *name = wanted_name(r);
	const struct qi_open top = { .format = r->format,
				     .access = QI_ACCESS_WRITE,
				     .no_backing = r->unsafe };
	const struct qi_open below = { .format = r->backing_format,
				       .access = QI_ACCESS_READ,
				       .force_share = r->base_force_share };
	QI_AUTOFREE char *where = NULL;
	int ret = 0;

	r->base = NULL;
	if (r->backing_format && !qi_format_find(r->backing_format))
		return qi_fail(e, EINVAL, "unknown backing format '%s'",
			       r->backing_format);
	if (!r->node)
		ret = add_image(g, path, &top, &r->node, e);
	if (ret || r->unsafe || !name)
		return ret;
	where = qi_name_beside(r->node->path, name);
	if (!where)
		return qi_no_memory(e);
	ret = qi_graph_add(g, where, &below, &r->base, e);
	return ret ? qi_context(e, ret, "new backing file") : 0;
}

/* ----------------------------------------------------------------- safe */

/* Only the state of now is copied. */
static void warn_internal(const struct work *w)
{
	struct qi_error e;

	if (!qi_graph_is_stock(w->n->graph) &&
	    w->onto.base != w->n->facts.backing &&
	    qi_node_refuse_internal(w->n, "change what that reads", &e))
		qi_warn(w->n->graph, "%s", e.text);
}

static int run_safe(struct work *w, struct qi_plan *p, bool dry_run,
		    struct qi_error *e)
{
	int ret = qi_onto_plan(&w->onto, e);

	if (!ret)
		warn_internal(w);
	if (!ret)
		ret = qi_onto_plan_steps(&w->onto, NULL, p, dry_run, e);
	return ret || dry_run ? ret : qi_onto_run(&w->onto, e);
}

/* --------------------------------------------------------------- unsafe */

static int plan_unsafe(const struct work *w, struct qi_plan *p,
		       struct qi_error *e)
{
	int ret = 0;

	if (w->onto.carry.edits.count)
		ret = qi_plan_step(p,
				   "mark all as dirty in the bitmaps of '%s'",
				   w->n->path);
	if (!ret)
		ret = qi_plan_backing(p, w->n->path, w->onto.name);
	return ret ? qi_no_memory(e) : 0;
}

/* The new backing file, if it is there; nothing is locked or read. */
static int look_at_base(struct work *w, struct qi_graph *g, struct qi_error *e)
{
	const struct qi_open how = { .format = w->how->backing_format };
	QI_AUTOFREE char *where = qi_name_beside(w->n->path, w->onto.name);
	const struct qi_file *own = w->n->file;

	if (!where)
		return qi_no_memory(e);
	if (qi_graph_add(g, where, &how, &w->onto.base, NULL))
		w->onto.base = NULL;
	/* What is recorded is what was asked for. */
	if (qi_graph_is_stock(w->n->graph))
		return 0;
	for (struct qi_node *n = w->onto.base; n; n = n->facts.backing)
		if (n->file->dev == own->dev && n->file->ino == own->ino)
			return qi_fail(e, EINVAL, "'%s' would rest on itself",
				       w->n->path);
	if (!w->onto.format && w->onto.base)
		w->onto.format = w->onto.base->format->name;
	if (!w->onto.format)
		return qi_fail(e, EINVAL,
			       "the new backing file '%s' cannot be opened, so "
			       "its format must be given with -F",
			       w->onto.name);
	return 0;
}

/* Does n keep what lies below, perhaps under another name? */
static bool is_same_base(const struct work *w)
{
	const struct qi_record *r = w->n->record;
	const char *old = w->n->backing_name;
	const char *format = w->n->backing_format;
	QI_AUTOFREE char *where = NULL;

	if (!w->onto.base || !old)
		return !w->onto.name && !old;
	/* The same bytes in another format are another disk. */
	if (!format || strcmp(format, w->onto.base->format->name))
		return false;
	if (qi_record_state_of(w->n) == QI_RECORD_VALID &&
	    !qi_uuid_is_null(&r->parent)) {
		struct qi_uuid uuid = qi_node_uuid(w->onto.base);

		return qi_uuid_equal(&uuid, &r->parent);
	}
	where = qi_name_beside(w->n->path, old);
	return where && qi_node_is_file(w->onto.base, where);
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
		    qi_drive_owns(&w->onto.carry.drive, w->n, all[i].name))
			continue;
		c = qi_edits_add(&w->onto.carry.edits);
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
	if (qi_record_state_of(w->n) != QI_RECORD_VALID ||
	    !qi_uuid_is_null(&w->n->record->parent))
		return 0;
	if (qi_record_copy(&w->onto.carry.record, w->n->record))
		return qi_no_memory(e);
	w->onto.carry.record->parent = qi_uuid_random();
	return 0;
}

/* The images above read other data, of which no bitmap of theirs can know. */
static void warn_dependents(const struct work *w)
{
	struct qi_files above;
	struct qi_error e;
	char list[600];

	if (qi_node_dependents(w->n, NULL, &above, &e)) {
		qi_warn(w->n->graph,
			"what rests on '%s' cannot be warned of: %s",
			w->n->path, e.text);
		return;
	}
	qi_files_text(&above, list, sizeof(list));
	if (above.count)
		qi_warn(w->n->graph,
			"images that rest on '%s' may read differently now, "
			"and their bitmaps do not know of it: %s",
			w->n->path, list);
	qi_files_free(&above);
}

static int run_unsafe(struct work *w, struct qi_plan *p, bool dry_run,
		      struct qi_error *e)
{
	int ret = 0;

	/* QEMU changes no bitmap, and says nothing. */
	if (qi_graph_is_stock(w->n->graph)) {
		ret = is_same_base(w) ? 0 : forget_parent(w, e);
	} else if (!is_same_base(w)) {
		ret = mark_all(w) ? qi_no_memory(e) : forget_parent(w, e);
		if (!ret && w->onto.carry.edits.count)
			qi_warn(w->n->graph,
				"'%s' may read differently now, so all is dirty "
				"in its bitmaps",
				w->n->path);
		if (!ret)
			warn_dependents(w);
	}
	if (!ret)
		ret = qi_node_set_backing(w->n, w->onto.name, w->onto.format,
					  w->onto.carry.record, true, e);
	if (!ret)
		ret = plan_unsafe(w, p, e);
	if (ret || dry_run)
		return ret;
	if (w->onto.carry.edits.count)
		ret = qi_node_store(w->n, NULL, w->onto.carry.edits.changes,
				    w->onto.carry.edits.count, e);
	return ret ? ret :
		     qi_node_set_backing(w->n, w->onto.name, w->onto.format,
					 w->onto.carry.record, false, e);
}

/* Names and formats come from a graph that is gone afterwards. */
static int start_unsafe(struct work *w, struct qi_plan *p, bool dry_run,
			struct qi_error *e)
{
	struct qi_graph *g;
	int ret;

	if (qi_graph_new(&g))
		return qi_no_memory(e);
	ret = w->onto.name ? look_at_base(w, g, e) : 0;
	if (!ret)
		ret = run_unsafe(w, p, dry_run, e);
	qi_graph_free(g);
	return ret;
}

int qi_rebase_run(const struct qi_rebase *r, struct qi_plan *plan, bool dry_run,
		  struct qi_copy_stats *stats, struct qi_error *e)
{
	const struct qi_drive self = { .path = r->node->path, .head = r->node };
	struct work w = { .how = r,
			  .n = r->node,
			  .onto = { .n = r->node,
				    .base = r->base,
				    .name = wanted_name(r),
				    .format = r->backing_format,
				    .compress = r->compress,
				    .threads = r->threads,
				    .progress = r->progress,
				    .carry.drive = self } };
	int ret;

	/* Recorded, so that nobody has to probe it again. */
	if (!w.onto.format && r->base)
		w.onto.format = r->base->format->name;
	ret = r->unsafe ? start_unsafe(&w, plan, dry_run, e) :
			  run_safe(&w, plan, dry_run, e);
	*stats = w.onto.stats;
	qi_onto_clear(&w.onto);
	return ret;
}
