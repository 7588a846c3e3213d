/* SPDX-License-Identifier: MIT */
/* refcount-grow.c - more refcount blocks, and a longer table of them */
#include <errno.h>

#include "formats/qcow2/refcount.h"

/*
 * How many blocks and table clusters, put from the range of block `first` on,
 * describe themselves and everything before.
 */
static void plan_growth(struct qcow2 *q, uint64_t first, uint64_t *blocks,
			uint64_t *table_clusters)
{
	uint64_t per_block = 1ull << q->refcounts->block_bits;
	uint64_t per_cluster = q->cluster_size / sizeof(be64);

	*blocks = 1;
	for (;;) {
		/* Half as much again, so that growth stays rare. */
		uint64_t entries = first + *blocks;
		uint64_t used;

		*table_clusters = qi_div_up(entries + entries / 2, per_cluster);
		used = *blocks + *table_clusters;
		if (used <= *blocks * per_block)
			return;
		*blocks = qi_div_up(used, per_block);
	}
}

/* Write a block whose first `used` clusters have refcount 1. */
static int write_block(struct qcow2 *q, uint64_t at, uint64_t used,
		       struct qi_error *e)
{
	QI_AUTOFREE uint8_t *block = calloc(1, q->cluster_size);

	if (!block)
		return qi_no_memory(e);
	for (uint64_t i = 0; i < used; i++)
		qcow2_refcount_store(block, i, q->h.refcount_order, 1);
	return qi_file_write(q->file, at, q->cluster_size, block, e);
}

/* A longer refcount table, with the blocks for itself, past all others. */
static int grow_table(struct qcow2 *q, struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t per_block = 1ull << r->block_bits, first = r->entries;
	uint64_t blocks, clusters, used, start, bytes, old_off, old_len;
	be64 *table;
	int ret = 0;

	plan_growth(q, first, &blocks, &clusters);
	start = (first << r->block_bits) * q->cluster_size;
	bytes = clusters * q->cluster_size;
	if (bytes > QCOW2_MAX_REFTABLE_BYTES)
		return qi_fail(e, EFBIG,
			       "'%s' cannot grow: its refcount table "
			       "is as long as it may be",
			       q->file->path);
	table = calloc(1, bytes);
	if (!table)
		return qi_no_memory(e);
	memcpy(table, r->table, r->entries * sizeof(be64));
	used = blocks + clusters;
	for (uint64_t i = 0; i < blocks && !ret; i++) {
		uint64_t at = start + i * q->cluster_size;

		table[first + i] = be64_put(at);
		ret = write_block(q, at, qi_min(used, per_block), e);
		used -= qi_min(used, per_block);
	}
	if (!ret)
		ret = qi_file_write(q->file, start + blocks * q->cluster_size,
				    bytes, table, e);
	if (ret) {
		free(table);
		return ret;
	}
	old_off = q->h.reftable_offset;
	old_len = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	q->h.reftable_offset = start + blocks * q->cluster_size;
	q->h.reftable_clusters = (uint32_t)clusters;
	free(r->table);
	r->table = table;
	r->entries = bytes / sizeof(be64);
	ret = qcow2_header_commit(q, e);
	return ret ? ret : qcow2_free(q, old_off, old_len, e);
}

/*
 * Give the range of `cluster` a block: the first cluster of the range, which
 * is free, because without a block nothing in the range was ever used.
 */
int qcow2_add_block(struct qcow2 *q, uint64_t cluster, struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t i = cluster >> r->block_bits;
	uint64_t at = (i << r->block_bits) * q->cluster_size;
	be64 entry = be64_put(at);
	int ret;

	if (i >= r->entries)
		return grow_table(q, e);
	/* A block that is missing where there must be one is damage. */
	ret = qcow2_check_overlap(q, at, q->cluster_size, e);
	if (ret)
		return ret;
	ret = write_block(q, at, 1, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	if (!ret)
		ret = qi_file_write(q->file,
				    q->h.reftable_offset + i * sizeof(entry),
				    sizeof(entry), &entry, e);
	if (!ret)
		r->table[i] = entry;
	return ret;
}

/* Refcounts 1 for `used` clusters from the range of block `first` on. */
static int write_blocks(struct qcow2 *q, uint64_t first, uint64_t count,
			uint64_t at, uint64_t used, struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t per_block = 1ull << r->block_bits;
	int ret = 0;

	for (uint64_t i = 0; i < count && !ret; i++) {
		uint64_t n = qi_min(used, per_block);

		ret = write_block(q, at + i * q->cluster_size, n, e);
		r->table[first + i] = be64_put(at + i * q->cluster_size);
		used -= n;
	}
	if (!ret)
		ret = qi_file_sync(q->file, e);
	return ret ? ret :
		     qi_file_write(q->file,
				   q->h.reftable_offset + first * sizeof(be64),
				   count * sizeof(be64), &r->table[first], e);
}

/*
 * More clusters than one block describes would never be adjacent, because new
 * blocks lie between them. So they go past all others, and their blocks after
 * them.
 */
int qcow2_alloc_large(struct qcow2 *q, uint64_t count, uint64_t *host_off,
		      struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t per_block = 1ull << r->block_bits;
	uint64_t blocks = qi_div_up(count, per_block - 1), first;
	int ret = 0;

	for (;;) {
		first = r->entries;
		while (first && !be64_get(r->table[first - 1]))
			first--;
		if (ret || first + blocks <= r->entries)
			break;
		ret = grow_table(q, e);
	}
	if (ret)
		return ret;
	*host_off = (first << r->block_bits) * q->cluster_size;
	ret = qcow2_check_overlap(q, *host_off,
				  (count + blocks) * q->cluster_size, e);
	return ret ? ret :
		     write_blocks(q, first, blocks,
				  *host_off + count * q->cluster_size,
				  count + blocks, e);
}
