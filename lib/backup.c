/* SPDX-License-Identifier: MIT */
/*
 * backup.c - taking a restore point
 *
 * Order of writes: images, hash lists, CHECKSUMS and manifest into a hidden
 * folder, all durable; one rename publishes it; only then are the bitmaps
 * cleared, to the checkpoints that the manifest names. A crash before the
 * rename leaves no backup, one after it a bitmap that still says too much:
 * the next increment then starts again from the point before.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/backup.h"

static void work_clear(struct qi_backup_work *w)
{
	for (size_t i = 0; w->sources && i < w->b->drive_count; i++) {
		qi_dirty_free(w->sources[i].dirty);
		qi_hash_tree_free(w->sources[i].below);
	}
	free(w->sources);
	free(w->maker.folder);
	qi_point_clear(&w->point);
}

/* ---------------------------------------------------------------- storing */

struct part {
	struct qi_backup_work *w;
	struct qi_backup_source *s;
	struct qi_point_source *source;
};

static int find_ranges(void *arg, uint64_t unit, struct qi_ranges **out,
		       struct qi_error *e)
{
	struct part *p = arg;
	int ret = qi_backup_ranges(p->w, p->s, unit, out, e);

	if (p->s->out->type != QI_BACKUP_FULL)
		p->source->total = p->s->out->dirty;
	/* The time that goes into comparing is what counts. */
	if (p->s->out->type == QI_BACKUP_RESYNC)
		p->w->maker.progress.fn = NULL;
	return ret;
}

static int store_source(struct qi_backup_work *w, struct qi_backup_source *s,
			struct qi_error *e)
{
	struct qi_point_source source = { .node = s->drive->head,
					  .below = s->below,
					  .ranges = find_ranges };
	struct part part = { w, s, &source };

	source.arg = &part;
	w->maker.progress = w->b->progress;
	s->out->compressed = w->b->compress;
	return qi_point_store(&w->maker, s->out, &source, e);
}

static void take_time(struct qi_backup_work *w)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	w->point.seconds = (double)(now.tv_sec - w->start.tv_sec) +
			   (double)(now.tv_nsec - w->start.tv_nsec) / 1e9;
}

static int store_point(struct qi_backup_work *w, struct qi_error *e)
{
	int ret;

	w->maker = (struct qi_point_maker){ .r = w->r,
					    .point = &w->point,
					    .compress = w->b->compress,
					    .threads = w->b->threads };
	ret = qi_point_start(&w->maker, e);
	for (size_t i = 0; i < w->b->drive_count && !ret; i++)
		ret = store_source(w, &w->sources[i], e);
	take_time(w);
	if (!ret)
		ret = qi_point_complete(&w->maker, e);
	if (!ret)
		ret = qi_point_publish(&w->maker, e);
	if (ret)
		qi_point_abort(&w->maker);
	return ret;
}

static int clear_bitmaps(struct qi_backup_work *w, struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < w->b->drive_count && !ret; i++)
		if (w->sources[i].dirty)
			ret = qi_backup_clear_bitmap(w, &w->sources[i], false,
						     e);
	return qi_context(ret ? e : NULL, ret,
			  "the backup is complete, but a "
			  "bitmap was not cleared");
}

static int run(struct qi_backup_work *w, struct qi_plan *plan, bool dry_run,
	       struct qi_error *e)
{
	int ret = qi_backup_plan(w, plan, e);

	if (ret || dry_run)
		return ret;
	ret = qi_repo_finish(w->r, e);
	if (!ret)
		ret = store_point(w, e);
	return ret ? ret : clear_bitmaps(w, e);
}

int qi_repo_backup(struct qi_repo *r, const struct qi_backup *b,
		   struct qi_plan *plan, bool dry_run,
		   const struct qi_point **out, struct qi_error *e)
{
	struct qi_backup_work w = { .r = r, .b = b };
	int ret = r->lock ? 0 : qi_repo_lock(r, e);

	clock_gettime(CLOCK_MONOTONIC, &w.start);
	*out = NULL;
	if (!ret)
		ret = run(&w, plan, dry_run, e);
	if (!ret && !dry_run)
		ret = qi_repo_load(r, e);
	if (!ret && !dry_run)
		*out = &r->points[qi_repo_index(r, w.point.id)];
	work_clear(&w);
	return ret;
}
