// SPDX-License-Identifier: MIT
/*
 * info.c - qemu-img info
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/info.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *output;
	bool image_opts, backing_chain, share;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
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

/*
 * Whether each image below that one can be opened: QEMU opens them one by one,
 * and says so of that one alone.
 */
static bool check_chain(const struct qi_node_facts *f)
{
	const char *format = f->backing_format;
	QI_AUTO_TEXT char *path = qi_backing_path(f);
	QI_AUTO_GRAPH struct qi_graph *g = NULL;
	struct qi_open how = { .access = QI_ACCESS_READ,
			       .force_share = opt.share,
			       .no_backing = true };
	static struct qi_list seen;
	struct qi_node *n;

	if (!path)
		return true;
	for (size_t i = 0; i < seen.count; i++) {
		if (strcmp(seen.item[i], path) != 0)
			continue;
		qi_stock_say("Backing file '%s' creates an infinite loop.",
			     path);
		return false;
	}
	seen.item =
		qi_xrealloc(seen.item, (seen.count + 1) * sizeof(*seen.item));
	seen.item[seen.count++] = qi_stock_keep(path);
	g = qi_stock_graph();
	how.format = format;
	return qi_stock_look(g, path, false, &how, &n) >= 0 &&
	       check_chain(qi_node_facts(n));
}

static int open_image(struct qi_graph *g, const char *name, struct qi_open *how,
		      struct qi_node **out)
{
	QI_AUTO_GRAPH struct qi_graph *alone = NULL;

	if (opt.backing_chain) {
		alone = qi_stock_graph();
		if (qi_stock_look(alone, name, opt.image_opts, how, out) < 0 ||
		    !check_chain(qi_node_facts(*out)))
			return -EINVAL;
		how->no_backing = false;
	}
	return qi_stock_look(g, name, opt.image_opts, how, out);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.share,
			       .no_backing = true };
	struct qi_node *n;
	int output;

	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!qi_stock_output(opt.output, &output) ||
	    open_image(g, argv[0], &how, &n) < 0)
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
