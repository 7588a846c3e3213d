// SPDX-License-Identifier: MIT
/*
 * amend.c - qemu-img amend
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *cache;
	struct qi_list options;
	bool image_opts, quiet, progress, force;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	{ NULL, 'o', QI_STOCK_LIST, &opt.options },
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 't', QI_STOCK_TEXT, &opt.cache },
	{ NULL, 'p', QI_STOCK_FLAG, &opt.progress },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	{ "force", 0, QI_STOCK_FLAG, &opt.force },
	QI_STOCK_END,
};

static int no_options(const char *format)
{
	return qi_stock_say("Format driver '%s' does not support option "
			    "amendment",
			    format);
}

static int help(const char *format)
{
	const struct qi_format_option *o = qi_format_amend_options(format);
	const char *const *known = qi_format_names();

	while (*known && strcmp(*known, format) != 0)
		known++;
	if (!*known)
		return qi_stock_say("Unknown file format '%s'", format);
	if (!o)
		return no_options(format);
	printf("Amend options for '%s':\n", format);
	qi_stock_options_print(o, false);
	return QI_EXIT_OK;
}

static int amend(struct qi_node *n, const char *text)
{
	struct qi_amend a = { .options = text };
	const char *format = qi_node_facts(n)->format;
	struct qi_error e = { "", "" };
	int ret;

	if (qi_stock_wants_help(text))
		return help(format);
	if (!qi_format_amend_options(format))
		return no_options(format);
	if (!qi_stock_check_amend(format, text))
		return QI_EXIT_FAILED;
	a.progress = qi_stock_progress(opt.progress);
	ret = qi_amend_image(n, &a, NULL, false, &e);
	qi_stock_progress_full();
	return ret < 0 ? qi_stock_fail(ret, &e) : QI_EXIT_OK;
}

static int open_and_amend(int argc, char **argv, const char *text)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_WRITE };
	struct qi_node *n;

	if (opt.format && qi_stock_wants_help(text))
		return help(opt.format);
	if (argc != 1)
		return qi_stock_say("Expecting one image file name");
	if (!qi_stock_cache(opt.cache, false, &how.cache) ||
	    qi_stock_open(g, argv[0], opt.image_opts, &how, &n) < 0)
		return QI_EXIT_FAILED;
	return amend(n, text);
}

static int run(int argc, char **argv)
{
	QI_AUTO_TEXT char *text = NULL;
	int code;

	if (!qi_stock_join(&opt.options, &text))
		return QI_EXIT_FAILED;
	if (!text)
		return qi_stock_mistake("Must specify options (-o)");
	opt.progress = opt.progress && !opt.quiet;
	code = open_and_amend(argc, argv, text);
	/* The line that a progress ends with is there without one, too. */
	if (opt.progress)
		putchar('\n');
	return code;
}

const struct qi_stock_command qi_stock_command_amend = {
	.name = "amend",
	.synopsis = "[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] "
		    "[-t cache] [--force] -o options filename",
	.options = options,
	.run = run,
};
