/* SPDX-License-Identifier: MIT */
/*
 * bitmap-update.c - changing bitmaps, the record and the size of an image
 *
 * Order of writes: refcounts of new clusters; data, tables and directory into
 * new clusters; sync; one write of the header; sync; then the old clusters
 * are freed. Until the header is written the image is what it was.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"
#include "lib/record.h"

/* What an update has allocated (to undo) or will free (when it is done). */
struct cluster_list {
	size_t count, room;
	struct {
		uint64_t off, len;
	} * runs;
};

struct update {
	struct qcow2 *q;
	uint64_t size; /* of the disk, afterwards */
	size_t count;
	struct qcow2_bitmap *entries;
	uint64_t directory_offset, directory_size;
	struct cluster_list taken, dropped;
};

static int list_add(struct cluster_list *l, uint64_t off, uint64_t len,
		    struct qi_error *e)
{
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		void *runs = realloc(l->runs, room * sizeof(*l->runs));

		if (!runs)
			return qi_no_memory(e);
		l->runs = runs;
		l->room = room;
	}
	l->runs[l->count].off = off;
	l->runs[l->count++].len = len;
	return 0;
}

static int list_free_clusters(struct update *u, struct cluster_list *l,
			      struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < l->count && !ret; i++)
		ret = qcow2_free(u->q, l->runs[i].off, l->runs[i].len, e);
	return ret ? ret : qcow2_refcounts_write(u->q, e);
}

static int alloc_bytes(struct update *u, uint64_t bytes, uint64_t *off,
		       struct qi_error *e)
{
	uint64_t clusters = qcow2_clusters(u->q, bytes);
	int ret = qcow2_alloc(u->q, clusters, off, e);

	return ret ? ret :
		     list_add(&u->taken, *off, clusters * u->q->cluster_size,
			      e);
}

static uint32_t table_size_for(const struct update *u, unsigned granularity)
{
	uint64_t bits = qi_div_up(u->size, 1ull << granularity);

	return (uint32_t)qi_div_up(qi_div_up(bits, 8), u->q->cluster_size);
}

/* -------------------------------------------------------- bitmap content */

static void set_bits(uint8_t *buf, uint64_t from, uint64_t to)
{
	while (from < to && from % 8) {
		buf[from / 8] |= (uint8_t)(1u << from % 8);
		from++;
	}
	if (to > from) {
		memset(buf + from / 8, 0xff, (to - from) / 8);
		from += qi_round_down(to - from, 8);
	}
	while (from < to) {
		buf[from / 8] |= (uint8_t)(1u << from % 8);
		from++;
	}
}

/* Fill one chunk, bits [first, first + chunk_bits), from the stream. */
static int fill_chunk(struct qi_ranges *bits, struct qi_range *ahead,
		      unsigned granularity, uint64_t first, uint64_t chunk_bits,
		      uint8_t *buf, uint64_t *set, struct qi_error *e)
{
	*set = 0;
	for (;;) {
		uint64_t from, to;

		if (!ahead->len) {
			int ret = qi_ranges_next(bits, ahead, e);

			if (ret <= 0)
				return ret;
		}
		from = ahead->off >> granularity;
		to = ((ahead->off + ahead->len - 1) >> granularity) + 1;
		if (from >= first + chunk_bits)
			return 0;
		from = qi_max(from, first) - first;
		to = qi_min(to - first, chunk_bits);
		set_bits(buf, from, to);
		*set += to - from;
		if (((ahead->off + ahead->len - 1) >> granularity) >=
		    first + chunk_bits)
			return 0; /* the rest is for the next chunk */
		ahead->len = 0;
	}
}

static int store_chunk(struct update *u, const uint8_t *buf, be64 *entry,
		       struct qi_error *e)
{
	uint64_t off;
	int ret = alloc_bytes(u, u->q->cluster_size, &off, e);

	if (!ret)
		ret = qi_file_write(u->q->file, off, u->q->cluster_size, buf,
				    e);
	*entry = be64_put(off);
	return ret;
}

