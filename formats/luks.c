/* SPDX-License-Identifier: MIT */
/* luks.c - LUKS version 1, an encrypted raw disk; recognised, and no more */
#include "lib/foreign.h"

struct disk_header {
	char magic[6];
	be16 version;
	char cipher[32];
	char mode[32];
	char hash[32];
	be32 payload_sector;
};
_Static_assert(offsetof(struct disk_header, payload_sector) == 104, "payload");

static bool is_luks(const struct disk_header *d)
{
	return !memcmp(d->magic, "LUKS\xba\xbe", sizeof(d->magic)) &&
	       be16_get(d->version) == 1;
}

static int luks_probe(const uint8_t *head, size_t len, const char *name)
{
	struct disk_header d;

	(void)name;
	if (len < sizeof(d))
		return 0;
	memcpy(&d, head, sizeof(d));
	return is_luks(&d) ? 100 : 0;
}

static int luks_open(struct qi_node *n, struct qi_error *e)
{
	uint64_t sectors = n->file->size / 512, start;
	struct disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);

	if (len < 0)
		return (int)len;
	if (!is_luks(&d))
		return qi_foreign_is_other(n, "Volume is not in LUKS format",
					   e);
	start = be32_get(d.payload_sector);
	if (start > sectors)
		return qi_foreign_damaged(n, e,
					  "its data starts after its end");
	n->facts.is_encrypted = true;
	return qi_foreign_size(n, sectors - start, 512, e);
}

const struct qi_format qi_format_luks = {
	.name = "luks",
	.probe = luks_probe,
	.open = luks_open,
};
