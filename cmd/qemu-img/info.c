// SPDX-License-Identifier: MIT
/*
 * info.c - qemu-img info
 */
#include <stdio.h>

#include "cmd/common/image.h"
#include "cmd/common/info.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *output;
	struct qi_list objects;
	bool image_opts, backing_chain, share;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT(&opt.objects),
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ "format", 0, QI_STOCK_TEXT, &opt.format },
	{ "output", 0, QI_STOCK_TEXT, &opt.output },
	{ "backing-chain", 0, QI_STOCK_FLAG, &opt.backing_chain },
	QI_STOCK_END,
};

static int show_one(struct qi_node *n, bool first, json_t *list,
		    struct qi_error *e)
{
	struct qi_info r;
	int ret = qi_info_collect(&r, n, e);

	if (ret >= 0 && list)
		json_array_append_new(list, qi_info_json(&r, false));
	if (ret >= 0 && !list) {
		if (!first)
			putchar('\n');
		qi_info_text(&r, false);
	}
	qi_info_release(&r);
	return ret;
}

static int show(struct qi_node *head, bool json)
{
	json_t *list = json ? json_array() : NULL;
	struct qi_error e = { "", "" };
	struct qi_node *n = head;
	int ret = 0;

	for (; n && ret >= 0;
	     n = opt.backing_chain ? qi_node_facts(n)->backing : NULL)
		ret = show_one(n, n == head, list, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	else if (json && opt.backing_chain)
		qi_stock_json(json_incref(list));
	else if (json)
		qi_stock_json(json_incref(json_array_get(list, 0)));
	json_decref(list);
	return ret < 0 ? QI_EXIT_FAILED : QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.share,
			       .no_backing = !opt.backing_chain };
	struct qi_node *n;
	int output;

	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!qi_stock_output(opt.output, &output) ||
	    !qi_stock_objects(&opt.objects) ||
	    qi_stock_open(g, argv[0], opt.image_opts, &how, &n) < 0)
		return QI_EXIT_FAILED;
	return show(n, output == QI_OUTPUT_JSON);
}

const struct qi_stock_command qi_stock_command_info = {
	.name = "info",
	.synopsis = "[--object objectdef] [--image-opts] [-f fmt] "
		    "[--output=ofmt] [--backing-chain] [-U] filename",
	.options = options,
	.run = run,
};
