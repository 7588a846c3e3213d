/* SPDX-License-Identifier: MIT */
/*
 * restore.c - points of a repository become images again
 *
 * Order of writes of new images: all of each under its hidden name, bitmaps
 * last; then they are synced and get their names, see image.c. What is written
 * in place comes before that; see restore-place.c.
 */
#include <errno.h>

#include "lib/image.h"
#include "lib/restore.h"

/* --------------------------------------------------------------- progress */

/* That of one drive as a part of that of all. */
struct part {
	struct qi_progress all;
	uint64_t before, total;
};

static void pass_on(void *arg, uint64_t done, uint64_t total)
{
	const struct part *p = arg;

	p->all.fn(p->all.arg, p->before + done, p->total);
}

static struct qi_progress progress_of(struct part *p)
{
	return (struct qi_progress){ .fn = p->all.fn ? pass_on : NULL,
				     .arg = p };
}

/* Bytes that are copied for a drive. */
static uint64_t work_of(const struct qi_restore *r, const struct qi_restored *d)
{
	return r->delta && d->in_place ? d->differing : d->size;
}

/* ---------------------------------------------------------------- opening */

int qi_restore_check_options(const struct qi_restore *r, struct qi_error *e)
{
	static const char *const decided[] = { "backing_file", "backing_fmt",
					       "size" };
	bool has_data_file;
	char *value = NULL;

	for (size_t i = 0; i < QI_ARRAY_SIZE(decided); i++) {
		if (qi_options_find(r->options, decided[i], &value))
			return qi_no_memory(e);
		if (!value)
			continue;
		free(value);
		return qi_fail(e, EINVAL,
			       "a restored image rests on nothing and has the "
			       "size of the disk: leave out option '%s'",
			       decided[i]);
	}
	if (qi_options_find(r->options, "data_file", &value))
		return qi_no_memory(e);
	has_data_file = value;
	free(value);
	if (!has_data_file || r->count < 2)
		return 0;
	return qi_fail(
		e, EINVAL,
		"option 'data_file' names the file of one drive, and %zu "
		"are restored; choose one with --drive",
		r->count);
}

/* What a repository has is never written by a restore. */
static int check_outside(const struct qi_restore *r, const char *target,
			 struct qi_error *e)
{
	QI_AUTOFREE char *repo = realpath(r->repo->path, NULL);
	QI_AUTOFREE char *real = realpath(target, NULL);
	QI_AUTOFREE char *folder = qi_path_folder(target);
	size_t n = repo ? strlen(repo) : 0;

	if (!folder)
		return qi_no_memory(e);
	if (!real)
		real = realpath(folder, NULL);
	if (!real || !repo || strncmp(real, repo, n) ||
	    (real[n] && real[n] != '/'))
		return 0;
	return qi_fail(e, EINVAL,
		       "'%s' is inside the repository, which a restore does "
		       "not change; choose another target",
		       target);
}

/* Nor by way of a data file, which lies beside its image. */
static int check_data_outside(const struct qi_restore *r, const char *target,
			      struct qi_error *e)
{
	QI_AUTOFREE char *folder = qi_path_folder(target);
	QI_AUTOFREE char *name = NULL;
	QI_AUTOFREE char *path = NULL;

	if (!folder || qi_options_find(r->options, "data_file", &name))
		return qi_no_memory(e);
	if (!name || !*name)
		return 0;
	path = qi_path_join(folder, name);
	return path ? check_outside(r, path, e) : qi_no_memory(e);
}

static bool can_be_made(const struct qi_restored *d, const char *options)
{
	struct qi_create c = *d->create;
	uint64_t size;

	c.options = options;
	return !qi_create_size(d->target, &c, &size, NULL);
}

/* An option that does not go together with what was asked for is left out. */
static int add_kept(struct qi_restored *d, const char *option, size_t len,
		    struct qi_error *e)
{
	struct qi_restore_job *j = d->job;
	char *all = qi_format_text("%.*s%s%s", (int)len, option,
				   *j->options ? "," : "", j->options);

	if (!all)
		return qi_no_memory(e);
	if (!can_be_made(d, all)) {
		free(all);
		return 0;
	}
	free(j->options);
	j->options = all;
	return 0;
}

