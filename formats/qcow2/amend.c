/* SPDX-License-Identifier: MIT */
/*
 * amend.c - other options for an image that exists
 *
 * All that can be refused is refused before the first write. Then, as in
 * QEMU: what needs version 3, by one header write; the size; version 2 last.
 */
#include <errno.h>

#include "formats/qcow2/qcow2.h"
#include "lib/graph.h"

/* What is wanted; what is not asked for is as it is. */
struct wish {
	unsigned version;
	unsigned refcount_order;
	bool lazy, raw;
	const char *data_file; /* NULL: the same */
	uint64_t size;
};

/* ---------------------------------------------------------------- parsing */

static int parse_version(const struct qi_options *o, struct wish *w,
			 struct qi_error *e)
{
	const char *text = qi_options_get(o, "compat");

	if (!text)
		return 0;
	if (!strcmp(text, "0.10") || !strcmp(text, "v2"))
		w->version = 2;
	else if (!strcmp(text, "1.1") || !strcmp(text, "v3"))
		w->version = 3;
	else
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"unknown compatibility level '%s': it "
					"is 0.10 or 1.1",
					text),
				"Unknown compatibility level %s", text);
	return 0;
}

static int stock_width(struct qi_error *e, int ret)
{
	return qi_stock(e, ret,
			"Refcount width must be a power of two and may not "
			"exceed 64 bits");
}

static int parse_width(const struct qi_options *o, struct wish *w,
		       struct qi_error *e)
{
	uint64_t bits;
	int ret = qi_options_get_size(o, "refcount_bits",
				      1ull << w->refcount_order, &bits, e);

	if (ret)
		return stock_width(e, ret);
	if (!bits || bits > 64 || bits & (bits - 1))
		return stock_width(e,
				   qi_fail(e, EINVAL,
					   "refcount_bits must be a power of "
					   "two up to 64"));
	w->refcount_order = (unsigned)__builtin_ctzll(bits);
	return 0;
}

static int parse_size(const struct qcow2 *q, const struct qi_options *o,
		      struct wish *w, struct qi_error *e)
{
	int ret = qi_options_get_size(o, "size", q->h.size, &w->size, e);

	return ret ? qi_stock(e, ret, "Image size cannot be negative") : 0;
}

static int parse(const struct qcow2 *q, const struct qi_options *o,
		 struct wish *w, struct qi_error *e)
{
	int ret;

	*w = (struct wish){
		.version = q->h.version,
		.refcount_order = q->h.refcount_order,
		.lazy = q->h.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS,
		.raw = q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA,
		.data_file = qi_options_get(o, "data_file"),
	};
	ret = parse_version(o, w, e);
	if (!ret)
		ret = parse_width(o, w, e);
	if (!ret)
		ret = qi_options_get_bool(o, "lazy_refcounts", w->lazy,
					  &w->lazy, e);
	if (!ret)
		ret = qi_options_get_bool(o, "data_file_raw", w->raw, &w->raw,
					  e);
	if (!ret)
		ret = parse_size(q, o, w, e);
	/* As in QEMU: no size is no wish. */
	if (!w->size)
		w->size = q->h.size;
	return ret;
}

/* ---------------------------------------------------------------- checking */

/* Another backing file means other content: that is a rebase. */
static int check_backing(const struct qcow2 *q, const struct qi_options *o,
			 struct qi_error *e)
{
	const struct qi_node *n = q->node;
	const char *name = qi_options_get(o, "backing_file");
	const char *format = qi_options_get(o, "backing_fmt");
	const char *is = n->backing_name ? n->backing_name : "";
	const char *is_format = n->backing_format ? n->backing_format : "";

	/* QEMU wants none of them, or both. */
	if ((!name || !strcmp(name, is)) &&
	    (!format || !strcmp(format, is_format)) &&
	    (!name == !format || !qi_graph_is_stock(n->graph)))
		return 0;
	return qi_stock(e,
			qi_fail(e, EINVAL,
				"cannot amend the backing file of '%s'; use "
				"'qemu-img rebase'",
				n->path),
			"Cannot amend the backing file\n"
			"You can use 'qemu-img rebase' instead.");
}

