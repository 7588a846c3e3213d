/* SPDX-License-Identifier: MIT */
/*
 * write.c - changing guest data of one image
 *
 * Order of writes: bits in recording bitmaps; then data and mappings, in the
 * order of the format's editor. Writers take whole units; what begins or ends
 * inside one is written by itself where the writer has a place for it, and
 * else as a unit whose rest is copied from the guest view.
 */
#include <errno.h>

#include "lib/graph.h"
#include "lib/mark.h"
#include "lib/write.h"

/* --------------------------------------------------------------- reading */

/* The guest view of n; lower layers are needed only where they show. */
static int view(struct qi_writes *k, uint64_t off, uint64_t len, uint8_t *buf,
		struct qi_error *e)
{
	struct qi_node *n = k->n;
	uint64_t end = qi_min(off + len, n->facts.size);

	memset(buf, 0, len);
	while (off < end) {
		struct qi_extent x;
		int ret = qi_node_map(n, off, end - off, &x, 1, e);

		if (ret < 0)
			return ret;
		x.node = n;
		if (x.flags & QI_EXT_ALLOCATED)
			ret = qi_extent_read(&x, off, x.len, buf, e);
		else if (n->facts.backing)
			ret = qi_read(n->facts.backing, off, x.len, buf, e);
		else if (qi_node_wants_backing(n))
			ret = qi_fail(e, EINVAL,
				      "cannot write '%s' at %llu: it was "
				      "opened without its backing file",
				      n->path, (unsigned long long)off);
		if (ret < 0)
			return ret;
		off += x.len;
		buf += x.len;
	}
	return 0;
}

/* ---------------------------------------------------------------- pieces */

/* Whole units. */
static int put_units(struct qi_writes *k, uint64_t off, uint64_t len,
		     const uint8_t *data, struct qi_error *e)
{
	while (len) {
		uint64_t host, run;
		int ret = qi_interrupted(e);

		if (!ret)
			ret = k->w->ops->place(k->w, off, len, &host, &run, e);
		if (!ret)
			ret = data ? qi_file_write(k->w->file, host, run, data,
						   e) :
				     qi_file_write_zeroes(k->w->file, host, run,
							  e);
		if (ret)
			return ret;
		off += run;
		len -= run;
		data = data ? data + run : NULL;
	}
	return 0;
}

/* Write inside one unit where the rest of it can stay; *done tells. */
static int put_alone(struct qi_writes *k, uint64_t off, uint64_t len,
		     const uint8_t *data, bool *done, struct qi_error *e)
{
	uint64_t host = QI_NO_OFFSET;
	int ret = 0;

	*done = false;
	if (k->w->ops->place_inside)
		ret = k->w->ops->place_inside(k->w, off, len, &host, e);
	if (ret || host == QI_NO_OFFSET)
		return ret;
	*done = true;
	return qi_file_write(k->w->file, host, len, data, e);
}

/* Fill up [off, off + len) from the view: to parts, or to the unit. */
static int put_filled(struct qi_writes *k, uint64_t off, uint64_t len,
		      const uint8_t *data, uint32_t grain, bool *done,
		      struct qi_error *e)
{
	uint64_t start = qi_round_down(off, grain);
	uint64_t size = qi_round_up(off + len, grain) - start;
	int ret = view(k, start, size, k->unit, e);

	if (ret)
		return ret;
	memcpy(k->unit + (off - start), data, len);
	if (grain < k->w->unit)
		return put_alone(k, start, size, k->unit, done, e);
	*done = true;
	return put_units(k, start, size, k->unit, e);
}

static int put_inside(struct qi_writes *k, uint64_t off, uint64_t len,
		      const uint8_t *data, struct qi_error *e)
{
	bool done;
	int ret = put_alone(k, off, len, data, &done, e);

	if (!ret && !done && k->w->part < k->w->unit)
		ret = put_filled(k, off, len, data, k->w->part, &done, e);
	if (!ret && !done)
		ret = put_filled(k, off, len, data, k->w->unit, &done, e);
	return ret;
}

/* What of [off, off + len) can be done at once: whole units, or inside one. */
static uint64_t next_piece(const struct qi_writes *k, uint64_t off,
			   uint64_t len, bool *whole)
{
	uint64_t in = off & (k->w->unit - 1);

	*whole = !in && len >= k->w->unit;
	return *whole ? qi_round_down(len, k->w->unit) :
			qi_min(len, k->w->unit - in);
}

