/* SPDX-License-Identifier: MIT */
/*
 * build.c - making a new image in one pass
 *
 * Clusters are laid out in guest order: header, L1 table, then each L2 table
 * before the data it maps. A refcount block goes where the clusters that it
 * counts end, the table to the end of the file. The layout depends on what
 * is placed alone. Nothing is ordered on disk, for the file has no name that
 * counts until it is complete.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"
#include "lib/preallocate.h"

/* All 32 subclusters of an extended entry. */
#define SUBCLUSTERS_DATA UINT32_MAX
#define SUBCLUSTERS_ZERO ((uint64_t)UINT32_MAX << 32)

/* What file systems keep as a hole, or do not. */
#define L2_PIECE 4096u

/* Refcounts of the clusters from block `index` on; 0 is to become 1. */
struct counts {
	unsigned block_bits; /* log2 of entries in a block */
	uint64_t index;
	uint8_t *block, *next;
	be64 *table; /* of the blocks before index */
	uint64_t table_room;
};

struct builder {
	struct qi_writer base; /* its file is where data goes */
	struct qi_file *file;
	struct qcow2_header h;
	unsigned l2_bits;
	unsigned entry_words; /* of an L2 entry */
	uint64_t next;	      /* the next free cluster, as an offset */
	be64 *l1;
	be64 *l2;	   /* the table that is being filled */
	uint64_t l2_index; /* its L1 index, or QI_NO_OFFSET */
	uint64_t l2_off;
	uint64_t packed_pos; /* end of packed data, 0: none is open */
	struct counts counts;
	enum qi_preallocation prealloc;
	uint64_t filled;	/* prealloc: all before it has a place */
	uint64_t reserved_bits; /* subclusters of what is reserved */
};

static struct builder *builder_of(struct qi_writer *w)
{
	return qi_container_of(w, struct builder, base);
}

static bool has_data_file(const struct builder *b)
{
	return b->h.incompatible & QCOW2_INCOMPAT_DATA_FILE;
}

static uint64_t take_clusters(struct builder *b, uint64_t count)
{
	uint64_t off = b->next;

	b->next += count << b->h.cluster_bits;
	return off;
}

/* ------------------------------------------------------------ refcounts */

static int counts_init(struct counts *c, const struct qcow2_header *h)
{
	c->block_bits = h->cluster_bits + 3 - h->refcount_order;
	c->block = calloc(1, (size_t)1 << h->cluster_bits);
	c->next = calloc(1, (size_t)1 << h->cluster_bits);
	return c->block && c->next ? 0 : -ENOMEM;
}

static int counts_add_to_table(struct builder *b, uint64_t at,
			       struct qi_error *e)
{
	struct counts *c = &b->counts;

	if ((c->index + 1) * sizeof(be64) > QCOW2_MAX_REFTABLE_BYTES)
		return qi_fail(e, EFBIG,
			       "'%s' needs a refcount table of more "
			       "than 8 MiB; choose larger clusters",
			       b->file->name);
	if (c->index == c->table_room) {
		uint64_t room = c->table_room * 2 + 64;
		be64 *p = realloc(c->table, room * sizeof(*p));

		if (!p)
			return qi_no_memory(e);
		c->table = p;
		c->table_room = room;
	}
	c->table[c->index] = be64_put(at);
	return 0;
}

/* Write the block whose first `count` clusters are used to `at`. */
static int write_block(struct builder *b, uint64_t at, uint64_t count,
		       struct qi_error *e)
{
	struct counts *c = &b->counts;
	const unsigned order = b->h.refcount_order;
	uint8_t *written = c->block;
	int ret = counts_add_to_table(b, at, e);

	for (uint64_t i = 0; i < count; i++)
		if (!qcow2_refcount_load(c->block, i, order))
			qcow2_refcount_store(c->block, i, order, 1);
	if (!ret)
		ret = qi_file_write(b->file, at, b->base.unit, c->block, e);
	c->block = c->next;
	c->next = written;
	memset(c->next, 0, b->base.unit);
	c->index++;
	/* What is on disk is not changed any more. */
	if (b->packed_pos >> b->h.cluster_bits < c->index << c->block_bits)
		b->packed_pos = 0;
	return ret;
}

