/* SPDX-License-Identifier: MIT */
/*
 * copy.h - the copy engine: guest data from a chain into a writer
 *
 * Worker threads read, look for zeroes, pack and hash in parallel; what
 * depends on order (where clusters go, the list of hashes) is done in turn,
 * so the result is the same for any number of threads. Memory is bounded by
 * the number of threads.
 *
 * Data that writer and source can share (qi_writer.shares, qi_file_can_clone())
 * is not written, and not all of it is read: see copy-share.c.
 */
#ifndef QI_COPY_H
#define QI_COPY_H

#include "lib/format.h"
#include "lib/hash.h"
#include "lib/rate.h"

struct qi_copy {
	struct qi_node *src;
	struct qi_ranges *ranges; /* what to copy, NULL: all. Not freed. */
	struct qi_writer *writer; /* NULL: it is hashed alone */
	bool compress;
	unsigned threads;     /* 0: one a processor */
	struct qi_rate *rate; /* of the data that is read; NULL: any */
	struct qi_progress progress;
	struct qi_node *rest; /* has what is past the end of src; or NULL */
	bool sees_holes;      /* of the file, see qi_scan_see_holes() */
	bool no_holes;	      /* zeroes are data like any other */
	bool skips_zero;      /* the target is zero where it is to be */
	bool no_sharing;      /* of blocks with the source */
	bool offloads;	      /* what is shared is not read for zeroes */
	uint64_t hole;	      /* of zeroes between data, to be one; 0: a unit */
	/*
	 * What cannot be read is zero, and told of in ascending order, the
	 * errno with it, one call at a time. NULL: it is a failure.
	 */
	void (*salvaged)(void *arg, uint64_t off, uint64_t len, int error);
	void *salvage_arg;
	/*
	 * Called in ascending order with the hashes of `count` chunks from
	 * off on; hashes NULL: they are all zero. Nothing of them is written
	 * before, or when it fails. May be NULL.
	 */
	int (*hashed)(void *arg, uint64_t off, uint64_t count,
		      const struct qi_hash *hashes, struct qi_error *e);
	void *arg;
};

int qi_copy_run(const struct qi_copy *copy, struct qi_copy_stats *stats,
		struct qi_error *e);

/* Fails with EUCLEAN for what is not as expected. For qi_copy.hashed. */
int qi_expected_check(void *arg, uint64_t off, uint64_t count,
		      const struct qi_hash *hashes, struct qi_error *e);
struct qi_hash_tree *qi_expected_tree(const struct qi_expected *x);

/* Make the virtual disk of a node larger; see struct qi_resize. */
int qi_node_grow(struct qi_node *n, uint64_t size, struct qi_error *e);

#endif
