/* SPDX-License-Identifier: MIT */
/*
 * raw.c - the disk's bytes and nothing else
 *
 * The virtual disk is the file rounded up to sectors; what the file system
 * says is a hole reads as zero and is reported as such.
 */
#include <errno.h>

#include "lib/format.h"
#include "lib/name.h"
#include "lib/preallocate.h"

#define SECTOR 512
/* Runs of zeroes of this size become holes, as in qemu-img. */
#define RAW_UNIT 4096

static int raw_probe(const uint8_t *head, size_t len, const char *name)
{
	(void)name;
	(void)head;
	(void)len;
	return 1;
}

/* Where the disk starts in the file; 0 unless the user named a part of it. */
static uint64_t start_of(const struct qi_node *n)
{
	return n->name->offset.value;
}

static int check_part(const struct qi_node *n, struct qi_error *e)
{
	const unsigned long long off = start_of(n), size = n->file->size,
				 len = n->name->part.value;

	if (off > size)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"'%s' has %llu bytes, so no disk can "
					"start at %llu in it",
					n->path, size, off),
				"Offset (%llu) cannot be greater than size of "
				"the containing file (%llu)",
				off, size);
	if (!n->name->part.json)
		return 0;
	if (len > size - off)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"'%s' has %llu bytes, so no disk of "
					"%llu can start at %llu in it",
					n->path, size, len, off),
				"The sum of offset (%llu) and size (%llu) has "
				"to be smaller or equal to the  actual size of "
				"the containing file (%llu)",
				off, len, size);
	if (len % SECTOR)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"a disk of %llu bytes is not one of "
					"whole sectors",
					len),
				"Specified size is not multiple of %d", SECTOR);
	return 0;
}

static int raw_open(struct qi_node *n, struct qi_error *e)
{
	int ret = check_part(n, e);

	if (ret)
		return ret;
	if (n->name->part.json)
		n->facts.size = n->name->part.value;
	else if (!qi_round_up_checked(n->file->size - start_of(n), SECTOR,
				      &n->facts.size))
		return qi_fail(e, EFBIG, "'%s' is too large", n->file->path);
	return 0;
}

static void raw_close(struct qi_node *n)
{
	(void)n;
}

static int raw_map(struct qi_node *n, uint64_t off, uint64_t len,
		   struct qi_extent *out, unsigned max, struct qi_error *e)
{
	const uint64_t start = start_of(n), size = n->file->size;
	uint64_t pos = off;
	unsigned count = 0;

	(void)e;
	while (pos < off + len && count < max) {
		struct qi_extent *x = &out[count++];
		uint64_t end = off + len;
		bool hole = true;

		if (pos + start < size) {
			uint64_t run = qi_file_run(n->file, pos + start, &hole);

			/* A hole up to the end of the file goes on after it. */
			if (!hole || run < size)
				end = qi_min(run - start, end);
		}
		*x = (struct qi_extent){ .off = pos,
					 .len = end - pos,
					 .host_off = pos + start,
					 .flags = QI_EXT_ALLOCATED };
		x->flags |= hole ? QI_EXT_ZERO : QI_EXT_DATA;
		pos = end;
	}
	return (int)count;
}

/* ---------------------------------------------------------------- write */

struct raw_writer {
	struct qi_writer base;
	bool is_new;
	bool is_part;	/* of a file, which is left as long as it is */
	uint64_t start; /* of the disk in the file */
};

static uint64_t host_of(const struct qi_writer *w, uint64_t off)
{
	return off + qi_container_of(w, const struct raw_writer, base)->start;
}

static int raw_place(struct qi_writer *w, uint64_t off, uint64_t len,
		     uint64_t *host_off, uint64_t *host_len, struct qi_error *e)
{
	(void)e;
	*host_off = host_of(w, off);
	*host_len = len;
	return 0;
}

static int raw_place_inside(struct qi_writer *w, uint64_t off, uint64_t len,
			    uint64_t *host_off, struct qi_error *e)
{
	(void)len;
	(void)e;
	*host_off = host_of(w, off);
	return 0;
}

static int raw_zero(struct qi_writer *w, uint64_t off, uint64_t len,
		    struct qi_error *e)
{
	struct raw_writer *r = qi_container_of(w, struct raw_writer, base);

	if (r->is_new)
		return 0;
	return qi_file_punch(w->file, off + r->start, len, e);
}

static int raw_zero_kept(struct qi_writer *w, uint64_t off, uint64_t len,
			 struct qi_error *e)
{
	return qi_file_zero(w->file, host_of(w, off), len, e);
}

static int raw_finish(struct qi_writer *w, struct qi_error *e)
{
	struct raw_writer *r = qi_container_of(w, struct raw_writer, base);
	int ret = 0;

	/* The last unit was padded; a device is as long as it is. */
	if (!r->is_part && !w->file->is_device && w->file->size > w->size)
		ret = qi_file_resize(w->file, w->size, e);
	return ret ? ret : qi_file_sync(w->file, e);
}

static void raw_free(struct qi_writer *w)
{
	free(qi_container_of(w, struct raw_writer, base));
}

static const struct qi_writer_ops raw_writer_ops = {
	.place = raw_place,
	.place_inside = raw_place_inside,
	.reserve = raw_place,
	.zero = raw_zero,
	.zero_kept = raw_zero_kept,
	.finish = raw_finish,
	.free = raw_free,
};

static int raw_start(struct qi_file *file, uint64_t size, bool is_new,
		     struct qi_writer **out, struct qi_error *e)
{
	struct raw_writer *r = calloc(1, sizeof(*r));

