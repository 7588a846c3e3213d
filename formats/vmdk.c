/* SPDX-License-Identifier: MIT */
/*
 * vmdk.c - images of VMware; recognised, and no more
 *
 * An image is one file with a header ("KDMV", or "COWD" of old ones), or a text
 * that describes a disk in other files. Those are not opened: whoever made the
 * text must not choose what is read here.
 */
#include <stdio.h>

#include "lib/foreign.h"

#define MAX_TEXT 65536 /* of a description; those of QEMU have 10 KiB */
#define GRANULES 512   /* in a table, at most */

/* All in sectors. */
struct disk_sparse {
	char magic[4];
	le32 version;
	le32 flags;
	le64 capacity;
	le64 granularity;
	le64 text_offset;
	le64 text_size;
	le32 table_entries;
	le64 spare_offset;
	le64 directory_offset;
	le64 data_offset;
};
_Static_assert(sizeof(struct disk_sparse) == 72, "sparse header");

struct disk_cow {
	char magic[4];
	le32 version;
	le32 flags;
	le32 capacity;
	le32 granularity;
};
_Static_assert(sizeof(struct disk_cow) == 20, "header of old images");

union disk_header {
	char magic[4];
	struct disk_sparse sparse;
	struct disk_cow cow;
};

static bool is_sparse(const void *head)
{
	return !memcmp(head, "KDMV", 4);
}

static bool is_cow(const void *head)
{
	return !memcmp(head, "COWD", 4);
}

/* "version=1" to 3, and the end of the line. */
static bool is_version(const char *p, size_t left)
{
	static const char word[] = "version=";
	const size_t n = sizeof(word) - 1;

	if (left < n + 2 || memcmp(p, word, n) || p[n] < '1' || p[n] > '3')
		return false;
	return p[n + 1] == '\n' ||
	       (left > n + 2 && p[n + 1] == '\r' && p[n + 2] == '\n');
}

/* Comments, and lines of blanks, and then its version. */
static bool is_text(const char *p, size_t left)
{
	while (left && (*p == '#' || *p == ' ')) {
		const char *end = memchr(p, '\n', left);
		size_t blanks = 0;

		while (blanks < left && p[blanks] == ' ')
			blanks++;
		if (blanks < left && p[blanks] == '\r')
			blanks++;
		if (!end || (*p == ' ' && p + blanks != end))
			return false;
		left -= (size_t)(end + 1 - p);
		p = end + 1;
	}
	return is_version(p, left);
}

static int vmdk_probe(const uint8_t *head, size_t len, const char *name)
{
	(void)name;
	if (len < 4)
		return 0;
	return is_sparse(head) || is_cow(head) ||
			       is_text((const char *)head, len) ?
		       100 :
		       0;
}

/* The backing file as the description has it: parentFileNameHint="NAME". */
static int take_parent(struct qi_node *n, const char *text, struct qi_error *e)
{
	const char *p = strstr(text, "parentFileNameHint=\""), *end;

	if (!p)
		return 0;
	p = strchr(p, '"') + 1;
	end = strchr(p, '"');
	if (!end)
		return qi_foreign_damaged(n, e,
					  "the name of its parent has no end");
	n->backing_name = strndup(p, (size_t)(end - p));
	n->backing_format = strdup("vmdk");
	return n->backing_name && n->backing_format ? 0 : qi_no_memory(e);
}

/* A description, 0 terminated, from off on. */
static int read_text(struct qi_node *n, uint64_t off, uint64_t len, char **text,
		     struct qi_error *e)
{
	ssize_t got;

	len = qi_min(len, MAX_TEXT);
	*text = calloc(1, len + 1);
	if (!*text)
		return qi_no_memory(e);
	got = qi_file_read_some(n->file, off, len, *text, e);
	return got < 0 ? (int)got : 0;
}

/* Its extents: "RW 20480 SPARSE "NAME"" and the like, one after the other. */
static int open_text(struct qi_node *n, struct qi_error *e)
{
	QI_AUTOFREE char *text = NULL;
	unsigned long long sectors;
	uint64_t sum = 0;
	int ret = read_text(n, 0, MAX_TEXT, &text, e);

	if (ret)
		return ret;
	for (const char *p = text; p; p = strchr(p, '\n')) {
		char type[11], name[2];

		p += *p == '\n';
		if (sscanf(p, "RW %18llu %10s \"%1[^\n\r\"]", &sectors, type,
			   name) == 3 &&
		    !qi_add(sum, sectors, &sum))
			return qi_foreign_damaged(n, e, "it is too large");
	}
	if (!strstr(text, "createType=\"") || !sum)
		return qi_stock(
			e, qi_foreign_damaged(n, e, "it describes no disk"),
			"invalid VMDK image descriptor");
	ret = qi_foreign_size(n, sum, 512, e);
	return ret ? ret : take_parent(n, text, e);
}

static int open_sparse(struct qi_node *n, const struct disk_sparse *d,
		       struct qi_error *e)
{
	QI_AUTOFREE char *text = NULL;
	uint64_t off, bytes;
	int ret;

	if (!qi_mul(le64_get(d->granularity), 512, &bytes) ||
	    !qi_mul(le64_get(d->text_offset), 512, &off))
		return qi_foreign_damaged(n, e, "its numbers are too large");
	if (le32_get(d->table_entries) > GRANULES)
		return qi_stock(e,
				qi_foreign_damaged(n, e,
						   "its tables have %u entries",
						   le32_get(d->table_entries)),
				"L2 table size too big");
	ret = qi_foreign_cluster_size(n, bytes, e);
	if (!ret)
		ret = qi_foreign_size(n, le64_get(d->capacity), 512, e);
	if (ret || !off)
		return ret;
	ret = read_text(n, off, qi_min(le64_get(d->text_size), 128) * 512,
			&text, e);
	return ret ? ret : take_parent(n, text, e);
}

static int vmdk_open(struct qi_node *n, struct qi_error *e)
{
	union disk_header d;
	ssize_t len = qi_file_read_some(n->file, 0, sizeof(d), &d, e);
	int ret;

	if (len < 0)
		return (int)len;
	if (is_sparse(d.magic))
		return open_sparse(n, &d.sparse, e);
	if (!is_cow(d.magic))
		return open_text(n, e);
	ret = qi_foreign_cluster_size(n, le32_get(d.cow.granularity) * 512ull,
				      e);
	return ret ? ret : qi_foreign_size(n, le32_get(d.cow.capacity), 512, e);
}

const struct qi_format qi_format_vmdk = {
	.name = "vmdk",
	.probe = vmdk_probe,
	.open = vmdk_open,
};
