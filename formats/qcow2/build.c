/* SPDX-License-Identifier: MIT */
/*
 * build.c - making a new image in one pass
 *
 * Clusters are laid out in guest order: header, L1 table, then each L2 table
 * before the data it maps, and refcount blocks and table at the end, when
 * their number is known. The layout depends on the input alone. Nothing is
 * ordered on disk, for the file has no name that counts until it is complete.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

struct builder {
	struct qi_writer base;
	struct qcow2_header h;
	unsigned l2_bits;
	uint64_t next; /* the next free cluster, as an offset */
	be64 *l1;
	be64 *l2;	   /* the table that is being filled */
	uint64_t l2_index; /* its L1 index, or QI_NO_OFFSET */
	uint64_t l2_off;
	uint64_t packed_pos; /* end of packed data, 0: none is open */
	uint16_t *shared;    /* refcounts of clusters with packed data */
	uint64_t shared_count;
};

static struct builder *builder_of(struct qi_writer *w)
{
	return qi_container_of(w, struct builder, base);
}

static uint64_t take_clusters(struct builder *b, uint64_t count)
{
	uint64_t off = b->next;

	b->next += count << b->h.cluster_bits;
	return off;
}

/* ------------------------------------------------------------- mappings */

static int write_l2(struct builder *b, struct qi_error *e)
{
	if (b->l2_index == QI_NO_OFFSET)
		return 0;
	b->l1[b->l2_index] = be64_put(b->l2_off | QCOW2_COPIED);
	return qi_file_write(b->base.file, b->l2_off, b->base.unit, b->l2, e);
}

/* Make the table of guest offset off the current one. */
static int use_l2(struct builder *b, uint64_t off, struct qi_error *e)
{
	uint64_t index = off >> (b->h.cluster_bits + b->l2_bits);
	int ret;

	if (index == b->l2_index)
		return 0;
	ret = write_l2(b, e);
	if (ret)
		return ret;
	memset(b->l2, 0, b->base.unit);
	b->l2_index = index;
	b->l2_off = take_clusters(b, 1);
	return 0;
}

static void set_entry(struct builder *b, uint64_t off, uint64_t entry)
{
	uint64_t index = off >> b->h.cluster_bits;

	b->l2[index & ((1ull << b->l2_bits) - 1)] = be64_put(entry);
}

/* Clusters from off to the end of its L2 table, at most those of len. */
static uint64_t clusters_in_table(const struct builder *b, uint64_t off,
				  uint64_t len)
{
	uint64_t per_table = 1ull << b->l2_bits;
	uint64_t in = off >> b->h.cluster_bits & (per_table - 1);

	return qi_min(qi_div_up(len, b->base.unit), per_table - in);
}

static int build_place(struct qi_writer *w, uint64_t off, uint64_t len,
		       uint64_t *host_off, uint64_t *host_len,
		       struct qi_error *e)
{
	struct builder *b = builder_of(w);
	uint64_t n = clusters_in_table(b, off, len);
	int ret = use_l2(b, off, e);

	if (ret)
		return ret;
	*host_off = take_clusters(b, n);
	*host_len = qi_min(len, n << b->h.cluster_bits);
	for (uint64_t i = 0; i < n; i++)
		set_entry(b, off + (i << b->h.cluster_bits),
			  (*host_off + (i << b->h.cluster_bits)) |
				  QCOW2_COPIED);
	return 0;
}

static int build_zero(struct qi_writer *w, uint64_t off, uint64_t len,
		      struct qi_error *e)
{
	struct builder *b = builder_of(w);

	if (w->starts_zero)
		return 0;
	if (b->h.version < 3)
		return -ENOTSUP;
	while (len) {
		uint64_t n = clusters_in_table(b, off, len);
		uint64_t bytes = n << b->h.cluster_bits;
		int ret = use_l2(b, off, e);

		if (ret)
			return ret;
		for (uint64_t i = 0; i < n; i++)
			set_entry(b, off + (i << b->h.cluster_bits),
				  QCOW2_ZERO);
		off += bytes;
		len -= qi_min(len, bytes);
	}
	return 0;
}

/* ----------------------------------------------------------- compressed */

/* Count one more packed cluster in each host cluster it touches. */
static int share(struct builder *b, uint64_t off, size_t len,
		 struct qi_error *e)
{
	uint64_t last = (off + len - 1) >> b->h.cluster_bits;

	if (last >= b->shared_count) {
		uint64_t count = qi_max(last + 1, b->shared_count * 2 + 1024);
		uint16_t *p = realloc(b->shared, count * sizeof(*p));

		if (!p)
			return qi_no_memory(e);
		memset(p + b->shared_count, 0,
		       (count - b->shared_count) * sizeof(*p));
		b->shared = p;
		b->shared_count = count;
	}
	for (uint64_t i = off >> b->h.cluster_bits; i <= last; i++)
		b->shared[i]++;
	return 0;
}