/* Write the stream's bits into new clusters and fill the table. */
static int store_bits(struct update *u, struct qcow2_bitmap *b,
		      struct qi_ranges *bits, struct qi_error *e)
{
	unsigned granularity = b->facts.granularity_bits;
	uint64_t chunk_bits = (uint64_t)u->q->cluster_size * 8;
	QI_AUTOFREE uint8_t *buf = qi_alloc_aligned(u->q->cluster_size);
	uint64_t total = qi_div_up(u->size, 1ull << granularity);
	struct qi_range ahead = { 0 };

	if (!buf)
		return qi_no_memory(e);
	for (uint32_t i = 0; i < b->table_size; i++) {
		uint64_t first = i * chunk_bits, set;
		int ret;

		/* Bits past the end that the disk will have stay zero. */
		memset(buf, 0, u->q->cluster_size);
		ret = fill_chunk(bits, &ahead, granularity, first,
				 qi_min(chunk_bits, total - first), buf, &set,
				 e);
		/* Adjacent ranges can meet in one bit: look, not count. */
		if (!ret && set >= chunk_bits && buf[0] == 0xff &&
		    !memcmp(buf, buf + 1, u->q->cluster_size - 1))
			b->table[i] = be64_put(QCOW2_BITMAP_ONES);
		else if (!ret && set)
			ret = store_chunk(u, buf, &b->table[i], e);
		if (ret)
			return ret;
	}
	return 0;
}

/* ------------------------------------------------------------ directories */

static struct qcow2_bitmap *find(struct update *u, const char *name)
{
	for (size_t i = 0; i < u->count; i++)
		if (!strcmp(u->entries[i].facts.name, name))
			return &u->entries[i];
	return NULL;
}

/* The clusters of a stored bitmap will be free after the commit. */
static int drop_clusters(struct update *u, struct qcow2_bitmap *b,
			 bool and_data, struct qi_error *e)
{
	uint64_t bytes = (uint64_t)b->table_size * sizeof(be64);
	int ret;

	/* A table that cannot be read leaks what it refers to. */
	if (qcow2_bitmap_table(u->q, b, NULL))
		return 0;
	ret = bytes ? list_add(&u->dropped, b->table_offset,
			       qi_round_up(bytes, u->q->cluster_size), e) :
		      0;
	for (uint32_t i = 0; and_data && i < b->table_size && !ret; i++) {
		uint64_t off = be64_get(b->table[i]) & QCOW2_OFFSET_MASK;

		if (off)
			ret = list_add(&u->dropped, off, u->q->cluster_size, e);
	}
	return ret;
}

static int write_table(struct update *u, struct qcow2_bitmap *b,
		       struct qi_error *e)
{
	size_t bytes = (size_t)b->table_size * sizeof(be64);
	uint64_t padded = qi_round_up(bytes, u->q->cluster_size);
	QI_AUTOFREE uint8_t *out = calloc(1, padded + 1);
	int ret = out ? 0 : qi_no_memory(e);

	b->table_offset = 0;
	if (!ret && bytes) {
		memcpy(out, b->table, bytes);
		ret = alloc_bytes(u, padded, &b->table_offset, e);
		if (!ret)
			ret = qi_file_write(u->q->file, b->table_offset, padded,
					    out, e);
	}
	b->is_new = true;
	return ret;
}

/* More than this QEMU does not open. */
static int check_size(const struct update *u, uint32_t table_size,
		      const char *name, struct qi_error *e)
{
	if ((uint64_t)table_size * u->q->cluster_size <= QCOW2_MAX_BITMAP_BYTES)
		return 0;
	return qi_fail(e, EFBIG,
		       "bitmap '%s' of '%s' would be larger than 512 MiB; "
		       "choose a larger granularity",
		       name, u->q->file->name);
}

static int replace_bits(struct update *u, struct qcow2_bitmap *b,
			const struct qi_bitmap_change *c, struct qi_error *e)
{
	int ret;

	b->facts.granularity_bits = c->granularity_bits;
	b->table_size = table_size_for(u, c->granularity_bits);
	if (check_size(u, b->table_size, c->name, e))
		return -EFBIG;
	free(b->table);
	b->table = calloc(b->table_size + 1, sizeof(be64));
	if (!b->table)
		return qi_no_memory(e);
	ret = c->bits ? store_bits(u, b, c->bits, e) : 0;
	return ret ? ret : write_table(u, b, e);
}

