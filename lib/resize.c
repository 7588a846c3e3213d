/* SPDX-License-Identifier: MIT */
/*
 * resize.c - another size of a disk, without showing what lies below
 *
 * Order of writes of growth: what covers the backing file past the old end,
 * and preallocation, both past the end; then the size. The driver says in
 * which order it changes its tables.
 */
#include <errno.h>

#include "lib/copy.h"
#include "lib/drive.h"
#include "lib/preallocate.h"

/* Extents that one cluster can have. */
#define CLUSTER_EXTENTS 64

/* The largest disk of QEMU. */
#define STOCK_MAX (0x7fffffffffffffffull - 0x3fffffff)

/* Write [from, to), where the node ends inside or before, as it reads now. */
static int cover(struct qi_node *n, uint64_t from, uint64_t to,
		 struct qi_error *e)
{
	struct qi_copy copy = { .src = n, .threads = 1 };
	struct qi_copy_stats stats;
	int ret = n->format->edit(n, &copy.writer, e);

	if (ret)
		return ret;
	from = qi_round_down(from, copy.writer->unit);
	to = qi_round_up(to, copy.writer->unit);
	if (qi_ranges_one(&copy.ranges, from, to - from))
		ret = qi_no_memory(e);
	else
		ret = qi_copy_run(&copy, &stats, e);
	if (!ret)
		ret = copy.writer->ops->finish(copy.writer, e);
	qi_ranges_free(copy.ranges);
	copy.writer->ops->free(copy.writer);
	return ret;
}

/* 1: the rest of the cluster that the disk ends in has bytes; 0: it is zero. */
static int has_tail(struct qi_node *n, uint64_t *end, struct qi_error *e)
{
	struct qi_extent x[CLUSTER_EXTENTS];
	uint64_t off = n->facts.size;
	uint64_t unit = n->facts.cluster_size ? n->facts.cluster_size : 1;

	*end = qi_round_up(off, unit);
	while (off < *end) {
		int count =
			qi_node_map(n, off, *end - off, x, CLUSTER_EXTENTS, e);

		for (int i = 0; i < count; i++) {
			if (x[i].flags & QI_EXT_DATA)
				return 1;
			off = x[i].off + x[i].len;
		}
		if (count <= 0)
			return count;
	}
	return 0;
}

/* Nothing that the node or its backing file has past the end may be seen. */
static int cover_end(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	const struct qi_node *below = n->facts.backing;
	uint64_t old = n->facts.size, end = 0;
	int ret;

	/* QEMU makes all that is new zero then. */
	if (below && below->facts.size > old)
		return cover(n, old,
			     qi_graph_is_stock(n->graph) ?
				     size :
				     qi_min(size, below->facts.size),
			     e);
	ret = has_tail(n, &end, e);
	return ret > 0 ? cover(n, old, end, e) : ret;
}

static int preallocate(struct qi_node *n, uint64_t old, uint64_t size,
		       enum qi_preallocation mode, struct qi_error *e)
{
	struct qi_writer *w;
	int ret;

	if (mode == QI_PREALLOC_OFF)
		return 0;
	ret = n->format->edit(n, &w, e);
	if (ret)
		return ret;
	ret = qi_preallocate(w, old, size - old, mode, e);
	if (!ret)
		ret = w->ops->finish(w, e);
	w->ops->free(w);
	return ret;
}

/* Give back what a growth has taken that cannot be finished. */
static void undo(struct qi_node *n, uint64_t old)
{
	if (!qi_node_reload(n, NULL))
		n->format->resize->set(n, old, NULL);
}

static int grow(struct qi_node *n, uint64_t size, enum qi_preallocation mode,
		struct qi_error *e)
{
	uint64_t old = n->facts.size;
	int ret = n->format->resize->prepare(n, size, e);

	if (!ret)
		ret = cover_end(n, size, e);
	if (!ret)
		ret = preallocate(n, old, size, mode, e);
	if (ret && ret != -EIO)
		undo(n, old);
	return ret ? ret : n->format->resize->set(n, size, e);
}

int qi_node_grow(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	int ret = n->format->resize->check(n, size, e);

	return ret ? ret : grow(n, size, QI_PREALLOC_OFF, e);
}

/* ---------------------------------------------------------------- checks */

