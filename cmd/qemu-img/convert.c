// SPDX-License-Identifier: MIT
/*
 * convert.c - qemu-img convert
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

#define MAX_COROUTINES 16
#define MAX_HOLE (16u << 20)

static struct {
	const char *format, *target_format, *backing, *backing_format,
		*snapshot, *hole, *cache, *source_cache, *coroutines, *rate;
	struct qi_list options;
	bool image_opts, target_image_opts, share, offload, compress, progress,
		quiet, no_create, out_of_order, salvage, target_is_zero,
		bitmaps, skip_broken_bitmaps;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ "target-image-opts", 0, QI_STOCK_FLAG, &opt.target_image_opts },
	{ "salvage", 0, QI_STOCK_FLAG, &opt.salvage },
	{ "target-is-zero", 0, QI_STOCK_FLAG, &opt.target_is_zero },
	{ "bitmaps", 0, QI_STOCK_FLAG, &opt.bitmaps },
	{ "skip-broken-bitmaps", 0, QI_STOCK_FLAG, &opt.skip_broken_bitmaps },
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 'O', QI_STOCK_TEXT, &opt.target_format },
	{ NULL, 'B', QI_STOCK_TEXT, &opt.backing },
	{ NULL, 'F', QI_STOCK_TEXT, &opt.backing_format },
	{ NULL, 'C', QI_STOCK_FLAG, &opt.offload },
	{ NULL, 'c', QI_STOCK_FLAG, &opt.compress },
	{ NULL, 'o', QI_STOCK_LIST, &opt.options },
	{ NULL, 'l', QI_STOCK_TEXT, &opt.snapshot },
	{ NULL, 'S', QI_STOCK_TEXT, &opt.hole },
	{ NULL, 'p', QI_STOCK_FLAG, &opt.progress },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	{ NULL, 'n', QI_STOCK_FLAG, &opt.no_create },
	{ NULL, 't', QI_STOCK_TEXT, &opt.cache },
	{ NULL, 'T', QI_STOCK_TEXT, &opt.source_cache },
	{ NULL, 'm', QI_STOCK_TEXT, &opt.coroutines },
	{ NULL, 'W', QI_STOCK_FLAG, &opt.out_of_order },
	{ NULL, 'r', QI_STOCK_TEXT, &opt.rate },
	QI_STOCK_END,
};

/* What was asked for, in the forms that lib has. */
struct task {
	struct qi_convert how;
	struct qi_snapshot_choice snapshot;
	enum qi_cache source_cache;
	char *options; /* malloc'd */
	char **sources;
	int source_count;
	const char *target;
	const char *path; /* of a new one */
};

/* --------------------------------------------------------------- values */

static bool take_hole(struct qi_convert *how)
{
	static const char what[] = "buffer size for sparse output";

	if (!opt.hole)
		return true;
	if (!qi_stock_size(what, opt.hole, 0, INT64_MAX, &how->hole))
		return false;
	if (how->hole % 512 || how->hole > MAX_HOLE) {
		qi_stock_say("Invalid %s specified. Valid sizes are multiples "
			     "of 512 up to %u. Select 0 to disable sparse "
			     "detection (fully allocates output).",
			     what, MAX_HOLE);
		return false;
	}
	how->no_holes = !how->hole;
	return true;
}

/* Coroutines wait for one another; threads are as many as there is work for */
static bool check_coroutines(void)
{
	unsigned long n;
	char *end;

	if (!opt.coroutines)
		return true;
	errno = 0;
	n = strtoul(opt.coroutines, &end, 0);
	if (!errno && end != opt.coroutines && !*end && n > 0 &&
	    n <= MAX_COROUTINES)
		return true;
	qi_stock_say("Invalid number of coroutines. Allowed number of "
		     "coroutines is between 1 and %d",
		     MAX_COROUTINES);
	return false;
}

/* What does not go together; true: nothing. */
static bool check(void)
{
	if (opt.skip_broken_bitmaps && !opt.bitmaps)
		qi_stock_say("Use of --skip-broken-bitmaps requires --bitmaps");
	else if (opt.compress && opt.offload)
		qi_stock_say("Cannot enable copy offloading when -c is used");
	else if (opt.hole && opt.offload)
		qi_stock_say("Cannot enable copy offloading when -S is used");
	else if (opt.salvage && opt.offload)
		qi_stock_say("Cannot use copy offloading in salvaging mode");
	else if (opt.target_image_opts && !opt.no_create)
		qi_stock_say("--target-image-opts requires use of -n flag");
	else if (opt.no_create && opt.options.count)
		qi_stock_say("-o has no effect when skipping image creation");
	else if (opt.target_is_zero && !opt.no_create)
		qi_stock_say("--target-is-zero requires use of -n flag");
	else
		return true;
	return false;
}