/* Write the blocks of which every cluster is taken. */
static int write_done_blocks(struct builder *b, struct qi_error *e)
{
	struct counts *c = &b->counts;
	int ret = 0;

	while (!ret && b->next >> b->h.cluster_bits >= (c->index + 1)
							       << c->block_bits)
		ret = write_block(b, take_clusters(b, 1), 1ull << c->block_bits,
				  e);
	return ret;
}

/* The rest of the refcount table is zero, and the file ends with it. */
static int end_file(struct builder *b, uint64_t used, struct qi_error *e)
{
	uint64_t at = b->h.reftable_offset + used;

	return b->file->is_device ?
		       qi_file_write_zeroes(b->file, at, b->next - at, e) :
		       qi_file_resize(b->file, b->next, e);
}

/* The last blocks, then the table, both counted in themselves. */
static int write_refcounts(struct builder *b, struct qi_error *e)
{
	struct counts *c = &b->counts;
	int ret = write_done_blocks(b, e);
	uint64_t used = b->next >> b->h.cluster_bits, total = used;
	uint64_t blocks, clusters;

	do {
		blocks = qi_div_up(total, 1ull << c->block_bits);
		clusters = qi_div_up(blocks * sizeof(be64), b->base.unit);
		total = used + (blocks - c->index) + clusters;
	} while (blocks << c->block_bits < total);
	while (!ret && c->index < blocks) {
		uint64_t first = c->index << c->block_bits;

		ret = write_block(b, take_clusters(b, 1),
				  qi_min(total - first, 1ull << c->block_bits),
				  e);
	}
	b->h.reftable_offset = take_clusters(b, clusters);
	b->h.reftable_clusters = (uint32_t)clusters;
	if (!ret)
		ret = qi_file_write(b->file, b->h.reftable_offset,
				    blocks * sizeof(be64), c->table, e);
	return ret ? ret : end_file(b, blocks * sizeof(be64), e);
}

/* ------------------------------------------------------------- mappings */

/* Bytes of the table from `at` on that are pieces of zeroes, or are none. */
static size_t l2_run(const struct builder *b, size_t at, bool zero)
{
	const size_t piece = qi_min(b->base.unit, L2_PIECE);
	size_t end = at;

	while (end < b->base.unit &&
	       qi_is_zero((const uint8_t *)b->l2 + end, piece) == zero)
		end += piece;
	return end - at;
}

/*
 * Unless the file is a device it is new: what is not written of it is zero.
 * Where little of a large disk is mapped, most of each table is.
 */
static int write_l2(struct builder *b, struct qi_error *e)
{
	size_t at = 0;
	int ret = 0;

	if (b->l2_index == QI_NO_OFFSET)
		return 0;
	b->l1[b->l2_index] = be64_put(b->l2_off | QCOW2_COPIED);
	if (b->file->is_device)
		return qi_file_write(b->file, b->l2_off, b->base.unit, b->l2,
				     e);
	while (at < b->base.unit && !ret) {
		size_t len;

		at += l2_run(b, at, true);
		len = l2_run(b, at, false);
		if (len)
			ret = qi_file_write(b->file, b->l2_off + at, len,
					    (const uint8_t *)b->l2 + at, e);
		at += len;
	}
	return ret;
}

/* Make the table of guest offset off the current one. Called first. */
static int use_l2(struct builder *b, uint64_t off, struct qi_error *e)
{
	uint64_t index = off >> (b->h.cluster_bits + b->l2_bits);
	int ret = write_done_blocks(b, e);

	if (ret || index == b->l2_index)
		return ret;
	ret = write_l2(b, e);
	if (ret)
		return ret;
	memset(b->l2, 0, b->base.unit);
	b->l2_index = index;
	b->l2_off = take_clusters(b, 1);
	return 0;
}

