/* SPDX-License-Identifier: MIT */
/*
 * commit.c - the head of a drive into its backing node
 *
 * Order of writes, each durable before the next: the base grows if it must;
 * its bitmaps get what the head contributes (a superset); data; the base's
 * record takes over anchors and checkpoints; the head is marked as committed;
 * the switch (the link is flipped, or the base takes the head's name); the
 * head's file goes. Until the switch the head is what it was.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/commit.h"
#include "lib/fold.h"

struct work {
	struct qi_drive *d;
	struct qi_node *head, *base;
	struct qi_merge merge;
	uint64_t bytes; /* of the layers between */
};

int qi_commit_prepare(struct qi_drive *d, struct qi_commit *c,
		      struct qi_error *e)
{
	struct qi_node *n = d->head->facts.backing;

	while (n && c->into && !qi_node_is_file(n, c->into))
		n = n->facts.backing;
	if (!n && c->into && !qi_node_is_file(d->head, c->into))
		return qi_fail(e, ESTALE,
			       "'%s' is no layer of drive '%s'; 'qimg snapshot "
			       "list --drive %s' shows them",
			       c->into, d->path, QI_WORD(d->path));
	c->base = n;
	qi_fold_want_unfinished(d);
	for (struct qi_node *m = d->head; n && m != n->facts.backing;
	     m = m->facts.backing)
		qi_node_want(m, QI_ACCESS_WRITE);
	return 0;
}

/* ---------------------------------------------------------------- checks */

/* The file of the head goes: no other link may lead to it. */
static int check_links(struct work *w, struct qi_error *e)
{
	QI_AUTOFREE char *link = NULL;
	int ret = qi_node_find_link(w->head, w->d->path, &link, e);

	if (ret || !link)
		return ret;
	return qi_fail(e, ESTALE,
		       "cannot commit '%s': its file would be removed, and the "
		       "link '%s' leads to it, too",
		       w->head->path, link);
}

/* The base takes the head's name: nothing may depend on where it was. */
static int check_rename(struct work *w, struct qi_error *e)
{
	QI_AUTOFREE char *link = NULL;
	int ret =
		qi_node_refuse_bitmap(w->base, "give its file another name", e);

	if (ret)
		return ret;
	if (w->base->format != w->head->format)
		return qi_fail(
			e, ESTALE,
			"'%s' is a plain file, and its base in %s format "
			"would take its name; make a drive link to it "
			"('ln -s') and use that",
			w->head->path, w->base->format->name);
	ret = qi_node_find_link(w->base, NULL, &link, e);
	if (ret)
		return ret;
	if (link)
		return qi_fail(e, ESTALE,
			       "cannot merge into '%s': its file would get "
			       "another name, and the link '%s' leads to it",
			       w->base->path, link);
	if (qi_same_folder(w->head->path, w->base->path))
		return 0;
	return qi_fail(e, ESTALE,
		       "'%s' is a plain file, and its base '%s' "
		       "is in another folder, so it cannot take its name; use "
		       "a drive link ('ln -s')",
		       w->d->path, w->base->path);
}

static int check(struct work *w, struct qi_error *e)
{
	int ret;

	ret = qi_drive_check(w->d, e);
	if (ret)
		return ret;
	ret = qi_node_check_marks(w->head, "commit", e);
	if (ret)
		return ret;
	if (!w->base)
		return qi_fail(e, ESTALE,
			       "cannot commit drive '%s': its head "
			       "'%s' has no backing file",
			       w->d->path, w->head->path);
	if (qi_record_state_of(w->head) == QI_RECORD_UNKNOWN)
		return qi_fail(e, ESTALE,
			       "cannot commit drive '%s': the record of '%s' "
			       "is damaged or of a later version",
			       w->d->path, w->head->path);
	ret = qi_merge_check(&w->merge, e);
	if (ret)
		return ret;
	if (w->base->facts.size > w->head->facts.size)
		return qi_fail(e, ESTALE,
			       "cannot merge into '%s': its disk "
			       "is larger than that of '%s', and would have to "
			       "shrink; resize the drive to %llu bytes first",
			       w->base->path, w->head->path,
			       (unsigned long long)w->base->facts.size);
	ret = qi_chain_check_readable(w->head, e);
	if (!ret)
		ret = qi_node_check_loss(w->head, e);
	if (!ret)
		ret = w->d->is_link ? check_links(w, e) : check_rename(w, e);
	if (!ret)
		ret = qi_node_check_dependents(w->head, NULL, "commit", e);
	return ret;
}

/* The lowest layer above the base, if that is not the head. */
static struct qi_node *lowest(const struct work *w)
{
	struct qi_node *n = w->head;

	while (n->facts.backing && n->facts.backing != w->base)
		n = n->facts.backing;
	return n == w->head ? NULL : n;
}

static struct qi_fold fold_of(struct work *w, const struct qi_node *goes)
{
	struct qi_node *above = w->head;

	while (above->facts.backing != goes)
		above = above->facts.backing;
	return (struct qi_fold){ .d = w->d,
				 .above = above,
				 .base = w->base,
				 .down = true,
				 .tag = "",
				 .threads = w->merge.threads,
				 .progress = w->merge.progress };
}

