/* SPDX-License-Identifier: MIT */
/* qcow2.c - the qcow2 driver: open, close, details, and its data sheet */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "formats/qcow2/qcow2.h"
#include "lib/name.h"

/* L2 slices that a reader keeps: 16 KiB each, for 512 MiB of guest data. */
#define READ_SLICES 4
#define READ_SLICE 16384u

int qcow2_damaged(const struct qcow2 *q, struct qi_error *e, const char *fmt,
		  ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return qi_fail(e, EUCLEAN, "'%s' is damaged: %s", q->file->path, text);
}

static int qcow2_probe(const uint8_t *head, size_t len, const char *name)
{
	struct qcow2_disk_header d;

	(void)name;
	/* Too short a header is said when it is opened. */
	if (len < 8)
		return 0;
	memcpy(&d, head, 8);
	/* Version 1 has the same magic and is another format. */
	return be32_get(d.magic) == QCOW2_MAGIC && be32_get(d.version) >= 2 ?
		       100 :
		       0;
}

static void qcow2_close(struct qi_node *n)
{
	struct qcow2 *q = qcow2_of(n);

	if (!q)
		return;
	if (q->data)
		qi_file_close(q->data, NULL);
	qcow2_bitmaps_free(q);
	qcow2_refcounts_close(q);
	qcow2_cache_free(q->l2);
	free(q->l1);
	qcow2_header_free(&q->h);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static char *extension_text(const struct qcow2 *q, uint32_t type)
{
	const struct qcow2_extension *x = qcow2_header_find(&q->h, type);

	return x && x->len ? strndup((const char *)x->data, x->len) : NULL;
}

/*
 * QEMU looks for a data file in the folder that it runs in, people in that of
 * the image. Either will do, but not when there is one in each.
 */
static int open_either(struct qcow2 *q, const char *beside, const char *plain,
		       struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *other = NULL;
	int ret = qi_file_open(&q->data, beside, q->file->writable, e);

	if ((ret && ret != -ENOENT) ||
	    qi_file_open(&other, plain, q->file->writable, NULL))
		return ret;
	if (ret) {
		q->data = other;
		other = NULL;
		return 0;
	}
	if (q->data->dev == other->dev && q->data->ino == other->ino)
		return 0;
	qi_file_close(q->data, NULL);
	q->data = NULL;
	return qi_fail(e, EINVAL,
		       "'%s' and '%s' could both be meant; run this in the "
		       "folder of the right one",
		       beside, plain);
}

static int open_named(struct qcow2 *q, const char *text, struct qi_error *e)
{
	QI_AUTOFREE char *beside = NULL;
	struct qi_name name;
	int ret = qi_name_parse(&name, text, e);

	if (ret)
		return ret;
	beside = qi_name_beside(q->file->path, name.path);
	ret = beside ? open_either(q, beside, name.path, e) : qi_no_memory(e);
	qi_name_clear(&name);
	return ret;
}

int qcow2_open_data(struct qcow2 *q, struct qi_error *e)
{
	QI_AUTOFREE char *name = NULL;
	int ret;

	if (!qcow2_has_data_file(q) || q->data)
		return 0;
	name = extension_text(q, QCOW2_EXT_DATA_FILE);
	if (q->node->data_name)
		ret = qi_file_open(&q->data, q->node->data_name,
				   q->file->writable, e);
	else if (name)
		ret = open_named(q, name, e);
	else
		return qi_fail(e, ENOTSUP,
			       "'%s' keeps its data in another file, but does "
			       "not say in which; name it by 'json:{"
			       "\"file.filename\":\"%s\","
			       "\"data-file.filename\":\"DATA\"}'",
			       q->file->path, q->file->path);
	if (ret)
		return qi_stock_context(e,
					qi_context(e, ret, "data file of '%s'",
						   q->file->path),
					"Could not open '%s'", q->file->path);
	q->node->data = q->data;
	return 0;
}

static int qcow2_open_node_data(struct qi_node *n, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	int ret;

	pthread_mutex_lock(&q->lock);
	ret = qcow2_open_data(q, e);
	pthread_mutex_unlock(&q->lock);
	return ret;
}

static int take_facts(struct qi_node *n, struct qcow2 *q, struct qi_error *e)
{
	const struct qcow2_extension *x =
		qcow2_header_find(&q->h, QCOW2_EXT_RECORD);

	n->facts.size = q->h.size;
	n->facts.cluster_size = q->cluster_size;
	n->facts.is_encrypted = q->h.crypt_method != 0;
	n->facts.is_dirty = q->h.incompatible & QCOW2_INCOMPAT_DIRTY;
	if (q->h.backing_name) {
		n->backing_name = strdup(q->h.backing_name);
		if (!n->backing_name)
			return qi_no_memory(e);
		n->backing_format = extension_text(q, QCOW2_EXT_BACKING_FORMAT);
	}
	if (!x)
		return 0;
	n->record_blob = malloc(x->len + 1);
	if (!n->record_blob)
		return qi_no_memory(e);
	memcpy(n->record_blob, x->data, x->len);
	n->record_len = x->len;
	return 0;
}

static int qcow2_open(struct qi_node *n, struct qi_error *e)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int ret;

	if (!q)
		return qi_no_memory(e);
	n->state = q;
	q->node = n;
	q->file = n->file;
	pthread_mutex_init(&q->lock, NULL);
	ret = qcow2_header_read(q, e);
	if (!ret && n->data_name && !qcow2_has_data_file(q))
		ret = qi_fail(e, EINVAL,
			      "'%s' has no external data file, so none can "
			      "be named",
			      n->path);
	if (!ret && qi_is_snapshot(&n->snapshot))
		ret = qcow2_snapshot_show(q, &n->snapshot, e);
	if (!ret)
		ret = qcow2_bitmaps_load(q, e);
	if (!ret)
		ret = take_facts(n, q, e);
	if (!ret &&
	    qcow2_cache_new(&q->l2, n->file,
			    qi_min(READ_SLICE, q->cluster_size), READ_SLICES))
		ret = qi_no_memory(e);
	return ret;
}

