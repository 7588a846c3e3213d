/* SPDX-License-Identifier: MIT */
/* cloop.c - compressed loop images; recognised, and no more */
#include <errno.h>

#include "lib/foreign.h"

/* Such an image starts as a script that mounts itself. */
static const char magic[] = "#!/bin/sh\n"
			    "#V2.0 Format\n"
			    "modprobe cloop file=$0 && mount -r -t iso9660 "
			    "/dev/cloop $1\n";

struct disk_header {
	char script[128];
	be32 block_size;
	be32 blocks;
};
_Static_assert(sizeof(struct disk_header) == 136, "header");

/* A start of it is enough, if there is no more; and any guess is better. */
static int cloop_probe(const uint8_t *head, size_t len, const char *name)
{
	(void)name;
	return len && !memcmp(head, magic, qi_min(len, sizeof(magic) - 1)) ? 2 :
									     0;
}

static int cloop_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);

	if (len < 0)
		return (int)len;
	if (!be32_get(d.block_size))
		return qi_foreign_is_other(n, "block_size cannot be zero", e);
	if (be32_get(d.block_size) % 512)
		return qi_stock(e,
				qi_foreign_damaged(n, e,
						   "its blocks have %u bytes",
						   be32_get(d.block_size)),
				"block_size %u must be a multiple of 512",
				be32_get(d.block_size));
	return qi_foreign_size(n, be32_get(d.blocks), be32_get(d.block_size),
			       e);
}

const struct qi_format qi_format_cloop = {
	.name = "cloop",
	.probe = cloop_probe,
	.open = cloop_open,
};