/* ---------------------------------------------------------------- writes */

static int write_data(struct qi_writes *k, const struct qi_write *x,
		      struct qi_error *e)
{
	uint64_t off = x->off, left = x->len;
	const uint8_t *data = x->data;
	int ret = 0;

	while (left && !ret) {
		bool whole;
		uint64_t len = next_piece(k, off, left, &whole);

		ret = whole ? put_units(k, off, len, data, e) :
			      put_inside(k, off, len, data, e);
		off += len;
		data += len;
		left -= len;
	}
	return ret;
}

static int write_packed(struct qi_writes *k, const struct qi_write *x,
			struct qi_error *e)
{
	uint32_t unit = k->w->unit;
	int ret = 0;

	if (!k->packer && qi_packer_new(&k->packer, k->w))
		return qi_no_memory(e);
	for (uint64_t at = 0; at < x->len && !ret; at += unit) {
		uint64_t len = qi_min(x->len - at, unit), host;
		size_t n;

		memset(k->unit, 0, unit);
		memcpy(k->unit, (const uint8_t *)x->data + at, len);
		n = qi_pack(k->packer, k->unit, unit, k->packed, unit - 1);
		if (!n) {
			ret = put_units(k, x->off + at, unit, k->unit, e);
			continue;
		}
		ret = qi_interrupted(e);
		if (!ret)
			ret = k->w->ops->place_packed(k->w, x->off + at, n,
						      &host, e);
		if (!ret)
			ret = qi_file_write(k->w->file, host, n, k->packed, e);
	}
	return ret;
}

static int zero_units(struct qi_writes *k, uint64_t off, uint64_t len,
		      bool keep, struct qi_error *e)
{
	const struct qi_writer_ops *ops = k->w->ops;
	int ret = keep && ops->zero_kept ? ops->zero_kept(k->w, off, len, e) :
					   ops->zero(k->w, off, len, e);

	return ret == -ENOTSUP ? put_units(k, off, len, NULL, e) : ret;
}

/* Whole parts inside a unit, and data around them. */
static int zero_parts(struct qi_writes *k, uint64_t off, uint64_t len,
		      struct qi_error *e)
{
	uint64_t from = qi_round_up(off, k->w->part);
	uint64_t to = qi_round_down(off + len, k->w->part);
	int ret = -ENOTSUP;

	if (k->w->ops->zero_inside && from < to)
		ret = k->w->ops->zero_inside(k->w, from, to - from, e);
	memset(k->packed, 0, len);
	if (ret == -ENOTSUP)
		return put_inside(k, off, len, k->packed, e);
	if (!ret && from > off)
		ret = put_inside(k, off, from - off, k->packed, e);
	if (!ret && off + len > to)
		ret = put_inside(k, to, off + len - to, k->packed, e);
	return ret;
}

static int zero_inside(struct qi_writes *k, uint64_t off, uint64_t len,
		       bool keep, struct qi_error *e)
{
	uint64_t start = qi_round_down(off, k->w->unit);
	uint8_t *at = k->unit + (off - start);
	int ret = view(k, start, k->w->unit, k->unit, e);

	if (ret || qi_is_zero(at, len))
		return ret;
	memset(at, 0, len);
	if (qi_is_zero(k->unit, k->w->unit))
		return zero_units(k, start, k->w->unit, keep, e);
	return zero_parts(k, off, len, e);
}

static int write_zero(struct qi_writes *k, const struct qi_write *x,
		      struct qi_error *e)
{
	uint64_t off = x->off, left = x->len;
	bool keep = x->type == QI_WRITE_ZERO;
	int ret = 0;

	while (left && !ret) {
		bool whole;
		uint64_t len = next_piece(k, off, left, &whole);

		ret = whole ? zero_units(k, off, len, keep, e) :
			      zero_inside(k, off, len, keep, e);
		off += len;
		left -= len;
	}
	return ret;
}

static int discard(struct qi_writes *k, const struct qi_write *x,
		   struct qi_error *e)
{
	uint64_t from = qi_round_up(x->off, k->w->unit);
	uint64_t to = x->off + x->len;
	int ret;

	if (to < k->n->facts.size)
		to = qi_round_down(to, k->w->unit);
	ret = from < to ? k->w->ops->zero(k->w, from, to - from, e) : 0;
	/* Nobody may rely on a discard. */
	return ret == -ENOTSUP ? 0 : ret;
}