static int check_data_file(const struct qcow2 *q, const struct wish *w,
			   struct qi_error *e)
{
	QI_AUTOFREE char *dir = qi_path_folder(q->file->path);
	QI_AUTOFREE char *path = NULL;
	QI_AUTOCLOSE struct qi_file *f = NULL;
	int ret;

	if (w->raw && !(q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA))
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"data_file_raw can only be given when "
					"an image is made"),
				"data-file-raw cannot be set on existing "
				"images");
	if (!w->data_file)
		return 0;
	if (!qcow2_has_data_file(q))
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"data_file can only be given for an "
					"image whose data is in another file, "
					"and '%s' is not one",
					q->file->name),
				"data-file can only be set for images that use "
				"an external data file");
	/* QEMU does not look at it. */
	if (qi_graph_is_stock(q->node->graph))
		return 0;
	if (!*w->data_file)
		return qi_fail(e, EINVAL,
			       "data_file needs a name: the data of '%s' is in "
			       "that file",
			       q->file->name);
	if (w->size != q->h.size)
		return qi_fail(e, EINVAL,
			       "data_file and size cannot be changed at once: "
			       "which file would get another length?");
	path = dir ? qi_path_join(dir, w->data_file) : NULL;
	ret = path ? qi_file_open(&f, path, true, e) : qi_no_memory(e);
	if (!ret && f->dev == q->file->dev && f->ino == q->file->ino)
		ret = qi_fail(e, EINVAL, "'%s' cannot be its own data file",
			      q->file->name);
	return ret;
}

static int refuse_width(const struct qcow2 *q, const struct wish *w,
			struct qi_error *e)
{
	qi_fail(e, EINVAL,
		"refcounts of other than 16 bits need version 3 (compat=1.1); "
		"add refcount_bits=16, or leave the version");
	if (w->refcount_order == q->h.refcount_order)
		return qi_stock(e, -EINVAL,
				"compat=0.10 requires refcount_bits=16");
	return qi_stock(e, -EINVAL,
			"Refcount widths other than 16 bits require "
			"compatibility level 1.1 or above (use compat=1.1 or "
			"greater)");
}

static int check_version(struct qcow2 *q, const struct wish *w,
			 struct qi_error *e)
{
	bool was_lazy = q->h.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;

	if (w->version > 2)
		return 0;
	if (w->refcount_order != 4)
		return refuse_width(q, w, e);
	if (w->lazy && !was_lazy)
		return qi_stock(
			e,
			qi_fail(e, EINVAL,
				"lazy refcounts need version 3 (compat=1.1)"),
			"Lazy refcounts only supported with compatibility "
			"level 1.1 and above (use compat=1.1 or greater)");
	return q->h.version > 2 ? qcow2_downgrade_check(q, w->size, e) : 0;
}

/* By the rules of the version that it will have got by then. */
static int check_size(struct qi_node *n, const struct wish *w,
		      struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	unsigned version = q->h.version;
	int ret;

	if (w->size == q->h.size)
		return 0;
	if (w->version > version)
		q->h.version = w->version;
	ret = qcow2_resize_ops.check(n, w->size, e);
	q->h.version = version;
	return ret;
}

static int check_encryption(const struct qi_node *n, const struct qi_options *o,
			    struct qi_error *e)
{
	for (const struct qi_format_option *k = qcow2_amend_ops.options;
	     k->name; k++) {
		if (strncmp(k->name, "encrypt.", 8) ||
		    !qi_options_get(o, k->name))
			continue;
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"cannot set %s of '%s': keys of "
					"encrypted images cannot be changed",
					k->name, n->path),
				"Can't amend encryption options - encryption "
				"not present");
	}
	return 0;
}

