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
