/* SPDX-License-Identifier: MIT */
/*
 * move-finish.c - the second half of a move between two images
 *
 * The image that has the new bitmap holds a note of where the old one is,
 * until that is gone. A move that was ended is known by the note.
 */
#include <errno.h>

#include "lib/move.h"

/* ---------------------------------------------------------------- the note */

/* Null for an image that can have no id. */
static struct qi_uuid source_id(const struct qi_mover *w)
{
	if (w->from->drive)
		return qi_drive_uuid(w->from->drive);
	return qi_record_state_of(w->src) == QI_RECORD_VALID ?
		       w->src->record->image :
		       (struct qi_uuid){ { 0 } };
}

void qi_mover_set_note(const struct qi_mover *w, struct qi_record *r)
{
	struct qi_uuid id = source_id(w);

	qi_journal_set(r, QI_JOURNAL_MOVE, &id, w->from->name, w->to->name);
}

static const struct qi_journal *note_of(const struct qi_node *n)
{
	return qi_record_state_of(n) == QI_RECORD_VALID &&
			       n->record->journal.kind ?
		       &n->record->journal :
		       NULL;
}

static bool fits(const struct qi_mover *w, const struct qi_node *n)
{
	const struct qi_journal *j = note_of(n);
	struct qi_uuid id = source_id(w);

	/* An image that can have an id, and has none, was not the one. */
	if (qi_uuid_is_null(&id) && !qi_node_can_store(w->src, NULL))
		return false;
	return j && j->kind == QI_JOURNAL_MOVE &&
	       qi_uuid_equal(&j->uuid, &id) &&
	       !strcmp(j->source, w->from->name) &&
	       !strcmp(j->name, w->to->name);
}

static bool has_new(const struct qi_mover *w)
{
	struct qi_drive_bitmap now;

	if (!w->to->drive)
		return qi_node_has_own(w->dst, w->to->name);
	return !qi_drive_find_bitmap(w->to->drive, w->to->name, &now, NULL);
}

/* A drive may have got another head since. */
struct qi_node *qi_mover_find_note(const struct qi_mover *w)
{
	struct qi_uuid drive = { { 0 } };

	if (w->src == w->dst || !has_new(w))
		return NULL;
	if (!w->to->drive)
		return fits(w, w->dst) ? w->dst : NULL;
	drive = qi_drive_uuid(w->to->drive);
	for (struct qi_node *n = w->dst; n; n = n->facts.backing)
		if (fits(w, n) && qi_uuid_equal(&n->record->drive, &drive))
			return n;
	return NULL;
}

int qi_mover_check_note(const struct qi_mover *w, struct qi_error *e)
{
	const struct qi_journal *j = note_of(w->dst);

	/* What it is about is gone. */
	if (!j || (j->kind == QI_JOURNAL_MOVE &&
		   qi_node_find_bitmap(w->dst, j->name) < 0 &&
		   !qi_node_segment(w->dst, j->name)))
		return 0;
	if (j->kind == QI_JOURNAL_MOVE)
		return qi_fail(e, ESTALE,
			       "'%s' has a note of a command that was ended, "
			       "'qimg bitmap move' of '%s', which is '%s' "
			       "here; run that again first",
			       w->dst->path, j->source, j->name);
	return qi_fail(e, ESTALE,
		       "'%s' has a note of a command that was ended, 'qimg "
		       "snapshot delete'; run that again first",
		       w->dst->path);
}

int qi_mover_drop_note(struct qi_node *n, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	if (qi_record_copy(&r, n->record))
		return qi_no_memory(e);
	r->journal = (struct qi_journal){ .kind = QI_JOURNAL_NONE };
	return qi_node_store(n, r, NULL, 0, e);
}

/* -------------------------------------------------------------- the source */

/* One that cannot be written back makes every change of that image fail. */
static int check_others(struct qi_node *n, const char *name, struct qi_error *e)
{
	const struct qi_stored_bitmap *all;
	size_t count = 0;

	all = n->format->bitmaps->list(n, &count);
	for (size_t i = 0; i < count; i++)
		if (all[i].problem && !all[i].in_use &&
		    strcmp(all[i].name, name))
			return qi_fail(e, EUCLEAN,
				       "bitmaps of '%s' cannot be changed "
				       "because of '%s': %s; 'qimg bitmap "
				       "remove --node %s %s' removes it",
				       n->path, all[i].name, all[i].problem,
				       QI_WORD(n->path), QI_WORD(all[i].name));
	return 0;
}

