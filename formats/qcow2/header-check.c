/* SPDX-License-Identifier: MIT */
/* header-check.c - what is wrong with a qcow2 header, here and in qemu-img */
#include <errno.h>
#include <stdio.h>

#include "formats/qcow2/qcow2.h"

/* A feature by the image's own table, if that has it. */
static bool feature_name(const struct qcow2 *q, unsigned bit,
			 struct qcow2_disk_feature *f)
{
	const struct qcow2_extension *x =
		qcow2_header_find(&q->h, QCOW2_EXT_FEATURE_NAMES);

	for (uint32_t i = 0; x && i + sizeof(*f) <= x->len; i += sizeof(*f)) {
		memcpy(f, x->data + i, sizeof(*f));
		if (f->type == 0 && f->bit == bit)
			return true;
	}
	return false;
}

/* Name the first one; qemu-img names those that have one, and the rest. */
int qcow2_header_unknown_feature(const struct qcow2 *q, uint64_t bits,
				 struct qi_error *e)
{
	unsigned first = (unsigned)__builtin_ctzll(bits);
	struct qcow2_disk_feature f;
	char names[512] = "";
	uint64_t left = 0;
	int ret;

	for (unsigned bit = 0; bit < 64; bit++) {
		size_t n = strlen(names);

		if (!(bits >> bit & 1))
			continue;
		if (feature_name(q, bit, &f))
			snprintf(names + n, sizeof(names) - n, "%s%.46s",
				 n ? ", " : "", f.name);
		else
			left |= 1ull << bit;
	}
	if (feature_name(q, first, &f))
		ret = qi_fail(e, ENOTSUP,
			      "'%s' needs a qcow2 feature "
			      "that is not known here: %.46s",
			      q->file->path, f.name);
	else
		ret = qi_fail(e, ENOTSUP,
			      "'%s' needs a qcow2 feature that is not "
			      "known here: incompatible bit %u",
			      q->file->path, first);
	if (!left)
		return qi_stock(e, ret, "Unsupported qcow2 feature(s): %s",
				names);
	return qi_stock(
		e, ret,
		"Unsupported qcow2 feature(s): %s%sUnknown incompatible feature: %llx",
		names, *names ? ", " : "", (unsigned long long)left);
}

int qcow2_header_check_numbers(struct qcow2 *q, struct qi_error *e)
{
	const struct qcow2_header *h = &q->h;

	if (h->version != 2 && h->version != 3)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"'%s' is qcow2 version %u; 2 and 3 "
					"are supported",
					q->file->path, h->version),
				"Unsupported qcow2 version %u", h->version);
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS ||
	    h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return qi_stock(
			e,
			qcow2_damaged(q, e, "cluster_bits is %u, not 9 to 21",
				      h->cluster_bits),
			"Unsupported cluster size: 2^%u", h->cluster_bits);
	if (h->version > 2 && (h->length < QCOW2_V3_HEADER || h->length % 8 ||
			       h->length > 1u << h->cluster_bits))
		return qi_stock(e,
				qcow2_damaged(q, e, "header_length is %u",
					      h->length),
				h->length < QCOW2_V3_HEADER ?
					"qcow2 header too short" :
					"qcow2 header exceeds cluster size");
	if (h->refcount_order > 6)
		return qi_stock(
			e,
			qcow2_damaged(q, e, "refcount_order is %u, not 0 to 6",
				      h->refcount_order),
			"Reference count entry width too large; may not exceed 64 bits");
	if (h->crypt_method > QCOW2_CRYPT_LUKS)
		return qi_stock(e,
				qcow2_damaged(q, e, "crypt_method is %u",
					      h->crypt_method),
				"Unsupported encryption method %u",
				h->crypt_method);
	if (h->size > INT64_MAX)
		return qi_stock(e,
				qcow2_damaged(q, e, "size is %llu",
					      (unsigned long long)h->size),
				"Image is too big");
	if (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 &&
	    h->cluster_bits < 14)
		return qi_stock(
			e,
			qcow2_damaged(q, e,
				      "extended L2 entries with clusters "
				      "of %u bytes",
				      1u << h->cluster_bits),
			"Unsupported subcluster size: %u",
			(1u << h->cluster_bits) / 32);
	return 0;
}

/* A table and its name, here and in qemu-img. */
struct table {
	const char *what, *stock;
	uint64_t off, bytes;
};

/* A table must be aligned and lie inside the file. */
static int check_table(const struct qcow2 *q, const struct table *t,
		       struct qi_error *e)
{
	const unsigned long long off = t->off, bytes = t->bytes;

	if (!qi_is_aligned(off, q->cluster_size))
		return qi_stock(e,
				qcow2_damaged(q, e,
					      "%s at %llu is not aligned to "
					      "clusters",
					      t->what, off),
				"%s offset invalid", t->stock);
	/* A check counts what is missing. */
	if (q->node->to_check && off <= (uint64_t)INT64_MAX - bytes)
		return 0;
	if (!qi_fits(off, bytes, q->file->size))
		return qcow2_damaged(q, e,
				     "%s at %llu, %llu bytes, is not in "
				     "the file, which has %llu: is it "
				     "truncated?",
				     t->what, off, bytes,
				     (unsigned long long)q->file->size);
	return 0;
}

int qcow2_header_check_tables(struct qcow2 *q, struct qi_error *e)
{
	const struct qcow2_header *h = &q->h;
	uint64_t need = qcow2_l1_entries(h->cluster_bits, q->l2_bits, h->size);
	uint64_t l1_bytes = (uint64_t)h->l1_size * sizeof(be64);
	uint64_t reftable_bytes =
		(uint64_t)h->reftable_clusters * q->cluster_size;
	const struct table tables[] = {
		{ "L1 table", "Active L1 table", h->l1_offset, l1_bytes },
		{ "refcount table", "Reference count table", h->reftable_offset,
		  reftable_bytes },
		{ "snapshot table", "Snapshot table", h->snapshots_offset,
		  h->snapshot_count ? sizeof(struct qcow2_disk_snapshot) : 0 },
	};
	int ret = 0;

	if (l1_bytes > QCOW2_MAX_L1_BYTES || h->l1_size < need)
		return qi_stock(
			e,
			qcow2_damaged(q, e,
				      "l1_size is %u; a disk of %llu "
				      "bytes needs %llu",
				      h->l1_size, (unsigned long long)h->size,
				      (unsigned long long)need),
			h->l1_size < need ? "L1 table is too small" :
					    "Active L1 table too large");
	if (reftable_bytes > QCOW2_MAX_REFTABLE_BYTES ||
	    (!h->reftable_clusters && !q->node->to_check))
		return qi_stock(
			e,
			qcow2_damaged(q, e, "refcount_table_clusters is %u",
				      h->reftable_clusters),
			h->reftable_clusters ?
				"Reference count table too large" :
				"Image does not contain a reference count table");
	if (h->snapshot_count > QCOW2_MAX_SNAPSHOTS)
		return qi_stock(e,
				qcow2_damaged(q, e, "nb_snapshots is %u",
					      h->snapshot_count),
				"Snapshot table too large");
	for (size_t i = 0; i < QI_ARRAY_SIZE(tables) && !ret; i++)
		if (tables[i].bytes)
			ret = check_table(q, &tables[i], e);
	return ret;
}
