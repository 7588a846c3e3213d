/* SPDX-License-Identifier: MIT */
/*
 * backup.c - taking a restore point
 *
 * What is compared for a resync is compared first, and nothing is written when
 * there is too little to store, or no room for it.
 *
 * Order of writes: images, hash lists, CHECKSUMS and manifest into a hidden
 * folder, all durable; one rename publishes it; only then are the bitmaps
 * cleared, to the checkpoints that the manifest names. A crash before the
 * rename leaves no backup, one after it a bitmap that still says too much:
 * the next increment then starts again from the point before.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "lib/backup.h"
#include "lib/ranges.h"

void qi_backup_work_clear(struct qi_backup_work *w)
{
	for (size_t i = 0; w->sources && i < w->b->drive_count; i++) {
		qi_dirty_free(w->sources[i].dirty);
		qi_ranges_free(w->sources[i].differs);
		qi_hash_tree_free(w->sources[i].below);
	}
	free(w->sources);
	free(w->maker.folder);
	qi_point_clear(&w->point);
}

/* -------------------------------------------------------------- progress */

/* How far one part of the work is. */
static void advance(void *arg, uint64_t done, uint64_t total)
{
	const struct qi_backup_work *w = arg;
	const struct qi_progress *p = &w->b->progress;

	p->fn(p->arg, w->done + done, qi_max(w->total, w->done + done));
}

static struct qi_progress part_progress(struct qi_backup_work *w)
{
	return (struct qi_progress){ w->b->progress.fn ? advance : NULL, w };
}

/* Bytes that are gone through to store the drive. */
static uint64_t part_size(const struct qi_backup_source *s)
{
	return s->out->type == QI_BACKUP_FULL ? s->out->size : s->out->dirty;
}

static bool is_compared(const struct qi_backup_source *s)
{
	return s->out->type == QI_BACKUP_RESYNC;
}

static void sum_up_work(struct qi_backup_work *w)
{
	for (size_t i = 0; i < w->b->drive_count; i++) {
		const struct qi_backup_source *s = &w->sources[i];

		w->total += is_compared(s) ? s->out->size : part_size(s);
	}
}

/* ------------------------------------------------------------- comparing */

static int compare_source(struct qi_backup_work *w, struct qi_backup_source *s,
			  struct qi_error *e)
{
	struct qi_hash_compare c = { .tree = s->below,
				     .node = s->drive->head,
				     .size = s->out->size,
				     .threads = w->b->threads,
				     .rate = w->rate,
				     .progress = part_progress(w) };
	int ret = qi_hash_tree_compare(&c, e);

	if (!ret && qi_ranges_list(&s->differs, c.ranges, c.count))
		ret = qi_no_memory(e);
	free(c.ranges);
	s->out->dirty = c.bytes;
	w->done += s->out->size;
	w->total += c.bytes;
	return ret;
}

static int compare_all(struct qi_backup_work *w, struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < w->b->drive_count && !ret; i++)
		if (is_compared(&w->sources[i]))
			ret = compare_source(w, &w->sources[i], e);
	return ret;
}

/* A disk that has another size has changed, whatever is written. */
static uint64_t changed_bytes(const struct qi_backup_work *w)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < w->b->drive_count; i++) {
		const struct qi_backup_source *s = &w->sources[i];
		uint64_t size = s->out->size;
		uint64_t old = s->below ? qi_hash_tree_size(s->below) : size;

		bytes += qi_max(part_size(s),
				size > old ? size - old : old - size);
	}
	return bytes;
}

/* Must there be a point, however little has changed? */
static bool is_needed(const struct qi_backup_work *w)
{
	for (size_t i = 0; i < w->b->drive_count; i++) {
		const struct qi_backup_source *s = &w->sources[i];

		/* A bitmap can start anew at the end of a point alone. */
		if (s->out->type == QI_BACKUP_FULL ||
		    (s->out->type == QI_BACKUP_RESYNC &&
		     !qi_uuid_is_null(&s->out->to)))
			return true;
	}
	return false;
}

/* ----------------------------------------------------------------- space */

