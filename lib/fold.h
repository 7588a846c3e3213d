/* SPDX-License-Identifier: MIT */
/*
 * fold.h - a layer in the middle of a chain that goes, and its file with it
 *
 * Order of writes, each durable before the next: the layer that stays gets its
 * bitmaps (a superset) and data; the layer above comes to rest on what was
 * below it, which is the switch, and notes in the same header write which file
 * is to go; that goes; the note goes.
 */
#ifndef QI_FOLD_H
#define QI_FOLD_H

#include "lib/merge.h"
#include "lib/onto.h"

struct qi_fold {
	struct qi_drive *d;    /* locked; `above` is open for writing */
	struct qi_node *above; /* a layer of it; the one below goes */
	struct qi_node *base;  /* that it will rest on then, or NULL */
	bool down;	       /* base gets the data, else `above` does */
	const char *tag;       /* of the snapshot that goes; "": none */
	unsigned threads;
	struct qi_progress progress;
	/* Set by the operations: */
	struct qi_merge merge;
	struct qi_onto onto;
	struct qi_journal journal;
	char *name; /* of base, as `above` will record it */
};

/*
 * Find what stands against it; plan may be NULL. To be cleared. Layers that
 * are there still between the one that goes and base will be gone by then.
 */
int qi_fold_check(struct qi_fold *f, struct qi_plan *plan, bool dry_run,
		  struct qi_error *e);
/* The layer that goes rests on base. */
int qi_fold_run(struct qi_fold *f, struct qi_change *out, struct qi_error *e);
/* Guest bytes that were written. */
uint64_t qi_fold_bytes(const struct qi_fold *f);
void qi_fold_clear(struct qi_fold *f);

/* Layers with notes of runs that were ended are to be open for writing. */
void qi_fold_want_unfinished(struct qi_drive *d);
/*
 * Remove files that such runs have left. 1: one of them deleted the snapshot
 * `tag` (may be NULL).
 */
int qi_fold_finish(struct qi_drive *d, const char *tag, struct qi_plan *plan,
		   bool dry_run, struct qi_change *out, struct qi_error *e);

/*
 * Does nothing in the folders that `known` knows lead to or rest on the file
 * of a merged layer, and is there nothing in it that would be lost? 1: so.
 */
int qi_leftover_is_unused(struct qi_graph *known, struct qi_node *left,
			  struct qi_error *e);

/* 0, or why layer n, below `above`, must not go. */
int qi_layer_check_removal(const struct qi_drive *d, struct qi_node *n,
			   const struct qi_node *above, struct qi_error *e);

#endif
