/* SPDX-License-Identifier: MIT */
/*
 * pair.h - two guest views side by side, to find where they differ
 *
 * Data is read only where the extents leave a doubt. One thread at a time has a
 * pair.
 */
#ifndef QI_PAIR_H
#define QI_PAIR_H

#include "lib/format.h"

#define QI_PAIR_PIECE (1u << 20) /* bytes that are read at once */

struct qi_pair {
	struct qi_scan *scan[2]; /* NULL: that side reads as zero */
	struct qi_extent x[2];	 /* what is left of each, from pos on */
	uint64_t pos, end;
	uint64_t read_off; /* what the buffers have; good after a seek, too */
	size_t read_len;
	uint8_t *buf[2];
};

/* a or b NULL: reads as zero, as all does past the end of an image. */
int qi_pair_init(struct qi_pair *p, struct qi_node *a, struct qi_node *b);
void qi_pair_clear(struct qi_pair *p);
void qi_pair_seek(struct qi_pair *p, uint64_t off, uint64_t len);
/* 1: *len bytes from pos on have one extent on each side, x. 0: the end. */
int qi_pair_run(struct qi_pair *p, uint64_t *len, struct qi_error *e);
/* Can the extents of this run be told to be equal without reading? */
bool qi_pair_is_equal(const struct qi_pair *p);
/*
 * Whole sectors, of some of the len bytes of this run, that are equal. Less
 * than *looked: there is a difference.
 */
int qi_pair_compare(struct qi_pair *p, uint64_t len, uint64_t *looked,
		    uint64_t *equal, struct qi_error *e);
/* What `from` is at is for p to compare, as far as the run goes, and no more.
 */
void qi_pair_take(struct qi_pair *p, const struct qi_pair *from);
/* Go on, inside the run. */
void qi_pair_skip(struct qi_pair *p, uint64_t len);

#endif
