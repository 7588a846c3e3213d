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
#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "lib/backup.h"
#include "lib/image.h"

static void work_clear(struct qi_backup_work *w)
{
	for (size_t i = 0; w->sources && i < w->b->drive_count; i++) {
		qi_dirty_free(w->sources[i].dirty);
		qi_hash_tree_free(w->sources[i].below);
	}
	free(w->sources);
	free(w->folder);
	qi_point_clear(&w->point);
}

/* ---------------------------------------------------------------- storing */

static int copy_into(struct qi_backup_work *w, struct qi_backup_source *s,
		     struct qi_image *img, struct qi_hash_tree_writer *hashes,
		     struct qi_error *e)
{
	struct qi_copy copy = { .src = s->drive->head,
				.writer = img->writer,
				.compress = w->b->compress,
				.threads = w->b->threads,
				.progress = w->b->progress,
				.hashed = qi_hash_tree_writer_add,
				.arg = hashes };
	struct qi_copy_stats stats;
	int ret = qi_backup_ranges(w, s, img->writer->unit, &copy.ranges, e);

	if (ret)
		return ret;
	if (s->out->type != QI_BACKUP_FULL)
		copy.total = s->out->dirty;
	/* The time that goes into comparing is what counts. */
	if (s->out->type == QI_BACKUP_RESYNC)
		copy.progress.fn = NULL;
	ret = qi_copy_run(&copy, &stats, e);
	qi_ranges_free(copy.ranges);
	s->out->stored = stats.written;
	s->out->zero = stats.zero;
	return ret;
}

static int start_image(struct qi_backup_work *w, struct qi_backup_source *s,
		       struct qi_image *img, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(w->folder, s->out->file);
	QI_AUTOFREE char *backing = NULL;
	struct qi_create c = { .format = "qcow2",
			       .size = s->out->size,
			       .unchecked_backing = true };
	int ret;

	if (w->b->compress)
		c.options = "compression_type=zstd";
	if (s->out->parent) {
		backing = qi_format_text("../%s/%s", s->out->parent,
					 s->out->file);
		if (!backing)
			return qi_no_memory(e);
		c.backing_name = backing;
		c.backing_format = "qcow2";
	}
	ret = path ? qi_image_start(img, path, &c, e) : qi_no_memory(e);
	/* Who may not read the drive may not read its backup. */
	if (!ret)
		qi_file_copy_mode(img->temp.file, s->drive->head->path);
	return ret;
}

static int store_source(struct qi_backup_work *w, struct qi_backup_source *s,
			struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	QI_AUTOFREE char *path = qi_path_join(w->folder, s->out->hashes);
	QI_AUTOFREE char *image = qi_path_join(w->folder, s->out->file);
	struct qi_hash_tree_writer *hashes = NULL;
	struct stat st;
	int ret = path && image ? start_image(w, s, &img, e) : qi_no_memory(e);

	if (!ret)
		ret = qi_hash_tree_writer_new(&hashes, path, s->out->size,
					      s->below, e);
	if (!ret)
		ret = copy_into(w, s, &img, hashes, e);
	if (!ret)
		ret = qi_hash_tree_writer_finish(hashes, &s->out->root, e);
	qi_hash_tree_writer_free(hashes);
	if (!ret)
		ret = qi_image_publish(&img, e);
	if (!ret && !stat(image, &st))
		w->point.file_size += (uint64_t)st.st_size;
	return ret;
}

static int add_checksum(struct qi_backup_work *w, const char *file, char **text,
			struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(w->folder, file);
	struct qi_hash h;
	char hex[33];
	char *longer;
	int ret = path ? qi_hash_file(path, &h, e) : qi_no_memory(e);

	if (ret)
		return ret;
	qi_hash_format(&h, hex);
	longer = qi_format_text("%s%s  %s\n", *text ? *text : "", hex, file);
	free(*text);
	*text = longer;
	return longer ? 0 : qi_no_memory(e);
}

static int write_checksums(struct qi_backup_work *w, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(w->folder, "CHECKSUMS");
	QI_AUTOFREE char *text = NULL;
	int ret = add_checksum(w, "manifest.json", &text, e);

	for (size_t i = 0; i < w->point.drive_count && !ret; i++)
		ret = add_checksum(w, w->point.drives[i].hashes, &text, e);
	if (!ret && !path)
		ret = qi_no_memory(e);
	return ret ? ret : qi_write_text(path, text, e);
}

static int write_manifest(struct qi_backup_work *w, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(w->folder, "manifest.json");
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	w->point.seconds = (double)(now.tv_sec - w->start.tv_sec) +
			   (double)(now.tv_nsec - w->start.tv_nsec) / 1e9;
	return path ? qi_manifest_write(path, &w->point, e) : qi_no_memory(e);
}

/* Remove a hidden folder and the files in it. */
static void remove_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		QI_AUTOFREE char *file = qi_path_join(path, d->d_name);

		if (file && strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			qi_unlink(file, NULL);
	}
	if (dir)
		closedir(dir);
	qi_rmdir(path, NULL);
}

/* What interrupted runs have left; we hold the lock. */
static void remove_leftovers(struct qi_repo *r)
{
	DIR *dir = opendir(r->points_path);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		QI_AUTOFREE char *path = NULL;

		if (strncmp(d->d_name, ".partial-", 9))
			continue;
		path = qi_path_join(r->points_path, d->d_name);
		if (path)
			remove_folder(path);
	}
	if (dir)
		closedir(dir);
}

static int publish(struct qi_backup_work *w, struct qi_error *e)
{
	QI_AUTOFREE char *final = qi_path_join(w->r->points_path, w->point.id);
	int ret = final ? qi_sync_folder(w->folder, e) : qi_no_memory(e);

	if (!ret)
		ret = qi_rename(w->folder, final, e);
	return ret ? ret : qi_sync_folder(w->r->points_path, e);
}

static int store_point(struct qi_backup_work *w, struct qi_error *e)
{
	int ret;

	w->folder = qi_format_text("%s/.partial-%s", w->r->points_path,
				   w->point.id);
	if (!w->folder)
		return qi_no_memory(e);
	ret = qi_mkdir(w->folder, e);
	for (size_t i = 0; i < w->b->drive_count && !ret; i++)
		ret = store_source(w, &w->sources[i], e);
	if (!ret)
		ret = write_manifest(w, e);
	if (!ret)
		ret = write_checksums(w, e);
	if (!ret)
		ret = publish(w, e);
	if (ret)
		remove_folder(w->folder);
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
	remove_leftovers(w->r);
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
