/* SPDX-License-Identifier: MIT */
/*
 * write.c - writing guest data into an image that exists
 *
 * Order of writes, each step durable before the next begins: refcounts of new
 * clusters, data, and new L2 tables; changed L2 entries; changed L1 entries;
 * only then the refcounts of what is no longer used go down. A crash leaves
 * each cluster old or new, and at most leaks.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

#define EDIT_CACHE_BYTES (4u << 20)
#define MAX_PENDING 8192

struct pending {
	uint64_t off, len; /* to be freed at the next flush */
};

struct editor {
	struct qi_writer base;
	struct qcow2 *q;
	uint32_t l1_first, l1_end; /* changed L1 entries */
	size_t pending_count;
	struct pending pending[MAX_PENDING];
};

static struct editor *editor_of(struct qi_writer *w)
{
	return qi_container_of(w, struct editor, base);
}

int qcow2_can_write(struct qi_node *n, struct qi_error *e)
{
	const struct qcow2 *q = qcow2_of(n);
	const uint64_t bits = q->h.incompatible;

	if (bits & QCOW2_INCOMPAT_CORRUPT)
		return qi_fail(e, EUCLEAN,
			       "'%s' is marked as corrupt; repair "
			       "it with 'qemu-img check -r all %s'",
			       q->file->path, q->file->path);
	if (bits & QCOW2_INCOMPAT_DIRTY)
		return qi_fail(e, EUCLEAN,
			       "'%s' was not closed and its "
			       "refcounts are not up to date; repair it with "
			       "'qemu-img check -r all %s'",
			       q->file->path, q->file->path);
	return 0;
}

/* ---------------------------------------------------------------- flush */

