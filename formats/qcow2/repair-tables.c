/* SPDX-License-Identifier: MIT */
/*
 * repair-tables.c - L1, L2 and snapshot tables without impossible entries
 *
 * Guest data that can be read stays where it is. What cannot be (an entry
 * that points outside the file or between clusters) reads as zeroes after
 * the repair. A table that has to change is written to new clusters.
 */
#include <errno.h>

#include "formats/qcow2/check.h"

#define SUBCLUSTERS_ALL UINT32_MAX

/* ------------------------------------------------------------ L2 entries */

/* Make an entry read as zeroes: whole, or where it had subclusters. */
static void lose(const struct qcow2 *q, uint64_t *entry, uint64_t *subclusters)
{
	if (q->l2_entry_size != sizeof(be64)) {
		if (*entry & QCOW2_COMPRESSED)
			*subclusters = SUBCLUSTERS_ALL;
		*subclusters = (*subclusters | *subclusters << 32) &
			       ((uint64_t)SUBCLUSTERS_ALL << 32);
		*entry = 0;
	} else {
		/* Version 2 has no zero clusters. */
		*entry = q->h.version > 2 ? QCOW2_ZERO : 0;
	}
}

static bool fix_packed(const struct qcow2_repair *r, uint64_t *entry,
		       uint64_t *subclusters)
{
	const struct qcow2 *q = r->q;
	uint64_t host, len;

	*entry &= ~QCOW2_COPIED;
	*subclusters = 0;
	if (qcow2_has_data_file(q))
		return false;
	qcow2_packed_place(q, *entry, &host, &len);
	return !qcow2_repair_is_past_end(r, host, len);
}

/* False: the data that the entry stands for is lost. */
static bool fix_plain(const struct qcow2_repair *r, uint64_t *entry,
		      uint64_t *subclusters)
{
	const struct qcow2 *q = r->q;
	uint64_t host = *entry & QCOW2_OFFSET_MASK;
	bool extended = q->l2_entry_size != sizeof(be64), has_data;

	*entry &= ~QCOW2_L2_RESERVED;
	has_data = host || (qcow2_has_data_file(q) && *entry & QCOW2_COPIED &&
			    (extended || !(*entry & QCOW2_ZERO)));
	if (!has_data) {
		*subclusters &= ~(uint64_t)SUBCLUSTERS_ALL;
		return true;
	}
	/* Allocated goes before zero: there is something to be seen. */
	*subclusters &= ~((*subclusters & SUBCLUSTERS_ALL) << 32);
	if (!qi_is_aligned(host, q->cluster_size))
		return false;
	if (!qcow2_has_data_file(q))
		return !qcow2_repair_is_past_end(r, host, q->cluster_size);
	*entry |= QCOW2_COPIED;
	return true;
}

/* True: the table was changed. */
static bool fix_l2(struct qcow2_repair *r, be64 *table, uint64_t l1_index)
{
	const struct qcow2 *q = r->q;
	unsigned words = q->l2_entry_size / sizeof(be64);
	bool changed = false;

	for (uint64_t i = 0; i < 1ull << q->l2_bits; i++) {
		be64 *at = &table[i * words];
		uint64_t was = be64_get(at[0]), entry = was;
		uint64_t subs_were = words == 2 ? be64_get(at[1]) : 0;
		uint64_t subs = subs_were;
		bool is_good = entry & QCOW2_COMPRESSED ?
				       fix_packed(r, &entry, &subs) :
				       fix_plain(r, &entry, &subs);

		if (!is_good)
			lose(q, &entry, &subs);
		if (entry == was && subs == subs_were)
			continue;
		qcow2_repair_say(r, "Repairing L2 entry: %llx -> %llx%s",
				 (unsigned long long)was,
				 (unsigned long long)entry,
				 is_good ? "" : "; the data is lost");
		if (!is_good)
			qcow2_repair_say(
				r,
				"The disk reads as zeroes at %llu, "
				"%u bytes",
				(unsigned long long)((l1_index << q->l2_bits |
						      i)
						     << q->h.cluster_bits),
				q->cluster_size);
		at[0] = be64_put(entry);
		if (words == 2)
			at[1] = be64_put(subs);
		changed = true;
	}
	return changed;
}

/* ------------------------------------------------------------ L1 entries */