static void set_entry(struct builder *b, uint64_t off, uint64_t entry,
		      uint64_t subclusters)
{
	uint64_t index = off >> b->h.cluster_bits;
	uint64_t i = index & ((1ull << b->l2_bits) - 1);

	b->l2[i * b->entry_words] = be64_put(entry);
	if (b->entry_words == 2)
		b->l2[i * 2 + 1] = be64_put(subclusters);
}

/* Clusters from off to the end of its L2 table, at most those of len. */
static uint64_t clusters_in_table(const struct builder *b, uint64_t off,
				  uint64_t len)
{
	uint64_t per_table = 1ull << b->l2_bits;
	uint64_t in = off >> b->h.cluster_bits & (per_table - 1);

	return qi_min(qi_div_up(len, b->base.unit), per_table - in);
}

/* Give the first run of [off, off + len) its place. */
static int map_run(struct builder *b, uint64_t off, uint64_t len,
		   uint64_t subclusters, uint64_t *host_off, uint64_t *host_len,
		   struct qi_error *e)
{
	uint64_t n = clusters_in_table(b, off, len);
	int ret = use_l2(b, off, e);

	if (ret)
		return ret;
	/* In a data file everything has its place. */
	*host_off = has_data_file(b) ? off : take_clusters(b, n);
	*host_len = qi_min(len, n << b->h.cluster_bits);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t in = i << b->h.cluster_bits;

		set_entry(b, off + in, (*host_off + in) | QCOW2_COPIED,
			  subclusters);
	}
	return 0;
}

static int build_reserve(struct qi_writer *w, uint64_t off, uint64_t len,
			 uint64_t *host_off, uint64_t *host_len,
			 struct qi_error *e)
{
	struct builder *b = builder_of(w);

	return map_run(b, off, len, b->reserved_bits, host_off, host_len, e);
}

/* Reserve what was left out before off. */
static int fill(struct builder *b, uint64_t off, struct qi_error *e)
{
	uint64_t start = b->filled;

	if (b->prealloc == QI_PREALLOC_OFF || start >= off)
		return 0;
	b->filled = off;
	return qi_preallocate(&b->base, start, off - start, b->prealloc, e);
}

static int build_place(struct qi_writer *w, uint64_t off, uint64_t len,
		       uint64_t *host_off, uint64_t *host_len,
		       struct qi_error *e)
{
	struct builder *b = builder_of(w);
	int ret = fill(b, off, e);

	if (!ret)
		ret = map_run(b, off, len, SUBCLUSTERS_DATA, host_off, host_len,
			      e);
	if (!ret)
		b->filled = off + *host_len;
	return ret;
}

/* Zeroes that hide the backing file, with a place of their own. */
static int reserve_zero(struct builder *b, uint64_t off, uint64_t len,
			struct qi_error *e)
{
	int ret = fill(b, off, e);

	b->reserved_bits = SUBCLUSTERS_ZERO;
	if (!ret)
		ret = fill(b, off + len, e);
	b->reserved_bits = 0;
	return ret;
}

static int build_zero(struct qi_writer *w, uint64_t off, uint64_t len,
		      struct qi_error *e)
{
	struct builder *b = builder_of(w);
	bool extended = b->entry_words == 2;

	if (w->starts_zero)
		return 0;
	if (b->h.version < 3)
		return -ENOTSUP;
	if (b->prealloc != QI_PREALLOC_OFF)
		return reserve_zero(b, off, len, e);
	while (len) {
		uint64_t n = clusters_in_table(b, off, len);
		uint64_t bytes = n << b->h.cluster_bits;
		int ret = use_l2(b, off, e);

		if (ret)
			return ret;
		for (uint64_t i = 0; i < n; i++)
			set_entry(b, off + (i << b->h.cluster_bits),
				  extended ? 0 : QCOW2_ZERO, SUBCLUSTERS_ZERO);
		off += bytes;
		len -= qi_min(len, bytes);
	}
	return 0;
}

