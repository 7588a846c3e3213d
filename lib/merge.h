/* SPDX-License-Identifier: MIT */
/* merge.h - the content of layers into one below them */
#ifndef QI_MERGE_H
#define QI_MERGE_H

#include "lib/copy.h"
#include "lib/drive.h"

struct qi_merge {
	struct qi_drive drive; /* as seen from the topmost layer; not owned */
	struct qi_node *base;  /* below its head */
	unsigned threads;
	struct qi_progress progress;
	struct qi_copy_stats stats; /* afterwards */
	uint64_t smallest;	    /* size of the base before it grew */
	bool takes_over;	    /* qi_merge_take_over() is to follow */
};

/* May the base be written: by guards of drives, and by its format? */
int qi_merge_check(struct qi_merge *m, struct qi_error *e);
/*
 * The step of a plan (may be NULL) that says what is copied. alone: the layers
 * between will be gone by then.
 */
int qi_merge_plan_copy(const struct qi_merge *m, bool alone,
		       struct qi_plan *plan);
/*
 * The base grows if it must; what records its changes is marked, and the base
 * itself as one that a merge goes on into; then it gets the data. Each step is
 * durable before the next. The mark stays until qi_merge_end(); where no
 * qi_merge_take_over() follows, it is taken off.
 */
int qi_merge_run(struct qi_merge *m, struct qi_error *e);
/*
 * After that: the record of the base takes over where bitmaps start, their
 * checkpoints and states, by one header write. is_head: of its drive, now.
 */
int qi_merge_take_over(struct qi_merge *m, bool is_head, struct qi_error *e);
/*
 * The layers that were merged are no part of the drive any more: the base
 * loses the mark. It stays when one of them had it.
 */
int qi_merge_end(const struct qi_merge *m, bool is_head, struct qi_error *e);
/* The same, found by a later run; nothing to do for one without the mark. */
int qi_node_end_merge(struct qi_node *n, struct qi_error *e);

/* -ESTALE and how to remove it, when n has a bitmap of its own. */
int qi_node_refuse_bitmap(struct qi_node *n, const char *what,
			  struct qi_error *e);
/* The same for an internal snapshot; what would be done to it. */
int qi_node_refuse_internal(struct qi_node *n, const char *what,
			    struct qi_error *e);
/* 0, or -ESTALE: the file of n has something that would be lost with it. */
int qi_node_check_loss(struct qi_node *n, struct qi_error *e);

#endif
