/* SPDX-License-Identifier: MIT */
/* copy-place.c - the copy engine: placing and handing over, in turn */
#include <errno.h>

#include "lib/engine.h"

static void note(struct worker *k, uint64_t off, uint64_t host_off,
		 const uint8_t *data, size_t len)
{
	k->placed[k->placed_count++] =
		(struct placed){ off, host_off, data, len };
}

static int write_one(struct worker *k, const struct placed *p,
		     struct qi_error *e)
{
	struct qi_file *file = k->engine->w->file;
	int ret;

	if (p->data) {
		ret = qi_file_write(file, p->host_off, p->len, p->data, e);
		qi_file_write_back(file, p->host_off, p->len);
	} else {
		ret = qi_engine_share(k, p, e);
	}
	return ret ? qi_stock(e, ret, "error while writing at byte %llu: %s",
			      (unsigned long long)p->off, strerror(-ret)) :
		     0;
}

int qi_engine_write(struct worker *k, struct qi_error *e)
{
	int ret = 0;

	for (unsigned i = 0; i < k->placed_count && !ret; i++)
		ret = write_one(k, &k->placed[i], e);
	k->placed_count = 0;
	return ret;
}

static int place_plain(struct worker *k, size_t first, size_t count,
		       struct qi_error *e)
{
	struct qi_writer *w = k->engine->w;
	uint64_t off = k->job.off + (uint64_t)first * w->unit;
	const uint8_t *data = k->job.is_shared ? NULL :
						 k->buf + first * w->unit;
	uint64_t len = (uint64_t)count * w->unit;

	while (len) {
		uint64_t host_off, host_len;
		int ret = w->ops->place(w, off, len, &host_off, &host_len, e);

		if (ret)
			return ret;
		note(k, off, host_off, data, (size_t)host_len);
		/* The next place() may make this mapping durable. */
		ret = w->writes_in_turn ? qi_engine_write(k, e) : 0;
		if (ret)
			return ret;
		off += host_len;
		data = data ? data + host_len : NULL;
		len -= host_len;
	}
	return 0;
}

static int place_packed(struct worker *k, size_t i, struct qi_error *e)
{
	struct qi_writer *w = k->engine->w;
	uint64_t off = k->job.off + (uint64_t)i * w->unit, host_off;
	int ret = w->ops->place_packed(w, off, k->packed_len[i], &host_off, e);

	if (ret)
		return ret;
	note(k, off, host_off, k->packed + i * w->unit, k->packed_len[i]);
	return w->writes_in_turn ? qi_engine_write(k, e) : 0;
}

/* A run of units in the same state. */
static int place_run(struct worker *k, size_t first, size_t count,
		     struct qi_error *e)
{
	struct qi_writer *w = k->engine->w;
	uint64_t off = k->job.off + (uint64_t)first * w->unit;
	int ret = 0;

	if (!w->ops)
		return 0; /* it is hashed alone */
	switch (k->state[first]) {
	case UNIT_ZERO:
		if (k->engine->copy->skips_zero)
			break;
		ret = w->ops->zero(w, off, (uint64_t)count * w->unit, e);
		/* A format without zero clusters gets the zeroes themselves. */
		if (ret == -ENOTSUP)
			ret = place_plain(k, first, count, e);
		break;
	case UNIT_PLAIN:
		ret = place_plain(k, first, count, e);
		break;
	case UNIT_PACKED:
		for (size_t i = first; i < first + count && !ret; i++)
			ret = place_packed(k, i, e);
		break;
	}
	return ret;
}

