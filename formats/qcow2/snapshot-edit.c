/* SPDX-License-Identifier: MIT */
/*
 * snapshot-edit.c - creating, applying and deleting internal snapshots
 *
 * Order of writes: new tables and raised refcounts; sync; one header write
 * switches; sync; then refcounts are lowered, and copied flags set again.
 * While flags and refcounts disagree the image is marked dirty, so an end in
 * between leaves it as it was, or with leaks, or to be repaired, which loses
 * nothing. In version 2 there is no mark: then checks call such flags errors,
 * but refcounts are too high at worst, so all that they cost is a copy.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "formats/qcow2/qcow2.h"
#include "lib/graph.h"
#include "lib/mark.h"

/* Extra data as current QEMU writes it. */
struct new_entry {
	struct qcow2_disk_snapshot head;
	be64 vm_state_size;
	be64 disk_size;
	be64 icount;
};
_Static_assert(sizeof(struct new_entry) == 64, "snapshot with extra data");

static int list(struct qi_node *n, struct qi_internal_snapshot **out,
		size_t *count, struct qi_error *e)
{
	struct qcow2_snapshots all;
	int ret = qcow2_snapshots_read(qcow2_of(n), &all, e);

	if (ret)
		return ret;
	*out = calloc(all.count + 1, sizeof(**out));
	if (!*out) {
		qcow2_snapshots_free(&all);
		return qi_no_memory(e);
	}
	/* The texts change hands. */
	for (size_t i = 0; i < all.count; i++) {
		(*out)[i] = all.entries[i].facts;
		all.entries[i].facts.id = all.entries[i].facts.name = NULL;
	}
	*count = all.count;
	qcow2_snapshots_free(&all);
	return 0;
}

/*
 * The table's bytes, with room for `more` after them; malloc'd. The padding
 * of the last entry need not be in the file.
 */
static int read_table(struct qcow2 *q, const struct qcow2_snapshots *all,
		      size_t more, uint8_t **out, struct qi_error *e)
{
	ssize_t n;

	*out = calloc(1, all->bytes + more + q->cluster_size);
	if (!*out)
		return qi_no_memory(e);
	n = qi_file_read_some(q->file, q->h.snapshots_offset, all->bytes, *out,
			      e);
	return n < 0 ? (int)n : 0;
}

/* A table that was switched in; the old one goes. */
static int switch_table(struct qcow2 *q, uint64_t off, uint32_t count,
			uint64_t old_bytes, bool dirty, struct qi_error *e)
{
	uint64_t old = q->h.snapshots_offset;
	int ret = qcow2_refcounts_write(q, e);

	q->h.snapshots_offset = off;
	q->h.snapshot_count = count;
	qcow2_mark_dirty(q, dirty);
	/* Bits of features that we do not know must go before a write. */
	q->h.autoclear &= QCOW2_AUTOCLEAR_KNOWN;
	if (!ret)
		ret = qcow2_header_commit(q, e);
	if (!ret && old_bytes)
		ret = qcow2_free(q, old, old_bytes, e);
	return ret;
}

/* Bring the copied flags of the active tables up to date with refcounts. */
static int settle(struct qcow2 *q, struct qi_error *e)
{
	bool changed;
	int ret = qcow2_refcounts_write(q, e);

	if (!ret)
		ret = qi_file_sync(q->file, e);
	if (!ret)
		ret = qcow2_l1_load(q, e);
	if (!ret)
		ret = qcow2_update_copied(q, q->l1, q->h.l1_size, &changed, e);
	if (!ret && changed)
		ret = qi_file_write(q->file, q->h.l1_offset,
				    (size_t)q->h.l1_size * sizeof(be64), q->l1,
				    e);
	return ret ? ret : qi_file_sync(q->file, e);
}

/* ---------------------------------------------------------------- create */

