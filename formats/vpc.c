/* SPDX-License-Identifier: MIT */
/*
 * vpc.c - VHD images of Virtual PC and Hyper-V; recognised, and no more
 *
 * A dynamic one starts with a copy of its footer. One of fixed size has it at
 * its end alone: what is before is a raw disk, and probing finds that.
 */
#include "lib/foreign.h"

#define TYPE_FIXED 2u
/* Larger disks have this geometry, and their size elsewhere. */
#define MAX_CHS_SECTORS (65535ull * 16 * 255)

struct disk_footer {
	char magic[8];
	be32 features;
	be32 version;
	be64 header_offset;
	be32 timestamp;
	char creator[4];
	be16 major, minor;
	char creator_os[4];
	be64 original_size;
	be64 size;
	be16 cylinders;
	uint8_t heads;
	uint8_t sectors;
	be32 type;
	be32 checksum;
	uint8_t rest[444];
};
_Static_assert(offsetof(struct disk_footer, size) == 48, "size");
_Static_assert(sizeof(struct disk_footer) == 512, "footer");

/* What a dynamic one has at header_offset. */
struct disk_header {
	char magic[8];
	be64 next;
	be64 table_offset;
	be32 version;
	be32 table_entries;
	be32 block_size;
};
_Static_assert(sizeof(struct disk_header) == 36, "header");

static bool is_footer(const uint8_t *sector)
{
	return !memcmp(sector, "conectix", 8);
}

static int vpc_probe(const uint8_t *head, size_t len, const char *name)
{
	(void)name;
	return len >= 8 && is_footer(head) ? 100 : 0;
}

/* The complement of the sum of all other bytes. */
static bool is_whole(const struct disk_footer *d)
{
	struct disk_footer copy = *d;
	uint32_t sum = 0;

	copy.checksum = be32_put(0);
	for (size_t i = 0; i < sizeof(copy); i++)
		sum += ((const uint8_t *)&copy)[i];
	return be32_get(d->checksum) == ~sum;
}

/* These record sizes, others a geometry that stands for less. */
static bool records_size(const struct disk_footer *d)
{
	static const char by[][4] = { "win ", "qem2", "d2v ", "tap\0", "CTXS" };

	for (size_t i = 0; i < QI_ARRAY_SIZE(by); i++)
		if (!memcmp(d->creator, by[i], sizeof(by[i])))
			return true;
	return false;
}

static int take_size(struct qi_node *n, const struct disk_footer *d,
		     struct qi_error *e)
{
	uint64_t sectors =
		(uint64_t)be16_get(d->cylinders) * d->heads * d->sectors;

	if (records_size(d) || sectors == MAX_CHS_SECTORS)
		sectors = be64_get(d->size) / 512;
	return qi_foreign_size(n, sectors, 512, e);
}

static int vpc_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_footer d;
	struct disk_header h;
	int ret;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);

	if (len > 0 && !is_footer((const uint8_t *)&d) &&
	    n->file->size > sizeof(d))
		len = qi_file_read_some(n->file, n->file->size - sizeof(d),
					sizeof(d), &d, e);
	if (len < 0)
		return (int)len;
	if (!is_footer((const uint8_t *)&d))
		return qi_foreign_is_other(n, "invalid VPC image", e);
	if (!is_whole(&d))
		return qi_stock(
			e, qi_foreign_damaged(n, e, "its checksum is wrong"),
			"Incorrect header checksum");
	ret = take_size(n, &d, e);
	if (ret || be32_get(d.type) == TYPE_FIXED)
		return ret;
	if (!qi_fits(be64_get(d.header_offset), sizeof(h), n->file->size))
		return qi_foreign_damaged(n, e, "its header is not in it");
	ret = qi_file_read(n->file, be64_get(d.header_offset), sizeof(h), &h,
			   e);
	if (ret)
		return ret;
	if (memcmp(h.magic, "cxsparse", sizeof(h.magic)))
		return qi_foreign_damaged(n, e, "its header is none");
	return qi_foreign_cluster_size(n, be32_get(h.block_size), e);
}

const struct qi_format qi_format_vpc = {
	.name = "vpc",
	.probe = vpc_probe,
	.ends = is_footer,
	.open = vpc_open,
};
