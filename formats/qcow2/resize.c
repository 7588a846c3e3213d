/* SPDX-License-Identifier: MIT */
/*
 * resize.c - another size of the virtual disk
 *
 * What the L2 tables map past the end must never be seen, so the end cuts
 * them, whichever way it moves. Order of writes: a copy of the L2 table that
 * the end goes through, without what is past it, and an L1 table of the right
 * length, both into new clusters; sync; size, L1 table, bitmaps and record by
 * one header write; sync; only then the refcounts of what the old tables
 * alone reach go down, holes are punched and the end of the file is cut.
 * Until the header is written the image is what it was, and a run that ends
 * later leaks clusters. After a shrink the new tables may be the last thing in
 * the file; then the same is done once more, to move them down.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"
#include "lib/drive.h"

/* What the header will refer to, and what of the old tables goes. */
struct tables {
	be64 *l1;	/* a new table; NULL: the old one serves */
	uint64_t off;	/* of the L1 table */
	uint32_t size;	/* its entries */
	uint32_t kept;	/* old entries whose tables are not dropped whole */
	be64 *split;	/* old L2 table that the end goes through, or NULL */
	uint64_t first; /* entry of it that goes, with all after it */
	uint64_t new_l1, new_l2; /* clusters that were taken */
};

/* Clusters that get free, joined so that holes are large. */
struct dropper {
	struct qcow2 *q;
	uint64_t off, len;
};

/* -------------------------------------------------------------- planning */

static bool is_mapped(be64 l1_entry)
{
	return be64_get(l1_entry) & QCOW2_OFFSET_MASK;
}

static bool any_mapped(const struct qcow2 *q, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < qi_min(to, q->h.l1_size); i++)
		if (is_mapped(q->l1[i]))
			return true;
	return false;
}

/*
 * Load the table that `keep` bytes end in, if it has something past them, or
 * if it has to move.
 */
static int find_split(struct qcow2 *q, uint64_t keep, bool move,
		      struct tables *t, struct qi_error *e)
{
	uint64_t words = q->l2_entry_size / sizeof(be64), used;
	bool exists;
	int ret;

	t->first = qcow2_clusters(q, keep) & ((1ull << q->l2_bits) - 1);
	if (!t->first || t->kept > q->h.l1_size)
		return 0;
	t->split = qi_alloc_aligned(q->cluster_size);
	if (!t->split)
		return qi_no_memory(e);
	ret = qcow2_l2_read(q, q->l1[t->kept - 1], t->split, &exists, e);
	used = t->first * words * sizeof(be64);
	if (!ret && exists &&
	    (move ||
	     !qi_is_zero(t->split + t->first * words, q->cluster_size - used)))
		return 0;
	free(t->split);
	t->split = NULL;
	return ret;
}

/* Tables that map the first `keep` bytes alone, and can map `reach` bytes. */
static int plan_tables(struct qcow2 *q, uint64_t keep, uint64_t reach,
		       bool move, struct tables *t, struct qi_error *e)
{
	uint64_t need = qcow2_l1_entries(q->h.cluster_bits, q->l2_bits, reach);
	int ret = qcow2_l1_load(q, e);

	*t = (struct tables){
		.off = q->h.l1_offset,
		.size = q->h.l1_size,
		.kept = (uint32_t)qcow2_l1_entries(q->h.cluster_bits,
						   q->l2_bits, keep),
	};
	if (!ret)
		ret = find_split(q, keep, move, t, e);
	if (ret)
		return ret;
	if (move || t->split || need > q->h.l1_size ||
	    any_mapped(q, t->kept, need)) {
		t->size = (uint32_t)need;
		t->l1 = calloc(need + 1, sizeof(be64));
		if (!t->l1)
			return qi_no_memory(e);
		memcpy(t->l1, q->l1,
		       qi_min(t->kept, q->h.l1_size) * sizeof(be64));
	} else if (any_mapped(q, need, q->h.l1_size)) {
		t->size = (uint32_t)need;
	}
	return 0;
}

static bool changes(const struct qcow2 *q, const struct tables *t)
{
	return t->l1 || t->size != q->h.l1_size;
}

