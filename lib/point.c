/* SPDX-License-Identifier: MIT */
/* point.c - making, changing and removing points of a repository */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "lib/files.h"
#include "lib/image.h"
#include "lib/point.h"
#include "lib/ranges.h"
#include "lib/sums.h"

static char *hidden(const struct qi_repo *r, const char *prefix, const char *id)
{
	return qi_format_text("%s/%s%s", r->points_path, prefix, id);
}

/* ---------------------------------------------------------------- storing */

int qi_point_start(struct qi_point_maker *m, struct qi_error *e)
{
	m->folder = hidden(m->r, QI_POINT_PARTIAL, m->point->id);
	return m->folder ? qi_mkdir(m->folder, e) : qi_no_memory(e);
}

static int start_image(struct qi_point_maker *m, const struct qi_point_drive *o,
		       const struct qi_point_source *s, struct qi_image *img,
		       struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(m->folder, o->file);
	QI_AUTOFREE char *backing = NULL;
	struct qi_create c = { .format = "qcow2",
			       .size = o->size,
			       .unchecked_backing = true };
	int ret;

	if (m->compress)
		c.options = "compression_type=zstd";
	if (o->parent) {
		backing = qi_format_text("../%s/%s", o->parent, o->file);
		if (!backing)
			return qi_no_memory(e);
		c.backing_name = backing;
		c.backing_format = "qcow2";
	}
	ret = path ? qi_image_start(img, path, &c, e) : qi_no_memory(e);
	/* Who may not read the drive may not read its backup. */
	if (!ret)
		qi_file_copy_mode(img->temp.file, s->node->path);
	return ret;
}

struct hashing {
	struct qi_hash_tree_writer *writer;
	struct qi_expected *expected;
};

static int take_hashes(void *arg, uint64_t off, uint64_t count,
		       const struct qi_hash *hashes, struct qi_error *e)
{
	struct hashing *h = arg;
	int ret = h->expected ? qi_expected_check(h->expected, off, count,
						  hashes, e) :
				0;

	return ret ? ret :
		     qi_hash_tree_writer_add(h->writer, off, count, hashes, e);
}

static int copy_into(struct qi_point_maker *m, struct qi_point_drive *o,
		     struct qi_point_source *s, struct qi_image *img,
		     struct hashing *h, struct qi_error *e)
{
	struct qi_copy copy = { .src = s->node,
				.writer = img->writer,
				.compress = m->compress,
				.threads = m->threads,
				.rate = s->rate,
				.progress = m->progress,
				.hashed = take_hashes,
				.arg = h };
	struct qi_copy_stats stats;
	int ret = s->ranges(s->arg, img->writer->unit, &copy.ranges, e);

	if (ret)
		return ret;
	ret = qi_copy_run(&copy, &stats, e);
	qi_ranges_free(copy.ranges);
	o->stored = stats.written;
	o->zero = stats.zero;
	return ret;
}

/* Of what has been written, read back. */
static int hash_image(const char *path, struct qi_hash *out, struct qi_error *e)
{
	const struct qi_open how = { .format = "qcow2", .no_backing = true };
	struct qi_graph *g;
	struct qi_node *n;
	int ret;

	if (qi_graph_new(&g))
		return qi_no_memory(e);
	ret = qi_graph_add(g, path, &how, &n, e);
	if (!ret)
		ret = qi_hash_image(n, out, e);
	qi_graph_free(g);
	return ret;
}

int qi_point_store(struct qi_point_maker *m, struct qi_point_drive *o,
		   struct qi_point_source *s, struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	QI_AUTOFREE char *path = qi_path_join(m->folder, o->hashes);
	QI_AUTOFREE char *image = qi_path_join(m->folder, o->file);
	struct hashing h = { .expected = s->expected };
	struct stat st;
	int ret = path && image ? start_image(m, o, s, &img, e) :
				  qi_no_memory(e);

	if (!ret)
		ret = qi_hash_tree_writer_new(&h.writer, path, o->size,
					      s->below, e);
	if (!ret)
		ret = copy_into(m, o, s, &img, &h, e);
	if (!ret)
		ret = qi_hash_tree_writer_finish(h.writer, &o->root, e);
	qi_hash_tree_writer_free(h.writer);
	if (!ret)
		ret = qi_image_publish(&img, e);
	if (!ret)
		ret = hash_image(image, &o->image, e);
	if (!ret && !stat(image, &st))
		m->point->file_size += (uint64_t)st.st_size;
	return ret;
}

