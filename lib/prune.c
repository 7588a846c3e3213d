/* SPDX-License-Identifier: MIT */
/*
 * prune.c - points go, and what others need of them is kept
 *
 * A point that stays and rests on one that goes is stored anew, on the next
 * one below that stays, with what it needs of those in between; its hash must
 * be what it was. When all are, nobody rests on the points that go, and they
 * are removed, the newest first. See point.h for the orders of writes.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "lib/drive.h"
#include "lib/graph.h"
#include "lib/point.h"
#include "lib/ranges.h"

struct work {
	struct qi_repo *r;
	const struct qi_prune *how;
	char *first, *last; /* ids, or NULL: points are read anew */
	bool *goes;	    /* for each point of r */
	struct qi_plan *plan;
};

/* --------------------------------------------------------------- choosing */

struct kind {
	unsigned left;
	int digits; /* of YYYYMMDDHH that tell periods apart; 0: each point */
	char last[16];
};
#define WEEKS (-1)

static void name_period(const struct kind *k, int64_t when, char text[16])
{
	time_t seconds = (time_t)when;
	struct tm tm;

	gmtime_r(&seconds, &tm);
	if (k->digits == WEEKS)
		strftime(text, 16, "%GW%V", &tm);
	else
		strftime(text, 16, "%Y%m%d%H", &tm);
	if (k->digits > 0)
		text[k->digits] = '\0';
}

/* Is it the last one of its hour, day, ... that is still wanted? */
static bool is_wanted(struct kind *k, const struct qi_point *p)
{
	char period[16] = "";

	if (!k->left)
		return false;
	name_period(k, p->time, period);
	if (k->digits && !strcmp(period, k->last))
		return false;
	memcpy(k->last, period, sizeof(period));
	k->left--;
	return true;
}

/* Of the points that have a drive. */
static void choose_kept(struct work *w, const struct qi_keep *keep,
			const char *drive)
{
	struct kind kinds[] = {
		{ keep->last, 0, "" },	  { keep->hourly, 10, "" },
		{ keep->daily, 8, "" },	  { keep->weekly, WEEKS, "" },
		{ keep->monthly, 6, "" }, { keep->yearly, 4, "" },
	};

	for (size_t i = w->r->count; i-- > 0;) {
		const struct qi_point *p = &w->r->points[i];

		if (!qi_point_find(p, drive))
			continue;
		for (size_t k = 0; k < QI_ARRAY_SIZE(kinds); k++)
			if (is_wanted(&kinds[k], p))
				w->goes[i] = false;
	}
}

/*
 * What a drive's share of the points is wanted for, what the next increment of
 * it builds on, and what is pinned, stays.
 */
static void choose_by_drive(struct work *w)
{
	for (size_t i = 0; i < w->r->count; i++)
		w->goes[i] = !w->r->points[i].pinned;
	for (size_t i = 0; i < w->r->count; i++) {
		const struct qi_point *p = &w->r->points[i];

		for (size_t j = 0; j < p->drive_count; j++) {
			const char *drive = p->drives[j].name;

			if (qi_repo_last(w->r, drive) != p)
				continue;
			w->goes[i] = false;
			choose_kept(w, &w->how->keep, drive);
		}
	}
}

/* Nothing of a drive may go that the last point of the range has not. */
static int check_drives(const struct qi_point *p, const struct qi_point *last,
			struct qi_error *e)
{
	for (size_t i = 0; i < p->drive_count; i++)
		if (!qi_point_find(last, p->drives[i].name))
			return qi_fail(e, EINVAL,
				       "point %s has drive '%s', and point %s "
				       "has not",
				       p->id, p->drives[i].name, last->id);
	return 0;
}

static int choose_range(struct work *w, struct qi_error *e)
{
	size_t first = qi_repo_index(w->r, w->first);
	size_t last = qi_repo_index(w->r, w->last);

	if (first >= last || last == SIZE_MAX)
		return qi_fail(e, EINVAL, "point %s is not older than point %s",
			       w->first, w->last);
	for (size_t i = first; i < last; i++) {
		if (w->r->points[i].pinned)
			return qi_fail(e, EPERM,
				       "point %s is pinned; 'qimg backup unpin "
				       "%s %s' gives it free",
				       w->r->points[i].id, QI_WORD(w->r->path),
				       w->r->points[i].id);
		w->goes[i] = true;
		if (check_drives(&w->r->points[i], &w->r->points[last], e))
			return -EINVAL;
	}
	return 0;
}

/* Nobody knows what a point needs whose manifest cannot be read. */
static int check_points(const struct work *w, struct qi_error *e)
{
	for (size_t i = 0; i < w->r->count; i++)
		if (w->r->points[i].problem)
			return qi_fail(e, EUCLEAN,
				       "point %s cannot be used, so nothing is "
				       "removed: %s",
				       w->r->points[i].id,
				       w->r->points[i].problem);
		else if (!w->r->points[i].chain)
			return qi_fail(e, EUCLEAN,
				       "point %s rests on a point that is "
				       "missing, so nothing is removed",
				       w->r->points[i].id);
	return 0;
}