static int no_bitmap(const struct qi_mover *w, struct qi_error *e)
{
	const char *kind = qi_address_kind(w->from);
	const char *path = qi_address_path(w->from);

	return qi_fail(e, ENOENT,
		       "%s '%s' has no bitmap '%s'; 'qimg bitmap list --%s %s' "
		       "shows what it has",
		       kind, path, w->from->name, kind, QI_WORD(path));
}

static int check_drive(struct qi_mover *w, struct qi_error *e)
{
	struct qi_drive *d = w->from->drive;
	struct qi_drive_bitmap now;
	struct qi_dirty *s;
	int ret = qi_drive_check(d, e);

	if (!ret)
		ret = qi_drive_find_bitmap(d, w->from->name, &now, e);
	if (ret)
		return ret == -ENOENT ? no_bitmap(w, e) : ret;
	ret = qi_node_can_store(d->head, e);
	if (!ret)
		ret = qi_dirty_new(d, w->from->name, &s, e);
	if (ret)
		return ret;
	w->granularity_bits = (unsigned)__builtin_ctz(now.granularity);
	w->paused = now.paused;
	w->gap = now.paused || qi_dirty_has_gap(s);
	qi_dirty_free(s);
	return check_others(d->head, w->from->name, e);
}

static int refuse_segment(const struct qi_mover *w, struct qi_error *e)
{
	const char *name = w->from->name, *as = w->to->name;
	const bool renames = strcmp(name, as);
	struct qi_drive *d = w->to->drive;
	QI_AUTOFREE char *instead = NULL;

	if (d && !renames && qi_drive_owns(d, w->src, name))
		return qi_fail(e, EEXIST,
			       "cannot move bitmap '%s' of node '%s': it is a "
			       "segment of that bitmap of drive '%s' already",
			       name, w->src->path, d->path);
	instead = qi_format_text("move --drive DRIVE --to-%s %s %s%s%s%s",
				 qi_address_kind(w->to), qi_address_path(w->to),
				 renames ? "--as " : "", renames ? as : "",
				 renames ? " " : "", name);
	return instead ? qi_node_refuse_segment(w->src, name, instead, e) :
			 qi_no_memory(e);
}

static int check_node(struct qi_mover *w, struct qi_error *e)
{
	const struct qi_stored_bitmap *f =
		qi_node_stored_bitmap(w->src, w->from->name);
	const char *path = w->src->path;
	int ret = refuse_segment(w, e);

	if (ret)
		return ret;
	if (!f)
		return no_bitmap(w, e);
	if (f->problem)
		return qi_fail(e, ESTALE,
			       "cannot move bitmap '%s' of '%s': %s; 'qimg "
			       "bitmap remove --node %s %s' removes it",
			       w->from->name, path, f->problem, QI_WORD(path),
			       QI_WORD(w->from->name));
	w->granularity_bits = f->granularity_bits;
	w->paused = w->gap = !f->enabled;
	return 0;
}

/* Below the head, which gets the new bitmap: nodes that lose one. */
static bool is_left(const struct qi_mover *w, struct qi_node *n)
{
	if (!w->takes_over)
		return n == w->src && qi_node_has_own(n, w->from->name);
	return n != w->dst && qi_node_is_in_chain(w->src, n) &&
	       qi_node_has_own(n, w->from->name);
}

static struct qi_node *top_of(const struct qi_mover *w)
{
	return w->takes_over ? w->dst : w->src;
}

int qi_mover_check_source(struct qi_mover *w, struct qi_error *e)
{
	int ret;

	if (w->from->drive)
		return check_drive(w, e);
	ret = check_node(w, e);
	for (struct qi_node *n = top_of(w); n && !ret; n = n->facts.backing)
		if (is_left(w, n))
			ret = check_others(n, w->from->name, e);
	return ret;
}

/* The lowest one first: it is the one that the move was asked of. */
static int each_left(const struct qi_mover *w, struct qi_node *n,
		     int (*fn)(const struct qi_mover *w, struct qi_node *n,
			       struct qi_plan *plan, struct qi_error *e),
		     struct qi_plan *plan, struct qi_error *e)
{
	size_t count = qi_chain_depth(n);
	QI_AUTOFREE struct qi_node **all =
		calloc(count, sizeof(struct qi_node *));
	int ret = 0;