/* One of the layers between, as the first write would find it. */
static int check_layer(struct work *w, struct qi_node *n, struct qi_plan *p,
		       struct qi_error *e)
{
	struct qi_fold f = fold_of(w, n);
	int ret;

	/* What lies past the end of a smaller one is hidden by it. */
	if (n->facts.size > f.above->facts.size)
		return qi_fail(e, ESTALE,
			       "cannot merge into '%s': the disk of '%s' is "
			       "larger than that of '%s' above it; 'qimg "
			       "stream --drive %s --base %s' takes them out "
			       "of the drive",
			       w->base->path, n->path, f.above->path,
			       QI_WORD(w->d->path), QI_WORD(w->base->path));
	ret = qi_fold_check(&f, p, true, e);
	qi_fold_clear(&f);
	return ret;
}

static int check_between(struct work *w, struct qi_plan *p, struct qi_error *e)
{
	struct qi_node *n = lowest(w);
	int ret = 0;

	while (n && n != w->head && !ret) {
		ret = check_layer(w, n, p, e);
		n = fold_of(w, n).above;
	}
	return ret;
}

/*
 * The layers between are merged into the base one by one, the lowest first:
 * the head rests on it then, as if they had never been.
 */
static int fold_between(struct work *w, struct qi_change *out,
			struct qi_error *e)
{
	struct qi_node *n;
	int ret = 0;

	while (!ret && (n = lowest(w))) {
		struct qi_fold f = fold_of(w, n);

		ret = qi_fold_check(&f, NULL, false, e);
		if (!ret)
			ret = qi_fold_run(&f, out, e);
		w->bytes += qi_fold_bytes(&f);
		qi_fold_clear(&f);
		/* The note of it may be in the head, which is to go. */
		if (!ret && *out->problem)
			ret = qi_fail(e, EIO,
				      "%s; the same command again goes on "
				      "from there",
				      out->problem);
	}
	return ret;
}

/* ------------------------------------------------------------ the switch */

static int mark_committed(struct work *w, bool dry_run, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	if (!w->d->is_link || qi_node_can_store(w->head, NULL))
		return 0;
	if (qi_record_copy(&r, w->head->record))
		return qi_no_memory(e);
	if (qi_uuid_is_null(&r->drive))
		r->drive = qi_drive_uuid(w->d);
	r->committed = true;
	return dry_run ? qi_node_check_room(w->head, r, false, e) :
			 qi_node_store(w->head, r, NULL, 0, e);
}

/* The old head goes, once its name is not needed even after a power cut. */
static void remove_head(struct work *w, struct qi_change *out)
{
	struct qi_error e;

	if (qi_unlink(w->head->path, &e))
		qi_change_problem(out, &e,
				  "the commit is done, but '%s' is left",
				  w->head->path);
	else if (qi_sync_folder_of(w->head->path, &e))
		qi_change_problem(out, &e,
				  "the commit is done, but after a power cut "
				  "'%s' may be there again",
				  w->head->path);
}

/* The base is the head: should this fail, the mark means nothing there. */
static void end_merge(struct work *w)
{
	qi_merge_end(&w->merge, true, NULL);
}

static int switch_over(struct work *w, struct qi_change *out,
		       struct qi_error *e)
{
	int ret;

	if (!w->d->is_link) {
		ret = qi_rename(w->base->path, w->head->path, e);
		if (!ret && qi_sync_folder_of(w->head->path, e))
			qi_change_problem(out, e,
					  "the commit is done, but a power cut "
					  "may undo it");
		else if (!ret)
			end_merge(w);
		return ret;
	}
	ret = mark_committed(w, false, e);
	if (!ret)
		ret = qi_drive_flip(w->d, w->base->path, e);
	if (ret > 0)
		qi_change_problem(
			out, e,
			"the commit is done, but a power cut may undo "
			"it, so '%s' is left",
			w->head->path);
	if (!ret) {
		end_merge(w);
		remove_head(w, out);
	}
	return ret < 0 ? ret : 0;
}

/* ---------------------------------------------------- an earlier run's end */

static bool is_committed(const struct qi_drive *d, const struct qi_node *n,
			 const char *tag)
{
	struct qi_uuid drive = qi_drive_uuid(d), head = qi_node_uuid(d->head);

	return qi_record_state_of(n) == QI_RECORD_VALID &&
	       n->record->committed && !qi_uuid_is_null(&drive) &&
	       qi_uuid_equal(&n->record->drive, &drive) &&
	       !qi_uuid_is_null(&head) &&
	       qi_uuid_equal(&n->record->parent, &head) &&
	       (!tag || !strcmp(n->record->tag, tag));
}

/* Does n, on top of the present head, read as the head does? */
static bool reads_the_same(const struct qi_drive *d, struct qi_node *n)
{
	struct qi_comparison c;
	bool yes;

	n->facts.backing = d->head;
	yes = !qi_compare_images(n, d->head, false, NULL, &c, NULL) &&
	      c.result == QI_COMPARE_EQUAL;
	n->facts.backing = NULL;
	return yes;
}

