/* SPDX-License-Identifier: MIT */
/*
 * scan.c - the guest view of a chain, as extents and as bytes
 *
 * Each layer keeps a small window of its own extents, so flattening a chain
 * costs one look at each layer's window per run of the result.
 */
#include <errno.h>

#include "lib/graph.h"

#define WINDOW_EXTENTS 32

struct window {
	struct qi_node *node;
	unsigned used, count;
	struct qi_extent extent[WINDOW_EXTENTS];
	bool is_sparse; /* holes of the file are wanted; this is the last run */
	bool is_hole;
	uint64_t run_start, run_end;
};

struct qi_scan {
	uint64_t pos;
	uint64_t end;
	struct qi_extent ahead;
	bool has_ahead;
	unsigned layers;
	struct window layer[];
};

void qi_scan_seek(struct qi_scan *s, uint64_t off, uint64_t len)
{
	uint64_t size = s->layer[0].node->facts.size;

	s->pos = qi_min(off, size);
	s->end = s->pos + qi_min(len, size - s->pos);
	s->has_ahead = false;
}

int qi_scan_new(struct qi_scan **out, struct qi_node *top,
		const struct qi_node *base, uint64_t off, uint64_t len)
{
	struct qi_scan *s;
	struct qi_node *n;
	unsigned layers = 0;

	for (n = top; n && n != base; n = n->facts.backing) {
		/* Reading past a layer that was left out would make zeroes. */
		if (!n->facts.backing && qi_node_wants_backing(n))
			return -EINVAL;
		layers++;
	}
	s = calloc(1, sizeof(*s) + layers * sizeof(s->layer[0]));
	if (!s)
		return -ENOMEM;
	for (n = top; n && n != base; n = n->facts.backing)
		s->layer[s->layers++].node = n;
	qi_scan_seek(s, off, len);
	*out = s;
	return 0;
}

void qi_scan_free(struct qi_scan *s)
{
	free(s);
}

void qi_scan_see_holes(struct qi_scan *s)
{
	for (unsigned i = 0; i < s->layers; i++) {
		struct window *w = &s->layer[i];
		const struct qi_format *f = w->node->format;

		w->is_sparse = f->is_sparse && f->is_sparse(w->node);
	}
}

/* Shorten x to where the file goes on having, or not having, a hole. */
static void split_by_hole(struct window *w, struct qi_extent *x)
{
	const struct qi_file *f = w->node->data;

	if (!(x->flags & QI_EXT_DATA) || x->flags & QI_EXT_COMPRESSED)
		return;
	if (x->host_off < w->run_start || x->host_off >= w->run_end) {
		w->run_start = x->host_off;
		w->is_hole = true;
		w->run_end = x->host_off < f->size ?
				     qi_file_run(f, x->host_off, &w->is_hole) :
				     UINT64_MAX;
		/* What the file is too short for is like a hole. */
		if (w->is_hole && w->run_end == f->size)
			w->run_end = UINT64_MAX;
	}
	x->len = qi_min(x->len, w->run_end - x->host_off);
	if (w->is_hole)
		x->flags |= QI_EXT_ZERO;
}

/* The part of the layer's extent at [off, off + len) that starts at off. */
static int window_at(struct window *w, uint64_t off, uint64_t len, uint64_t end,
		     struct qi_extent *out, struct qi_error *e)
{
	uint64_t skip;
	int n;

	while (w->used < w->count &&
	       w->extent[w->used].off + w->extent[w->used].len <= off)
		w->used++;
	if (w->used == w->count || w->extent[w->used].off > off) {
		/* Ask past len: the scan will come there. */
		n = qi_node_map(w->node, off,
				qi_min(w->node->facts.size, end) - off,
				w->extent, WINDOW_EXTENTS, e);
		if (n < 0)
			return n;
		w->used = 0;
		w->count = (unsigned)n;
	}
	*out = w->extent[w->used];
	skip = off - out->off;
	out->off = off;
	out->len = qi_min(out->len - skip, len);
	if (out->host_off != QI_NO_OFFSET)
		out->host_off += skip;
	return 0;
}

