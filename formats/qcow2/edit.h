/* SPDX-License-Identifier: MIT */
/* edit.h - the parts of the in-place editor for each other */
#ifndef QCOW2_EDIT_H
#define QCOW2_EDIT_H

#include "formats/qcow2/qcow2.h"

#define EDIT_MAX_PENDING 8192

struct pending {
	uint64_t off, len; /* to be freed at the next flush */
	bool in_data;	   /* of the data file, where only a hole is made */
};

struct editor {
	struct qi_writer base;
	struct qcow2 *q;
	uint32_t l1_first, l1_end; /* changed L1 entries */
	uint64_t data_end;	   /* the data file gets no longer than this */
	uint8_t *slice;		   /* with the entries got last */
	bool is_finished;
	size_t pending_count;
	struct pending pending[EDIT_MAX_PENDING];
};

static inline struct editor *editor_of(struct qi_writer *w)
{
	return qi_container_of(w, struct editor, base);
}

/* All subclusters allocated, or all zero. */
#define SUBCLUSTERS_DATA ((uint64_t)UINT32_MAX)
#define SUBCLUSTERS_ZERO ((uint64_t)UINT32_MAX << 32)

/* An L2 entry; bits is 0 without subclusters. */
struct entry {
	uint64_t word, bits;
};

static inline bool qcow2_has_subclusters(const struct qcow2 *q)
{
	return q->l2_entry_size != sizeof(be64);
}

struct entry qcow2_entry_get(const struct qcow2 *q, const be64 *entries,
			     uint64_t i);
/* Set an entry of those that qcow2_edit_entries() gave. */
void qcow2_entry_put(struct editor *w, be64 *entries, uint64_t i,
		     struct entry new);
/* The host cluster of an entry; QI_NO_OFFSET: it is packed or has none. */
uint64_t qcow2_entry_host(const struct qcow2 *q, struct entry entry);
/* Is that cluster of this entry alone, so that it can be written? */
bool qcow2_entry_is_own(const struct qcow2 *q, struct entry entry);

/* Flush if what is held in memory has grown too large. Start of each op. */
int qcow2_edit_begin(struct editor *w, struct qi_error *e);
/*
 * The entries from that of off to the end of their slice, to be changed: in
 * a table of our own. Good until the next call.
 */
int qcow2_edit_entries(struct editor *w, uint64_t off, be64 **entries,
		       uint64_t *count, struct qi_error *e);
/* Is there an L2 table for off at all? */
bool qcow2_edit_has_table(const struct editor *w, uint64_t off);
/* Free what an entry refers to, when the change of it is durable. */
int qcow2_edit_drop(struct editor *w, struct entry entry, struct qi_error *e);
/* What is written to the data file now must not become a hole later. */
void qcow2_edit_keep_data(struct editor *w, uint64_t off, uint64_t len);
/* [host, host + len) is about to be written: it may be in the file. */
int qcow2_edit_check_host(struct editor *w, uint64_t off, uint64_t host,
			  uint64_t len, struct qi_error *e);

/* ------------------------------------------------------- write-entry.c */

int qcow2_edit_place_inside(struct qi_writer *base, uint64_t off, uint64_t len,
			    uint64_t *host_off, struct qi_error *e);
int qcow2_edit_place_packed(struct qi_writer *base, uint64_t off, size_t len,
			    uint64_t *host_off, struct qi_error *e);
int qcow2_edit_zero(struct qi_writer *base, uint64_t off, uint64_t len,
		    struct qi_error *e);
int qcow2_edit_zero_kept(struct qi_writer *base, uint64_t off, uint64_t len,
			 struct qi_error *e);
int qcow2_edit_zero_inside(struct qi_writer *base, uint64_t off, uint64_t len,
			   struct qi_error *e);

#endif
