/* SPDX-License-Identifier: MIT */
/*
 * qimg-bitmap.h - bits from elsewhere, and bitmaps that get another address
 *
 * Part of qimg.h, which includes it.
 */
#ifndef QI_QIMG_BITMAP_H
#define QI_QIMG_BITMAP_H

#include "qimg.h"

/* (drive, name) or (node, name): one of drive and node is NULL. */
struct qi_bitmap_address {
	struct qi_drive *drive;
	struct qi_node *node;
	const char *name;
};

struct qi_bitmap_merge {
	struct qi_bitmap_address into;
	const struct qi_bitmap_address *sources; /* see below */
	size_t count;
};
/*
 * What `text` says: a bitmap of the drive or node of `into`, or, as PATH:NAME,
 * one of another node, which is added to g. To be locked then.
 */
int qi_bitmap_source(struct qi_graph *g, const struct qi_bitmap_address *into,
		     const char *text, struct qi_bitmap_address *out,
		     struct qi_error *e);
/* Add what the sources have; by one header write. */
int qi_bitmap_merge(const struct qi_bitmap_merge *m, struct qi_plan *plan,
		    bool dry_run, struct qi_error *e);

struct qi_bitmap_populate {
	struct qi_bitmap_address into;
	struct qi_node *image; /* NULL: add what is allocated */
	struct qi_progress progress;
};
/*
 * Add what is allocated, in the node alone or in any layer of the drive, or
 * what reads differently from the image. One header write; *bytes is what was
 * found, before it is widened to the granularity.
 */
int qi_bitmap_populate(const struct qi_bitmap_populate *p, struct qi_plan *plan,
		       bool dry_run, uint64_t *bytes, struct qi_error *e);

struct qi_bitmap_move {
	struct qi_bitmap_address from, to;
};
/* Want all images that will be written; before qi_graph_lock(). */
void qi_bitmap_move_prepare(const struct qi_bitmap_move *m);
/*
 * Give the bitmap the other address, and its set and state with it; or finish
 * a move that was ended. Where two images are written, a note in the second
 * one says what is left to do.
 */
int qi_bitmap_move(const struct qi_bitmap_move *m, struct qi_plan *plan,
		   bool dry_run, struct qi_error *e);

#endif
