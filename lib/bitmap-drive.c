/* SPDX-License-Identifier: MIT */
/*
 * bitmap-drive.c - the verbs on (drive, name)
 *
 * Each is one header write of the head: frozen and shared layers stay as they
 * are.
 */
#include <errno.h>

#include "lib/drive.h"

static unsigned bits_of(uint32_t granularity)
{
	return (unsigned)__builtin_ctz(granularity);
}

/* ---------------------------------------------------------------- checks */

/* A layer with a node bitmap of that name, or NULL. */
static struct qi_node *find_conflict(struct qi_drive *d, const char *name)
{
	/* What belongs to another drive is never written for this one. */
	for (struct qi_node *n = d->head; n && !qi_node_is_of_other(d, n);
	     n = n->facts.backing) {
		/* Whose bitmap it is cannot be known: it gets replaced. */
		if (n == d->head && qi_record_state_of(n) == QI_RECORD_UNKNOWN)
			continue;
		if (qi_node_find_bitmap(n, name) >= 0 &&
		    !qi_drive_owns(d, n, name))
			return n;
	}
	return NULL;
}

static int refuse_conflict(struct qi_drive *d, const char *name,
			   const char *hint, struct qi_error *e)
{
	const struct qi_node *n = find_conflict(d, name);

	if (!n)
		return 0;
	return qi_fail(e, EEXIST,
		       "cannot change bitmap '%s' of drive '%s': its layer "
		       "'%s' has a node bitmap of that name; %s'qimg bitmap "
		       "remove --node %s %s' removes that one, 'qimg bitmap "
		       "move --node %s --to-node %s --as NEW %s' gives it "
		       "another name",
		       name, d->path, n->path, hint, QI_WORD(n->path),
		       QI_WORD(name), QI_WORD(n->path), QI_WORD(n->path),
		       QI_WORD(name));
}

int qi_drive_check_conflicts(struct qi_drive *d, const char *name,
			     struct qi_error *e)
{
	return refuse_conflict(d, name, "", e);
}

int qi_drive_check_new_name(struct qi_drive *d, const char *name,
			    struct qi_error *e)
{
	return refuse_conflict(d, name, "choose another name, or: ", e);
}

bool qi_drive_knows_below(const struct qi_drive *d, const struct qi_node *n,
			  const char *name)
{
	for (n = n->facts.backing; n; n = n->facts.backing)
		if (qi_drive_segment(d, n, name))
			return true;
	return false;
}

/* ------------------------------------------------------ one header write */

int qi_head_edit_begin(struct qi_head_edit *w, struct qi_drive *d,
		       struct qi_error *e)
{
	*w = (struct qi_head_edit){ .drive = d, .node = d->head };
	return qi_drive_head_record(d, &w->record, e);
}

struct qi_bitmap_change *qi_head_edit_add(struct qi_head_edit *w,
					  const char *name)
{
	struct qi_bitmap_change *c = qi_edits_add(&w->edits);

	if (c)
		c->name = name;
	return c;
}

int qi_head_edit_store(struct qi_head_edit *w, struct qi_error *e)
{
	return qi_node_store(w->node, w->record, w->edits.changes,
			     w->edits.count, e);
}

void qi_head_edit_clear(struct qi_head_edit *w)
{
	qi_edits_clear(&w->edits);
	free(w->all);
	qi_record_free(w->record);
	*w = (struct qi_head_edit){ 0 };
}

int qi_head_edit_start(struct qi_head_edit *w, const char *name, bool paused,
		       unsigned granularity_bits, struct qi_bitmap_change **out,
		       struct qi_error *e)
{
	struct qi_record_bitmap *b = qi_record_put(w->record, name);
	struct qi_bitmap_change *c = qi_head_edit_add(w, name);

	if (!b || !c)
		return qi_no_memory(e);
	b->removed = false;
	b->anchor = true;
	b->paused = b->gap = paused;
	b->checkpoint = qi_uuid_random();
	b->min_size = w->node->facts.size;
	c->enabled = !paused;
	c->granularity_bits = granularity_bits;
	if (out)
		*out = c;
	return 0;
}

