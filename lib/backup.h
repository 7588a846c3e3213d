/* SPDX-License-Identifier: MIT */
/*
 * backup.h - a restore point that is being taken
 */
#ifndef QI_BACKUP_H
#define QI_BACKUP_H

#include "lib/drive.h"
#include "lib/point.h"

/* One drive on its way into the point. */
struct qi_backup_source {
	struct qi_drive *drive;
	struct qi_dirty *dirty;	    /* NULL: no bitmap */
	struct qi_hash_tree *below; /* of the parent, or NULL */
	struct qi_ranges *differs;  /* of a resync, once compared, or NULL */
	struct qi_point_drive *out; /* in the point */
};

struct qi_backup_work {
	struct qi_repo *r;
	const struct qi_backup *b;
	struct qi_point point;
	struct qi_backup_source *sources; /* as many as b has drives */
	struct qi_point_maker maker;
	struct qi_rate *rate; /* or NULL */
	double start;	      /* qi_seconds() */
	/* All parts of the work, in bytes, and those that are done. */
	uint64_t total, done;
	/* Of an audit: the point, NULL: what a backup would build on. */
	const struct qi_point *at;
	bool only_reads; /* nothing is stored, no bitmap is cleared */
};
void qi_backup_work_clear(struct qi_backup_work *w);

/* Decide what each drive stores, on what; nothing is written. */
int qi_backup_plan(struct qi_backup_work *w, struct qi_plan *plan,
		   struct qi_error *e);
/*
 * What the drive stores, in units of the image; NULL: all. Takes what was found
 * to differ.
 */
int qi_backup_ranges(struct qi_backup_source *s, uint64_t unit,
		     struct qi_ranges **out, struct qi_error *e);
/* Start the bitmap anew at the end of the point; dry_run: can it be done? */
int qi_backup_clear_bitmap(struct qi_backup_work *w, struct qi_backup_source *s,
			   bool dry_run, struct qi_error *e);

#endif
