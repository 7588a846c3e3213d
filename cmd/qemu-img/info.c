// SPDX-License-Identifier: MIT
/*
 * info.c - qemu-img info
 */
#include <stdio.h>
#include <stdlib.h>

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

/* The image and, with --backing-chain, those below it, in this order. */
struct chain {
	struct qi_node **node;
	size_t count;
};

static int show(const struct chain *c, bool json)
{
	json_t *list = json ? json_array() : NULL;
	struct qi_error e = { "", "" };
	int ret = 0;

	for (size_t i = 0; i < c->count && ret >= 0; i++)
		ret = show_one(c->node[i], !i, list, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	else if (json && opt.backing_chain)
		qi_stock_json(json_incref(list));
	else if (json)
		qi_stock_json(json_incref(json_array_get(list, 0)));
	json_decref(list);
	return ret < 0 ? QI_EXIT_FAILED : QI_EXIT_OK;
}

/* As QEMU does, images are opened one by one; false after a message. */
static bool add(struct qi_graph *g, struct chain *c, const char *name,
		bool is_options, const char *format)
{
	struct qi_open how = { .format = format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.share,
			       .no_backing = true };
	struct qi_node *n;

	if (qi_stock_add(g, name, is_options, &how, &n) < 0)
		return false;
	for (size_t i = 0; i < c->count; i++) {
		if (c->node[i] != n)
			continue;
		qi_stock_say("Backing file '%s' creates an infinite loop.",
			     name);
		return false;
	}
	c->node =
		qi_xrealloc(c->node, (c->count + 1) * sizeof(struct qi_node *));
	c->node[c->count++] = n;
	return true;
}

/* False after a message. */
static bool open_chain(struct qi_graph *g, struct chain *c, const char *name)
{
	bool good = add(g, c, name, opt.image_opts, opt.format);
	struct qi_error e = { "", "" };
	int ret;

	while (good && opt.backing_chain) {
		const struct qi_node_facts *f =
			qi_node_facts(c->node[c->count - 1]);
		QI_AUTO_TEXT char *path = qi_backing_path(f);

		if (!path)
			break;
		good = add(g, c, path, false, f->backing_format);
	}
	if (!good)
		return false;
	ret = qi_graph_lock(g, 0, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	return ret >= 0;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct chain c = { NULL, 0 };
	int output, code = QI_EXIT_FAILED;

	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (qi_stock_output(opt.output, &output) && open_chain(g, &c, argv[0]))
		code = show(&c, output == QI_OUTPUT_JSON);
	free(c.node);
	return code;
}

const struct qi_stock_command qi_stock_command_info = {
	.name = "info",
	.synopsis = "[--object objectdef] [--image-opts] [-f fmt] "
		    "[--output=ofmt] [--backing-chain] [-U] filename",
	.options = options,
	.run = run,
};
