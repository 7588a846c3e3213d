/* SPDX-License-Identifier: MIT */
/* backup-plan.c - what a restore point will store of each drive, and on what */
#include <errno.h>
#include <stdio.h>

#include "lib/backup.h"
#include "lib/ranges.h"

/* What the last point calls the drive of that id; NULL: no point has it. */
static const char *known_name(const struct qi_repo *r,
			      const struct qi_uuid *drive)
{
	for (size_t i = r->count; i-- > 0 && !qi_uuid_is_null(drive);)
		for (size_t j = 0; j < r->points[i].drive_count; j++) {
			const struct qi_point_drive *d =
				&r->points[i].drives[j];

			if (qi_uuid_equal(&d->drive, drive))
				return d->name;
		}
	return NULL;
}

/*
 * The drive's name in the repository: its file name without the extension. A
 * layer is called like any other file, so that its drive's name counts.
 */
static char *drive_name(const struct qi_backup_work *w,
			const struct qi_backup_source *s)
{
	const char *name = w->b->name, *dot;

	if (!name && s->drive->is_layer)
		name = known_name(w->r, &s->out->drive);
	if (name)
		return strdup(name);
	name = qi_path_name(s->drive->path);
	dot = strrchr(name, '.');
	return dot && dot != name ? strndup(name, (size_t)(dot - name)) :
				    strdup(name);
}

static int need_utf8(const char *text, const char *what, const char *name,
		     struct qi_error *e)
{
	json_t *s = json_string(text);

	json_decref(s);
	return s ? 0 :
		   qi_fail(e, EINVAL,
			   "the name of %s '%s' is not valid UTF-8, and cannot "
			   "stand in a manifest",
			   what, name);
}

static int name_drive(struct qi_backup_work *w, struct qi_backup_source *s,
		      struct qi_error *e)
{
	struct qi_point_drive *o = s->out;
	int ret;

	o->drive = qi_drive_uuid(s->drive);
	o->name = drive_name(w, s);
	if (!o->name)
		return qi_no_memory(e);
	ret = need_utf8(o->name, "drive", s->drive->path, e);
	if (!ret && w->b->bitmap)
		ret = need_utf8(w->b->bitmap, "bitmap", w->b->bitmap, e);
	if (ret)
		return ret;
	for (const char *c = o->name; *c; c++)
		if ((unsigned char)*c < ' ')
			return qi_fail(e, EINVAL,
				       "the name of drive '%s' has a control "
				       "character, and cannot stand in a list "
				       "of checksums",
				       s->drive->path);
	if (!o->name[0] || o->name[0] == '.' || strchr(o->name, '/'))
		return qi_fail(e, EINVAL,
			       "drive '%s' cannot be backed up as '%s': a name "
			       "in a repository is not empty, does not start "
			       "with a dot, and has no slash",
			       s->drive->path, o->name);
	for (struct qi_point_drive *p = w->point.drives; p < o; p++)
		if (strcmp(p->name, o->name) == 0)
			return qi_fail(e, EINVAL,
				       "two of the drives have the name "
				       "'%s'; give one of them a drive link "
				       "with another name",
				       o->name);
	o->file = qi_format_text("%s.qcow2", o->name);
	o->hashes = qi_format_text("%s.hashes", o->name);
	o->reason = strdup("");
	o->size = s->drive->head->facts.size;
	return o->file && o->hashes && o->reason ? 0 : qi_no_memory(e);
}

/* The first thing that keeps the dirty set from being exact. */
static int take_reason(struct qi_backup_source *s, struct qi_error *e)
{
	size_t count;
	const struct qi_layer *l = qi_dirty_layers(s->dirty, &count);

	for (size_t i = 0; i < count; i++) {
		if (!l[i].reason[0])
			continue;
		free(s->out->reason);
		s->out->reason = qi_format_text(
			"%s: '%s': %s", qi_layer_status_name(l[i].status),
			l[i].node->path, l[i].reason);
		return s->out->reason ? 0 : qi_no_memory(e);
	}
	return 0;
}

/* Start the bitmap anew at the end of the point; dry_run: can it be done? */
int qi_backup_clear_bitmap(struct qi_backup_work *w, struct qi_backup_source *s,
			   bool dry_run, struct qi_error *e)
{
	const struct qi_bitmap_edit clear = {
		.verb = QI_BITMAP_CLEAR,
		.name = w->b->bitmap,
		.checkpoint = &s->out->to,
	};

	return qi_drive_bitmap_edit(s->drive, &clear, NULL, dry_run, e);
}

/* Not of a layer, whose bitmap is not cleared. */
static int check_clear(struct qi_backup_work *w, struct qi_backup_source *s,
		       struct qi_error *e)
{
	int ret = qi_backup_clear_bitmap(w, s, true, e);

