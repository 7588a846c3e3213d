/* SPDX-License-Identifier: MIT */
/* ranges.c - streams of guest ranges: sources and combinations */
#include <errno.h>

#include "lib/ranges.h"

int qi_ranges_next(struct qi_ranges *r, struct qi_range *out,
		   struct qi_error *e)
{
	struct qi_range got;
	int ret = 1;

	if (!r->has_ahead) {
		ret = r->next(r, &r->ahead, e);
		if (ret <= 0)
			return ret;
	}
	r->has_ahead = false;
	*out = r->ahead;
	while ((ret = r->next(r, &got, e)) > 0) {
		if (got.off > out->off + out->len) {
			r->ahead = got;
			r->has_ahead = true;
			break;
		}
		out->len = qi_max(out->off + out->len, got.off + got.len) -
			   out->off;
	}
	return ret < 0 ? ret : 1;
}

int qi_ranges_sum(struct qi_ranges *r, uint64_t *bytes, struct qi_error *e)
{
	struct qi_range x;
	int ret;

	*bytes = 0;
	while ((ret = qi_ranges_next(r, &x, e)) > 0)
		*bytes += x.len;
	return ret;
}

void qi_ranges_free(struct qi_ranges *r)
{
	if (r)
		r->free(r);
}

/* ------------------------------------------------------------------ one */

struct one {
	struct qi_ranges base;
	struct qi_range range;
};

static int one_next(struct qi_ranges *r, struct qi_range *out,
		    struct qi_error *e)
{
	struct one *one = qi_container_of(r, struct one, base);

	(void)e;
	*out = one->range;
	one->range.len = 0;
	return out->len > 0;
}

static void plain_free(struct qi_ranges *r)
{
	free(r);
}

int qi_ranges_one(struct qi_ranges **out, uint64_t off, uint64_t len)
{
	struct one *one = calloc(1, sizeof(*one));

	if (!one)
		return -ENOMEM;
	one->base = (struct qi_ranges){ .next = one_next, .free = plain_free };
	one->range = (struct qi_range){ off, len };
	*out = &one->base;
	return 0;
}

/* ----------------------------------------------------------------- list */

struct list {
	struct qi_ranges base;
	size_t next, count;
	struct qi_range range[];
};

static int list_next(struct qi_ranges *r, struct qi_range *out,
		     struct qi_error *e)
{
	struct list *l = qi_container_of(r, struct list, base);

	(void)e;
	while (l->next < l->count) {
		*out = l->range[l->next++];
		if (out->len)
			return 1;
	}
	return 0;
}

int qi_ranges_list(struct qi_ranges **out, const struct qi_range *ranges,
		   size_t count)
{
	struct list *l = calloc(1, sizeof(*l) + count * sizeof(*ranges));

	if (!l)
		return -ENOMEM;
	l->base = (struct qi_ranges){ .next = list_next, .free = plain_free };
	l->count = count;
	for (size_t i = 0; i < count; i++)
		l->range[i] = ranges[i];
	*out = &l->base;
	return 0;
}

/* ---------------------------------------------------------------- union */

struct many {
	struct qi_ranges base;
	size_t count;
	struct source {
		struct qi_ranges *in;
		struct qi_range head;
		bool started;
		bool ended;
	} source[];
};

static int source_fill(struct source *s, struct qi_error *e)
{
	int ret;

	if (s->ended || (s->started && s->head.len))
		return 0;
	s->started = true;
	ret = qi_ranges_next(s->in, &s->head, e);
	if (ret < 0)
		return ret;
	if (ret == 0) {
		s->ended = true;
		s->head.len = 0;
	}
	return 0;
}

static int union_next(struct qi_ranges *r, struct qi_range *out,
		      struct qi_error *e)
{
	struct many *m = qi_container_of(r, struct many, base);
	struct source *first = NULL;

	/* A chain has few layers with bits; a heap would not pay. */
	for (size_t i = 0; i < m->count; i++) {
		struct source *s = &m->source[i];
		int ret = source_fill(s, e);

		if (ret)
			return ret;
		if (!s->ended && (!first || s->head.off < first->head.off))
			first = s;
	}
	if (!first)
		return 0;
	*out = first->head;
	first->head.len = 0;
	return 1;
}

static void union_free(struct qi_ranges *r)
{
	struct many *m = qi_container_of(r, struct many, base);

	for (size_t i = 0; i < m->count; i++)
		qi_ranges_free(m->source[i].in);
	free(m);
}

int qi_ranges_union(struct qi_ranges **out, struct qi_ranges **in, size_t count)
{
	struct many *m = calloc(1, sizeof(*m) + count * sizeof(m->source[0]));

	if (!m) {
		for (size_t i = 0; i < count; i++)
			qi_ranges_free(in[i]);
		return -ENOMEM;
	}
	m->base = (struct qi_ranges){ .next = union_next, .free = union_free };
	m->count = count;
	for (size_t i = 0; i < count; i++)
		m->source[i].in = in[i];
	*out = &m->base;
	return 0;
}

