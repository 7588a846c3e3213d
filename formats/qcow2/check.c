/* SPDX-License-Identifier: MIT */
/*
 * check.c - are the refcounts what the references say?
 *
 * The file is looked at in windows of clusters, so that memory stays bounded:
 * for each window all tables are walked and references into it are counted,
 * then compared with the refcounts on disk.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "formats/qcow2/qcow2.h"

/* Memory of a window: 2 or 4 bytes, and a bit, for each cluster. */
#define WINDOW_NARROW (16u << 20)
#define WINDOW_WIDE (8u << 20)

struct checker {
	struct qcow2 *q;
	struct qi_check *out;
	uint64_t first, end; /* clusters of this window */
	/*
	 * Refcount on disk less references found, for each: 16 bits do, modulo
	 * 2^16, where refcounts have no more.
	 */
	uint16_t *narrow;
	uint32_t *wide;
	uint64_t *is_one; /* bits: refcount on disk is 1 */
	const be64 *reftable;
	uint64_t entries; /* of it */
	bool is_first;	  /* window: report what is not about refcounts */
	uint64_t messages;
	uint64_t last_used;
	uint8_t *table; /* one L2 table */
};

static void say(struct checker *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void say(struct checker *c, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!c->out->finding || c->messages++ >= QI_CHECK_MESSAGES)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->out->finding(c->out->arg, text);
}

/* A reference to [off, off + len) of the file. */
static void count(struct checker *c, uint64_t off, uint64_t len)
{
	unsigned bits = c->q->h.cluster_bits;
	uint64_t i, last;

	if (!len)
		return;
	last = (off + len - 1) >> bits;
	if (last >= qcow2_clusters(c->q, c->q->file->size) &&
	    qi_round_down(off, 512) >= c->q->file->size) {
		if (!c->is_first)
			return;
		say(c,
		    "ERROR: reference to %llu, %llu bytes, past the end of "
		    "the file",
		    (unsigned long long)off, (unsigned long long)len);
		c->out->corruptions++;
		return;
	}
	c->last_used = qi_max(c->last_used, last);
	for (i = qi_max(off >> bits, c->first); i <= last && i < c->end; i++) {
		if (c->narrow)
			c->narrow[i - c->first]--;
		else
			c->wide[i - c->first]--;
	}
}

/* The same for one whole cluster, which nearly all references are. */
static inline void count_cluster(struct checker *c, uint64_t off)
{
	uint64_t cluster = off >> c->q->h.cluster_bits;
	uint64_t i = cluster - c->first;

	if (!c->narrow || i >= c->end - c->first || off >= c->q->file->size) {
		count(c, off, c->q->cluster_size);
		return;
	}
	c->narrow[i]--;
	if (cluster > c->last_used)
		c->last_used = cluster;
}

static bool in_window(const struct checker *c, uint64_t off)
{
	uint64_t i = off >> c->q->h.cluster_bits;

	return i >= c->first && i < c->end;
}

static bool is_one(const struct checker *c, uint64_t off)
{
	uint64_t i = (off >> c->q->h.cluster_bits) - c->first;

	return c->is_one[i / 64] >> (i % 64) & 1;
}

/* log2 of the refcounts in one block. */
static unsigned block_bits(const struct qcow2 *q)
{
	return q->h.cluster_bits + 3 - q->h.refcount_order;
}

/* Read one refcount again, for a message. */
static uint64_t stored_refcount(const struct checker *c, uint64_t cluster)
{
	unsigned order = c->q->h.refcount_order;
	uint64_t i = cluster >> block_bits(c->q);
	uint64_t in = cluster & ((1ull << block_bits(c->q)) - 1);
	uint64_t bit = in << order, block;
	uint8_t part[16] = { 0 };

	block = i < c->entries ? be64_get(c->reftable[i]) & ~511ull : 0;
	if (!block || qi_file_read_some(c->q->file, block + bit / 64 * 8,
					sizeof(part), part, NULL) < 0)
		return 0;
	return qcow2_refcount_load(part, (bit % 64) >> order, order);
}

