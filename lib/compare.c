/* SPDX-License-Identifier: MIT */
/* compare.c - do two images have the same content? */
#include <errno.h>

#include "lib/format.h"

#define PIECE (1u << 20)
#define SECTOR 512

struct side {
	struct qi_node *node;
	struct qi_scan *scan;
	struct qi_extent x; /* what is left of the current extent */
	uint8_t *buf;
};

static int side_init(struct side *s, struct qi_node *n)
{
	s->node = n;
	s->buf = qi_alloc_aligned(PIECE);
	return s->buf ? qi_scan_new(&s->scan, n, NULL, 0, n->facts.size) :
			-ENOMEM;
}

static void side_clear(struct side *s)
{
	qi_scan_free(s->scan);
	free(s->buf);
}

/* Past its end an image reads as zero. */
static int side_fill(struct side *s, uint64_t pos, uint64_t end,
		     struct qi_error *e)
{
	int ret;

	if (s->x.len)
		return 0;
	ret = qi_scan_next(s->scan, &s->x, e);
	if (ret == 0)
		s->x = (struct qi_extent){ pos,		end - pos, QI_NO_OFFSET,
					   QI_EXT_ZERO, 0,	   NULL };
	return ret < 0 ? ret : 0;
}

static void side_advance(struct side *s, uint64_t len)
{
	s->x.off += len;
	s->x.len -= len;
	if (s->x.host_off != QI_NO_OFFSET)
		s->x.host_off += len;
}

/* The first sector that differs in [0, len), or len. */
static size_t first_difference(const struct side *a, const struct side *b,
			       size_t len)
{
	size_t i = 0;

	if (memcmp(a->buf, b->buf, len) == 0)
		return len;
	while (!memcmp(a->buf + i, b->buf + i, qi_min(SECTOR, len - i)))
		i += SECTOR;
	return i;
}

/* Compare [pos, pos + len), where both sides have one extent each. */
static int compare_run(struct side *a, struct side *b, uint64_t pos,
		       uint64_t len, struct qi_comparison *out,
		       struct qi_error *e)
{
	while (len) {
		size_t n = (size_t)qi_min(len, PIECE), same;
		int ret = qi_interrupted(e);

		if (!ret)
			ret = qi_extent_read(&a->x, pos, n, a->buf, e);
		if (!ret)
			ret = qi_extent_read(&b->x, pos, n, b->buf, e);
		if (ret)
			return ret;
		same = first_difference(a, b, n);
		if (same < n) {
			out->result = QI_COMPARE_DIFFERENT;
			out->off = pos + same;
			return 0;
		}
		pos += n;
		len -= n;
	}
	return 0;
}

static int compare_sides(struct side *a, struct side *b, bool strict,
			 const struct qi_progress *progress,
			 struct qi_comparison *out, struct qi_error *e)
{
	uint64_t end = qi_max(a->node->facts.size, b->node->facts.size);
	uint64_t pos = 0;

	while (pos < end && out->result == QI_COMPARE_EQUAL) {
		int ret = side_fill(a, pos, end, e);
		uint64_t len;

		if (!ret)
			ret = side_fill(b, pos, end, e);
		if (ret)
			return ret;
		len = qi_min(a->x.len, b->x.len);
		if (strict && (a->x.flags ^ b->x.flags) & QI_EXT_ALLOCATED) {
			out->result = QI_COMPARE_STATUS;
			out->off = pos;
		} else if (!(a->x.flags & b->x.flags & QI_EXT_ZERO)) {
			ret = compare_run(a, b, pos, len, out, e);
			if (ret)
				return ret;
		}
		side_advance(a, len);
		side_advance(b, len);
		pos += len;
		if (progress && progress->fn)
			progress->fn(progress->arg, pos, end);
	}
	return 0;
}

int qi_compare_images(struct qi_node *a, struct qi_node *b, bool strict,
		      const struct qi_progress *progress,
		      struct qi_comparison *out, struct qi_error *e)
{
	struct side x = { 0 }, y = { 0 };
	int ret;

	*out = (struct qi_comparison){ .size_differs = a->facts.size !=
						       b->facts.size };
	if (strict && out->size_differs) {
		out->result = QI_COMPARE_SIZE;
		return 0;
	}
	if (side_init(&x, a) || side_init(&y, b))
		ret = qi_no_memory(e);
	else
		ret = compare_sides(&x, &y, strict, progress, out, e);
	side_clear(&x);
	side_clear(&y);
	return ret;
}
