/* SPDX-License-Identifier: MIT */
/*
 * resize.c - another size of the virtual disk
 *
 * Order of writes: a longer L1 table into new clusters; then size, table and
 * the bitmaps that fit by one header write; then the old table is freed.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

/* A longer copy of the L1 table in new clusters. */
static int copy_l1(struct qcow2 *q, uint32_t entries, uint64_t *off,
		   struct qi_error *e)
{
	uint64_t bytes =
		qi_round_up((uint64_t)entries * sizeof(be64), q->cluster_size);
	be64 *l1 = calloc(1, bytes);
	int ret = l1 ? qcow2_l1_load(q, e) : qi_no_memory(e);

	if (!ret)
		ret = qcow2_alloc(q, bytes / q->cluster_size, off, e);
	if (!ret) {
		memcpy(l1, q->l1, (size_t)q->h.l1_size * sizeof(be64));
		ret = qi_file_write(q->file, *off, bytes, l1, e);
	}
	if (ret) {
		free(l1);
		return ret;
	}
	free(q->l1);
	q->l1 = l1;
	return 0;
}

/* Change the size, with an L1 table that is long enough for `reach` bytes. */
static int set_size(struct qcow2 *q, uint64_t size, uint64_t reach,
		    struct qi_error *e)
{
	uint64_t need = qcow2_l1_entries(q->h.cluster_bits, q->l2_bits, reach);
	uint64_t old_off = q->h.l1_offset;
	uint64_t old_len = (uint64_t)q->h.l1_size * sizeof(be64);
	struct qcow2_resize resize = { size, q->h.l1_offset, q->h.l1_size };
	int ret;

	if (q->h.version < 3 && q->h.snapshot_count && size != q->h.size)
		return qi_fail(e, ENOTSUP,
			       "'%s' cannot grow: it is a version 2 image with "
			       "internal snapshots",
			       q->file->name);
	if (need * sizeof(be64) > QCOW2_MAX_L1_BYTES)
		return qi_fail(e, EFBIG,
			       "'%s' cannot grow to %llu bytes with clusters "
			       "of %u",
			       q->file->name, (unsigned long long)reach,
			       q->cluster_size);
	ret = qcow2_refcounts_open(q, e);
	if (!ret && need > q->h.l1_size) {
		resize.l1_size = (uint32_t)need;
		ret = copy_l1(q, (uint32_t)need, &resize.l1_offset, e);
	}
	if (!ret)
		ret = qcow2_bitmaps_update(q, NULL, 0, NULL, 0, &resize, e);
	if (!ret && resize.l1_offset != old_off && old_len)
		ret = qcow2_free(q, old_off, old_len, e);
	return ret ? ret : qcow2_refcounts_write(q, e);
}

int qcow2_reserve(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t need = qcow2_l1_entries(q->h.cluster_bits, q->l2_bits, size);

	return need <= q->h.l1_size ? 0 : set_size(q, q->h.size, size, e);
}

int qcow2_grow(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	return set_size(qcow2_of(n), size, size, e);
}
