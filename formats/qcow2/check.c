/* SPDX-License-Identifier: MIT */
/*
 * check.c - are the refcounts what the references say?
 *
 * The file is looked at in windows of clusters, so that memory stays bounded:
 * for each window tables are walked and references into it are counted, then
 * compared with the refcounts on disk. One window is enough for 1 TiB in
 * clusters of 64 KiB. The first walk notes which groups of L2 tables refer
 * into which windows, so that the later ones read no more than they need.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "formats/qcow2/check.h"

/* Clusters in a window, with 32 bits of counts each at most, and a few more. */
#define WINDOW_NARROW (18u << 20)
#define WINDOW_WIDE (9u << 20)
#define GROUPS 65536

void qcow2_check_say(struct qcow2_checker *c, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!c->out->finding || c->is_quiet ||
	    c->messages++ >= QI_CHECK_MESSAGES)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->out->finding(c->out->arg, text);
}

#define corrupt_as(c, ...)                               \
	do {                                             \
		if ((c)->is_first) {                     \
			(c)->out->corruptions++;         \
			qcow2_check_say(c, __VA_ARGS__); \
		}                                        \
	} while (0)
#define corrupt(c, ...) corrupt_as(c, "ERROR: " __VA_ARGS__)

/* ------------------------------------------------------------- counting */

/* The bits of [from, to) in the word that `from` is in. */
static uint64_t bits_of(uint64_t from, uint64_t to)
{
	uint64_t n = qi_min(64 - from % 64, to - from);

	return (n == 64 ? ~0ull : (1ull << n) - 1) << from % 64;
}

static void set_bits(uint64_t *map, uint64_t from, uint64_t to)
{
	for (; from < to; from = qi_round_down(from, 64) + 64)
		map[from / 64] |= bits_of(from, to);
}

static void too_many(struct qcow2_checker *c, uint64_t cluster)
{
	c->out->corruptions++;
	qcow2_check_say(c,
			"ERROR: cluster %llu has more references than "
			"refcounts of %u bits can count",
			(unsigned long long)cluster,
			1u << c->q->h.refcount_order);
}

uint64_t qcow2_check_found(const struct qcow2_checker *c, uint64_t cluster)
{
	return qcow2_counts_get(&c->counts, cluster - c->first);
}

/* Clusters [from, to), cut to the window; false when nothing is left. */
static bool clip(const struct qcow2_checker *c, uint64_t *from, uint64_t *to)
{
	*from = qi_max(*from, c->first);
	*to = qi_min(*to, c->end);
	return *from < *to;
}

void qcow2_check_add(struct qcow2_checker *c, uint64_t from, uint64_t to)
{
	uint64_t i;

	if (c->touches)
		for (i = from / c->window; i <= (to - 1) / c->window; i++)
			*c->touches |= 1ull << i % 64;
	c->last_used = qi_max(c->last_used, to - 1);
	if (!clip(c, &from, &to))
		return;
	to -= c->first;
	for (i = from - c->first; i < to; i = qi_round_down(i, 64) + 64) {
		uint64_t mask =
			qcow2_counts_add(&c->counts, i / 64, bits_of(i, to));

		for (uint64_t full = i / 64 * 64; mask; mask >>= 1, full++)
			if (mask & 1)
				too_many(c, c->first + full);
	}
}

bool qcow2_is_past_end(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	uint64_t end;

	return !qi_add(off, len, &end) ||
	       end >= qcow2_file_end(q) + q->cluster_size;
}

static void add_other(struct qcow2_checker *c, uint64_t from, uint64_t to)
{
	qcow2_check_add(c, from, to);
	if (c->others && clip(c, &from, &to))
		set_bits(c->others, from - c->first, to - c->first);
}

void qcow2_check_reference(struct qcow2_checker *c, uint64_t off, uint64_t len)
{
	unsigned bits = c->q->h.cluster_bits;

	if (!len)
		return;
	if (qcow2_is_past_end(c->q, off, len)) {
		corrupt(c,
			"counting reference for region exceeding the end of "
			"the file by one cluster or more: offset 0x%llx size "
			"0x%llx",
			(unsigned long long)off, (unsigned long long)len);
		return;
	}
	add_other(c, off >> bits, ((off + len - 1) >> bits) + 1);
}

static void reference_table(struct qcow2_checker *c, uint64_t off)
{
	unsigned bits = c->q->h.cluster_bits;
	uint64_t from = off >> bits;
	uint64_t to = ((off + c->q->cluster_size - 1) >> bits) + 1;

	if (qcow2_is_past_end(c->q, off, c->q->cluster_size)) {
		qcow2_check_reference(c, off, c->q->cluster_size);
		return;
	}
	qcow2_check_add(c, from, to);
	if (c->tables && clip(c, &from, &to))
		set_bits(c->tables, from - c->first, to - c->first);
}