	s->out->to = qi_uuid_random();
	return ret ? ret : qi_node_check_writable(s->drive->head, e);
}

static int no_bitmap(const struct qi_backup_work *w,
		     const struct qi_backup_source *s, struct qi_error *e)
{
	const char *path = s->drive->path, *name = w->b->bitmap;

	if (!s->drive->is_layer)
		return qi_fail(e, ESTALE,
			       "drive '%s' has no bitmap '%s'; "
			       "'qimg bitmap add --drive %s %s' makes one",
			       path, name, QI_WORD(path), QI_WORD(name));
	if (qi_node_find_bitmap(s->drive->head, name) >= 0)
		return qi_fail(e, ESTALE,
			       "bitmap '%s' of node '%s' is that of the node "
			       "alone, which does not tell at which point it "
			       "starts; 'qimg bitmap move --node %s %s "
			       "--to-drive DRIVE' makes it one of a drive",
			       name, path, QI_WORD(path), QI_WORD(name));
	return qi_fail(e, ESTALE,
		       "layer '%s' has nothing of a drive bitmap '%s'", path,
		       name);
}

static int look_at_bitmap(struct qi_backup_work *w, struct qi_backup_source *s,
			  struct qi_error *e)
{
	struct qi_point_drive *o = s->out;
	int ret = s->drive->is_layer ? qi_drive_check_strict(s->drive, e) :
				       qi_drive_check(s->drive, e);

	if (!ret)
		ret = qi_dirty_new(s->drive, w->b->bitmap, &s->dirty, e);
	/* A layer can go without one. */
	if (ret == -ENOENT)
		return s->drive->is_layer ? 0 : no_bitmap(w, s, e);
	if (!ret && !s->drive->is_layer && !w->only_reads)
		ret = check_clear(w, s, e);
	if (!ret)
		ret = qi_dirty_bytes(s->dirty, &o->dirty, e);
	if (ret)
		return ret;
	o->bitmap = strdup(w->b->bitmap);
	o->from = qi_dirty_checkpoint(s->dirty);
	return o->bitmap ? take_reason(s, e) : qi_no_memory(e);
}

/* Does what the bitmap has recorded begin where that point of it ends? */
static bool ends_at_start(const struct qi_point_drive *d,
			  const struct qi_point_drive *o)
{
	return d && d->bitmap && o->bitmap && !strcmp(d->bitmap, o->bitmap) &&
	       qi_uuid_equal(&d->drive, &o->drive) &&
	       qi_uuid_equal(&d->to, &o->from);
}

/* A chain in which damage was found restores to nothing. */
static int check_verified(const struct qi_repo *r, size_t i, const char *drive,
			  struct qi_error *e)
{
	size_t below;

	for (; i != SIZE_MAX; i = below) {
		const struct qi_point *p = &r->points[i];

		if (p->verified.problems)
			return qi_fail(e, ESTALE,
				       "point %s, which it would rest on, was "
				       "found to be damaged by 'qimg backup "
				       "verify'",
				       p->id);
		if (qi_repo_below(r, i, drive, &below, NULL))
			return 0;
	}
	return 0;
}

/* What a point rests on has to be there, with its image and hashes. */
static int set_parent(struct qi_backup_work *w, struct qi_backup_source *s,
		      const char *id, struct qi_error *e)
{
	struct qi_point_drive *o = s->out;
	size_t i = qi_repo_index(w->r, id);
	struct qi_graph *g;
	struct qi_node *n;
	int ret;

	free(o->parent);
	o->parent = strdup(id);
	if (!o->parent)
		return qi_no_memory(e);
	if (i == SIZE_MAX)
		return qi_fail(e, ESTALE,
			       "point %s, which it would rest on, is missing",
			       id);
	ret = w->only_reads ? 0 : check_verified(w->r, i, o->name, e);
	if (ret)
		return ret;
	if (qi_graph_new(&g))
		return qi_no_memory(e);
	ret = qi_repo_open_image(w->r, &w->r->points[i], o->name, g, &n, e);
	qi_graph_free(g);
	if (!ret)
		ret = qi_repo_tree(w->r, &w->r->points[i], o->name, &s->below,
				   e);
	if (!ret)
		return 0;
	qi_context(e, ret, "point %s, which it would rest on", id);
	/* Nothing is wrong with the point when it just could not be read. */
	return ret == -ENOENT || ret == -EUCLEAN ? -ESTALE : ret;
}

static int no_point(const struct qi_backup_work *w,
		    const struct qi_backup_source *s, struct qi_error *e)
{
	return qi_fail(e, ESTALE,
		       "'%s' has no backup of drive '%s' to build on",
		       w->r->path, s->out->name);
}

