/* SPDX-License-Identifier: MIT */
/* parallels.c - expanding images of Parallels; recognised, and no more */
#include "lib/foreign.h"

struct disk_header {
	char magic[16];
	le32 version;
	le32 heads;
	le32 cylinders;
	le32 tracks; /* sectors in a cluster */
	le32 bat_entries;
	le64 sectors;
	le32 in_use;
	le32 data_sector;
	le32 flags;
	le64 ext_sector;
};
_Static_assert(offsetof(struct disk_header, sectors) == 36, "sectors");
_Static_assert(sizeof(struct disk_header) == 64, "header");

static bool has_magic(const struct disk_header *d, const char *magic)
{
	return !memcmp(d->magic, magic, sizeof(d->magic));
}

static bool is_old(const struct disk_header *d)
{
	return has_magic(d, "WithoutFreeSpace");
}

static bool is_parallels(const struct disk_header *d)
{
	return (is_old(d) || has_magic(d, "WithouFreSpacExt")) &&
	       le32_get(d->version) == 2;
}

static int parallels_probe(const uint8_t *head, size_t len, const char *name)
{
	struct disk_header d;

	(void)name;
	if (len < sizeof(d))
		return 0;
	memcpy(&d, head, sizeof(d));
	return is_parallels(&d) ? 100 : 0;
}

static int parallels_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);
	uint64_t sectors;

	if (len < 0)
		return (int)len;
	if (!is_parallels(&d))
		return qi_foreign_is_other(n, "Image not in Parallels format",
					   e);
	sectors = le64_get(d.sectors);
	/* The old format has but 32 bits for it. */
	return qi_foreign_size(n, is_old(&d) ? (uint32_t)sectors : sectors, 512,
			       e);
}

const struct qi_format qi_format_parallels = {
	.name = "parallels",
	.probe = parallels_probe,
	.open = parallels_open,
};
