/* SPDX-License-Identifier: MIT */
/* qed.c - QEMU's enhanced disk format; recognised, and no more */
#include <errno.h>

#include "lib/foreign.h"

#define HAS_BACKING 1u /* features */
#define NEEDS_CHECK 2u
#define RAW_BACKING 4u
#define MAX_BACKING_NAME 1024

struct disk_header {
	char magic[4];
	le32 cluster_size;
	le32 table_size; /* clusters */
	le32 header_size;
	le64 features;
	le64 compatible;
	le64 autoclear;
	le64 l1_offset;
	le64 size;
	le32 backing_offset;
	le32 backing_size;
};
_Static_assert(sizeof(struct disk_header) == 64, "header");

static bool is_qed(const struct disk_header *d)
{
	return !memcmp(d->magic, "QED\0", sizeof(d->magic));
}

static int qed_probe(const uint8_t *head, size_t len, const char *name)
{
	struct disk_header d;

	(void)name;
	if (len < sizeof(d))
		return 0;
	memcpy(&d, head, sizeof(d));
	return is_qed(&d) ? 100 : 0;
}

static int qed_open(struct qi_node *n, struct qi_error *e)
{
	struct disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);
	uint64_t features;
	int ret;

	if (len < 0)
		return (int)len;
	if (!is_qed(&d))
		return qi_foreign_is_other(n, "Image not in QED format", e);
	features = le64_get(d.features);
	n->facts.is_dirty = features & NEEDS_CHECK;
	ret = qi_foreign_cluster_size(n, le32_get(d.cluster_size), e);
	if (!ret)
		ret = qi_foreign_size(n, le64_get(d.size) / 512, 512, e);
	if (ret || !(features & HAS_BACKING))
		return ret;
	ret = qi_foreign_backing(n, le32_get(d.backing_offset),
				 le32_get(d.backing_size), e);
	if (!ret && features & RAW_BACKING) {
		n->backing_format = strdup("raw");
		if (!n->backing_format)
			return qi_no_memory(e);
	}
	return ret;
}

static int qed_peek_backing(struct qi_file *f, const uint8_t *head, size_t len,
			    char **out, struct qi_error *e)
{
	char name[MAX_BACKING_NAME];
	struct disk_header d;
	uint32_t n;

	if (len < sizeof(d))
		return 0;
	memcpy(&d, head, sizeof(d));
	n = le32_get(d.backing_size);
	if (!is_qed(&d) || !(le64_get(d.features) & HAS_BACKING) || !n ||
	    n >= sizeof(name) ||
	    qi_file_read(f, le32_get(d.backing_offset), n, name, NULL))
		return 0;
	*out = strndup(name, n);
	return *out ? 1 : qi_no_memory(e);
}

const struct qi_format qi_format_qed = {
	.name = "qed",
	.probe = qed_probe,
	.open = qed_open,
	.peek_backing = qed_peek_backing,
};