/*
 * The last point that has the drive and ends at a checkpoint. Those that do not
 * were taken without a bitmap, or of a layer, and have cleared nothing.
 */
static const struct qi_point *last_cleared(const struct qi_repo *r,
					   const char *drive)
{
	for (size_t i = r->count; i-- > 0;) {
		const struct qi_point *p = &r->points[i];
		const struct qi_point_drive *d =
			p->problem ? NULL : qi_point_find(p, drive);

		if (d && !qi_uuid_is_null(&d->to))
			return p;
	}
	return NULL;
}

/*
 * The point that an increment builds on: the last one, when it ends where the
 * bitmap starts. When the one that it rests on does, the clear after the last
 * one was lost: the increment is taken again, from the point before it.
 */
static int find_parent(struct qi_backup_work *w, struct qi_backup_source *s,
		       struct qi_error *e)
{
	const struct qi_point_drive *o = s->out, *l;
	const struct qi_point *last = last_cleared(w->r, o->name);

	if (!qi_repo_last(w->r, o->name))
		return no_point(w, s, e);
	l = last ? qi_point_find(last, o->name) : NULL;
	if (last && ends_at_start(l, o))
		return set_parent(w, s, last->id, e);
	if (l && l->parent) {
		size_t i = qi_repo_index(w->r, l->parent);

		if (i != SIZE_MAX && !w->r->points[i].problem &&
		    ends_at_start(qi_point_find(&w->r->points[i], o->name), o))
			return set_parent(w, s, l->parent, e);
	}
	return qi_fail(e, ESTALE,
		       "bitmap '%s' of drive '%s' does not start at the last "
		       "backup of it in '%s' (rolled back, copied, or cleared "
		       "by somebody else)",
		       o->bitmap, s->drive->path, w->r->path);
}

/* The point that was named has to be the one that an increment builds on. */
static int take_named(struct qi_backup_work *w, struct qi_backup_source *s,
		      struct qi_error *e)
{
	const struct qi_point_drive *o = s->out, *d;
	int ret = qi_point_need(w->at, o->name, &d, e);

	if (!ret && o->bitmap && !ends_at_start(d, o))
		ret = qi_fail(e, ESTALE,
			      "bitmap '%s' of drive '%s' does not start at "
			      "point %s of '%s'",
			      o->bitmap, s->drive->path, w->at->id, w->r->path);
	return ret ? ret : set_parent(w, s, w->at->id, e);
}

/* ----------------------------------------------------------------- types */

/* Why the dirty set cannot be what the point stores. */
static int check_dirty(const struct qi_backup_work *w,
		       const struct qi_backup_source *s, struct qi_error *e)
{
	if (!s->dirty && w->b->bitmap)
		return no_bitmap(w, s, e);
	if (!s->dirty)
		return qi_fail(e, ESTALE, "no bitmap of drive '%s' was given",
			       s->drive->path);
	if (qi_dirty_status(s->dirty) == QI_LAYER_FULL)
		return qi_fail(e, ESTALE,
			       "bitmap '%s' of drive '%s' cannot serve an "
			       "incremental backup: %s",
			       w->b->bitmap, s->drive->path, s->out->reason);
	if (qi_dirty_has_gap(s->dirty))
		return qi_fail(e, ESTALE,
			       "bitmap '%s' of drive '%s' cannot serve an "
			       "incremental backup: it was disabled since it "
			       "starts, and what was written then is not in it",
			       w->b->bitmap, s->drive->path);
	return 0;
}

static int plan_increment(struct qi_backup_work *w, struct qi_backup_source *s,
			  struct qi_error *e)
{
	int ret = check_dirty(w, s, e);

	s->out->type = QI_BACKUP_INCREMENTAL;
	if (!ret)
		ret = w->at ? take_named(w, s, e) : find_parent(w, s, e);
	return ret;
}

static int plan_resync(struct qi_backup_work *w, struct qi_backup_source *s,
		       struct qi_error *e)
{
	const struct qi_point *last = qi_repo_last(w->r, s->out->name);

	s->out->type = QI_BACKUP_RESYNC;
	if (w->at)
		return take_named(w, s, e);
	return last ? set_parent(w, s, last->id, e) : no_point(w, s, e);
}

static int plan_full(struct qi_backup_source *s)
{
	s->out->type = QI_BACKUP_FULL;
	free(s->out->parent);
	s->out->parent = NULL;
	return 0;
}

/* What was refused gets the option that helps. */
static int add_help(struct qi_backup_work *w, const struct qi_backup_source *s,
		    enum qi_backup_type tried, int ret, struct qi_error *e)
{
	const char *name = s->out->name;
	const struct qi_point *last = qi_repo_last(w->r, name);
	bool can_resync = tried == QI_BACKUP_INCREMENTAL && last &&
			  !check_verified(w->r, (size_t)(last - w->r->points),
					  name, NULL);
	struct qi_error why;

