/* SPDX-License-Identifier: MIT */
/*
 * convert.c - what one image reads as goes into another, a new or an old one
 *
 * Order of writes into an image that is there: bits in its recording bitmaps;
 * data and mappings, in the order of the format's editor; then bitmaps of the
 * source, by one header write. A new image is not seen before it is complete.
 */
#include <errno.h>

#include "lib/name.h"
#include "lib/drive.h"
#include "lib/image.h"
#include "lib/mark.h"

/* ----------------------------------------------------- what is to be copied */

/*
 * Ranges of the source that the target must get: what the layers above
 * `base` decide, but for zeroes from `zero_from` on, which it has by itself.
 */
struct wanted {
	struct qi_ranges base;
	struct qi_scan *scan;
	unsigned depth; /* of the base */
	uint64_t zero_from;
};

static int wanted_next(struct qi_ranges *r, struct qi_range *out,
		       struct qi_error *e)
{
	struct wanted *w = qi_container_of(r, struct wanted, base);
	struct qi_extent x;
	int ret;

	while ((ret = qi_scan_next(w->scan, &x, e)) > 0) {
		uint64_t end = x.off + x.len;

		if (x.depth >= w->depth)
			continue;
		if (x.flags & QI_EXT_ZERO)
			end = qi_min(end, w->zero_from);
		if (end <= x.off)
			continue;
		*out = (struct qi_range){ x.off, end - x.off };
		return 1;
	}
	return ret;
}

static void wanted_free(struct qi_ranges *r)
{
	struct wanted *w = qi_container_of(r, struct wanted, base);

	qi_scan_free(w->scan);
	free(w);
}

/* In whole units, where they are given. */
static int wanted_new(struct qi_ranges **out, struct qi_node *src,
		      const struct qi_node *base, uint64_t zero_from,
		      uint64_t unit)
{
	struct wanted *w = calloc(1, sizeof(*w));
	int ret = w ? qi_scan_new(&w->scan, src, NULL, 0, src->facts.size) :
		      -ENOMEM;

	if (ret) {
		free(w);
		return ret;
	}
	w->base =
		(struct qi_ranges){ .next = wanted_next, .free = wanted_free };
	qi_scan_see_holes(w->scan);
	w->zero_from = zero_from;
	w->depth = base ? qi_chain_depth(src) - qi_chain_depth(base) :
			  UINT32_MAX;
	return qi_ranges_round(out, &w->base, unit, src->facts.size);
}

/* ------------------------------------------------------------------ copying */

static void tell_salvaged(void *arg, uint64_t off, uint64_t len, int error)
{
	const struct qi_convert *c = arg;
	const struct qi_skipped s = { .off = off, .len = len, .error = error };

	if (c->skipped)
		c->skipped(c->arg, &s);
}

static struct qi_copy copy_of(struct qi_node *src, const struct qi_convert *c,
			      struct qi_writer *w)
{
	return (struct qi_copy){
		.src = src,
		.writer = w,
		.compress = c->compress,
		.threads = c->threads,
		.progress = c->progress,
		.sees_holes = true,
		.no_holes = c->no_holes,
		.no_sharing = c->hole != 0,
		.offloads = c->offloads,
		.hole = c->hole ? c->hole : QI_CONVERT_HOLE,
		.salvaged = c->salvages ? tell_salvaged : NULL,
		.salvage_arg = (void *)c,
		.hashed = c->expected ? qi_expected_check : NULL,
		.arg = c->expected,
	};
}

static int run(const struct qi_copy *base, const struct qi_convert *c,
	       struct qi_copy_stats *stats, struct qi_error *e)
{
	struct qi_rate rate = QI_RATE(c->rate);
	struct qi_copy copy = *base;
	int ret;

	if (c->rate)
		copy.rate = &rate;
	ret = qi_copy_run(&copy, stats, e);
	/* Not all of the disk may have been copied. */
	if (!ret && copy.ranges && c->progress.fn)
		c->progress.fn(c->progress.arg, copy.src->facts.size,
			       copy.src->facts.size);
	return ret;
}

