/* SPDX-License-Identifier: MIT */
/*
 * trim.c - giving back the end of the file
 *
 * Refcount blocks that describe nothing but themselves would keep a file as
 * long as it is. Order of writes: their entries in the refcount table; sync;
 * then their own refcounts, where other blocks hold them; sync; then the file
 * is cut after its last cluster that is used.
 */
#include "formats/qcow2/qcow2.h"

struct trim {
	struct qcow2 *q;
	be64 *table; /* refcount table */
	uint64_t entries;
	uint64_t kept; /* entries from here on are dropped */
	unsigned block_bits;
};

static uint64_t block_at(const struct trim *t, uint64_t i)
{
	return be64_get(t->table[i]) & ~511ull;
}

/* Is it a block that is dropped, or number `self`? */
static bool is_dropped(const struct trim *t, uint64_t off, uint64_t self)
{
	for (uint64_t i = self; i < t->entries; i++)
		if (block_at(t, i) == off)
			return true;
	return false;
}

/* Does block i describe nothing but blocks that are dropped? */
static int is_empty(struct trim *t, uint64_t i, uint8_t *block, bool *empty,
		    struct qi_error *e)
{
	struct qcow2 *q = t->q;
	uint64_t first = i << t->block_bits;
	int ret = qi_file_read(q->file, block_at(t, i), q->cluster_size, block,
			       e);

	*empty = false;
	for (uint64_t j = 0; !ret && j < 1ull << t->block_bits; j++)
		if (qcow2_refcount_load(block, j, q->h.refcount_order) &&
		    !is_dropped(t, (first + j) << q->h.cluster_bits, i))
			return 0;
	*empty = !ret;
	return ret;
}

/* Find the entries at the end of the table that can go. */
static int find_kept(struct trim *t, struct qi_error *e)
{
	QI_AUTOFREE uint8_t *block = qi_alloc_aligned(t->q->cluster_size);
	int ret = block ? 0 : qi_no_memory(e);
	bool empty = true;

	for (t->kept = t->entries; !ret && t->kept > 1; t->kept--) {
		if (block_at(t, t->kept - 1))
			ret = is_empty(t, t->kept - 1, block, &empty, e);
		if (!empty)
			break;
	}
	return ret;
}

static int drop_blocks(struct trim *t, struct qi_error *e)
{
	struct qcow2 *q = t->q;
	uint64_t count = t->entries - t->kept;
	QI_AUTOFREE be64 *zeroes = calloc(count + 1, sizeof(be64));
	int ret = zeroes ? 0 : qi_no_memory(e);

	if (!ret)
		ret = qi_file_write(
			q->file, q->h.reftable_offset + t->kept * sizeof(be64),
			count * sizeof(be64), zeroes, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	qcow2_refcounts_close(q);
	if (!ret)
		ret = qcow2_refcounts_open(q, e);
	for (uint64_t i = t->kept; i < t->entries && !ret; i++) {
		uint64_t off = block_at(t, i);
		uint64_t by = off >> q->h.cluster_bits >> t->block_bits;

		if (off && by < t->kept)
			ret = qcow2_free(q, off, q->cluster_size, e);
	}
	return ret ? ret : qcow2_refcounts_write(q, e);
}

static int trim_blocks(struct qcow2 *q, struct qi_error *e)
{
	uint64_t bytes = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	QI_AUTOFREE be64 *table = malloc(bytes);
	struct trim t = {
		.q = q,
		.table = table,
		.entries = bytes / sizeof(be64),
		.block_bits = q->h.cluster_bits + 3 - q->h.refcount_order,
	};
	int ret = table ? qi_file_read(q->file, q->h.reftable_offset, bytes,
				       table, e) :
			  qi_no_memory(e);

	while (!ret && t.entries && !block_at(&t, t.entries - 1))
		t.entries--;
	if (!ret)
		ret = find_kept(&t, e);
	return ret || t.kept == t.entries ? ret : drop_blocks(&t, e);
}

static int cut_file(struct qcow2 *q, struct qi_error *e)
{
	uint64_t end = qcow2_clusters(q, q->file->size), refcount = 0;
	uint64_t size;
	int ret = 0;

	if (!qi_file_is_regular(q->file))
		return 0;
	while (!ret && end > 1) {
		ret = qcow2_refcount_get(q, end - 1, &refcount, e);
		if (refcount)
			break;
		end--;
	}
	size = end * q->cluster_size;
	if (ret || size >= q->file->size)
		return ret;
	ret = qcow2_check_overlap(q, size, q->file->size - size, e);
	return ret ? ret : qi_file_resize(q->file, size, e);
}

int qcow2_trim(struct qcow2 *q, struct qi_error *e)
{
	int ret = qcow2_refcounts_open(q, e);

	if (!ret)
		ret = qcow2_refcounts_write(q, e);
	if (!ret)
		ret = trim_blocks(q, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	return ret ? ret : cut_file(q, e);
}
