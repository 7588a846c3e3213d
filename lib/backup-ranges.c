/* SPDX-License-Identifier: MIT */
/* backup-ranges.c - which parts of a drive a restore point stores */
#include <errno.h>

#include "lib/backup.h"
#include "lib/files.h"
#include "lib/ranges.h"

/* ----------------------------------------------------------- increments */

/*
 * What an increment stores, in whole units: what is dirty, and where the disk
 * got another size, the chunk in which the smaller one ends.
 */
static int find_dirty(const struct qi_backup_source *s, uint64_t unit,
		      struct qi_ranges **out, struct qi_error *e)
{
	struct qi_ranges *in[2] = { NULL }, *all;
	uint64_t old = qi_hash_tree_size(s->below), size = s->out->size;
	uint64_t last = qi_min(old, size);
	int ret = qi_dirty_ranges(s->dirty, &in[0]);

	if (!ret)
		ret = qi_ranges_one(&in[1], last ? last - 1 : 0,
				    last && old != size);
	ret = qi_ranges_collect(&all, in, 2, ret);
	if (!ret)
		ret = qi_ranges_round(out, all, qi_max(unit, QI_HASH_UNIT),
				      size);
	return ret ? qi_no_memory(e) : 0;
}

/* ------------------------------------------------------------- comparing */

/* What is not as in the point below, in ascending order. */
struct found {
	struct qi_hash_tree *below;
	uint64_t size; /* of the disk */
	struct qi_range *ranges;
	size_t count;
};

static int add(struct found *f, uint64_t off, uint64_t len, struct qi_error *e)
{
	if (f->count) {
		struct qi_range *last = &f->ranges[f->count - 1];

		if (last->off + last->len == off) {
			last->len += len;
			return 0;
		}
	}
	if (qi_is_full(f->count)) {
		struct qi_range *all =
			realloc(f->ranges, (2 * f->count + 1) * sizeof(*all));

		if (!all)
			return qi_no_memory(e);
		f->ranges = all;
	}
	f->ranges[f->count++] = (struct qi_range){ off, len };
	return 0;
}

static int compare(void *arg, uint64_t off, uint64_t count,
		   const struct qi_hash *hashes, struct qi_error *e)
{
	const struct qi_hash null = { { 0 } };
	struct found *f = arg;

	for (uint64_t i = 0; i < count; i++, off += QI_HASH_UNIT) {
		uint64_t len = qi_min(QI_HASH_UNIT, f->size - off);
		struct qi_hash old;
		int ret = qi_hash_tree_hash(f->below, off, &old, e);

		if (!ret && !qi_hash_equal(&old, hashes ? &hashes[i] : &null))
			ret = add(f, off, len, e);
		if (ret)
			return ret;
	}
	return 0;
}

int qi_hash_tree_compare(struct qi_hash_compare *c, struct qi_error *e)
{
	struct found f = { .below = c->tree, .size = c->node->facts.size };
	struct qi_copy copy = { .src = c->node,
				.threads = c->threads,
				.rate = c->rate,
				.progress = c->progress,
				.hashed = compare,
				.arg = &f };
	struct qi_copy_stats stats;
	int ret = qi_copy_run(&copy, &stats, e);

	c->bytes = 0;
	for (size_t i = 0; i < f.count; i++)
		c->bytes += f.ranges[i].len;
	if (!ret && qi_ranges_list(&c->differs, f.ranges, f.count))
		ret = qi_no_memory(e);
	free(f.ranges);
	return ret;
}

static int take_differing(struct qi_backup_source *s, uint64_t unit,
			  struct qi_ranges **out, struct qi_error *e)
{
	struct qi_ranges *r = s->differs;

	s->differs = NULL;
	return qi_ranges_round(out, r, qi_max(unit, QI_HASH_UNIT),
			       s->out->size) ?
		       qi_no_memory(e) :
		       0;
}

int qi_backup_ranges(struct qi_backup_source *s, uint64_t unit,
		     struct qi_ranges **out, struct qi_error *e)
{
	*out = NULL;
	switch (s->out->type) {
	case QI_BACKUP_INCREMENTAL:
		return find_dirty(s, unit, out, e);
	case QI_BACKUP_RESYNC:
		return take_differing(s, unit, out, e);
	default:
		return 0;
	}
}