static void check_copied(struct checker *c, const char *what, uint64_t entry,
			 uint64_t off)
{
	if (!in_window(c, off) || is_one(c, off) == !!(entry & QCOW2_COPIED))
		return;
	c->out->corruptions++;
	if (c->messages < QI_CHECK_MESSAGES)
		say(c,
		    "ERROR OFLAG_COPIED %s cluster: entry=%llx refcount=%llu",
		    what, (unsigned long long)entry,
		    (unsigned long long)stored_refcount(
			    c, off >> c->q->h.cluster_bits));
}

/* ----------------------------------------------------------- guest data */

static void check_packed(struct checker *c, uint64_t entry, bool active)
{
	uint64_t host, len;

	qcow2_packed_place(c->q, entry, &host, &len);
	count(c, qi_round_down(host, 512),
	      qi_round_up(host + len, 512) - qi_round_down(host, 512));
	if (!c->is_first)
		return;
	if (entry & QCOW2_COPIED) {
		say(c,
		    "ERROR: compressed cluster with the copied flag: "
		    "entry=%llx",
		    (unsigned long long)entry);
		c->out->corruptions++;
	}
	if (!active)
		return;
	c->out->allocated_clusters++;
	c->out->compressed_clusters++;
	c->out->fragmented_clusters++;
}

static void check_plain(struct checker *c, uint64_t entry, bool active,
			uint64_t *expected)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK;

	if (!host && !(qcow2_has_data_file(c->q) && entry & QCOW2_COPIED))
		return;
	if (!qi_is_aligned(host, c->q->cluster_size)) {
		if (c->is_first) {
			say(c, "ERROR: data cluster at %llu is not aligned",
			    (unsigned long long)host);
			c->out->corruptions++;
		}
		return;
	}
	/* Clusters of a data file have no refcounts. */
	if (!qcow2_has_data_file(c->q))
		count_cluster(c, host);
	if (!active)
		return;
	if (c->is_first) {
		c->out->allocated_clusters++;
		if (*expected && host != *expected)
			c->out->fragmented_clusters++;
		*expected = host + c->q->cluster_size;
	}
	if (!qcow2_has_data_file(c->q))
		check_copied(c, "data", entry, host);
}

static void check_subclusters(struct checker *c, uint64_t entry, const be64 *p)
{
	uint64_t bits = be64_get(*p);

	if (!c->is_first || entry & QCOW2_COMPRESSED ||
	    !(bits & (bits >> 32) & UINT32_MAX))
		return;
	say(c, "ERROR: subclusters both zero and allocated: bitmap=%llx",
	    (unsigned long long)bits);
	c->out->corruptions++;
}

static void check_l2(struct checker *c, bool active)
{
	unsigned words = c->q->l2_entry_size / sizeof(be64);
	const be64 *entries = (const be64 *)(const void *)c->table;
	uint64_t expected = 0;

	for (uint64_t i = 0; i < 1ull << c->q->l2_bits; i++) {
		uint64_t entry = be64_get(entries[i * words]);

		if (entry & QCOW2_COMPRESSED)
			check_packed(c, entry, active);
		else
			check_plain(c, entry, active, &expected);
		if (words == 2)
			check_subclusters(c, entry, &entries[i * words + 1]);
	}
}

/* One L1 table, with all below it. */
static int check_l1(struct checker *c, uint64_t off, uint32_t size, bool active,
		    struct qi_error *e)
{
	struct qcow2 *q = c->q;
	QI_AUTOFREE be64 *l1 = NULL;
	int ret = qcow2_l1_read(q, off, size, &l1, e);

	if (ret)
		return ret;
	count(c, off, (uint64_t)size * sizeof(be64));
	for (uint32_t i = 0; i < size; i++) {
		uint64_t entry = be64_get(l1[i]);
		uint64_t table = entry & QCOW2_OFFSET_MASK;

		if (!table)
			continue;
		ret = qi_interrupted(e);
		if (ret)
			return ret;
		count(c, table, q->cluster_size);
		if (!qi_is_aligned(table, q->cluster_size) ||
		    qi_file_read(q->file, table, q->cluster_size, c->table,
				 NULL)) {
			if (c->is_first) {
				say(c,
				    "ERROR: L2 table at %llu is not a "
				    "cluster of the file",
				    (unsigned long long)table);
				c->out->corruptions++;
			}
			continue;
		}
		check_l2(c, active);
		if (active)
			check_copied(c, "L2", entry, table);
	}
	return 0;
}