/* What an image has to hold, where nothing turns out to be zero. */
static int needed_bytes(const struct qi_backup_source *s, uint64_t *out,
			struct qi_error *e)
{
	struct qi_ranges *data;
	int ret;

	*out = s->out->dirty;
	if (s->out->type != QI_BACKUP_FULL)
		return 0;
	if (qi_ranges_data(&data, s->drive->head))
		return qi_no_memory(e);
	ret = qi_ranges_sum(data, out, e);
	qi_ranges_free(data);
	return ret;
}

/* How small data can be packed is not known before. */
static int check_space(const struct qi_backup_work *w, struct qi_error *e)
{
	uint64_t needed = 0, there;
	struct statvfs fs;
	int ret = 0;

	if (w->b->compress || statvfs(w->r->points_path, &fs))
		return 0;
	there = (uint64_t)fs.f_bavail * fs.f_frsize;
	for (size_t i = 0; i < w->b->drive_count && !ret; i++) {
		uint64_t bytes;

		ret = needed_bytes(&w->sources[i], &bytes, e);
		needed += bytes;
	}
	if (ret || needed <= there)
		return ret;
	return qi_fail(e, ENOSPC,
		       "there is no room in '%s': the backup can take %llu "
		       "bytes, and %llu are free; 'qimg backup prune' removes "
		       "old points, and with --compress there is no such check",
		       w->r->path, (unsigned long long)needed,
		       (unsigned long long)there);
}

/* ---------------------------------------------------------------- storing */

static int find_ranges(void *arg, uint64_t unit, struct qi_ranges **out,
		       struct qi_error *e)
{
	return qi_backup_ranges(arg, unit, out, e);
}

static int store_source(struct qi_backup_work *w, struct qi_backup_source *s,
			struct qi_error *e)
{
	struct qi_point_source source = { .node = s->drive->head,
					  .below = s->below,
					  .rate = w->rate,
					  .ranges = find_ranges,
					  .arg = s };
	int ret;

	w->maker.progress = part_progress(w);
	s->out->compressed = w->b->compress;
	ret = qi_point_store(&w->maker, s->out, &source, e);
	w->done += part_size(s);
	return ret;
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
	w->point.seconds = qi_seconds() - w->start;
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
		if (!qi_uuid_is_null(&w->sources[i].out->to))
			ret = qi_backup_clear_bitmap(w, &w->sources[i], false,
						     e);
	return qi_context(ret ? e : NULL, ret,
			  "the backup is complete, but a "
			  "bitmap was not cleared");
}

/* The point, if there is to be one. */
static int take_point(struct qi_backup_work *w, struct qi_backed_up *out,
		      struct qi_error *e)
{
	int ret = qi_repo_finish(w->r, e);

	sum_up_work(w);
	if (!ret)
		ret = compare_all(w, e);
	if (ret)
		return ret;
	out->changed = changed_bytes(w);
	if (out->changed < w->b->threshold && !is_needed(w))
		return 0;
	ret = check_space(w, e);
	if (!ret)
		ret = store_point(w, e);
	if (!ret)
		ret = clear_bitmaps(w, e);
	if (!ret)
		ret = qi_repo_load(w->r, e);
	if (!ret)
		out->point = &w->r->points[qi_repo_index(w->r, w->point.id)];
	return ret;
}

int qi_repo_backup(struct qi_repo *r, const struct qi_backup *b,
		   struct qi_plan *plan, bool dry_run, struct qi_backed_up *out,
		   struct qi_error *e)
{
	struct qi_rate rate = QI_RATE(b->rate);
	struct qi_backup_work w = { .r = r,
				    .b = b,
				    .rate = b->rate ? &rate : NULL,
				    .start = qi_seconds() };
	int ret = qi_repo_need_lock(r, e);

	*out = (struct qi_backed_up){ NULL };
	if (!ret)
		ret = qi_backup_plan(&w, plan, e);
	if (!ret && !dry_run)
		ret = take_point(&w, out, e);
	qi_backup_work_clear(&w);
	return ret;
}
