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
	struct qi_list objects;
	bool image_opts, progress, quiet, share, strict;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT(&opt.objects),
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

static int compare(struct qi_node *const node[2],
		   const struct qi_progress *progress)
{
	struct qi_comparison result = { .result = QI_COMPARE_EQUAL };
	struct qi_error e = { "", "" };
	uint64_t size[2];
	int ret = qi_compare_images(node[0], node[1], opt.strict, progress,
				    &result, &e);

	if (ret < 0) {
		qi_stock_fail(ret, &e);
		return QI_COMPARED_NOT_READ;
	}
	for (int i = 0; i < 2; i++)
		size[i] = qi_node_facts(node[i])->size;
	if (!opt.quiet)
		qi_compared_warn(&result, size[size[0] > size[1]]);
	fflush(stdout);
	if (result.result == QI_COMPARE_EQUAL)
		qi_stock_progress_full();
	if (!opt.quiet)
		qi_compared_text(&result);
	return result.result == QI_COMPARE_EQUAL ? QI_COMPARED_EQUAL :
						   QI_COMPARED_DIFFERENT;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	enum qi_cache cache = QI_CACHE_WRITEBACK;
	struct qi_progress progress;
	struct qi_error e = { "", "" };
	struct qi_node *node[2];
	int ret;

	if (argc != 2)
		return qi_stock_mistake("Expecting two image file names");
	if (!qi_stock_objects(&opt.objects) ||
	    !qi_stock_cache(opt.cache, true, &cache))
		return QI_COMPARED_NOT_OPENED;
	progress = qi_stock_progress(opt.progress && !opt.quiet);
	for (int i = 0; i < 2; i++) {
		struct qi_open how = { .format = opt.format[i],
				       .access = QI_ACCESS_READ,
				       .force_share = opt.share,
				       .cache = cache };

		if (qi_stock_add(g, argv[i], opt.image_opts, &how, &node[i]) <
		    0) {
			qi_stock_progress_end();
			return QI_COMPARED_NOT_OPENED;
		}
	}
	ret = qi_graph_lock(g, 0, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	ret = ret < 0 ? QI_COMPARED_NOT_OPENED : compare(node, &progress);
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
