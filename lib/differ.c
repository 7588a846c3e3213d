/* SPDX-License-Identifier: MIT */
/* differ.c - a stream of what reads differently in two guest views */
#include <errno.h>

#include "lib/pair.h"
#include "lib/ranges.h"

struct differ {
	struct qi_ranges base;
	struct qi_node *n; /* hides what it has; NULL: nothing is hidden */
	uint64_t size;
	struct qi_ranges *where;
	struct qi_range left; /* of the range that is looked at */
	uint64_t unit;
	struct qi_pair pair;
	struct qi_progress progress;
};

static void advance(struct differ *d, uint64_t len)
{
	d->left.off += len;
	d->left.len -= len;
}

/* 1 and where, when something differs in [off, off + len). */
static int find_difference(struct differ *d, uint64_t off, uint64_t len,
			   uint64_t *at, struct qi_error *e)
{
	struct qi_pair *p = &d->pair;
	uint64_t run, looked, equal;
	int ret;

	qi_pair_seek(p, off, len);
	while ((ret = qi_pair_run(p, &run, e)) > 0) {
		if (qi_pair_is_equal(p)) {
			qi_pair_skip(p, run);
			continue;
		}
		ret = qi_pair_compare(p, run, &looked, &equal, e);
		if (ret)
			return ret;
		*at = p->pos + equal;
		if (equal < looked)
			return 1;
		qi_pair_skip(p, looked);
	}
	return ret;
}

/* What is left starts with a run that n has, or that it has not. */
static int look_at_run(struct differ *d, struct qi_range *out,
		       struct qi_error *e)
{
	uint64_t len = d->left.len, at = 0;
	struct qi_extent x = { .off = d->left.off, .len = len };
	int ret = 0;

	if (d->n)
		ret = qi_node_map(d->n, d->left.off, len, &x, 1, e);
	if (ret < 0)
		return ret;
	len = qi_min(x.off + x.len - d->left.off, len);
	ret = 0;
	if (!(x.flags & QI_EXT_ALLOCATED))
		ret = find_difference(d, d->left.off, len, &at, e);
	if (ret <= 0) {
		advance(d, len);
		return ret;
	}
	out->off = qi_round_down(at, d->unit);
	out->len = qi_min(d->unit, d->size - out->off);
	advance(d, qi_min(out->off + out->len - d->left.off, d->left.len));
	return 1;
}

static int differ_next(struct qi_ranges *r, struct qi_range *out,
		       struct qi_error *e)
{
	struct differ *d = qi_container_of(r, struct differ, base);
	int ret = 0;

	while (!ret) {
		if (!d->left.len) {
			ret = qi_ranges_next(d->where, &d->left, e);
			if (ret <= 0)
				return ret;
		}
		ret = look_at_run(d, out, e);
		if (d->progress.fn)
			d->progress.fn(d->progress.arg, d->left.off, d->size);
	}
	return ret;
}

static void differ_free(struct qi_ranges *r)
{
	struct differ *d = qi_container_of(r, struct differ, base);

	qi_ranges_free(d->where);
	qi_pair_clear(&d->pair);
	free(d);
}

int qi_ranges_differing(struct qi_ranges **out, struct qi_node *n,
			struct qi_node *a, struct qi_node *b, uint64_t unit,
			struct qi_ranges *where,
			const struct qi_progress *progress)
{
	struct differ *d = calloc(1, sizeof(*d));
	int ret;

	if (!d) {
		qi_ranges_free(where);
		return -ENOMEM;
	}
	d->base =
		(struct qi_ranges){ .next = differ_next, .free = differ_free };
	d->n = n;
	d->size = n ? n->facts.size : a->facts.size;
	d->unit = unit;
	d->progress = *progress;
	ret = qi_ranges_round(&d->where, where, unit, d->size);
	if (!ret)
		ret = qi_pair_init(&d->pair, a, b);
	if (ret) {
		differ_free(&d->base);
		return ret;
	}
	*out = &d->base;
	return 0;
}