static int place_window(struct worker *k, struct qi_error *e)
{
	size_t unit = k->engine->w->unit;
	size_t units = (size_t)qi_div_up(k->job.len, unit), i = 0;
	struct qi_copy_stats *stats = k->engine->stats;

	while (i < units) {
		size_t end = i + 1;
		uint64_t bytes;
		int ret;

		while (end < units && k->state[end] == k->state[i])
			end++;
		ret = place_run(k, i, end - i, e);
		if (ret)
			return ret;
		bytes = qi_min(end * unit, k->job.len) - i * unit;
		if (k->state[i] == UNIT_ZERO)
			stats->zero += bytes;
		else
			stats->written += bytes;
		i = end;
	}
	for (unsigned j = 0; j < k->job.extent_count; j++)
		if (k->job.extent[j].flags & QI_EXT_DATA)
			stats->read += k->job.extent[j].len;
	return 0;
}

/* A long run of zeroes into a format that cannot say zero. */
static int write_zeroes(struct worker *k, struct qi_error *e)
{
	uint64_t end = k->job.off + k->job.len;
	int ret = 0;

	memset(k->buf, 0, k->engine->window);
	while (k->job.off < end && !ret) {
		k->job.len = qi_min(end - k->job.off, k->engine->window);
		ret = qi_interrupted(e);
		if (!ret)
			ret = place_plain(
				k, 0, qi_div_up(k->job.len, k->engine->w->unit),
				e);
		if (!ret)
			ret = qi_engine_write(k, e);
		k->job.off += k->job.len;
	}
	return ret;
}

static int place_zero(struct worker *k, uint64_t off, uint64_t len,
		      struct qi_error *e)
{
	struct engine *g = k->engine;
	int ret = 0;

	if (g->w->ops && !g->copy->skips_zero)
		ret = g->w->ops->zero(g->w, off, len, e);

	g->stats->zero += len;
	return ret == -ENOTSUP ? write_zeroes(k, e) : ret;
}

/* Tell of the runs of pieces that could not be read. */
static void tell_lost(struct worker *k)
{
	const struct qi_copy *copy = k->engine->copy;
	size_t count = (size_t)qi_div_up(k->job.len, SALVAGE_BYTES), i = 0;

	while (i < count) {
		size_t end = i + 1;

		while (end < count && k->is_lost[end] == k->is_lost[i])
			end++;
		if (k->is_lost[i])
			copy->salvaged(copy->salvage_arg,
				       k->job.off + i * SALVAGE_BYTES,
				       (end - i) * SALVAGE_BYTES,
				       k->lost_error);
		i = end;
	}
	memset(k->is_lost, 0, sizeof(k->is_lost));
	k->has_lost = false;
}

/* Hand over the hashes of the window, runs of zero chunks apart. */
static int give_hashes(struct worker *k, struct qi_error *e)
{
	const struct qi_copy *copy = k->engine->copy;
	size_t count = (size_t)qi_div_up(k->job.len, QI_HASH_UNIT), i = 0;

	if (k->job.is_zero)
		return copy->hashed(copy->arg, k->job.off, count, NULL, e);
	while (i < count) {
		size_t end = i + 1;
		int ret;

		while (end < count &&
		       k->hash_is_zero[end] == k->hash_is_zero[i])
			end++;
		ret = copy->hashed(copy->arg,
				   k->job.off + (uint64_t)i * QI_HASH_UNIT,
				   end - i,
				   k->hash_is_zero[i] ? NULL : &k->hash[i], e);
		if (ret)
			return ret;
		i = end;
	}
	return 0;
}

int qi_engine_place(struct worker *k, struct qi_error *e)
{
	struct engine *g = k->engine;
	uint64_t bytes = k->job.len;
	int ret = g->copy->hashed ? give_hashes(k, e) : 0;

	if (k->has_lost)
		tell_lost(k);
	if (!ret && k->job.is_zero) {
		ret = place_zero(k, k->job.off, k->job.len, e);
	} else if (!ret) {
		ret = place_window(k, e);
		if (!ret && g->w->writes_in_turn)
			ret = qi_engine_write(k, e);
	}
	g->done += bytes;
	if (!ret && g->copy->progress.fn)
		g->copy->progress.fn(g->copy->progress.arg, g->done, g->size);
	return ret;
}
