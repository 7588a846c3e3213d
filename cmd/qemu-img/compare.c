// SPDX-License-Identifier: MIT
/*
 * compare.c - qemu-img compare
 */
#include <stdio.h>

#include "cmd/common/compared.h"
#include "cmd/common/image.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format[2], *cache;
	bool image_opts, progress, quiet, share, strict;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format[0] },
	{ NULL, 'F', QI_STOCK_TEXT, &opt.format[1] },
	{ NULL, 'T', QI_STOCK_TEXT, &opt.cache },
	{ NULL, 'p', QI_STOCK_FLAG, &opt.progress },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	{ NULL, 's', QI_STOCK_FLAG, &opt.strict },
	QI_STOCK_END,
};

/* The comparison that is shown, and what is said on the way. */
static struct {
	struct qi_progress shown;
	uint64_t common; /* size of the smaller image */
	bool warns, warned;
} watch;

static void warn(void)
{
	if (watch.warns && !watch.warned && !opt.quiet)
		qi_compared_warn();
	watch.warned = true;
	fflush(stdout);
}

/* The common part was equal, or this would not be called. */
static void step(void *arg, uint64_t done, uint64_t total)
{
	if (done > watch.common)
		warn();
	watch.shown.fn(watch.shown.arg, done, total);
}

static int compare(struct qi_node *const node[2])
{
	const struct qi_progress progress = { .fn = step };
	struct qi_comparison result = { .result = QI_COMPARE_EQUAL };
	struct qi_error e = { "", "" };
	uint64_t size[2];
	int ret;

	for (int i = 0; i < 2; i++)
		size[i] = qi_node_facts(node[i])->size;
	watch.common = size[size[0] > size[1]];
	watch.warns = size[0] != size[1] && !opt.strict;
	ret = qi_compare_images(node[0], node[1], opt.strict, &progress,
				&result, &e);
	if (ret < 0) {
		qi_stock_fail(ret, &e);
		return QI_COMPARED_NOT_READ;
	}
	if (result.result == QI_COMPARE_EQUAL || result.off >= watch.common)
		warn();
	if (result.result == QI_COMPARE_EQUAL)
		qi_stock_progress_full();
	if (!opt.quiet)
		qi_compared_text(&result);
	return result.result == QI_COMPARE_EQUAL ? QI_COMPARED_EQUAL :
						   QI_COMPARED_DIFFERENT;
}

static int run(int argc, char **argv)
{
	/* One for each: both may be the same file, in two formats. */
	QI_AUTO_GRAPH struct qi_graph *a = qi_stock_graph();
	QI_AUTO_GRAPH struct qi_graph *b = qi_stock_graph();
	enum qi_cache cache = QI_CACHE_WRITEBACK;
	struct qi_node *node[2];
	int ret = 0;

	if (argc != 2)
		return qi_stock_mistake("Expecting two image file names");
	if (!qi_stock_cache(opt.cache, true, &cache))
		return QI_COMPARED_NOT_OPENED;
	watch.shown = qi_stock_progress(opt.progress && !opt.quiet);
	for (int i = 0; i < 2 && ret >= 0; i++) {
		struct qi_open how = { .format = opt.format[i],
				       .access = QI_ACCESS_READ,
				       .force_share = opt.share,
				       .cache = cache };

		ret = qi_stock_open(i ? b : a, argv[i], opt.image_opts, &how,
				    &node[i]);
	}
	ret = ret < 0 ? QI_COMPARED_NOT_OPENED : compare(node);
	qi_stock_progress_end();
	return ret;
}

const struct qi_stock_command qi_stock_command_compare = {
	.name = "compare",
	.synopsis = "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] "
		    "[-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2",
	.options = options,
	.run = run,
};
