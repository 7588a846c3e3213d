/* SPDX-License-Identifier: MIT */
/*
 * bitmap.c - reading the bitmaps of an image
 *
 * What is wrong with the directory or an entry never keeps the image from
 * being opened: it becomes a problem text, and the data stays usable.
 * bitmap-update.c changes bitmaps.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

static const char no_autoclear[] =
	"a program that does not know bitmaps has written to the image";

void qcow2_bitmaps_free(struct qcow2 *q)
{
	struct qcow2_bitmaps *all = &q->bitmaps;

	for (size_t i = 0; i < qi_max(all->count, all->salvaged); i++) {
		free(all->entries[i].facts.name);
		free(all->entries[i].table);
	}
	free(all->entries);
	free(all->facts);
	*all = (struct qcow2_bitmaps){ 0 };
}

/* --------------------------------------------------------------- loading */

static const char *entry_problem(const struct qcow2 *q,
				 const struct qcow2_disk_bitmap *d,
				 const struct qcow2_bitmap *b)
{
	uint64_t table_bytes = (uint64_t)b->table_size * sizeof(be64);

	if (be32_get(d->extra_data_size))
		return "its directory entry has unknown extra data";
	if (b->flags & ~(QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO))
		return "its directory entry has unknown flags";
	if (d->type != QCOW2_BITMAP_TYPE_DIRTY)
		return "it is of an unknown type";
	if (d->granularity_bits < 9 || d->granularity_bits > 31)
		return "its granularity is out of range";
	if (!qi_is_aligned(b->table_offset, q->cluster_size) ||
	    !qi_fits(b->table_offset, table_bytes, q->file->size))
		return "its table is not in the file";
	if (!(b->flags & QCOW2_BITMAP_IN_USE) &&
	    b->table_size != b->facts.chunks)
		return "its table does not fit the size of the disk";
	if (!(b->flags & QCOW2_BITMAP_IN_USE) &&
	    (uint64_t)b->table_size * q->cluster_size > QCOW2_MAX_BITMAP_BYTES)
		return "it has more than 512 MiB";
	return NULL;
}

static uint64_t chunks_of(const struct qcow2 *q, unsigned granularity_bits,
			  uint64_t size)
{
	uint64_t bits = qi_div_up(size, 1ull << granularity_bits);

	return qi_div_up(qi_div_up(bits, 8), q->cluster_size);
}

/* One entry at *p; -EUCLEAN when it does not fit into what is left. */
static int take_entry(struct qcow2 *q, const uint8_t **p, const uint8_t *end)
{
	struct qcow2_bitmap *b = &q->bitmaps.entries[q->bitmaps.count];
	struct qcow2_disk_bitmap d;
	uint64_t extra, name, total;

	if ((size_t)(end - *p) < sizeof(d))
		return -EUCLEAN;
	memcpy(&d, *p, sizeof(d));
	extra = be32_get(d.extra_data_size);
	name = be16_get(d.name_size);
	total = qi_round_up(sizeof(d) + extra + name, 8);
	if ((uint64_t)(end - *p) < total || !name || name > QI_NAME_MAX)
		return -EUCLEAN;
	b->facts.name = strndup((const char *)*p + sizeof(d) + extra, name);
	if (!b->facts.name)
		return -ENOMEM;
	b->table_offset = be64_get(d.table_offset);
	b->table_size = be32_get(d.table_size);
	b->flags = be32_get(d.flags);
	b->facts.granularity_bits = d.granularity_bits;
	b->facts.enabled = b->flags & QCOW2_BITMAP_AUTO;
	b->facts.in_use = b->flags & QCOW2_BITMAP_IN_USE;
	b->facts.chunk_bytes = q->cluster_size;
	if (d.granularity_bits < 64)
		b->facts.chunks = chunks_of(q, d.granularity_bits, q->h.size);
	b->facts.problem = entry_problem(q, &d, b);
	b->is_inconsistent = !b->facts.problem && b->facts.in_use;
	if (b->is_inconsistent)
		b->facts.problem = "it was in use and not closed: its bits are "
				   "lost";
	q->bitmaps.count++;
	*p += total;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct qcow2_bitmap *x = *(struct qcow2_bitmap *const *)a;
	const struct qcow2_bitmap *y = *(struct qcow2_bitmap *const *)b;
	int order = strcmp(x->facts.name, y->facts.name);

	return order ? order : x < y ? -1 : x > y;
}