int qi_head_edit_remove(struct qi_head_edit *w, const char *name,
			bool keep_stored, struct qi_error *e)
{
	struct qi_drive *d = w->drive;
	struct qi_record_bitmap *b;

	/* What is in the head by that name need not be ours. */
	if (!keep_stored && qi_drive_owns(d, w->node, name)) {
		struct qi_bitmap_change *c = qi_head_edit_add(w, name);

		if (!c)
			return qi_no_memory(e);
		c->remove = true;
	}
	if (!qi_drive_knows_below(d, w->node, name)) {
		qi_record_drop(w->record, name);
		return 0;
	}
	b = qi_record_put(w->record, name);
	if (!b)
		return qi_no_memory(e);
	*b = (struct qi_record_bitmap){ .removed = true };
	memcpy(b->name, name, strlen(name));
	return 0;
}

int qi_head_edit_keep(struct qi_head_edit *w, const struct qi_drive_bitmap *now,
		      struct qi_bitmap_change **out, struct qi_error *e)
{
	struct qi_record_bitmap *b = qi_record_find(w->record, now->name);
	struct qi_bitmap_change *c = qi_head_edit_add(w, now->name);
	enum qi_layer_status s =
		qi_layer_status_of(w->drive, w->node, now->name, NULL, 0);

	if (!c)
		return qi_no_memory(e);
	c->enabled = !now->paused;
	c->granularity_bits = bits_of(now->granularity);
	c->keep_bits = s == QI_LAYER_EXACT || s == QI_LAYER_PAUSED;
	if (!c->keep_bits &&
	    qi_layer_ranges(w->drive, w->node, now->name, &c->bits))
		return qi_no_memory(e);
	if (!b) {
		b = qi_record_put(w->record, now->name);
		if (!b)
			return qi_no_memory(e);
		b->checkpoint = now->checkpoint;
		b->min_size = w->node->facts.size;
	}
	b->paused = now->paused;
	b->gap |= now->paused;
	*out = c;
	return 0;
}

/* All of the disk is dirty, from here on. */
static int make_full(struct qi_head_edit *w, const struct qi_drive_bitmap *now,
		     struct qi_error *e)
{
	struct qi_bitmap_change *c;
	struct qi_record_bitmap *b = qi_record_put(w->record, now->name);
	int ret = qi_drive_check_conflicts(w->drive, now->name, e);

	if (ret)
		return ret;
	c = qi_head_edit_add(w, now->name);
	if (!b || !c || qi_ranges_one(&c->bits, 0, w->node->facts.size))
		return qi_no_memory(e);
	c->enabled = !now->paused;
	c->granularity_bits = bits_of(now->granularity);
	b->anchor = true;
	b->paused = now->paused;
	b->gap |= now->paused;
	b->checkpoint = now->checkpoint;
	b->min_size = w->node->facts.size;
	return 0;
}

int qi_head_edit_adopt(struct qi_head_edit *w, const char *starts,
		       const char *ends, struct qi_error *e)
{
	const struct qi_node *below = w->node->facts.backing;
	size_t total;
	int ret;

	if (qi_node_parent_is_right(w->node))
		return 0;
	ret = qi_drive_bitmaps(w->drive, &w->all, &total, e);
	if (ret)
		return ret;
	for (size_t i = 0; i < total && !ret; i++)
		if (strcmp(w->all[i].name, starts) &&
		    (!ends || strcmp(w->all[i].name, ends)))
			ret = make_full(w, &w->all[i], e);
	/* The tag was that of another layer. */
	memset(w->record->tag, 0, sizeof(w->record->tag));
	w->record->parent = below && qi_record_state_of(below) ==
						    QI_RECORD_VALID ?
				    below->record->image :
				    (struct qi_uuid){ { 0 } };
	return ret;
}

/* ----------------------------------------------------------------- verbs */

