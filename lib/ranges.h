/* SPDX-License-Identifier: MIT */
/*
 * ranges.h - streams of sorted, disjoint, not adjacent guest ranges
 *
 * Dirty sets are such streams: they are never held whole, so memory does not
 * grow with the disk. Constructors take over the streams that they are given,
 * also when they fail.
 */
#ifndef QI_RANGES_H
#define QI_RANGES_H

#include "lib/format.h"

struct qi_ranges {
	/* 1 and a range, 0 at the end; may give adjacent ranges. */
	int (*next)(struct qi_ranges *r, struct qi_range *out,
		    struct qi_error *e);
	void (*free)(struct qi_ranges *r);
	struct qi_range ahead; /* joined so far by qi_ranges_next() */
	bool has_ahead;
};

/* [off, off + len); empty when len is 0. */
int qi_ranges_one(struct qi_ranges **out, uint64_t off, uint64_t len);
/* Ranges that are sorted by offset and may overlap; they are copied. */
int qi_ranges_list(struct qi_ranges **out, const struct qi_range *ranges,
		   size_t count);
/* Everything that is in any of the streams. */
int qi_ranges_union(struct qi_ranges **out, struct qi_ranges **in,
		    size_t count);
/* The same, or, where making them has failed with ret, ret: all are freed. */
int qi_ranges_collect(struct qi_ranges **out, struct qi_ranges **in,
		      size_t count, int ret);
/* Each range widened to whole units (a power of two), then cut at size. */
int qi_ranges_round(struct qi_ranges **out, struct qi_ranges *in, uint64_t unit,
		    uint64_t size);
/* What lies in [0, size). */
int qi_ranges_clip(struct qi_ranges **out, struct qi_ranges *in, uint64_t size);
/* What lies in [off, off + len). */
int qi_ranges_within(struct qi_ranges **out, struct qi_ranges *in, uint64_t off,
		     uint64_t len);
/* All bytes of what is left of it. */
int qi_ranges_sum(struct qi_ranges *r, uint64_t *bytes, struct qi_error *e);
/* What one layer has allocated: data, zero, compressed, preallocated. */
int qi_ranges_allocated(struct qi_ranges **out, struct qi_node *n);
/* The same in whole clusters. */
int qi_ranges_clusters(struct qi_ranges **out, struct qi_node *n);
/*
 * What fn gives for the layers from top down to but without `stop` (NULL:
 * all), and the part of [0, size) past the end of each, which it hides.
 */
int qi_ranges_layers(struct qi_ranges **out, struct qi_node *top,
		     const struct qi_node *stop, uint64_t size,
		     int (*fn)(void *arg, struct qi_node *n,
			       struct qi_ranges **out),
		     void *arg);
/* What those layers decide: the same with what they have allocated. */
int qi_ranges_above(struct qi_ranges **out, struct qi_node *top,
		    const struct qi_node *stop, uint64_t size);
/* What the guest view of the chain of n can differ from zero in. */
int qi_ranges_data(struct qi_ranges **out, struct qi_node *n);
/* The bits of stored bitmap `which` of n. */
int qi_ranges_bitmap(struct qi_ranges **out, struct qi_node *n, size_t which);
/*
 * Units, inside `where`, in which something that n leaves to its backing chain
 * (n NULL: anything of a) reads differently in a and in b (NULL: reads as
 * zero). Takes `where`.
 */
int qi_ranges_differing(struct qi_ranges **out, struct qi_node *n,
			struct qi_node *a, struct qi_node *b, uint64_t unit,
			struct qi_ranges *where,
			const struct qi_progress *progress);

#endif