/* Of a drive in its own format: as it was made, unless told otherwise. */
static int take_options(const struct qi_restore *r, struct qi_restored *d,
			struct qi_error *e)
{
	const struct qi_origin *o = &d->job->from->origin;
	const char *kept = strcmp(o->format, d->create->format) ? "" :
								  o->options;
	int ret = check_data_outside(r, d->target, e);

	if (ret)
		return ret;
	d->job->options = strdup(r->options ? r->options : "");
	if (!d->job->options)
		return qi_no_memory(e);
	while (*kept && !ret) {
		size_t len = strcspn(kept, ",");

		ret = add_kept(d, kept, len, e);
		kept += len + (kept[len] == ',');
	}
	d->job->create.options = d->job->options;
	return ret;
}

static int decide(const struct qi_restore *r, struct qi_restored *d,
		  struct qi_error *e)
{
	bool is_device = qi_is_device(d->target);

	d->size = d->job->from->size;
	d->in_place = r->delta || is_device;
	d->create = &d->job->create;
	d->job->create = (struct qi_create){
		.format = r->format ? r->format :
			  is_device ? "raw" :
				      d->job->from->origin.format,
		.size = d->size,
		.replace = r->replace,
		.ignores_size_option = true,
	};
	if (!d->in_place)
		return take_options(r, d, e);
	if (r->compress || r->options)
		return qi_fail(e, EINVAL,
			       "'%s' is there and is written in place: options "
			       "and compression are for new images",
			       d->target);
	return 0;
}

static int open_one(struct qi_graph *g, struct qi_restore *r,
		    struct qi_restored *d, struct qi_error *e)
{
	int ret;

	d->job = calloc(1, sizeof(*d->job));
	if (!d->job)
		return qi_no_memory(e);
	ret = qi_point_need(r->point, d->drive, &d->job->from, e);
	if (!ret)
		ret = check_outside(r, d->target, e);
	if (!ret)
		ret = decide(r, d, e);
	if (!ret)
		ret = qi_repo_open_image(r->repo, r->point, d->drive, g,
					 &d->job->source, e);
	if (!ret)
		ret = qi_repo_expected(r->repo, r->point, d->drive,
				       &d->job->expected, e);
	return ret || !d->in_place ? ret : qi_restore_open_target(g, r, d, e);
}

/* Names may lead to the same file. */
static int check_apart(const struct qi_restore *r, size_t i, struct qi_error *e)
{
	const struct qi_drive *t = r->drives[i].job->target;

	for (size_t j = 0; t && j < i; j++) {
		const struct qi_drive *o = r->drives[j].job->target;

		if (o && o->head == t->head)
			return qi_fail(e, EINVAL,
				       "'%s' and '%s' are the same file",
				       r->drives[j].target,
				       r->drives[i].target);
	}
	return 0;
}

int qi_restore_open(struct qi_graph *g, struct qi_restore *r,
		    struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < r->count && !ret; i++) {
		ret = open_one(g, r, &r->drives[i], e);
		if (!ret)
			ret = check_apart(r, i, e);
	}
	return ret;
}

void qi_restore_close(struct qi_restore *r)
{
	for (size_t i = 0; i < r->count; i++) {
		struct qi_restore_job *j = r->drives[i].job;

		if (!j)
			continue;
		qi_expected_free(j->expected);
		qi_drive_free(j->target);
		if (j->alone)
			qi_file_close(j->alone, NULL);
		free(j->compare.ranges);
		free(j->options);
		free(j);
		r->drives[i].job = NULL;
	}
}

int qi_restore_plan(struct qi_restore *r, struct qi_error *e)
{
	struct part part = { .all = r->progress };
	const struct qi_progress progress = progress_of(&part);
	int ret = 0;

	for (size_t i = 0; i < r->count; i++)
		part.total += r->drives[i].size;
	for (size_t i = 0; i < r->count && !ret; i++) {
		if (r->drives[i].in_place)
			ret = qi_restore_plan_target(r, &r->drives[i],
						     &progress, e);
		part.before += r->drives[i].size;
	}
	return ret;
}

/* ------------------------------------------------------------- new images */