static int clear_on_drive(struct qi_head_edit *w,
			  const struct qi_drive_bitmap *now,
			  const struct qi_bitmap_edit *edit, struct qi_error *e)
{
	int ret = qi_head_edit_start(w, edit->name, now->paused,
				     bits_of(now->granularity), NULL, e);

	if (!ret && edit->checkpoint)
		qi_record_find(w->record, edit->name)->checkpoint =
			*edit->checkpoint;
	return ret;
}

/*
 * Pause or go on. A head without a good segment gets one that says what the
 * head contributes anyway, so that nothing is lost by the change.
 */
static int pause_on_drive(struct qi_head_edit *w, struct qi_drive_bitmap *now,
			  const struct qi_bitmap_edit *edit, struct qi_error *e)
{
	struct qi_bitmap_change *c;
	int ret;

	now->paused = edit->verb == QI_BITMAP_DISABLE;
	ret = qi_head_edit_keep(w, now, &c, e);
	if (!ret)
		c->name = edit->name; /* which outlives *now */
	return ret;
}

/* Change the record and the head's segment as the verb wants. */
static int change_bitmap(struct qi_head_edit *w,
			 const struct qi_bitmap_edit *edit, struct qi_error *e)
{
	struct qi_drive *d = w->drive;
	struct qi_drive_bitmap now;
	int ret = qi_drive_find_bitmap(d, edit->name, &now, e);

	if (ret && ret != -ENOENT)
		return ret;
	if (ret && edit->verb != QI_BITMAP_ADD)
		return qi_fail(e, ENOENT,
			       "drive '%s' has no bitmap '%s'; 'qimg bitmap "
			       "list --drive %s' shows what it has",
			       d->path, edit->name, QI_WORD(d->path));
	if (!ret && edit->verb == QI_BITMAP_ADD)
		return qi_fail(e, EEXIST,
			       "drive '%s' has a bitmap '%s' already", d->path,
			       edit->name);
	ret = 0;
	if (edit->verb == QI_BITMAP_ADD)
		ret = qi_drive_check_new_name(d, edit->name, e);
	else if (edit->verb != QI_BITMAP_REMOVE)
		ret = qi_drive_check_conflicts(d, edit->name, e);
	if (ret)
		return ret;
	switch (edit->verb) {
	case QI_BITMAP_ADD:
		return qi_head_edit_start(w, edit->name, edit->disabled,
					  qi_bitmap_new_bits(d->head,
							     edit->granularity),
					  NULL, e);
	case QI_BITMAP_REMOVE:
		return qi_head_edit_remove(w, edit->name, false, e);
	case QI_BITMAP_CLEAR:
		return clear_on_drive(w, &now, edit, e);
	default:
		return pause_on_drive(w, &now, edit, e);
	}
}

static int plan_edit(struct qi_head_edit *w, struct qi_drive *d,
		     const struct qi_bitmap_edit *edit, struct qi_error *e)
{
	int ret = qi_head_edit_begin(w, d, e);

	if (!ret)
		ret = change_bitmap(w, edit, e);
	if (!ret &&
	    (edit->verb == QI_BITMAP_ADD || edit->verb == QI_BITMAP_CLEAR))
		ret = qi_head_edit_adopt(w, edit->name, NULL, e);
	return ret;
}

int qi_drive_bitmap_edit(struct qi_drive *d, const struct qi_bitmap_edit *edit,
			 struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	struct qi_head_edit w = { 0 };
	int ret = qi_bitmap_check_edit(d->head, edit, true, e);

	if (!ret)
		ret = qi_drive_check(d, e);
	if (!ret)
		ret = plan_edit(&w, d, edit, e);
	if (!ret)
		ret = qi_plan_step(plan,
				   "write the header of '%s', the head "
				   "of drive '%s': %s bitmap '%s'",
				   d->head->path, d->path,
				   qi_bitmap_verb_name(edit->verb), edit->name);
	if (!ret && !dry_run)
		ret = qi_head_edit_store(&w, e);
	qi_head_edit_clear(&w);
	return ret;
}