/* An active entry says of these clusters that they are its own, or not. */
static void mark(struct qcow2_checker *c, uint64_t entry, uint64_t from,
		 uint64_t to)
{
	if (to > c->total)
		c->past_end = true;
	if (clip(c, &from, &to))
		set_bits(entry & QCOW2_COPIED ? c->owned : c->shared,
			 from - c->first, to - c->first);
}

/* ----------------------------------------------------------- guest data */

static void check_packed(struct qcow2_checker *c, uint64_t entry,
			 uint64_t subclusters, bool active)
{
	uint64_t host, len;

	if (entry & QCOW2_COPIED)
		corrupt(c,
			"compressed cluster with the copied flag: entry=%llx",
			(unsigned long long)entry);
	if (qcow2_has_data_file(c->q)) {
		corrupt(c, "compressed cluster with a data file: entry=%llx",
			(unsigned long long)entry);
		return;
	}
	if (subclusters) {
		corrupt(c, "compressed cluster with subclusters: entry=%llx",
			(unsigned long long)entry);
		return;
	}
	qcow2_packed_place(c->q, entry, &host, &len);
	qcow2_check_reference(c, host, len);
	if (!c->is_first || !active)
		return;
	c->out->allocated_clusters++;
	c->out->compressed_clusters++;
	c->out->fragmented_clusters++;
}

static void count_data(struct qcow2_checker *c, uint64_t host, uint64_t n,
		       uint64_t *expected)
{
	if (!c->is_first)
		return;
	c->out->allocated_clusters += n;
	if (*expected && host != *expected)
		c->out->fragmented_clusters++;
	*expected = host + n * c->q->cluster_size;
}

static void check_data(struct qcow2_checker *c, uint64_t entry,
		       uint64_t subclusters, bool active, uint64_t *expected)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK;
	uint64_t cluster = host >> c->q->h.cluster_bits;

	if (subclusters & (subclusters >> 32) & UINT32_MAX)
		corrupt(c, "subclusters both zero and allocated: bitmap=%llx",
			(unsigned long long)subclusters);
	if (!qi_is_aligned(host, c->q->cluster_size))
		corrupt_as(c,
			   "ERROR offset=%llx: Data cluster is not properly "
			   "aligned; L2 entry corrupted.",
			   (unsigned long long)host);
	if (active)
		count_data(c, host, 1, expected);
	if (!qcow2_has_data_file(c->q)) {
		qcow2_check_reference(c, host, c->q->cluster_size);
		if (active)
			mark(c, entry, cluster, cluster + 1);
		return;
	}
	/* Clusters of a data file have no refcounts; they are never shared. */
	if (active && c->has_table && !(entry & QCOW2_COPIED))
		corrupt(c, "data cluster without the copied flag: entry=%llx",
			(unsigned long long)entry);
}

static void check_entry(struct qcow2_checker *c, uint64_t entry,
			uint64_t subclusters, bool active, uint64_t *expected)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK;
	bool extended = c->q->l2_entry_size != sizeof(be64);

	if (entry & QCOW2_COMPRESSED) {
		check_packed(c, entry, subclusters, active);
		return;
	}
	if (entry & QCOW2_L2_RESERVED)
		corrupt(c, "L2 entry with reserved bits set: entry=%llx",
			(unsigned long long)entry);
	if (host || (qcow2_has_data_file(c->q) && entry & QCOW2_COPIED &&
		     (extended || !(entry & QCOW2_ZERO))))
		check_data(c, entry, subclusters, active, expected);
	else if (subclusters & UINT32_MAX)
		corrupt(c, "subclusters without a cluster: bitmap=%llx",
			(unsigned long long)subclusters);
}

/*
 * Entries from i on that point at adjacent clusters of the file and have the
 * same flags, which nearly all do: how many. 0: look at this one alone.
 */
static uint64_t plain_run(const struct qcow2 *q, const be64 *entries,
			  uint64_t i, uint64_t count)
{
	uint64_t entry = be64_get(entries[i]), host = entry & ~QCOW2_COPIED;
	uint64_t max, n = 1;

	if (!host || host & ~QCOW2_OFFSET_MASK || host >= qcow2_file_end(q) ||
	    !qi_is_aligned(host, q->cluster_size))
		return 0;
	max = qi_min(count - i, qcow2_clusters(q, qcow2_file_end(q) - host));
	while (n < max &&
	       be64_get(entries[i + n]) == entry + n * q->cluster_size)
		n++;
	return n;
}