	if (!r)
		return qi_no_memory(e);
	r->base.ops = &raw_writer_ops;
	r->base.file = file;
	r->base.size = size;
	/* A device cannot be written past its end, not even with padding. */
	r->base.unit = r->base.part = is_new ? RAW_UNIT : SECTOR;
	r->base.starts_zero = is_new;
	r->is_new = is_new;
	*out = &r->base;
	return 0;
}

static int take_spec(const struct qi_image_spec *spec,
		     enum qi_preallocation *mode, struct qi_error *e)
{
	const char *text = qi_options_get(spec->options, "preallocation");
	int ret = 0;

	*mode = QI_PREALLOC_OFF;
	if (spec->backing_name)
		return qi_fail(e, ENOTSUP, "format 'raw' has no backing files");
	if (text)
		ret = qi_preallocation_parse(text, mode, e);
	if (ret)
		qi_stock(e, ret, "invalid parameter value: %s", text);
	if (!ret && *mode == QI_PREALLOC_METADATA)
		ret = qi_stock(e,
			       qi_fail(e, EINVAL,
				       "format 'raw' has no metadata; choose "
				       "off, falloc or full"),
			       "Unsupported preallocation mode: metadata");
	return ret ? qi_context(e, ret, "option 'preallocation'") : 0;
}

static int raw_can_build(const struct qi_image_spec *spec, struct qi_error *e)
{
	enum qi_preallocation mode;

	return take_spec(spec, &mode, e);
}

static int check_device(const struct qi_file *file, uint64_t size,
			struct qi_error *e)
{
	if (size <= file->size)
		return 0;
	return qi_stock(e,
			qi_fail(e, ENOSPC,
				"'%s' has %llu bytes, and %llu are needed",
				file->name, (unsigned long long)file->size,
				(unsigned long long)size),
			"Cannot grow device files");
}

static int write_first_block(struct qi_file *file, uint64_t size,
			     struct qi_error *e)
{
	static const uint8_t zeroes[RAW_UNIT];
	size_t len = size < sizeof(zeroes) ? SECTOR : sizeof(zeroes);

	return size ? qi_file_write(file, 0, len, zeroes, e) : 0;
}

/* Holes count, too. */
static int raw_measure(const struct qi_image_spec *spec, struct qi_node *src,
		       struct qi_measurement *out, struct qi_error *e)
{
	(void)e;
	out->required = src ? src->facts.size : qi_round_up(spec->size, SECTOR);
	out->fully_allocated = out->required;
	return 0;
}

static int raw_build(struct qi_file *file, const struct qi_image_spec *spec,
		     struct qi_writer **out, struct qi_error *e)
{
	enum qi_preallocation mode;
	bool is_new = !file->is_device;
	int ret = take_spec(spec, &mode, e);

	if (!ret)
		ret = is_new ? qi_file_resize(file, spec->size, e) :
			       check_device(file, spec->size, e);
	if (!ret)
		ret = raw_start(file, spec->size, is_new, out, e);
	if (ret)
		return ret;
	(*out)->shares = is_new && mode == QI_PREALLOC_OFF;
	ret = qi_preallocate(*out, 0, spec->size, mode, e);
	if (!ret && is_new && spec->has_first_block)
		ret = write_first_block(file, spec->size, e);
	if (ret) {
		raw_free(*out);
		*out = NULL;
	}
	return ret;
}

static int raw_edit(struct qi_node *n, struct qi_writer **out,
		    struct qi_error *e)
{
	int ret = raw_start(n->file, n->facts.size, false, out, e);
	struct raw_writer *r;

	if (ret)
		return ret;
	r = qi_container_of(*out, struct raw_writer, base);
	r->start = start_of(n);
	r->is_part = n->name->offset.json || n->name->part.json;
	return 0;
}

/* --------------------------------------------------------------- resize */

static int raw_check_size(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	if (n->name->part.json)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"'%s' was opened with a size, which it "
					"keeps",
					n->path),
				"Cannot resize fixed-size raw disks");
	if (size > INT64_MAX - start_of(n))
		return qi_fail(e, EFBIG, "'%s' cannot be that large", n->path);
	if (qi_file_is_regular(n->file))
		return 0;
	return qi_fail(e, ENOTSUP,
		       "'%s' is a block device, which has the size that it "
		       "has; resize the device itself",
		       n->path);
}

static int raw_set_size(struct qi_node *n, uint64_t size, struct qi_error *e)
{
	int ret = 0;

	if (n->file->size != size + start_of(n))
		ret = qi_file_resize(n->file, size + start_of(n), e);
	if (!ret)
		ret = qi_file_sync(n->file, e);
	return ret ? ret : raw_open(n, e);
}

static const struct qi_resize_ops raw_resize_ops = {
	.check = raw_check_size,
	.prepare = raw_set_size,
	.set = raw_set_size,
};

static const struct qi_format_option raw_options[] = {
	QI_OPTION_EXTENT_SIZE_HINT,
	QI_OPTION_NOCOW,
	{ "preallocation", "str", "off (the default), falloc, full" },
	{ "size", "size", "virtual disk size" },
	{ NULL, NULL, NULL },
};

const struct qi_format qi_format_raw = {
	.name = "raw",
	.options = raw_options,
	.probe = raw_probe,
	.open = raw_open,
	.close = raw_close,
	.map = raw_map,
	.can_build = raw_can_build,
	.measure = raw_measure,
	.build = raw_build,
	.edit = raw_edit,
	.resize = &raw_resize_ops,
};
