// SPDX-License-Identifier: MIT
/*
 * commit.c - qemu-img commit
 */
#include <stdio.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/pace.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *cache, *base, *rate;
	bool image_opts, quiet, progress, drop;
} opt;

static bool take_rate(const char *text, uint64_t *out)
{
	return qi_stock_size("rate limit", text, 0, INT64_MAX, out);
}

static bool check_rate(const char *text)
{
	uint64_t rate;

	return take_rate(text, &rate);
}

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 't', QI_STOCK_TEXT, &opt.cache },
	{ NULL, 'b', QI_STOCK_TEXT, &opt.base },
	{ NULL, 'd', QI_STOCK_FLAG, &opt.drop },
	{ NULL, 'r', QI_STOCK_TEXT, &opt.rate, check_rate },
	{ NULL, 'p', QI_STOCK_FLAG, &opt.progress },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	QI_STOCK_END,
};

static int commit(struct qi_graph *g, const char *name,
		  struct qi_commit_image *c)
{
	struct qi_error e = { "", "" };
	const char *lock;
	uint64_t bytes;
	int ret = qi_commit_open(g, name, c, &e);

	/* What lies below is to be written, too; it was opened before. */
	if (ret >= 0)
		ret = qi_graph_lock(g, 0, &e);
	lock = ret < 0 ? strstr(e.stock, "Failed to get") : NULL;
	if (ret >= 0)
		ret = qi_commit_run(c, NULL, false, &bytes, &e);
	if (ret >= 0)
		qi_stock_progress_full();
	qi_stock_progress_end();
	if (ret < 0)
		return lock ? qi_stock_say("%s", lock) : qi_stock_fail(ret, &e);
	if (!opt.quiet)
		puts("Image committed.");
	return QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_WRITE };
	struct qi_commit_image c = { .base = opt.base, .keep = opt.drop };
	uint64_t rate = 0;

	if (opt.rate)
		take_rate(opt.rate, &rate);
	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!qi_stock_cache(opt.cache, false, &how.cache) ||
	    qi_stock_open(g, argv[0], opt.image_opts, &how, &c.top) < 0)
		return QI_EXIT_FAILED;
	c.progress =
		qi_pace(qi_stock_progress(opt.progress && !opt.quiet), rate);
	return commit(g, argv[0], &c);
}

const struct qi_stock_command qi_stock_command_commit = {
	.name = "commit",
	.synopsis = "[--object objectdef] [--image-opts] [-q] [-f fmt] [-t "
		    "cache] [-b base] [-r rate_limit] [-d] [-p] filename",
	.options = options,
	.run = run,
};
