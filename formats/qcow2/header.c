/* SPDX-License-Identifier: MIT */
/* header.c - the qcow2 header: parse and check, change, write back */
#include <errno.h>
#include <stdio.h>

#include "formats/qcow2/qcow2.h"

/* Names for "unknown feature" messages and for the table of new images. */
static const struct qcow2_disk_feature feature_names[] = {
	{ 0, 0, "dirty bit" },
	{ 0, 1, "corrupt bit" },
	{ 0, 2, "external data file" },
	{ 0, 3, "compression type" },
	{ 0, 4, "extended L2 entries" },
	{ 1, 0, "lazy refcounts" },
	{ 2, 0, "bitmaps" },
	{ 2, 1, "raw external data" },
};

#define KNOWN_INCOMPATIBLE 31u

void qcow2_header_free(struct qcow2_header *h)
{
	for (size_t i = 0; i < h->extension_count; i++)
		free(h->extensions[i].data);
	free(h->extensions);
	free(h->backing_name);
	h->extensions = NULL;
	h->extension_count = 0;
	h->backing_name = NULL;
}

static struct qcow2_extension *find(const struct qcow2_header *h, uint32_t type)
{
	for (size_t i = 0; i < h->extension_count; i++)
		if (h->extensions[i].type == type)
			return &h->extensions[i];
	return NULL;
}

const struct qcow2_extension *qcow2_header_find(const struct qcow2_header *h,
						uint32_t type)
{
	return find(h, type);
}

static int append(struct qcow2_header *h, uint32_t type, const void *data,
		  size_t len)
{
	struct qcow2_extension *x =
		realloc(h->extensions, (h->extension_count + 1) * sizeof(*x));

	if (!x)
		return -ENOMEM;
	h->extensions = x;
	x += h->extension_count;
	x->type = type;
	x->len = (uint32_t)len;
	x->data = malloc(len + 1);
	if (!x->data)
		return -ENOMEM;
	memcpy(x->data, data, len);
	x->data[len] = 0; /* so that text can be used as it is */
	h->extension_count++;
	return 0;
}

int qcow2_header_set(struct qcow2_header *h, uint32_t type, const void *data,
		     size_t len)
{
	struct qcow2_extension *x = find(h, type);
	uint8_t *copy;

	if (!x)
		return data ? append(h, type, data, len) : 0;
	if (!data) {
		free(x->data);
		*x = h->extensions[--h->extension_count];
		return 0;
	}
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, len);
	copy[len] = 0;
	free(x->data);
	x->data = copy;
	x->len = (uint32_t)len;
	return 0;
}

int qcow2_header_copy(struct qcow2_header *out, const struct qcow2_header *h)
{
	int ret = 0;

	*out = *h;
	out->extensions = NULL;
	out->extension_count = 0;
	out->backing_name = h->backing_name ? strdup(h->backing_name) : NULL;
	if (h->backing_name && !out->backing_name)
		ret = -ENOMEM;
	for (size_t i = 0; i < h->extension_count && !ret; i++)
		ret = append(out, h->extensions[i].type, h->extensions[i].data,
			     h->extensions[i].len);
	return ret;
}

int qcow2_header_add_feature_names(struct qcow2_header *h)
{
	return append(h, QCOW2_EXT_FEATURE_NAMES, feature_names,
		      sizeof(feature_names));
}

uint64_t qcow2_l1_entries(unsigned cluster_bits, unsigned l2_bits,
			  uint64_t size)
{
	unsigned bits = cluster_bits + l2_bits;

	return (size >> bits) + ((size & ((1ull << bits) - 1)) != 0);
}

/* ----------------------------------------------------------------- read */

