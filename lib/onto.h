/* SPDX-License-Identifier: MIT */
/*
 * onto.h - an image comes to rest on another backing node, and reads as before
 *
 * What rebase, stream and the deletion of a snapshot share.
 */
#ifndef QI_ONTO_H
#define QI_ONTO_H

#include "lib/copy.h"
#include "lib/drive.h"

struct qi_onto {
	struct qi_node *n;
	struct qi_node *base; /* NULL: none */
	const char *name;     /* of base, as recorded */
	const char *format;
	bool compress;
	unsigned threads;
	struct qi_progress progress;
	const struct qi_journal *journal; /* noted with the switch, or NULL */
	uint64_t off, len; /* of the data to copy, 0: all. No switch then. */
	/* Set by the operations: */
	struct qi_carry carry;
	struct qi_copy_stats stats;
};

/* Find what stands against it; nothing is written. To be cleared. */
int qi_onto_plan(struct qi_onto *o, struct qi_error *e);
/*
 * Add the steps to a plan: bitmaps, data, switch. from: the one layer whose
 * data it is, NULL: of several. Bytes are counted for a dry run alone: they
 * may have to be read.
 */
int qi_onto_plan_steps(struct qi_onto *o, const char *from,
		       struct qi_plan *plan, bool dry_run, struct qi_error *e);
/*
 * Each durable before the next: the image's segments get what the layers that
 * it leaves behind had; data that would read differently; the header with the
 * new backing file and the new parent, which is the switch.
 */
int qi_onto_run(struct qi_onto *o, struct qi_error *e);
void qi_onto_clear(struct qi_onto *o);

/*
 * The image will rest on base (NULL: none), without a change of data: backing
 * file, parent and journal by one header write. r: its record, to be changed,
 * or NULL when it has none. dry_run: only tell whether that can be done.
 */
int qi_node_rest_on(struct qi_node *n, const struct qi_node *base,
		    struct qi_record *r, const char *name, const char *format,
		    bool dry_run, struct qi_error *e);

#endif