/* --------------------------------------------------------------- sparse */

/* How many of the first `count` refcounts of a block are not 0? */
static uint64_t used_in_block(const struct qcow2 *q, const uint8_t *block,
			      uint64_t count)
{
	uint64_t used = 0;

	for (uint64_t i = 0; i < count; i++)
		used += qcow2_refcount_load(block, i, q->h.refcount_order) != 0;
	return used;
}

/* Are at least `limit` clusters of the file in use? False if unreadable. */
static bool uses_clusters(struct qcow2 *q, uint64_t limit)
{
	unsigned bits = q->h.cluster_bits + 3 - q->h.refcount_order;
	uint64_t left = qcow2_clusters(q, q->file->size), used = 0;
	uint64_t bytes = (uint64_t)q->h.reftable_clusters * q->cluster_size;
	QI_AUTOFREE be64 *table = malloc(bytes);
	QI_AUTOFREE uint8_t *block = malloc(q->cluster_size);

	if (!table || !block ||
	    qi_file_read(q->file, q->h.reftable_offset, bytes, table, NULL))
		return false;
	for (uint64_t i = 0; i < bytes / sizeof(be64) && left; i++) {
		uint64_t at = be64_get(table[i]) & ~511ull;
		uint64_t count = qi_min(left, 1ull << bits);

		left -= count;
		if (!at)
			continue;
		if (qi_file_read(q->file, at, q->cluster_size, block, NULL))
			return false;
		used += used_in_block(q, block, count);
		if (used >= limit)
			return true;
	}
	return false;
}

/*
 * As QEMU finds out: the refcounts speak of a tenth, and two clusters, more
 * than the file system holds.
 */
static bool qcow2_is_sparse(struct qi_node *n)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t held = qi_file_disk_size(q->file) >> q->h.cluster_bits;
	uint64_t limit = qi_max(held * 10 / 9, held + 2);

	return limit <= qcow2_clusters(q, q->file->size) &&
	       uses_clusters(q, limit);
}

/* -------------------------------------------------------------- details */

static void say(const struct qcow2_details *d, const struct qi_fact *f)
{
	d->fn(d->arg, f);
}

void qcow2_say_text(const struct qcow2_details *d, const char *key,
		    const char *label, const char *text)
{
	if (text)
		say(d, &(struct qi_fact){ key, label, QI_FACT_STR, text, 0 });
}

void qcow2_say_bool(const struct qcow2_details *d, const char *key,
		    const char *label, bool value)
{
	say(d, &(struct qi_fact){ key, label, QI_FACT_BOOL, NULL, value });
}

void qcow2_say_uint(const struct qcow2_details *d, const char *key,
		    const char *label, uint64_t value)
{
	say(d, &(struct qi_fact){ key, label, QI_FACT_UINT, NULL, value });
}

void qcow2_say_group(const struct qcow2_details *d, enum qi_fact_type type,
		     const char *key, const char *label)
{
	say(d, &(struct qi_fact){ key, label, type, NULL, 0 });
}

static void qcow2_details(struct qi_node *n,
			  void (*fn)(void *arg, const struct qi_fact *f),
			  void *arg)
{
	struct qcow2 *q = qcow2_of(n);
	const struct qcow2_header *h = &q->h;
	const struct qcow2_details d = { fn, arg };
	QI_AUTOFREE char *data = extension_text(q, QCOW2_EXT_DATA_FILE);

	qcow2_say_text(&d, "compat", "compat", h->version > 2 ? "1.1" : "0.10");
	qcow2_say_text(&d, "compression-type", "compression type",
		       h->codec == QI_CODEC_ZSTD ? "zstd" : "zlib");
	if (h->version > 2)
		qcow2_say_bool(&d, "lazy-refcounts", "lazy refcounts",
			       h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS);
	qcow2_say_uint(&d, "refcount-bits", "refcount bits",
		       1u << h->refcount_order);
	qcow2_say_crypto(q, &d);
	if (qcow2_has_data_file(q)) {
		qcow2_say_text(&d, "data-file", "data file", data);
		qcow2_say_bool(&d, "data-file-raw", "data file raw",
			       h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA);
	}
	if (h->version > 2) {
		qcow2_say_bool(&d, "corrupt", "corrupt",
			       h->incompatible & QCOW2_INCOMPAT_CORRUPT);
		qcow2_say_bool(&d, "extended-l2", "extended l2",
			       h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2);
	}
}

const struct qi_format qi_format_qcow2 = {
	.name = "qcow2",
	.options = qcow2_options,
	.probe = qcow2_probe,
	.open = qcow2_open,
	.opens_snapshots = true,
	.close = qcow2_close,
	.peek_backing = qcow2_peek_backing,
	.open_data = qcow2_open_node_data,
	.map = qcow2_map,
	.is_sparse = qcow2_is_sparse,
	.read_packed = qcow2_read_packed,
	.details = qcow2_details,
	.check = qcow2_check,
	.can_build = qcow2_can_build,
	.measure = qcow2_measure,
	.build = qcow2_build,
	.edit = qcow2_edit,
	.resize = &qcow2_resize_ops,
	.make_empty = qcow2_make_empty,
	.set_backing = qcow2_set_backing,
	.check_backing = qcow2_check_backing,
	.amend = &qcow2_amend_ops,
	.can_write = qcow2_can_write,
	.bitmaps = &qcow2_bitmap_ops,
	.snapshots = &qcow2_snapshot_ops,
};
