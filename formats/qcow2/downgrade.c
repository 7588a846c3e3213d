/* SPDX-License-Identifier: MIT */
/*
 * downgrade.c - from version 3 to version 2
 *
 * Version 2 has no clusters that read as zero by a flag. Order of writes, for
 * each L2 table that has some, snapshots' tables too: clusters with zeroes and
 * their refcounts; sync; the table, which means the same as before; sync; then
 * clusters that the flag had hidden are freed. At the end, one header write.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"
#include "lib/record.h"

/* ----------------------------------------------------------------- checks */

static int refuse(const struct qcow2 *q, struct qi_error *e, const char *why)
{
	return qi_fail(e, ENOTSUP,
		       "'%s' cannot become version 2 (compat=0.10): %s",
		       q->file->name, why);
}

static int check_features(const struct qcow2 *q, struct qi_error *e)
{
	int ret = 0;

	if (qcow2_has_data_file(q))
		return qi_stock(e, refuse(q, e, "its data is in another file"),
				"Cannot downgrade an image with a data file");
	if (q->h.incompatible & QCOW2_INCOMPAT_EXTENDED_L2)
		ret = refuse(q, e, "it has extended L2 entries");
	else if (q->h.incompatible & QCOW2_INCOMPAT_COMPRESSION)
		return qi_stock(
			e, refuse(q, e, "its compression type is not zlib"),
			"Cannot downgrade an image with zstd "
			"compression type and existing compressed "
			"clusters");
	else if (q->h.incompatible)
		ret = refuse(q, e, "it has features that version 2 lacks");
	return ret ? qi_stock(e, ret,
			      "Cannot downgrade an image with incompatible "
			      "features 0x%llx set",
			      (unsigned long long)q->h.incompatible) :
		     0;
}

/* QEMU would lose them without a word. */
static int check_bitmaps(const struct qcow2 *q, struct qi_error *e)
{
	const struct qi_record *r = q->node->record;
	const struct qcow2_bitmaps *all = &q->bitmaps;

	if (all->problem && q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS)
		return refuse(q, e, all->problem);
	for (size_t i = 0; i < all->count; i++) {
		const char *name = all->facts[i].name;
		const struct qi_record_bitmap *b =
			qi_record_state_of(q->node) == QI_RECORD_VALID ?
				qi_record_find(r, name) :
				NULL;
		bool segment = b && !b->removed;

		return qi_fail(e, ENOTSUP,
			       "'%s' cannot become version 2 (compat=0.10), "
			       "which has no bitmaps: '%s' would be lost; "
			       "'qimg bitmap remove --%s %s %s' removes it",
			       q->file->name, name, segment ? "drive" : "node",
			       QI_WORD(q->file->path), QI_WORD(name));
	}
	return 0;
}

static int check_snapshots(struct qcow2 *q, uint64_t size, struct qi_error *e)
{
	struct qcow2_snapshots all;
	int ret = qcow2_snapshots_read(q, &all, e);

	for (size_t i = 0; !ret && i < all.count; i++) {
		const struct qi_internal_snapshot *f = &all.entries[i].facts;

		if (f->disk_size != size || f->vm_state_size > UINT32_MAX)
			ret = qi_stock(e,
				       refuse(q, e,
					      "an internal snapshot has "
					      "another disk size, or too much "
					      "VM state"),
				       "Internal snapshots prevent downgrade "
				       "of image");
	}
	qcow2_snapshots_free(&all);
	return ret;
}

int qcow2_downgrade_check(struct qcow2 *q, uint64_t size, struct qi_error *e)
{
	int ret = check_features(q, e);

	if (!ret)
		ret = check_bitmaps(q, e);
	return ret ? ret : check_snapshots(q, size, e);
}

/* ----------------------------------------------------------- zero clusters */

struct expander {
	struct qcow2 *q;
	be64 *table;
	uint64_t *hidden; /* host clusters that are not used any more */
	uint64_t hidden_count;
	uint64_t refcount;    /* of the table: how many L1 tables reach it */
	uint64_t done, total; /* bytes of L2 tables */
	const struct qi_progress *progress;
};

static bool is_zero_cluster(be64 entry)
{
	return be64_get(entry) & QCOW2_ZERO &&
	       !(be64_get(entry) & QCOW2_COMPRESSED);
}

static int write_zeroes(struct qcow2 *q, uint64_t off, struct qi_error *e)
{
	int ret = qcow2_check_overlap(q, off, q->cluster_size, e);

	if (!ret && off + q->cluster_size > q->file->size &&
	    qi_file_is_regular(q->file))
		ret = qi_file_resize(q->file, off + q->cluster_size, e);
	return ret ? ret : qi_file_punch(q->file, off, q->cluster_size, e);
}

/* A cluster of zeroes that has as many references as its table. */
static int zero_cluster(struct expander *x, uint64_t *off, struct qi_error *e)
{
	int ret = qcow2_alloc(x->q, 1, off, e);

	for (uint64_t i = 1; i < x->refcount && !ret; i++)
		ret = qcow2_refcount_add(x->q, *off, x->q->cluster_size, 1, e);
	return ret ? ret : write_zeroes(x->q, *off, e);
}