static unsigned long next_id(const struct qcow2_snapshots *all)
{
	unsigned long id, max = 0;

	for (size_t i = 0; i < all->count; i++) {
		id = strtoul(all->entries[i].facts.id, NULL, 10);
		max = id > max ? id : max;
	}
	return max + 1;
}

/* Texts in tables have a length and no end mark. */
static void put_text(uint8_t *to, const void *text, size_t len)
{
	memcpy(to, text, len);
}

static size_t put_entry(uint8_t *to, const struct qcow2 *q, uint64_t l1_offset,
			const char *id, const char *name)
{
	size_t id_len = strlen(id), name_len = strlen(name);
	struct timespec now;
	struct new_entry n;

	clock_gettime(CLOCK_REALTIME, &now);
	n = (struct new_entry){
		.head = { .l1_table_offset = be64_put(l1_offset),
			  .l1_size = be32_put(q->h.l1_size),
			  .id_size = be16_put((uint16_t)id_len),
			  .name_size = be16_put((uint16_t)name_len),
			  .date_sec = be32_put((uint32_t)now.tv_sec),
			  .date_nsec = be32_put((uint32_t)now.tv_nsec),
			  .extra_data_size = be32_put(
				  sizeof(n) -
				  sizeof(struct qcow2_disk_snapshot)) },
		.disk_size = be64_put(q->h.size),
	};
	memcpy(to, &n, sizeof(n));
	put_text(to + sizeof(n), id, id_len);
	put_text(to + sizeof(n) + id_len, name, name_len);
	return qi_round_up(sizeof(n) + id_len + name_len, 8);
}

static int check_create(struct qcow2 *q, const struct qcow2_snapshots *all,
			const char *name, struct qi_error *e)
{
	size_t len = strlen(name);

	if (qcow2_has_data_file(q))
		return qi_fail(e, ENOTSUP,
			       "'%s' keeps its data in another file, and can "
			       "have no internal snapshots",
			       q->file->path);
	if ((!len && !qi_graph_is_stock(q->node->graph)) || len > 1023)
		return qi_fail(e, EINVAL,
			       "the name of a snapshot has 1 to 1023 bytes");
	if (all->count >= QCOW2_MAX_SNAPSHOTS)
		return qi_fail(e, EFBIG,
			       "'%s' has %zu snapshots and can hold "
			       "no more",
			       q->file->path, all->count);
	/* The id has at most 20 digits. */
	if (all->bytes + qi_round_up(sizeof(struct new_entry) + 20 + len, 8) >
	    QCOW2_MAX_SNAPSHOT_BYTES)
		return qi_fail(e, EFBIG, "the snapshot table of '%s' is full",
			       q->file->path);
	return 0;
}

/* The snapshot's own L1 table, and a snapshot table with one more entry. */
static int write_new(struct qcow2 *q, const struct qcow2_snapshots *all,
		     const char *name, uint64_t *off, struct qi_error *e)
{
	QI_AUTOFREE uint8_t *table = NULL;
	uint64_t l1_off, len;
	char id[24];
	int ret =
		read_table(q, all, sizeof(struct new_entry) + 2048, &table, e);

	if (!ret)
		ret = qcow2_store(q, q->l1,
				  (uint64_t)q->h.l1_size * sizeof(be64),
				  &l1_off, e);
	if (ret)
		return ret;
	snprintf(id, sizeof(id), "%lu", next_id(all));
	len = all->bytes + put_entry(table + all->bytes, q, l1_off, id, name);
	return qcow2_store(q, table, len, off, e);
}

/* The end of an operation, or back to where it began. */
static int settle_clean(struct qcow2 *q, struct qi_error *e)
{
	int ret = settle(q, e);

	return ret ? ret : qcow2_write_dirty(q, false, e);
}

