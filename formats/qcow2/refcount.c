/* SPDX-License-Identifier: MIT */
/*
 * refcount.c - which clusters of the file are used, and how often
 *
 * Changes stay in a bounded cache until qcow2_refcounts_write(), or until it
 * is full; the caller writes and syncs before it writes a reference to a new
 * cluster, and lowers a refcount only after the last reference is gone from
 * the disk. A crash in between leaks clusters and does nothing worse. Nothing
 * refers to a cluster when it becomes free, so a hole is punched there at
 * once, or together with those beside it; but always before it is used again.
 */
#include <errno.h>

#include "formats/qcow2/refcount.h"

/* 2 MiB of refcounts: 1 Mi clusters at 16 bits. */
#define BLOCK_SLICE 65536u
#define BLOCK_BYTES (2u << 20)
#define BLOCK_SLICES_MAX 256

static uint64_t max_refcount(unsigned order)
{
	return order == 6 ? INT64_MAX : (1ull << (1u << order)) - 1;
}

int qcow2_refcounts_open(struct qcow2 *q, struct qi_error *e)
{
	uint64_t bytes = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	size_t slice = qi_min(BLOCK_SLICE, q->cluster_size);
	struct qcow2_refcounts *r;
	int ret;

	if (q->refcounts)
		return 0;
	r = calloc(1, sizeof(*r));
	if (!r)
		return qi_no_memory(e);
	q->refcounts = r;
	r->entries = bytes / sizeof(be64);
	r->block_bits = q->h.cluster_bits + 3 - q->h.refcount_order;
	r->max = max_refcount(q->h.refcount_order);
	r->table = malloc(bytes);
	if (!r->table || qcow2_cache_new(&r->blocks, q->file, slice,
					 (unsigned)qi_min(BLOCK_BYTES / slice,
							  BLOCK_SLICES_MAX)))
		ret = qi_no_memory(e);
	else
		ret = qi_file_read(q->file, q->h.reftable_offset, bytes,
				   r->table, e);
	if (ret)
		qcow2_refcounts_close(q);
	return ret;
}

void qcow2_refcounts_close(struct qcow2 *q)
{
	if (!q->refcounts)
		return;
	qcow2_cache_free(q->refcounts->blocks);
	free(q->refcounts->table);
	free(q->refcounts);
	q->refcounts = NULL;
}

static void punch_hole(struct qcow2 *q)
{
	struct qcow2_refcounts *r = q->refcounts;

	/* A damaged image may have metadata there. */
	if (r->hole_len && !qcow2_check_overlap(q, r->hole, r->hole_len, NULL))
		qi_file_discard(q->file, r->hole, r->hole_len);
	r->hole_len = 0;
}

int qcow2_refcounts_write(struct qcow2 *q, struct qi_error *e)
{
	punch_hole(q);
	return qcow2_cache_write(q->refcounts->blocks, e);
}

/* Offset of the block of a cluster; 0: there is none. */
static int block_of(struct qcow2 *q, uint64_t cluster, uint64_t *out,
		    struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t i = cluster >> r->block_bits;

	*out = 0;
	if (i >= r->entries)
		return 0;
	*out = be64_get(r->table[i]) & ~511ull;
	if (!qi_is_aligned(*out, q->cluster_size) ||
	    (*out && !qi_fits(*out, q->cluster_size, q->file->size)))
		return qcow2_damaged(q, e,
				     "refcount block %llu is at %llu, "
				     "which is not a cluster of the file",
				     (unsigned long long)i,
				     (unsigned long long)*out);
	return 0;
}

static uint64_t refcounts_per_slice(const struct qcow2 *q)
{
	return (uint64_t)qcow2_cache_slice_size(q->refcounts->blocks) * 8 >>
	       q->h.refcount_order;
}

/* The slice with the refcount of a cluster, and its index in there. */
static int find_slice(struct qcow2 *q, uint64_t cluster, uint8_t **data,
		      uint64_t *index, struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	size_t slice = qcow2_cache_slice_size(r->blocks);
	unsigned slice_bits =
		(unsigned)__builtin_ctzll(slice) + 3 - q->h.refcount_order;
	uint64_t in_block = cluster & ((1ull << r->block_bits) - 1);
	uint64_t block;
	int ret = block_of(q, cluster, &block, e);

	*data = NULL;
	if (ret || !block)
		return ret;
	*index = in_block & ((1ull << slice_bits) - 1);
	return qcow2_cache_get(
		r->blocks, block + (in_block >> slice_bits) * slice, data, e);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *out,
		       struct qi_error *e)
{
	uint64_t index;
	uint8_t *data;
	int ret = find_slice(q, cluster, &data, &index, e);

	*out = 0;
	if (!ret && data)
		*out = qcow2_refcount_load(data, index, q->h.refcount_order);
	return ret;
}

static int note_change(struct qcow2 *q, uint8_t *data, struct qi_error *e)
{
	qcow2_cache_dirty(q->refcounts->blocks, data);
	/* Too high on disk is a leak, and it is lowered only when it may be. */
	if (qcow2_cache_is_filled(q->refcounts->blocks))
		return qcow2_refcounts_write(q, e);
	return 0;
}