static int check(struct qi_node *n, const struct qi_options *o,
		 struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct wish w;
	int ret = parse(q, o, &w, e);

	if (!ret)
		ret = check_encryption(n, o, e);

	if (!ret)
		ret = check_backing(q, o, e);
	if (!ret)
		ret = check_data_file(q, &w, e);
	if (!ret)
		ret = check_version(q, &w, e);
	if (!ret)
		ret = check_size(n, &w, e);
	if (!ret && w.refcount_order != q->h.refcount_order)
		ret = qcow2_width_check(q, w.refcount_order, e);
	return ret;
}

/* --------------------------------------------------------------- version 3 */

/* In version 3 each entry says how large the disk was. */
static size_t put_entry(uint8_t *to, const uint8_t *from,
			const struct qcow2_snapshot *s)
{
	be64 known[2] = { be64_put(s->facts.vm_state_size),
			  be64_put(s->facts.disk_size) };
	struct qcow2_disk_snapshot d;
	size_t extra, texts;

	memcpy(&d, from, sizeof(d));
	extra = be32_get(d.extra_data_size);
	texts = (size_t)be16_get(d.id_size) + be16_get(d.name_size);
	if (extra >= sizeof(known)) {
		memcpy(to, from, s->len);
		return s->len;
	}
	d.extra_data_size = be32_put(sizeof(known));
	memcpy(to, &d, sizeof(d));
	memcpy(to + sizeof(d), known, sizeof(known));
	memcpy(to + sizeof(d) + sizeof(known), from + sizeof(d) + extra, texts);
	return qi_round_up(sizeof(d) + sizeof(known) + texts, 8);
}

static int store_snapshots(struct qcow2 *q, const struct qcow2_snapshots *all,
			   uint64_t *off, struct qi_error *e)
{
	/* The old table, and room for the new one after it. */
	uint64_t room = all->bytes + all->count * 24 + 8;
	QI_AUTOFREE uint8_t *old = calloc(1, all->bytes + room);
	uint8_t *table = old ? old + all->bytes : NULL;
	size_t pos = 0;
	ssize_t n;

	if (!old)
		return qi_no_memory(e);
	/* The file may end before the padding of the last entry. */
	n = qi_file_read_some(q->file, q->h.snapshots_offset, all->bytes, old,
			      e);
	if (n < 0)
		return (int)n;
	for (size_t i = 0; i < all->count; i++)
		pos += put_entry(table + pos, old + all->entries[i].pos,
				 &all->entries[i]);
	return qcow2_store(q, table, pos, off, e);
}

/* A table that version 3 can use, where there is one; *len of the old one. */
static int upgrade_snapshots(struct qcow2 *q, uint64_t *off, uint64_t *len,
			     struct qi_error *e)
{
	struct qcow2_snapshots all;
	int ret = qcow2_snapshots_read(q, &all, e);

	*len = all.bytes;
	if (!ret && all.count)
		ret = store_snapshots(q, &all, off, e);
	qcow2_snapshots_free(&all);
	return ret;
}

static int set_version_3(struct qcow2_header *h, struct qi_error *e)
{
	h->version = 3;
	h->length = sizeof(struct qcow2_disk_header);
	/* The names would not leave room in tiny clusters. */
	if (h->cluster_bits > 10 &&
	    !qcow2_header_find(h, QCOW2_EXT_FEATURE_NAMES) &&
	    qcow2_header_add_feature_names(h))
		return qi_no_memory(e);
	return 0;
}

static int upgrade(struct qcow2 *q, struct qi_error *e)
{
	uint64_t old = q->h.snapshots_offset, off = old, len;
	int ret = qcow2_refcounts_open(q, e);

	if (!ret)
		ret = upgrade_snapshots(q, &off, &len, e);
	if (!ret)
		ret = qcow2_refcounts_write(q, e);
	if (!ret)
		ret = set_version_3(&q->h, e);
	if (ret)
		return ret;
	q->h.snapshots_offset = off;
	ret = qcow2_header_commit(q, e);
	if (!ret && off != old)
		ret = qcow2_free(q, old, len, e);
	return ret ? ret : qcow2_refcounts_write(q, e);
}