/* False after a message. */
static bool take(struct task *t)
{
	struct qi_convert *how = &t->how;

	if (opt.snapshot && !qi_stock_snapshot(opt.snapshot, &t->snapshot))
		return false;
	if (!qi_stock_join(&opt.options, &t->options) || !take_hole(how) ||
	    !check_coroutines() ||
	    (opt.rate &&
	     !qi_stock_size("rate limit", opt.rate, 0, INT64_MAX, &how->rate)))
		return false;
	if (!opt.target_format && !opt.target_image_opts)
		opt.target_format = "raw";
	how->target = (struct qi_create){ .format = opt.target_format,
					  .size = QI_NO_OFFSET,
					  .cache = QI_CACHE_UNSAFE,
					  .in_place = true,
					  .ignores_size_option = true };
	how->compress = opt.compress;
	how->offloads = opt.offload;
	how->bitmaps = opt.bitmaps;
	how->skips_bitmaps = opt.skip_broken_bitmaps;
	how->salvages = opt.salvage;
	how->reads_as_zero = opt.target_is_zero;
	return check();
}

/* -------------------------------------------------------------- sources */

static int open_source(struct qi_graph *g, const struct task *t, int i,
		       struct qi_node **out)
{
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.share,
			       .cache = t->source_cache };

	return qi_stock_open_snapshot(g, t->sources[i], opt.image_opts, &how,
				      &t->snapshot, out);
}

/* Several are one disk, one after the other. */
static int open_sources(struct qi_graph *g, const struct task *t,
			struct qi_node **out)
{
	bool has_snapshot = t->snapshot.id || t->snapshot.name ||
			    t->snapshot.name_or_id;
	size_t count = (size_t)t->source_count;
	struct qi_slice *parts = qi_xrealloc(NULL, count * sizeof(*parts));
	struct qi_error e = { "", "" };
	int ret = 0;

	*out = NULL;
	for (int i = 0; i < t->source_count && !ret; i++) {
		ret = open_source(g, t, i, &parts[i].node);
		if (ret)
			break;
		parts[i].off = 0;
		parts[i].len = qi_node_facts(parts[i].node)->size;
	}
	if (!ret && has_snapshot && count > 1) {
		qi_stock_say("No support for concatenating multiple snapshot");
		ret = -EINVAL;
	} else if (!ret && count > 1) {
		ret = qi_join_node(g, parts, count, out, &e);
		if (ret < 0)
			qi_stock_fail(ret, &e);
	} else if (!ret) {
		*out = parts[0].node;
	}
	free(parts);
	return ret;
}

/* --------------------------------------------------------------- target */

/* What -o, -B and -F say of the image to be made; false after a message. */
static bool take_target(struct task *t)
{
	struct qi_create *c = &t->how.target;

	if (!qi_stock_can_make(c->format, ""))
		return false;
	t->path = qi_stock_target(t->target, "");
	if (!t->path || !qi_stock_take_options(NULL, t->options, c))
		return false;
	/* That of the source counts. */
	c->size = QI_NO_OFFSET;
	if (opt.backing)
		c->backing_name = opt.backing;
	if (opt.backing_format)
		c->backing_format = opt.backing_format;
	if (opt.backing && !strcmp(c->format, "raw"))
		qi_stock_say("Backing file not supported for file format '%s'",
			     c->format);
	else if (opt.backing_format && !strcmp(c->format, "raw"))
		qi_stock_say("Backing file format not supported for file "
			     "format '%s'",
			     c->format);
	else if (c->backing_name && t->source_count > 1)
		qi_stock_say("Having a backing file for the target makes no "
			     "sense when concatenating multiple input images");
	else if (c->backing_name && !c->backing_format)
		qi_stock_say("Use of backing file requires explicit backing "
			     "format");
	else
		return true;
	return false;
}