static int write_l1(struct editor *w, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t off = (uint64_t)w->l1_first * sizeof(be64);
	int ret;

	if (w->l1_first >= w->l1_end)
		return 0;
	ret = qi_file_write(q->file, q->h.l1_offset + off,
			    (w->l1_end - w->l1_first) * sizeof(be64),
			    &q->l1[w->l1_first], e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	w->l1_first = UINT32_MAX;
	w->l1_end = 0;
	return ret;
}

static int flush(struct editor *w, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	int ret = qcow2_refcounts_write(q, e);

	if (!ret && q->data)
		ret = qi_file_sync(q->data, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	if (!ret)
		ret = qcow2_cache_write(q->l2, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	if (!ret)
		ret = write_l1(w, e);
	for (size_t i = 0; i < w->pending_count && !ret; i++)
		ret = qcow2_free(q, w->pending[i].off, w->pending[i].len, e);
	w->pending_count = 0;
	return ret ? ret : qcow2_refcounts_write(q, e);
}

static int flush_if_filled(struct editor *w, struct qi_error *e)
{
	if (qcow2_cache_is_filled(w->q->l2) ||
	    w->pending_count > MAX_PENDING / 4)
		return flush(w, e);
	return 0;
}

static void free_later(struct editor *w, uint64_t off, uint64_t len)
{
	struct pending *p = &w->pending[w->pending_count];

	if (w->pending_count && p[-1].off + p[-1].len == off &&
	    qi_is_aligned(off, w->q->cluster_size)) {
		p[-1].len += len;
		return;
	}
	*p = (struct pending){ off, len };
	w->pending_count++;
}

/* ------------------------------------------------------------ L2 tables */

/* A table of our own for this L1 entry: new, or a copy of a shared one. */
static int make_table(struct editor *w, uint64_t l1_index, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t old = be64_get(q->l1[l1_index]) & QCOW2_OFFSET_MASK, new;
	QI_AUTOFREE uint8_t *table = calloc(1, q->cluster_size);
	size_t slice = qcow2_cache_slice_size(q->l2);
	int ret = table ? qcow2_alloc(q, 1, &new, e) : qi_no_memory(e);

	if (!ret && old)
		ret = qi_file_read(q->file, old, q->cluster_size, table, e);
	if (!ret)
		ret = qi_file_write(q->file, new, q->cluster_size, table, e);
	/* What the cache has of an earlier table at that place is stale. */
	for (uint64_t i = 0; i < q->cluster_size && !ret; i += slice) {
		uint8_t *data;

		ret = qcow2_cache_get_new(q->l2, new + i, &data, e);
		if (!ret)
			memcpy(data, table + i, slice);
	}
	if (ret)
		return ret;
	q->l1[l1_index] = be64_put(new | QCOW2_COPIED);
	if (l1_index < w->l1_first)
		w->l1_first = (uint32_t)l1_index;
	if (l1_index >= w->l1_end)
		w->l1_end = (uint32_t)l1_index + 1;
	if (old)
		free_later(w, old, q->cluster_size);
	return 0;
}

/* All subclusters allocated, or all zero. */
#define SUBCLUSTERS_DATA UINT32_MAX
#define SUBCLUSTERS_ZERO ((uint64_t)UINT32_MAX << 32)

/* Entry i of a table whose entries may have two words. */
static uint64_t entry_get(const struct qcow2 *q, const be64 *entries,
			  uint64_t i)
{
	return be64_get(entries[i * (q->l2_entry_size / sizeof(be64))]);
}

static void entry_put(const struct qcow2 *q, be64 *entries, uint64_t i,
		      uint64_t entry, uint64_t subclusters)
{
	unsigned words = q->l2_entry_size / sizeof(be64);

	entries[i * words] = be64_put(entry);
	if (words == 2)
		entries[i * words + 1] = be64_put(subclusters);
}

/* The entries from that of off to the end of its slice, to be changed. */
static int get_entries(struct editor *w, uint64_t off, be64 **entries,
		       uint64_t *count, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t index = off >> q->h.cluster_bits;
	uint64_t l1_index = index >> q->l2_bits;
	uint64_t in_table =
		(index & ((1ull << q->l2_bits) - 1)) * q->l2_entry_size;
	size_t slice = qcow2_cache_slice_size(q->l2);
	uint64_t table;
	uint8_t *data;
	int ret = 0;

	if (!(be64_get(q->l1[l1_index]) & QCOW2_COPIED))
		ret = make_table(w, l1_index, e);
	if (ret)
		return ret;
	table = be64_get(q->l1[l1_index]) & QCOW2_OFFSET_MASK;
	ret = qcow2_cache_get(q->l2, table + qi_round_down(in_table, slice),
			      &data, e);
	if (ret)
		return ret;
	*entries = (be64 *)(void *)(data + in_table % slice);
	*count = (slice - in_table % slice) / q->l2_entry_size;
	/* The whole slice is what is marked. */
	qcow2_cache_dirty(q->l2, data);
	return 0;
}

static void drop_entry(struct editor *w, uint64_t entry)
{
	struct qcow2 *q = w->q;
	uint64_t host, len;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_packed_place(q, entry, &host, &len);
		free_later(w, host, len);
	} else if (entry & QCOW2_OFFSET_MASK && !qcow2_has_data_file(q)) {
		free_later(w, entry & QCOW2_OFFSET_MASK, q->cluster_size);
	}
}

/* Can data be written where the entry points? */
static bool is_own(const struct qcow2 *q, uint64_t entry)
{
	if (entry & QCOW2_COMPRESSED || !(entry & QCOW2_COPIED))
		return false;
	return entry & QCOW2_OFFSET_MASK || qcow2_has_data_file(q);
}

/* ------------------------------------------------------------------ ops */

/* The run of own, adjacent clusters at the start of entries. */
static uint64_t use_own(struct qcow2 *q, be64 *entries, uint64_t count,
			uint64_t *host)
{
	uint64_t i;

	*host = entry_get(q, entries, 0) & QCOW2_OFFSET_MASK;
	for (i = 0; i < count; i++) {
		uint64_t entry = entry_get(q, entries, i);

		if (!is_own(q, entry) ||
		    (entry & QCOW2_OFFSET_MASK) != *host + i * q->cluster_size)
			break;
		/* It may have been preallocated, or zero. */
		entry_put(q, entries, i, entry & ~QCOW2_ZERO, SUBCLUSTERS_DATA);
	}
	return i;
}

/* Entries of a damaged table may point at metadata. */
static int check_own(struct qcow2 *q, uint64_t host, uint64_t len,
		     struct qi_error *e)
{
	if (!qi_is_aligned(host, q->cluster_size))
		return qcow2_damaged(q, e,
				     "a data cluster at %llu is not "
				     "aligned",
				     (unsigned long long)host);
	return qcow2_check_overlap(q, host, len, e);
}

static int use_new(struct editor *w, uint64_t off, uint64_t want,
		   uint64_t *done, uint64_t *host, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t count, n = 0;
	be64 *entries;
	int ret = get_entries(w, off, &entries, &count, e);

	if (ret)
		return ret;
	count = qi_min(count, want);
	while (n < count && !is_own(q, entry_get(q, entries, n)))
		n++;
	/* In a data file everything has its place. */
	*host = off;
	ret = qcow2_has_data_file(q) ? 0 : qcow2_alloc(q, n, host, e);
	for (uint64_t i = 0; i < n && !ret; i++) {
		drop_entry(w, entry_get(q, entries, i));
		entry_put(q, entries, i,
			  (*host + i * q->cluster_size) | QCOW2_COPIED,
			  SUBCLUSTERS_DATA);
	}
	*done = n;
	return ret;
}

static int place_locked(struct editor *w, uint64_t off, uint64_t len,
			uint64_t *host_off, uint64_t *host_len,
			struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t want = qi_div_up(len, q->cluster_size), count, n;
	be64 *entries;
	int ret = flush_if_filled(w, e);

	if (!ret)
		ret = get_entries(w, off, &entries, &count, e);
	if (ret)
		return ret;
	if (is_own(q, entry_get(q, entries, 0))) {
		n = use_own(q, entries, qi_min(count, want), host_off);
		if (!qcow2_has_data_file(q))
			ret = check_own(q, *host_off, n * q->cluster_size, e);
	} else
		ret = use_new(w, off, want, &n, host_off, e);
	if (!ret)
		*host_len = qi_min(n * q->cluster_size, len);
	return ret;
}

static int edit_place(struct qi_writer *base, uint64_t off, uint64_t len,
		      uint64_t *host_off, uint64_t *host_len,
		      struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	pthread_mutex_lock(&w->q->lock);
	ret = place_locked(w, off, len, host_off, host_len, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret;
}

/* Nothing is mapped in this table and nothing shows through from below. */
static bool reads_zero_anyway(const struct qcow2 *q, uint64_t off)
{
	uint64_t i = off >> (q->h.cluster_bits + q->l2_bits);

	return !q->h.backing_name && !(be64_get(q->l1[i]) & QCOW2_OFFSET_MASK);
}

static int zero_locked(struct editor *w, uint64_t off, uint64_t len,
		       struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t left = qi_div_up(len, q->cluster_size);
	bool below = q->h.backing_name;
	bool extended = q->l2_entry_size != sizeof(be64);
	uint64_t entry = below && !extended ? QCOW2_ZERO : 0;

	/* Version 2 has no zero clusters, and raw data must say it itself. */
	if ((q->h.version < 3 && below) ||
	    q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		return -ENOTSUP;
	while (left) {
		uint64_t count, n;
		be64 *entries;
		int ret = flush_if_filled(w, e);

		if (ret)
			return ret;
		if (reads_zero_anyway(q, off)) {
			uint64_t per_table = 1ull << q->l2_bits;
			uint64_t in = off >> q->h.cluster_bits &
				      (per_table - 1);

			n = qi_min(left, per_table - in);
		} else {
			ret = get_entries(w, off, &entries, &count, e);
			if (ret)
				return ret;
			n = qi_min(left, count);
			for (uint64_t i = 0; i < n; i++) {
				drop_entry(w, entry_get(q, entries, i));
				entry_put(q, entries, i, entry,
					  below ? SUBCLUSTERS_ZERO : 0);
			}
		}
		left -= n;
		off += n * q->cluster_size;
	}
	return 0;
}

static int edit_zero(struct qi_writer *base, uint64_t off, uint64_t len,
		     struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	pthread_mutex_lock(&w->q->lock);
	ret = zero_locked(w, off, len, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret;
}

static int edit_finish(struct qi_writer *base, struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	pthread_mutex_lock(&w->q->lock);
	ret = flush(w, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret ? ret : qi_file_sync(w->q->file, e);
}

static void edit_free(struct qi_writer *base)
{
	free(editor_of(base));
}

static const struct qi_writer_ops edit_ops = {
	.place = edit_place,
	.zero = edit_zero,
	.finish = edit_finish,
	.free = edit_free,
};

int qcow2_edit(struct qi_node *n, struct qi_writer **out, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	size_t slice = qcow2_cache_slice_size(q->l2);
	struct qcow2_cache *cache;
	struct editor *w;
	int ret;

	if (q->h.crypt_method)
		return qi_fail(e, ENOTSUP,
			       "the data of '%s' is encrypted; writing it is "
			       "not supported",
			       n->file->path);
	ret = qcow2_refcounts_open(q, e);
	if (!ret)
		ret = qcow2_open_data(q, e);
	if (!ret)
		ret = qcow2_l1_load(q, e);
	if (ret)
		return ret;
	w = calloc(1, sizeof(*w));
	if (!w || qcow2_cache_new(&cache, q->file, slice,
				  (unsigned)(EDIT_CACHE_BYTES / slice))) {
		free(w);
		return qi_no_memory(e);
	}
	qcow2_cache_free(q->l2);
	q->l2 = cache;
	w->base = (struct qi_writer){ .ops = &edit_ops,
				      .file = n->data,
				      .size = q->h.size,
				      .unit = q->cluster_size,
				      .part = q->cluster_size,
				      .writes_in_turn = true };
	w->q = q;
	w->l1_first = UINT32_MAX;
	*out = &w->base;
	return 0;
}