/* ----------------------------------------------------------- compressed */

/* The counter of a cluster, which is in one of the two blocks. */
static uint8_t *counter(struct builder *b, uint64_t cluster, uint64_t *i)
{
	struct counts *c = &b->counts;

	*i = cluster & ((1ull << c->block_bits) - 1);
	return cluster >> c->block_bits == c->index ? c->block : c->next;
}

/* Count one more packed cluster in each host cluster it touches. */
static void share(struct builder *b, uint64_t off, size_t len)
{
	const unsigned order = b->h.refcount_order;
	uint64_t last = (off + len - 1) >> b->h.cluster_bits, i;

	for (uint64_t n = off >> b->h.cluster_bits; n <= last; n++) {
		uint8_t *block = counter(b, n, &i);

		qcow2_refcount_store(block, i, order,
				     qcow2_refcount_load(block, i, order) + 1);
	}
}

static bool is_shareable(struct builder *b, uint64_t off)
{
	const unsigned order = b->h.refcount_order;
	uint64_t max = order >= 4 ? UINT16_MAX : (1u << (1u << order)) - 1, i;
	const uint8_t *block = counter(b, off >> b->h.cluster_bits, &i);

	return qcow2_refcount_load(block, i, order) < max;
}

/* Where len packed bytes go: after the last ones if that can be. */
static uint64_t packed_place(struct builder *b, size_t len)
{
	uint64_t in = b->packed_pos & (b->base.unit - 1);
	bool open = b->packed_pos && in && is_shareable(b, b->packed_pos);
	uint64_t room = open ? b->base.unit - in : 0;
	uint64_t at;

	if (open && len > room && b->packed_pos + room == b->next) {
		take_clusters(b, 1);
		room += b->base.unit;
	}
	at = len <= room ? b->packed_pos : take_clusters(b, 1);
	b->packed_pos = at + len;
	return at;
}

static int build_place_packed(struct qi_writer *w, uint64_t off, size_t len,
			      uint64_t *host_off, struct qi_error *e)
{
	struct builder *b = builder_of(w);
	unsigned x = 62 - (b->h.cluster_bits - 8);
	uint64_t at, sectors;
	int ret = use_l2(b, off, e);

	if (ret)
		return ret;
	at = packed_place(b, len);
	if (at >> x)
		return qi_fail(e, EFBIG,
			       "'%s' is too large for compressed "
			       "clusters",
			       b->file->name);
	sectors = ((at & 511) + len - 1) / 512;
	set_entry(b, off, QCOW2_COMPRESSED | sectors << x | at, 0);
	*host_off = at;
	share(b, at, len);
	return 0;
}

/* --------------------------------------------------------------- finish */

/* Units were padded, and holes at the end not written. */
static int finish_data(struct builder *b, struct qi_error *e)
{
	struct qi_file *data = b->base.file;
	int ret;

	if (data == b->file)
		return 0;
	ret = qi_file_resize(data, b->h.size, e);
	return ret ? ret : qi_file_sync(data, e);
}

static int build_finish(struct qi_writer *w, struct qi_error *e)
{
	struct builder *b = builder_of(w);
	QI_AUTOFREE uint8_t *head = NULL;
	size_t len;
	int ret = fill(b, b->h.size, e);

	if (!ret)
		ret = write_l2(b, e);
	if (!ret)
		ret = finish_data(b, e);
	if (!ret)
		ret = write_refcounts(b, e);
	if (!ret && b->h.l1_size)
		ret = qi_file_write(b->file, b->h.l1_offset,
				    (size_t)b->h.l1_size * sizeof(be64), b->l1,
				    e);
	if (!ret)
		ret = qcow2_header_serialise(&b->h, &head, &len, e);
	if (!ret)
		ret = qi_file_write(b->file, 0, len, head, e);
	return ret ? ret : qi_file_sync(b->file, e);
}