static bool is_shareable(const struct builder *b, uint64_t off)
{
	uint64_t i = off >> b->h.cluster_bits;
	uint64_t max = b->h.refcount_order >= 4 ?
			       UINT16_MAX :
			       (1u << (1u << b->h.refcount_order)) - 1;

	return i >= b->shared_count || b->shared[i] < max;
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
			       w->file->name);
	sectors = ((at & 511) + len - 1) / 512;
	set_entry(b, off, QCOW2_COMPRESSED | sectors << x | at);
	*host_off = at;
	return share(b, at, len, e);
}

/* --------------------------------------------------------------- finish */

static void fill_block(const struct builder *b, uint8_t *block, uint64_t first,
		       uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t c = first + i, n = 1;

		if (c < b->shared_count && b->shared[c])
			n = b->shared[c];
		qcow2_refcount_store(block, i, b->h.refcount_order, n);
	}
}

/* Blocks, then the table, both counted in themselves. */
static int write_refcounts(struct builder *b, struct qi_error *e)
{
	unsigned block_bits = b->h.cluster_bits + 3 - b->h.refcount_order;
	uint64_t used = b->next >> b->h.cluster_bits, total = used;
	uint64_t blocks, clusters, first = b->next;
	QI_AUTOFREE uint8_t *block = malloc(b->base.unit);
	QI_AUTOFREE be64 *table = NULL;
	int ret = 0;

	do {
		blocks = qi_div_up(total, 1ull << block_bits);
		clusters = qi_div_up(blocks * sizeof(be64), b->base.unit);
		total = used + blocks + clusters;
	} while (blocks << block_bits < total);
	if (clusters * b->base.unit > QCOW2_MAX_REFTABLE_BYTES)
		return qi_fail(e, EFBIG,
			       "'%s' needs a refcount table of more "
			       "than 8 MiB; choose larger clusters",
			       b->base.file->name);
	table = calloc(clusters, b->base.unit);
	if (!block || !table)
		return qi_no_memory(e);
	for (uint64_t i = 0; i < blocks && !ret; i++) {
		uint64_t at = i << block_bits;

		memset(block, 0, b->base.unit);
		fill_block(b, block, at,
			   qi_min(total - at, 1ull << block_bits));
		table[i] = be64_put(first + (i << b->h.cluster_bits));
		ret = qi_file_write(b->base.file, be64_get(table[i]),
				    b->base.unit, block, e);
	}
	b->h.reftable_offset = first + (blocks << b->h.cluster_bits);
	b->h.reftable_clusters = (uint32_t)clusters;
	return ret ? ret :
		     qi_file_write(b->base.file, b->h.reftable_offset,
				   clusters * b->base.unit, table, e);
}

static int build_finish(struct qi_writer *w, struct qi_error *e)
{
	struct builder *b = builder_of(w);
	QI_AUTOFREE uint8_t *head = NULL;
	size_t len;
	int ret = write_l2(b, e);

	if (!ret)
		ret = write_refcounts(b, e);
	if (!ret && b->h.l1_size)
		ret = qi_file_write(w->file, b->h.l1_offset,
				    (size_t)b->h.l1_size * sizeof(be64), b->l1,
				    e);
	if (!ret)
		ret = qcow2_header_serialise(&b->h, &head, &len, e);
	if (!ret)
		ret = qi_file_write(w->file, 0, len, head, e);
	return ret ? ret : qi_file_sync(w->file, e);
}

static void build_free(struct qi_writer *w)
{
	struct builder *b = builder_of(w);

	qcow2_header_free(&b->h);
	free(b->l1);
	free(b->l2);
	free(b->shared);
	free(b);
}

static const struct qi_writer_ops build_ops = {
	.place = build_place,
	/* The end of a new file is a hole. */
	.reserve = build_place,
	.place_packed = build_place_packed,
	.zero = build_zero,
	.finish = build_finish,
	.free = build_free,
};

/* -------------------------------------------------------------- options */

const struct qi_format_option qcow2_options[] = {
	{ "backing_file", "str", "file name of a base image" },
	{ "backing_fmt", "str", "format of the base image" },
	{ "cluster_size", "size", "512 to 2M (default 64k)" },
	{ "compat", "str", "v2 (0.10) or v3 (1.1, the default)" },
	{ "compression_type", "str", "zlib (the default) or zstd" },
	{ "lazy_refcounts", "bool", "postpone refcount updates" },
	{ "refcount_bits", "num", "1, 2, 4, 8, 16 (the default), 32 or 64" },
	{ "size", "size", "virtual disk size" },
	{ NULL, NULL, NULL },
};

static int take_version(struct qcow2_header *h, const struct qi_options *o,
			struct qi_error *e)
{
	const char *text = qi_options_get(o, "compat");

	h->version = 3;
	h->length = sizeof(struct qcow2_disk_header);
	if (!text || !strcmp(text, "1.1") || !strcmp(text, "v3"))
		return 0;
	h->version = 2;
	h->length = QCOW2_V2_HEADER;
	if (!strcmp(text, "0.10") || !strcmp(text, "v2"))
		return 0;
	return qi_fail(e, EINVAL,
		       "option 'compat': '%s' is neither 0.10 nor "
		       "1.1",
		       text);
}

