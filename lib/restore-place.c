/* SPDX-License-Identifier: MIT */
/*
 * restore-place.c - a drive of a point onto what is there: devices, and images
 * that are changed where they differ
 *
 * Order of writes: a larger size; bits of what is to be written in the bitmaps
 * that record; data; a smaller size. Each is durable before the next. Run again
 * after an end in between, it finds what still differs.
 */
#include <errno.h>

#include "lib/mark.h"
#include "lib/restore.h"

bool qi_is_device(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISBLK(st.st_mode);
}

/* The disk is a whole device, whose size is what it is. */
static bool is_raw_device(const struct qi_node *n)
{
	return n->file->is_device && !n->facts.cluster_size;
}

/* ---------------------------------------------------------------- opening */

/* A guest could have made a raw disk look like an image, or nobody said. */
static int check_looks(const char *path, const char *format, struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	const struct qi_format *found;
	int ret = qi_file_open(&f, path, false, e);

	if (ret)
		return ret;
	ret = qi_file_probe(f, &found, e);
	if (ret || !strcmp(found->name, format))
		return ret;
	return qi_fail(e, EINVAL,
		       "'%s' looks like %s and not like %s, as which it would "
		       "be written; say with -O what it is",
		       path, found->name, format);
}

int qi_restore_open_target(struct qi_graph *g, const struct qi_restore *r,
			   struct qi_restored *d, struct qi_error *e)
{
	const struct qi_open how = { .format = d->create->format,
				     .access = QI_ACCESS_WRITE };
	struct qi_restore_job *j = d->job;
	int ret = 0;

	if (!r->delta && strcmp(how.format, "raw"))
		return qi_fail(e, EINVAL,
			       "'%s' is a device, which can only be restored "
			       "to as raw",
			       d->target);
	if (!r->delta && !r->replace)
		return qi_fail(e, EEXIST,
			       "'%s' is a device, and what is on it would be "
			       "overwritten; --force does that",
			       d->target);
	if (r->delta && !r->format)
		ret = check_looks(d->target, how.format, e);
	if (!ret)
		ret = qi_drive_add(g, d->target, &how, &j->target, e);
	if (!ret && j->target->head->file->is_device)
		ret = qi_file_open_alone(&j->alone, j->target->head->path, e);
	if (!ret && qi_node_is_in_chain(j->target->head, j->source))
		ret = qi_fail(e, EINVAL,
			      "'%s' is a file of the repository, which a "
			      "restore does not change",
			      d->target);
	return ret;
}

/* ----------------------------------------------------------------- checks */

static int check_size(struct qi_restored *d, struct qi_error *e)
{
	const struct qi_resize resize = { .size = d->size, .shrink = true };
	struct qi_node *head = d->job->target->head;
	uint64_t has = head->facts.size;

	d->past_end = 0;
	if (has == d->size)
		return 0;
	if (!is_raw_device(head))
		return qi_resize_image(head, &resize, NULL, true, e);
	if (has < d->size)
		return qi_fail(e, ENOSPC,
			       "'%s' has %llu bytes, and drive '%s' needs %llu",
			       d->target, (unsigned long long)has, d->drive,
			       (unsigned long long)d->size);
	d->past_end = has - d->size;
	return 0;
}

static int check(struct qi_restored *d, struct qi_error *e)
{
	struct qi_drive *t = d->job->target;
	int ret = qi_drive_check(t, e);

	if (!ret)
		ret = qi_chain_check_readable(t->head, e);
	if (!ret)
		ret = qi_node_check_edit(t->head, false, e);
	if (!ret)
		ret = qi_node_check_marks(t->head, "overwrite", e);
	if (!ret)
		ret = qi_node_check_dependents(t->head, NULL, "overwrite", e);
	return ret ? ret : check_size(d, e);
}

int qi_restore_plan_target(const struct qi_restore *r, struct qi_restored *d,
			   const struct qi_progress *progress,
			   struct qi_error *e)
{
	struct qi_restore_job *j = d->job;
	int ret = check(d, e);

	if (ret || !r->delta)
		return ret;
	j->compare = (struct qi_hash_compare){
		.tree = qi_expected_tree(j->expected),
		.node = j->target->head,
		.size = d->size,
		.threads = r->threads,
		.progress = *progress,
	};
	ret = qi_hash_tree_compare(&j->compare, e);
	d->differing = j->compare.bytes;
	return ret;
}

/* ---------------------------------------------------------------- writing */

/* In units of the target. */
static int ranges_to_write(const struct qi_restored *d, uint64_t unit,
			   struct qi_ranges **out)
{
	const struct qi_hash_compare *x = &d->job->compare;
	struct qi_ranges *all;
	int ret = qi_ranges_list(&all, x->ranges, x->count);

	return ret ? ret :
		     qi_ranges_round(out, all, qi_max(unit, QI_HASH_UNIT),
				     d->size);
}

static int add_written(void *arg, const struct qi_stored_bitmap *b,
		       struct qi_ranges **out)
{
	const struct qi_restored *d = arg;
	int ret;

	if (!b->enabled)
		return 0;
	ret = ranges_to_write(d, d->job->target->head->facts.cluster_size, out);
	return ret ? ret : 1;
}

static int copy_data(const struct qi_restore *r, struct qi_restored *d,
		     const struct qi_progress *progress, struct qi_error *e)
{
	struct qi_node *head = d->job->target->head;
	struct qi_copy copy = { .src = d->job->source,
				.threads = r->threads,
				.progress = *progress,
				.hashed = qi_expected_check,
				.arg = d->job->expected };
	int ret = head->format->edit(head, &copy.writer, e);

	if (ret)
		return ret;
	if (r->delta && ranges_to_write(d, copy.writer->unit, &copy.ranges))
		ret = qi_no_memory(e);
	else
		ret = qi_copy_run(&copy, &d->stats, e);
	if (!ret)
		ret = copy.writer->ops->finish(copy.writer, e);
	qi_ranges_free(copy.ranges);
	copy.writer->ops->free(copy.writer);
	if (ret && d->stats.written + d->stats.zero)
		qi_context(e, ret, "'%s' was changed in part", d->target);
	return ret;
}

static int resize(struct qi_restored *d, struct qi_error *e)
{
	const struct qi_resize resize = { .size = d->size, .shrink = true };

	return qi_resize_image(d->job->target->head, &resize, NULL, false, e);
}

int qi_restore_write_target(const struct qi_restore *r, struct qi_restored *d,
			    const struct qi_progress *progress,
			    struct qi_error *e)
{
	struct qi_node *head = d->job->target->head;
	bool writes = !r->delta || d->job->compare.count;
	int ret = 0;

	if (head->facts.size < d->size)
		ret = resize(d, e);
	if (!ret && writes && r->delta)
		ret = qi_node_mark(head, add_written, d, e);
	if (!ret && writes)
		ret = copy_data(r, d, progress, e);
	if (!ret && head->facts.size > d->size && !is_raw_device(head))
		ret = resize(d, e);
	return ret;
}
