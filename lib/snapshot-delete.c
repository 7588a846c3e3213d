/* SPDX-License-Identifier: MIT */
/*
 * snapshot-delete.c - the layer that a snapshot holds is merged away
 *
 * It becomes one with the layer above it: either that goes down into it, or it
 * goes up, whichever copies less and may be done. Where the layer above is the
 * head, down is a commit. For the orders of writes see fold.h and commit.c.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/commit.h"
#include "lib/fold.h"

struct work {
	struct qi_drive *d;
	const struct qi_snapshot_delete *how;
	struct qi_node *over; /* made by the snapshot, above what that holds */
	struct qi_node *held;
	struct qi_node *above; /* over; NULL: that is the head */
	struct qi_fold fold;
};

static int find(struct work *w, struct qi_error *e)
{
	int ret = qi_drive_need_tag(w->d, w->how->tag, &w->over, e);

	if (ret)
		return ret;
	w->held = w->over->facts.backing;
	if (w->over != w->d->head)
		w->above = w->d->head;
	while (w->above && w->above->facts.backing != w->over)
		w->above = w->above->facts.backing;
	return 0;
}

int qi_snapshot_delete_prepare(struct qi_drive *d,
			       const struct qi_snapshot_delete *s,
			       struct qi_error *e)
{
	struct work w = { .d = d, .how = s };

	qi_fold_want_unfinished(d);
	/* An earlier run may have deleted it: seen under the lock. */
	if (find(&w, e))
		return 0;
	qi_node_want(w.held, QI_ACCESS_WRITE);
	qi_node_want(w.over, QI_ACCESS_WRITE);
	if (w.above)
		qi_node_want(w.above, QI_ACCESS_WRITE);
	return 0;
}

/* -------------------------------------------------------------- two ways */

static struct qi_fold fold_of(const struct work *w, bool down)
{
	return (struct qi_fold){
		.d = w->d,
		.above = down ? w->above : w->over,
		.base = down ? w->held : w->held->facts.backing,
		.down = down,
		.tag = w->how->tag,
		.threads = w->how->threads,
		.progress = w->how->progress,
	};
}

/* The file that goes, and the head, which stays. */
static void name_heads(const struct work *w, const struct qi_node *gone,
		       struct qi_change *out)
{
	snprintf(out->old_head, sizeof(out->old_head), "%s", gone->path);
	snprintf(out->new_head, sizeof(out->new_head), "%s", w->d->head->path);
}

static int go_up(struct work *w, struct qi_plan *p, bool dry_run,
		 struct qi_change *out, struct qi_error *e)
{
	int ret;

	w->fold = fold_of(w, false);
	ret = qi_fold_check(&w->fold, p, dry_run, e);
	if (!ret && !dry_run)
		ret = qi_fold_run(&w->fold, out, e);
	out->bytes = qi_fold_bytes(&w->fold);
	name_heads(w, w->held, out);
	return ret;
}

static int go_down(struct work *w, struct qi_plan *p, bool dry_run,
		   struct qi_change *out, struct qi_error *e)
{
	const struct qi_commit c = { .threads = w->how->threads,
				     .progress = w->how->progress,
				     .base = w->held };
	int ret;

	if (!w->above)
		return qi_commit_layers(w->d, &c, p, dry_run, out, e);
	w->fold = fold_of(w, true);
	ret = qi_fold_check(&w->fold, p, dry_run, e);
	if (!ret && !dry_run)
		ret = qi_fold_run(&w->fold, out, e);
	out->bytes = qi_fold_bytes(&w->fold);
	name_heads(w, w->over, out);
	return ret;
}

/* Is there less to copy from `over` into what the snapshot holds? */
static int is_down_cheaper(const struct work *w, bool *yes, struct qi_error *e)
{
	struct qi_node *n[2] = { w->over, w->held };
	uint64_t bytes[2];

	for (int i = 0; i < 2; i++) {
		struct qi_ranges *r;
		int ret = qi_ranges_allocated(&r, n[i]);

		if (ret)
			return qi_no_memory(e);
		ret = qi_ranges_sum(r, &bytes[i], e);
		qi_ranges_free(r);
		if (ret)
			return ret;
	}
	*yes = bytes[0] <= bytes[1];
	return 0;
}

/* What is refused one way may be done the other one. */
static int choose(struct work *w, struct qi_plan *p, bool dry_run,
		  struct qi_change *out, struct qi_error *e)
{
	int (*way[2])(struct work * w, struct qi_plan * p, bool dry_run,
		      struct qi_change *out,
		      struct qi_error *e) = { go_up, go_down };
	struct qi_error other = { "" };
	bool down = false;
	int ret = is_down_cheaper(w, &down, e);

	if (ret)
		return ret;
	ret = way[down](w, NULL, true, out, e);
	qi_fold_clear(&w->fold);
	if (ret && qi_exit_code(ret) == 6 &&
	    !way[!down](w, NULL, true, out, &other)) {
		down = !down;
		ret = 0;
	}
	qi_fold_clear(&w->fold);
	return ret ? ret : way[down](w, p, dry_run, out, e);
}

int qi_snapshot_delete(struct qi_drive *d, const struct qi_snapshot_delete *s,
		       struct qi_plan *plan, bool dry_run,
		       struct qi_change *out, struct qi_error *e)
{
	struct work w = { .d = d, .how = s };
	bool is_done;
	int ret;

	*out = (struct qi_change){ .bytes = 0 };
	ret = qi_drive_check(d, e);
	if (!ret)
		ret = qi_fold_finish(d, s->tag, plan, dry_run, out, e);
	if (!ret)
		ret = qi_commit_finish(d, s->tag, plan, dry_run, out, e);
	if (ret < 0)
		return ret;
	is_done = ret > 0;
	ret = find(&w, e);
	/* By an earlier run, unless the tag was given again. */
	if (ret && is_done)
		return 0;
	if (!ret)
		ret = choose(&w, plan, dry_run, out, e);
	qi_fold_clear(&w.fold);
	return ret;
}
