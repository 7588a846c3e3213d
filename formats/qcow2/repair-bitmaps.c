/* SPDX-License-Identifier: MIT */
/*
 * repair-bitmaps.c - a bitmap directory that programs can open
 *
 * Only what is damaged goes. A part of a bitmap that cannot be read becomes
 * dirty, which is never wrong; a bitmap whose entry cannot be understood is
 * dropped; of two with one name nobody knows which is right, so the first
 * stays as one that was in use. Those that were in use stay as they are:
 * they tell that a record was lost.
 */
#include <errno.h>

#include "formats/qcow2/check.h"

struct new_directory {
	uint8_t *bytes;
	size_t len;
	uint32_t count;
	bool changed;
};

/* Make parts that cannot be read dirty, in a new table. */
static int keep_table(struct qcow2_repair *r, struct qcow2_bitmap *b,
		      struct new_directory *d, struct qi_error *e)
{
	struct qcow2 *q = r->q;
	uint64_t bytes = (uint64_t)b->table_size * sizeof(be64);
	QI_AUTOFREE be64 *table = malloc(bytes + 1);
	uint32_t bad = 0;
	int ret = table ? qi_file_read(q->file, b->table_offset, bytes, table,
				       e) :
			  qi_no_memory(e);

	for (uint32_t i = 0; i < b->table_size && !ret; i++) {
		uint64_t entry = be64_get(table[i]);
		uint64_t off = entry & QCOW2_OFFSET_MASK;

		if (!qcow2_bitmap_entry_is_bad(q, entry) &&
		    !(off && qcow2_repair_is_past_end(r, off, q->cluster_size)))
			continue;
		table[i] = be64_put(QCOW2_BITMAP_ONES);
		bad++;
	}
	if (ret || !bad)
		return ret;
	qcow2_repair_say(r,
			 "Repairing: bitmap '%s': %u of %u parts cannot be "
			 "read and are dirty now",
			 b->facts.name, bad, b->table_size);
	d->changed = true;
	return qcow2_repair_append(r, table, bytes, &b->table_offset, e);
}

static int keep_bitmap(struct qcow2_repair *r, struct qcow2_bitmap *b,
		       struct new_directory *d, struct qi_error *e)
{
	size_t len = qi_round_up(
		sizeof(struct qcow2_disk_bitmap) + strlen(b->facts.name), 8);
	uint8_t *p;
	int ret = keep_table(r, b, d, e);

	if (ret)
		return ret;
	p = realloc(d->bytes, d->len + len);
	if (!p)
		return qi_no_memory(e);
	d->bytes = p;
	memset(p + d->len, 0, len);
	d->len += qcow2_bitmap_put_entry(p + d->len, b);
	d->count++;
	return 0;
}

static int filter(struct qcow2_repair *r, struct new_directory *d,
		  struct qi_error *e)
{
	struct qcow2_bitmaps *all = &r->q->bitmaps;
	size_t count = qi_max(all->count, all->salvaged);

	for (size_t i = 0; i < count; i++) {
		struct qcow2_bitmap *b = &all->entries[i];
		int ret;

		if (b->facts.problem && !b->is_inconsistent) {
			qcow2_repair_say(r,
					 "Repairing: bitmap '%s' is dropped: "
					 "%s",
					 b->facts.name, b->facts.problem);
			d->changed = true;
			continue;
		}
		/* Nobody knows what was written since the directory broke. */
		if (!b->is_inconsistent && (all->problem || b->has_double)) {
			qcow2_repair_say(r,
					 "Repairing: bitmap '%s' is kept as "
					 "one that was in use: %s",
					 b->facts.name,
					 all->problem ? all->problem :
							"another has its name");
			b->flags |= QCOW2_BITMAP_IN_USE;
			d->changed = true;
		}
		ret = keep_bitmap(r, b, d, e);
		if (ret)
			return ret;
	}
	return 0;
}

static int switch_directory(struct qcow2_repair *r, struct new_directory *d,
			    struct qi_error *e)
{
	struct qcow2_header *h = &r->q->h;
	struct qcow2_disk_bitmaps x = {
		.nb_bitmaps = be32_put(d->count),
		.directory_size = be64_put(d->len),
	};
	uint64_t off;
	int ret = 0;

	r->changed = true;
	if (d->count) {
		ret = qcow2_repair_append(r, d->bytes, d->len, &off, e);
		x.directory_offset = be64_put(off);
	} else {
		h->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
	}
	if (!ret && qcow2_header_set(h, QCOW2_EXT_BITMAPS, d->count ? &x : NULL,
				     sizeof(x)))
		ret = qi_no_memory(e);
	return ret;
}

int qcow2_repair_bitmaps(struct qcow2_repair *r, struct qi_error *e)
{
	struct qcow2 *q = r->q;
	bool is_valid = q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS;
	bool is_there = qcow2_header_find(&q->h, QCOW2_EXT_BITMAPS);
	struct new_directory d = { .changed = is_valid != is_there };
	int ret = 0;

	if (d.changed)
		qcow2_repair_say(r, is_there ?
					    "Repairing: the bitmaps are "
					    "dropped: a program that does not "
					    "know them has written" :
					    "Repairing: the header speaks of "
					    "bitmaps and there are none");
	if (is_valid && is_there) {
		if (q->bitmaps.problem) {
			qcow2_repair_say(r,
					 "Repairing: the bitmap directory is "
					 "damaged; %zu bitmaps can be read",
					 q->bitmaps.salvaged);
			d.changed = true;
		}
		ret = filter(r, &d, e);
	}
	if (!ret && d.changed)
		ret = switch_directory(r, &d, e);
	free(d.bytes);
	return ret;
}
