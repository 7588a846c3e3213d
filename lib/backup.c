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
#include <time.h>

#include "lib/drive.h"
#include "lib/image.h"
#include "lib/repo.h"

/* One drive on its way into the point. */
struct source {
	struct qi_drive *drive;
	struct qi_dirty *dirty;	    /* NULL: no bitmap */
	struct qi_hash_tree *below; /* of the parent, or NULL */
	struct qi_point_drive *out; /* in work.point */
};

struct work {
	struct qi_repo *r;
	const struct qi_backup *b;
	struct qi_point point;
	struct source *sources;
	char *folder; /* hidden */
	struct timespec start;
};

static void work_clear(struct work *w)
{
	for (size_t i = 0; w->sources && i < w->b->drive_count; i++) {
		qi_dirty_free(w->sources[i].dirty);
		qi_hash_tree_free(w->sources[i].below);
	}
	free(w->sources);
	free(w->folder);
	qi_point_clear(&w->point);
}

/* --------------------------------------------------------------- planning */

/* The drive's name in the repository: its file name without the extension. */
static char *drive_name(const struct qi_drive *d)
{
	const char *name = qi_path_name(d->path);
	const char *dot = strrchr(name, '.');

	return dot && dot != name ? strndup(name, (size_t)(dot - name)) :
				    strdup(name);
}

static bool is_utf8(const char *text)
{
	json_t *s = json_string(text);

	json_decref(s);
	return s != NULL;
}

static int name_drive(struct work *w, struct source *s, struct qi_error *e)
{
	struct qi_point_drive *o = s->out;

	o->name = drive_name(s->drive);
	if (!o->name)
		return qi_no_memory(e);
	if (!is_utf8(o->name))
		return qi_fail(e, EINVAL,
			       "the name of drive '%s' is not valid UTF-8, and "
			       "cannot stand in a manifest",
			       s->drive->path);
	if (o->name[0] == '.')
		return qi_fail(e, EINVAL,
			       "drive '%s' cannot be backed up under "
			       "a name that starts with a dot",
			       s->drive->path);
	for (struct qi_point_drive *p = w->point.drives; p < o; p++)
		if (strcmp(p->name, o->name) == 0)
			return qi_fail(e, EINVAL,
				       "two of the drives have the "
				       "name '%s'; give one of them a drive "
				       "link with another name",
				       o->name);
	o->file = qi_format_text("%s.qcow2", o->name);
	o->hashes = qi_format_text("%s.hashes", o->name);
	o->reason = strdup("");
	o->size = s->drive->head->facts.size;
	return o->file && o->hashes && o->reason ? 0 : qi_no_memory(e);
}

/* The first thing that keeps the dirty set from being exact. */
static int take_reason(struct source *s, struct qi_error *e)
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
static int clear_bitmap(struct work *w, struct source *s, bool dry_run,
			struct qi_error *e)
{
	const struct qi_bitmap_edit clear = {
		.verb = QI_BITMAP_CLEAR,
		.name = w->b->bitmap,
		.checkpoint = &s->out->to,
	};

	return qi_drive_bitmap_edit(s->drive, &clear, NULL, dry_run, e);
}

static int look_at_bitmap(struct work *w, struct source *s, struct qi_error *e)
{
	struct qi_point_drive *o = s->out;
	int ret = qi_drive_check(s->drive, e);

	if (!ret)
		ret = qi_dirty_new(s->drive, w->b->bitmap, &s->dirty, e);
	if (ret == -ENOENT)
		return qi_fail(e, ESTALE,
			       "drive '%s' has no bitmap '%s'; "
			       "'qimg bitmap add --drive %s %s' makes one",
			       s->drive->path, w->b->bitmap,
			       QI_WORD(s->drive->path), QI_WORD(w->b->bitmap));
	if (!ret)
		ret = clear_bitmap(w, s, true, e);
	if (!ret)
		ret = qi_node_check_writable(s->drive->head, e);
	if (!ret)
		ret = qi_dirty_bytes(s->dirty, &o->dirty, e);
	if (ret)
		return ret;
	o->bitmap = strdup(w->b->bitmap);
	o->drive = qi_drive_uuid(s->drive);
	o->from = qi_dirty_checkpoint(s->dirty);
	o->to = qi_uuid_random();
	return o->bitmap ? take_reason(s, e) : qi_no_memory(e);
}

