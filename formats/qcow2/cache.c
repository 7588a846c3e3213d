/* SPDX-License-Identifier: MIT */
/*
 * cache.c - a bounded set of slices of on-disk tables
 *
 * Least recently used slices go first; dirty ones never go by themselves,
 * because the order in which they reach the disk is the caller's business.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

struct slice {
	uint64_t off; /* QI_NO_OFFSET: free */
	uint64_t used;
	bool dirty;
	uint8_t *data; /* allocated when first used */
};

struct qcow2_cache {
	struct qi_file *file;
	size_t slice_size;
	unsigned count;
	unsigned dirty;
	unsigned last; /* the slice that was asked for last */
	uint64_t clock;
	struct slice slice[];
};

int qcow2_cache_new(struct qcow2_cache **out, struct qi_file *file,
		    size_t slice_size, unsigned slices)
{
	struct qcow2_cache *c =
		calloc(1, sizeof(*c) + slices * sizeof(c->slice[0]));

	if (!c)
		return -ENOMEM;
	c->file = file;
	c->slice_size = slice_size;
	c->count = slices;
	for (unsigned i = 0; i < slices; i++)
		c->slice[i].off = QI_NO_OFFSET;
	*out = c;
	return 0;
}

void qcow2_cache_free(struct qcow2_cache *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->count; i++)
		free(c->slice[i].data);
	free(c);
}

size_t qcow2_cache_slice_size(const struct qcow2_cache *c)
{
	return c->slice_size;
}

/* The slice with off, or the best one to replace; NULL when all are dirty. */
static struct slice *choose(struct qcow2_cache *c, uint64_t off)
{
	struct slice *best = NULL;

	if (c->slice[c->last].off == off)
		return &c->slice[c->last];
	for (unsigned i = 0; i < c->count; i++) {
		struct slice *s = &c->slice[i];

		if (s->off == off) {
			c->last = i;
			return s;
		}
		if (!s->dirty && (!best || s->used < best->used))
			best = s;
	}
	if (best)
		c->last = (unsigned)(best - c->slice);
	return best;
}

static int get(struct qcow2_cache *c, uint64_t off, bool is_new, uint8_t **data,
	       struct qi_error *e)
{
	struct slice *s = choose(c, off);
	int ret;

	if (!s)
		return qi_fail(e, ENOBUFS, "table cache of '%s' is full",
			       c->file->path);
	if (!s->data)
		s->data = qi_alloc_aligned(c->slice_size);
	if (!s->data)
		return qi_no_memory(e);
	if (s->off != off) {
		s->off = QI_NO_OFFSET;
		if (is_new)
			memset(s->data, 0, c->slice_size);
		ret = is_new ? 0 :
			       qi_file_read(c->file, off, c->slice_size,
					    s->data, e);
		if (ret)
			return ret;
		s->off = off;
	} else if (is_new) {
		memset(s->data, 0, c->slice_size);
	}
	s->used = ++c->clock;
	*data = s->data;
	return 0;
}

int qcow2_cache_get(struct qcow2_cache *c, uint64_t off, uint8_t **data,
		    struct qi_error *e)
{
	return get(c, off, false, data, e);
}

int qcow2_cache_get_new(struct qcow2_cache *c, uint64_t off, uint8_t **data,
			struct qi_error *e)
{
	return get(c, off, true, data, e);
}

void qcow2_cache_dirty(struct qcow2_cache *c, const uint8_t *data)
{
	/* Nearly always it is the slice that was asked for last. */
	struct slice *s = &c->slice[c->last];

	for (unsigned i = 0; s->data != data && i < c->count; i++)
		s = &c->slice[i];
	c->dirty += !s->dirty;
	s->dirty = true;
}

void qcow2_cache_forget(struct qcow2_cache *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		c->slice[i].off = QI_NO_OFFSET;
		c->slice[i].dirty = false;
	}
	c->dirty = 0;
}

bool qcow2_cache_is_filled(const struct qcow2_cache *c)
{
	return c->dirty > c->count / 2;
}

static int by_offset(const void *a, const void *b)
{
	uint64_t x = (*(struct slice *const *)a)->off;
	uint64_t y = (*(struct slice *const *)b)->off;

	return x < y ? -1 : x > y;
}

int qcow2_cache_write(struct qcow2_cache *c, struct qi_error *e)
{
	QI_AUTOFREE struct slice **todo =
		calloc(c->dirty + 1, sizeof(struct slice *));
	unsigned n = 0;

	if (!todo)
		return qi_no_memory(e);
	for (unsigned i = 0; i < c->count; i++)
		if (c->slice[i].dirty)
			todo[n++] = &c->slice[i];
	qsort(todo, n, sizeof(struct slice *), by_offset);
	for (unsigned i = 0; i < n; i++) {
		int ret = qi_file_write(c->file, todo[i]->off, c->slice_size,
					todo[i]->data, e);

		if (ret)
			return ret;
		todo[i]->dirty = false;
		c->dirty--;
	}
	return 0;
}