/* What the target cannot hold; true: nothing. */
static bool check_target(const struct task *t, struct qi_node *source)
{
	const char *format = t->how.target.format;
	struct qi_bitmap_facts *all = NULL;
	struct qi_error e;
	size_t count;
	bool good = false;

	if (opt.bitmaps && t->source_count > 1) {
		qi_stock_say("Copying bitmaps only possible with single "
			     "source");
		return false;
	}
	if (!format)
		return true; /* it is opened first */
	if (opt.compress && strcmp(format, "raw") == 0)
		qi_stock_say("Compression not supported for this file format");
	else if (opt.bitmaps && qi_node_bitmaps(source, &all, &count, &e) < 0)
		qi_stock_say("Source lacks bitmap support");
	else if (opt.bitmaps &&
		 strcmp(qi_node_facts(source)->format, "qcow2") != 0)
		qi_stock_say("Source lacks bitmap support");
	else if (opt.bitmaps && strcmp(format, "qcow2") != 0)
		qi_stock_say("Format driver '%s' does not support bitmaps",
			     format);
	else
		good = true;
	free(all);
	return good;
}

static void on_skipped(void *arg, const struct qi_skipped *s)
{
	if (s->bitmap)
		qi_stock_warn("Skipping inconsistent bitmap '%s'", s->bitmap);
	else
		qi_stock_warn("error while reading offset %" PRIu64 ": %s",
			      s->off, strerror(s->error));
}

static int convert_new(struct task *t, struct qi_node *source)
{
	QI_AUTO_TEXT char *unmade = qi_xprintf("%s: error while converting %s",
					       t->target, t->how.target.format);
	struct qi_copy_stats stats;
	struct qi_error e = { "", "" };
	int ret;

	t->how.unmade = unmade;
	ret = qi_convert_image(source, t->path, &t->how, &stats, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	return ret;
}

static int convert_into(struct task *t, struct qi_node *source)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.target_format,
			       .access = QI_ACCESS_WRITE,
			       .cache = t->how.target.cache };
	struct qi_copy_stats stats;
	struct qi_error e = { "", "" };
	struct qi_node *target;
	int ret;

	if (opt.target_is_zero && opt.backing) {
		/* QEMU's exit code is 0, though nothing was done. */
		qi_stock_say("Cannot use --target-is-zero when the "
			     "destination image has a backing file");
		return 0;
	}
	ret = qi_stock_open(g, t->target, opt.target_image_opts, &how, &target);
	if (ret < 0)
		return ret;
	ret = qi_convert_into(source, target, &t->how, &stats, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	return ret;
}

static int convert(struct task *t)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_node *source;
	int ret = open_sources(g, t, &source);

	if (ret < 0)
		return ret;
	if (!opt.no_create && !take_target(t))
		return -EINVAL;
	if (!check_target(t, source) ||
	    !qi_stock_cache(opt.cache, false, &t->how.target.cache))
		return -EINVAL;
	if (t->how.target.backing_name)
		t->how.base = qi_node_facts(source)->backing;
	t->how.skipped = on_skipped;
	return opt.no_create ? convert_into(t, source) : convert_new(t, source);
}

static int run(int argc, char **argv)
{
	struct task t = { .sources = argv,
			  .source_count = argc - 1,
			  .target = argc > 1 ? argv[argc - 1] : NULL };
	int ret = -EINVAL;

	if (!take(&t)) {
		free(t.options);
		return QI_EXIT_FAILED;
	}
	if (qi_stock_wants_help(t.options)) {
		ret = qi_stock_options_help(opt.target_format, t.target);
		free(t.options);
		return ret;
	}
	if (t.source_count < 1) {
		qi_stock_say("Must specify image file name");
	} else if (qi_stock_cache(opt.source_cache, true, &t.source_cache)) {
		t.how.progress = qi_stock_progress(opt.progress && !opt.quiet);
		ret = convert(&t);
		if (ret >= 0)
			qi_stock_progress_full();
		qi_stock_progress_end();
	}
	free(t.options);
	return ret < 0 ? QI_EXIT_FAILED : QI_EXIT_OK;
}

const struct qi_stock_command qi_stock_command_convert = {
	.name = "convert",
	.synopsis =
		"[--object objectdef] [--image-opts] [--target-image-opts] "
		"[--target-is-zero] [--bitmaps [--skip-broken-bitmaps]] [-U] "
		"[-C] [-c] [-p] [-q] [-n] [-f fmt] [-t cache] [-T src_cache] "
		"[-O output_fmt] [-B backing_file [-F backing_fmt]] "
		"[-o options] [-l snapshot_param] [-S sparse_size] "
		"[-r rate_limit] [-m num_coroutines] [-W] [--salvage] "
		"filename [filename2 [...]] output_filename",
	.options = options,
	.run = run,
};
