/* SPDX-License-Identifier: MIT */
/* snapshot.c - the table of internal snapshots */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

void qcow2_snapshots_free(struct qcow2_snapshots *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->entries[i].facts.id);
		free(s->entries[i].facts.name);
	}
	free(s->entries);
	*s = (struct qcow2_snapshots){ 0 };
}

/* A string of len bytes at file offset off; malloc'd. */
static int read_text(struct qcow2 *q, uint64_t off, size_t len, char **out,
		     struct qi_error *e)
{
	*out = calloc(1, len + 1);
	if (!*out)
		return qi_no_memory(e);
	return qi_file_read(q->file, off, len, *out, e);
}

/* The fields that are known of the extra data; it may be longer. */
struct extra {
	be64 vm_state_size;
	be64 disk_size;
	be64 icount;
};

static int read_extra(struct qcow2 *q, uint64_t off, uint32_t len,
		      struct qi_internal_snapshot *f, struct qi_error *e)
{
	/* What it is too short for is not known. */
	struct extra x = { .vm_state_size = be64_put(f->vm_state_size),
			   .disk_size = be64_put(q->h.size),
			   .icount = be64_put(UINT64_MAX) };
	int ret = qi_file_read(q->file, off,
			       qi_min(len, sizeof(x)) & ~(size_t)7, &x, e);

	f->vm_state_size = be64_get(x.vm_state_size);
	f->disk_size = be64_get(x.disk_size);
	f->icount = be64_get(x.icount);
	return ret;
}

static int read_one(struct qcow2 *q, uint64_t *off, struct qcow2_snapshot *s,
		    struct qi_error *e)
{
	struct qi_internal_snapshot *f = &s->facts;
	struct qcow2_disk_snapshot d;
	uint64_t at = *off + sizeof(d);
	uint32_t extra;
	int ret = qi_file_read(q->file, *off, sizeof(d), &d, e);

	if (ret)
		return ret;
	s->l1_offset = be64_get(d.l1_table_offset);
	s->l1_size = be32_get(d.l1_size);
	f->date_sec = be32_get(d.date_sec);
	f->date_nsec = be32_get(d.date_nsec);
	f->vm_clock_nsec = be64_get(d.vm_clock_nsec);
	f->vm_state_size = be32_get(d.vm_state_size);
	extra = be32_get(d.extra_data_size);
	if (extra > QCOW2_MAX_SNAPSHOT_EXTRA ||
	    (uint64_t)s->l1_size * sizeof(be64) > QCOW2_MAX_L1_BYTES ||
	    !qi_is_aligned(s->l1_offset, q->cluster_size) ||
	    !qi_fits(s->l1_offset, (uint64_t)s->l1_size * sizeof(be64),
		     q->file->size))
		return qcow2_damaged(q, e,
				     "the entry of an internal snapshot at "
				     "%llu is not valid",
				     (unsigned long long)*off);
	ret = read_extra(q, at, extra, f, e);
	at += extra;
	if (!ret)
		ret = read_text(q, at, be16_get(d.id_size), &f->id, e);
	at += be16_get(d.id_size);
	if (!ret)
		ret = read_text(q, at, be16_get(d.name_size), &f->name, e);
	at += be16_get(d.name_size);
	s->pos = *off - q->h.snapshots_offset;
	*off = qi_round_up(at, 8);
	s->len = *off - q->h.snapshots_offset - s->pos;
	return ret;
}

int qcow2_snapshots_read(struct qcow2 *q, struct qcow2_snapshots *out,
			 struct qi_error *e)
{
	uint64_t off = q->h.snapshots_offset;
	int ret = 0;

	*out = (struct qcow2_snapshots){ 0 };
	if (!q->h.snapshot_count)
		return 0;
	out->entries = calloc(q->h.snapshot_count, sizeof(*out->entries));
	if (!out->entries)
		return qi_no_memory(e);
	while (!ret && out->count < q->h.snapshot_count) {
		ret = read_one(q, &off, &out->entries[out->count++], e);
		out->bytes = off - q->h.snapshots_offset;
		/* Names are kept, so their sum must have a bound. */
		if (!ret && out->bytes > QCOW2_MAX_SNAPSHOT_BYTES)
			ret = qcow2_damaged(q, e,
					    "the snapshot table has more than "
					    "%u bytes",
					    QCOW2_MAX_SNAPSHOT_BYTES);
	}
	if (ret)
		qcow2_snapshots_free(out);
	return ret;
}

/* ------------------------------------------------------------ reading one */

static bool is_same(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

static bool is_chosen(const struct qi_internal_snapshot *s,
		      const struct qi_snapshot_choice *c, bool by_id)
{
	if (c->name_or_id)
		return is_same(by_id ? s->id : s->name, c->name_or_id);
	return (!c->id || is_same(s->id, c->id)) &&
	       (!c->name || is_same(s->name, c->name));
}

static const struct qcow2_snapshot *find_chosen(
	const struct qcow2_snapshots *all, const struct qi_snapshot_choice *c)
{
	for (int by_name = 0; by_name < 2; by_name++)
		for (size_t i = 0; i < all->count; i++)
			if (is_chosen(&all->entries[i].facts, c, !by_name))
				return &all->entries[i];
	return NULL;
}

/* The disk may have had another size: entries that miss map nothing. */
static int show(struct qcow2 *q, const struct qcow2_snapshot *s,
		bool keeps_size, struct qi_error *e)
{
	uint64_t size = keeps_size ? q->h.size : s->facts.disk_size, needed;
	be64 *l1;
	int ret;

	needed = qcow2_l1_entries(q->h.cluster_bits, q->l2_bits, size);
	if (needed * sizeof(be64) > QCOW2_MAX_L1_BYTES)
		return qcow2_damaged(q, e,
				     "internal snapshot '%s' is of a disk of "
				     "%llu bytes",
				     s->facts.name, (unsigned long long)size);
	ret = qcow2_l1_read(q, s->l1_offset, s->l1_size, &l1, e);
	if (ret)
		return ret;
	q->l1 = calloc(qi_max(needed, s->l1_size) + 1, sizeof(be64));
	if (q->l1)
		memcpy(q->l1, l1, s->l1_size * sizeof(be64));
	free(l1);
	q->h.size = size;
	q->h.l1_offset = s->l1_offset;
	q->h.l1_size = (uint32_t)qi_max(needed, s->l1_size);
	return q->l1 ? 0 : qi_no_memory(e);
}

int qcow2_snapshot_show(struct qcow2 *q,
			const struct qi_snapshot_choice *choice,
			struct qi_error *e)
{
	const char *name = choice->name_or_id ? choice->name_or_id :
			   choice->name	      ? choice->name :
						choice->id;
	const struct qcow2_snapshot *s;
	struct qcow2_snapshots all;
	int ret = qcow2_snapshots_read(q, &all, e);

	if (ret)
		return ret;
	s = find_chosen(&all, choice);
	if (s)
		ret = show(q, s, choice->keeps_size, e);
	else
		ret = qi_stock(e,
			       qi_fail(e, ENOENT,
				       "'%s' has no internal snapshot '%s'",
				       q->file->path, name),
			       "Failed to load snapshot: Can't find snapshot");
	qcow2_snapshots_free(&all);
	return ret;
}