static int remove_entry(struct update *u, struct qcow2_bitmap *b,
			struct qi_error *e)
{
	int ret = b->is_new ? 0 : drop_clusters(u, b, true, e);

	free(b->facts.name);
	free(b->table);
	memmove(b, b + 1,
		(size_t)(u->entries + u->count - (b + 1)) * sizeof(*b));
	u->count--;
	return ret;
}

static int apply_change(struct update *u, const struct qi_bitmap_change *c,
			struct qi_error *e)
{
	struct qcow2_bitmap *b = find(u, c->name);
	int ret = 0;

	if (c->remove)
		return b ? remove_entry(u, b, e) : 0;
	if (!b) {
		if (u->count == QCOW2_MAX_BITMAPS)
			return qi_fail(e, E2BIG,
				       "'%s' has %u bitmaps and can "
				       "hold no more",
				       u->q->file->path, QCOW2_MAX_BITMAPS);
		b = &u->entries[u->count];
		*b = (struct qcow2_bitmap){ .is_new = true };
		b->facts.name = strdup(c->name);
		if (!b->facts.name)
			return qi_no_memory(e);
		u->count++;
	} else if (!c->keep_bits) {
		ret = drop_clusters(u, b, true, e);
	}
	b->flags = (b->flags & ~QCOW2_BITMAP_AUTO) |
		   (c->enabled ? QCOW2_BITMAP_AUTO : 0);
	if (ret || c->keep_bits)
		return ret;
	b->flags &= ~QCOW2_BITMAP_IN_USE;
	b->facts.problem = NULL;
	return replace_bits(u, b, c, e);
}

/* The chunk that the smaller of two sizes ends in: no bit after `bits`. */
static int cut_chunk(struct update *u, uint64_t bits, be64 *entry,
		     struct qi_error *e)
{
	struct qcow2 *q = u->q;
	uint64_t off = be64_get(*entry) & QCOW2_OFFSET_MASK;
	uint64_t used = bits % ((uint64_t)q->cluster_size * 8);
	QI_AUTOFREE uint8_t *buf = qi_alloc_aligned(q->cluster_size);
	uint8_t mask = (uint8_t)(0xff << used % 8);
	int ret = buf ? 0 : qi_no_memory(e);

	if (ret || !used || !be64_get(*entry))
		return ret;
	memset(buf, 0xff, q->cluster_size);
	if (off)
		ret = qi_file_read(q->file, off, q->cluster_size, buf, e);
	if (ret ||
	    (!(buf[used / 8] & mask) &&
	     qi_is_zero(buf + used / 8 + 1, q->cluster_size - used / 8 - 1)))
		return ret;
	buf[used / 8] &= (uint8_t)~mask;
	memset(buf + used / 8 + 1, 0, q->cluster_size - used / 8 - 1);
	if (off)
		ret = list_add(&u->dropped, off, q->cluster_size, e);
	return ret ? ret : store_chunk(u, buf, entry, e);
}

/* Chunks past the new end of a table go. */
static int drop_chunks(struct update *u, const struct qcow2_bitmap *b,
		       uint32_t from, struct qi_error *e)
{
	int ret = 0;

	for (uint32_t i = from; i < b->table_size && !ret; i++) {
		uint64_t off = be64_get(b->table[i]) & QCOW2_OFFSET_MASK;

		if (off)
			ret = list_add(&u->dropped, off, u->q->cluster_size, e);
	}
	return ret;
}

/*
 * After a resize, tables get the length that fits, and bits past the smaller
 * of the two sizes are zero.
 */
static int fit_table(struct update *u, struct qcow2_bitmap *b,
		     struct qi_error *e)
{
	uint32_t size = table_size_for(u, b->facts.granularity_bits);
	uint64_t unit = 1ull << b->facts.granularity_bits;
	uint64_t bits = qi_div_up(qi_min(u->size, u->q->h.size), unit);
	uint64_t last = bits / ((uint64_t)u->q->cluster_size * 8);
	be64 *table;
	int ret;