static bool is_same_source(const struct qi_point_drive *a,
			   const struct qi_point_drive *b)
{
	return a->bitmap && b->bitmap && !strcmp(a->bitmap, b->bitmap) &&
	       qi_uuid_equal(&a->drive, &b->drive);
}

/* An increment is worth nothing when what it rests on cannot be opened. */
static int check_parent(struct work *w, struct source *s, struct qi_error *e)
{
	const struct qi_point_drive *o = s->out;
	size_t i = qi_repo_index(w->r, o->parent);
	struct qi_graph *g;
	struct qi_node *n;
	int ret;

	if (i == SIZE_MAX)
		return qi_fail(
			e, ESTALE,
			"point %s, which the increment would rest on, is "
			"missing; take one with --full",
			o->parent);
	if (qi_graph_new(&g))
		return qi_no_memory(e);
	ret = qi_repo_open_image(w->r, &w->r->points[i], o->name, g, &n, e);
	qi_graph_free(g);
	if (!ret)
		ret = qi_repo_tree(w->r, &w->r->points[i], o->name, &s->below,
				   e);
	if (!ret)
		return 0;
	qi_context(e, ret, "point %s, which the increment would rest on",
		   o->parent);
	return -ESTALE;
}

/*
 * The point that an increment builds on: the last one, when it ends where the
 * bitmap starts. When the last one starts there too, the clear after it was
 * lost: the increment is taken again, from the point before it.
 */
static int find_parent(struct work *w, struct source *s, struct qi_error *e)
{
	struct qi_point_drive *o = s->out;
	const struct qi_point *last = qi_repo_last(w->r, o->name);
	const struct qi_point_drive *l = last ? qi_point_find(last, o->name) :
						NULL;
	const char *parent = NULL;

	if (!l)
		return qi_fail(e, ESTALE,
			       "'%s' has no backup of drive '%s' "
			       "to build on; take one with --full",
			       w->r->path, o->name);
	if (is_same_source(l, o) && qi_uuid_equal(&l->to, &o->from))
		parent = last->id;
	else if (is_same_source(l, o) && qi_uuid_equal(&l->from, &o->from))
		parent = l->parent;
	if (!parent)
		return qi_fail(e, ESTALE,
			       "bitmap '%s' of drive '%s' does not "
			       "start at the last backup of it in '%s' (rolled "
			       "back, copied, or cleared by somebody else); "
			       "take one with --full",
			       o->bitmap, s->drive->path, w->r->path);
	o->parent = strdup(parent);
	return o->parent ? check_parent(w, s, e) : qi_no_memory(e);
}