/* ------------------------------------------------------------- the rest */

static int check_snapshots(struct checker *c, struct qi_error *e)
{
	struct qcow2_snapshots all;
	int ret = qcow2_snapshots_read(c->q, &all, e);

	if (ret == -EUCLEAN) {
		if (c->is_first) {
			say(c, "ERROR: the snapshot table is damaged");
			c->out->corruptions++;
		}
		return 0;
	}
	if (!ret)
		count(c, c->q->h.snapshots_offset, all.bytes);
	for (size_t i = 0; i < all.count && !ret; i++)
		ret = check_l1(c, all.entries[i].l1_offset,
			       all.entries[i].l1_size, false, e);
	qcow2_snapshots_free(&all);
	return ret;
}

static void check_bitmaps(struct checker *c)
{
	struct qcow2 *q = c->q;
	struct qcow2_bitmaps *all = &q->bitmaps;

	count(c, all->directory_offset, all->directory_size);
	for (size_t i = 0; i < all->count; i++) {
		struct qcow2_bitmap *b = &all->entries[i];

		if (qcow2_bitmap_table(q, b, NULL)) {
			if (c->is_first) {
				say(c, "ERROR: bitmap '%s' has a damaged table",
				    b->facts.name);
				c->out->corruptions++;
			}
			continue;
		}
		count(c, b->table_offset,
		      (uint64_t)b->table_size * sizeof(be64));
		for (uint32_t j = 0; j < b->table_size; j++)
			if (be64_get(b->table[j]) & QCOW2_OFFSET_MASK)
				count(c,
				      be64_get(b->table[j]) & QCOW2_OFFSET_MASK,
				      q->cluster_size);
	}
}

static void check_crypto(struct checker *c)
{
	const struct qcow2_extension *x =
		qcow2_header_find(&c->q->h, QCOW2_EXT_CRYPTO);
	be64 place[2];

	if (!x || x->len < sizeof(place))
		return;
	memcpy(place, x->data, sizeof(place));
	count(c, be64_get(place[0]), be64_get(place[1]));
}

/* Take the values of one refcount block that lie in the window. */
static void take_block(struct checker *c, uint64_t at, uint64_t from,
		       uint64_t to)
{
	unsigned order = c->q->h.refcount_order;

	for (uint64_t j = from; j < to; j++) {
		uint64_t value = qcow2_refcount_load(c->table, j - at, order);
		uint64_t i = j - c->first;

		if (!value)
			continue;
		c->last_used = qi_max(c->last_used, j);
		if (value == 1)
			c->is_one[i / 64] |= 1ull << (i % 64);
		if (c->narrow)
			c->narrow[i] = (uint16_t)(c->narrow[i] + value);
		else
			c->wide[i] += (uint32_t)qi_min(value, INT32_MAX);
	}
}

static int load_refcounts(struct checker *c, struct qi_error *e)
{
	struct qcow2 *q = c->q;
	unsigned bits = block_bits(q);

	for (uint64_t i = 0; i < c->entries; i++) {
		uint64_t block = be64_get(c->reftable[i]) & ~511ull;
		uint64_t from, to;

		if (!block)
			continue;
		count(c, block, q->cluster_size);
		from = qi_max(i << bits, c->first);
		to = qi_min((i + 1) << bits, c->end);
		if (from >= to)
			continue;
		if (!qi_is_aligned(block, q->cluster_size) ||
		    qi_file_read(q->file, block, q->cluster_size, c->table,
				 NULL)) {
			say(c,
			    "ERROR refcount block %llu is not a cluster of "
			    "the file",
			    (unsigned long long)i);
			c->out->corruptions++;
			continue;
		}
		take_block(c, i << bits, from, to);
		if (qi_interrupted(e))
			return -EINTR;
	}
	return 0;
}