/*
 * Is the image at path a head of this drive that was committed into its
 * present head, that nobody uses or leads to, and that nobody has written to
 * since?
 */
static bool is_leftover(const struct qi_drive *d, const char *path,
			const char *tag)
{
	const struct qi_open how = { .access = QI_ACCESS_WRITE,
				     .no_backing = true };
	struct qi_graph *g;
	struct qi_node *n;
	bool yes = false;

	if (qi_graph_new(&g))
		return false;
	if (!qi_graph_add(g, path, &how, &n, NULL) &&
	    !qi_graph_lock(g, 0, NULL) && is_committed(d, n, tag))
		yes = qi_leftover_is_unused(d->head->graph, n, NULL) > 0 &&
		      reads_the_same(d, n);
	qi_graph_free(g);
	return yes;
}

int qi_commit_finish(struct qi_drive *d, const char *tag, struct qi_plan *plan,
		     bool dry_run, struct qi_change *out, struct qi_error *e)
{
	struct qi_files f;
	int found = 0;
	int ret = qi_node_dependents(d->head, NULL, &f, e);

	for (size_t i = 0; i < f.count && !ret; i++) {
		if (!is_leftover(d, f.path[i], tag))
			continue;
		found = 1;
		snprintf(out->old_head, sizeof(out->old_head), "%s", f.path[i]);
		snprintf(out->new_head, sizeof(out->new_head), "%s",
			 d->head->path);
		if (qi_plan_step(plan,
				 "remove '%s', which an earlier run has "
				 "committed",
				 f.path[i]))
			ret = qi_no_memory(e);
		if (!ret && !dry_run)
			ret = qi_unlink(f.path[i], e);
	}
	qi_files_free(&f);
	return ret ? ret : found;
}

static int make_plan(const struct work *w, struct qi_plan *p)
{
	const char *base = w->base->path, *head = w->head->path;
	int ret = 0;

	if (w->base->facts.size < w->head->facts.size)
		ret = qi_plan_step(p, "grow '%s' to %llu bytes", base,
				   (unsigned long long)w->head->facts.size);
	if (!ret)
		ret = qi_plan_step(p,
				   "merge the bitmaps of '%s' into those of "
				   "'%s'",
				   head, base);
	if (!ret)
		ret = qi_merge_plan_copy(&w->merge, true, p);
	if (!ret && w->d->is_link)
		ret = qi_plan_step(p, "point the drive link '%s' at '%s'",
				   w->d->path, base);
	if (ret)
		return ret;
	return w->d->is_link ?
		       qi_plan_step(p, "remove '%s'", head) :
		       qi_plan_step(p, "give '%s' the name '%s'", base, head);
}

static int run(struct work *w, struct qi_change *out, struct qi_error *e)
{
	int ret = fold_between(w, out, e);

	if (!ret)
		ret = qi_merge_run(&w->merge, e);
	if (!ret)
		ret = qi_merge_take_over(&w->merge, true, e);
	return ret ? ret : switch_over(w, out, e);
}

/* The whole operation, after runs that were ended have been cleaned up. */
static int commit(struct work *w, struct qi_plan *plan, bool dry_run,
		  struct qi_change *out, struct qi_error *e)
{
	int ret = check(w, e);

	if (!ret)
		ret = mark_committed(w, true, e);
	if (!ret)
		ret = check_between(w, plan, e);
	if (!ret && make_plan(w, plan))
		ret = qi_no_memory(e);
	if (ret)
		return ret;
	snprintf(out->old_head, sizeof(out->old_head), "%s", w->head->path);
	snprintf(out->new_head, sizeof(out->new_head), "%s",
		 w->d->is_link ? w->base->path : w->head->path);
	ret = dry_run ? 0 : run(w, out, e);
	out->bytes = w->bytes + w->merge.stats.written + w->merge.stats.zero;
	return ret;
}

int qi_commit_layers(struct qi_drive *d, const struct qi_commit *c,
		     struct qi_plan *plan, bool dry_run, struct qi_change *out,
		     struct qi_error *e)
{
	struct work w = { .d = d,
			  .head = d->head,
			  .base = c->base,
			  .merge = { .drive = *d,
				     .base = c->base,
				     .threads = c->threads,
				     .progress = c->progress,
				     .takes_over = true } };

	return commit(&w, plan, dry_run, out, e);
}

int qi_commit_drive(struct qi_drive *d, const struct qi_commit *c,
		    struct qi_plan *plan, bool dry_run, struct qi_change *out,
		    struct qi_error *e)
{
	int ret;

	*out = (struct qi_change){ .bytes = 0 };
	ret = qi_fold_finish(d, NULL, plan, dry_run, out, e);
	if (ret >= 0)
		ret = qi_commit_finish(d, NULL, plan, dry_run, out, e);
	if (ret)
		return ret < 0 ? ret : 0;
	if (c->base || !c->into)
		return qi_commit_layers(d, c, plan, dry_run, out, e);
	out->is_nothing = true;
	return qi_plan_step(plan, "nothing: '%s' is the head", c->into) ?
		       qi_no_memory(e) :
		       0;
}