/* The first of several of one name is the one that is meant. */
static int find_doubles(struct qcow2_bitmaps *all, struct qi_error *e)
{
	QI_AUTOFREE struct qcow2_bitmap **sorted =
		calloc(all->count + 1, sizeof(struct qcow2_bitmap *));

	if (!sorted)
		return qi_no_memory(e);
	for (size_t i = 0; i < all->count; i++)
		sorted[i] = &all->entries[i];
	qsort(sorted, all->count, sizeof(struct qcow2_bitmap *), by_name);
	for (size_t i = 1; i < all->count; i++)
		if (!strcmp(sorted[i]->facts.name, sorted[i - 1]->facts.name)) {
			sorted[i]->facts.problem = "there are two of its name";
			sorted[i]->is_inconsistent = false;
			sorted[i - 1]->has_double = true;
		}
	return 0;
}

static int load_directory(struct qcow2 *q, uint32_t count, struct qi_error *e)
{
	struct qcow2_bitmaps *all = &q->bitmaps;
	QI_AUTOFREE uint8_t *dir = malloc(all->directory_size);
	const uint8_t *p, *end;
	int ret;

	all->entries = calloc(count, sizeof(*all->entries));
	all->facts = calloc(count, sizeof(*all->facts));
	if (!dir || !all->entries || !all->facts)
		return qi_no_memory(e);
	p = dir;
	end = dir + all->directory_size;
	ret = qi_file_read(q->file, all->directory_offset, all->directory_size,
			   dir, e);
	while (!ret && all->count < count)
		ret = take_entry(q, &p, end);
	if (!ret && p != end)
		ret = -EUCLEAN;
	if (!ret)
		ret = find_doubles(all, e);
	for (size_t i = 0; i < all->count && !ret; i++)
		all->facts[i] = all->entries[i].facts;
	return ret;
}