static int check_packing(const struct qi_writer *w, const char *format,
			 struct qi_error *e)
{
	if (w->unpacked_by)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"compression and option '%s' do not go "
					"together",
					w->unpacked_by),
				"Compression and %s not supported at the same "
				"time",
				w->unpacked_by);
	return w->ops->place_packed ?
		       0 :
		       qi_stock(e,
				qi_fail(e, ENOTSUP,
					"format '%s' has no compression",
					format),
				"Compression not supported for this file "
				"format");
}

/* Does n read as the backing file of the new image does? */
static bool is_base(const struct qi_image *img, const struct qi_node *n)
{
	return n->file->ino == img->backing_ino &&
	       n->file->dev == img->backing_dev &&
	       n->format == img->backing_format && img->backing_is_plain &&
	       qi_name_is_plain(n->name) && !qi_is_snapshot(&n->snapshot);
}

static const struct qi_node *find_base(const struct qi_image *img,
				       const struct qi_node *src,
				       const struct qi_convert *c)
{
	if (!c->finds_base)
		return c->base;
	while (src && !is_base(img, src))
		src = src->facts.backing;
	return src;
}

int qi_image_fill(struct qi_image *img, struct qi_node *src,
		  const struct qi_convert *c, struct qi_copy_stats *stats,
		  struct qi_error *e)
{
	struct qi_copy copy = copy_of(src, c, img->writer);
	int ret = 0;

	if (c->compress)
		ret = check_packing(img->writer, c->target.format, e);
	if (ret)
		return ret;
	if (img->backing_size != QI_NO_OFFSET &&
	    wanted_new(&copy.ranges, src, find_base(img, src, c),
		       img->backing_size, img->writer->unit))
		return qi_no_memory(e);
	ret = run(&copy, c, stats, e);
	qi_ranges_free(copy.ranges);
	return ret;
}

/* ------------------------------------------------------------------ bitmaps */

/* Is it copied? -EUCLEAN: it ought to be, and cannot. */
static int takes_bitmap(const struct qi_convert *c, const struct qi_node *src,
			const struct qi_stored_bitmap *b, struct qi_error *e)
{
	const struct qi_skipped s = { .bitmap = b->name };

	if (!b->in_use && !b->problem)
		return 1;
	if (!c->skips_bitmaps)
		return qi_stock(
			e,
			qi_fail(e, EUCLEAN,
				"cannot copy bitmap '%s' of '%s': %s; 'qimg "
				"bitmap remove --node %s %s' removes it, and "
				"--skip-broken-bitmaps leaves it out",
				b->name, src->path,
				b->problem ? b->problem :
					     "a writer did not close it",
				QI_WORD(src->path), QI_WORD(b->name)),
			"Cannot copy inconsistent bitmap '%s'\nTry "
			"--skip-broken-bitmaps, or use 'qemu-img bitmap "
			"--remove' to delete it",
			b->name);
	if (c->skipped)
		c->skipped(c->arg, &s);
	return 0;
}

/* Those of src alone, not of layers below. */
static int list_bitmaps(struct qi_node *src, const struct qi_convert *c,
			struct qi_edits *edits, struct qi_error *e)
{
	const struct qi_bitmap_ops *ops = src->format->bitmaps;
	const struct qi_stored_bitmap *all;
	size_t count;
	int ret = 0;

	if (!ops)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"'%s' is in %s format, which has no "
					"bitmaps",
					src->path, src->format->name),
				"Source lacks bitmap support");
	if (ops->problem(src))
		return qi_fail(e, EUCLEAN,
			       "cannot copy the bitmaps of '%s': %s", src->path,
			       ops->problem(src));
	all = ops->list(src, &count);
	for (size_t i = 0; i < count && ret >= 0; i++) {
		struct qi_bitmap_change *x;

		ret = takes_bitmap(c, src, &all[i], e);
		if (ret <= 0)
			continue;
		x = qi_edits_add(edits);
		if (!x || qi_ranges_bitmap(&x->bits, src, i))
			return qi_no_memory(e);
		x->name = all[i].name;
		x->enabled = all[i].enabled;
		x->granularity_bits = all[i].granularity_bits;
	}
	return ret < 0 ? ret : 0;
}