static void check_l2(struct qcow2_checker *c, bool active)
{
	const struct qcow2 *q = c->q;
	unsigned words = q->l2_entry_size / sizeof(be64);
	const be64 *entries = (const be64 *)(const void *)c->table;
	bool quick = words == 1 && !qcow2_has_data_file(q);
	uint64_t expected = 0, count = 1ull << q->l2_bits, n;

	for (uint64_t i = 0; i < count; i += n ? n : 1) {
		uint64_t entry = be64_get(entries[i * words]);
		uint64_t first = (entry & ~QCOW2_COPIED) >> q->h.cluster_bits;

		n = quick ? plain_run(q, entries, i, count) : 0;
		if (n) {
			add_other(c, first, first + n);
			if (active) {
				count_data(c, entry & ~QCOW2_COPIED, n,
					   &expected);
				mark(c, entry, first, first + n);
			}
		} else if (entry || words == 2) {
			check_entry(c, entry,
				    words == 2 ? be64_get(entries[i * 2 + 1]) :
						 0,
				    active, &expected);
		}
	}
}

static int check_l1_entry(struct qcow2_checker *c, uint64_t entry, bool active,
			  struct qi_error *e)
{
	struct qcow2 *q = c->q;
	uint64_t table = entry & QCOW2_OFFSET_MASK;
	uint64_t *touched = &c->touched[c->visit++ / c->group % GROUPS];
	int ret = qi_interrupted(e);

	if (ret)
		return ret;
	if (!c->is_first && !(*touched >> (c->first / c->window) % 64 & 1))
		return 0;
	if (c->is_first)
		c->touches = touched;
	c->has_table = table;
	if (entry & QCOW2_L1_RESERVED)
		corrupt_as(c,
			   "ERROR found L1 entry with reserved bits set: %llx",
			   (unsigned long long)entry);
	reference_table(c, table);
	if (active && table)
		mark(c, entry, table >> q->h.cluster_bits,
		     (table >> q->h.cluster_bits) + 1);
	if (!qi_is_aligned(table, q->cluster_size))
		corrupt(c, "L2 table at %llu is not aligned",
			(unsigned long long)table);
	if (table < q->file->size) {
		ssize_t n = qi_file_read_some(q->file, table, q->cluster_size,
					      c->table, e);

		if (n >= 0)
			check_l2(c, active);
		else
			ret = (int)n;
	}
	c->touches = NULL;
	return ret;
}

int qcow2_check_l1(struct qcow2_checker *c, uint64_t off, uint32_t size,
		   bool active, struct qi_error *e)
{
	qcow2_check_reference(c, off, (uint64_t)size * sizeof(be64));
	for (uint64_t i = 0; i < size; i++) {
		int ret = 0;

		if (i % QCOW2_PIECE == 0)
			ret = qcow2_check_piece(c, off, i, size, e);
		if (!ret && be64_get(c->piece[i % QCOW2_PIECE]))
			ret = check_l1_entry(
				c, be64_get(c->piece[i % QCOW2_PIECE]), active,
				e);
		if (ret)
			return ret;
	}
	return 0;
}

/* -------------------------------------------------------------- windows */

static void check_crypto(struct qcow2_checker *c)
{
	const struct qcow2_extension *x =
		qcow2_header_find(&c->q->h, QCOW2_EXT_CRYPTO);
	be64 place[2];

	if (!x || x->len < sizeof(place))
		return;
	memcpy(place, x->data, sizeof(place));
	qcow2_check_reference(c, be64_get(place[0]), be64_get(place[1]));
}

/* What keeps QEMU from opening the image and costs no data. */
static void check_header(struct qcow2_checker *c)
{
	const struct qcow2_header *h = &c->q->h;

	if (h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA &&
	    !qcow2_has_data_file(c->q))
		corrupt(c, "the header speaks of a raw data file and there is "
			   "none");
	if (!h->snapshot_count &&
	    !qi_is_aligned(h->snapshots_offset, c->q->cluster_size))
		corrupt(c, "the snapshot table at %llu is not aligned",
			(unsigned long long)h->snapshots_offset);
}

int qcow2_check_count(struct qcow2_checker *c, struct qi_error *e)
{
	struct qcow2 *q = c->q;
	int ret;

	c->visit = 0;
	check_header(c);
	qcow2_check_reference(c, 0, q->cluster_size);
	ret = qcow2_check_l1(c, q->h.l1_offset, q->h.l1_size, true, e);
	if (!ret)
		ret = qcow2_check_snapshots(c, e);
	if (!ret && !c->without_refcounts)
		qcow2_check_reference(c, q->h.reftable_offset,
				      (uint64_t)q->h.reftable_clusters *
					      q->cluster_size);
	check_crypto(c);
	return ret ? ret : qcow2_check_bitmaps(c, e);
}