static int plan_source(struct work *w, struct source *s, struct qi_error *e)
{
	int ret = name_drive(w, s, e);

	if (!ret)
		ret = qi_chain_check_readable(s->drive->head, e);
	if (!ret)
		ret = w->b->bitmap ? look_at_bitmap(w, s, e) :
				     qi_drive_check_strict(s->drive, e);
	if (ret || w->b->type == QI_BACKUP_FULL)
		return ret;
	if (!s->dirty)
		return qi_fail(e, EINVAL,
			       "an incremental backup needs a "
			       "bitmap");
	if (qi_dirty_status(s->dirty) == QI_LAYER_FULL)
		return qi_fail(e, ESTALE,
			       "bitmap '%s' of drive '%s' cannot "
			       "serve an incremental backup: %s; take one with "
			       "--full",
			       w->b->bitmap, s->drive->path, s->out->reason);
	if (qi_dirty_has_gap(s->dirty))
		return qi_fail(e, ESTALE,
			       "bitmap '%s' of drive '%s' cannot serve an "
			       "incremental backup: it was disabled since it "
			       "starts, and what was written then is not in "
			       "it; take one with --full",
			       w->b->bitmap, s->drive->path);
	return find_parent(w, s, e);
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

static int plan_point(struct work *w, struct qi_plan *plan, struct qi_error *e)
{
	size_t count = w->b->drive_count;
	int ret = 0;

	w->point.type = w->b->type;
	w->point.time = time(NULL);
	w->point.id = next_id(w->r, w->point.time);
	w->point.drives = calloc(count, sizeof(*w->point.drives));
	w->sources = calloc(count, sizeof(*w->sources));
	if (!w->point.id || !w->point.drives || !w->sources)
		return qi_no_memory(e);
	w->point.drive_count = count;
	for (size_t i = 0; i < count && !ret; i++) {
		struct source *s = &w->sources[i];

		s->drive = w->b->drives[i];
		s->out = &w->point.drives[i];
		ret = plan_source(w, s, e);
		if (!ret && s->out->parent)
			ret = qi_plan_step(plan,
					   "store %llu dirty bytes of "
					   "drive '%s' on point %s",
					   (unsigned long long)s->out->dirty,
					   s->drive->path, s->out->parent);
		else if (!ret)
			ret = qi_plan_step(plan, "store all of drive '%s'",
					   s->drive->path);
		if (!ret && s->dirty)
			ret = qi_plan_step(plan,
					   "clear bitmap '%s' of drive "
					   "'%s'",
					   w->b->bitmap, s->drive->path);
	}
	if (!ret && w->point.drives[0].parent) {
		w->point.parent = strdup(w->point.drives[0].parent);
		if (!w->point.parent)
			ret = -ENOMEM;
	}
	return ret == -ENOMEM ? qi_no_memory(e) : ret;
}

/* ---------------------------------------------------------------- storing */

/*
 * What an increment stores, in whole units: what is dirty, and where the disk
 * got another size, the chunk in which the smaller one ends.
 */
static int find_ranges(const struct source *s, uint64_t unit,
		       struct qi_ranges **out, struct qi_error *e)
{
	struct qi_ranges *in[2] = { NULL }, *all;
	uint64_t old = qi_hash_tree_size(s->below), size = s->out->size;
	uint64_t last = qi_min(old, size);
	int ret = qi_dirty_ranges(s->dirty, &in[0]);

	if (!ret)
		ret = qi_ranges_one(&in[1], last ? last - 1 : 0,
				    last && old != size);
	ret = qi_ranges_collect(&all, in, 2, ret);
	if (!ret)
		ret = qi_ranges_round(out, all, qi_max(unit, QI_HASH_UNIT),
				      size);
	return ret ? qi_no_memory(e) : 0;
}

static int copy_into(struct work *w, struct source *s, struct qi_image *img,
		     struct qi_hash_tree_writer *hashes, struct qi_error *e)
{
	struct qi_copy copy = { .src = s->drive->head,
				.writer = img->writer,
				.compress = w->b->compress,
				.threads = w->b->threads,
				.progress = w->b->progress,
				.hashed = qi_hash_tree_writer_add,
				.arg = hashes };
	struct qi_copy_stats stats;
	int ret = 0;

	if (s->out->parent) {
		copy.total = s->out->dirty;
		ret = find_ranges(s, img->writer->unit, &copy.ranges, e);
		if (ret)
			return ret;
	}
	ret = qi_copy_run(&copy, &stats, e);
	qi_ranges_free(copy.ranges);
	s->out->stored = stats.written;
	s->out->zero = stats.zero;
	return ret;
}

static int start_image(struct work *w, struct source *s, struct qi_image *img,
		       struct qi_error *e)
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

static int store_source(struct work *w, struct source *s, struct qi_error *e)
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

static int add_checksum(struct work *w, const char *file, char **text,
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

static int write_checksums(struct work *w, struct qi_error *e)
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

static int write_manifest(struct work *w, struct qi_error *e)
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

static int publish(struct work *w, struct qi_error *e)
{
	QI_AUTOFREE char *final = qi_path_join(w->r->points_path, w->point.id);
	int ret = final ? qi_sync_folder(w->folder, e) : qi_no_memory(e);

	if (!ret)
		ret = qi_rename(w->folder, final, e);
	return ret ? ret : qi_sync_folder(w->r->points_path, e);
}

static int store_point(struct work *w, struct qi_error *e)
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

static int clear_bitmaps(struct work *w, struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < w->b->drive_count && !ret; i++)
		if (w->sources[i].dirty)
			ret = clear_bitmap(w, &w->sources[i], false, e);
	return qi_context(ret ? e : NULL, ret,
			  "the backup is complete, but a "
			  "bitmap was not cleared");
}

static int run(struct work *w, struct qi_plan *plan, bool dry_run,
	       struct qi_error *e)
{
	int ret = plan_point(w, plan, e);

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
	struct work w = { .r = r, .b = b };
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