static void tables_free(struct tables *t)
{
	free(t->l1);
	free(t->split);
}

/* --------------------------------------------------------------- writing */

static uint64_t l1_bytes(const struct qcow2 *q, uint32_t entries)
{
	return qi_round_up((uint64_t)entries * sizeof(be64), q->cluster_size);
}

static int write_split(struct qcow2 *q, struct tables *t, struct qi_error *e)
{
	int ret = qcow2_store(q, t->split, t->first * q->l2_entry_size,
			      &t->new_l2, e);

	t->l1[t->kept - 1] = be64_put(t->new_l2 | QCOW2_COPIED);
	return ret;
}

static int write_tables(struct qcow2 *q, struct tables *t, struct qi_error *e)
{
	int ret = t->split ? write_split(q, t, e) : 0;

	if (ret || !t->l1)
		return ret;
	ret = qcow2_store(q, t->l1, (uint64_t)t->size * sizeof(be64),
			  &t->new_l1, e);
	t->off = t->new_l1;
	return ret;
}

/* Nothing refers to the new tables. What fails here leaks. */
static void undo_tables(struct qcow2 *q, const struct tables *t)
{
	int ret = 0;

	/* A header write that failed may have reached the disk. */
	if (t->new_l1 && t->new_l1 == q->h.l1_offset)
		return;
	if (t->new_l2)
		ret = qcow2_free(q, t->new_l2, q->cluster_size, NULL);
	if (!ret && t->new_l1)
		ret = qcow2_free(q, t->new_l1, l1_bytes(q, t->size), NULL);
	if (!ret)
		qcow2_refcounts_write(q, NULL);
}

/* -------------------------------------------------------------- dropping */

static void punch(struct dropper *d)
{
	if (d->len)
		qi_file_discard(d->q->file, d->off, d->len);
	d->len = 0;
}

/* One reference to these bytes of the file is gone. */
static int drop(struct dropper *d, uint64_t off, uint64_t len,
		struct qi_error *e)
{
	struct qcow2 *q = d->q;
	uint64_t at = qi_round_down(off, q->cluster_size);
	int ret = qcow2_free(q, off, len, e);

	for (; !ret && at < off + len; at += q->cluster_size) {
		uint64_t refcount;

		ret = qcow2_refcount_get(q, at >> q->h.cluster_bits, &refcount,
					 e);
		if (ret || refcount)
			continue;
		if (d->off + d->len != at)
			punch(d);
		if (!d->len)
			d->off = at;
		d->len += q->cluster_size;
	}
	return ret;
}

static int drop_entries(struct dropper *d, const be64 *table, uint64_t from,
			struct qi_error *e)
{
	struct qcow2 *q = d->q;
	unsigned words = q->l2_entry_size / sizeof(be64);
	int ret = 0;

	for (uint64_t i = from; i < 1ull << q->l2_bits && !ret; i++) {
		uint64_t host, len;

		if (qcow2_entry_place(q, be64_get(table[i * words]), &host,
				      &len))
			ret = drop(d, host, len, e);
	}
	return ret;
}

static int drop_table(struct dropper *d, be64 l1_entry, const be64 *table,
		      uint64_t from, struct qi_error *e)
{
	int ret = drop_entries(d, table, from, e);

	return ret ? ret :
		     drop(d, be64_get(l1_entry) & QCOW2_OFFSET_MASK,
			  d->q->cluster_size, e);
}

/* What the old L1 table alone has reached. */
static int drop_old(struct dropper *d, const struct tables *t, const be64 *l1,
		    uint64_t l1_off, uint32_t entries, struct qi_error *e)
{
	struct qcow2 *q = d->q;
	QI_AUTOFREE be64 *table = qi_alloc_aligned(q->cluster_size);
	uint64_t old = l1_bytes(q, entries), now = l1_bytes(q, t->size);
	int ret = table ? 0 : qi_no_memory(e);

	if (!ret && t->split)
		ret = drop_table(d, l1[t->kept - 1], t->split, t->first, e);
	for (uint32_t i = t->kept; i < entries && !ret; i++) {
		bool exists;

		ret = qcow2_l2_read(q, l1[i], table, &exists, e);
		if (!ret && exists)
			ret = drop_table(d, l1[i], table, 0, e);
	}
	if (!ret && t->off != l1_off && entries)
		ret = drop(d, l1_off, old, e);
	else if (!ret && old > now)
		ret = drop(d, l1_off + now, old - now, e);
	punch(d);
	return ret;
}