	if (ret != -ESTALE || !e)
		return ret;
	why = *e;
	return qi_fail(e, ESTALE, "%s; take one with %s", why.text,
		       can_resync ? "--resync or --full" : "--full");
}

/* The cheapest that is sound; the others leave the reason. */
static int plan_auto(struct qi_backup_work *w, struct qi_backup_source *s,
		     struct qi_error *e)
{
	struct qi_error why;
	int ret = plan_increment(w, s, &why);

	if (ret == -ESTALE) {
		free(s->out->reason);
		s->out->reason = strdup(why.text);
		if (!s->out->reason)
			return qi_no_memory(e);
		ret = plan_resync(w, s, &why);
	}
	if (ret == -ESTALE)
		return plan_full(s);
	if (ret && e)
		*e = why;
	return ret;
}

static int plan_type(struct qi_backup_work *w, struct qi_backup_source *s,
		     struct qi_error *e)
{
	int ret;

	switch (w->b->type) {
	case QI_BACKUP_AUTO:
		return plan_auto(w, s, e);
	case QI_BACKUP_RESYNC:
		ret = plan_resync(w, s, e);
		break;
	case QI_BACKUP_INCREMENTAL:
		ret = plan_increment(w, s, e);
		break;
	default:
		return plan_full(s);
	}
	return add_help(w, s, w->b->type, ret, e);
}

static int plan_source(struct qi_backup_work *w, struct qi_backup_source *s,
		       struct qi_error *e)
{
	int ret = name_drive(w, s, e);

	if (!ret)
		ret = qi_chain_check_readable(s->drive->head, e);
	if (!ret)
		ret = w->b->bitmap ? look_at_bitmap(w, s, e) :
				     qi_drive_check_strict(s->drive, e);
	if (!ret)
		ret = qi_origin_note(s->drive, &s->out->origin, e);
	return ret ? ret : plan_type(w, s, e);
}

/* Later than all that are there, also when the clock was set back. */
static char *next_id(const struct qi_repo *r, int64_t now)
{
	unsigned long last = 0;
	time_t seconds = (time_t)now;
	char when[32];
	struct tm tm;

	if (r->count)
		last = strtoul(r->points[r->count - 1].id, NULL, 10);
	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
	return qi_format_text("%06lu-%s", last + 1, when);
}

static int plan_steps(const struct qi_backup_work *w,
		      const struct qi_backup_source *s, struct qi_plan *plan)
{
	const struct qi_point_drive *o = s->out;
	const char *path = s->drive->path;
	int ret;

	if (o->type == QI_BACKUP_FULL)
		ret = qi_plan_step(plan, "store all of drive '%s'", path);
	else if (o->type == QI_BACKUP_RESYNC)
		ret = qi_plan_step(plan,
				   "compare all of drive '%s' with point %s, "
				   "and store what differs",
				   path, o->parent);
	else
		ret = qi_plan_step(plan,
				   "store %llu dirty bytes of drive '%s' on "
				   "point %s",
				   (unsigned long long)o->dirty, path,
				   o->parent);
	if (!ret && !qi_uuid_is_null(&o->to))
		ret = qi_plan_step(plan, "clear bitmap '%s' of drive '%s'",
				   w->b->bitmap, path);
	return ret;
}

int qi_backup_plan(struct qi_backup_work *w, struct qi_plan *plan,
		   struct qi_error *e)
{
	size_t count = w->b->drive_count;
	int ret = 0;

	if (w->b->name && count != 1)
		return qi_fail(e, EINVAL,
			       "a name in the repository can be given to one "
			       "drive alone");
	if (w->r->is_planned &&
	    qi_plan_step(plan, "make the repository '%s'", w->r->path))
		return qi_no_memory(e);
	w->point.time = time(NULL);
	w->point.id = next_id(w->r, w->point.time);
	w->point.drives = calloc(count, sizeof(*w->point.drives));
	w->sources = calloc(count, sizeof(*w->sources));
	if (!w->point.id || !w->point.drives || !w->sources)
		return qi_no_memory(e);
	w->point.drive_count = count;
	for (size_t i = 0; i < count && !ret; i++) {
		struct qi_backup_source *s = &w->sources[i];

		s->drive = w->b->drives[i];
		s->out = &w->point.drives[i];
		ret = plan_source(w, s, e);
		if (!ret && plan_steps(w, s, plan))
			ret = qi_no_memory(e);
	}
	return ret ? ret : qi_point_sum_up(&w->point, e);
}