int qcow2_bitmaps_load(struct qcow2 *q, struct qi_error *e)
{
	const struct qcow2_extension *x =
		qcow2_header_find(&q->h, QCOW2_EXT_BITMAPS);
	struct qcow2_bitmaps *all = &q->bitmaps;
	struct qcow2_disk_bitmaps d;
	uint32_t count;
	int ret;

	if (!x)
		return 0;
	if (!(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
		all->problem = no_autoclear;
		return 0;
	}
	all->problem = "its bitmap directory is damaged";
	if (x->len != sizeof(d))
		return 0;
	memcpy(&d, x->data, sizeof(d));
	count = be32_get(d.nb_bitmaps);
	all->directory_offset = be64_get(d.directory_offset);
	all->directory_size = be64_get(d.directory_size);
	if (!count || count > QCOW2_MAX_BITMAPS || be32_get(d.reserved) ||
	    !qi_is_aligned(all->directory_offset, q->cluster_size) ||
	    all->directory_size > QCOW2_MAX_BITMAP_DIRECTORY ||
	    !qi_fits(all->directory_offset, all->directory_size, q->file->size))
		return 0;
	ret = load_directory(q, count, e);
	if (ret == -EUCLEAN) {
		/* A repair may use what could be read; nobody else. */
		all->salvaged = all->count;
		all->count = 0;
		all->directory_offset = all->directory_size = 0;
		return 0;
	}
	if (!ret)
		all->problem = NULL;
	return ret;
}

/* --------------------------------------------------------------- reading */

int qcow2_bitmap_table(struct qcow2 *q, struct qcow2_bitmap *b,
		       struct qi_error *e)
{
	size_t bytes = (size_t)b->table_size * sizeof(be64);
	int ret;

	if (b->table)
		return 0;
	if (!qi_is_aligned(b->table_offset, q->cluster_size) ||
	    !qi_fits(b->table_offset, bytes, q->file->size))
		return qcow2_damaged(q, e,
				     "the table of bitmap '%s' is not in "
				     "the file",
				     b->facts.name);
	b->table = malloc(bytes + 1);
	if (!b->table)
		return qi_no_memory(e);
	ret = qi_file_read(q->file, b->table_offset, bytes, b->table, e);
	for (uint32_t i = 0; i < b->table_size && !ret; i++) {
		uint64_t entry = be64_get(b->table[i]);
		uint64_t off = entry & QCOW2_OFFSET_MASK;

		if (entry & ~(QCOW2_OFFSET_MASK | QCOW2_BITMAP_ONES) ||
		    (off && entry & QCOW2_BITMAP_ONES) ||
		    !qi_is_aligned(off, q->cluster_size) ||
		    !qi_fits(off, q->cluster_size, q->file->size))
			ret = qcow2_damaged(q, e,
					    "entry %u of the table of "
					    "bitmap '%s' is not valid",
					    i, b->facts.name);
	}
	if (ret) {
		free(b->table);
		b->table = NULL;
	}
	return ret;
}

static int bitmap_chunk(struct qi_node *n, size_t which, uint64_t index,
			uint8_t *buf, enum qi_chunk *kind, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_bitmap *b = &q->bitmaps.entries[which];
	int ret = qcow2_bitmap_table(q, b, e);
	uint64_t entry;

	if (ret)
		return ret;
	entry = be64_get(b->table[index]);
	if (entry & QCOW2_OFFSET_MASK) {
		*kind = QI_CHUNK_BITS;
		return qi_file_read(q->file, entry & QCOW2_OFFSET_MASK,
				    q->cluster_size, buf, e);
	}
	*kind = entry & QCOW2_BITMAP_ONES ? QI_CHUNK_ONES : QI_CHUNK_ZEROES;
	return 0;
}

static const char *bitmap_problem(struct qi_node *n)
{
	return qcow2_of(n)->bitmaps.problem;
}

static const struct qi_stored_bitmap *bitmap_list(struct qi_node *n,
						  size_t *count)
{
	*count = qcow2_of(n)->bitmaps.count;
	return qcow2_of(n)->bitmaps.facts;
}

static int bitmap_can_store(struct qi_node *n, bool record, struct qi_error *e)
{
	const struct qcow2 *q = qcow2_of(n);

	if (q->h.version < 3)
		return qi_stock(e,
				qi_fail(e, ESTALE,
					"'%s' cannot hold bitmaps: it is a "
					"version 2 image; 'qimg amend -o "
					"compat=1.1 %s' makes it version 3",
					n->path, QI_WORD(n->path)),
				"Cannot store dirty bitmaps in qcow2 v2 files");
	if (record && q->cluster_size < QCOW2_HEADER_MAX)
		return qi_fail(e, ESTALE,
			       "'%s' cannot hold drive bitmaps: its "
			       "clusters of %u bytes are too small; convert it "
			       "with 'qimg convert -O qcow2 %s NEW'",
			       n->path, q->cluster_size, QI_WORD(n->path));
	return 0;
}

static int bitmap_update(struct qi_node *n,
			 const struct qi_bitmap_change *changes, size_t count,
			 const void *record, size_t record_len,
			 struct qi_error *e)
{
	return qcow2_bitmaps_update(qcow2_of(n), changes, count, record,
				    record_len, NULL, e);
}

static int bitmap_check_room(struct qi_node *n, bool bitmaps, size_t record_len,
			     struct qi_error *e)
{
	return qcow2_header_check_growth(qcow2_of(n), bitmaps, record_len, e);
}

const struct qi_bitmap_ops qcow2_bitmap_ops = {
	.can_store = bitmap_can_store,
	.problem = bitmap_problem,
	.list = bitmap_list,
	.chunk = bitmap_chunk,
	.update = bitmap_update,
	.check_room = bitmap_check_room,
};