/* Fresh bitmaps of a new drive: they know nothing, and start now. */
static int start_bitmaps(struct qi_node *n, const struct qi_origin *o,
			 struct qi_error *e)
{
	struct qi_drive d = { .path = n->path, .head = n };
	struct qi_head_edit w = { 0 };
	int ret = qi_head_edit_begin(&w, &d, e);

	for (size_t i = 0; i < o->bitmap_count && !ret; i++) {
		const struct qi_origin_bitmap *b = &o->bitmaps[i];

		ret = qi_head_edit_start(&w, b->name, b->paused,
					 qi_bitmap_new_bits(n, b->granularity),
					 NULL, e);
	}
	if (!ret)
		ret = qi_head_edit_store(&w, e);
	qi_head_edit_clear(&w);
	return ret;
}

static int add_bitmaps(struct qi_restored *d, const struct qi_image *img,
		       struct qi_error *e)
{
	const struct qi_origin *o = &d->job->from->origin;
	struct qi_graph *g;
	struct qi_node *n;
	int ret = 0;

	/* A data file is not under the name that the image has for it. */
	if (!o->bitmap_count || img->data.file)
		return 0;
	ret = qi_image_reopen(img, d->create->format, &g, &n, e);
	if (ret)
		return ret;
	if (!qi_node_can_store(n, NULL)) {
		ret = start_bitmaps(n, o, e);
		d->bitmaps = ret ? 0 : o->bitmap_count;
	}
	qi_graph_free(g);
	return ret ? qi_context(e, ret, "cannot make the bitmaps of '%s'",
				d->target) :
		     0;
}

static int make(const struct qi_restore *r, struct qi_restored *d,
		struct qi_image *img, const struct qi_progress *progress,
		struct qi_error *e)
{
	const struct qi_convert c = { .target = *d->create,
				      .compress = r->compress,
				      .threads = r->threads,
				      .progress = *progress,
				      .expected = d->job->expected };
	int ret = qi_image_fill(img, d->job->source, &c, &d->stats, e);

	if (!ret)
		ret = qi_image_finish(img, e);
	return ret ? ret : add_bitmaps(d, img, e);
}

/* ---------------------------------------------------------------- running */

/* Who may not read the backup may not read what comes of it. */
static void take_mode(struct qi_temp *t, const char *like)
{
	struct stat st;

	/* A file that is replaced hands on its own. */
	if (!t->file || !stat(t->target, &st))
		return;
	qi_file_copy_mode(t->file, like);
	/* A backup may be kept read-only; a drive is there to be written. */
	if (!fstat(t->file->fd, &st) &&
	    fchmod(t->file->fd, (st.st_mode & 0777) | S_IRUSR | S_IWUSR))
		errno = 0;
}

static int start(struct qi_restored *d, struct qi_image *img,
		 struct qi_error *e)
{
	int ret = qi_image_start(img, d->target, d->create, e);

	if (ret)
		return ret;
	take_mode(&img->temp, d->job->source->path);
	take_mode(&img->data, d->job->source->path);
	return 0;
}

/* images: those of new ones, closed up. */
static int run(struct qi_restore *r, struct qi_image *images,
	       struct qi_error *e)
{
	struct part part = { .all = r->progress };
	const struct qi_progress progress = progress_of(&part);
	size_t used = 0;
	int ret = 0;

	/* What cannot be made is known before hours of copying. */
	for (size_t i = 0; i < r->count && !ret; i++) {
		struct qi_restored *d = &r->drives[i];

		part.total += work_of(r, d);
		if (!d->in_place)
			ret = start(d, &images[used++], e);
	}
	for (size_t i = 0, next = 0; i < r->count && !ret; i++) {
		struct qi_restored *d = &r->drives[i];

		ret = d->in_place ?
			      qi_restore_write_target(r, d, &progress, e) :
			      make(r, d, &images[next++], &progress, e);
		part.before += work_of(r, d);
	}
	return ret || !used ? ret : qi_images_publish(images, used, e);
}

int qi_restore_run(struct qi_restore *r, struct qi_error *e)
{
	struct qi_image *images = calloc(r->count + 1, sizeof(*images));
	int ret = images ? run(r, images, e) : qi_no_memory(e);

	for (size_t i = 0; images && i < r->count; i++)
		qi_image_discard(&images[i]);
	free(images);
	return ret;
}