/* ------------------------------------------------------------- completing */

/* Of a file in the folder or, when it is not changed, in that of the point. */
static int add_checksum(struct qi_point_maker *m, const char *file, char **text,
			struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(m->folder, file);
	QI_AUTOFREE char *old = qi_repo_file(m->r, m->point->id, file);
	struct stat st;

	if (!path || !old)
		return qi_no_memory(e);
	return qi_sums_add(text, stat(path, &st) ? old : path, file, e);
}

static int write_checksums(struct qi_point_maker *m, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(m->folder, "CHECKSUMS");
	QI_AUTOFREE char *text = NULL;
	int ret = add_checksum(m, "manifest.json", &text, e);

	for (size_t i = 0; i < m->point->drive_count && !ret; i++)
		ret = add_checksum(m, m->point->drives[i].hashes, &text, e);
	if (!ret && !path)
		ret = qi_no_memory(e);
	return ret ? ret : qi_write_text(path, text, e);
}

int qi_point_sum_up(struct qi_point *p, struct qi_error *e)
{
	const char *parent = p->drives[0].parent;
	bool compared = false, on_point = false;

	for (size_t i = 0; i < p->drive_count; i++) {
		compared |= p->drives[i].type == QI_BACKUP_RESYNC;
		on_point |= p->drives[i].type != QI_BACKUP_FULL;
	}
	p->type = compared ? QI_BACKUP_RESYNC :
		  on_point ? QI_BACKUP_INCREMENTAL :
			     QI_BACKUP_FULL;
	free(p->parent);
	p->parent = parent ? strdup(parent) : NULL;
	return parent && !p->parent ? qi_no_memory(e) : 0;
}

int qi_point_complete(struct qi_point_maker *m, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(m->folder, "manifest.json");
	int ret = path ? qi_manifest_write(path, m->point, e) : qi_no_memory(e);

	if (!ret)
		ret = write_checksums(m, e);
	return ret ? ret : qi_sync_folder(m->folder, e);
}

int qi_point_publish(struct qi_point_maker *m, struct qi_error *e)
{
	QI_AUTOFREE char *final = qi_path_join(m->r->points_path, m->point->id);
	int ret = final ? qi_rename(m->folder, final, e) : qi_no_memory(e);

	return ret ? ret : qi_sync_folder(m->r->points_path, e);
}

/* --------------------------------------------------------------- removing */

/* Remove a hidden folder and the files in it. */
static int remove_folder(const char *path, struct qi_error *e)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	int ret = 0;

	while (dir && !ret && (d = readdir(dir))) {
		QI_AUTOFREE char *file = qi_path_join(path, d->d_name);

		if (!file)
			ret = qi_no_memory(e);
		else if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			ret = qi_unlink(file, e);
	}
	if (dir)
		closedir(dir);
	return ret ? ret : qi_rmdir(path, e);
}

void qi_point_abort(struct qi_point_maker *m)
{
	if (m->folder)
		remove_folder(m->folder, NULL);
}

int qi_repo_remove(struct qi_repo *r, const char *id, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_path_join(r->points_path, id);
	QI_AUTOFREE char *away = hidden(r, QI_POINT_PARTIAL, id);
	int ret = path && away ? qi_rename(path, away, e) : qi_no_memory(e);

	if (!ret)
		ret = qi_sync_folder(r->points_path, e);
	return ret ? ret : remove_folder(away, e);
}

/* -------------------------------------------------------------- replacing */

static bool has_end(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && !strcmp(name + n - m, end);
}

/* In which turn a file takes its place. */
static unsigned turn_of(const char *name)
{
	return has_end(name, ".qcow2")	 ? 0 :
	       has_end(name, ".hashes")	 ? 1 :
	       strcmp(name, "CHECKSUMS") ? 2 :
					   3;
}

static int move_turn(const char *from, const char *to, unsigned turn,
		     struct qi_error *e)
{
	DIR *dir = opendir(from);
	struct dirent *d;
	int ret = 0;