static int take_compression(struct qcow2_header *h, const struct qi_options *o,
			    struct qi_error *e)
{
	const char *text = qi_options_get(o, "compression_type");

	h->codec = QI_CODEC_ZLIB;
	if (!text || !strcmp(text, "zlib"))
		return 0;
	if (strcmp(text, "zstd"))
		return qi_fail(e, EINVAL,
			       "option 'compression_type': '%s' is "
			       "neither zlib nor zstd",
			       text);
	if (h->version < 3)
		return qi_fail(e, EINVAL,
			       "option 'compression_type': zstd "
			       "needs compat=1.1");
	h->codec = QI_CODEC_ZSTD;
	h->incompatible |= QCOW2_INCOMPAT_COMPRESSION;
	return 0;
}

static int take_numbers(struct qcow2_header *h, const struct qi_options *o,
			struct qi_error *e)
{
	uint64_t cluster_size, bits;
	bool lazy;
	int ret =
		qi_options_get_size(o, "cluster_size", 65536, &cluster_size, e);

	if (!ret)
		ret = qi_options_get_size(o, "refcount_bits", 16, &bits, e);
	if (!ret)
		ret = qi_options_get_bool(o, "lazy_refcounts", false, &lazy, e);
	if (ret)
		return ret;
	if (cluster_size < 512 || cluster_size > 2u << 20 ||
	    cluster_size & (cluster_size - 1))
		return qi_fail(e, EINVAL,
			       "option 'cluster_size': must be a "
			       "power of two from 512 to 2M");
	if (!bits || bits > 64 || bits & (bits - 1))
		return qi_fail(e, EINVAL,
			       "option 'refcount_bits': must be a "
			       "power of two from 1 to 64");
	h->cluster_bits = (unsigned)__builtin_ctzll(cluster_size);
	h->refcount_order = (unsigned)__builtin_ctzll(bits);
	if (h->version < 3 && (lazy || bits != 16))
		return qi_fail(e, EINVAL, "option '%s' needs compat=1.1",
			       lazy ? "lazy_refcounts" : "refcount_bits");
	h->compatible = lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0;
	return 0;
}

static int take_backing(struct qcow2_header *h,
			const struct qi_image_spec *spec, struct qi_error *e)
{
	int ret = 0;

	if (!spec->backing_name)
		return 0;
	if (strlen(spec->backing_name) > QCOW2_MAX_BACKING_NAME)
		return qi_fail(e, EINVAL,
			       "the name of the backing file has "
			       "more than %d bytes",
			       QCOW2_MAX_BACKING_NAME);
	h->backing_name = strdup(spec->backing_name);
	if (h->backing_name && spec->backing_format)
		ret = qcow2_header_set(h, QCOW2_EXT_BACKING_FORMAT,
				       spec->backing_format,
				       strlen(spec->backing_format));
	return h->backing_name && !ret ? 0 : qi_no_memory(e);
}

static int take_spec(struct builder *b, const struct qi_image_spec *spec,
		     struct qi_error *e)
{
	struct qcow2_header *h = &b->h;
	int ret = take_version(h, spec->options, e);

	if (!ret)
		ret = take_compression(h, spec->options, e);
	if (!ret)
		ret = take_numbers(h, spec->options, e);
	if (!ret)
		ret = take_backing(h, spec, e);
	/* The table of feature names would not leave room in tiny clusters. */
	if (!ret && h->version > 2 && h->cluster_bits > 10 &&
	    qcow2_header_add_feature_names(h))
		ret = qi_no_memory(e);
	h->size = spec->size;
	b->l2_bits = h->cluster_bits - 3;
	return ret;
}

/* Set up the writer: the L1 table follows the header. */
static int start(struct builder *b, struct qi_file *file, struct qi_error *e)
{
	struct qcow2_header *h = &b->h;
	uint64_t entries =
		qcow2_l1_entries(h->cluster_bits, b->l2_bits, h->size);

	if (entries * sizeof(be64) > QCOW2_MAX_L1_BYTES)
		return qi_fail(e, EFBIG,
			       "a disk of %llu bytes is too large "
			       "for clusters of %u bytes",
			       (unsigned long long)h->size,
			       1u << h->cluster_bits);
	h->l1_size = (uint32_t)entries;
	b->base = (struct qi_writer){ .ops = &build_ops,
				      .file = file,
				      .size = h->size,
				      .unit = 1u << h->cluster_bits,
				      .starts_zero = !h->backing_name,
				      .codec = h->codec };
	take_clusters(b, 1);
	/* A disk of no size has no table. */
	if (entries)
		h->l1_offset = take_clusters(
			b, qi_div_up(entries * sizeof(be64), b->base.unit));
	b->l2_index = QI_NO_OFFSET;
	b->l1 = calloc(entries + 1, sizeof(be64));
	b->l2 = qi_alloc_aligned(b->base.unit);
	return b->l1 && b->l2 ? 0 : qi_no_memory(e);
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
		ret = start(b, file, e);
	if (ret) {
		build_free(&b->base);
		return ret;
	}
	*out = &b->base;
	return 0;
}