static bool has_clash(const struct qcow2_repair *r, uint64_t off)
{
	uint64_t cluster = off >> r->q->h.cluster_bits;
	size_t low = 0, high = r->clashes->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (r->clashes->cluster[middle] < cluster)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->clashes->count && r->clashes->cluster[low] == cluster;
}

static int fix_table(struct qcow2_repair *r, uint64_t *entry, uint64_t i,
		     be64 *table, struct qi_error *e)
{
	struct qcow2 *q = r->q;
	uint64_t off = *entry & QCOW2_OFFSET_MASK;
	bool has_moved = has_clash(r, off);
	ssize_t n = qi_file_read_some(q->file, off, q->cluster_size, table, e);
	int ret;

	if (n < 0)
		return (int)n;
	if (!fix_l2(r, table, i) && !has_moved)
		return 0;
	ret = qcow2_repair_append(r, table, q->cluster_size, &off, e);
	*entry = off | QCOW2_COPIED;
	return ret;
}

/* What a table that is lost mapped: zeroes, and never what is below. */
static int lose_table(struct qcow2_repair *r, uint64_t *entry, uint64_t i,
		      be64 *table, struct qi_error *e)
{
	const struct qcow2 *q = r->q;
	unsigned words = q->l2_entry_size / sizeof(be64);
	unsigned bits = q->h.cluster_bits + q->l2_bits;
	bool has_below = q->h.backing_name && q->h.version > 2;
	uint64_t off;
	int ret;

	qcow2_repair_say(r,
			 "An L2 table is lost: the data at %llu, %llu bytes, "
			 "is lost with it",
			 (unsigned long long)(i << bits), 1ull << bits);
	*entry = 0;
	if (!has_below)
		return 0;
	memset(table, 0, q->cluster_size);
	for (uint64_t j = 0; j < 1ull << q->l2_bits; j++)
		table[j * words + words - 1] =
			be64_put(words == 2 ? (uint64_t)SUBCLUSTERS_ALL << 32 :
					      QCOW2_ZERO);
	ret = qcow2_repair_append(r, table, q->cluster_size, &off, e);
	*entry = off | QCOW2_COPIED;
	return ret;
}

static int fix_l1_entry(struct qcow2_repair *r, uint64_t *entry, uint64_t i,
			be64 *table, struct qi_error *e)
{
	struct qcow2 *q = r->q;
	uint64_t was = *entry, off = was & QCOW2_OFFSET_MASK;
	int ret = 0;

	*entry &= ~QCOW2_L1_RESERVED;
	if (!off) {
		*entry = 0;
	} else if (!qi_is_aligned(off, q->cluster_size) ||
		   qcow2_repair_is_past_end(r, off, q->cluster_size)) {
		ret = lose_table(r, entry, i, table, e);
	} else {
		ret = fix_table(r, entry, i, table, e);
	}
	if (ret)
		return ret;
	if (*entry != was)
		qcow2_repair_say(r, "Repairing L1 entry %llu: %llx -> %llx",
				 (unsigned long long)i, (unsigned long long)was,
				 (unsigned long long)*entry);
	return 0;
}

int qcow2_repair_l1(struct qcow2_repair *r, uint64_t *off, uint32_t size,
		    bool active, struct qi_error *e)
{
	struct qcow2 *q = r->q;
	uint64_t bytes = (uint64_t)size * sizeof(be64);
	QI_AUTOFREE be64 *l1 = malloc(bytes + 1);
	QI_AUTOFREE be64 *table = qi_alloc_aligned(q->cluster_size);
	bool changed = (active && r->move_l1) ||
		       qcow2_repair_is_past_end(r, *off, bytes);
	ssize_t n;

	if (!l1 || !table)
		return qi_no_memory(e);
	n = qi_file_read_some(q->file, *off, bytes, l1, e);
	if (n < 0)
		return (int)n;
	for (uint64_t i = 0; i < size; i++) {
		uint64_t was = be64_get(l1[i]), entry = was;
		int ret = qi_interrupted(e);

		if (!ret && was)
			ret = fix_l1_entry(r, &entry, i, table, e);
		if (ret)
			return ret;
		l1[i] = be64_put(entry);
		changed |= entry != was;
	}
	if (!changed || !size)
		return 0;
	r->changed = true;
	return qcow2_repair_append(r, l1, bytes, off, e);
}

int qcow2_repair_tables(struct qcow2_repair *r, struct qi_error *e)
{
	struct qcow2_header *h = &r->q->h;

	return qcow2_repair_l1(r, &h->l1_offset, h->l1_size, true, e);
}

