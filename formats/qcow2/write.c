/* SPDX-License-Identifier: MIT */
/*
 * write.c - writing guest data into an image that exists
 *
 * Order of writes, each step durable before the next begins: refcounts of new
 * clusters, data, and new L2 tables; changed L2 entries; changed L1 entries;
 * only then the refcounts of what is no longer used go down, and holes are
 * punched where they reach 0. A crash leaves each cluster old or new, and at
 * most leaks. What the operations in write-entry.c do fits into that:
 *  - packed clusters share host clusters, whose refcounts go up first too;
 *  - zero clusters, kept or not, are changed entries, and no data;
 *  - subclusters of a cluster of our own are data, then bits of its entry;
 *  - in a raw data file zeroes are data, as they must read the same there; in
 *    other data files holes are punched where host clusters would be freed;
 *  - bytes that have a place of their own already are written over.
 */
#include <errno.h>

#include "formats/qcow2/edit.h"

#define EDIT_CACHE_BYTES (4u << 20)

int qcow2_can_write(struct qi_node *n, struct qi_error *e)
{
	const struct qcow2 *q = qcow2_of(n);
	const uint64_t bits = q->h.incompatible;

	if (bits & QCOW2_INCOMPAT_CORRUPT)
		return qi_stock(e,
				qi_fail(e, EUCLEAN,
					"'%s' is marked as corrupt; repair it "
					"with 'qimg check -r all %s'",
					q->file->path, QI_WORD(q->file->path)),
				"Could not open '%s': qcow2: Image is corrupt; "
				"cannot be opened read/write",
				q->file->path);
	if (bits & QCOW2_INCOMPAT_DIRTY)
		return qi_fail(e, EUCLEAN,
			       "'%s' was not closed and its "
			       "refcounts are not up to date; repair it with "
			       "'qimg check -r all %s'",
			       q->file->path, QI_WORD(q->file->path));
	/* What is written could not be recorded, and a repair would trust it.
	 */
	if (q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS && q->bitmaps.problem)
		return qcow2_damaged(q, e,
				     "%s; repair it with 'qimg check -r all "
				     "%s' before anything is written",
				     q->bitmaps.problem,
				     QI_WORD(q->file->path));
	return qcow2_header_check_room(q, e);
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

static int by_offset(const void *a, const void *b)
{
	const struct pending *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* In order, so that adjacent holes become one. */
static int free_pending(struct editor *w, struct qi_error *e)
{
	int ret = 0;

	qsort(w->pending, w->pending_count, sizeof(w->pending[0]), by_offset);
	for (size_t i = 0; i < w->pending_count && !ret; i++) {
		const struct pending *p = &w->pending[i];

		if (p->in_data)
			qi_file_discard(w->q->data, p->off, p->len);
		else
			ret = qcow2_free(w->q, p->off, p->len, e);
	}
	w->pending_count = 0;
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
	if (!ret)
		ret = free_pending(w, e);
	return ret ? ret : qcow2_refcounts_write(q, e);
}

int qcow2_edit_begin(struct editor *w, struct qi_error *e)
{
	if (qcow2_cache_is_filled(w->q->l2) ||
	    w->pending_count > EDIT_MAX_PENDING / 4)
		return flush(w, e);
	return 0;
}

static void free_later(struct editor *w, uint64_t off, uint64_t len,
		       bool in_data)
{
	struct pending *p = &w->pending[w->pending_count];

	/* Packed clusters count each by itself in one that they share. */
	if (w->pending_count && p[-1].off + p[-1].len == off &&
	    p[-1].in_data == in_data &&
	    qi_is_aligned(off, w->q->cluster_size)) {
		p[-1].len += len;
		return;
	}
	*p = (struct pending){ off, len, in_data };
	w->pending_count++;
}

void qcow2_edit_keep_data(struct editor *w, uint64_t off, uint64_t len)
{
	for (size_t i = 0; w->q->data && i < w->pending_count; i++) {
		struct pending *p = &w->pending[i];

		if (p->in_data && off < p->off + p->len && p->off < off + len)
			p->len = 0;
	}
}

/* ------------------------------------------------------------ L2 tables */

/* A table of our own for this L1 entry: new, or a copy of a shared one. */
static int make_table(struct editor *w, uint64_t l1_index, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t old = be64_get(q->l1[l1_index]) & QCOW2_OFFSET_MASK;
	uint64_t new = 0;
	QI_AUTOFREE uint8_t *table = calloc(1, q->cluster_size);
	size_t slice = qcow2_cache_slice_size(q->l2);
	int ret = table ? 0 : qi_no_memory(e);

	if (!ret && old)
		ret = qi_file_read(q->file, old, q->cluster_size, table, e);
	if (!ret)
		ret = qcow2_alloc(q, 1, &new, e);
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
		free_later(w, old, q->cluster_size, false);
	return 0;
}

bool qcow2_edit_has_table(const struct editor *w, uint64_t off)
{
	uint64_t i = off >> (w->q->h.cluster_bits + w->q->l2_bits);

	return be64_get(w->q->l1[i]) & QCOW2_OFFSET_MASK;
}

int qcow2_edit_entries(struct editor *w, uint64_t off, be64 **entries,
		       uint64_t *count, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t index = off >> q->h.cluster_bits;
	uint64_t l1_index = index >> q->l2_bits;
	uint64_t in_table =
		(index & ((1ull << q->l2_bits) - 1)) * q->l2_entry_size;
	uint64_t table = be64_get(q->l1[l1_index]) & QCOW2_OFFSET_MASK;
	size_t slice = qcow2_cache_slice_size(q->l2);
	int ret = table ? qcow2_check_table(q, table, off, e) : 0;

	/* Entries of a damaged table may point at other metadata. */
	if (!ret && table)
		ret = qcow2_check_overlap(q, table, q->cluster_size, e);
	if (!ret && !(be64_get(q->l1[l1_index]) & QCOW2_COPIED))
		ret = make_table(w, l1_index, e);
	if (ret)
		return ret;
	table = be64_get(q->l1[l1_index]) & QCOW2_OFFSET_MASK;
	ret = qcow2_cache_get(q->l2, table + qi_round_down(in_table, slice),
			      &w->slice, e);
	if (ret)
		return ret;
	*entries = (be64 *)(void *)(w->slice + in_table % slice);
	*count = (slice - in_table % slice) / q->l2_entry_size;
	return 0;
}

/* -------------------------------------------------------------- entries */

struct entry qcow2_entry_get(const struct qcow2 *q, const be64 *entries,
			     uint64_t i)
{
	unsigned words = q->l2_entry_size / sizeof(be64);

	return (struct entry){ be64_get(entries[i * words]),
			       words == 2 ? be64_get(entries[i * words + 1]) :
					    0 };
}

void qcow2_entry_put(struct editor *w, be64 *entries, uint64_t i,
		     struct entry new)
{
	unsigned words = w->q->l2_entry_size / sizeof(be64);
	struct entry old = qcow2_entry_get(w->q, entries, i);

	if (old.word == new.word && (words == 1 || old.bits == new.bits))
		return;
	entries[i * words] = be64_put(new.word);
	if (words == 2)
		entries[i * words + 1] = be64_put(new.bits);
	qcow2_cache_dirty(w->q->l2, w->slice);
}

uint64_t qcow2_entry_host(const struct qcow2 *q, struct entry entry)
{
	uint64_t host = entry.word & QCOW2_OFFSET_MASK;

	if (entry.word & QCOW2_COMPRESSED)
		return QI_NO_OFFSET;
	/* Offset 0 of a data file is a place like any other. */
	if (!host && !(qcow2_has_data_file(q) && entry.word & QCOW2_COPIED))
		return QI_NO_OFFSET;
	return host;
}

bool qcow2_entry_is_own(const struct qcow2 *q, struct entry entry)
{
	return entry.word & QCOW2_COPIED &&
	       qcow2_entry_host(q, entry) != QI_NO_OFFSET;
}

int qcow2_edit_check_host(struct editor *w, uint64_t off, uint64_t host,
			  uint64_t len, struct qi_error *e)
{
	struct qcow2 *q = w->q;

	if (qcow2_has_data_file(q) ? host != off :
				     !qi_is_aligned(host, q->cluster_size))
		return qcow2_damaged(q, e,
				     "the cluster of guest offset %llu is at "
				     "%llu, where none can be",
				     (unsigned long long)off,
				     (unsigned long long)host);
	return qcow2_has_data_file(q) ? 0 :
					qcow2_check_overlap(q, host, len, e);
}

int qcow2_edit_drop(struct editor *w, struct entry entry, struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t host = qcow2_entry_host(q, entry), len = q->cluster_size;
	int ret;

	if (entry.word & QCOW2_COMPRESSED && qcow2_has_data_file(q))
		return qcow2_damaged(q, e,
				     "it has a compressed cluster, and a data "
				     "file");
	if (entry.word & QCOW2_COMPRESSED)
		qcow2_packed_place(q, entry.word, &host, &len);
	if (host == QI_NO_OFFSET)
		return 0;
	if (qcow2_has_data_file(q)) {
		free_later(w, host, len, true);
		return 0;
	}
	if (!(entry.word & QCOW2_COMPRESSED) && !qi_is_aligned(host, len))
		return qcow2_damaged(q, e,
				     "a data cluster at %llu is not "
				     "aligned",
				     (unsigned long long)host);
	ret = qcow2_check_overlap(q, host, len, e);
	if (!ret)
		free_later(w, host, len, false);
	return ret;
}

/* ---------------------------------------------------------------- place */

/* The run of own, adjacent clusters at the start of entries. */
static uint64_t use_own(struct editor *w, be64 *entries, uint64_t count,
			uint64_t *host)
{
	struct qcow2 *q = w->q;
	uint64_t i;

	*host = qcow2_entry_host(q, qcow2_entry_get(q, entries, 0));
	for (i = 0; i < count; i++) {
		struct entry x = qcow2_entry_get(q, entries, i);

		if (!qcow2_entry_is_own(q, x) ||
		    qcow2_entry_host(q, x) != *host + i * q->cluster_size)
			break;
		/* It may have been preallocated, or zero. */
		x.word &= ~QCOW2_ZERO;
		x.bits = SUBCLUSTERS_DATA;
		qcow2_entry_put(w, entries, i, x);
	}
	return i;
}

/* New clusters for the run of entries that have none of their own. */
static int use_new(struct editor *w, uint64_t off, be64 *entries,
		   uint64_t count, uint64_t *n, uint64_t *host,
		   struct qi_error *e)
{
	struct qcow2 *q = w->q;
	int ret = 0;

	*n = 0;
	while (*n < count &&
	       !qcow2_entry_is_own(q, qcow2_entry_get(q, entries, *n)))
		++*n;
	/* In a data file everything has its place. */
	*host = off;
	if (!qcow2_has_data_file(q))
		ret = qcow2_alloc_some(q, n, host, e);
	for (uint64_t i = 0; i < *n && !ret; i++) {
		struct entry x = { (*host + i * q->cluster_size) | QCOW2_COPIED,
				   SUBCLUSTERS_DATA };

		ret = qcow2_edit_drop(w, qcow2_entry_get(q, entries, i), e);
		if (!ret)
			qcow2_entry_put(w, entries, i, x);
	}
	return ret;
}

static int place_locked(struct editor *w, uint64_t off, uint64_t len,
			uint64_t *host_off, uint64_t *host_len,
			struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t count, n;
	be64 *entries;
	int ret = qcow2_edit_begin(w, e);

	if (!ret)
		ret = qcow2_edit_entries(w, off, &entries, &count, e);
	if (ret)
		return ret;
	count = qi_min(count, qi_div_up(len, q->cluster_size));
	if (qcow2_entry_is_own(q, qcow2_entry_get(q, entries, 0))) {
		n = use_own(w, entries, count, host_off);
		ret = qcow2_edit_check_host(w, off, *host_off,
					    n * q->cluster_size, e);
	} else
		ret = use_new(w, off, entries, count, &n, host_off, e);
	if (ret)
		return ret;
	*host_len = qi_min(n * q->cluster_size, len);
	qcow2_edit_keep_data(w, *host_off, *host_len);
	return 0;
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

/* A place for whole clusters that go on reading as zero. */
static int reserve_locked(struct editor *w, uint64_t off, uint64_t len,
			  uint64_t *host_off, uint64_t *host_len,
			  struct qi_error *e)
{
	struct qcow2 *q = w->q;
	uint64_t count;
	be64 *entries;
	int ret = place_locked(w, off, len, host_off, host_len, e);

	/* Raw data is zero because the file is. */
	if (ret || q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		return ret;
	/* Nobody need write there, but it must be in the file. */
	if (!qcow2_has_data_file(q) && qi_file_is_regular(q->file) &&
	    *host_off + *host_len > q->file->size)
		ret = qi_file_resize(q->file, *host_off + *host_len, e);
	if (!ret)
		ret = qcow2_edit_entries(w, off, &entries, &count, e);
	count = qi_div_up(*host_len, q->cluster_size);
	for (uint64_t i = 0; i < count && !ret; i++) {
		struct entry x = qcow2_entry_get(q, entries, i);

		if (qcow2_has_subclusters(q))
			x.bits = SUBCLUSTERS_ZERO;
		else
			x.word |= QCOW2_ZERO;
		qcow2_entry_put(w, entries, i, x);
	}
	return ret;
}

static int edit_reserve(struct qi_writer *base, uint64_t off, uint64_t len,
			uint64_t *host_off, uint64_t *host_len,
			struct qi_error *e)
{
	struct editor *w = editor_of(base);
	int ret;

	/* Nothing in version 2 says that a cluster reads as zero. */
	if (w->q->h.version < 3)
		return -ENOTSUP;
	pthread_mutex_lock(&w->q->lock);
	ret = reserve_locked(w, off, len, host_off, host_len, e);
	pthread_mutex_unlock(&w->q->lock);
	return ret;
}

/* ----------------------------------------------------- start and finish */

static int edit_finish(struct qi_writer *base, struct qi_error *e)
{
	struct editor *w = editor_of(base);
	struct qcow2 *q = w->q;
	int ret = 0;

	pthread_mutex_lock(&q->lock);
	/* The last cluster was padded. */
	if (q->data && q->data->size > w->data_end)
		ret = qi_file_resize(q->data, w->data_end, e);
	if (!ret)
		ret = flush(w, e);
	w->is_finished = !ret;
	pthread_mutex_unlock(&q->lock);
	return ret ? ret : qi_file_sync(q->file, e);
}

/* What did not get to the disk is not to be seen any more. */
static void forget_changes(struct qcow2 *q)
{
	qcow2_cache_forget(q->l2);
	qcow2_refcounts_close(q);
	free(q->l1);
	q->l1 = NULL;
}

static void edit_free(struct qi_writer *base)
{
	struct editor *w = editor_of(base);

	if (!w->is_finished)
		forget_changes(w->q);
	free(w);
}

static const struct qi_writer_ops edit_ops = {
	.place = edit_place,
	.place_packed = qcow2_edit_place_packed,
	.place_inside = qcow2_edit_place_inside,
	.reserve = edit_reserve,
	.zero = qcow2_edit_zero,
	.zero_kept = qcow2_edit_zero_kept,
	.zero_inside = qcow2_edit_zero_inside,
	.finish = edit_finish,
	.free = edit_free,
};

/* In a data file nothing can be packed. */
static const struct qi_writer_ops edit_data_ops = {
	.place = edit_place,
	.place_inside = qcow2_edit_place_inside,
	.reserve = edit_reserve,
	.zero = qcow2_edit_zero,
	.zero_kept = qcow2_edit_zero_kept,
	.zero_inside = qcow2_edit_zero_inside,
	.finish = edit_finish,
	.free = edit_free,
};

static int prepare(struct qcow2 *q, struct qi_error *e)
{
	int ret;

	if (q->h.crypt_method)
		return qi_fail(e, ENOTSUP,
			       "the data of '%s' is encrypted; writing it is "
			       "not supported",
			       q->file->path);
	ret = qcow2_refcounts_open(q, e);
	if (!ret)
		ret = qcow2_open_data(q, e);
	if (!ret)
		ret = qcow2_l1_load(q, e);
	return ret ? ret : qcow2_header_autoclear(q, e);
}

int qcow2_edit(struct qi_node *n, struct qi_writer **out, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	size_t slice = qcow2_cache_slice_size(q->l2);
	bool data = qcow2_has_data_file(q);
	struct qcow2_cache *cache;
	struct editor *w;
	int ret = prepare(q, e);

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
	w->base = (struct qi_writer){ .ops = data ? &edit_data_ops : &edit_ops,
				      .file = n->data,
				      .size = q->h.size,
				      .unit = q->cluster_size,
				      .part = q->cluster_size,
				      .codec = q->h.codec,
				      .writes_in_turn = true };
	if (qcow2_has_subclusters(q))
		w->base.part /= QCOW2_SUBCLUSTERS;
	w->q = q;
	w->l1_first = UINT32_MAX;
	w->data_end = q->data ? qi_max(q->data->size, q->h.size) : 0;
	*out = &w->base;
	return 0;
}