int qi_ranges_collect(struct qi_ranges **out, struct qi_ranges **in,
		      size_t count, int ret)
{
	if (!ret)
		return qi_ranges_union(out, in, count);
	while (count--)
		qi_ranges_free(in[count]);
	return ret;
}

/* ---------------------------------------------------------------- round */

struct rounded {
	struct qi_ranges base;
	struct qi_ranges *in;
	uint64_t unit;
	uint64_t from, size;
};

static int round_next(struct qi_ranges *r, struct qi_range *out,
		      struct qi_error *e)
{
	struct rounded *w = qi_container_of(r, struct rounded, base);
	uint64_t end;
	int ret;

	do {
		ret = qi_ranges_next(w->in, out, e);
		if (ret <= 0)
			return ret;
		end = out->off + out->len;
	} while (end <= w->from);
	if (!qi_round_up_checked(end, w->unit, &end))
		end = UINT64_MAX;
	out->off = qi_max(qi_round_down(out->off, w->unit), w->from);
	end = qi_min(end, w->size);
	if (out->off >= end)
		return 0;
	out->len = end - out->off;
	return 1;
}

static void round_free(struct qi_ranges *r)
{
	struct rounded *w = qi_container_of(r, struct rounded, base);

	qi_ranges_free(w->in);
	free(w);
}

int qi_ranges_round(struct qi_ranges **out, struct qi_ranges *in, uint64_t unit,
		    uint64_t size)
{
	struct rounded *w = calloc(1, sizeof(*w));

	if (!w) {
		qi_ranges_free(in);
		return -ENOMEM;
	}
	w->base = (struct qi_ranges){ .next = round_next, .free = round_free };
	w->in = in;
	w->unit = unit;
	w->size = size;
	*out = &w->base;
	return 0;
}

int qi_ranges_within(struct qi_ranges **out, struct qi_ranges *in, uint64_t off,
		     uint64_t len)
{
	int ret = qi_ranges_clip(out, in, off + len);

	if (!ret)
		qi_container_of(*out, struct rounded, base)->from = off;
	return ret;
}

int qi_ranges_clip(struct qi_ranges **out, struct qi_ranges *in, uint64_t size)
{
	return qi_ranges_round(out, in, 1, size);
}

/* --------------------------------------------------------------- layers */

#define LAYER_EXTENTS 64

struct layer {
	struct qi_ranges base;
	struct qi_node *node;
	uint64_t pos;
	unsigned used, count;
	struct qi_extent extent[LAYER_EXTENTS];
};

static int layer_next(struct qi_ranges *r, struct qi_range *out,
		      struct qi_error *e)
{
	struct layer *l = qi_container_of(r, struct layer, base);
	uint64_t size = l->node->facts.size;

	for (;;) {
		struct qi_extent *x;
		int n;

		if (l->used == l->count) {
			if (l->pos >= size)
				return 0;
			n = qi_node_map(l->node, l->pos, size - l->pos,
					l->extent, LAYER_EXTENTS, e);
			if (n <= 0)
				return n;
			l->used = 0;
			l->count = (unsigned)n;
			x = &l->extent[n - 1];
			l->pos = x->off + x->len;
		}
		x = &l->extent[l->used++];
		if (!(x->flags & QI_EXT_ALLOCATED))
			continue;
		*out = (struct qi_range){ x->off, x->len };
		return 1;
	}
}

int qi_ranges_allocated(struct qi_ranges **out, struct qi_node *n)
{
	struct layer *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->base = (struct qi_ranges){ .next = layer_next, .free = plain_free };
	l->node = n;
	*out = &l->base;
	return 0;
}

int qi_ranges_clusters(struct qi_ranges **out, struct qi_node *n)
{
	struct qi_ranges *in;
	int ret = qi_ranges_allocated(&in, n);

	return ret ? ret :
		     qi_ranges_round(out, in, qi_max(n->facts.cluster_size, 1),
				     n->facts.size);
}

int qi_ranges_layers(struct qi_ranges **out, struct qi_node *top,
		     const struct qi_node *stop, uint64_t size,
		     int (*fn)(void *arg, struct qi_node *n,
			       struct qi_ranges **out),
		     void *arg)
{
	struct qi_ranges **in = calloc(2 * (size_t)qi_chain_depth(top) + 1,
				       sizeof(struct qi_ranges *));
	size_t used = 0;
	int ret = in ? 0 : -ENOMEM;

	for (; top != stop && !ret; top = top->facts.backing) {
		uint64_t end = top->facts.size;

		ret = fn(arg, top, &in[used]);
		used += !ret;
		if (ret || end >= size)
			continue;
		/* Past its end it hides what lies below. */
		ret = qi_ranges_one(&in[used], end, size - end);
		used += !ret;
	}
	ret = qi_ranges_collect(out, in, used, ret);
	free(in);
	return ret;
}