/* -------------------------------------------------------------- switching */

/* One header write; then the old tables go. */
static int switch_tables(struct qcow2 *q, uint64_t size, struct tables *t,
			 struct qi_error *e)
{
	struct qcow2_resize to = { size, t->off, t->size };
	QI_AUTOFREE be64 *old = NULL;
	uint64_t old_off = q->h.l1_offset;
	uint32_t old_entries = q->h.l1_size;
	struct dropper d = { .q = q };
	struct qi_error why;
	int ret = qcow2_bitmaps_update(q, NULL, 0, NULL, 0, &to, e);

	if (ret)
		return ret;
	old = q->l1;
	q->l1 = t->l1;
	t->l1 = NULL;
	/* The old table serves on. */
	if (!q->l1) {
		q->l1 = old;
		old = NULL;
	}
	qcow2_cache_forget(q->l2);
	ret = drop_old(&d, t, old ? old : q->l1, old_off, old_entries, &why);
	if (!ret)
		ret = qcow2_refcounts_write(q, &why);
	/* It is done: what cannot be freed is a leak, no failure. */
	if (ret)
		qi_warn(q->node->graph,
			"%s; old clusters stay allocated in the image",
			why.text);
	return 0;
}

/*
 * `size` is shown, `keep` bytes stay mapped, `reach` bytes can be; move: into
 * new tables in any case.
 */
static int set_size(struct qcow2 *q, uint64_t size, uint64_t keep,
		    uint64_t reach, bool move, struct qi_error *e)
{
	struct tables t = { 0 };
	int ret = qcow2_refcounts_open(q, e);

	if (!ret)
		ret = plan_tables(q, keep, reach, move, &t, e);
	if (!ret && (size != q->h.size || changes(q, &t))) {
		ret = write_tables(q, &t, e);
		if (!ret)
			ret = switch_tables(q, size, &t, e);
		if (ret)
			undo_tables(q, &t);
	}
	tables_free(&t);
	return ret;
}

/* ------------------------------------------------------------- data files */

/*
 * An external data file is as long as the disk. A raw one shows what is in it
 * past the old end, so that must be zero.
 */
static int grow_data(struct qcow2 *q, uint64_t size, struct qi_error *e)
{
	uint64_t end = qi_min(q->data->size, size);
	int ret = 0;

	if (q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA && end > q->h.size)
		ret = qi_file_punch(q->data, q->h.size, end - q->h.size, e);
	if (!ret && qi_file_is_regular(q->data) && q->data->size != size)
		ret = qi_file_resize(q->data, size, e);
	return ret ? ret : qi_file_sync(q->data, e);
}

/* Who reads the data file alone must find what the image has. */
static int map_raw_data(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t off = qi_round_up(q->h.size, q->cluster_size), len;
	struct qi_writer *w;
	int ret = qcow2_edit(n, &w, e);

	if (ret)
		return ret;
	for (; off < size && !ret; off += len) {
		uint64_t host;

		ret = w->ops->place(w, off,
				    qi_round_up(size - off, q->cluster_size),
				    &host, &len, e);
	}
	if (!ret)
		ret = w->ops->finish(w, e);
	w->ops->free(w);
	return ret;
}

/* -------------------------------------------------------------------- ops */

static int refuse_in_use(const struct qcow2 *q,
			 const struct qi_stored_bitmap *f, struct qi_error *e)
{
	return qi_stock_bad_bitmap(
		e,
		qi_fail(e, ESTALE, "bitmap '%s' of '%s' cannot be resized: %s",
			f->name, q->file->name, f->problem),
		f);
}

