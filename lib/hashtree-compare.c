/* SPDX-License-Identifier: MIT */
/* hashtree-compare.c - where a disk is not what its hashes say */
#include <errno.h>

#include "lib/files.h"
#include "lib/hashtree.h"
#include "lib/ranges.h"

static int add(void *arg, uint64_t off, struct qi_error *e)
{
	struct qi_hash_compare *c = arg;
	struct qi_range *last = c->count ? &c->ranges[c->count - 1] : NULL;
	uint64_t len = qi_min(QI_HASH_UNIT, c->size - off);

	c->bytes += len;
	if (last && last->off + last->len == off) {
		last->len += len;
		return 0;
	}
	if (!c->ranges || qi_is_full(c->count)) {
		struct qi_range *all =
			realloc(c->ranges, (2 * c->count + 1) * sizeof(*all));

		if (!all)
			return qi_no_memory(e);
		c->ranges = all;
	}
	c->ranges[c->count++] = (struct qi_range){ off, len };
	return 0;
}

static int compare(void *arg, uint64_t off, uint64_t count,
		   const struct qi_hash *hashes, struct qi_error *e)
{
	struct qi_hash_compare *c = arg;

	return qi_hash_tree_differing(c->tree, off, count, hashes, add, c, e);
}

int qi_hash_tree_compare(struct qi_hash_compare *c, struct qi_error *e)
{
	struct qi_copy copy = { .src = c->node,
				.threads = c->threads,
				.rate = c->rate,
				.progress = c->progress,
				.hashed = compare,
				.arg = c };
	struct qi_copy_stats stats;
	int ret;

	c->ranges = NULL;
	c->count = 0;
	c->bytes = 0;
	if (qi_ranges_one(&copy.ranges, 0, c->size))
		return qi_no_memory(e);
	ret = qi_copy_run(&copy, &stats, e);
	qi_ranges_free(copy.ranges);
	return ret;
}