static void decode(struct qcow2_header *h, const struct qcow2_disk_header *d)
{
	h->version = be32_get(d->version);
	h->cluster_bits = be32_get(d->cluster_bits);
	h->size = be64_get(d->size);
	h->crypt_method = be32_get(d->crypt_method);
	h->l1_size = be32_get(d->l1_size);
	h->l1_offset = be64_get(d->l1_table_offset);
	h->reftable_offset = be64_get(d->refcount_table_offset);
	h->reftable_clusters = be32_get(d->refcount_table_clusters);
	h->snapshot_count = be32_get(d->nb_snapshots);
	h->snapshots_offset = be64_get(d->snapshots_offset);
	h->length = QCOW2_V2_HEADER;
	h->refcount_order = 4;
	h->codec = QI_CODEC_ZLIB;
	if (h->version < 3)
		return;
	h->incompatible = be64_get(d->incompatible_features);
	h->compatible = be64_get(d->compatible_features);
	h->autoclear = be64_get(d->autoclear_features);
	h->refcount_order = be32_get(d->refcount_order);
	h->length = be32_get(d->header_length);
}

/* The first cluster, of which the beginning is mostly all that is needed. */
struct head {
	const uint8_t *data;
	size_t have;
	uint8_t *all; /* or NULL; to be freed */
};

/* Have the first `len` bytes of the cluster, which are not more than it. */
static int need(struct qcow2 *q, struct head *head, uint64_t len,
		struct qi_error *e)
{
	ssize_t n;

	if (len <= head->have)
		return 0;
	head->all = malloc(q->cluster_size);
	if (!head->all)
		return qi_no_memory(e);
	head->data = head->all;
	head->have = q->cluster_size;
	n = qi_file_read_some(q->file, 0, q->cluster_size, head->all, e);
	return n < 0 ? (int)n : 0;
}

/* Extensions lie between the header and the backing name (or the end). */
static int read_extensions(struct qcow2 *q, struct head *head, size_t len,
			   struct qi_error *e)
{
	struct qcow2_header *h = &q->h;
	size_t pos = h->length;

	while (pos + sizeof(struct qcow2_disk_extension) <= len) {
		struct qcow2_disk_extension d;
		uint32_t type, n;
		int ret = need(q, head, pos + sizeof(d), e);

		if (ret)
			return ret;
		memcpy(&d, head->data + pos, sizeof(d));
		type = be32_get(d.type);
		n = be32_get(d.length);
		if (type == QCOW2_EXT_END)
			return 0;
		pos += sizeof(d);
		if (n > len - pos)
			return qi_stock(
				e,
				qcow2_damaged(
					q, e,
					"header extension 0x%08x "
					"has %u bytes, more than there is "
					"room",
					type, n),
				"Header extension too large");
		ret = need(q, head, pos + n, e);
		if (ret)
			return ret;
		if (append(h, type, head->data + pos, n))
			return qi_no_memory(e);
		pos += qi_round_up(n, 8);
	}
	return 0;
}

static int read_backing_name(struct qcow2 *q, struct head *head, uint64_t off,
			     uint32_t len, struct qi_error *e)
{
	int ret;

	if (!off)
		return 0;
	if (len > QCOW2_MAX_BACKING_NAME || !qi_fits(off, len, q->cluster_size))
		return qi_stock(
			e,
			qcow2_damaged(q, e,
				      "backing file name at %llu has %u "
				      "bytes",
				      (unsigned long long)off, len),
			off > q->cluster_size ? "Invalid backing file offset" :
						"Backing file name too long");
	ret = len ? need(q, head, off + len, e) : 0;
	if (ret || !len)
		return ret;
	q->h.backing_name = strndup((const char *)head->data + off, len);
	return q->h.backing_name ? 0 : qi_no_memory(e);
}

static int read_compression(struct qcow2 *q, const struct qcow2_disk_header *d,
			    struct qi_error *e)
{
	unsigned type = q->h.length > QCOW2_V3_HEADER ? d->compression_type : 0;
	bool bit = q->h.incompatible & QCOW2_INCOMPAT_COMPRESSION;

	if (type > 1)
		return qi_stock(
			e,
			qi_fail(e, ENOTSUP,
				"'%s' uses compression type %u, which is not "
				"known here",
				q->file->path, type),
			"qcow2: unknown compression type: %u", type);
	if (bit != (type != 0))
		return qi_stock(
			e,
			qcow2_damaged(q, e,
				      "compression type is %u, but its feature "
				      "bit says something else",
				      type),
			"qcow2: Compression type incompatible feature bit must %sbe set",
			type ? "" : "not ");
	q->h.codec = type ? QI_CODEC_ZSTD : QI_CODEC_ZLIB;
	return 0;
}

