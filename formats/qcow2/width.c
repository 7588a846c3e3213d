/* SPDX-License-Identifier: MIT */
/*
 * width.c - the same refcounts with more or fewer bits
 *
 * Order of writes: new blocks and a new table, past everything that is used,
 * so that the old refcounts need not know them; sync; one header write; sync;
 * then the old blocks and table are freed by the new refcounts. A run that
 * ends before the header is written leaves a longer file; later it leaks.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

#define MAX_ENTRIES (QCOW2_MAX_REFTABLE_BYTES / sizeof(be64))

struct width {
	struct qcow2 *q;
	unsigned order;
	unsigned block_bits, old_block_bits; /* log2 of refcounts in a block */
	be64 *old;			     /* refcount table */
	uint64_t old_entries;		     /* of it, up to the last block */
	uint64_t end; /* clusters from here on are not used */
	/* The new structures: [start, start + blocks + table_clusters). */
	uint64_t start, blocks, table_clusters;
	be64 *table; /* new; until it is laid out, not 0: a block is needed */
	uint64_t entries;
	const struct qi_progress *progress;
};

static uint64_t largest(unsigned order)
{
	return order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}

static unsigned block_bits(const struct qcow2 *q, unsigned order)
{
	return q->h.cluster_bits + 3 - order;
}

/* In bytes of refcount blocks. */
static void tell(const struct width *w, uint64_t done, uint64_t total)
{
	if (w->progress && w->progress->fn)
		w->progress->fn(w->progress->arg, done * w->q->cluster_size,
				total * w->q->cluster_size);
}

/* The new table has a block for the range of this cluster. */
static int need_block(struct width *w, uint64_t cluster, struct qi_error *e)
{
	uint64_t i = cluster >> w->block_bits;

	if (i >= MAX_ENTRIES)
		return qi_fail(e, EFBIG,
			       "'%s' is too large for refcounts of %u bits: "
			       "their table would be longer than it may be",
			       w->q->file->name, 1u << w->order);
	w->table[i] = be64_put(1);
	w->entries = qi_max(w->entries, i + 1);
	return 0;
}

static int too_large(const struct width *w, uint64_t cluster, uint64_t value,
		     struct qi_error *e)
{
	qi_fail(e, ERANGE,
		"'%s' cannot have refcounts of %u bits: cluster %llu is "
		"referred to %llu times, by internal snapshots",
		w->q->file->name, 1u << w->order, (unsigned long long)cluster,
		(unsigned long long)value);
	return qi_stock(e, -ERANGE,
			"Cannot decrease refcount entry width to %u bits: "
			"Cluster at offset 0x%llx has a refcount of %llu",
			1u << w->order,
			(unsigned long long)cluster * w->q->cluster_size,
			(unsigned long long)value);
}

static int survey_block(struct width *w, uint64_t i, const uint8_t *block,
			struct qi_error *e)
{
	struct qcow2 *q = w->q;
	int ret = 0;

	for (uint64_t j = 0; j < 1ull << w->old_block_bits && !ret; j++) {
		uint64_t value =
			qcow2_refcount_load(block, j, q->h.refcount_order);
		uint64_t cluster = (i << w->old_block_bits) + j;

		if (!value)
			continue;
		if (value > largest(w->order))
			return too_large(w, cluster, value, e);
		w->end = cluster + 1;
		ret = need_block(w, cluster, e);
	}
	return ret;
}

/* Look at all refcounts: which new blocks are needed, and do they fit? */
static int survey(struct width *w, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	QI_AUTOFREE uint8_t *block = qi_alloc_aligned(q->cluster_size);
	int ret = block ? 0 : qi_no_memory(e);

	for (uint64_t i = 0; i < w->old_entries && !ret; i++) {
		uint64_t off = be64_get(w->old[i]) & ~511ull;

		tell(w, i, 2 * w->old_entries);
		ret = qi_interrupted(e);
		if (ret || !off)
			continue;
		ret = qi_file_read(q->file, off, q->cluster_size, block, e);
		if (!ret)
			ret = survey_block(w, i, block, e);
	}
	return ret;
}

static int start(struct width *w, struct qcow2 *q, unsigned order,
		 struct qi_error *e)
{
	uint64_t bytes = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	int ret;

	*w = (struct width){
		.q = q,
		.order = order,
		.block_bits = block_bits(q, order),
		.old_block_bits = block_bits(q, q->h.refcount_order),
		.old = malloc(bytes),
		.table = calloc(MAX_ENTRIES + 1, sizeof(be64)),
		.old_entries = bytes / sizeof(be64),
	};
	if (!w->old || !w->table)
		return qi_no_memory(e);
	ret = qi_file_read(q->file, q->h.reftable_offset, bytes, w->old, e);
	while (!ret && w->old_entries &&
	       !(be64_get(w->old[w->old_entries - 1]) & ~511ull))
		w->old_entries--;
	return ret;
}

static void finish(struct width *w)
{
	free(w->old);
	free(w->table);
}

