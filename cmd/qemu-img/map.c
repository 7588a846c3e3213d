// SPDX-License-Identifier: MIT
/*
 * map.c - qemu-img map
 */
#include <stdio.h>

#include "cmd/common/extents.h"
#include "cmd/common/image.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *output, *start, *length;
	bool image_opts, share;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ "format", 0, QI_STOCK_TEXT, &opt.format },
	{ "output", 0, QI_STOCK_TEXT, &opt.output },
	{ "start-offset", 's', QI_STOCK_TEXT, &opt.start },
	{ "max-length", 'l', QI_STOCK_TEXT, &opt.length },
	QI_STOCK_END,
};

/* QEMU's list is never empty. */
static void print_nothing(uint64_t start)
{
	printf("[{ \"start\": %llu, \"length\": 0, \"depth\": 0, "
	       "\"present\": false, \"zero\": false, \"data\": false}]\n",
	       (unsigned long long)start);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.share };
	struct qi_error e = { "", "" };
	uint64_t start = 0, length = INT64_MAX;
	struct qi_node *n;
	int ret, output;

	if (opt.start &&
	    !qi_stock_size("start offset", opt.start, 0, INT64_MAX, &start))
		return QI_EXIT_FAILED;
	if (opt.length &&
	    !qi_stock_size("max length", opt.length, 0, INT64_MAX, &length))
		return QI_EXIT_FAILED;
	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!qi_stock_output(opt.output, &output) ||
	    qi_stock_open(g, argv[0], opt.image_opts, &how, &n) < 0)
		return QI_EXIT_FAILED;
	if (output == QI_OUTPUT_JSON &&
	    (!length || start >= qi_node_facts(n)->size)) {
		print_nothing(start);
		return QI_EXIT_OK;
	}
	ret = qi_extents_print(n, start, length,
			       output == QI_OUTPUT_JSON ? QI_EXTENTS_JSON :
							  QI_EXTENTS_PLAIN,
			       &e);
	return ret < 0 ? qi_stock_fail(ret, &e) : QI_EXIT_OK;
}

const struct qi_stock_command qi_stock_command_map = {
	.name = "map",
	.synopsis = "[--object objectdef] [--image-opts] [-f fmt] "
		    "[--start-offset=offset] [--max-length=len] "
		    "[--output=ofmt] [-U] filename",
	.options = options,
	.run = run,
};
