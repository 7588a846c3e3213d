/* SPDX-License-Identifier: MIT */
/* copy-plan.c - the copy engine: what is to be copied, as jobs */
#include <errno.h>

#include "lib/engine.h"
#include "lib/ranges.h"

/* Make range.off the start of something to copy; 0 at the end. */
static int next_range(struct engine *g, struct qi_error *e)
{
	int ret = 1;

	if (g->range.len)
		return 1;
	if (g->copy->ranges) {
		ret = qi_ranges_next(g->copy->ranges, &g->range, e);
	} else {
		if (g->all_given)
			return 0;
		g->all_given = true;
		g->range = (struct qi_range){ 0, g->size };
		ret = g->size > 0;
	}
	g->cur.len = 0;
	if (ret > 0)
		qi_scan_seek(g->scan, g->range.off, g->range.len);
	return ret;
}

/* Nobody knows where this unit is: go on after it. */
static int lose_extent(struct engine *g, int ret)
{
	uint64_t off = g->range.off, unit = g->w->unit;
	uint64_t len = qi_min(g->range.len, unit - (off & (unit - 1)));

	g->cur = (struct qi_extent){ off,	  len, QI_NO_OFFSET,
				     QI_EXT_LOST, 0,   NULL };
	g->lost_error = ret;
	qi_scan_seek(g->scan, off + len, g->range.len - len);
	return 0;
}

static int next_extent(struct engine *g, struct qi_error *e)
{
	int ret;

	if (g->cur.len)
		return 0;
	ret = qi_scan_next(g->scan, &g->cur, e);
	if (ret < 0 && g->copy->salvaged && ret != -ENOMEM)
		return lose_extent(g, ret);
	if (ret == 0) {
		/* Ranges are rounded; what is past the end is zero. */
		g->cur = (struct qi_extent){ g->range.off,
					     g->range.len,
					     QI_NO_OFFSET,
					     QI_EXT_ZERO,
					     0,
					     NULL };
	}
	return ret < 0 ? ret : 0;
}

static void advance(struct engine *g, uint64_t len)
{
	g->cur.off += len;
	g->cur.len -= len;
	if (g->cur.host_off != QI_NO_OFFSET)
		g->cur.host_off += len;
	g->range.off += len;
	g->range.len -= len;
}

/* A job of zeroes, when there is at least a window of them. */
static bool plan_zero(struct engine *g, struct job *job)
{
	uint64_t unit = qi_max(g->w->unit, QI_HASH_UNIT);
	uint64_t len = qi_min(g->cur.len, g->range.len);

	if (!(g->cur.flags & QI_EXT_ZERO) || len < g->window ||
	    g->copy->no_holes)
		return false;
	/* Beyond the source's end its last unit stays as it is. */
	if (len < g->range.len || g->copy->rest)
		len = qi_round_down(g->range.off + len, unit) - g->range.off;
	job->is_zero = true;
	job->off = g->range.off;
	job->len = len;
	advance(g, len);
	return true;
}

/* A job of extents that can be shared, if there is one. */
static int plan_shared(struct engine *g, struct job *job, struct qi_error *e)
{
	uint64_t max = qi_min((uint64_t)MAX_UNITS * g->w->unit, SHARED_BYTES);
	uint64_t len;
	int ret = 0;

	job->off = g->range.off;
	job->len = 0;
	while (!ret && job->extent_count < MAX_EXTENTS &&
	       (len = qi_min(qi_engine_can_share(g), max - job->len))) {
		struct qi_extent *x = &job->extent[job->extent_count++];

		*x = g->cur;
		x->len = len;
		job->len += len;
		advance(g, len);
		if (g->range.len)
			ret = next_extent(g, e);
	}
	job->is_shared = job->len > 0;
	return ret;
}

/* What of the current extent a window gets that has `left` bytes of room. */
static uint64_t window_part(const struct engine *g, uint64_t left)
{
	uint64_t in = g->range.off & (g->w->unit - 1);
	uint64_t len = qi_min(g->cur.len, left);

	/* From the next unit on it may be shared. */
	return g->shares && in ? qi_min(len, g->w->unit - in) : len;
}

int qi_engine_plan(struct engine *g, struct job *job, struct qi_error *e)
{
	int ret = next_range(g, e);

	if (ret <= 0)
		return ret;
	ret = next_extent(g, e);
	if (ret)
		return ret;
	job->seq = g->next_seq++;
	job->extent_count = 0;
	job->is_zero = job->is_shared = false;
	job->lost_error = 0;
	if (plan_zero(g, job))
		return 1;
	ret = plan_shared(g, job, e);
	if (ret || job->is_shared)
		return ret ? ret : 1;
	job->off = g->range.off;
	job->len = qi_min(g->range.len,
			  g->window - (g->range.off & (g->window - 1)));
	for (uint64_t left = job->len; left;) {
		struct qi_extent *x = &job->extent[job->extent_count];

		ret = next_extent(g, e);
		if (ret)
			return ret;
		if (job->extent_count && qi_engine_can_share(g)) {
			job->len -= left;
			break;
		}
		if (job->extent_count++ == MAX_EXTENTS)
			return qi_fail(e, EFBIG,
				       "'%s' has too many layers of "
				       "odd sizes",
				       g->copy->src->path);
		*x = g->cur;
		if (x->flags & QI_EXT_LOST)
			job->lost_error = g->lost_error;
		x->len = window_part(g, left);
		left -= x->len;
		advance(g, x->len);
	}
	return 1;
}
