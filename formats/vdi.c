/* SPDX-License-Identifier: MIT */
/* vdi.c - images of VirtualBox; recognised, and no more */
#include "lib/foreign.h"

#define SIGNATURE 0xbeda107fu

struct disk_header {
	char text[64];
	le32 signature;
	le32 version;
	le32 header_size;
	le32 image_type;
	le32 image_flags;
	char description[256];
	le32 bmap_offset;
	le32 data_offset;
	le32 cylinders, heads, sectors;
	le32 sector_size;
	le32 unused;
	le64 size;
	le32 block_size;
	uint8_t rest[132];
};
_Static_assert(offsetof(struct disk_header, size) == 368, "size");
_Static_assert(sizeof(struct disk_header) == 512, "header");

static bool is_vdi(const struct disk_header *d)
{
	return le32_get(d->signature) == SIGNATURE;
}

static int vdi_probe(const uint8_t *head, size_t len, const char *name)
{
	struct disk_header d;

	(void)name;
	if (len < sizeof(d))
		return 0;
	memcpy(&d, head, sizeof(d));
	return is_vdi(&d) ? 100 : 0;
}

static int vdi_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);
	uint64_t size;
	int ret;

	if (len < 0)
		return (int)len;
	if (!is_vdi(&d)) {
		ret = qi_foreign_is_other(n, "", e);
		return qi_stock(e, ret,
				"Image not in VDI format (bad signature %08x)",
				le32_get(d.signature));
	}
	size = le64_get(d.size);
	ret = qi_foreign_cluster_size(n, le32_get(d.block_size), e);
	return ret ? ret : qi_foreign_size(n, qi_div_up(size, 512), 512, e);
}

const struct qi_format qi_format_vdi = {
	.name = "vdi",
	.probe = vdi_probe,
	.open = vdi_open,
};