/* Can the target have them? */
static int check_bitmaps(struct qi_node *n, const struct qi_edits *edits,
			 struct qi_error *e)
{
	const struct qi_bitmap_ops *ops = n->format->bitmaps;
	const struct qi_stored_bitmap *all;
	size_t count;
	int ret = ops ? ops->can_store(n, false, e) :
			qi_fail(e, ENOTSUP,
				"'%s' is in %s format, which has no bitmaps",
				n->path, n->format->name);

	if (ret)
		return qi_stock(e, ret,
				"Format driver '%s' does not support bitmaps",
				n->format->name);
	all = ops->list(n, &count);
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < edits->count; j++)
			if (!strcmp(all[i].name, edits->changes[j].name))
				return qi_stock(
					e,
					qi_fail(e, EEXIST,
						"'%s' has a bitmap '%s' "
						"already",
						n->path, all[i].name),
					"Failed to create bitmap %s: Bitmap "
					"already exists: %s",
					all[i].name, all[i].name);
	return 0;
}

static int check_bitmap_sizes(const struct qi_node *src,
			      const struct qi_node *n,
			      const struct qi_edits *edits, struct qi_error *e)
{
	const char *name;

	if (!edits->count || src->facts.size == n->facts.size)
		return 0;
	name = edits->changes[edits->count - 1].name;
	return qi_stock(e,
			qi_fail(e, EINVAL,
				"cannot copy bitmap '%s': it is of a disk of "
				"%llu bytes, and '%s' has %llu",
				name, (unsigned long long)src->facts.size,
				n->path, (unsigned long long)n->facts.size),
			"Failed to populate bitmap %s: Bitmaps are of "
			"different sizes (destination size is %llu, source "
			"size is %llu) and can't be merged",
			name, (unsigned long long)n->facts.size,
			(unsigned long long)src->facts.size);
}

static int store_bitmaps(struct qi_node *n, const struct qi_edits *edits,
			 struct qi_error *e)
{
	return edits->count ?
		       n->format->bitmaps->update(n, edits->changes,
						  edits->count, NULL, 0, e) :
		       0;
}

/* The hidden name means nothing to the user. */
static int show_name(struct qi_node *n, const char *name, struct qi_error *e)
{
	char *path = strdup(name);

	if (!path)
		return qi_no_memory(e);
	free(n->path);
	n->path = path;
	n->facts.path = path;
	return 0;
}

static int add_bitmaps(struct qi_image *img, const char *path,
		       const struct qi_convert *c, const struct qi_edits *edits,
		       struct qi_error *e)
{
	struct qi_graph *g;
	struct qi_node *n;
	int ret = qi_image_finish(img, e);

	if (!ret)
		ret = qi_image_reopen(img, c->target.format, &g, &n, e);
	if (ret)
		return ret;
	ret = show_name(n, path, e);
	if (!ret)
		ret = check_bitmaps(n, edits, e);
	if (!ret)
		ret = store_bitmaps(n, edits, e);
	qi_graph_free(g);
	return ret;
}

/* --------------------------------------------------------------- operations */

/* Whatever is shared, and has no lock: what is read is not written over. */
static int check_apart(const struct qi_node *src, const char *path,
		       struct qi_error *e)
{
	if (!qi_graph_has_file(src->graph, path))
		return 0;
	return qi_stock(e,
			qi_fail(e, EBUSY,
				"'%s' is read, and cannot be written as well",
				path),
			"Failed to get \"write\" lock\nIs another process "
			"using the image [%s]?",
			path);
}

static int start(struct qi_image *img, struct qi_node *src, const char *path,
		 const struct qi_convert *c, struct qi_error *e)
{
	struct qi_create create = c->target;
	int ret = 0;

	create.size = src->facts.size;
	create.ignores_size_option = true;
	if (create.in_place)
		ret = check_apart(src, path, e);
	if (!ret)
		ret = qi_image_start(img, path, &create, e);
	return ret && c->unmade ? qi_stock_context(e, ret, "%s", c->unmade) :
				  ret;
}

int qi_convert_image(struct qi_node *src, const char *path,
		     const struct qi_convert *c, struct qi_copy_stats *stats,
		     struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	struct qi_edits edits = { 0 };
	int ret = qi_chain_check_readable(src, e);

	if (!ret && c->bitmaps)
		ret = list_bitmaps(src, c, &edits, e);
	if (!ret)
		ret = start(&img, src, path, c, e);
	if (!ret)
		ret = qi_image_fill(&img, src, c, stats, e);
	if (!ret && c->bitmaps)
		ret = add_bitmaps(&img, path, c, &edits, e);
	if (!ret)
		ret = qi_image_publish(&img, e);
	qi_edits_clear(&edits);
	return ret;
}