static int expand_entry(struct expander *x, be64 *entry, struct qi_error *e)
{
	struct qcow2 *q = x->q;
	uint64_t host = be64_get(*entry) & QCOW2_OFFSET_MASK, refcount = 0;
	int ret = 0;

	if (!qi_is_aligned(host, q->cluster_size))
		return qcow2_damaged(q, e, "a cluster at %llu is not aligned",
				     (unsigned long long)host);
	if (!q->h.backing_name) {
		*entry = be64_put(0);
	} else {
		uint64_t off = host;

		if (host)
			ret = qcow2_refcount_get(q, host >> q->h.cluster_bits,
						 &refcount, e);
		/* Does this table alone use it? */
		if (!ret && host && refcount == x->refcount) {
			ret = write_zeroes(q, host, e);
			host = 0;
		} else if (!ret) {
			ret = zero_cluster(x, &off, e);
		}
		*entry = be64_put(off | (x->refcount == 1 ? QCOW2_COPIED : 0));
	}
	if (host)
		x->hidden[x->hidden_count++] = host;
	return ret;
}

static int free_hidden(struct expander *x, struct qi_error *e)
{
	struct qcow2 *q = x->q;
	int ret = 0;

	for (uint64_t i = 0; i < x->hidden_count; i++)
		for (uint64_t j = 0; j < x->refcount && !ret; j++)
			ret = qcow2_free(q, x->hidden[i], q->cluster_size, e);
	x->hidden_count = 0;
	return ret;
}

static int expand_table(struct expander *x, uint64_t off, struct qi_error *e)
{
	struct qcow2 *q = x->q;
	uint64_t entries = 1ull << q->l2_bits;
	bool changed = false;
	int ret = qcow2_refcount_get(q, off >> q->h.cluster_bits, &x->refcount,
				     e);

	for (uint64_t i = 0; i < entries && !ret; i++) {
		if (!is_zero_cluster(x->table[i]))
			continue;
		changed = true;
		ret = expand_entry(x, &x->table[i], e);
	}
	if (ret || !changed)
		return ret;
	ret = qcow2_refcounts_write(q, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	if (!ret)
		ret = qi_file_write(q->file, off, q->cluster_size, x->table, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	return ret ? ret : free_hidden(x, e);
}

static int expand_l1(struct expander *x, const be64 *l1, uint32_t entries,
		     struct qi_error *e)
{
	int ret = 0;

	for (uint32_t i = 0; i < entries && !ret; i++) {
		bool exists;

		ret = qi_interrupted(e);
		if (!ret)
			ret = qcow2_l2_read(x->q, l1[i], x->table, &exists, e);
		if (!ret && exists)
			ret = expand_table(
				x, be64_get(l1[i]) & QCOW2_OFFSET_MASK, e);
		x->done += x->q->cluster_size;
		if (x->progress && x->progress->fn)
			x->progress->fn(x->progress->arg, x->done, x->total);
	}
	return ret;
}

static int expand_all(struct expander *x, const struct qcow2_snapshots *all,
		      struct qi_error *e)
{
	struct qcow2 *q = x->q;
	int ret;

	x->total = q->h.l1_size;
	for (size_t i = 0; i < all->count; i++)
		x->total += all->entries[i].l1_size;
	x->total *= q->cluster_size;
	ret = expand_l1(x, q->l1, q->h.l1_size, e);
	for (size_t i = 0; i < all->count && !ret; i++) {
		const struct qcow2_snapshot *s = &all->entries[i];
		QI_AUTOFREE be64 *l1 = NULL;

		ret = qcow2_l1_read(q, s->l1_offset, s->l1_size, &l1, e);
		if (!ret)
			ret = expand_l1(x, l1, s->l1_size, e);
	}
	return ret;
}

static int expand(struct qcow2 *q, const struct qi_progress *progress,
		  struct qi_error *e)
{
	struct expander x = { .q = q, .progress = progress };
	struct qcow2_snapshots all;
	int ret = qcow2_refcounts_open(q, e);

	if (!ret)
		ret = qcow2_l1_load(q, e);
	if (!ret)
		ret = qcow2_snapshots_read(q, &all, e);
	if (ret)
		return ret;
	x.table = qi_alloc_aligned(q->cluster_size);
	x.hidden = calloc(1ull << q->l2_bits, sizeof(uint64_t));
	if (!x.table || !x.hidden)
		ret = qi_no_memory(e);
	else
		ret = expand_all(&x, &all, e);
	if (!ret)
		ret = qcow2_refcounts_write(q, e);
	qcow2_cache_forget(q->l2);
	qcow2_snapshots_free(&all);
	free(x.table);
	free(x.hidden);
	return ret;
}

int qcow2_downgrade(struct qcow2 *q, const struct qi_progress *progress,
		    struct qi_error *e)
{
	struct qcow2_header *h = &q->h;
	int ret = expand(q, progress, e);

	if (ret)
		return ret;
	/* Bitmaps are gone already; the table names bits of version 3. */
	qcow2_header_set(h, QCOW2_EXT_BITMAPS, NULL, 0);
	qcow2_header_set(h, QCOW2_EXT_FEATURE_NAMES, NULL, 0);
	h->version = 2;
	h->length = QCOW2_V2_HEADER;
	h->compatible = h->autoclear = 0;
	return qcow2_header_commit(q, e);
}