/* Change a value in a slice of the cache. */
static int store(struct qcow2 *q, uint8_t *data, uint64_t index, uint64_t value,
		 struct qi_error *e)
{
	qcow2_refcount_store(data, index, q->h.refcount_order, value);
	return note_change(q, data, e);
}

/* The refcounts of the first clusters, as many as one slice has, are 1. */
static int set_some(struct qcow2 *q, uint64_t cluster, uint64_t count,
		    uint64_t *done, struct qi_error *e)
{
	uint64_t index = 0;
	uint8_t *data;
	int ret = find_slice(q, cluster, &data, &index, e);

	if (ret)
		return ret;
	if (!data)
		return qcow2_damaged(q, e, "cluster %llu has no refcount block",
				     (unsigned long long)cluster);
	*done = qi_min(count, refcounts_per_slice(q) - index);
	for (uint64_t i = index; i < index + *done; i++)
		qcow2_refcount_store(data, i, q->h.refcount_order, 1);
	return note_change(q, data, e);
}

int qcow2_check_overlap(struct qcow2 *q, uint64_t off, uint64_t len,
			struct qi_error *e)
{
	const struct qcow2_header *h = &q->h;
	const struct {
		const char *what;
		uint64_t off, len;
	} tables[] = {
		{ "header", 0, q->cluster_size },
		{ "L1 table", h->l1_offset, (uint64_t)h->l1_size * 8 },
		{ "refcount table", h->reftable_offset,
		  (uint64_t)h->reftable_clusters * q->cluster_size },
		{ "snapshot table", h->snapshots_offset,
		  h->snapshot_count ? q->cluster_size : 0 },
		{ "bitmap directory", q->bitmaps.directory_offset,
		  q->bitmaps.directory_size },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(tables); i++)
		if (tables[i].len && off < tables[i].off + tables[i].len &&
		    tables[i].off < off + len)
			return qcow2_damaged(q, e,
					     "its refcounts say that the "
					     "%s at %llu is free; check it "
					     "before it is written to",
					     tables[i].what,
					     (unsigned long long)tables[i].off);
	return 0;
}

/* ------------------------------------------------------------- allocate */

static int take(struct qcow2 *q, uint64_t first, uint64_t count,
		struct qi_error *e)
{
	int ret = qcow2_check_overlap(q, first * q->cluster_size,
				      count * q->cluster_size, e);

	while (count && !ret) {
		uint64_t done = 0;

		ret = set_some(q, first, count, &done, e);
		first += done;
		count -= done;
	}
	return ret;
}

/* The first free cluster from *cluster on, with a block to count it in. */
static int find_free(struct qcow2 *q, uint64_t *cluster, struct qi_error *e)
{
	uint64_t end = refcounts_per_slice(q);

	for (;;) {
		uint64_t index, found;
		uint8_t *data = NULL;
		int ret = qi_interrupted(e);

		/* Blocks may be used twice, and say for ever that all is used.
		 */
		if (!ret && *cluster > QCOW2_OFFSET_MASK >> q->h.cluster_bits)
			ret = qi_fail(e, EFBIG, "'%s' is too large",
				      q->file->path);
		if (!ret)
			ret = find_slice(q, *cluster, &data, &index, e);
		if (!ret && !data) {
			ret = qcow2_add_block(q, *cluster, e);
			if (!ret)
				continue;
		}
		if (ret)
			return ret;
		found = qcow2_refcount_find_zero(data, index, end,
						 q->h.refcount_order);
		*cluster += found - index;
		if (found < end)
			return 0;
	}
}

/* How many clusters are free from this one on, up to `want`. */
static int count_free(struct qcow2 *q, uint64_t cluster, uint64_t want,
		      uint64_t *count, struct qi_error *e)
{
	uint64_t end = refcounts_per_slice(q);

	for (*count = 0; *count < want;) {
		uint64_t index;
		uint8_t *data;
		int ret = find_slice(q, cluster + *count, &data, &index, e);

		if (ret || !data)
			return ret;
		while (*count < want && index < end &&
		       !qcow2_refcount_load(data, index, q->h.refcount_order)) {
			++*count;
			index++;
		}
		if (index < end)
			return 0;
	}
	return 0;
}

/* The first free run of `least` to *count clusters. */
static int alloc_run(struct qcow2 *q, uint64_t least, uint64_t *count,
		     uint64_t *host_off, struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t cluster = r->hint, first = QI_NO_OFFSET, want = *count;
	int ret;

	punch_hole(q);
	for (*count = 0; *count < least; cluster += *count) {
		ret = find_free(q, &cluster, e);
		if (!ret)
			ret = count_free(q, cluster, want, count, e);
		if (ret)
			return ret;
		first = qi_min(first, cluster);
	}
	*host_off = (cluster - *count) * q->cluster_size;
	if (*host_off > QCOW2_OFFSET_MASK)
		return qi_fail(e, EFBIG, "'%s' is too large", q->file->path);
	if (q->file->is_device &&
	    !qi_fits(*host_off, *count * q->cluster_size, q->file->size))
		return qi_fail(e, ENOSPC, "the image on '%s' fills the device",
			       q->file->path);
	ret = take(q, cluster - *count, *count, e);
	if (!ret && *count)
		r->hint = first == cluster - *count ? cluster : first;
	return ret;
}