int qi_writes_put(struct qi_writes *k, const struct qi_write *x,
		  struct qi_error *e)
{
	switch (x->type) {
	case QI_WRITE_DATA:
		return write_data(k, x, e);
	case QI_WRITE_COMPRESSED:
		return write_packed(k, x, e);
	case QI_WRITE_ZERO:
	case QI_WRITE_UNMAP:
		return write_zero(k, x, e);
	case QI_WRITE_DISCARD:
		return discard(k, x, e);
	}
	return -EINVAL;
}

/* --------------------------------------------------------------- the run */

int qi_writes_check(const struct qi_writes *k, const struct qi_write *x,
		    struct qi_error *e)
{
	uint64_t size = k->n->facts.size, unit = k->w->unit;

	if (!qi_fits(x->off, x->len, size))
		return qi_fail(e, EINVAL,
			       "cannot write '%s': %llu bytes at %llu are not "
			       "inside its disk of %llu",
			       k->n->path, (unsigned long long)x->len,
			       (unsigned long long)x->off,
			       (unsigned long long)size);
	if (x->type != QI_WRITE_COMPRESSED || !x->len)
		return 0;
	if (!k->w->ops->place_packed)
		return qi_fail(e, ENOTSUP,
			       "'%s' cannot have compressed clusters",
			       k->n->path);
	if (!qi_is_aligned(x->off, unit) ||
	    (!qi_is_aligned(x->len, unit) && x->off + x->len != size))
		return qi_fail(e, EINVAL,
			       "cannot write '%s': what is compressed must be "
			       "whole clusters of %llu bytes",
			       k->n->path, (unsigned long long)unit);
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct qi_range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

struct written {
	struct qi_range *ranges;
	size_t count;
};

static int add_written(void *arg, const struct qi_stored_bitmap *b,
		       struct qi_ranges **out)
{
	const struct written *all = arg;
	int ret;

	if (!b->enabled)
		return 0;
	ret = qi_ranges_list(out, all->ranges, all->count);
	return ret ? ret : 1;
}

int qi_node_mark_ranges(struct qi_node *n, struct qi_range *ranges,
			size_t count, struct qi_error *e)
{
	struct written all = { ranges, count };

	qsort(ranges, count, sizeof(*ranges), by_offset);
	return qi_node_mark(n, add_written, &all, e);
}

static int mark(struct qi_node *n, const struct qi_write *writes, size_t count,
		struct qi_error *e)
{
	QI_AUTOFREE struct qi_range *ranges =
		calloc(count + 1, sizeof(*ranges));

	if (!ranges)
		return qi_no_memory(e);
	for (size_t i = 0; i < count; i++)
		ranges[i] = (struct qi_range){ writes[i].off, writes[i].len };
	return qi_node_mark_ranges(n, ranges, count, e);
}

int qi_writes_begin(struct qi_writes *k, struct qi_node *n, struct qi_error *e)
{
	int ret = qi_node_check_writable(n, e);

	*k = (struct qi_writes){ .n = n };
	if (!ret && !n->format->edit)
		ret = qi_fail(e, ENOTSUP,
			      "'%s' is in %s format, which cannot "
			      "be written",
			      n->path, n->format->name);
	if (!ret)
		ret = n->format->edit(n, &k->w, e);
	if (ret)
		return ret;
	k->unit = qi_alloc_aligned(k->w->unit);
	k->packed = malloc(k->w->unit);
	return k->unit && k->packed ? 0 : qi_no_memory(e);
}

void qi_writes_clear(struct qi_writes *k)
{
	if (k->w)
		k->w->ops->free(k->w);
	qi_packer_free(k->packer);
	free(k->unit);
	free(k->packed);
	*k = (struct qi_writes){ NULL };
}

static int run(struct qi_writes *k, const struct qi_write *writes, size_t count,
	       struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < count && !ret; i++)
		ret = qi_writes_check(k, &writes[i], e);
	if (!ret)
		ret = mark(k->n, writes, count, e);
	for (size_t i = 0; i < count && !ret; i++)
		ret = qi_writes_put(k, &writes[i], e);
	return ret ? ret : k->w->ops->finish(k->w, e);
}

int qi_node_write(struct qi_node *n, const struct qi_write *writes,
		  size_t count, struct qi_error *e)
{
	struct qi_writes k;
	int ret = qi_writes_begin(&k, n, e);

	if (!ret)
		ret = run(&k, writes, count, e);
	qi_writes_clear(&k);
	return ret;
}
