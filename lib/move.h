/* SPDX-License-Identifier: MIT */
/* move.h - a bitmap on its way from one address to another */
#ifndef QI_MOVE_H
#define QI_MOVE_H

#include "lib/fill.h"

struct qi_mover {
	const struct qi_bitmap_address *from, *to;
	struct qi_node *src, *dst; /* the images that have them */
	bool takes_over;	   /* from a layer of the drive that gets it */
	bool goes_down;		   /* to a layer of the drive that had it */
	unsigned granularity_bits;
	bool paused, gap;
};

/* Has n a bitmap of that name that is no segment? */
bool qi_node_has_own(struct qi_node *n, const char *name);

/* Of a layer above the node that is taken over: is its whole disk dirty? */
bool qi_mover_takes_whole(struct qi_node *n);
/* Has it a bitmap that counts, besides what it has allocated? */
bool qi_mover_says_by_bitmap(const struct qi_mover *w, struct qi_node *n);

/* What the new bitmap says: all that the old one does, and any new end. */
int qi_mover_ranges(const struct qi_mover *w, struct qi_ranges **out,
		    struct qi_error *e);
/* What the old one may have recorded since the new one was made. */
int qi_mover_ranges_since(const struct qi_mover *w, struct qi_ranges **out,
			  struct qi_error *e);

/* Take the bitmap away from where it was. */
int qi_mover_plan_removal(const struct qi_mover *w, struct qi_plan *plan);
int qi_mover_remove(const struct qi_mover *w, struct qi_error *e);
/* Nothing is left to do. */
int qi_mover_drop_note(struct qi_node *n, struct qi_error *e);
/* May images that the bitmap leaves be written, and does it say anything? */
int qi_mover_check_source(struct qi_mover *w, struct qi_error *e);

/* The image with the note of this move, after which it was ended; or NULL. */
struct qi_node *qi_mover_find_note(const struct qi_mover *w);
/* -ESTALE when dst has the note of something else. */
int qi_mover_check_note(const struct qi_mover *w, struct qi_error *e);
void qi_mover_set_note(const struct qi_mover *w, struct qi_record *r);
int qi_mover_finish(struct qi_mover *w, struct qi_node *note,
		    struct qi_plan *plan, bool dry_run, struct qi_error *e);

#endif
