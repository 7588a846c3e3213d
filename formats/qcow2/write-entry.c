/* SPDX-License-Identifier: MIT */
/* write-entry.c - zeroes, packed clusters, and writes inside one cluster */
#include <errno.h>

#include "formats/qcow2/edit.h"

/* The bits of [off, off + len), whole subclusters of one cluster. */
static uint64_t subcluster_mask(const struct qcow2 *q, uint64_t off,
				uint64_t len)
{
	uint64_t in = off & (q->cluster_size - 1);
	uint64_t sub = q->cluster_size / QCOW2_SUBCLUSTERS;
	uint64_t first = in / sub, end = (in + len - 1) / sub + 1;

	return (UINT32_MAX >> (QCOW2_SUBCLUSTERS - (end - first))) << first;
}

/* ---------------------------------------------------------------- zeroes */

/* Does a cluster that is not mapped show, or will it, another file? */
static bool has_below(const struct editor *w)
{
	return w->q->h.backing_name || w->base.gets_backing;
}

static bool is_unallocated(const struct qcow2 *q, struct entry x)
{
	return !(x.word & QCOW2_COMPRESSED) && !x.bits &&
	       qcow2_entry_host(q, x) == QI_NO_OFFSET &&
	       (qcow2_has_subclusters(q) || !(x.word & QCOW2_ZERO));
}

/*
 * What an entry becomes that reads as zero. With a backing file, and in
 * place of what was allocated, that is said by a bit, as QEMU does it.
 */
static struct entry zeroed(const struct editor *w, struct entry x, bool keep)
{
	const struct qcow2 *q = w->q;
	struct entry none = { 0, 0 };

	if (q->h.version < 3 || (!has_below(w) && is_unallocated(q, x)))
		return none;
	if (!keep || qcow2_entry_host(q, x) == QI_NO_OFFSET)
		x.word = 0;
	if (qcow2_has_subclusters(q))
		x.bits = SUBCLUSTERS_ZERO;
	else
		x.word |= QCOW2_ZERO;
	return x;
}

static int zero_entries(struct editor *w, be64 *entries, uint64_t n, bool keep,
			struct qi_error *e)
{
	const struct qcow2 *q = w->q;
	int ret = 0;

	for (uint64_t i = 0; i < n && !ret; i++) {
		struct entry old = qcow2_entry_get(q, entries, i);
		struct entry new = zeroed(w, old, keep);

		if (qcow2_entry_host(q, old) != qcow2_entry_host(q, new) ||
		    old.word & QCOW2_COMPRESSED)
			ret = qcow2_edit_drop(w, old, e);
		if (!ret)
			qcow2_entry_put(w, entries, i, new);
	}
	return ret;
}

/* Nothing is mapped in the table of off, and nothing shows through. */
static bool reads_zero_anyway(const struct editor *w, uint64_t off)
{
	return !has_below(w) && !qcow2_edit_has_table(w, off);
}

/* In a raw data file the zeroes themselves are wanted. */
static int zero_raw_data(struct qcow2 *q, uint64_t off, uint64_t len, bool keep,
			 struct qi_error *e)
{
	if (!(q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA) || !q->data)
		return 0;
	len = qi_min(len, q->h.size - off);
	return keep ? qi_file_zero(q->data, off, len, e) :
		      qi_file_punch(q->data, off, len, e);
}

static int zero_locked(struct editor *w, uint64_t off, uint64_t len, bool keep,
		       struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t left = qi_div_up(len, q->cluster_size);
	uint64_t per_table = 1ull << q->l2_bits;
	int ret;

	/* Version 2 has no zero clusters. */
	if (q->h.version < 3 && has_below(w))
		return -ENOTSUP;
	ret = zero_raw_data(q, off, len, keep, e);
	while (left && !ret) {
		uint64_t in = off >> q->h.cluster_bits & (per_table - 1);
		uint64_t n = qi_min(left, per_table - in), count;
		be64 *entries;

		if (!reads_zero_anyway(w, off)) {
			ret = qcow2_edit_begin(w, e);
			if (!ret)
				ret = qcow2_edit_entries(w, off, &entries,
							 &count, e);
			if (ret)
				return ret;
			n = qi_min(left, count);
			ret = zero_entries(w, entries, n, keep, e);
		}
		left -= n;
		off += n * q->cluster_size;
	}
	return ret;
}

