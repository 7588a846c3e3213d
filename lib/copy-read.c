/* SPDX-License-Identifier: MIT */
/* copy-read.c - the copy engine: reading, packing and hashing, in parallel */
#include <errno.h>

#include "lib/engine.h"

static void lose(struct worker *k, uint64_t off, uint64_t len, int ret)
{
	uint64_t at = off - k->job.off;

	memset(k->buf + at, 0, len);
	for (uint64_t i = at / SALVAGE_BYTES; i * SALVAGE_BYTES < at + len; i++)
		k->is_lost[i] = true;
	k->has_lost = true;
	k->lost_error = -ret;
}

/* Read it again in small pieces; those that cannot be read become zero. */
static void salvage(struct worker *k, const struct qi_extent *x)
{
	for (uint64_t at = 0; at < x->len; at += SALVAGE_BYTES) {
		size_t len = (size_t)qi_min(x->len - at, SALVAGE_BYTES);
		int ret = qi_extent_read(x, x->off + at, len,
					 k->buf + (x->off + at - k->job.off),
					 NULL);

		if (ret)
			lose(k, x->off + at, len, ret);
	}
}

int qi_engine_read_extent(struct worker *k, const struct qi_extent *x,
			  uint8_t *to, struct qi_error *e)
{
	const struct qi_copy *copy = k->engine->copy;
	int ret = 0;

	if (x->flags & QI_EXT_LOST) {
		lose(k, x->off, x->len, k->job.lost_error);
		return 0;
	}
	if (x->flags & QI_EXT_DATA || copy->no_holes)
		ret = qi_rate_take(copy->rate, x->len, e);
	if (ret)
		return ret;
	ret = qi_extent_read(x, x->off, (size_t)x->len, to, e);
	if (ret && copy->salvaged && ret != -ENOMEM) {
		salvage(k, x);
		return 0;
	}
	return ret ? qi_stock(e, ret, "error while reading at byte %llu: %s",
			      (unsigned long long)x->off,
			      strerror(ret == -EUCLEAN ? EIO : -ret)) :
		     0;
}

static int read_window(struct worker *k, struct qi_error *e)
{
	struct job *job = &k->job;
	size_t padded = (size_t)qi_round_up(job->len, k->engine->w->unit);

	for (unsigned i = 0; i < job->extent_count; i++) {
		const struct qi_extent *x = &job->extent[i];
		int ret = qi_engine_read_extent(
			k, x, k->buf + (x->off - job->off), e);

		if (ret)
			return ret;
	}
	memset(k->buf + job->len, 0, padded - job->len);
	if (padded == job->len || !k->engine->copy->rest)
		return 0;
	return qi_read(k->engine->copy->rest, job->off + job->len,
		       padded - (size_t)job->len, k->buf + job->len, e);
}

/* ---------------------------------------------------------------- holes */

/* Units from `from` on that are of a hole of the source, or are not. */
static size_t known_run(const struct worker *k, size_t from, bool known)
{
	const struct job *job = &k->job;
	size_t unit = k->engine->w->unit, to = from;

	for (unsigned i = 0; i < job->extent_count; i++) {
		const struct qi_extent *x = &job->extent[i];
		size_t first = (size_t)qi_div_up(x->off - job->off, unit);
		size_t end = (size_t)((x->off - job->off + x->len) / unit);

		if (!(x->flags & QI_EXT_ZERO) || end <= to || first >= end)
			continue;
		if (!known)
			return qi_max(first, to);
		if (first > to)
			return to;
		to = end;
	}
	return known ? to : (size_t)qi_div_up(job->len, unit);
}

/*
 * A run [i, j) of zero units among [a, b) that were read: what of it is a hole
 * has whole grains where there is data beside it, and between data it is long
 * enough. The rest is data.
 */
static void close_hole(struct worker *k, size_t a, size_t b, size_t i, size_t j)
{
	const struct engine *g = k->engine;
	uint64_t unit = g->w->unit, off = k->job.off;
	uint64_t from = off + i * unit, to = off + j * unit;

	if (i > a)
		from = qi_round_up(from, g->grain);
	if (j < b)
		to = qi_round_down(to, g->grain);
	if (from >= to || (i > a && j < b && to - from < g->copy->hole))
		from = to = off + j * unit;
	for (size_t n = i; n < j; n++)
		if (off + n * unit < from || off + n * unit >= to)
			k->state[n] = UNIT_PLAIN;
}

/* Short runs of zeroes, and parts of grains, are written with the data. */
static void close_holes(struct worker *k)
{
	size_t units = (size_t)qi_div_up(k->job.len, k->engine->w->unit);
	size_t a = known_run(k, 0, true), b;

	for (; a < units; a = known_run(k, b, true)) {
		b = known_run(k, a, false);
		for (size_t i = a; i < b; i++) {
			size_t j = i;

			while (j < b && k->state[j] == UNIT_ZERO)
				j++;
			if (j == i)
				continue;
			close_hole(k, a, b, i, j);
			i = j;
		}
	}
}

static void look_at_units(struct worker *k)
{
	bool no_holes = k->engine->copy->no_holes;
	struct qi_writer *w = k->engine->w;
	size_t unit = w->unit;
	size_t units = (size_t)qi_div_up(k->job.len, unit);

	for (size_t i = 0; i < units; i++) {
		const uint8_t *data = k->buf + i * unit;
		size_t n = 0;

		if (!no_holes && qi_is_zero(data, unit)) {
			k->state[i] = UNIT_ZERO;
			continue;
		}
		if (k->packer)
			n = qi_pack(k->packer, data, unit, k->packed + i * unit,
				    unit - 1);
		k->state[i] = n ? UNIT_PACKED : UNIT_PLAIN;
		k->packed_len[i] = (uint32_t)n;
	}
}

static void hash_chunks(struct worker *k)
{
	size_t count = (size_t)qi_div_up(k->job.len, QI_HASH_UNIT);

	for (size_t i = 0; i < count; i++) {
		size_t at = i * QI_HASH_UNIT;
		/* The disk may end inside the last one. */
		size_t len = (size_t)qi_min(k->job.len - at, QI_HASH_UNIT);

		k->hash_is_zero[i] = qi_is_zero(k->buf + at, len);
		if (!k->hash_is_zero[i])
			k->hash[i] = qi_hash_of(k->buf + at, len);
	}
}

int qi_engine_read(struct worker *k, struct qi_error *e)
{
	int ret = read_window(k, e);

	if (ret)
		return ret;
	look_at_units(k);
	if (k->engine->grain && !k->packer)
		close_holes(k);
	if (k->engine->copy->hashed)
		hash_chunks(k);
	return 0;
}