/* ----------------------------------------------------------------- the rest */

static void set_bit(uint64_t *bits, uint64_t bit, bool on)
{
	*bits = on ? *bits | bit : *bits & ~bit;
}

/* The data is looked for under the new name from here on. */
static int change_data_file(struct qcow2 *q, const char *name,
			    struct qi_error *e)
{
	if (qcow2_header_set(&q->h, QCOW2_EXT_DATA_FILE, *name ? name : NULL,
			     strlen(name)))
		return qi_no_memory(e);
	if (q->data)
		qi_file_close(q->data, NULL);
	q->data = NULL;
	q->node->data = q->file;
	return 0;
}

static int change_flags(struct qcow2 *q, const struct wish *w,
			struct qi_error *e)
{
	struct qcow2_header *h = &q->h;
	uint64_t compatible = h->compatible, autoclear = h->autoclear;
	int ret = w->data_file ? change_data_file(q, w->data_file, e) : 0;

	/* Bits of features that we do not know must go before a write. */
	h->autoclear &= QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW_DATA;
	set_bit(&h->autoclear, QCOW2_AUTOCLEAR_RAW_DATA, w->raw);
	set_bit(&h->compatible, QCOW2_COMPAT_LAZY_REFCOUNTS, w->lazy);
	if (ret || (!w->data_file && compatible == h->compatible &&
		    autoclear == h->autoclear))
		return ret;
	return qcow2_header_commit(q, e);
}

static int change_width(struct qcow2 *q, unsigned order,
			const struct qi_progress *progress, struct qi_error *e)
{
	struct qcow2_rebuilt new;
	int ret = qcow2_width_build(q, order, progress, &new, e);

	return ret ? ret : qcow2_width_switch(q, &new, e);
}

static int run(struct qi_node *n, const struct qi_options *o,
	       const struct qi_progress *progress, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct qi_resize resize = { .shrink = true };
	struct wish w;
	int ret = parse(q, o, &w, e);

	resize.size = w.size;
	if (!ret && w.version > q->h.version)
		ret = upgrade(q, e);
	if (!ret && w.refcount_order != q->h.refcount_order)
		ret = change_width(q, w.refcount_order, progress, e);
	if (!ret && q->h.version > 2)
		ret = change_flags(q, &w, e);
	if (!ret && w.size != q->h.size)
		ret = qi_resize_image(n, &resize, NULL, false, e);
	if (!ret && w.version < q->h.version)
		ret = qcow2_downgrade(q, progress, e);
	return ret ? ret : qi_file_sync(q->file, e);
}

#define NO_ENCRYPTION "refused: keys of encrypted images cannot be changed"

static const struct qi_format_option options[] = {
	{ "backing_file", "str", "name of the backing file; it stays" },
	{ "backing_fmt", "str", "format of the backing file; it stays" },
	{ "compat", "str", "version: 0.10 or 1.1" },
	{ "data_file", "str", "another name of the external data file" },
	{ "data_file_raw", "bool", "off: the data file need not stay raw" },
	{ "encrypt.iter-time", "num", NO_ENCRYPTION },
	{ "encrypt.keyslot", "num", NO_ENCRYPTION },
	{ "encrypt.new-secret", "str", NO_ENCRYPTION },
	{ "encrypt.old-secret", "str", NO_ENCRYPTION },
	{ "encrypt.state", "str", NO_ENCRYPTION },
	{ "lazy_refcounts", "bool", "let QEMU postpone updates of refcounts" },
	{ "refcount_bits", "num", "width of refcounts: 1 to 64" },
	{ "size", "size", "virtual disk size" },
	{ NULL, NULL, NULL },
};

const struct qi_amend_ops qcow2_amend_ops = {
	.options = options,
	.check = check,
	.run = run,
};