static int read_rest(struct qcow2 *q, struct head *head,
		     const struct qcow2_disk_header *d, struct qi_error *e)
{
	uint64_t backing = be64_get(d->backing_file_offset);
	uint64_t ext_end = q->cluster_size;
	struct qcow2_header *h = &q->h;
	int ret;

	if (backing && backing < ext_end)
		ext_end = backing;
	ret = read_extensions(q, head, (size_t)ext_end, e);
	if (!ret && h->incompatible & ~(uint64_t)KNOWN_INCOMPATIBLE)
		ret = qcow2_header_unknown_feature(
			q, h->incompatible & ~(uint64_t)KNOWN_INCOMPATIBLE, e);
	if (!ret)
		ret = read_backing_name(q, head, backing,
					be32_get(d->backing_file_size), e);
	if (!ret)
		ret = read_compression(q, d, e);
	return ret;
}

int qcow2_header_read(struct qcow2 *q, struct qi_error *e)
{
	struct qcow2_disk_header d;
	uint8_t start[QCOW2_HEADER_MAX];
	struct head head = { .data = start };
	ssize_t n = qi_file_read_some(q->file, 0, sizeof(start), start, e);
	int ret;

	if (n < 0)
		return (int)n;
	memcpy(&d, start, sizeof(d));
	if (n < 8 || be32_get(d.magic) != QCOW2_MAGIC)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"'%s' is not in qcow2 format",
					q->file->path),
				"Image is not in qcow2 format");
	decode(&q->h, &d);
	ret = qcow2_header_check_numbers(q, e);
	if (ret)
		return ret;
	q->cluster_size = 1u << q->h.cluster_bits;
	q->l2_entry_size = q->h.incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 16 :
									    8;
	q->l2_bits = q->h.cluster_bits - (q->l2_entry_size == 16 ? 4 : 3);
	if (q->file->size < q->h.length)
		return qcow2_damaged(q, e, "the header is truncated");
	head.have = qi_min(sizeof(start), q->cluster_size);
	ret = need(q, &head, q->h.length, e);
	if (!ret) {
		memcpy(q->h.raw, head.data,
		       qi_min(q->h.length, sizeof(q->h.raw)));
		ret = read_rest(q, &head, &d, e);
	}
	free(head.all);
	return ret ? ret : qcow2_header_check_tables(q, e);
}

/* ---------------------------------------------------------------- write */

static void encode(const struct qcow2_header *h, uint8_t *out,
		   uint64_t backing_off, size_t backing_len)
{
	struct qcow2_disk_header d = { 0 };

	memcpy(out, h->raw, h->length);
	memcpy(&d, out, qi_min(h->length, sizeof(d)));
	d.magic = be32_put(QCOW2_MAGIC);
	d.version = be32_put(h->version);
	d.backing_file_offset = be64_put(backing_off);
	d.backing_file_size = be32_put((uint32_t)backing_len);
	d.cluster_bits = be32_put(h->cluster_bits);
	d.size = be64_put(h->size);
	d.crypt_method = be32_put(h->crypt_method);
	d.l1_size = be32_put(h->l1_size);
	d.l1_table_offset = be64_put(h->l1_offset);
	d.refcount_table_offset = be64_put(h->reftable_offset);
	d.refcount_table_clusters = be32_put(h->reftable_clusters);
	d.nb_snapshots = be32_put(h->snapshot_count);
	d.snapshots_offset = be64_put(h->snapshots_offset);
	d.incompatible_features = be64_put(h->incompatible);
	d.compatible_features = be64_put(h->compatible);
	d.autoclear_features = be64_put(h->autoclear);
	d.refcount_order = be32_put(h->refcount_order);
	d.header_length = be32_put(h->length);
	d.compression_type = h->codec == QI_CODEC_ZSTD;
	memcpy(out, &d, qi_min(h->length, sizeof(d)));
}

/* What one extension takes. */
static uint64_t extension_bytes(uint64_t len)
{
	return sizeof(struct qcow2_disk_extension) + qi_round_up(len, 8);
}