/* ------------------------------------------------------------- snapshots */

/* Extra data that is known. */
struct extra {
	be64 vm_state_size;
	be64 disk_size;
	be64 icount;
};

struct new_table {
	uint8_t *bytes;
	size_t len;
	uint32_t count;
	bool changed;
};

/* Append one entry as it should be. */
static int keep_snapshot(struct qcow2_repair *r,
			 const struct qcow2_raw_snapshot *s,
			 struct new_table *t, struct qi_error *e)
{
	struct qcow2 *q = r->q;
	struct qcow2_disk_snapshot d = s->d;
	struct extra x = { .vm_state_size = be64_put(be32_get(d.vm_state_size)),
			   .disk_size = be64_put(q->h.size),
			   .icount = be64_put(UINT64_MAX) };
	size_t names = (size_t)be16_get(d.id_size) + be16_get(d.name_size);
	bool is_long = s->extra > QCOW2_MAX_SNAPSHOT_EXTRA;
	size_t extra = is_long ? sizeof(x) : s->extra, known = extra & ~7ul,
	       len;
	bool is_short = q->h.version > 2 && extra < 16;
	uint8_t *p;
	ssize_t n;

	if (is_short)
		extra = sizeof(x);
	d.extra_data_size = be32_put((uint32_t)extra);
	d.l1_table_offset = be64_put(s->l1_offset);
	len = qi_round_up(sizeof(d) + extra + names, 8);
	p = realloc(t->bytes, t->len + len);
	if (!p)
		return qi_no_memory(e);
	t->bytes = p;
	p += t->len;
	memset(p, 0, len);
	memcpy(p, &d, sizeof(d));
	if (is_short)
		memcpy(p + sizeof(d), &x, sizeof(x));
	n = qi_file_read_some(q->file, s->off + sizeof(d), known, p + sizeof(d),
			      e);
	if (n >= 0)
		n = qi_file_read_some(q->file, s->off + sizeof(d) + s->extra,
				      names, p + sizeof(d) + extra, e);
	t->changed |= is_short || is_long ||
		      s->l1_offset != be64_get(s->d.l1_table_offset);
	t->len += len;
	t->count++;
	return n < 0 ? (int)n : 0;
}

static int repair_snapshot(struct qcow2_repair *r, uint32_t i,
			   struct qcow2_raw_snapshot *s, struct new_table *t,
			   struct qi_error *e)
{
	bool is_long = s->extra > QCOW2_MAX_SNAPSHOT_EXTRA;
	const char *problem = s->problem;
	int ret;

	if (s->off + sizeof(s->d) > r->file_end)
		problem = "its entry is not in the file";
	else if (is_long && s->next > r->file_end)
		problem = "its extra data is too long, and what follows it "
			  "cannot be found";
	else if (is_long && !problem)
		qcow2_repair_say(r,
				 "Repairing: snapshot %u loses extra data that "
				 "is not known",
				 i);
	if (problem) {
		qcow2_repair_say(r, "Repairing: snapshot %u is dropped: %s", i,
				 problem);
		t->changed = true;
		return 0;
	}
	ret = qcow2_repair_l1(r, &s->l1_offset, s->l1_size, false, e);
	return ret ? ret : keep_snapshot(r, s, t, e);
}

int qcow2_repair_snapshots(struct qcow2_repair *r, struct qi_error *e)
{
	struct qcow2_header *h = &r->q->h;
	uint64_t off = h->snapshots_offset;
	struct new_table t = { .changed = false };
	int ret = 0;

	for (uint32_t i = 0; i < h->snapshot_count && !ret; i++) {
		struct qcow2_raw_snapshot s;

		ret = qcow2_snapshot_at(r->q, off, &s, e);
		if (!ret)
			ret = repair_snapshot(r, i, &s, &t, e);
		if (ret || (s.extra > QCOW2_MAX_SNAPSHOT_EXTRA &&
			    s.next > r->file_end))
			break;
		off = s.next;
	}
	if (!ret && t.changed) {
		r->changed = true;
		h->snapshots_offset = 0;
		h->snapshot_count = t.count;
		if (t.count)
			ret = qcow2_repair_append(r, t.bytes, t.len,
						  &h->snapshots_offset, e);
	}
	free(t.bytes);
	return ret;
}