static void report(struct checker *c, uint64_t cluster, int32_t excess)
{
	uint64_t stored;

	if (excess < 0)
		c->out->corruptions++;
	else
		c->out->leaks++;
	if (c->messages >= QI_CHECK_MESSAGES)
		return;
	stored = stored_refcount(c, cluster);
	say(c, "%s cluster %llu refcount=%llu reference=%lld",
	    excess < 0 ? "ERROR" : "Leaked", (unsigned long long)cluster,
	    (unsigned long long)stored, (long long)stored - excess);
}

static void compare(struct checker *c)
{
	uint64_t n = c->end - c->first;

	for (uint64_t i = 0; i < n; i++) {
		int32_t excess;

		/* Nearly always all of a piece is as it should be. */
		while (c->narrow && i % 256 == 0 && i + 256 <= n &&
		       qi_is_zero(&c->narrow[i], 512))
			i += 256;
		if (i == n)
			break;
		excess = c->narrow ? (int16_t)c->narrow[i] :
				     (int32_t)c->wide[i];

		if (excess)
			report(c, c->first + i, excess);
	}
}

static int check_window(struct checker *c, struct qi_error *e)
{
	struct qcow2 *q = c->q;
	size_t n = (size_t)(c->end - c->first);
	int ret;

	memset(c->is_one, 0, n / 8 + 8);
	if (c->narrow)
		memset(c->narrow, 0, n * sizeof(*c->narrow));
	else
		memset(c->wide, 0, n * sizeof(*c->wide));
	ret = load_refcounts(c, e);
	count(c, 0, q->cluster_size);
	count(c, q->h.reftable_offset,
	      (uint64_t)q->h.reftable_clusters * q->cluster_size);
	if (!ret && q->h.l1_size)
		ret = check_l1(c, q->h.l1_offset, q->h.l1_size, true, e);
	if (!ret)
		ret = check_snapshots(c, e);
	check_bitmaps(c);
	check_crypto(c);
	if (!ret)
		compare(c);
	return ret;
}

/* One past the last cluster that the file or a refcount block speaks of. */
static uint64_t cluster_count(const struct checker *c)
{
	unsigned bits = block_bits(c->q);
	uint64_t n = qcow2_clusters(c->q, c->q->file->size);
	uint64_t entries = c->entries;

	while (entries && !(be64_get(c->reftable[entries - 1]) & ~511ull))
		entries--;
	/* Blocks far past the end of the file are damage, not clusters. */
	return qi_max(n, qi_min(entries << bits, n + (1ull << bits)));
}

static int check_all(struct checker *c, struct qi_error *e)
{
	bool is_wide = c->q->h.refcount_order > 4;
	uint64_t window = is_wide ? WINDOW_WIDE : WINDOW_NARROW;
	uint64_t total = cluster_count(c);
	size_t n = (size_t)qi_min(total, window) + 1;
	int ret = 0;

	c->table = malloc(c->q->cluster_size);
	c->is_one = malloc(n / 8 + 16);
	if (is_wide)
		c->wide = malloc(n * sizeof(*c->wide));
	else
		c->narrow = malloc(n * sizeof(*c->narrow));
	if (!c->table || !c->is_one || (!c->wide && !c->narrow))
		ret = qi_no_memory(e);
	while (!ret && c->first < total) {
		c->end = qi_min(c->first + window, total);
		ret = check_window(c, e);
		c->first = c->end;
		c->is_first = false;
	}
	free(c->table);
	free(c->is_one);
	free(c->wide);
	free(c->narrow);
	return ret;
}

int qcow2_check(struct qi_node *node, struct qi_check *check,
		struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(node);
	uint64_t bytes = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	QI_AUTOFREE be64 *table = malloc(bytes);
	struct checker c = { .q = q,
			     .out = check,
			     .is_first = true,
			     .reftable = table,
			     .entries = bytes / sizeof(be64) };
	int ret = table ? qi_file_read(q->file, q->h.reftable_offset, bytes,
				       table, e) :
			  qi_no_memory(e);

	check->total_clusters = qcow2_clusters(q, q->h.size);
	if (!ret)
		ret = check_all(&c, e);
	check->image_end = (c.last_used + 1) << q->h.cluster_bits;
	return ret;
}
