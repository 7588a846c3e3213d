/* SPDX-License-Identifier: MIT */
/*
 * clone.c - a drive of its own on a layer of another one
 *
 * Order of writes, each durable before the next: where the head has data, the
 * drive gets a snapshot; the layer is marked as frozen and shared; the new
 * image is written whole under a hidden name and gets its name. After an end
 * in between, the head is empty and the layer below is taken as it is.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/overlay.h"

struct work {
	struct qi_drive *d;
	const struct qi_clone *how;
	struct qi_node *base; /* that the clone rests on */
	bool snapshots;	      /* it is the head still */
	bool is_done;
	char base_path[4096]; /* of it, after the snapshot */
};

/* The layer that reads as the drive does; the head, if no other. */
static struct qi_node *find_base(struct qi_drive *d)
{
	struct qi_node *head = d->head, *below = head->facts.backing;

	/* Its tag says that a snapshot made the head, and froze that. */
	return below && qi_node_parent_is_right(head) &&
			       qi_record_state_of(head) == QI_RECORD_VALID &&
			       *head->record->tag &&
			       qi_record_state_of(below) == QI_RECORD_VALID &&
			       below->facts.size == head->facts.size &&
			       qi_node_is_empty(head) ?
		       below :
		       head;
}

static int find(struct work *w, struct qi_error *e)
{
	struct qi_node *above;
	int ret;

	if (!w->how->at) {
		w->base = find_base(w->d);
		w->snapshots = w->base == w->d->head;
		return 0;
	}
	ret = qi_drive_need_tag(w->d, w->how->at, &above, e);
	if (!ret)
		w->base = above->facts.backing;
	return ret;
}

int qi_clone_prepare(struct qi_drive *d, const struct qi_clone *c,
		     struct qi_error *e)
{
	struct work w = { .d = d, .how = c };
	int ret = find(&w, e);

	if (ret)
		return ret;
	if (w.snapshots)
		qi_node_want(d->head, QI_ACCESS_WRITE);
	/* One that is marked already, or cannot be, may be read-only. */
	if (!qi_node_can_store(w.base, NULL) &&
	    !(qi_record_state_of(w.base) == QI_RECORD_VALID &&
	      w.base->record->shared))
		qi_node_want(w.base, QI_ACCESS_WRITE);
	return 0;
}

/* ---------------------------------------------------------------- checks */

/* The clone of an earlier run, that nobody has written to. */
static bool is_the_clone(const struct work *w, const char *path)
{
	const struct qi_open how = { .no_backing = true };
	struct qi_uuid base = qi_node_uuid(w->base);
	struct qi_uuid drive = qi_drive_uuid(w->d);
	struct qi_graph *g;
	struct qi_node *n;
	bool yes = false;

	if (w->snapshots || qi_uuid_is_null(&base) || qi_graph_new(&g))
		return false;
	if (!qi_graph_add(g, path, &how, &n, NULL) &&
	    qi_record_state_of(n) == QI_RECORD_VALID)
		yes = qi_uuid_equal(&n->record->parent, &base) &&
		      !qi_uuid_equal(&n->record->drive, &drive) &&
		      !n->record->count && qi_node_is_empty(n);
	qi_graph_free(g);
	return yes;
}

/* Will the file fit where it is wanted, besides those of the snapshot? */
static int check_place(const struct work *w, struct qi_error *e)
{
	const char *path = w->how->path, *name = qi_path_name(path);
	const struct qi_snapshot s = { .tag = w->how->tag };
	QI_AUTOFREE char *dir = qi_path_folder(path);
	struct qi_change c;
	int ret;

	if (!dir)
		return qi_no_memory(e);
	if (!*name)
		return qi_fail(e, EINVAL, "'%s' is no name of a file", path);
	if (access(dir, W_OK | X_OK))
		return qi_fail(e, errno, "cannot create '%s': %s", path,
			       strerror(errno));
	if (!w->snapshots)
		return 0;
	ret = qi_snapshot_create(w->d, &s, NULL, true, &c, e);
	if (ret || !qi_same_folder(path, w->base->path) ||
	    (strcmp(name, qi_path_name(c.old_head)) &&
	     strcmp(name, qi_path_name(c.new_head))))
		return ret;
	return qi_fail(e, EEXIST,
		       "'%s' is a name that the snapshot needs; choose another "
		       "one, or another --tag",
		       path);
}

/* The head is empty: the layer below it is cloned, whatever its tag is. */
static void warn_of_tag(const struct work *w)
{
	const char *tag = w->how->tag, *has = qi_node_tag(w->d->head);

	if (!tag || w->snapshots || !strcmp(tag, has))
		return;
	if (*has)
		qi_warn(w->d->head->graph,
			"no snapshot '%s' is made: nothing was written since "
			"snapshot '%s', which is cloned",
			tag, has);
	else
		qi_warn(w->d->head->graph,
			"no snapshot '%s' is made: '%s' is empty, and '%s' is "
			"cloned",
			tag, w->d->head->path, w->base_path);
}

