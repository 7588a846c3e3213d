/* SPDX-License-Identifier: MIT */
/* fold.c - a layer in the middle of a chain that goes */
#include <errno.h>
#include <stdio.h>

#include "lib/fold.h"
#include "lib/name.h"

/* --------------------------------------------------------------- checks */

int qi_layer_check_removal(const struct qi_drive *d, struct qi_node *n,
			   const struct qi_node *above, struct qi_error *e)
{
	QI_AUTOFREE char *link = NULL;
	int ret;

	if (qi_node_is_of_other(d, n))
		return qi_fail(e, ESTALE,
			       "cannot remove '%s': it belongs to another "
			       "drive",
			       n->path);
	if (qi_record_state_of(n) == QI_RECORD_VALID && n->record->shared)
		return qi_fail(e, ESTALE,
			       "cannot remove '%s': clones were made on it; "
			       "when none is left, 'qimg clone --unshare %s' "
			       "says so",
			       n->path, QI_WORD(n->path));
	ret = qi_node_check_loss(n, e);
	if (!ret)
		ret = qi_node_find_link(n, NULL, &link, e);
	if (!ret && link)
		ret = qi_fail(e, ESTALE,
			      "cannot remove '%s': the link '%s' leads to it",
			      n->path, link);
	return ret ? ret : qi_node_check_dependents(n, above, "remove", e);
}

/* The note about the file that goes. */
static int make_journal(struct qi_fold *f, struct qi_error *e)
{
	const struct qi_record *r = f->above->record;
	struct qi_uuid top = qi_node_uuid(f->above->facts.backing);
	struct qi_record note = { 0 };

	/* Files of merged layers were seen to by qi_fold_finish(). */
	if (qi_record_state_of(f->above) == QI_RECORD_VALID &&
	    r->journal.kind == QI_JOURNAL_MOVE)
		return qi_fail(e, ESTALE,
			       "'%s' has a note of a command that was ended, "
			       "'qimg bitmap move'; run that again first",
			       f->above->path);
	qi_journal_set(&note, QI_JOURNAL_DROP, &top, f->above->backing_name,
		       f->tag);
	f->journal = note.journal;
	return 0;
}

/* The switch, where the data goes down: the header of the layer above. */
static int rest_above(struct qi_fold *f, bool dry_run, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;
	int ret;

	if (qi_record_state_of(f->above) != QI_RECORD_UNKNOWN &&
	    !qi_node_can_store(f->above, NULL)) {
		if (qi_record_copy(&r, f->above->record))
			return qi_no_memory(e);
		r->journal = f->journal;
	}
	ret = qi_node_rest_on(f->above, f->base, r, f->name,
			      f->base->format->name, dry_run, e);
	if (!ret && !dry_run)
		f->above->facts.backing = f->base;
	return ret;
}

static int check_down(struct qi_fold *f, struct qi_error *e)
{
	struct qi_node *top = f->above->facts.backing;
	int ret;

	/* Nothing is below the lowest one. */
	if (!f->base)
		return qi_fail(e, EINVAL, "'%s' has no backing file",
			       top->path);

	f->merge = (struct qi_merge){
		.drive = { .path = top->path, .head = top },
		.base = f->base,
		.threads = f->threads,
		.progress = f->progress,
		.takes_over = true,
	};
	if (f->base->facts.size > top->facts.size)
		return qi_fail(e, ESTALE,
			       "cannot merge '%s' into '%s': its disk is "
			       "larger, and would have to shrink",
			       top->path, f->base->path);
	ret = qi_merge_check(&f->merge, e);
	return ret ? ret : rest_above(f, true, e);
}

static int check_up(struct qi_fold *f, struct qi_error *e)
{
	int ret;

	f->onto = (struct qi_onto){
		.n = f->above,
		.base = f->base,
		.name = f->name,
		.format = f->base ? f->base->format->name : NULL,
		.threads = f->threads,
		.progress = f->progress,
		.journal = &f->journal,
	};
	ret = qi_node_refuse_internal(f->above, "change what that reads", e);
	/* The layer that goes hides that; and see qi_fold_finish(). */
	if (!ret && f->base)
		ret = qi_drive_check_whole(f->d, f->base, e);
	return ret ? ret : qi_onto_plan(&f->onto, e);
}

