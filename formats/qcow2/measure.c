/* SPDX-License-Identifier: MIT */
/*
 * measure.c - how large a new image would be
 *
 * As QEMU counts: all tables of the whole disk, and whole clusters of data.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"
#include "lib/preallocate.h"

/* What of the options decides about sizes. */
static int take_layout(struct qcow2_header *h, const struct qi_options *o,
		       bool *preallocated, struct qi_error *e)
{
	const char *text = qi_options_get(o, "preallocation");
	enum qi_preallocation mode = QI_PREALLOC_OFF;
	int ret = qcow2_take_layout(h, o, e);

	if (!ret && text && qi_preallocation_parse(text, &mode, e))
		ret = qi_stock(e, -EINVAL, "invalid parameter value: %s", text);
	*preallocated = mode == QI_PREALLOC_FALLOC || mode == QI_PREALLOC_FULL;
	return ret;
}

static unsigned entry_size(const struct qcow2_header *h)
{
	return h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 16 : 8;
}

static int check_size(const struct qcow2_header *h, uint64_t size,
		      struct qi_error *e)
{
	uint64_t cluster = 1ull << h->cluster_bits;
	uint64_t tables =
		qi_div_up(qi_div_up(size, cluster), cluster / entry_size(h));

	if (tables * sizeof(be64) <= QCOW2_MAX_L1_BYTES)
		return 0;
	return qi_stock(e,
			qi_fail(e, EFBIG,
				"a disk of %llu bytes is too large for "
				"clusters of %llu bytes",
				(unsigned long long)size,
				(unsigned long long)cluster),
			"The image size is too large (try using a larger "
			"cluster size)");
}

/* Refcount blocks and their table, which count themselves; clusters. */
static uint64_t refcount_clusters(const struct qcow2_header *h,
				  uint64_t clusters)
{
	uint64_t bytes = 1ull << h->cluster_bits;
	uint64_t per_block = bytes * 8 >> h->refcount_order;
	uint64_t blocks = 0, table = 0, last;

	do {
		last = blocks + table;
		blocks = qi_div_up(clusters + last, per_block);
		table = qi_div_up(blocks * sizeof(be64), bytes);
	} while (blocks + table != last);
	return last;
}

/* Header, tables and refcounts for a disk of whole clusters. */
static uint64_t metadata_bytes(const struct qcow2_header *h, uint64_t size)
{
	uint64_t cluster = 1ull << h->cluster_bits;
	uint64_t l2 = qi_div_up(size / cluster * entry_size(h), cluster);
	uint64_t l1 = qi_div_up(l2 * sizeof(be64), cluster);
	uint64_t clusters = 1 + l2 + l1;

	clusters += refcount_clusters(h, clusters + size / cluster);
	return clusters << h->cluster_bits;
}

/* Clusters in which src has data, in any layer. */
static int count_data(struct qi_node *src, uint64_t cluster, uint64_t *bytes,
		      struct qi_error *e)
{
	uint64_t counted = 0; /* all before it is */
	struct qi_extent x;
	struct qi_scan *s;
	int ret = qi_scan_new(&s, src, NULL, 0, src->facts.size);

	if (ret)
		return qi_no_memory(e);
	qi_scan_see_holes(s);
	while ((ret = qi_scan_next(s, &x, e)) > 0) {
		uint64_t from = qi_max(qi_round_down(x.off, cluster), counted);
		uint64_t to = qi_round_up(x.off + x.len, cluster);

		if (x.flags & QI_EXT_ZERO || from >= to)
			continue;
		*bytes += to - from;
		counted = to;
	}
	qi_scan_free(s);
	return ret;
}

/* As if every bit were set; bitmaps that are inconsistent do not count. */
static uint64_t bitmap_bytes(struct qi_node *src, uint64_t cluster)
{
	const struct qi_stored_bitmap *all;
	uint64_t bytes = 0, directory = 0;
	size_t count;

	all = src->format->bitmaps->list(src, &count);
	for (size_t i = 0; i < count; i++) {
		uint64_t bits = qi_div_up(src->facts.size,
					  1ull << all[i].granularity_bits);
		uint64_t clusters = qi_div_up(qi_div_up(bits, 8), cluster);

		if (all[i].in_use)
			continue;
		bytes += clusters * cluster +
			 qi_round_up(clusters * sizeof(be64), cluster);
		directory += qcow2_bitmap_entry_bytes(all[i].name);
	}
	return bytes + qi_round_up(directory, cluster);
}

int qcow2_measure(const struct qi_image_spec *spec, struct qi_node *src,
		  struct qi_measurement *out, struct qi_error *e)
{
	struct qcow2_header h = { 0 };
	uint64_t cluster, size, data = 0;
	bool preallocated;
	int ret = take_layout(&h, spec->options, &preallocated, e);

	if (!ret)
		ret = check_size(&h, spec->size, e);
	if (ret)
		return ret;
	cluster = 1ull << h.cluster_bits;
	size = qi_round_up(src ? src->facts.size : spec->size, cluster);
	/* Nobody knows what of the backing files is shared. */
	if (preallocated ||
	    (src && qi_options_get(spec->options, "backing_file")))
		data = size;
	else if (src)
		ret = count_data(src, cluster, &data, e);
	if (ret)
		return ret;
	out->required = metadata_bytes(&h, size) + data;
	out->fully_allocated = metadata_bytes(&h, size) + size;
	out->has_bitmaps = h.version > 2 && src && src->format->bitmaps &&
			   !src->format->bitmaps->can_store(src, false, NULL);
	if (out->has_bitmaps)
		out->bitmaps = bitmap_bytes(src, cluster);
	return 0;
}
