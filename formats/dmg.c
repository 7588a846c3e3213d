/* SPDX-License-Identifier: MIT */
/* dmg.c - disk images of macOS (UDIF); recognised, and no more */
#include "lib/foreign.h"

/* At the end of the file. */
struct disk_trailer {
	char magic[4];
	be32 version;
	be32 length;
	uint8_t unused[480];
	be64 sectors;
	uint8_t unused2[12];
};
_Static_assert(offsetof(struct disk_trailer, sectors) == 492, "sectors");
_Static_assert(sizeof(struct disk_trailer) == 512, "trailer");

/*
 * The start of the file can be anything; its name decides, as in QEMU. What is
 * at the end of a file may come from a guest, but the name does not.
 */
static int dmg_probe(const uint8_t *head, size_t len, const char *name)
{
	size_t n = strlen(name);

	(void)head;
	(void)len;
	return n > 4 && !strcmp(name + n - 4, ".dmg") ? 2 : 0;
}

static bool dmg_ends(const uint8_t *sector)
{
	return !memcmp(sector, "koly", 4);
}

static int dmg_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_trailer d = { 0 };
	int ret = 0;

	if (n->file->size >= sizeof(d))
		ret = qi_file_read(n->file, n->file->size - sizeof(d),
				   sizeof(d), &d, e);
	if (ret)
		return ret;
	if (memcmp(d.magic, "koly", sizeof(d.magic)))
		return qi_foreign_is_other(
			n, "Could not locate UDIF trailer in dmg file", e);
	return qi_foreign_size(n, be64_get(d.sectors), 512, e);
}

const struct qi_format qi_format_dmg = {
	.name = "dmg",
	.probe = dmg_probe,
	.ends = dmg_ends,
	.open = dmg_open,
};
