/* SPDX-License-Identifier: MIT */
/* check-tables.c - snapshots and bitmaps, read as they are and counted */
#include <errno.h>

#include "formats/qcow2/check.h"

int qcow2_check_piece(struct qcow2_checker *c, uint64_t off, uint64_t from,
		      uint64_t count, struct qi_error *e)
{
	size_t n = (size_t)qi_min(count - from, QCOW2_PIECE);
	ssize_t got = qi_file_read_some(c->q->file, off + from * sizeof(be64),
					n * sizeof(be64), c->piece, e);

	return got < 0 ? (int)got : 0;
}

static void corrupt(struct qcow2_checker *c, const char *what, uint64_t which,
		    const char *problem)
{
	if (!c->is_first)
		return;
	c->out->corruptions++;
	qcow2_check_say(c, "ERROR: %s %llu: %s", what,
			(unsigned long long)which, problem);
}

/* ------------------------------------------------------------ snapshots */

static const char *snapshot_problem(const struct qcow2 *q,
				    const struct qcow2_raw_snapshot *s)
{
	if (!qi_is_aligned(s->l1_offset, q->cluster_size))
		return "its L1 table is not aligned";
	if ((uint64_t)s->l1_size * sizeof(be64) > QCOW2_MAX_L1_BYTES)
		return "its L1 table is too large";
	return NULL;
}

int qcow2_snapshot_at(struct qcow2 *q, uint64_t off,
		      struct qcow2_raw_snapshot *out, struct qi_error *e)
{
	struct qcow2_disk_snapshot *d = &out->d;
	ssize_t n = qi_file_read_some(q->file, off, sizeof(*d), d, e);

	if (n < 0)
		return (int)n;
	out->off = off;
	out->l1_offset = be64_get(d->l1_table_offset);
	out->l1_size = be32_get(d->l1_size);
	out->extra = be32_get(d->extra_data_size);
	out->next = qi_round_up(off + sizeof(*d) + out->extra +
					be16_get(d->id_size) +
					be16_get(d->name_size),
				8);
	out->problem = snapshot_problem(q, out);
	return 0;
}

/* Extra data that QEMU wants to have in version 3: two numbers. */
#define EXTRA_NEEDED 16

int qcow2_check_snapshots(struct qcow2_checker *c, struct qi_error *e)
{
	struct qcow2 *q = c->q;
	uint64_t off = q->h.snapshots_offset, end = off;

	if (qcow2_has_data_file(q) && q->h.snapshot_count)
		corrupt(c, "number of snapshots", q->h.snapshot_count,
			"an image with a data file can have none");
	for (uint32_t i = 0; i < q->h.snapshot_count; i++) {
		struct qcow2_raw_snapshot s;
		int ret = qcow2_snapshot_at(q, off, &s, e);

		if (ret)
			return ret;
		if (s.extra > QCOW2_MAX_SNAPSHOT_EXTRA && c->is_first) {
			c->out->errors++;
			qcow2_check_say(c,
					"ERROR: snapshot %u: too much extra "
					"data",
					i);
		}
		if (s.extra > QCOW2_MAX_SNAPSHOT_EXTRA &&
		    s.next > qcow2_file_end(q)) {
			/* What follows cannot be found. */
			c->is_blind = true;
			break;
		}
		off = s.next;
		end = off;
		if (q->h.version > 2 && s.extra < EXTRA_NEEDED)
			corrupt(c, "snapshot", i, "its entry is incomplete");
		c->is_blind |= s.problem != NULL;
		if (s.problem)
			corrupt(c, "snapshot", i, s.problem);
		else if (s.l1_size)
			ret = qcow2_check_l1(c, s.l1_offset, s.l1_size, false,
					     e);
		if (ret)
			return ret;
	}
	qcow2_check_reference(c, q->h.snapshots_offset,
			      end - q->h.snapshots_offset);
	return 0;
}

/* -------------------------------------------------------------- bitmaps */

bool qcow2_bitmap_entry_is_bad(const struct qcow2 *q, uint64_t entry)
{
	uint64_t off = entry & QCOW2_OFFSET_MASK;

	return entry & ~(QCOW2_OFFSET_MASK | QCOW2_BITMAP_ONES) ||
	       (off && entry & QCOW2_BITMAP_ONES) ||
	       !qi_is_aligned(off, q->cluster_size);
}

static int check_bitmap_table(struct qcow2_checker *c,
			      const struct qcow2_bitmap *b, struct qi_error *e)
{
	struct qcow2 *q = c->q;

	qcow2_check_reference(c, b->table_offset,
			      (uint64_t)b->table_size * sizeof(be64));
	for (uint64_t i = 0; i < b->table_size; i++) {
		int ret = i % QCOW2_PIECE ?
				  0 :
				  qcow2_check_piece(c, b->table_offset, i,
						    b->table_size, e);
		uint64_t entry, off;

		if (ret)
			return ret;
		entry = be64_get(c->piece[i % QCOW2_PIECE]);
		off = entry & QCOW2_OFFSET_MASK;
		if (qcow2_bitmap_entry_is_bad(q, entry)) {
			if (c->is_first) {
				c->out->corruptions++;
				qcow2_check_say(c,
						"ERROR: bitmap '%s': entry "
						"%llu of its table is "
						"not valid",
						b->facts.name,
						(unsigned long long)i);
			}
		} else if (off) {
			qcow2_check_reference(c, off, q->cluster_size);
		}
	}
	return 0;
}

int qcow2_check_bitmaps(struct qcow2_checker *c, struct qi_error *e)
{
	struct qcow2 *q = c->q;
	struct qcow2_bitmaps *all = &q->bitmaps;
	int ret = 0;

	if (!(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	if (all->problem && c->is_first) {
		c->out->corruptions++;
		qcow2_check_say(c, "ERROR: %s", all->problem);
	}
	c->is_blind |= all->problem != NULL;
	qcow2_check_reference(c, all->directory_offset, all->directory_size);
	for (size_t i = 0; i < all->count && !ret; i++) {
		const struct qcow2_bitmap *b = &all->entries[i];

		if (b->facts.problem && !b->is_inconsistent && c->is_first) {
			c->out->corruptions++;
			qcow2_check_say(c, "ERROR: bitmap '%s': %s",
					b->facts.name, b->facts.problem);
		}
		/* The table of a bitmap may be far out when that is known. */
		if (qi_is_aligned(b->table_offset, q->cluster_size) &&
		    qi_fits(b->table_offset,
			    (uint64_t)b->table_size * sizeof(be64),
			    q->file->size))
			ret = check_bitmap_table(c, b, e);
		else
			c->is_blind = true;
	}
	return ret;
}