int qcow2_alloc(struct qcow2 *q, uint64_t count, uint64_t *host_off,
		struct qi_error *e)
{
	if (count >= 1ull << q->refcounts->block_bits)
		return qcow2_alloc_large(q, count, host_off, e);
	return alloc_run(q, count, &count, host_off, e);
}

int qcow2_alloc_some(struct qcow2 *q, uint64_t *count, uint64_t *host_off,
		     struct qi_error *e)
{
	return alloc_run(q, 1, count, host_off, e);
}

int qcow2_alloc_bytes(struct qcow2 *q, size_t len, uint64_t *host_off,
		      struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t room = -r->packed_end & (q->cluster_size - 1);
	uint64_t at = r->packed_end, refcount, new;
	int ret;

	if (room) {
		ret = qcow2_refcount_get(q, at >> q->h.cluster_bits, &refcount,
					 e);
		if (ret)
			return ret;
		if (refcount == r->max)
			room = 0;
	}
	if (len > room) {
		ret = qcow2_alloc(q, 1, &new, e);
		if (ret)
			return ret;
		if (!room || new != at + room) {
			at = new;
			room = 0;
		}
	}
	/* The part in the cluster that others are in already. */
	ret = qcow2_refcount_add(q, at, qi_min(len, room), 1, e);
	*host_off = at;
	r->packed_end = at + len;
	return ret;
}

/* A cluster became free. */
static void note_free(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_refcounts *r = q->refcounts;
	uint64_t off = cluster * q->cluster_size;

	if (cluster < r->hint)
		r->hint = cluster;
	if (r->packed_end >> q->h.cluster_bits == cluster)
		r->packed_end = 0;
	if (r->hole_len && r->hole + r->hole_len == off) {
		r->hole_len += q->cluster_size;
		return;
	}
	punch_hole(q);
	r->hole = off;
	r->hole_len = q->cluster_size;
}

static int at_maximum(struct qcow2 *q, struct qi_error *e)
{
	return qi_fail(e, EINVAL,
		       "refcounts of %u bits are too small for this in '%s'",
		       1u << q->h.refcount_order, q->file->path);
}

int qcow2_refcount_check(struct qcow2 *q, uint64_t host_off, uint64_t len,
			 struct qi_error *e)
{
	uint64_t last = (host_off + len - 1) >> q->h.cluster_bits;
	int ret = 0;

	for (uint64_t i = host_off >> q->h.cluster_bits; i <= last && !ret;
	     i++) {
		uint64_t refcount;

		ret = qcow2_refcount_get(q, i, &refcount, e);
		if (!ret && refcount == q->refcounts->max)
			ret = at_maximum(q, e);
	}
	return ret;
}

static int add_one(struct qcow2 *q, uint64_t cluster, int delta,
		   struct qi_error *e)
{
	struct qcow2_refcounts *r = q->refcounts;
	unsigned order = q->h.refcount_order;
	uint64_t index = 0, refcount = 0;
	uint8_t *data;
	int ret = find_slice(q, cluster, &data, &index, e);

	if (ret)
		return ret;
	if (data)
		refcount = qcow2_refcount_load(data, index, order);
	if (!refcount)
		return qcow2_damaged(q, e,
				     "cluster %llu is in use but its refcount "
				     "is 0",
				     (unsigned long long)cluster);
	if (delta > 0 && refcount == r->max)
		return at_maximum(q, e);
	ret = store(q, data, index, delta > 0 ? refcount + 1 : refcount - 1, e);
	if (!ret && delta < 0 && refcount == 1)
		note_free(q, cluster);
	return ret;
}

int qcow2_refcount_add(struct qcow2 *q, uint64_t host_off, uint64_t len,
		       int delta, struct qi_error *e)
{
	uint64_t first = host_off >> q->h.cluster_bits;
	uint64_t last = (host_off + len - 1) >> q->h.cluster_bits;
	int ret = 0;

	for (uint64_t i = first; len && i <= last && !ret; i++)
		ret = add_one(q, i, delta, e);
	return ret;
}

int qcow2_free(struct qcow2 *q, uint64_t host_off, uint64_t len,
	       struct qi_error *e)
{
	return qcow2_refcount_add(q, host_off, len, -1, e);
}

int qcow2_store(struct qcow2 *q, const void *data, uint64_t bytes,
		uint64_t *off, struct qi_error *e)
{
	uint64_t padded = qi_round_up(bytes, q->cluster_size);
	QI_AUTOFREE uint8_t *buf = NULL;
	int ret;

	*off = 0;
	if (!bytes)
		return 0;
	buf = calloc(1, padded);
	if (!buf)
		return qi_no_memory(e);
	memcpy(buf, data, bytes);
	ret = qcow2_alloc(q, padded / q->cluster_size, off, e);
	return ret ? ret : qi_file_write(q->file, *off, padded, buf, e);
}