/* ------------------------------------------------ into what is there already
 */

static int check_into(struct qi_node *src, struct qi_node *n,
		      const struct qi_convert *c, const struct qi_writer *w,
		      struct qi_error *e)
{
	if (qi_node_is_in_chain(n, src))
		return qi_fail(e, EINVAL,
			       "'%s' is read, and cannot be written as well",
			       n->path);
	if (n->graph != src->graph && check_apart(src, n->path, e))
		return qi_stock_context(e, -EBUSY, "Could not open '%s'",
					n->path);
	if (n->facts.size < src->facts.size)
		return qi_stock(
			e,
			qi_fail(e, EINVAL,
				"'%s' has %llu bytes, and '%s' has "
				"%llu; 'qimg resize' makes it larger",
				n->path, (unsigned long long)n->facts.size,
				src->path, (unsigned long long)src->facts.size),
			"output file is smaller than input file");
	return c->compress ? check_packing(w, n->format->name, e) : 0;
}

struct target {
	struct qi_node *src, *n;
	const struct qi_convert *c;
	uint64_t zero_from; /* see struct wanted */
};

static int add_wanted(void *arg, const struct qi_stored_bitmap *b,
		      struct qi_ranges **out)
{
	const struct target *t = arg;
	int ret;

	if (!b->enabled)
		return 0;
	ret = wanted_new(out, t->src, t->c->base, t->zero_from, 512);
	return ret ? ret : 1;
}

static int copy_into(const struct target *t, struct qi_writer *w,
		     struct qi_copy_stats *stats, struct qi_error *e)
{
	struct qi_copy copy = copy_of(t->src, t->c, w);
	struct target marked = *t;
	int ret = qi_node_mark(t->n, add_wanted, &marked, e);

	if (ret)
		return ret;
	copy.rest = t->n;
	copy.skips_zero = t->c->reads_as_zero;
	if (wanted_new(&copy.ranges, t->src, t->c->base, t->zero_from, w->unit))
		return qi_no_memory(e);
	ret = run(&copy, t->c, stats, e);
	qi_ranges_free(copy.ranges);
	return ret ? ret : w->ops->finish(w, e);
}

static int convert_into(const struct target *t, struct qi_copy_stats *stats,
			struct qi_error *e)
{
	struct qi_writer *w;
	int ret = qi_node_check_writable(t->n, e);

	if (!ret)
		ret = qi_node_check_edit(t->n, false, e);
	if (!ret)
		ret = t->n->format->edit(t->n, &w, e);
	if (ret)
		return ret;
	ret = check_into(t->src, t->n, t->c, w, e);
	if (!ret && !t->c->dry_run)
		ret = copy_into(t, w, stats, e);
	w->ops->free(w);
	return ret;
}

/* Where the target reads as zero by itself, when what it rests on is shared. */
static uint64_t zero_from(const struct qi_node *n, const struct qi_convert *c)
{
	if (c->reads_as_zero)
		return 0;
	return c->base && n->facts.backing ? n->facts.backing->facts.size :
					     QI_NO_OFFSET;
}

int qi_convert_into(struct qi_node *src, struct qi_node *target,
		    const struct qi_convert *c, struct qi_copy_stats *stats,
		    struct qi_error *e)
{
	const struct target t = { src, target, c, zero_from(target, c) };
	struct qi_edits edits = { 0 };
	int ret = qi_chain_check_readable(src, e);

	if (!ret && c->bitmaps)
		ret = list_bitmaps(src, c, &edits, e);
	if (!ret && c->bitmaps)
		ret = check_bitmaps(target, &edits, e);
	if (!ret)
		ret = check_bitmap_sizes(src, target, &edits, e);
	if (!ret)
		ret = convert_into(&t, stats, e);
	if (!ret && !c->dry_run)
		ret = store_bitmaps(target, &edits, e);
	qi_edits_clear(&edits);
	return ret;
}