/* Those of a merge into the layer below. */
static int plan_down(struct qi_fold *f, const char *gone, struct qi_plan *p)
{
	int ret = qi_plan_step(p,
			       "merge the bitmaps of '%s' into those of '%s'",
			       gone, f->base->path);

	if (!ret)
		ret = qi_merge_plan_copy(&f->merge, true, p);
	return ret ? ret : qi_plan_backing(p, f->above->path, f->name);
}

static int plan_steps(struct qi_fold *f, struct qi_plan *p, bool dry_run,
		      struct qi_error *e)
{
	const char *gone = f->above->facts.backing->path;
	int ret = f->down ? plan_down(f, gone, p) :
			    qi_onto_plan_steps(&f->onto, gone, p, dry_run, e);

	return ret ? ret : qi_plan_step(p, "remove '%s'", gone);
}

int qi_fold_check(struct qi_fold *f, struct qi_plan *plan, bool dry_run,
		  struct qi_error *e)
{
	int ret;

	if (f->base) {
		f->name = qi_backing_name(f->base->path, f->above->path);
		if (!f->name)
			return qi_no_memory(e);
	}
	ret = qi_chain_check_readable(f->above->facts.backing, e);
	if (!ret)
		ret = qi_node_check_writable(f->above, e);
	if (!ret)
		ret = qi_layer_check_removal(f->d, f->above->facts.backing,
					     f->above, e);
	if (!ret)
		ret = make_journal(f, e);
	if (!ret)
		ret = f->down ? check_down(f, e) : check_up(f, e);
	if (!ret && plan)
		ret = plan_steps(f, plan, dry_run, e);
	return ret == -ENOMEM ? qi_no_memory(e) : ret;
}

void qi_fold_clear(struct qi_fold *f)
{
	qi_onto_clear(&f->onto);
	free(f->name);
	f->name = NULL;
}

uint64_t qi_fold_bytes(const struct qi_fold *f)
{
	const struct qi_copy_stats *s = f->down ? &f->merge.stats :
						  &f->onto.stats;

	return s->written + s->zero;
}

/* -------------------------------------------------------------- the end */

/* The file is gone: nothing is left to be done. */
static int drop_journal(struct qi_node *n, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	if (qi_record_state_of(n) != QI_RECORD_VALID ||
	    !n->record->journal.kind)
		return 0;
	if (qi_record_copy(&r, n->record))
		return qi_no_memory(e);
	r->journal = (struct qi_journal){ 0 };
	return qi_node_store(n, r, NULL, 0, e);
}

static int remove_file(const struct qi_node *n, struct qi_error *e)
{
	int ret = qi_unlink(n->path, e);

	return ret ? ret : qi_sync_folder_of(n->path, e);
}

static int fold(struct qi_fold *f, struct qi_error *e)
{
	int ret;

	if (!f->down)
		return qi_onto_run(&f->onto, e);
	ret = qi_merge_run(&f->merge, e);
	if (!ret)
		ret = qi_merge_take_over(&f->merge, false, e);
	return ret ? ret : rest_above(f, false, e);
}

int qi_fold_run(struct qi_fold *f, struct qi_change *out, struct qi_error *e)
{
	const struct qi_node *gone = f->above->facts.backing;
	struct qi_error late;
	int ret = fold(f, e);

	if (ret)
		return ret;
	ret = f->down ? qi_merge_end(&f->merge, false, &late) : 0;
	if (!ret)
		ret = remove_file(gone, &late);
	if (!ret)
		ret = drop_journal(f->above, &late);
	if (ret)
		qi_change_problem(out, &late,
				  "the layers are merged, but '%s' may be left",
				  gone->path);
	return 0;
}

/* ------------------------------------------------- runs that were ended */

static const struct qi_journal *unfinished(const struct qi_node *n)
{
	return qi_record_state_of(n) == QI_RECORD_VALID &&
			       n->record->journal.kind == QI_JOURNAL_DROP ?
		       &n->record->journal :
		       NULL;
}

void qi_fold_want_unfinished(struct qi_drive *d)
{
	for (struct qi_node *n = d->head; n; n = n->facts.backing)
		if (unfinished(n)) {
			qi_node_want(n, QI_ACCESS_WRITE);
			if (n->facts.backing &&
			    qi_node_is_merging(n->facts.backing))
				qi_node_want(n->facts.backing, QI_ACCESS_WRITE);
		}
}

/* Is the file at path a layer of the drive? */
static bool is_layer(const struct qi_drive *d, const char *path)
{
	const struct qi_node *n = d->head;

	while (n && !qi_node_is_file(n, path))
		n = n->facts.backing;
	return n != NULL;
}