static int check(struct qi_node *n, const struct qi_resize *r,
		 struct qi_error *e)
{
	uint64_t old = n->facts.size;
	int ret;

	if (!n->format->resize)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"cannot resize '%s': the driver of its "
					"format, %s, cannot do that",
					n->path, n->format->name),
				"Image format driver does not support resize");
	ret = qi_node_check_writable(n, e);
	if (ret)
		return ret;
	if (r->size > STOCK_MAX && qi_graph_is_stock(n->graph))
		return qi_stock(e,
				qi_fail(e, EFBIG, "cannot resize '%s' to %llu",
					n->path, (unsigned long long)r->size),
				"offset(%llu) exceeds maximum(%llu)",
				(unsigned long long)r->size, STOCK_MAX);
	if (!r->size || r->size > INT64_MAX)
		return qi_fail(e, EINVAL,
			       "cannot resize '%s': the new size must be "
			       "positive and less than 2^63",
			       n->path);
	if (r->preallocation && r->size <= old)
		return qi_fail(e, EINVAL,
			       "cannot resize '%s': preallocation is for the "
			       "new part of a disk that grows",
			       n->path);
	if (r->preallocation == QI_PREALLOC_METADATA && !n->facts.cluster_size)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"cannot resize '%s': format %s has no "
					"metadata to preallocate",
					n->path, n->format->name),
				"Unsupported preallocation mode: metadata");
	if (r->size < old && !r->shrink)
		return qi_fail(e, EINVAL,
			       "cannot shrink '%s' from %llu to %llu bytes: "
			       "what is past the new end would be deleted; "
			       "--shrink says that this is wanted",
			       n->path, (unsigned long long)old,
			       (unsigned long long)r->size);
	return n->format->resize->check(n, r->size, e);
}

/* Entries of the drive's bitmaps that the record lacks; 1: it has changed. */
static int add_entries(struct qi_drive *d, struct qi_record *r, uint64_t size,
		       struct qi_error *e)
{
	struct qi_drive_bitmap *all;
	size_t count;
	int ret = qi_drive_bitmaps(d, &all, &count, e), changed = 0;

	if (ret)
		return ret;
	for (size_t i = 0; i < count && !ret; i++) {
		struct qi_record_bitmap *b;

		if (qi_record_find(r, all[i].name))
			continue;
		b = qi_record_put(r, all[i].name);
		if (!b) {
			ret = qi_no_memory(e);
			break;
		}
		b->paused = b->gap = all[i].paused;
		b->checkpoint = all[i].checkpoint;
		b->min_size = size;
		changed = 1;
	}
	free(all);
	return ret ? ret : changed;
}

/*
 * A head made by another tool knows nothing of the drive's bitmaps. It gets a
 * record of how small it has been before it is; the driver takes care of the
 * entries that are there.
 */
static int note_shrink(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	struct qi_drive d = { .path = n->path, .head = n };
	struct qi_uuid drive = qi_drive_uuid(&d);
	QI_AUTORECORD struct qi_record *r = NULL;
	int ret;

	if (qi_uuid_is_null(&drive) ||
	    qi_record_state_of(n) == QI_RECORD_UNKNOWN)
		return 0;
	ret = qi_drive_head_record(&d, &r, e);
	if (!ret)
		ret = add_entries(&d, r, size, e);
	return ret > 0 ? qi_node_store(n, r, NULL, 0, e) : ret;
}

static int check_shrink(struct qi_node *n, struct qi_error *e)
{
	int ret = qi_node_check_dependents(n, NULL, "shrink", e);

	return ret ? ret : qi_node_check_marks(n, "shrink", e);
}

int qi_resize_image(struct qi_node *n, const struct qi_resize *r,
		    struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	uint64_t old = n->facts.size;
	int ret = check(n, r, e);

	if (!ret && r->size < old)
		ret = check_shrink(n, e);
	if (!ret &&
	    qi_plan_step(plan, "resize '%s' from %llu to %llu bytes", n->path,
			 (unsigned long long)old, (unsigned long long)r->size))
		ret = qi_no_memory(e);
	if (ret || dry_run)
		return ret;
	if (r->size > old)
		return grow(n, r->size, r->preallocation, e);
	if (r->size < old)
		ret = note_shrink(n, r->size, e);
	return ret ? ret : n->format->resize->set(n, r->size, e);
}