static int allocated(void *arg, struct qi_node *n, struct qi_ranges **out)
{
	(void)arg;
	return qi_ranges_allocated(out, n);
}

int qi_ranges_above(struct qi_ranges **out, struct qi_node *top,
		    const struct qi_node *stop, uint64_t size)
{
	return qi_ranges_layers(out, top, stop, size, allocated, NULL);
}

struct data {
	struct qi_ranges base;
	struct qi_scan *scan;
};

static int data_next(struct qi_ranges *r, struct qi_range *out,
		     struct qi_error *e)
{
	struct data *d = qi_container_of(r, struct data, base);
	struct qi_extent x;
	int ret;

	while ((ret = qi_scan_next(d->scan, &x, e)) > 0) {
		if (x.flags & QI_EXT_ZERO)
			continue;
		*out = (struct qi_range){ x.off, x.len };
		return 1;
	}
	return ret;
}

static void data_free(struct qi_ranges *r)
{
	struct data *d = qi_container_of(r, struct data, base);

	qi_scan_free(d->scan);
	free(d);
}

int qi_ranges_data(struct qi_ranges **out, struct qi_node *n)
{
	struct data *d = calloc(1, sizeof(*d));
	int ret = d ? qi_scan_new(&d->scan, n, NULL, 0, n->facts.size) :
		      -ENOMEM;

	if (ret) {
		free(d);
		return ret;
	}
	d->base = (struct qi_ranges){ .next = data_next, .free = data_free };
	*out = &d->base;
	return 0;
}

/* -------------------------------------------------------------- bitmaps */

struct bits {
	struct qi_ranges base;
	struct qi_node *node;
	size_t which;
	const struct qi_stored_bitmap *facts;
	uint64_t chunk; /* the next one to load */
	uint64_t bit;	/* position inside the loaded one */
	uint64_t chunk_bits;
	enum qi_chunk kind;
	uint8_t buf[];
};

static bool bit_at(const uint8_t *buf, uint64_t i)
{
	return buf[i / 8] >> (i % 8) & 1;
}

/* First position from i on, below end, whose bit is `value`; or end. */
static uint64_t find_bit(const uint8_t *buf, uint64_t i, uint64_t end,
			 bool value)
{
	uint64_t skip = value ? 0 : UINT64_MAX;

	while (i < end) {
		uint64_t word;

		if (i % 64 == 0 && i + 64 <= end) {
			memcpy(&word, buf + i / 8, sizeof(word));
			if (word == skip) {
				i += 64;
				continue;
			}
		}
		if (bit_at(buf, i) == value)
			return i;
		i++;
	}
	return end;
}

/* The range of bits [from, to) of the chunk that is loaded. */
static bool bits_range(struct bits *b, uint64_t from, uint64_t to,
		       struct qi_range *out)
{
	unsigned shift = b->facts->granularity_bits;
	uint64_t first = (b->chunk - 1) * b->chunk_bits;
	uint64_t size = b->node->facts.size;

	out->off = (first + from) << shift;
	if (out->off >= size)
		return false;
	out->len = qi_min((to - from) << shift, size - out->off);
	return true;
}

static int bits_next(struct qi_ranges *r, struct qi_range *out,
		     struct qi_error *e)
{
	struct bits *b = qi_container_of(r, struct bits, base);

	for (;;) {
		uint64_t from, to;

		if (b->bit >= b->chunk_bits) {
			int ret;

			if (b->chunk == b->facts->chunks)
				return 0;
			ret = b->node->format->bitmaps->chunk(b->node, b->which,
							      b->chunk++,
							      b->buf, &b->kind,
							      e);
			if (ret)
				return ret;
			b->bit = 0;
		}
		if (b->kind == QI_CHUNK_BITS) {
			from = find_bit(b->buf, b->bit, b->chunk_bits, true);
			to = find_bit(b->buf, from, b->chunk_bits, false);
		} else {
			from = b->kind == QI_CHUNK_ONES ? 0 : b->chunk_bits;
			to = b->chunk_bits;
		}
		b->bit = to;
		if (from < to && bits_range(b, from, to, out))
			return 1;
		/* Past the end of the disk nothing counts. */
		if (from < to)
			b->bit = b->chunk_bits;
	}
}

int qi_ranges_bitmap(struct qi_ranges **out, struct qi_node *n, size_t which)
{
	size_t count;
	const struct qi_stored_bitmap *facts =
		&n->format->bitmaps->list(n, &count)[which];
	struct bits *b = calloc(1, sizeof(*b) + facts->chunk_bytes);

	if (!b)
		return -ENOMEM;
	b->base = (struct qi_ranges){ .next = bits_next, .free = plain_free };
	b->node = n;
	b->which = which;
	b->facts = facts;
	b->chunk_bits = facts->chunk_bytes * 8;
	b->bit = b->chunk_bits;
	*out = &b->base;
	return 0;
}
