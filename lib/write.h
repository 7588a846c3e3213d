/* SPDX-License-Identifier: MIT */
/* write.h - single changes of guest data, one after the other */
#ifndef QI_WRITE_H
#define QI_WRITE_H

#include "lib/format.h"

/* An image that is being written; one thread at a time. */
struct qi_writes {
	struct qi_node *n;
	struct qi_writer *w;
	uint8_t *unit;	 /* the content of one */
	uint8_t *packed; /* the same, smaller */
	struct qi_packer *packer;
};

/* To be cleared, also on failure. n must be open for writing. */
int qi_writes_begin(struct qi_writes *k, struct qi_node *n, struct qi_error *e);
/* Does it fit the image? */
int qi_writes_check(const struct qi_writes *k, const struct qi_write *x,
		    struct qi_error *e);
/*
 * Do one that fits. It is durable when k->w->ops->finish() was called; bitmaps
 * have to have it already.
 */
int qi_writes_put(struct qi_writes *k, const struct qi_write *x,
		  struct qi_error *e);
void qi_writes_clear(struct qi_writes *k);

/* Enabled bitmaps of n get these ranges, which are sorted here. */
int qi_node_mark_ranges(struct qi_node *n, struct qi_range *ranges,
			size_t count, struct qi_error *e);

#endif