	if (!all)
		return qi_no_memory(e);
	for (size_t i = 0; i < count; i++, n = n->facts.backing)
		all[i] = n;
	while (count-- && !ret)
		if (is_left(w, all[count]))
			ret = fn(w, all[count], plan, e);
	return ret;
}

static int plan_one(const struct qi_mover *w, struct qi_node *n,
		    struct qi_plan *plan, struct qi_error *e)
{
	(void)e;
	return qi_plan_step(plan,
			    "write the header of '%s': remove node bitmap '%s'",
			    n->path, w->from->name);
}

static int remove_one(const struct qi_mover *w, struct qi_node *n,
		      struct qi_plan *plan, struct qi_error *e)
{
	const struct qi_bitmap_change c = { .name = w->from->name,
					    .remove = true };

	(void)plan;
	return qi_node_store(n, NULL, &c, 1, e);
}

static bool has_old(const struct qi_mover *w)
{
	struct qi_drive_bitmap now;

	return !qi_drive_find_bitmap(w->from->drive, w->from->name, &now, NULL);
}

int qi_mover_plan_removal(const struct qi_mover *w, struct qi_plan *plan)
{
	if (!w->from->drive)
		return each_left(w, top_of(w), plan_one, plan, NULL);
	if (!has_old(w))
		return 0;
	return qi_plan_step(plan,
			    "write the header of '%s', the head of drive "
			    "'%s': remove bitmap '%s'",
			    w->src->path, w->from->drive->path, w->from->name);
}

int qi_mover_remove(const struct qi_mover *w, struct qi_error *e)
{
	struct qi_head_edit h;
	int ret;

	if (!w->from->drive)
		return each_left(w, top_of(w), remove_one, NULL, e);
	if (!has_old(w))
		return 0;
	ret = qi_head_edit_begin(&h, w->from->drive, e);
	if (!ret)
		ret = qi_head_edit_remove(&h, w->from->name, false, e);
	if (!ret)
		ret = qi_head_edit_store(&h, e);
	qi_head_edit_clear(&h);
	return ret;
}

/* -------------------------------------------------------------- a rerun */

/* A set of the whole disk needs no more, and takes none. */
static bool is_full(const struct qi_bitmap_address *to)
{
	struct qi_dirty *s;
	bool yes;

	if (!to->drive || qi_dirty_new(to->drive, to->name, &s, NULL))
		return false;
	yes = qi_dirty_status(s) == QI_LAYER_FULL;
	qi_dirty_free(s);
	return yes;
}

/*
 * It was there all the time, and may have recorded. Not those that are taken
 * over: they are in layers below the head.
 */
static int add_since(struct qi_mover *w, struct qi_plan *plan, bool dry_run,
		     struct qi_error *e)
{
	struct qi_ranges *since;
	int ret = qi_mover_check_source(w, e);

	if (ret || w->takes_over || is_full(w->to))
		return ret;
	ret = qi_bitmap_check_fill(w->to, "move", e);
	if (!ret)
		ret = qi_mover_ranges_since(w, &since, e);
	if (ret)
		return ret;
	ret = qi_plan_step(plan,
			   "write the header of '%s': add what was recorded "
			   "since to bitmap '%s' of %s '%s'",
			   w->dst->path, w->to->name, qi_address_kind(w->to),
			   qi_address_path(w->to));
	if (ret || dry_run) {
		qi_ranges_free(since);
		return ret ? qi_no_memory(e) : 0;
	}
	return qi_bitmap_fill(w->to, since, e);
}

int qi_mover_finish(struct qi_mover *w, struct qi_node *note,
		    struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	bool there = w->from->drive ? has_old(w) : is_left(w, w->src);
	int ret = there ? add_since(w, plan, dry_run, e) : 0;

	if (!ret && (qi_mover_plan_removal(w, plan) ||
		     qi_plan_step(plan,
				  "write the header of '%s': remove the note "
				  "of the move",
				  note->path)))
		ret = qi_no_memory(e);
	if (ret || dry_run)
		return ret;
	ret = qi_mover_remove(w, e);
	return ret ? ret : qi_mover_drop_note(note, e);
}