static int zero(struct qi_writer *base, uint64_t off, uint64_t len, bool keep,
		struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	pthread_mutex_lock(&w->q->lock);
	ret = zero_locked(w, off, len, keep, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret;
}

int qcow2_edit_zero(struct qi_writer *base, uint64_t off, uint64_t len,
		    struct qi_error *e)
{
	return zero(base, off, len, false, e);
}

int qcow2_edit_zero_kept(struct qi_writer *base, uint64_t off, uint64_t len,
			 struct qi_error *e)
{
	return zero(base, off, len, true, e);
}

static int zero_inside_locked(struct editor *w, uint64_t off, uint64_t len,
			      struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t mask, count;
	struct entry x;
	be64 *entries;
	int ret;

	if (!qcow2_has_subclusters(q))
		return -ENOTSUP;
	if (reads_zero_anyway(w, off))
		return zero_raw_data(q, off, len, true, e);
	ret = qcow2_edit_begin(w, e);
	if (!ret)
		ret = qcow2_edit_entries(w, off, &entries, &count, e);
	if (ret)
		return ret;
	x = qcow2_entry_get(q, entries, 0);
	if (x.word & QCOW2_COMPRESSED)
		return -ENOTSUP;
	ret = zero_raw_data(q, off, len, true, e);
	mask = subcluster_mask(q, off, len);
	x.bits = (x.bits & ~mask) | mask << QCOW2_SUBCLUSTERS;
	if (!ret)
		qcow2_entry_put(w, entries, 0, x);
	return ret;
}

int qcow2_edit_zero_inside(struct qi_writer *base, uint64_t off, uint64_t len,
			   struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	pthread_mutex_lock(&w->q->lock);
	ret = zero_inside_locked(w, off, len, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret;
}

/* ---------------------------------------------------------------- packed */

static int place_packed_locked(struct editor *w, uint64_t off, size_t len,
			       uint64_t *host_off, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	unsigned shift = 62 - (q->h.cluster_bits - 8);
	uint64_t sectors, count;
	be64 *entries;
	int ret = qcow2_edit_begin(w, e);

	if (!ret)
		ret = qcow2_edit_entries(w, off, &entries, &count, e);
	if (!ret)
		ret = qcow2_alloc_bytes(q, len, host_off, e);
	if (ret)
		return ret;
	if (*host_off >> shift)
		return qi_fail(e, EFBIG,
			       "'%s' is too large for compressed clusters",
			       q->file->path);
	ret = qcow2_edit_drop(w, qcow2_entry_get(q, entries, 0), e);
	if (ret)
		return ret;
	sectors = ((*host_off & 511) + len - 1) / 512;
	qcow2_entry_put(w, entries, 0,
			(struct entry){ QCOW2_COMPRESSED | sectors << shift |
						*host_off,
					0 });
	return 0;
}

int qcow2_edit_place_packed(struct qi_writer *base, uint64_t off, size_t len,
			    uint64_t *host_off, struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	pthread_mutex_lock(&w->q->lock);
	ret = place_packed_locked(w, off, len, host_off, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret;
}

/* ---------------------------------------------------------------- inside */

/* Can all of [off, off + len) be written over where it is? */
static bool is_in_place(const struct qcow2 *q, struct entry x, uint64_t mask)
{
	if (!qcow2_entry_is_own(q, x))
		return false;
	if (qcow2_has_subclusters(q))
		return (x.bits & mask) == mask;
	return q->h.version < 3 || !(x.word & QCOW2_ZERO);
}

/*
 * Whole subclusters: in the cluster that is there, or in a new one, when
 * there is nothing else in the old one.
 */
static int place_subclusters(struct editor *w, uint64_t off, uint64_t mask,
			     be64 *entries, uint64_t *host, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	struct entry x = qcow2_entry_get(q, entries, 0);
	int ret = 0;

	if (qcow2_entry_is_own(q, x)) {
		*host = qcow2_entry_host(q, x);
	} else if (x.word & QCOW2_COMPRESSED ||
		   x.bits & ~mask & SUBCLUSTERS_DATA) {
		return 0;
	} else {
		*host = qi_round_down(off, q->cluster_size);
		if (!qcow2_has_data_file(q))
			ret = qcow2_alloc(q, 1, host, e);
		if (!ret)
			ret = qcow2_edit_drop(w, x, e);
		x.word = *host | QCOW2_COPIED;
	}
	x.bits = (x.bits & ~(mask << QCOW2_SUBCLUSTERS)) | mask;
	if (!ret)
		qcow2_entry_put(w, entries, 0, x);
	return ret;
}

static int place_inside_locked(struct editor *w, uint64_t off, uint64_t len,
			       uint64_t *host_off, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t in = off & (q->cluster_size - 1);
	uint64_t host = QI_NO_OFFSET, mask = 0, count;
	struct entry x;
	be64 *entries;
	int ret = qcow2_edit_begin(w, e);

	if (!ret)
		ret = qcow2_edit_entries(w, off, &entries, &count, e);
	if (ret)
		return ret;
	if (qcow2_has_subclusters(q))
		mask = subcluster_mask(q, off, len);
	x = qcow2_entry_get(q, entries, 0);
	if (is_in_place(q, x, mask))
		host = qcow2_entry_host(q, x);
	else if (mask && qi_is_aligned(off | len, w->base.part))
		ret = place_subclusters(w, off, mask, entries, &host, e);
	if (!ret && host != QI_NO_OFFSET)
		ret = qcow2_edit_check_host(w, off - in, host, q->cluster_size,
					    e);
	*host_off = host == QI_NO_OFFSET ? host : host + in;
	if (!ret && host != QI_NO_OFFSET)
		qcow2_edit_keep_data(w, *host_off, len);
	return ret;
}

int qcow2_edit_place_inside(struct qi_writer *base, uint64_t off, uint64_t len,
			    uint64_t *host_off, struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	pthread_mutex_lock(&w->q->lock);
	ret = place_inside_locked(w, off, len, host_off, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret;
}