bool qcow2_checker_next(struct qcow2_checker *c)
{
	size_t words;

	c->is_first = !c->end;
	c->first = c->end;
	if (c->first >= c->total)
		return false;
	c->end = qi_min(c->first + c->window, c->total);
	c->is_suspect = false;
	words = (size_t)(c->end - c->first) / 64 + 1;
	/* For the first they are as they were allocated. */
	if (c->is_first)
		return true;
	qcow2_counts_clear(&c->counts);
	memset(c->owned, 0, words * 8);
	memset(c->shared, 0, words * 8);
	memset(c->is_one, 0, words * 8);
	if (c->tables) {
		memset(c->tables, 0, words * 8);
		memset(c->others, 0, words * 8);
	}
	return true;
}

void qcow2_checker_free(struct qcow2_checker *c)
{
	qcow2_counts_free(&c->counts);
	free(c->owned);
	free(c->shared);
	free(c->is_one);
	free(c->tables);
	free(c->others);
	free(c->reftable);
	free(c->touched);
	free(c->table);
	free(c->piece);
	free(c->clashes.cluster);
}

static bool allocate(struct qcow2_checker *c, size_t words)
{
	unsigned order = c->q->h.refcount_order;

	if (!qcow2_counts_init(&c->counts, order > 4 ? 32 : 1u << order, words))
		return false;
	c->owned = calloc(words, 8);
	c->shared = calloc(words, 8);
	c->is_one = calloc(words, 8);
	c->touched = calloc(GROUPS, sizeof(*c->touched));
	c->table = qi_alloc_aligned(c->q->cluster_size);
	c->piece = malloc(QCOW2_PIECE * sizeof(be64));
	return c->owned && c->shared && c->is_one && c->touched && c->table &&
	       c->piece;
}

int qcow2_checker_init(struct qcow2_checker *c, struct qcow2 *q,
		       struct qi_check *out, uint64_t total, struct qi_error *e)
{
	unsigned order = q->h.refcount_order;
	uint64_t bytes = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	uint64_t per_block = (uint64_t)q->cluster_size * 8 >> order;
	uint64_t visits = ((uint64_t)q->h.snapshot_count + 1) *
			  ((uint64_t)q->h.l1_size + 1);
	ssize_t n;

	*c = (struct qcow2_checker){ .q = q, .out = out, .total = total };
	/* Blocks do not lie in two windows. */
	c->window = qi_round_down(order > 4 ? WINDOW_WIDE : WINDOW_NARROW,
				  per_block);
	c->entries = bytes / sizeof(be64);
	c->group = visits / GROUPS + 1;
	c->reftable = malloc(bytes + 1);
	if (!c->reftable ||
	    !allocate(c, (size_t)qi_min(total, c->window) / 64 + 2))
		return qi_no_memory(e);
	n = qi_file_read_some(q->file, q->h.reftable_offset, bytes, c->reftable,
			      e);
	return n < 0 ? (int)n : 0;
}

/* Something else in the refcount table would be written over. */
static void look_at_table(struct qcow2_checker *c)
{
	uint64_t first = c->q->h.reftable_offset >> c->q->h.cluster_bits;
	uint64_t end = first + c->q->h.reftable_clusters;

	for (uint64_t i = qi_max(first, c->first); i < qi_min(end, c->end); i++)
		c->needs_rebuild |= qcow2_check_found(c, i) > 1;
}

int qcow2_check_pass(struct qcow2_checker *c, struct qcow2 *q,
		     struct qi_check *out, bool is_quiet, bool want_clashes,
		     struct qi_error *e)
{
	/* A region may end in the cluster after the last. */
	uint64_t total = qcow2_clusters(q, q->file->size) + 1;
	int ret = qcow2_checker_init(c, q, out, total, e);

	c->is_quiet = is_quiet;
	if (!ret && want_clashes) {
		size_t words = (size_t)qi_min(total, c->window) / 64 + 2;

		c->tables = calloc(words, 8);
		c->others = calloc(words, 8);
		if (!c->tables || !c->others)
			ret = qi_no_memory(e);
	}
	while (!ret && qcow2_checker_next(c)) {
		ret = qcow2_check_count(c, e);
		if (!ret && want_clashes)
			look_at_table(c);
		if (!ret)
			ret = qcow2_check_compare(c, QCOW2_FIX_NONE, e);
		if (!ret && (c->is_suspect || (c->is_first && c->past_end)))
			ret = qcow2_check_copied(c, e);
	}
	out->total_clusters = qcow2_clusters(q, qi_round_down(q->h.size, 512));
	out->image_end = (c->last_used + 1) << q->h.cluster_bits;
	return ret;
}

int qcow2_check(struct qi_node *node, struct qi_check *check,
		struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(node);
	struct qcow2_checker c;
	int ret;

	if (check->repair != QI_REPAIR_NONE)
		return qcow2_check_repair(q, check, e);
	ret = qcow2_check_pass(&c, q, check, false, false, e);
	qcow2_checker_free(&c);
	return ret;
}
