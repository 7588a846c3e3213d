/* SPDX-License-Identifier: MIT */
/*
 * check.h - the parts of check and repair for each other
 *
 * check.c finds the references into a window of clusters; check-count.c counts
 * them; check-compare.c compares them with the refcounts on disk;
 * check-tables.c reads tables as they are, whatever is in them. repair.c
 * decides what is repaired in which order; repair-tables.c, repair-bitmaps.c
 * and repair-refcounts.c do it.
 */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "formats/qcow2/qcow2.h"

/* Bits of entries that have no meaning. */
#define QCOW2_L1_RESERVED (~(QCOW2_OFFSET_MASK | QCOW2_COPIED))
#define QCOW2_L2_RESERVED \
	(~(QCOW2_OFFSET_MASK | QCOW2_COPIED | QCOW2_COMPRESSED | QCOW2_ZERO))

/* Clusters that are an L2 table and something else, too. */
struct qcow2_clashes {
	size_t count, room;
	uint64_t *cluster;
};

/* A count of references for each cluster of a window; see check-count.c. */
struct qcow2_counts {
	uint64_t *bits;
	unsigned planes, used; /* that a count can have; that some has */
	size_t words;	       /* of 64 clusters, in a plane */
};

struct qcow2_checker {
	struct qcow2 *q;
	struct qi_check *out;
	uint64_t total; /* clusters that are looked at */
	uint64_t window, first, end;
	bool is_first; /* window: report what is not about refcounts */
	bool is_quiet;
	/* They stay at the largest refcount that the image can store. */
	struct qcow2_counts counts;
	/* Bits: active entries with and without the copied flag point here. */
	uint64_t *owned, *shared;
	uint64_t *is_one;	   /* bits: refcount on disk is 1 */
	uint64_t *tables, *others; /* bits: is an L2 table; is not. Or NULL */
	be64 *reftable;
	uint64_t entries; /* of it */
	/* Windows (modulo 64) that groups of L2 tables refer into. */
	uint64_t *touched, *touches;
	uint64_t visit, group; /* L1 entries seen; in one group */
	uint8_t *table;	       /* one cluster */
	be64 *piece;	       /* of a table of 64-bit entries */
	bool has_table;	       /* false: an L1 entry of flags alone */
	uint64_t messages;
	uint64_t last_used;

	/* What was found, but for the counts in *out. */
	uint64_t copied;      /* corruptions: wrong copied flags */
	bool past_end;	      /* an active entry points past the file */
	bool is_suspect;      /* some copied flag of this window is wrong */
	bool refcounts_wrong; /* some differ */
	bool refcount_zero;   /* of something in use */
	bool needs_rebuild;   /* blocks are lost or shared */
	bool block_outside;   /* of the file: one that says nothing */
	bool l1_is_shared;
	bool is_blind; /* some references could not be found */
	struct qcow2_clashes clashes;

	bool without_refcounts; /* leave out blocks and their table */
};

/* Files are counted in sectors; the last may be there in part. */
static inline uint64_t qcow2_file_end(const struct qcow2 *q)
{
	return qi_round_up(q->file->size, 512);
}

#define QCOW2_PIECE 4096 /* entries in checker.piece */

/* ------------------------------------------------------------ check.c */

int qcow2_checker_init(struct qcow2_checker *c, struct qcow2 *q,
		       struct qi_check *out, uint64_t total,
		       struct qi_error *e);