static int choose(struct work *w, struct qi_error *e)
{
	int ret = check_points(w, e);

	if (ret)
		return ret;
	if (w->first)
		return choose_range(w, e);
	choose_by_drive(w);
	return 0;
}

/* ---------------------------------------------------------------- merging */

/* Does the point of this id go? NULL is none. */
static bool id_goes(const struct work *w, const char *id)
{
	size_t i = id ? qi_repo_index(w->r, id) : SIZE_MAX;

	return i != SIZE_MAX && w->goes[i];
}

static bool needs_merge(const struct work *w, const struct qi_point *p)
{
	for (size_t i = 0; i < p->drive_count; i++)
		if (id_goes(w, p->drives[i].parent))
			return true;
	return false;
}

/* One drive of a point, and how many points it takes in. */
struct merge {
	const struct qi_point_drive *drive;
	struct qi_hash_tree *tree; /* of the point as it is */
	size_t depth;
	uint64_t old_size; /* of the disk below; 0: nothing is below */
};

/* Room for two more than there are points to take in. */
static int collect_ranges(const struct merge *m, struct qi_ranges **in,
			  struct qi_ranges **out)
{
	uint64_t size = m->drive->size, least = qi_min(size, m->old_size);
	struct qi_hash_tree *t = m->tree;
	bool resized = size != m->old_size;
	size_t used = 0;
	int ret = 0;

	for (size_t i = 0; i <= m->depth && !ret; i++) {
		ret = qi_hash_tree_stored(&in[used], t);
		used += !ret;
		resized |= qi_hash_tree_size(t) != size;
		least = qi_min(least, qi_hash_tree_size(t));
		t = qi_hash_tree_below(t);
	}
	/*
	 * What was cut off at some time is stored by nobody, and where a disk
	 * ends a chunk has another length.
	 */
	least -= least > 0;
	if (!ret && resized && size) {
		ret = qi_ranges_one(&in[used], least, size - least);
		used += !ret;
	}
	return qi_ranges_collect(out, in, used, ret);
}

static int find_ranges(void *arg, uint64_t unit, struct qi_ranges **out,
		       struct qi_error *e)
{
	struct merge *m = arg;
	struct qi_ranges **in, *all, *inside;
	int ret;

	*out = NULL;
	/* With nothing below, all of the disk. */
	if (!m->old_size)
		return 0;
	in = calloc(m->depth + 2, sizeof(struct qi_ranges *));
	ret = in ? collect_ranges(m, in, &all) : -ENOMEM;
	free(in);
	if (!ret)
		ret = qi_ranges_clip(&inside, all, m->drive->size);
	if (!ret)
		ret = qi_ranges_round(out, inside, qi_max(unit, QI_HASH_UNIT),
				      m->drive->size);
	return ret ? qi_no_memory(e) : 0;
}

/* Follow the points that go; o gets what it inherits from them. */
static int take_in(const struct work *w, struct qi_point_drive *o,
		   size_t *depth, struct qi_error *e)
{
	*depth = 0;
	while (id_goes(w, o->parent)) {
		const struct qi_point *p =
			&w->r->points[qi_repo_index(w->r, o->parent)];
		const struct qi_point_drive *d = qi_point_find(p, o->name);
		char *parent = d && d->parent ? strdup(d->parent) : NULL;

		if (!d || (d->parent && !parent)) {
			free(parent);
			return d ? qi_no_memory(e) :
				   qi_fail(e, EUCLEAN,
					   "point %s has no drive '%s'", p->id,
					   o->name);
		}
		free(o->parent);
		o->parent = parent;
		o->from = d->from;
		o->dirty += d->dirty;
		if (d->type == QI_BACKUP_RESYNC)
			o->type = QI_BACKUP_RESYNC;
		++*depth;
	}
	if (!o->parent)
		o->type = QI_BACKUP_FULL;
	return 0;
}

static int store_merged(struct work *w, struct qi_point_maker *m,
			const struct qi_point *p, struct qi_point_drive *o,
			struct qi_point_source *s, struct qi_error *e)
{
	struct qi_hash root = o->root;
	struct qi_graph *g;
	int ret;

	if (qi_graph_new(&g))
		return qi_no_memory(e);
	ret = qi_repo_open_image(w->r, p, o->name, g, &s->node, e);
	if (!ret)
		ret = qi_graph_lock(g, 0, e);
	if (!ret)
		ret = qi_point_store(m, o, s, e);
	qi_graph_free(g);
	if (!ret && !qi_hash_equal(&root, &o->root))
		ret = qi_fail(e, EUCLEAN,
			      "the hashes of drive '%s' in point %s do not fit "
			      "those of the points below",
			      o->name, p->id);
	return ret;
}

static int merge_drive(struct work *w, struct qi_point_maker *m,
		       const struct qi_point *p, struct qi_point_drive *o,
		       struct qi_error *e)
{
	struct merge merge = { .drive = o };
	struct qi_point_source s = { .ranges = find_ranges, .arg = &merge };
	int ret = take_in(w, o, &merge.depth, e);