static int create_shared(struct qcow2 *q, const struct qcow2_snapshots *all,
			 const char *name, struct qi_error *e)
{
	uint64_t off;
	int ret = qcow2_check_shareable(q, q->l1, q->h.l1_size, e);

	if (!ret)
		ret = qcow2_write_dirty(q, true, e);
	if (ret)
		return ret;
	ret = qcow2_share(q, q->l1, q->h.l1_size, 1, e);
	if (ret) {
		/* It is undone, and no flag has changed. */
		qcow2_write_dirty(q, false, NULL);
		return ret;
	}
	/* Nothing is written in place any more from here on. */
	ret = settle(q, e);
	if (!ret)
		ret = write_new(q, all, name, &off, e);
	if (ret) {
		if (!qcow2_share(q, q->l1, q->h.l1_size, -1, NULL))
			settle_clean(q, NULL);
		return ret;
	}
	return switch_table(q, off, (uint32_t)all->count + 1, all->bytes, false,
			    e);
}

static int create(struct qi_node *n, const char *name, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_snapshots all;
	int ret = qcow2_refcounts_open(q, e);

	if (!ret)
		ret = qcow2_l1_load(q, e);
	if (!ret)
		ret = qcow2_snapshots_read(q, &all, e);
	if (ret)
		return ret;
	ret = check_create(q, &all, name, e);
	if (!ret)
		ret = create_shared(q, &all, name, e);
	qcow2_snapshots_free(&all);
	if (!ret)
		ret = qcow2_refcounts_write(q, e);
	return ret ? ret : qi_file_sync(q->file, e);
}

/* ---------------------------------------------------------------- delete */

static int remove_one(struct qi_node *n, size_t which, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_snapshots all;
	QI_AUTOFREE uint8_t *table = NULL;
	QI_AUTOFREE be64 *l1 = NULL;
	struct qcow2_snapshot *s;
	uint64_t off, rest;
	int ret = qcow2_refcounts_open(q, e);

	if (!ret)
		ret = qcow2_snapshots_read(q, &all, e);
	if (ret)
		return ret;
	s = &all.entries[which];
	ret = qcow2_l1_read(q, s->l1_offset, s->l1_size, &l1, e);
	if (!ret)
		ret = read_table(q, &all, 0, &table, e);
	if (!ret) {
		rest = all.bytes - s->pos - s->len;
		memmove(table + s->pos, table + s->pos + s->len, rest);
		ret = qcow2_store(q, table, s->pos + rest, &off, e);
	}
	if (!ret)
		ret = switch_table(q, off, (uint32_t)all.count - 1, all.bytes,
				   true, e);
	if (!ret)
		ret = qcow2_share(q, l1, s->l1_size, -1, e);
	if (!ret && s->l1_size)
		ret = qcow2_free(q, s->l1_offset,
				 (uint64_t)s->l1_size * sizeof(be64), e);
	qcow2_snapshots_free(&all);
	return ret ? ret : settle_clean(q, e);
}

/* ----------------------------------------------------------------- apply */

/* The active L1 table, and that of the snapshot. */
struct switched {
	struct qcow2 *q;
	const be64 *l1;
	uint32_t entries;
	uint64_t size; /* of the disk then */
};

/* What the switch changes, for each bitmap that records. */
static int add_of_switch(void *arg, const struct qi_stored_bitmap *b,
			 struct qi_ranges **out)
{
	const struct switched *s = arg;
	uint64_t old = s->q->h.size;
	struct qi_ranges *in[2];
	size_t used = 0;
	int ret;

	if (!b->enabled)
		return 0;
	ret = qcow2_ranges_differing(&in[0], s->q, s->q->l1, s->q->h.l1_size,
				     s->l1, s->entries);
	used += !ret;
	/* Past the old end there was nothing, wherever it is mapped to. */
	if (!ret) {
		ret = qi_ranges_one(&in[1], old,
				    s->size > old ? s->size - old : 0);
		used += !ret;
	}
	ret = qi_ranges_collect(out, in, used, ret);
	return ret ? ret : 1;
}

