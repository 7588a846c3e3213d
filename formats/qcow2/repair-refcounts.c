/* SPDX-License-Identifier: MIT */
/*
 * repair-refcounts.c - refcounts made anew from the references
 *
 * The new table and its blocks go to the end of the file; blocks that would
 * be empty are left out. The first walk finds out which are needed, the
 * second fills them. The old ones stay as they are; nothing refers to them
 * once the header is written, and the new refcounts call them free.
 */
#include <errno.h>

#include "formats/qcow2/check.h"

struct plan {
	struct qcow2 *q;
	unsigned block_bits;
	uint64_t start; /* first of the new clusters */
	uint64_t total; /* one past the last */
	uint64_t blocks, table_clusters;
	be64 *table; /* as it will be; until then 1: a block is needed */
};

static uint64_t entries_for(const struct plan *p, uint64_t clusters)
{
	return ((clusters - 1) >> p->block_bits) + 1;
}

typedef int each_block(struct plan *p, struct qcow2_checker *c, uint64_t i,
		       uint64_t from, uint64_t to, struct qi_error *e);

/* Count references to the first `total` clusters, and go block by block. */
static int walk(struct plan *p, uint64_t total, each_block *fn,
		struct qi_error *e)
{
	struct qi_check ignored = { .finding = NULL };
	struct qcow2_checker c;
	int ret = qcow2_checker_init(&c, p->q, &ignored, total, e);

	c.without_refcounts = true;
	while (!ret && qcow2_checker_next(&c)) {
		uint64_t per_block = 1ull << p->block_bits;

		ret = qcow2_check_count(&c, e);
		if (p->total)
			qcow2_check_add(&c, p->start, p->total);
		for (uint64_t at = c.first; at < c.end && !ret; at += per_block)
			ret = fn(p, &c, at >> p->block_bits, at,
				 qi_min(at + per_block, c.end), e);
	}
	qcow2_checker_free(&c);
	return ret;
}

static int note_block(struct plan *p, struct qcow2_checker *c, uint64_t i,
		      uint64_t from, uint64_t to, struct qi_error *e)
{
	(void)e;
	if (qcow2_check_is_used(c, from, to))
		p->table[i] = be64_put(1);
	return 0;
}

static int write_block(struct plan *p, struct qcow2_checker *c, uint64_t i,
		       uint64_t from, uint64_t to, struct qi_error *e)
{
	struct qcow2 *q = p->q;
	uint64_t block = be64_get(p->table[i]);

	if (!block)
		return 0;
	memset(c->table, 0, q->cluster_size);
	for (uint64_t j = from; j < to; j++)
		qcow2_refcount_store(c->table, j - from, q->h.refcount_order,
				     qcow2_check_found(c, j));
	return qi_file_write(q->file, block, q->cluster_size, c->table, e);
}

/* Which blocks, and where: the new clusters must have refcounts as well. */
static int lay_out(struct plan *p, struct qi_error *e)
{
	uint64_t per_cluster = p->q->cluster_size / sizeof(be64), at;

	p->total = p->start;
	for (;;) {
		uint64_t entries = entries_for(p, p->total + 1), blocks = 0;

		if (entries * sizeof(be64) > QCOW2_MAX_REFTABLE_BYTES)
			return qi_fail(e, EFBIG,
				       "cannot repair '%s': it is too large "
				       "for a refcount table",
				       p->q->file->path);
		for (uint64_t i = p->start >> p->block_bits; i < entries; i++)
			p->table[i] = be64_put(1);
		for (uint64_t i = 0; i < entries; i++)
			blocks += be64_get(p->table[i]) != 0;
		p->blocks = blocks;
		p->table_clusters = qi_div_up(entries, per_cluster);
		if (p->start + p->blocks + p->table_clusters <= p->total)
			break;
		p->total = p->start + p->blocks + p->table_clusters;
	}
	at = p->start + p->table_clusters;
	for (uint64_t i = 0; i < entries_for(p, p->total + 1); i++)
		if (be64_get(p->table[i]))
			p->table[i] = be64_put(at++ * p->q->cluster_size);
	return 0;
}

static int rebuild(struct plan *p, struct qi_error *e)
{
	struct qcow2 *q = p->q;
	uint64_t bytes;
	int ret;

	/* A region may end in the cluster after the last. */
	p->start = qcow2_clusters(q, q->file->size) + 1;
	if (entries_for(p, p->start) * sizeof(be64) > QCOW2_MAX_REFTABLE_BYTES)
		return qi_fail(e, EFBIG,
			       "cannot repair '%s': it is too large for a "
			       "refcount table",
			       q->file->path);
	ret = walk(p, p->start, note_block, e);
	if (!ret)
		ret = lay_out(p, e);
	if (!ret)
		ret = walk(p, p->total, write_block, e);
	if (ret)
		return ret;
	bytes = p->table_clusters * q->cluster_size;
	ret = qi_file_write(q->file, p->start * q->cluster_size, bytes,
			    p->table, e);
	q->h.reftable_offset = p->start * q->cluster_size;
	q->h.reftable_clusters = (uint32_t)p->table_clusters;
	return ret ? ret : qcow2_header_commit(q, e);
}

int qcow2_rebuild_refcounts(struct qcow2 *q, struct qi_error *e)
{
	struct plan p = { .q = q,
			  .block_bits =
				  q->h.cluster_bits + 3 - q->h.refcount_order };
	int ret;

	/* The largest table there can be, and a cluster more for its end. */
	p.table = calloc(1, QCOW2_MAX_REFTABLE_BYTES + q->cluster_size);
	ret = p.table ? rebuild(&p, e) : qi_no_memory(e);
	free(p.table);
	return ret;
}