	if (b->is_new || b->facts.in_use || u->size == u->q->h.size)
		return 0;
	ret = check_size(u, size, b->facts.name, e);
	if (!ret)
		ret = qcow2_bitmap_table(u->q, b, e);
	if (!ret)
		ret = drop_clusters(u, b, false, e);
	if (!ret)
		ret = drop_chunks(u, b, size, e);
	table = calloc(size + 1, sizeof(be64));
	if (!table)
		return ret ? ret : qi_no_memory(e);
	memcpy(table, b->table ? b->table : table,
	       qi_min(size, b->table_size) * sizeof(be64));
	free(b->table);
	b->table = table;
	b->table_size = size;
	if (!ret && last < size)
		ret = cut_chunk(u, bits, &table[last], e);
	return ret ? ret : write_table(u, b, e);
}

size_t qcow2_bitmap_entry_bytes(const char *name)
{
	return qi_round_up(sizeof(struct qcow2_disk_bitmap) + strlen(name), 8);
}

size_t qcow2_bitmap_put_entry(uint8_t *to, const struct qcow2_bitmap *b)
{
	size_t name = strlen(b->facts.name);
	struct qcow2_disk_bitmap d = {
		.table_offset = be64_put(b->table_offset),
		.table_size = be32_put(b->table_size),
		.flags = be32_put(b->flags),
		.type = QCOW2_BITMAP_TYPE_DIRTY,
		.granularity_bits = (uint8_t)b->facts.granularity_bits,
		.name_size = be16_put((uint16_t)name),
	};

	memcpy(to, &d, sizeof(d));
	memcpy(to + sizeof(d), b->facts.name, name);
	return qcow2_bitmap_entry_bytes(b->facts.name);
}

static int write_directory(struct update *u, struct qi_error *e)
{
	QI_AUTOFREE uint8_t *dir = NULL;
	uint64_t padded;
	size_t pos = 0;
	int ret;

	for (size_t i = 0; i < u->count; i++)
		u->directory_size +=
			qi_round_up(sizeof(struct qcow2_disk_bitmap) +
					    strlen(u->entries[i].facts.name),
				    8);
	if (!u->count)
		return 0;
	padded = qi_round_up(u->directory_size, u->q->cluster_size);
	dir = calloc(1, padded);
	if (!dir)
		return qi_no_memory(e);
	for (size_t i = 0; i < u->count; i++)
		pos += qcow2_bitmap_put_entry(dir + pos, &u->entries[i]);
	ret = alloc_bytes(u, padded, &u->directory_offset, e);
	return ret ? ret :
		     qi_file_write(u->q->file, u->directory_offset, padded, dir,
				   e);
}

/* ---------------------------------------------------------------- commit */

static int set_header(struct update *u, const void *record, size_t record_len,
		      const struct qcow2_resize *resize)
{
	struct qcow2_header *h = &u->q->h;
	struct qcow2_disk_bitmaps d = {
		.nb_bitmaps = be32_put((uint32_t)u->count),
		.directory_size = be64_put(u->directory_size),
		.directory_offset = be64_put(u->directory_offset),
	};
	int ret;

	ret = qcow2_header_set(h, QCOW2_EXT_BITMAPS, u->count ? &d : NULL,
			       sizeof(d));
	if (!ret && record)
		ret = qcow2_header_set(h, QCOW2_EXT_RECORD, record, record_len);
	/* Bits of features that we do not know must go before a write. */
	h->autoclear &= QCOW2_AUTOCLEAR_RAW_DATA;
	if (u->count)
		h->autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
	if (resize) {
		h->size = resize->size;
		h->l1_offset = resize->l1_offset;
		h->l1_size = resize->l1_size;
	}
	return ret;
}

static int copy_entries(struct update *u, size_t extra, struct qi_error *e)
{
	const struct qcow2_bitmaps *all = &u->q->bitmaps;

	if (all->problem && u->q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS) {
		qcow2_damaged(u->q, e,
			      "%s; nothing can be stored in it until that is "
			      "repaired",
			      all->problem);
		return -EUCLEAN;
	}
	u->entries = calloc(all->count + extra + 1, sizeof(*u->entries));
	if (!u->entries)
		return qi_no_memory(e);
	for (size_t i = 0; i < all->count; i++) {
		struct qcow2_bitmap *b = &u->entries[i];

		*b = all->entries[i];
		b->table = NULL;
		b->facts.name = strdup(b->facts.name);
		if (!b->facts.name)
			return qi_no_memory(e);
		u->count++;
	}
	if (!all->directory_size || all->problem)
		return 0;
	return list_add(&u->dropped, all->directory_offset,
			qi_round_up(all->directory_size, u->q->cluster_size),
			e);
}

