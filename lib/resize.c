/* SPDX-License-Identifier: MIT */
/* grow.c - making a disk larger without showing what lies below */
#include "lib/copy.h"
#include "lib/ranges.h"

/* Write [from, to), where the node ends inside or before, as it reads now. */
static int cover(struct qi_node *n, uint64_t from, uint64_t to,
		 struct qi_error *e)
{
	struct qi_copy copy = { .src = n, .threads = 1 };
	struct qi_copy_stats stats;
	int ret = n->format->edit(n, &copy.writer, e);

	if (ret)
		return ret;
	from = qi_round_down(from, copy.writer->unit);
	to = qi_round_up(to, copy.writer->unit);
	if (qi_ranges_one(&copy.ranges, from, to - from))
		ret = qi_no_memory(e);
	else
		ret = qi_copy_run(&copy, &stats, e);
	if (!ret)
		ret = copy.writer->ops->finish(copy.writer, e);
	qi_ranges_free(copy.ranges);
	copy.writer->ops->free(copy.writer);
	return ret;
}

int qi_node_grow(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	const struct qi_node *below = n->facts.backing;
	uint64_t old = n->facts.size;
	int ret = 0;

	if (below && below->facts.size > old) {
		if (n->format->reserve)
			ret = n->format->reserve(n, size, e);
		if (!ret)
			ret = cover(n, old, qi_min(size, below->facts.size), e);
	}
	return ret ? ret : n->format->grow(n, size, e);
}