	m->compress = o->compressed;
	if (!ret && o->parent)
		ret = qi_repo_tree(
			w->r, &w->r->points[qi_repo_index(w->r, o->parent)],
			o->name, &s.below, e);
	if (!ret && s.below)
		merge.old_size = qi_hash_tree_size(s.below);
	if (!ret)
		ret = qi_repo_tree(w->r, p, o->name, &merge.tree, e);
	if (!ret)
		ret = qi_repo_expected(w->r, p, o->name, &s.expected, e);
	if (!ret)
		ret = store_merged(w, m, p, o, &s, e);
	qi_expected_free(s.expected);
	qi_hash_tree_free(merge.tree);
	qi_hash_tree_free(s.below);
	return ret;
}

static int add_size(const struct work *w, struct qi_point *now,
		    const struct qi_point_drive *o, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_repo_file(w->r, now->id, o->file);
	struct stat st;

	if (!path)
		return qi_no_memory(e);
	if (!stat(path, &st))
		now->file_size += (uint64_t)st.st_size;
	return 0;
}

static int merge_drives(struct work *w, struct qi_point_maker *m,
			const struct qi_point *p, struct qi_error *e)
{
	struct qi_point *now = m->point;
	int ret = 0;

	now->file_size = 0;
	for (size_t i = 0; i < now->drive_count && !ret; i++) {
		struct qi_point_drive *o = &now->drives[i];

		ret = id_goes(w, o->parent) ? merge_drive(w, m, p, o, e) :
					      add_size(w, now, o, e);
	}
	return ret ? ret : qi_point_sum_up(now, e);
}

static int merge_point(struct work *w, const struct qi_point *p,
		       struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_repo_file(w->r, p->id, "manifest.json");
	struct qi_point now = { .id = strdup(p->id) };
	struct qi_point_maker m = { .r = w->r,
				    .point = &now,
				    .threads = w->how->threads,
				    .progress = w->how->progress };
	int ret = path && now.id ? qi_manifest_read(path, &now, e) :
				   qi_no_memory(e);

	if (!ret)
		ret = qi_point_start(&m, e);
	if (!ret)
		ret = merge_drives(w, &m, p, e);
	if (!ret)
		ret = qi_point_complete(&m, e);
	if (ret)
		qi_point_abort(&m);
	else
		ret = qi_point_replace(&m, e);
	free(m.folder);
	qi_point_clear(&now);
	return ret;
}

/* ---------------------------------------------------------------- running */

static int make_plan(struct work *w, struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < w->r->count && !ret; i++) {
		const struct qi_point *p = &w->r->points[i];

		if (!w->goes[i] && needs_merge(w, p))
			ret = qi_plan_step(w->plan,
					   "store in point %s what it has of "
					   "points that go",
					   p->id);
	}
	for (size_t i = w->r->count; i-- > 0 && !ret;)
		if (w->goes[i])
			ret = qi_plan_step(w->plan, "remove point %s",
					   w->r->points[i].id);
	return ret ? qi_no_memory(e) : 0;
}

static int run(struct work *w, struct qi_pruned *out, struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < w->r->count && !ret; i++) {
		if (w->goes[i] || !needs_merge(w, &w->r->points[i]))
			continue;
		ret = merge_point(w, &w->r->points[i], e);
		/* The ids and their order stay. */
		if (!ret)
			ret = qi_repo_load(w->r, e);
		out->merged += !ret;
	}
	for (size_t i = w->r->count; i-- > 0 && !ret;) {
		if (!w->goes[i])
			continue;
		ret = qi_repo_remove(w->r, w->r->points[i].id, e);
		out->removed += !ret;
		out->freed += ret ? 0 : w->r->points[i].file_size;
	}
	return ret;
}

int qi_repo_prune(struct qi_repo *r, const struct qi_prune *how,
		  struct qi_plan *plan, bool dry_run, struct qi_pruned *out,
		  struct qi_error *e)
{
	struct work w = { .r = r, .how = how, .plan = plan };
	int ret = 0;

	*out = (struct qi_pruned){ 0 };
	if (how->first) {
		w.first = strdup(how->first->id);
		w.last = strdup(how->last->id);
		ret = w.first && w.last ? 0 : qi_no_memory(e);
	}
	if (!ret)
		ret = qi_repo_need_lock(r, e);
	if (!ret && !dry_run)
		ret = qi_repo_finish(r, e);
	if (!ret && !dry_run)
		ret = qi_repo_load(r, e);
	if (!ret) {
		w.goes = calloc(r->count + 1, sizeof(bool));
		ret = w.goes ? choose(&w, e) : qi_no_memory(e);
	}
	if (!ret)
		ret = make_plan(&w, e);
	if (!ret && !dry_run)
		ret = run(&w, out, e);
	if (!ret && !dry_run)
		ret = qi_repo_load(r, e);
	free(w.goes);
	free(w.first);
	free(w.last);
	return ret;
}
