/* SPDX-License-Identifier: MIT */
/* hashtree-compare.c - where a disk is not what its hashes say */
#include <errno.h>

#include "lib/files.h"
#include "lib/hashtree.h"
#include "lib/ranges.h"

/* In ascending order. */
struct found {
	struct qi_hash_tree *tree;
	uint64_t size; /* of what is compared */
	struct qi_difference *out;
};

static int add(void *arg, uint64_t off, struct qi_error *e)
{
	struct found *f = arg;
	struct qi_difference *d = f->out;
	struct qi_range *last = d->count ? &d->ranges[d->count - 1] : NULL;
	uint64_t len = qi_min(QI_HASH_UNIT, f->size - off);

	d->bytes += len;
	if (last && last->off + last->len == off) {
		last->len += len;
		return 0;
	}
	if (qi_is_full(d->count)) {
		struct qi_range *all =
			realloc(d->ranges, (2 * d->count + 1) * sizeof(*all));

		if (!all)
			return qi_no_memory(e);
		d->ranges = all;
	}
	d->ranges[d->count++] = (struct qi_range){ off, len };
	return 0;
}

static int compare(void *arg, uint64_t off, uint64_t count,
		   const struct qi_hash *hashes, struct qi_error *e)
{
	struct found *f = arg;

	return qi_hash_tree_differing(f->tree, off, count, hashes, add, f, e);
}

int qi_hash_tree_compare(struct qi_hash_tree *t, struct qi_node *n,
			 uint64_t size, unsigned threads,
			 const struct qi_progress *progress,
			 struct qi_difference *out, struct qi_error *e)
{
	struct found f = { .tree = t, .size = size, .out = out };
	struct qi_copy copy = { .src = n,
				.threads = threads,
				.progress = *progress,
				.total = size,
				.hashed = compare,
				.arg = &f };
	struct qi_copy_stats stats;
	int ret;

	*out = (struct qi_difference){ NULL, 0, 0 };
	if (qi_ranges_one(&copy.ranges, 0, size))
		return qi_no_memory(e);
	ret = qi_copy_run(&copy, &stats, e);
	qi_ranges_free(copy.ranges);
	return ret;
}
