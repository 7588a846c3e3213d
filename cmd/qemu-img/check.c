// SPDX-License-Identifier: MIT
/*
 * check.c - qemu-img check
 */
#include <errno.h>
#include <string.h>

#include "cmd/common/checked.h"
#include "cmd/common/image.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *output, *repair, *cache;
	bool image_opts, quiet, share;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ "format", 0, QI_STOCK_TEXT, &opt.format },
	{ "repair", 'r', QI_STOCK_TEXT, &opt.repair },
	{ "output", 0, QI_STOCK_TEXT, &opt.output },
	{ NULL, 'T', QI_STOCK_TEXT, &opt.cache },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	QI_STOCK_END,
};

/* False after a message. */
static bool take_repair(enum qi_repair *out)
{
	*out = QI_REPAIR_NONE;
	if (!opt.repair)
		return true;
	*out = strcmp(opt.repair, "all") ? QI_REPAIR_LEAKS : QI_REPAIR_ALL;
	if (*out == QI_REPAIR_ALL || !strcmp(opt.repair, "leaks"))
		return true;
	qi_stock_mistake("Unknown option value for -r (expecting 'leaks' or "
			 "'all'): %s",
			 opt.repair);
	return false;
}

static int failed(int ret, const struct qi_error *e)
{
	if (ret != -ENOTSUP) {
		qi_stock_say("Check failed: %s", qi_stock_words(ret, e));
		return QI_CHECK_NOT_DONE;
	}
	qi_stock_say("This image format does not support checks");
	return QI_CHECK_UNSUPPORTED;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_check check = { .finding = qi_checked_finding };
	struct qi_open how = { .format = opt.format,
			       .force_share = opt.share,
			       .to_check = true };
	struct qi_error e = { "", "" };
	bool json;
	struct qi_node *n;
	int ret, output;

	if (!take_repair(&check.repair))
		return QI_CHECK_NOT_DONE;
	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!qi_stock_output(opt.output, &output) ||
	    !qi_stock_cache(opt.cache, true, &how.cache))
		return QI_CHECK_NOT_DONE;
	how.access = check.repair ? QI_ACCESS_WRITE : QI_ACCESS_READ;
	if (check.repair && opt.share) {
		qi_stock_say("Could not open '%s': force-share=on can only be "
			     "used with read-only images",
			     argv[0]);
		return QI_CHECK_NOT_DONE;
	}
	if (qi_stock_open(g, argv[0], opt.image_opts, &how, &n) < 0)
		return QI_CHECK_NOT_DONE;
	json = output == QI_OUTPUT_JSON;
	ret = qi_checked_run(n, &check, !json && !opt.quiet, &e);
	if (ret < 0)
		return failed(ret, &e);
	if (json && !opt.quiet)
		qi_stock_json(qi_checked_json(&check, qi_node_facts(n)));
	else if (!opt.quiet)
		qi_checked_text(&check);
	return qi_checked_code(&check);
}

const struct qi_stock_command qi_stock_command_check = {
	.name = "check",
	.synopsis = "[--object objectdef] [--image-opts] [-q] [-f fmt] "
		    "[--output=ofmt] [-r [leaks | all]] [-T src_cache] [-U] "
		    "filename",
	.options = options,
	.run = run,
};