/* Raised refcounts become durable, and the flags of what is in l1 right. */
static int set_flags(struct qcow2 *q, be64 *l1, uint32_t entries,
		     struct qi_error *e)
{
	bool changed;
	int ret = qcow2_refcounts_write(q, e);

	if (!ret)
		ret = qi_file_sync(q->file, e);
	return ret ? ret : qcow2_update_copied(q, l1, entries, &changed, e);
}

/* A copy of the snapshot's L1 table becomes the active one. */
static int switch_l1(struct qcow2 *q, const struct qcow2_snapshot *s, be64 *l1,
		     struct qi_error *e)
{
	struct switched sw = { q, l1, s->l1_size, s->facts.disk_size };
	struct qcow2_resize to = { .size = s->facts.disk_size,
				   .l1_size = s->l1_size };
	struct qi_marks m = { NULL, 0 };
	int ret = qcow2_store(q, l1, (uint64_t)s->l1_size * sizeof(be64),
			      &to.l1_offset, e);

	if (!ret)
		ret = qi_marks_make(&m, q->node, add_of_switch, &sw, e);
	if (!ret)
		ret = qcow2_bitmaps_update(q, m.changes, m.count, NULL, 0, &to,
					   e);
	qi_marks_clear(&m);
	return ret;
}

static int apply_entry(struct qcow2 *q, const struct qcow2_snapshot *s,
		       struct qi_error *e)
{
	uint64_t old_off = q->h.l1_offset;
	uint32_t old_size = q->h.l1_size;
	QI_AUTOFREE be64 *l1 = NULL;
	QI_AUTOFREE be64 *old = NULL;
	uint64_t need = qcow2_l1_entries(q->h.cluster_bits, q->l2_bits,
					 s->facts.disk_size);
	int ret;

	if (s->facts.disk_size > INT64_MAX || s->l1_size < need)
		return qcow2_damaged(q, e,
				     "internal snapshot '%s' has an L1 "
				     "table that is too short",
				     s->facts.name);
	ret = qcow2_l1_read(q, s->l1_offset, s->l1_size, &l1, e);
	if (!ret)
		ret = qcow2_check_shareable(q, l1, s->l1_size, e);
	if (!ret)
		ret = qcow2_write_dirty(q, true, e);
	if (ret)
		return ret;
	ret = qcow2_share(q, l1, s->l1_size, 1, e);
	if (ret) {
		/* It is undone, and no flag has changed. */
		qcow2_write_dirty(q, false, NULL);
		return ret;
	}
	ret = set_flags(q, l1, s->l1_size, e);
	if (!ret)
		ret = switch_l1(q, s, l1, e);
	if (ret) {
		/* Is the switch in doubt, then the mark stays. */
		if (q->h.l1_offset == old_off &&
		    !qcow2_share(q, l1, s->l1_size, -1, NULL))
			settle_clean(q, NULL);
		return ret;
	}
	/* What was active is reachable by nothing but this copy now. */
	old = q->l1;
	q->l1 = NULL;
	ret = qcow2_share(q, old, old_size, -1, e);
	if (!ret && old_size)
		ret = qcow2_free(q, old_off, (uint64_t)old_size * sizeof(be64),
				 e);
	return ret ? ret : settle_clean(q, e);
}

static int apply(struct qi_node *n, size_t which, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_snapshots all;
	int ret = qcow2_refcounts_open(q, e);

	if (!ret)
		ret = qcow2_l1_load(q, e);
	if (!ret)
		ret = qcow2_snapshots_read(q, &all, e);
	if (ret)
		return ret;
	ret = apply_entry(q, &all.entries[which], e);
	qcow2_snapshots_free(&all);
	return ret;
}

const struct qi_snapshot_ops qcow2_snapshot_ops = {
	.list = list,
	.create = create,
	.apply = apply,
	.remove = remove_one,
};