/* What cannot be written back as it is must be removed first. */
static int check_entries(const struct update *u, struct qi_error *e)
{
	for (size_t i = 0; i < u->count; i++) {
		const struct qi_stored_bitmap *f = &u->entries[i].facts;

		if (f->problem && !f->in_use)
			return qcow2_damaged(u->q, e,
					     "bitmap '%s' cannot be "
					     "kept: %s; remove it with 'qimg "
					     "bitmap remove --node %s %s'",
					     f->name, f->problem,
					     QI_WORD(u->q->file->path),
					     QI_WORD(f->name));
	}
	return 0;
}

static int prepare(struct update *u, const struct qi_bitmap_change *changes,
		   size_t count, struct qi_error *e)
{
	int ret = copy_entries(u, count, e);

	for (size_t i = 0; i < count && !ret; i++)
		ret = apply_change(u, &changes[i], e);
	if (!ret)
		ret = check_entries(u, e);
	for (size_t i = 0; i < u->count && !ret; i++)
		ret = fit_table(u, &u->entries[i], e);
	if (!ret)
		ret = write_directory(u, e);
	return ret ? ret : qcow2_refcounts_write(u->q, e);
}

/* The header in memory is what the disk has, or what a reload finds. */
static int reload(struct qcow2 *q, const void *record, size_t record_len,
		  struct qi_error *e)
{
	struct qi_node *n = q->node;
	uint8_t *blob;

	qcow2_bitmaps_free(q);
	n->facts.size = q->h.size;
	if (record) {
		blob = malloc(record_len);
		if (!blob)
			return qi_no_memory(e);
		memcpy(blob, record, record_len);
		free(n->record_blob);
		n->record_blob = blob;
		n->record_len = record_len;
		qi_record_free(n->record);
		n->record = NULL;
		if (qi_record_parse(&n->record, blob, record_len))
			return qi_no_memory(e);
	}
	return qcow2_bitmaps_load(q, e);
}

static void update_free(struct update *u)
{
	for (size_t i = 0; i < u->count; i++) {
		free(u->entries[i].facts.name);
		free(u->entries[i].table);
	}
	free(u->entries);
	free(u->taken.runs);
	free(u->dropped.runs);
}

int qcow2_bitmaps_update(struct qcow2 *q,
			 const struct qi_bitmap_change *changes, size_t count,
			 const void *record, size_t record_len,
			 const struct qcow2_resize *resize, struct qi_error *e)
{
	struct update u = { .q = q, .size = resize ? resize->size : q->h.size };
	QI_AUTOFREE void *noted = NULL;
	struct qi_error why;
	int ret = qcow2_refcounts_open(q, e);

	if (!ret && resize && !record)
		ret = qi_record_note_size(q->node, qi_min(u.size, q->h.size),
					  &noted, &record_len, e);
	if (noted)
		record = noted;
	if (!ret)
		ret = qcow2_header_check_growth(q, count,
						record ? record_len : 0, e);
	if (!ret)
		ret = prepare(&u, changes, count, e);
	if (ret) {
		/* Nothing refers to what was taken; if this fails, it leaks. */
		if (q->refcounts)
			list_free_clusters(&u, &u.taken, NULL);
		update_free(&u);
		return ret;
	}
	ret = set_header(&u, record, record_len, resize);
	if (ret)
		ret = qi_no_memory(e);
	if (!ret)
		ret = qcow2_header_commit(q, e);
	if (ret == -E2BIG) {
		list_free_clusters(&u, &u.taken, NULL);
	} else if (!ret) {
		/* It is done: what cannot be freed is a leak, no failure. */
		if (list_free_clusters(&u, &u.dropped, &why))
			qi_warn(q->node->graph,
				"%s; old clusters stay allocated in the image",
				why.text);
		ret = reload(q, record, record_len, e);
	}
	update_free(&u);
	return ret;
}
