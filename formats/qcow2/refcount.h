/* SPDX-License-Identifier: MIT */
/* refcount.h - what refcount.c and refcount-grow.c share */
#ifndef QCOW2_REFCOUNT_H
#define QCOW2_REFCOUNT_H

#include "formats/qcow2/qcow2.h"

struct qcow2_refcounts {
	be64 *table; /* refcount table */
	uint64_t entries;
	unsigned block_bits;	 /* log2 of refcounts in a block */
	uint64_t max;		 /* largest value of one */
	uint64_t hint;		 /* no cluster below this one is free */
	uint64_t packed_end;	 /* of the packed bytes put last, 0: none */
	uint64_t hole, hole_len; /* freed clusters, to be punched */
	struct qcow2_cache *blocks;
};

/*
 * Give the range of `cluster`, where nothing was ever used, a block: its first
 * cluster.
 */
int qcow2_add_block(struct qcow2 *q, uint64_t cluster, struct qi_error *e);
/* qcow2_alloc() of at least as many clusters as one block describes. */
int qcow2_alloc_large(struct qcow2 *q, uint64_t count, uint64_t *host_off,
		      struct qi_error *e);

#endif