int qcow2_width_check(struct qcow2 *q, unsigned order, struct qi_error *e)
{
	struct width w;
	int ret = start(&w, q, order, e);

	if (!ret)
		ret = survey(&w, e);
	finish(&w);
	return ret;
}

/* -------------------------------------------------------------- building */

/* Blocks for all that is used and for the new structures themselves. */
static int lay_out(struct width *w, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t per_cluster = q->cluster_size / sizeof(be64), before;
	int ret = 0;

	w->start = w->end;
	if (qi_file_is_regular(q->file))
		w->start = qi_max(w->end, qcow2_clusters(q, q->file->size));
	do {
		before = w->blocks + w->table_clusters;
		w->blocks = 0;
		for (uint64_t i = 0; i < w->entries; i++)
			w->blocks += be64_get(w->table[i]) != 0;
		w->table_clusters = qi_div_up(w->entries, per_cluster);
		for (uint64_t i = 0; i < w->blocks + w->table_clusters && !ret;
		     i++)
			ret = need_block(w, w->start + i, e);
	} while (!ret && before != w->blocks + w->table_clusters);
	return ret;
}

static int fill_block(struct width *w, uint64_t i, uint8_t *block,
		      struct qi_error *e)
{
	uint64_t first = i << w->block_bits;
	uint64_t end = w->start + w->blocks + w->table_clusters;
	int ret = 0;

	memset(block, 0, w->q->cluster_size);
	for (uint64_t j = 0; j < 1ull << w->block_bits && !ret; j++) {
		uint64_t value = 1;

		if (first + j < w->start || first + j >= end)
			ret = qcow2_refcount_get(w->q, first + j, &value, e);
		qcow2_refcount_store(block, j, w->order, value);
	}
	return ret;
}

static int write_new(struct width *w, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	QI_AUTOFREE uint8_t *block = qi_alloc_aligned(q->cluster_size);
	uint64_t at = w->start * q->cluster_size;
	int ret = block ? 0 : qi_no_memory(e);

	for (uint64_t i = 0; i < w->entries && !ret; i++) {
		tell(w, w->entries + i, 2 * w->entries);
		ret = qi_interrupted(e);
		if (ret || !be64_get(w->table[i]))
			continue;
		ret = fill_block(w, i, block, e);
		if (!ret)
			ret = qi_file_write(q->file, at, q->cluster_size, block,
					    e);
		w->table[i] = be64_put(at);
		at += q->cluster_size;
	}
	return ret ? ret :
		     qi_file_write(q->file, at,
				   w->table_clusters * q->cluster_size,
				   w->table, e);
}

int qcow2_width_build(struct qcow2 *q, unsigned order,
		      const struct qi_progress *progress,
		      struct qcow2_rebuilt *out, struct qi_error *e)
{
	uint64_t len = q->file->size;
	struct width w;
	int ret = start(&w, q, order, e);

	w.progress = progress;
	if (!ret)
		ret = qcow2_refcounts_open(q, e);
	if (!ret)
		ret = qcow2_refcounts_write(q, e);
	if (!ret)
		ret = survey(&w, e);
	if (!ret)
		ret = lay_out(&w, e);
	if (!ret) {
		ret = write_new(&w, e);
		/* What was written is nothing but the end of the file. */
		if (ret && qi_file_is_regular(q->file))
			qi_file_resize(q->file, len, NULL);
	}
	*out = (struct qcow2_rebuilt){
		.order = order,
		.table_offset = (w.start + w.blocks) * q->cluster_size,
		.table_clusters = (uint32_t)w.table_clusters,
	};
	finish(&w);
	return ret;
}

/* ------------------------------------------------------------- switching */

static int free_old(const struct width *w, uint64_t table_off,
		    uint64_t table_len, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	int ret = qcow2_refcounts_open(q, e);

	for (uint64_t i = 0; i < w->old_entries && !ret; i++) {
		uint64_t off = be64_get(w->old[i]) & ~511ull;

		if (off)
			ret = qcow2_free(q, off, q->cluster_size, e);
	}
	if (!ret)
		ret = qcow2_free(q, table_off, table_len, e);
	return ret ? ret : qcow2_refcounts_write(q, e);
}

int qcow2_width_switch(struct qcow2 *q, const struct qcow2_rebuilt *new,
		       struct qi_error *e)
{
	uint64_t off = q->h.reftable_offset;
	uint64_t len = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	struct qi_error why;
	struct width w;
	int ret = start(&w, q, new->order, e);

	if (!ret) {
		q->h.refcount_order = new->order;
		q->h.reftable_offset = new->table_offset;
		q->h.reftable_clusters = new->table_clusters;
		qcow2_refcounts_close(q);
		ret = qcow2_header_commit(q, e);
	}
	/* It is done: what cannot be freed is a leak, no failure. */
	if (!ret && free_old(&w, off, len, &why))
		qi_warn(q->node->graph,
			"%s; the old refcounts stay allocated in the image",
			why.text);
	finish(&w);
	return ret;
}
