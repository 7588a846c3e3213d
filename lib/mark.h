/* SPDX-License-Identifier: MIT */
/* mark.h - bits in recording bitmaps, before guest data is written */
#ifndef QI_MARK_H
#define QI_MARK_H

#include "lib/ranges.h"

/* Changes of the bitmaps of one image that keep all bits and add some. */
struct qi_marks {
	struct qi_bitmap_change *changes;
	size_t count;
};

/* What bitmap b gets: 1 and a stream, 0 for nothing. */
typedef int qi_marks_fn(void *arg, const struct qi_stored_bitmap *b,
			struct qi_ranges **out);

/*
 * Ask fn about each bitmap of n but those whose bits are lost: in use, not
 * closed. -EUCLEAN when another cannot be read.
 */
int qi_marks_make(struct qi_marks *m, struct qi_node *n, qi_marks_fn *fn,
		  void *arg, struct qi_error *e);
void qi_marks_clear(struct qi_marks *m);

/* The same, stored in n by one header write; durable when it returns. */
int qi_node_mark(struct qi_node *n, qi_marks_fn *fn, void *arg,
		 struct qi_error *e);

#endif