static int check(struct work *w, struct qi_error *e)
{
	const char *path = w->how->path;
	struct stat st;
	int ret = qi_drive_check(w->d, e);

	if (!ret)
		ret = find(w, e);
	if (!ret && w->how->at)
		ret = qi_drive_check_whole(w->d, w->base, e);
	if (ret)
		return ret;
	snprintf(w->base_path, sizeof(w->base_path), "%s", w->base->path);
	warn_of_tag(w);
	if (qi_record_state_of(w->base) == QI_RECORD_UNKNOWN)
		return qi_fail(e, ESTALE,
			       "cannot clone '%s': its record is damaged or of "
			       "a later version",
			       w->base->path);
	if (lstat(path, &st))
		return check_place(w, e);
	w->is_done = is_the_clone(w, path);
	if (w->is_done)
		return 0;
	return qi_fail(e, EEXIST, "'%s' exists already; choose another name",
		       path);
}

/* ----------------------------------------------------------------- parts */

/* Others rest on it now: it is not to change. */
static int mark_shared(struct work *w, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	if (qi_record_state_of(w->base) == QI_RECORD_VALID &&
	    w->base->record->shared && w->base->record->frozen)
		return 0;
	if (qi_node_can_store(w->base, NULL)) {
		qi_warn(w->d->head->graph,
			"'%s' cannot be marked as shared: a commit into it is "
			"refused only where the clone is seen",
			w->base_path);
		return 0;
	}
	if (qi_record_copy(&r, w->base->record))
		return qi_no_memory(e);
	r->frozen = r->shared = true;
	return qi_node_store(w->base, r, NULL, 0, e);
}

static int write_clone(struct work *w, struct qi_change *out,
		       struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	QI_AUTORECORD struct qi_record *r = NULL;
	struct qi_overlay o = { .path = w->how->path,
				.mode = QI_TEMP_NEW,
				.base = w->base,
				.base_path = w->base_path };
	int ret;

	if (qi_record_copy(&r, NULL))
		return qi_no_memory(e);
	r->drive = qi_uuid_random();
	r->parent = qi_node_uuid(w->base);
	o.record = r;
	ret = qi_overlay_write(&o, &img, e);
	if (!ret)
		ret = qi_image_publish(&img, e);
	/* It has the name: only the sync of the folder can have failed. */
	if (ret && is_the_clone(w, w->how->path)) {
		qi_change_problem(out, e,
				  "the clone is made, but a power cut may undo "
				  "it");
		ret = 0;
	}
	return ret;
}

static int snapshot(struct work *w, struct qi_plan *plan, bool dry_run,
		    struct qi_change *out, struct qi_error *e)
{
	const struct qi_snapshot s = { .tag = w->how->tag };
	int ret;

	if (!w->snapshots)
		return 0;
	ret = qi_snapshot_create(w->d, &s, plan, dry_run, out, e);
	if (ret)
		return ret;
	/* A plain file has given its name to the new head. */
	snprintf(w->base_path, sizeof(w->base_path), "%s", out->old_head);
	w->snapshots = dry_run;
	return 0;
}

static int run(struct work *w, struct qi_plan *p, bool dry_run,
	       struct qi_change *out, struct qi_error *e)
{
	int ret = check(w, e);

	out->is_nothing = w->is_done;
	if (!ret && w->is_done)
		ret = qi_plan_step(p, "nothing: the clone is there");
	if (ret || w->is_done)
		return ret;
	ret = snapshot(w, p, dry_run, out, e);
	if (!ret)
		ret = qi_plan_step(p, "mark '%s' as shared", w->base_path);
	if (!ret)
		ret = qi_plan_step(p, "write the new drive '%s' on '%s'",
				   w->how->path, w->base_path);
	if (ret || dry_run)
		return ret;
	ret = mark_shared(w, e);
	return ret ? ret : write_clone(w, out, e);
}

int qi_clone_drive(struct qi_drive *d, const struct qi_clone *c,
		   struct qi_plan *plan, bool dry_run, struct qi_change *out,
		   struct qi_error *e)
{
	struct work w = { .d = d, .how = c };
	int ret;

	*out = (struct qi_change){ .bytes = 0 };
	ret = run(&w, plan, dry_run, out, e);
	if (ret == -ENOMEM)
		qi_no_memory(e);
	snprintf(out->old_head, sizeof(out->old_head), "%s", w.base_path);
	snprintf(out->new_head, sizeof(out->new_head), "%s", c->path);
	return ret;
}

int qi_node_unshare(struct qi_node *n, struct qi_plan *plan, bool dry_run,
		    struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;
	struct qi_files above = { 0 };
	bool thaws;
	int ret = qi_node_dependents(n, NULL, &above, e);

	if (!ret && above.count > 1)
		ret = qi_fail(e, ESTALE,
			      "'%s' is shared still: '%s' and '%s' rest on it",
			      n->path, above.path[0], above.path[1]);
	thaws = !above.count;
	qi_files_free(&above);
	if (!ret && (qi_record_state_of(n) != QI_RECORD_VALID ||
		     !(n->record->shared || (thaws && n->record->frozen))))
		ret = qi_fail(e, EINVAL, "'%s' is not marked as shared",
			      n->path);
	if (ret)
		return ret;
	if (qi_plan_step(plan, "take the mark%s off '%s'",
			 thaws ? "s 'frozen' and 'shared'" : " 'shared'",
			 n->path) ||
	    qi_record_copy(&r, n->record))
		return qi_no_memory(e);
	r->shared = false;
	r->frozen = r->frozen && !thaws;
	return dry_run ? 0 : qi_node_store(n, r, NULL, 0, e);
}
