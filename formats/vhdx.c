/* SPDX-License-Identifier: MIT */
/* vhdx.c - images of Hyper-V; recognised, and no more (MS-VHDX) */
#include "lib/foreign.h"

#define REGIONS_OFFSET 0x30000u /* the second copy is 64 KiB after it */
#define REGIONS_STEP 0x10000u
#define MAX_REGIONS 2047u
#define MAX_ITEMS 2047u

/* As on disk. */
struct guid {
	uint8_t b[16];
};

struct disk_regions {
	char magic[4];
	le32 checksum;
	le32 count;
	le32 reserved;
};
struct disk_region {
	struct guid guid;
	le64 offset;
	le32 length;
	le32 required;
};
_Static_assert(sizeof(struct disk_region) == 32, "region");

struct disk_metadata {
	char magic[8];
	uint8_t reserved[2];
	le16 count;
	uint8_t reserved2[20];
};
struct disk_item {
	struct guid guid;
	le32 offset;
	le32 length;
	le32 flags;
	le32 reserved;
};
_Static_assert(sizeof(struct disk_metadata) == 32, "metadata table");
_Static_assert(sizeof(struct disk_item) == 32, "metadata item");

/* 8B7CA206-4790-4B9A-B8FE-575F050F886E */
static const struct guid metadata_region = {
	{ 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57,
	  0x5f, 0x05, 0x0f, 0x88, 0x6e }
};
/* CAA16737-FA36-4D43-B3B6-33F0AA44E76B: the size of a block */
static const struct guid file_parameters = {
	{ 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33,
	  0xf0, 0xaa, 0x44, 0xe7, 0x6b }
};
/* 2FA54224-CD1B-4876-B211-5DBED83BF4B8 */
static const struct guid disk_size = { { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd,
					 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe,
					 0xd8, 0x3b, 0xf4, 0xb8 } };

static bool is_guid(const struct guid *a, const struct guid *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static int vhdx_probe(const uint8_t *head, size_t len, const char *name)
{
	(void)name;
	return len >= 8 && !memcmp(head, "vhdxfile", 8) ? 100 : 0;
}

/* Where the metadata is, by the table of regions at `at`. */
static int find_metadata(struct qi_node *n, uint64_t at, uint64_t *offset,
			 struct qi_error *e)
{
	struct disk_regions t;
	struct disk_region r;
	int ret = qi_file_read(n->file, at, sizeof(t), &t, e);
	uint32_t count;

	if (ret)
		return ret;
	count = le32_get(t.count);
	if (memcmp(t.magic, "regi", sizeof(t.magic)) || count > MAX_REGIONS)
		return qi_foreign_damaged(n, e, "its region table is none");
	for (uint32_t i = 0; i < count; i++) {
		ret = qi_file_read(n->file, at + sizeof(t) + i * sizeof(r),
				   sizeof(r), &r, e);
		if (ret)
			return ret;
		*offset = le64_get(r.offset);
		if (is_guid(&r.guid, &metadata_region) &&
		    qi_fits(*offset, REGIONS_STEP, n->file->size))
			return 0;
	}
	return qi_foreign_damaged(n, e, "it has no metadata region");
}

/* The first len bytes of one item of the metadata at `at`. */
static int read_item(struct qi_node *n, uint64_t at, const struct guid *which,
		     void *buf, size_t len, struct qi_error *e)
{
	struct disk_metadata t;
	struct disk_item item;
	int ret = qi_file_read(n->file, at, sizeof(t), &t, e);

	if (ret)
		return ret;
	if (memcmp(t.magic, "metadata", sizeof(t.magic)) ||
	    le16_get(t.count) > MAX_ITEMS)
		return qi_foreign_damaged(n, e, "its metadata table is none");
	for (unsigned i = 0; i < le16_get(t.count); i++) {
		ret = qi_file_read(n->file, at + sizeof(t) + i * sizeof(item),
				   sizeof(item), &item, e);
		if (ret)
			return ret;
		if (is_guid(&item.guid, which) && le32_get(item.length) >= len)
			return qi_file_read(n->file, at + le32_get(item.offset),
					    len, buf, e);
	}
	return qi_foreign_damaged(n, e, "its metadata is not complete");
}

static int vhdx_open(struct qi_node *n, struct qi_error *e)
{
	uint8_t head[8];
	uint64_t at = 0;
	le32 block;
	le64 size;
	int ret;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(head), head, e);

	if (len < 0)
		return (int)len;
	if (!vhdx_probe(head, sizeof(head), ""))
		return qi_foreign_is_other(n, "", e);
	ret = find_metadata(n, REGIONS_OFFSET, &at, e);
	if (ret)
		ret = find_metadata(n, REGIONS_OFFSET + REGIONS_STEP, &at, e);
	if (!ret)
		ret = read_item(n, at, &file_parameters, &block, sizeof(block),
				e);
	if (!ret)
		ret = qi_foreign_cluster_size(n, le32_get(block), e);
	if (!ret)
		ret = read_item(n, at, &disk_size, &size, sizeof(size), e);
	return ret ? ret : qi_foreign_size(n, le64_get(size) / 512, 512, e);
}

const struct qi_format qi_format_vhdx = {
	.name = "vhdx",
	.probe = vhdx_probe,
	.open = vhdx_open,
};
