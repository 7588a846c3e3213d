/* SPDX-License-Identifier: MIT */
/*
 * empty.c - an image forgets all its clusters
 *
 * Order of writes: an L1 table without entries into new clusters; one header
 * write switches to it; then what nothing refers to is freed. Snapshots and
 * bitmaps keep what they have.
 */
#include "formats/qcow2/qcow2.h"

static int write_table(struct qcow2 *q, uint64_t bytes, uint64_t *off,
		       struct qi_error *e)
{
	int ret = qcow2_alloc(q, bytes / q->cluster_size, off, e);

	if (!ret)
		ret = qi_file_write_zeroes(q->file, *off, bytes, e);
	return ret ? ret : qcow2_refcounts_write(q, e);
}

static int free_old(struct qcow2 *q, const be64 *l1, uint64_t off,
		    struct qi_error *e)
{
	uint64_t len = (uint64_t)q->h.l1_size * sizeof(be64);
	int ret = qcow2_share(q, l1, q->h.l1_size, -1, e);

	if (!ret)
		ret = qcow2_free(q, off, len, e);
	if (!ret)
		ret = qcow2_refcounts_write(q, e);
	return ret ? ret : qi_file_sync(q->file, e);
}

int qcow2_make_empty(struct qi_node *n, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t bytes = qi_round_up((uint64_t)q->h.l1_size * sizeof(be64),
				     q->cluster_size);
	uint64_t old_off = q->h.l1_offset, old_bits = q->h.autoclear, off = 0;
	QI_AUTOFREE be64 *old = NULL;
	struct qi_error why;
	int ret;

	if (!bytes)
		return 0;
	ret = qcow2_refcounts_open(q, e);
	if (!ret)
		ret = qcow2_l1_load(q, e);
	if (!ret)
		ret = write_table(q, bytes, &off, e);
	if (ret)
		return ret;
	q->h.l1_offset = off;
	/* Bits of features that we do not know must go before a write. */
	q->h.autoclear &= QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW_DATA;
	ret = qcow2_header_commit(q, e);
	if (ret) {
		q->h.l1_offset = old_off;
		q->h.autoclear = old_bits;
		return ret;
	}
	old = q->l1;
	q->l1 = NULL;
	qcow2_cache_forget(q->l2);
	/* It is done: what cannot be freed is a leak, no failure. */
	if (free_old(q, old, old_off, &why))
		qi_warn(n->graph,
			"%s; old clusters stay allocated in the image",
			why.text);
	return 0;
}
