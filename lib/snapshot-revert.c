/* SPDX-License-Identifier: MIT */
/*
 * snapshot-revert.c - a fresh head on an earlier state of a drive
 *
 * Order of writes: the new head is written whole under a hidden name; it takes
 * the name of the old one, which is the switch, and the old one's data is
 * gone with it. Layers between stay as they are, in no chain.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/fold.h"
#include "lib/overlay.h"

struct work {
	struct qi_drive *d;
	struct qi_node *head;
	struct qi_node *base; /* that the snapshot holds */
	const char *tag;
	struct qi_carry carry;
};

int qi_snapshot_revert_prepare(struct qi_drive *d, const char *tag,
			       struct qi_error *e)
{
	struct qi_node *above;
	int ret = qi_drive_need_tag(d, tag, &above, e);

	qi_fold_want_unfinished(d);
	qi_node_want(d->head, QI_ACCESS_WRITE);
	return ret;
}

/* ---------------------------------------------------------------- checks */

static int check(struct work *w, struct qi_error *e)
{
	int ret = qi_drive_check(w->d, e);

	if (ret)
		return ret;
	ret = qi_node_check_marks(w->head, "replace", e);
	if (!ret)
		ret = qi_node_check_loss(w->head, e);
	return ret ? ret :
		     qi_node_check_dependents(w->head, NULL, "replace", e);
}

/* Has nothing happened since an earlier run made the head? */
static bool is_done(const struct work *w)
{
	return w->head->facts.backing == w->base &&
	       w->head->facts.size == w->base->facts.size &&
	       !qi_node_own_bitmap(w->head) && qi_node_is_empty(w->head);
}

/* ----------------------------------------------------------------- parts */

static int make_record(struct work *w, struct qi_error *e)
{
	struct qi_record *r;
	int ret = 0;

	w->carry = (struct qi_carry){ .drive = *w->d,
				      .into = w->head,
				      .base = w->base,
				      .discards = true };
	ret = qi_carry_plan(&w->carry, e);
	if (!ret && !w->carry.record)
		ret = qi_drive_head_record(w->d, &w->carry.record, e);
	if (ret)
		return ret;
	/* Another image than the one whose record this was. */
	r = w->carry.record;
	r->image = qi_uuid_random();
	r->parent = qi_node_uuid(w->base);
	r->frozen = r->shared = r->committed = r->merging = false;
	r->journal = (struct qi_journal){ 0 };
	memset(r->tag, 0, sizeof(r->tag));
	memcpy(r->tag, w->tag, strnlen(w->tag, QI_TAG_MAX));
	return 0;
}

static int make_plan(const struct work *w, struct qi_plan *p)
{
	const struct qi_node *n = w->head->facts.backing;
	int ret = qi_plan_step(p,
			       "write a new head on '%s', with %zu segment(s)",
			       w->base->path, w->carry.edits.count);

	if (!ret)
		ret = qi_plan_step(p,
				   "give it the name '%s'; what was changed "
				   "there since the snapshot is lost",
				   w->head->path);
	for (; !ret && n != w->base; n = n->facts.backing)
		ret = qi_plan_step(p,
				   "leave '%s', which is no layer of the drive "
				   "any more",
				   n->path);
	return ret;
}

static int publish(struct work *w, struct qi_image *img, struct qi_change *out,
		   struct qi_error *e)
{
	int ret = qi_image_publish(img, e);

	/* It has the name: only the sync of the folder can have failed. */
	if (ret && !qi_node_is_file(w->head, w->head->path)) {
		qi_change_problem(out, e,
				  "the drive is back at the snapshot, but a "
				  "power cut may undo that");
		ret = 0;
	}
	for (const struct qi_node *n = w->head->facts.backing;
	     !ret && n != w->base; n = n->facts.backing)
		qi_warn(w->head->graph,
			"'%s' is left, but is no layer of drive '%s' any more",
			n->path, w->d->path);
	return ret;
}

static int run(struct work *w, struct qi_plan *p, bool dry_run,
	       struct qi_change *out, struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	struct qi_overlay o = { .path = w->head->path,
				.mode = QI_TEMP_OWNED,
				.base = w->base,
				.base_path = w->base->path,
				.like = w->head->path };
	int ret = check(w, e);

	out->is_nothing = !ret && is_done(w);
	if (out->is_nothing)
		return qi_plan_step(p, "nothing: the head is fresh") ?
			       qi_no_memory(e) :
			       0;
	if (!ret)
		ret = make_record(w, e);
	if (!ret && make_plan(w, p))
		ret = qi_no_memory(e);
	if (ret || dry_run)
		return ret;
	o.record = w->carry.record;
	o.changes = w->carry.edits.changes;
	o.count = w->carry.edits.count;
	ret = qi_overlay_write(&o, &img, e);
	return ret ? ret : publish(w, &img, out, e);
}

int qi_snapshot_revert(struct qi_drive *d, const char *tag,
		       struct qi_plan *plan, bool dry_run,
		       struct qi_change *out, struct qi_error *e)
{
	struct work w = { .d = d, .head = d->head, .tag = tag };
	struct qi_node *above;
	int ret = qi_drive_need_tag(d, tag, &above, e);

	*out = (struct qi_change){ .bytes = 0 };
	/* A note of files to be removed would go with the head. */
	if (!ret)
		ret = qi_fold_finish(d, NULL, plan, dry_run, out, e);
	if (ret < 0)
		return ret;
	w.base = above->facts.backing;
	snprintf(out->old_head, sizeof(out->old_head), "%s", w.base->path);
	snprintf(out->new_head, sizeof(out->new_head), "%s", w.head->path);
	ret = qi_drive_check_whole(d, w.base, e);
	if (!ret)
		ret = run(&w, plan, dry_run, out, e);
	qi_carry_clear(&w.carry);
	return ret;
}
