/* SPDX-License-Identifier: MIT */
/* backing.c - another backing file by one header write */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

static int header_set_backing(struct qcow2_header *h, const char *name,
			      const char *format, const struct qi_node *n)
{
	int ret;

	free(h->backing_name);
	h->backing_name = name ? strdup(name) : NULL;
	if (name && !h->backing_name)
		return -ENOMEM;
	ret = qcow2_header_set(h, QCOW2_EXT_BACKING_FORMAT, format,
			       format ? strlen(format) : 0);
	if (!ret && n->record_blob)
		ret = qcow2_header_set(h, QCOW2_EXT_RECORD, n->record_blob,
				       n->record_len);
	/* Bits of features that we do not know must go before a write. */
	h->autoclear &= QCOW2_AUTOCLEAR_KNOWN;
	return ret;
}

static int check_backing(const struct qcow2 *q, const char *name,
			 const char *format, struct qi_error *e)
{
	if (strlen(name) > QCOW2_MAX_BACKING_NAME)
		return qi_fail(e, ENAMETOOLONG,
			       "the name of the backing file of '%s' is longer "
			       "than %u bytes",
			       q->file->name, QCOW2_MAX_BACKING_NAME);
	if (format && strlen(format) > QCOW2_MAX_BACKING_FORMAT)
		return qi_fail(e, EINVAL, "unknown backing format '%s'",
			       format);
	if (q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		return qi_fail(e, EINVAL,
			       "'%s' can have no backing file: all its data is "
			       "in a raw file",
			       q->file->name);
	return 0;
}

/* The facts of the node follow the header. */
static int take_backing(struct qi_node *n, const char *name, const char *format,
			struct qi_error *e)
{
	char *copy = name ? strdup(name) : NULL;
	char *type = format ? strdup(format) : NULL;

	free(n->backing_name);
	free(n->backing_format);
	n->facts.backing_name = n->backing_name = copy;
	n->facts.backing_format = n->backing_format = type;
	return (name && !copy) || (format && !type) ? qi_no_memory(e) : 0;
}

static int make_header(struct qi_node *n, const char *name, const char *format,
		       struct qcow2_header *new, struct qi_error *e)
{
	const struct qcow2 *q = qcow2_of(n);
	int ret = name ? check_backing(q, name, format, e) : 0;

	if (ret)
		return ret;
	if (qcow2_header_copy(new, &q->h) ||
	    header_set_backing(new, name, name ? format : NULL, n)) {
		qcow2_header_free(new);
		return qi_no_memory(e);
	}
	return 0;
}

int qcow2_check_backing(struct qi_node *n, const char *name, const char *format,
			struct qi_error *e)
{
	QI_AUTOFREE uint8_t *bytes = NULL;
	struct qcow2_header new;
	size_t len;
	int ret = make_header(n, name, format, &new, e);

	if (ret)
		return ret;
	ret = qcow2_header_serialise(&new, &bytes, &len, e);
	qcow2_header_free(&new);
	return ret ? qi_context(e, ret, "cannot write '%s'", n->file->name) : 0;
}

int qcow2_set_backing(struct qi_node *n, const char *name, const char *format,
		      struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_header old = q->h, new;
	int ret = make_header(n, name, format, &new, e);

	if (ret)
		return ret;
	q->h = new;
	ret = qcow2_header_commit(q, e);
	if (ret)
		q->h = old;
	qcow2_header_free(ret ? &new : &old);
	return ret ? ret : take_backing(n, name, name ? format : NULL, e);
}

/* The name may be past what was read, but not past the largest cluster. */
int qcow2_peek_backing(struct qi_file *f, const uint8_t *head, size_t len,
		       char **out, struct qi_error *e)
{
	char name[QCOW2_MAX_BACKING_NAME];
	struct qcow2_disk_header d = { 0 };
	uint64_t off;
	uint32_t n;

	if (len < QCOW2_V2_HEADER)
		return 0;
	memcpy(&d, head, QCOW2_V2_HEADER);
	off = be64_get(d.backing_file_offset);
	n = be32_get(d.backing_file_size);
	if (be32_get(d.magic) != QCOW2_MAGIC || !off || !n ||
	    n > sizeof(name) || !qi_fits(off, n, 1u << QCOW2_MAX_CLUSTER_BITS))
		return 0;
	if (qi_fits(off, n, len))
		memcpy(name, head + off, n);
	else if (qi_file_read(f, off, n, name, NULL))
		return 0;
	*out = strndup(name, n);
	return *out ? 1 : qi_no_memory(e);
}