/*
 * The file that layer x has a note of: 1 and the node, open for writing, when
 * it is there still and is the one that was meant.
 */
static int find_left(struct qi_drive *d, const struct qi_node *x,
		     struct qi_graph *g, struct qi_node **out,
		     struct qi_error *e)
{
	const struct qi_open how = { .access = QI_ACCESS_WRITE,
				     .no_backing = true };
	QI_AUTOFREE char *path =
		qi_name_file_beside(x->path, x->record->journal.source);
	struct qi_uuid uuid;
	struct stat st;
	int ret;

	if (!path || lstat(path, &st) || is_layer(d, path) ||
	    qi_graph_add(g, path, &how, out, NULL))
		return 0;
	/* By its name alone it could be any file. */
	uuid = qi_node_uuid(*out);
	if (qi_uuid_is_null(&uuid) ||
	    !qi_uuid_equal(&uuid, &x->record->journal.uuid))
		return 0;
	ret = qi_graph_lock(g, 0, e);
	return ret ? ret : 1;
}

/*
 * Where layer x has nothing of its own, is what it reads from below what it
 * read when `left` was there, too? 1: it is.
 */
static int reads_the_same(const struct qi_node *x, struct qi_node *left)
{
	const struct qi_progress none = { 0 };
	struct qi_node *base = x->facts.backing;
	uint64_t bytes = 0;
	struct qi_ranges *r;
	int ret = qi_ranges_allocated(&r, left);

	left->facts.backing = base;
	if (!ret)
		ret = qi_ranges_differing(&r, (struct qi_node *)x, left, base,
					  512, r, &none);
	if (!ret) {
		ret = qi_ranges_sum(r, &bytes, NULL);
		qi_ranges_free(r);
	}
	left->facts.backing = NULL;
	return ret ? ret : !bytes;
}

int qi_leftover_is_unused(struct qi_graph *known, struct qi_node *left,
			  struct qi_error *e)
{
	QI_AUTOFREE char *link = NULL;
	struct qi_files f = { 0 };
	int ret;

	if (qi_node_check_loss(left, NULL))
		return 0;
	ret = qi_graph_find_link(known, left, NULL, &link, e);
	if (!ret && !link) {
		ret = qi_graph_dependents(known, left, NULL, &f, e);
		ret = ret ? ret : !f.count;
	}
	qi_files_free(&f);
	return ret;
}

static int finish_one(struct qi_drive *d, struct qi_node *x,
		      struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	struct qi_graph *g;
	struct qi_node *left;
	int ret, found;

	if (qi_graph_new(&g))
		return qi_no_memory(e);
	ret = find_left(d, x, g, &left, e);
	if (ret > 0) {
		ret = qi_leftover_is_unused(d->head->graph, left, e);
		if (ret > 0 && reads_the_same(x, left) <= 0)
			ret = 0;
		if (!ret)
			qi_warn(d->head->graph,
				"'%s', which an earlier run has merged, is left: "
				"it was used since",
				left->path);
	}
	found = ret;
	ret = qi_min(ret, 0);
	if (found > 0)
		ret = qi_plan_step(plan,
				   "remove '%s', which an earlier run has "
				   "merged",
				   left->path);
	if (found > 0 && !ret)
		ret = dry_run ? qi_graph_dismiss(d->head->graph, left, e) :
				remove_file(left, e);
	if (!ret && !dry_run)
		ret = drop_journal(x, e);
	qi_graph_free(g);
	return ret;
}

int qi_fold_finish(struct qi_drive *d, const char *tag, struct qi_plan *plan,
		   bool dry_run, struct qi_change *out, struct qi_error *e)
{
	int ret = 0, found = 0;

	snprintf(out->new_head, sizeof(out->new_head), "%s", d->head->path);
	for (struct qi_node *n = d->head; n && !ret; n = n->facts.backing) {
		const struct qi_journal *j = unfinished(n);

		if (!j)
			continue;
		found |= tag && !strcmp(j->name, tag);
		snprintf(out->old_head, sizeof(out->old_head), "%s", j->source);
		/* The note says that the layers were switched. */
		if (!dry_run && n->facts.backing)
			ret = qi_node_end_merge(n->facts.backing, e);
		if (!ret)
			ret = finish_one(d, n, plan, dry_run, e);
	}
	return ret ? ret : found;
}