static void build_free(struct qi_writer *w)
{
	struct builder *b = builder_of(w);

	qcow2_header_free(&b->h);
	free(b->l1);
	free(b->l2);
	free(b->counts.block);
	free(b->counts.next);
	free(b->counts.table);
	free(b);
}

static const struct qi_writer_ops build_ops = {
	.place = build_place,
	.reserve = build_reserve,
	.place_packed = build_place_packed,
	.zero = build_zero,
	.finish = build_finish,
	.free = build_free,
};

/* The same where packed clusters cannot be. */
static const struct qi_writer_ops build_unpacked_ops = {
	.place = build_place,
	.reserve = build_reserve,
	.zero = build_zero,
	.finish = build_finish,
	.free = build_free,
};

/* ---------------------------------------------------------------- start */

static int take_spec(struct builder *b, const struct qi_image_spec *spec,
		     struct qi_error *e)
{
	struct qcow2_header *h = &b->h;
	int ret = qcow2_take_options(h, spec, &b->prealloc, e);
	uint64_t entries;

	if (ret)
		return ret;
	b->entry_words = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 2 : 1;
	b->l2_bits = h->cluster_bits - (b->entry_words == 2 ? 4 : 3);
	entries = qcow2_l1_entries(h->cluster_bits, b->l2_bits, h->size);
	if (entries * sizeof(be64) > QCOW2_MAX_L1_BYTES)
		return qi_stock(e,
				qi_fail(e, EFBIG,
					"a disk of %llu bytes is too large "
					"for clusters of %u bytes",
					(unsigned long long)h->size,
					1u << h->cluster_bits),
				"The image size is too large for file format "
				"'qcow2' (try using a larger cluster size)");
	h->l1_size = (uint32_t)entries;
	return 0;
}

/* Set up the writer: the L1 table follows the header. */
static int start(struct builder *b, const struct qi_image_spec *spec,
		 struct qi_file *file, struct qi_error *e)
{
	struct qcow2_header *h = &b->h;
	const char *unpacked = has_data_file(b) ? "data_file" :
			       b->prealloc != QI_PREALLOC_OFF ?
						  "preallocation" :
						  NULL;

	b->base = (struct qi_writer){
		.ops = unpacked ? &build_unpacked_ops : &build_ops,
		.file = has_data_file(b) ? spec->data : file,
		.size = h->size,
		.unit = 1u << h->cluster_bits,
		.starts_zero = !h->backing_name,
		.shares = b->prealloc <= QI_PREALLOC_METADATA,
		.codec = h->codec,
		.level = h->level,
		.unpacked_by = unpacked,
	};
	b->file = file;
	/* What a device has where there is room would be the disk's. */
	if (file->is_device && b->prealloc != QI_PREALLOC_OFF)
		b->prealloc = QI_PREALLOC_FULL;
	take_clusters(b, 1);
	/* A disk of no size has no table. */
	if (h->l1_size)
		h->l1_offset = take_clusters(
			b, qi_div_up((uint64_t)h->l1_size * sizeof(be64),
				     b->base.unit));
	b->l2_index = QI_NO_OFFSET;
	b->l1 = calloc((size_t)h->l1_size + 1, sizeof(be64));
	b->l2 = qi_alloc_aligned(b->base.unit);
	return b->l1 && b->l2 && !counts_init(&b->counts, h) ? 0 :
							       qi_no_memory(e);
}

int qcow2_build(struct qi_file *file, const struct qi_image_spec *spec,
		struct qi_writer **out, struct qi_error *e)
{
	struct builder *b = calloc(1, sizeof(*b));
	int ret;

	if (!b)
		return qi_no_memory(e);
	ret = take_spec(b, spec, e);
	if (!ret)
		ret = start(b, spec, file, e);
	if (ret) {
		build_free(&b->base);
		return ret;
	}
	*out = &b->base;
	return 0;
}

int qcow2_can_build(const struct qi_image_spec *spec, struct qi_error *e)
{
	struct builder b = { 0 };
	int ret = take_spec(&b, spec, e);

	qcow2_header_free(&b.h);
	return ret;
}
