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

#define WINDOW_CLUSTERS (4u << 20)

struct checker {
	struct qcow2 *q;
	struct qi_check *out;
	uint64_t first, end; /* clusters of this window */
	uint32_t *counted;   /* references to each, and */
	uint32_t *stored;    /* its refcount on disk, saturated */
	bool is_first;	     /* window: report what is not about refcounts */
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
	for (i = qi_max(off >> bits, c->first); i <= last && i < c->end; i++)
		if (c->counted[i - c->first] < UINT32_MAX)
			c->counted[i - c->first]++;
}

static uint64_t stored_refcount(const struct checker *c, uint64_t off)
{
	return c->stored[(off >> c->q->h.cluster_bits) - c->first];
}

static bool in_window(const struct checker *c, uint64_t off)
{
	uint64_t i = off >> c->q->h.cluster_bits;

	return i >= c->first && i < c->end;
}

static void bad_copied(struct checker *c, const char *what, uint64_t entry,
		       uint64_t off)
{
	say(c, "ERROR OFLAG_COPIED %s cluster: entry=%llx refcount=%llu", what,
	    (unsigned long long)entry,
	    (unsigned long long)stored_refcount(c, off));
	c->out->corruptions++;
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
		count(c, host, c->q->cluster_size);
	if (!active)
		return;
	if (c->is_first) {
		c->out->allocated_clusters++;
		if (*expected && host != *expected)
			c->out->fragmented_clusters++;
		*expected = host + c->q->cluster_size;
	}
	if (!qcow2_has_data_file(c->q) && in_window(c, host) &&
	    (stored_refcount(c, host) == 1) != !!(entry & QCOW2_COPIED))
		bad_copied(c, "data", entry, host);
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
		if (active && in_window(c, table) &&
		    (stored_refcount(c, table) == 1) !=
			    !!(entry & QCOW2_COPIED))
			bad_copied(c, "L2", entry, table);
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

/* Refcount blocks are counted, and their values for the window taken. */
static int load_refcounts(struct checker *c, const be64 *table,
			  uint64_t entries, struct qi_error *e)
{
	struct qcow2 *q = c->q;
	unsigned bits = q->h.cluster_bits + 3 - q->h.refcount_order;

	for (uint64_t i = 0; i < entries; i++) {
		uint64_t block = be64_get(table[i]) & ~511ull;
		uint64_t at = i << bits, from, to;

		if (!block)
			continue;
		count(c, block, q->cluster_size);
		from = qi_max(at, c->first);
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
		for (uint64_t j = from; j < to; j++)
			c->stored[j - c->first] = (uint32_t)qi_min(
				qcow2_refcount_load(c->table, j - at,
						    q->h.refcount_order),
				UINT32_MAX);
		if (qi_interrupted(e))
			return -EINTR;
	}
	return 0;
}

static void compare(struct checker *c)
{
	for (uint64_t i = c->first; i < c->end; i++) {
		uint32_t stored = c->stored[i - c->first];
		uint32_t counted = c->counted[i - c->first];

		if (stored || counted)
			c->last_used = i;
		if (stored == counted)
			continue;
		say(c, "%s cluster %llu refcount=%u reference=%u",
		    stored < counted ? "ERROR" : "Leaked",
		    (unsigned long long)i, stored, counted);
		if (stored < counted)
			c->out->corruptions++;
		else
			c->out->leaks++;
	}
}

static int check_window(struct checker *c, const be64 *table, uint64_t entries,
			struct qi_error *e)
{
	struct qcow2 *q = c->q;
	size_t n = (size_t)(c->end - c->first);
	int ret;

	memset(c->counted, 0, n * sizeof(*c->counted));
	memset(c->stored, 0, n * sizeof(*c->stored));
	ret = load_refcounts(c, table, entries, e);
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
static uint64_t cluster_count(const struct qcow2 *q, const be64 *table,
			      uint64_t entries)
{
	unsigned bits = q->h.cluster_bits + 3 - q->h.refcount_order;
	uint64_t n = qcow2_clusters(q, q->file->size);

	while (entries && !(be64_get(table[entries - 1]) & ~511ull))
		entries--;
	/* Blocks far past the end of the file are damage, not clusters. */
	return qi_max(n, qi_min(entries << bits, n + (1ull << bits)));
}

int qcow2_check(struct qi_node *node, struct qi_check *check,
		struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(node);
	uint64_t bytes = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	QI_AUTOFREE be64 *table = malloc(bytes);
	struct checker c = { .q = q, .out = check, .is_first = true };
	uint64_t total;
	int ret = table ? qi_file_read(q->file, q->h.reftable_offset, bytes,
				       table, e) :
			  qi_no_memory(e);

	if (ret)
		return ret;
	total = cluster_count(q, table, bytes / sizeof(be64));
	check->total_clusters = qcow2_clusters(q, q->h.size);
	c.table = malloc(q->cluster_size);
	c.counted =
		calloc(qi_min(total, WINDOW_CLUSTERS) + 1, sizeof(uint32_t));
	c.stored = calloc(qi_min(total, WINDOW_CLUSTERS) + 1, sizeof(uint32_t));
	if (!c.table || !c.counted || !c.stored)
		ret = qi_no_memory(e);
	while (!ret && c.first < total) {
		c.end = qi_min(c.first + WINDOW_CLUSTERS, total);
		ret = check_window(&c, table, bytes / sizeof(be64), e);
		c.first = c.end;
		c.is_first = false;
	}
	check->image_end = (c.last_used + 1) << q->h.cluster_bits;
	free(c.table);
	free(c.counted);
	free(c.stored);
	return ret;
}
