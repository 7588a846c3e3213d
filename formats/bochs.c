/* SPDX-License-Identifier: MIT */
/* bochs.c - growing images of Bochs; recognised, and no more */
#include "lib/foreign.h"

#define V1 0x00010000u
#define V2 0x00020000u

struct disk_header {
	char magic[32];
	char type[16];
	char subtype[16];
	le32 version;
	le32 header;
	le32 catalog;
	le32 bitmap;
	le32 extent;
	union {
		struct {
			le32 reserved;
			le64 size;
		} v2;
		struct {
			le64 size;
		} v1;
	} u;
};
_Static_assert(offsetof(struct disk_header, version) == 64, "version");
_Static_assert(offsetof(struct disk_header, u.v1.size) == 84,
	       "size, version 1");
_Static_assert(offsetof(struct disk_header, u.v2.size) == 88,
	       "size, version 2");

static bool is_bochs(const struct disk_header *d)
{
	uint32_t version = le32_get(d->version);

	return !strncmp(d->magic, "Bochs Virtual HD Image", sizeof(d->magic)) &&
	       !strncmp(d->type, "Redolog", sizeof(d->type)) &&
	       !strncmp(d->subtype, "Growing", sizeof(d->subtype)) &&
	       (version == V1 || version == V2);
}

static int bochs_probe(const uint8_t *head, size_t len, const char *name)
{
	struct disk_header d;

	(void)name;
	if (len < 512)
		return 0;
	memcpy(&d, head, sizeof(d));
	return is_bochs(&d) ? 100 : 0;
}

static int bochs_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);

	if (len < 0)
		return (int)len;
	if (!is_bochs(&d))
		return qi_foreign_is_other(n, "Image not in Bochs format", e);
	return qi_foreign_size(n,
			       (le32_get(d.version) == V1 ?
					le64_get(d.u.v1.size) :
					le64_get(d.u.v2.size)) /
				       512,
			       512, e);
}

const struct qi_format qi_format_bochs = {
	.name = "bochs",
	.probe = bochs_probe,
	.open = bochs_open,
};