static int check_bitmaps(struct qcow2 *q, uint64_t size, struct qi_error *e)
{
	const struct qcow2_bitmaps *all = &q->bitmaps;

	if (all->problem && q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS)
		return qcow2_damaged(q, e,
				     "%s; its size cannot be changed until "
				     "that is repaired",
				     all->problem);
	for (size_t i = 0; i < all->count; i++) {
		const struct qi_stored_bitmap *f = &all->facts[i];
		uint64_t bits;

		if (f->in_use && qi_graph_is_stock(q->node->graph))
			return refuse_in_use(q, f, e);
		/* What is lost already is left as it is. */
		if (f->in_use)
			continue;
		if (f->problem)
			return qcow2_damaged(
				q, e,
				"bitmap '%s' cannot be resized: %s; remove it "
				"with 'qimg bitmap remove --node %s %s'",
				f->name, f->problem, QI_WORD(q->file->path),
				QI_WORD(f->name));
		bits = qi_div_up(size, 1ull << f->granularity_bits);
		if (qi_div_up(bits, 8) > QCOW2_MAX_BITMAP_BYTES)
			return qi_fail(e, EFBIG,
				       "bitmap '%s' of '%s' would be larger "
				       "than 512 MiB; remove it, or use a "
				       "larger granularity",
				       f->name, q->file->name);
	}
	return 0;
}

static int check(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t need = qcow2_l1_entries(q->h.cluster_bits, q->l2_bits, size);
	int ret;

	if (size % 512)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"cannot resize '%s' to %llu bytes: the "
					"size must be a multiple of 512",
					q->file->name,
					(unsigned long long)size),
				"The new size must be a multiple of 512");
	if (q->h.version < 3 && q->h.snapshot_count)
		return qi_stock(
			e,
			qi_fail(e, ENOTSUP,
				"'%s' cannot be resized: it is a version 2 "
				"image with internal snapshots; 'qimg amend -o "
				"compat=1.1 %s' makes it version 3",
				q->file->name, QI_WORD(q->file->name)),
			"Can't resize a v2 image which has snapshots");
	if (need * sizeof(be64) > QCOW2_MAX_L1_BYTES)
		return qi_stock(e,
				qi_fail(e, EFBIG,
					"'%s' cannot grow to %llu bytes with "
					"clusters of %u",
					q->file->name, (unsigned long long)size,
					q->cluster_size),
				"Failed to grow the L1 table: %s",
				strerror(EFBIG));
	ret = qcow2_open_data(q, e);
	if (!ret && q->data && !qi_file_is_regular(q->data) &&
	    q->data->size < size)
		ret = qi_fail(e, ENOSPC,
			      "'%s' cannot grow to %llu bytes: its data is on "
			      "a device of %llu",
			      q->file->name, (unsigned long long)size,
			      (unsigned long long)q->data->size);
	return ret ? ret : check_bitmaps(q, size, e);
}

static int prepare(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	int ret = qcow2_open_data(q, e);

	if (!ret && q->data)
		ret = grow_data(q, size, e);
	if (!ret)
		ret = set_size(q, q->h.size, q->h.size, size, false, e);
	if (!ret && q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		ret = map_raw_data(n, size, e);
	return ret;
}

/* New tables went past what was then freed: is there room before them? */
static int move_down(struct qcow2 *q, struct qi_error *e)
{
	uint64_t off;
	int ret = qcow2_alloc(q, 1, &off, e);

	if (!ret)
		ret = qcow2_free(q, off, q->cluster_size, e);
	if (ret || off > q->h.l1_offset)
		return ret;
	return set_size(q, q->h.size, q->h.size, q->h.size, true, e);
}

static int set(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	bool grows = size > q->h.size;
	uint64_t l1_offset = q->h.l1_offset;
	int ret = qcow2_open_data(q, e);

	if (!ret)
		ret = set_size(q, size, size, size, false, e);
	if (!ret && !grows && q->h.l1_offset != l1_offset)
		ret = move_down(q, e);
	if (!ret && !grows && q->data && qi_file_is_regular(q->data))
		ret = qi_file_resize(q->data, size, e);
	if (!ret && !grows)
		ret = qcow2_trim(q, e);
	return ret ? ret : qi_file_sync(q->file, e);
}

const struct qi_resize_ops qcow2_resize_ops = {
	.check = check,
	.prepare = prepare,
	.set = set,
};
