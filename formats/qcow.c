/* SPDX-License-Identifier: MIT */
/* qcow.c - version 1 of what became qcow2; recognised, and no more */
#include "lib/foreign.h"

#define MAGIC 0x514649fbu /* "QFI\xfb", as that of qcow2 */

struct disk_header {
	be32 magic;
	be32 version;
	be64 backing_offset;
	be32 backing_size;
	be32 mtime;
	be64 size;
	uint8_t cluster_bits;
	uint8_t l2_bits;
	uint8_t unused[2];
	be32 crypt_method;
	be64 l1_offset;
};
_Static_assert(sizeof(struct disk_header) == 48, "header");

static bool is_qcow(const struct disk_header *d)
{
	return be32_get(d->magic) == MAGIC && be32_get(d->version) == 1;
}

static int qcow_probe(const uint8_t *head, size_t len, const char *name)
{
	struct disk_header d;

	(void)name;
	if (len < sizeof(d))
		return 0;
	memcpy(&d, head, sizeof(d));
	return is_qcow(&d) ? 100 : 0;
}

static int qcow_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);
	int ret;

	if (len < 0)
		return (int)len;
	if (!is_qcow(&d))
		return qi_foreign_is_other(n, "Image not in qcow format", e);
	if (d.cluster_bits < 9 || d.cluster_bits > 16)
		return qi_stock(e,
				qi_foreign_damaged(n, e, "cluster_bits is %u",
						   d.cluster_bits),
				"Cluster size must be between 512 and 64k");
	n->facts.is_encrypted = be32_get(d.crypt_method);
	ret = qi_foreign_cluster_size(n, 1ull << d.cluster_bits, e);
	if (!ret)
		ret = qi_foreign_size(n, be64_get(d.size) / 512, 512, e);
	if (!ret && be64_get(d.backing_offset))
		ret = qi_foreign_backing(n, be64_get(d.backing_offset),
					 be32_get(d.backing_size), e);
	return ret;
}

const struct qi_format qi_format_qcow = {
	.name = "qcow",
	.probe = qcow_probe,
	.open = qcow_open,
};