	if (!dir)
		return qi_cannot_read_folder(from, e);
	while (!ret && (d = readdir(dir))) {
		QI_AUTOFREE char *source = qi_path_join(from, d->d_name);
		QI_AUTOFREE char *target = qi_path_join(to, d->d_name);

		if (d->d_name[0] == '.' || turn_of(d->d_name) != turn)
			continue;
		ret = source && target ? qi_rename(source, target, e) :
					 qi_no_memory(e);
	}
	closedir(dir);
	return ret ? ret : qi_sync_folder(to, e);
}

/* Go on with what was decided. */
static int finish_rebuilt(struct qi_repo *r, const char *id, struct qi_error *e)
{
	QI_AUTOFREE char *from = hidden(r, QI_POINT_REBUILT, id);
	QI_AUTOFREE char *to = qi_path_join(r->points_path, id);
	QI_AUTOFREE char *verified = qi_repo_file(r, id, "verified.json");
	struct stat st;
	int ret = from && to && verified ? 0 : qi_no_memory(e);

	/* Somebody has removed the point. */
	if (!ret && stat(to, &st) && errno == ENOENT)
		return remove_folder(from, e);
	/* That is said of files which go. */
	if (!ret)
		ret = qi_unlink(verified, e);
	if (ret == -ENOENT)
		ret = 0;
	for (unsigned turn = 0; turn < 4 && !ret; turn++)
		ret = move_turn(from, to, turn, e);
	return ret ? ret : qi_rmdir(from, e);
}

int qi_point_replace(struct qi_point_maker *m, struct qi_error *e)
{
	QI_AUTOFREE char *rebuilt =
		hidden(m->r, QI_POINT_REBUILT, m->point->id);
	int ret = rebuilt ? qi_rename(m->folder, rebuilt, e) : qi_no_memory(e);

	if (!ret)
		ret = qi_sync_folder(m->r->points_path, e);
	return ret ? ret : finish_rebuilt(m->r, m->point->id, e);
}

bool qi_repo_is_changing(const struct qi_repo *r, const char *id)
{
	QI_AUTOFREE char *path = hidden(r, QI_POINT_REBUILT, id);
	struct stat st;

	return path && !stat(path, &st);
}

int qi_repo_finish(struct qi_repo *r, struct qi_error *e)
{
	DIR *dir = opendir(r->points_path);
	struct dirent *d;
	int ret = 0;

	if (!dir)
		return qi_cannot_read_folder(r->points_path, e);
	while (!ret && (d = readdir(dir))) {
		QI_AUTOFREE char *path =
			qi_path_join(r->points_path, d->d_name);

		if (!path)
			ret = qi_no_memory(e);
		else if (!strncmp(d->d_name, QI_POINT_REBUILT,
				  strlen(QI_POINT_REBUILT)))
			ret = finish_rebuilt(
				r, d->d_name + strlen(QI_POINT_REBUILT), e);
		else if (!strncmp(d->d_name, QI_POINT_PARTIAL,
				  strlen(QI_POINT_PARTIAL)))
			ret = remove_folder(path, e);
	}
	closedir(dir);
	return ret;
}

bool qi_repo_settle(struct qi_repo *r)
{
	bool good = !qi_repo_lock(r, 0, NULL) && !qi_repo_finish(r, NULL) &&
		    !qi_repo_load(r, NULL);

	/* Backups may go on while somebody reads. */
	qi_repo_unlock(r);
	return good;
}

/* --------------------------------------------------------------- pinning */

int qi_repo_pin(struct qi_repo *r, const struct qi_point *p, bool pin,
		struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_repo_file(r, p->id, "pinned");
	QI_AUTOFREE char *folder = qi_path_join(r->points_path, p->id);
	int ret = qi_repo_need_lock(r, e);

	if (!ret && (!path || !folder))
		ret = qi_no_memory(e);
	if (!ret && pin)
		ret = qi_write_text(path, "", e);
	else if (!ret)
		ret = qi_unlink(path, e);
	/* It may have been so. */
	if (ret == -EEXIST || ret == -ENOENT)
		ret = 0;
	return ret ? ret : qi_sync_folder(folder, e);
}