void qcow2_checker_free(struct qcow2_checker *c);
/* Go to the next window; false at the end. */
bool qcow2_checker_next(struct qcow2_checker *c);
/* Count all references into the window. */
int qcow2_check_count(struct qcow2_checker *c, struct qi_error *e);
/* A reference to each cluster of [from, to). */
void qcow2_check_add(struct qcow2_checker *c, uint64_t from, uint64_t to);
void qcow2_check_say(struct qcow2_checker *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
uint64_t qcow2_check_found(const struct qcow2_checker *c, uint64_t cluster);
/* Does [off, off + len) end a cluster or more after the file? */
bool qcow2_is_past_end(const struct qcow2 *q, uint64_t off, uint64_t len);

/* ------------------------------------------------------ check-count.c */

/* False: no memory. */
bool qcow2_counts_init(struct qcow2_counts *n, unsigned planes, size_t words);
void qcow2_counts_clear(struct qcow2_counts *n);
void qcow2_counts_free(struct qcow2_counts *n);
/*
 * One more for the clusters of `mask` in word `at`; those are returned that
 * have as many already as can be counted.
 */
uint64_t qcow2_counts_add(struct qcow2_counts *n, size_t at, uint64_t mask);
uint64_t qcow2_counts_get(const struct qcow2_counts *n, uint64_t i);
/* Have all clusters of a word the same count? */
bool qcow2_counts_agree(const struct qcow2_counts *n, size_t at,
			uint64_t *count);
/* Has any cluster of [from, to) a reference? `from` is a multiple of 64. */
bool qcow2_check_is_used(const struct qcow2_checker *c, uint64_t from,
			 uint64_t to);

/* --------------------------------------------------- check-compare.c */

enum qcow2_fix { QCOW2_FIX_NONE, QCOW2_FIX_LEAKS, QCOW2_FIX_ALL };

/* Compare the window with the disk; after qcow2_check_count(). */
int qcow2_check_compare(struct qcow2_checker *c, enum qcow2_fix fix,
			struct qi_error *e);
/* Count the wrong copied flags that refer into the window. */
int qcow2_check_copied(struct qcow2_checker *c, struct qi_error *e);
/* The same, and correct them in place; shared: tables used twice, too. */
int qcow2_fix_copied(struct qcow2_checker *c, bool shared, uint64_t *fixed,
		     struct qi_error *e);

/* ---------------------------------------------------- check-tables.c */

/* A table of 64-bit entries by pieces; what is past the file is zero. */
int qcow2_check_piece(struct qcow2_checker *c, uint64_t off, uint64_t from,
		      uint64_t count, struct qi_error *e);

/* An entry of the snapshot table, whatever it says. */
struct qcow2_raw_snapshot {
	struct qcow2_disk_snapshot d;
	uint64_t l1_offset;
	uint32_t l1_size, extra;
	uint64_t off, next; /* of this entry, of the next */
	const char *problem;
};
int qcow2_snapshot_at(struct qcow2 *q, uint64_t off,
		      struct qcow2_raw_snapshot *out, struct qi_error *e);
int qcow2_check_snapshots(struct qcow2_checker *c, struct qi_error *e);
int qcow2_check_bitmaps(struct qcow2_checker *c, struct qi_error *e);
/* Is an entry of a bitmap table impossible? */
bool qcow2_bitmap_entry_is_bad(const struct qcow2 *q, uint64_t entry);
int qcow2_check_l1(struct qcow2_checker *c, uint64_t off, uint32_t size,
		   bool active, struct qi_error *e);
void qcow2_check_reference(struct qcow2_checker *c, uint64_t off, uint64_t len);

/* ----------------------------------------------------------- repair-*.c */

/* What is written to the end of the file, to be switched in by the header. */
struct qcow2_repair {
	struct qcow2 *q;
	struct qi_check *out;
	const struct qcow2_clashes *clashes;
	bool move_l1;
	uint64_t file_end; /* as it was */
	uint64_t end;	   /* where the next cluster goes */
	bool changed;	   /* the header has to be written */
	uint64_t changes;
};

void qcow2_repair_say(struct qcow2_repair *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* qcow2_is_past_end() of the file as it was. */
static inline bool qcow2_repair_is_past_end(const struct qcow2_repair *r,
					    uint64_t off, uint64_t len)
{
	uint64_t end;

	return !qi_add(off, len, &end) ||
	       end >= r->file_end + r->q->cluster_size;
}
/* Write len bytes, padded to clusters, to new clusters. */
int qcow2_repair_append(struct qcow2_repair *r, const void *data, uint64_t len,
			uint64_t *off, struct qi_error *e);
/* Tables without impossible entries, in new clusters. */
int qcow2_repair_tables(struct qcow2_repair *r, struct qi_error *e);
int qcow2_repair_snapshots(struct qcow2_repair *r, struct qi_error *e);
int qcow2_repair_l1(struct qcow2_repair *r, uint64_t *off, uint32_t size,
		    bool active, struct qi_error *e);
/* A directory of the bitmaps that can be used, or none. */
int qcow2_repair_bitmaps(struct qcow2_repair *r, struct qi_error *e);
/* New blocks and a new table for them, switched in. */
int qcow2_rebuild_refcounts(struct qcow2 *q, struct qi_error *e);
/* qi_format.check with a repair wanted. */
int qcow2_check_repair(struct qcow2 *q, struct qi_check *out,
		       struct qi_error *e);
/* One pass over all windows; *c is left for its findings, to be freed. */
int qcow2_check_pass(struct qcow2_checker *c, struct qcow2 *q,
		     struct qi_check *out, bool is_quiet, bool want_clashes,
		     struct qi_error *e);

#endif