/* Bytes of the header with all but the backing name. */
static uint64_t header_bytes(const struct qcow2_header *h)
{
	uint64_t total = h->length + sizeof(struct qcow2_disk_extension);

	for (size_t i = 0; i < h->extension_count; i++)
		total += extension_bytes(h->extensions[i].len);
	return total;
}

/* Does a header of so many bytes fit into the cluster, and into one write? */
static int check_fit(const struct qcow2_header *h, uint64_t bytes,
		     struct qi_error *e)
{
	if (bytes <= qi_min(QCOW2_HEADER_MAX, 1u << h->cluster_bits))
		return 0;
	return qi_fail(e, E2BIG,
		       "the image header is full: names of bitmaps and of the "
		       "backing file must be shorter, or fewer");
}

int qcow2_header_check_growth(const struct qcow2 *q, bool bitmaps,
			      size_t record_len, struct qi_error *e)
{
	const struct qcow2_header *h = &q->h;
	const struct qcow2_extension *record = find(h, QCOW2_EXT_RECORD);
	uint64_t bytes = header_bytes(h) +
			 (h->backing_name ? strlen(h->backing_name) : 0);
	int ret;

	if (bitmaps && !find(h, QCOW2_EXT_BITMAPS))
		bytes += extension_bytes(sizeof(struct qcow2_disk_bitmaps));
	if (record_len)
		bytes += extension_bytes(record_len) -
			 (record ? extension_bytes(record->len) : 0);
	ret = check_fit(h, bytes, e);
	return ret ? qi_context(e, ret, "cannot write '%s'", q->file->path) : 0;
}

int qcow2_header_check_room(const struct qcow2 *q, struct qi_error *e)
{
	const struct qcow2_header *h = &q->h;
	uint64_t total = header_bytes(h) +
			 (h->backing_name ? strlen(h->backing_name) : 0);

	if (total <= QCOW2_HEADER_MAX)
		return 0;
	return qi_fail(e, E2BIG,
		       "cannot write '%s': its header has %llu bytes, more "
		       "than the %d that can be replaced at once; 'qimg "
		       "convert -O qcow2 %s NEW' makes a plain one",
		       q->file->path, (unsigned long long)total,
		       QCOW2_HEADER_MAX, QI_WORD(q->file->path));
}

int qcow2_header_serialise(const struct qcow2_header *h, uint8_t **out,
			   size_t *len, struct qi_error *e)
{
	size_t backing = h->backing_name ? strlen(h->backing_name) : 0;
	size_t pos = h->length;
	uint64_t total = header_bytes(h);
	uint8_t *p;
	int ret = check_fit(h, total + backing, e);

	if (ret)
		return ret;
	*len = qi_round_up(total + backing, 512);
	p = calloc(1, *len);
	if (!p)
		return qi_no_memory(e);
	encode(h, p, backing ? total : 0, backing);
	for (size_t i = 0; i < h->extension_count; i++) {
		const struct qcow2_extension *x = &h->extensions[i];
		struct qcow2_disk_extension d = { be32_put(x->type),
						  be32_put(x->len) };

		memcpy(p + pos, &d, sizeof(d));
		memcpy(p + pos + sizeof(d), x->data, x->len);
		pos += sizeof(d) + qi_round_up(x->len, 8);
	}
	if (backing)
		memcpy(p + total, h->backing_name, backing);
	*out = p;
	return 0;
}

int qcow2_header_commit(struct qcow2 *q, struct qi_error *e)
{
	QI_AUTOFREE uint8_t *bytes = NULL;
	size_t len;
	int ret = qcow2_header_serialise(&q->h, &bytes, &len, e);

	if (ret)
		return qi_context(e, ret, "cannot write '%s'", q->file->path);
	ret = qi_file_sync(q->file, e);
	if (!ret)
		ret = qi_file_write(q->file, 0, len, bytes, e);
	if (!ret)
		ret = qi_file_sync(q->file, e);
	return ret;
}

int qcow2_header_autoclear(struct qcow2 *q, struct qi_error *e)
{
	if (!(q->h.autoclear & ~(uint64_t)QCOW2_AUTOCLEAR_KNOWN))
		return 0;
	q->h.autoclear &= QCOW2_AUTOCLEAR_KNOWN;
	return qcow2_header_commit(q, e);
}
