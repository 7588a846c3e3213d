/* SPDX-License-Identifier: MIT */
/*
 * copy-share.c - the copy engine: data that source and target share
 *
 * Where the file system can give a block to two files, data need not be
 * written. It is placed like any other. Zeroes in it are found where they fill
 * units of 64 KiB or more: shorter ones take no room when they are shared.
 * What cannot be shared after all is written, to the same place.
 */
#include "lib/engine.h"

/* What is read of the end of a run, or of its start, first. */
#define EDGE_BYTES 4096u

bool qi_engine_shares(const struct engine *g)
{
	const struct qi_copy *copy = g->copy;

	/* All bytes are wanted, or room of the target's own for each. */
	return g->w->shares && !copy->no_sharing && !copy->compress &&
	       !copy->hashed && !copy->salvaged && !copy->rate && !copy->rest &&
	       !copy->no_holes && !g->grain;
}

static bool can_share_file(struct engine *g, const struct qi_file *from)
{
	if (g->asked != from)
		g->can_share = qi_file_can_clone(g->w->file, from, &g->block);
	g->asked = from;
	return g->can_share;
}

uint64_t qi_engine_can_share(struct engine *g)
{
	const unsigned odd = QI_EXT_ZERO | QI_EXT_COMPRESSED | QI_EXT_LOST;
	const struct qi_extent *x = &g->cur;
	uint64_t len = qi_min(x->len, g->range.len), unit = g->w->unit, size;

	if (!g->shares || !(x->flags & QI_EXT_DATA) || x->flags & odd ||
	    len < SHARED_MIN || !qi_is_aligned(g->range.off, unit) ||
	    !can_share_file(g, x->node->data) ||
	    !qi_is_aligned(x->host_off | unit, g->block))
		return 0;
	size = x->node->data->size;
	if (x->host_off >= size)
		return 0;
	len = qi_round_down(qi_min(len, size - x->host_off), unit);
	return len < SHARED_MIN ? 0 : len;
}

/* The part of x at off. */
static struct qi_extent part_of(const struct qi_extent *x, uint64_t off,
				uint64_t len)
{
	struct qi_extent part = *x;

	part.host_off += off - x->off;
	part.off = off;
	part.len = len;
	return part;
}

static void set_state(struct worker *k, uint64_t off, uint64_t len,
		      enum unit_state state)
{
	uint64_t unit = k->engine->w->unit, first = (off - k->job.off) / unit;

	for (uint64_t i = 0; i < len / unit; i++)
		k->state[first + i] = state;
}

static int look_at_all(struct worker *k, const struct qi_extent *x,
		       uint64_t off, uint64_t len, struct qi_error *e)
{
	const struct qi_extent part = part_of(x, off, len);
	int ret = qi_engine_read_extent(k, &part, k->buf, e);

	if (!ret && qi_is_zero(k->buf, (size_t)len))
		set_state(k, off, len, UNIT_ZERO);
	return ret;
}

/*
 * Two runs, [off, middle) and [middle, end), of which the second one may be
 * empty: most that are not zero show it where they meet, so one call will do.
 */
static int look_at_two(struct worker *k, const struct qi_extent *x,
		       uint64_t off, uint64_t middle, uint64_t end,
		       struct qi_error *e)
{
	uint64_t before = qi_min(middle - off, EDGE_BYTES);
	uint64_t after = qi_min(end - middle, EDGE_BYTES);
	const struct qi_extent edge =
		part_of(x, middle - before, before + after);
	int ret = qi_engine_read_extent(k, &edge, k->buf, e);
	bool first = !ret && qi_is_zero(k->buf, before);
	bool second = !ret && after && qi_is_zero(k->buf + before, after);

	if (first)
		ret = look_at_all(k, x, off, middle - off, e);
	if (second && !ret)
		ret = look_at_all(k, x, middle, end - middle, e);
	return ret;
}

static int look_at(struct worker *k, const struct qi_extent *x,
		   struct qi_error *e)
{
	uint64_t grain = qi_max(k->engine->w->unit, SHARED_MIN);
	uint64_t off = x->off, end = x->off + x->len;
	int ret = 0;

	while (off < end && !ret) {
		uint64_t middle = qi_min(qi_round_up(off + 1, grain), end);
		uint64_t next = qi_min(middle + grain, end);

		ret = look_at_two(k, x, off, middle, next, e);
		off = next;
	}
	return ret;
}

int qi_engine_look(struct worker *k, struct qi_error *e)
{
	const struct job *job = &k->job;
	int ret = 0;

	set_state(k, job->off, job->len, UNIT_PLAIN);
	if (k->engine->copy->offloads)
		return 0;
	for (unsigned i = 0; i < job->extent_count && !ret; i++)
		ret = look_at(k, &job->extent[i], e);
	return ret;
}

static int write_instead(struct worker *k, const struct qi_extent *x,
			 uint64_t host_off, struct qi_error *e)
{
	int ret = 0;

	for (uint64_t at = 0, len; at < x->len && !ret; at += len) {
		struct qi_extent part;

		len = qi_min(x->len - at, k->engine->window);
		part = part_of(x, x->off + at, len);
		ret = qi_engine_read_extent(k, &part, k->buf, e);
		if (!ret)
			ret = qi_file_write(k->engine->w->file, host_off + at,
					    len, k->buf, e);
	}
	return ret;
}

static int share(struct worker *k, const struct qi_extent *x, uint64_t host_off,
		 struct qi_error *e)
{
	int ret = 1;

	if (x->len >= SHARED_MIN)
		ret = qi_file_clone(k->engine->w->file, host_off, x->node->data,
				    x->host_off, x->len, e);
	/* Whatever the reason is: if it is a bad one, it shows again. */
	return ret > 0 ? write_instead(k, x, host_off, e) : ret;
}

int qi_engine_share(struct worker *k, const struct placed *p,
		    struct qi_error *e)
{
	const struct job *job = &k->job;
	int ret = 0;

	for (unsigned i = 0; i < job->extent_count && !ret; i++) {
		const struct qi_extent *x = &job->extent[i];
		uint64_t from = qi_max(x->off, p->off);
		uint64_t to = qi_min(x->off + x->len, p->off + p->len);
		struct qi_extent part;

		if (from >= to)
			continue;
		part = part_of(x, from, to - from);
		ret = share(k, &part, p->host_off + (from - p->off), e);
	}
	return ret;
}