/*
 * Nothing has the run: it is zero, and layer i is the one to say so. host is
 * where that one keeps a place for it.
 */
static void make_zero(struct qi_extent *out, uint64_t off, uint64_t len,
		      unsigned i, uint64_t host)
{
	*out = (struct qi_extent){ off, len, host, QI_EXT_ZERO, i, NULL };
}

/* The run at [off, off + len) in the first layer that has it. */
static int flatten(struct qi_scan *s, uint64_t off, uint64_t len,
		   struct qi_extent *out, struct qi_error *e)
{
	uint64_t host = QI_NO_OFFSET;

	for (unsigned i = 0; i < s->layers; i++) {
		struct window *w = &s->layer[i];
		struct qi_extent x;
		int ret;

		if (off >= w->node->facts.size) {
			/*
			 * A shorter layer reads as zero past its end. The one
			 * above counts as its place, as in qemu-img map.
			 */
			make_zero(out, off, len, i ? i - 1 : 0, host);
			return 0;
		}
		ret = window_at(w, off, qi_min(len, w->node->facts.size - off),
				s->end, &x, e);
		if (ret)
			return ret;
		if (w->is_sparse)
			split_by_hole(w, &x);
		len = x.len;
		if (x.flags & QI_EXT_ALLOCATED) {
			*out = x;
			out->depth = i;
			out->node = w->node;
			return 0;
		}
		host = x.host_off;
	}
	make_zero(out, off, len, s->layers ? s->layers - 1 : 0, host);
	return 0;
}

static bool can_join(const struct qi_extent *a, const struct qi_extent *b)
{
	if (a->flags != b->flags || a->depth != b->depth || a->node != b->node)
		return false;
	if (a->host_off == QI_NO_OFFSET || b->host_off == QI_NO_OFFSET)
		return a->host_off == b->host_off;
	return a->host_off + a->len == b->host_off;
}

int qi_scan_next(struct qi_scan *s, struct qi_extent *out, struct qi_error *e)
{
	struct qi_extent x;
	int ret;

	if (!s->has_ahead) {
		if (s->pos >= s->end)
			return 0;
		ret = flatten(s, s->pos, s->end - s->pos, &s->ahead, e);
		if (ret)
			return ret;
		s->pos += s->ahead.len;
	}
	s->has_ahead = false;
	*out = s->ahead;
	while (s->pos < s->end) {
		/* What fails here fails when it is asked for by itself. */
		if (flatten(s, s->pos, s->end - s->pos, &x, NULL))
			break;
		s->pos += x.len;
		if (!can_join(out, &x)) {
			s->ahead = x;
			s->has_ahead = true;
			break;
		}
		out->len += x.len;
	}
	return 1;
}

int qi_extent_read(const struct qi_extent *x, uint64_t off, size_t len,
		   void *buf, struct qi_error *e)
{
	ssize_t n;

	if (x->flags & QI_EXT_ZERO || !x->node) {
		memset(buf, 0, len);
		return 0;
	}
	if (x->flags & QI_EXT_COMPRESSED)
		return x->node->format->read_packed(x->node, off, len, buf, e);
	/* The last cluster of a file need not be there to its end. */
	n = qi_file_read_some(x->node->data, x->host_off + (off - x->off), len,
			      buf, e);
	return n < 0 ? (int)n : 0;
}

int qi_read(struct qi_node *n, uint64_t off, size_t len, void *buf,
	    struct qi_error *e)
{
	char *to = buf;
	size_t in = (size_t)qi_min(
		len, off < n->facts.size ? n->facts.size - off : 0);
	struct qi_scan *s;
	struct qi_extent x = { 0 };
	int ret = qi_scan_new(&s, n, NULL, off, in);

	if (ret)
		return qi_no_memory(e);
	memset(to + in, 0, len - in);
	while ((ret = qi_scan_next(s, &x, e)) > 0) {
		ret = qi_extent_read(&x, x.off, (size_t)x.len,
				     to + (x.off - off), e);
		if (ret)
			break;
	}
	qi_scan_free(s);
	return ret;
}
