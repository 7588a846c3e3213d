// SPDX-License-Identifier: MIT
/*
 * dd.c - qemu-img dd
 */
#include <string.h>

#include "cmd/common/dd.h"
#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *target_format;
	bool image_opts, share;
} opt = { .target_format = "raw" };

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 'O', QI_STOCK_TEXT, &opt.target_format },
	QI_STOCK_END,
};

static bool take_operands(struct qi_dd *d, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		struct qi_dd_place p;

		if (!qi_dd_operand(d, argv[i], &p)) {
			qi_stock_say("unrecognized operand %.*s",
				     (int)strcspn(argv[i], "="), argv[i]);
			return false;
		}
		if (p.text)
			*p.text = p.value;
		else if (!qi_stock_size(p.name, p.value, p.min, p.max,
					p.number))
			return false;
	}
	if (d->in && d->out)
		return true;
	qi_stock_say("Must specify both input and output files");
	return false;
}

/* The part of the source that is wanted, as a node. */
static int slice(struct qi_graph *g, struct qi_node *source,
		 const struct qi_dd *d, struct qi_node **out)
{
	struct qi_slice part = { .node = source };
	struct qi_error e = { "", "" };
	int ret;

	if (!qi_dd_range(d, qi_node_facts(source)->size, &part.off, &part.len))
		qi_stock_say("%s: cannot skip to specified offset", d->in);
	ret = qi_join_node(g, &part, 1, out, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	return ret;
}

static int copy(const struct qi_dd *d)
{
	QI_AUTO_TEXT char *unmade =
		qi_xprintf("%s: error while creating output image", d->out);
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.share };
	struct qi_convert c = { .target = { .format = opt.target_format,
					    .in_place = true,
					    .ignores_size_option = true },
				.no_holes = true,
				.unmade = unmade };
	struct qi_copy_stats stats;
	struct qi_error e = { "", "" };
	struct qi_node *source, *part;
	const char *path;
	int ret;

	if (qi_stock_open(g, d->in, opt.image_opts, &how, &source) < 0)
		return QI_EXIT_FAILED;
	if (qi_stock_target_kind(opt.target_format) == QI_STOCK_TARGET_UNKNOWN)
		return qi_stock_say("Unknown file format");
	if (!qi_stock_can_make(opt.target_format, ""))
		return QI_EXIT_FAILED;
	path = qi_stock_target(d->out, "");
	if (!path || slice(g, source, d, &part) < 0)
		return QI_EXIT_FAILED;
	ret = qi_convert_image(part, path, &c, &stats, &e);
	return ret < 0 ? qi_stock_fail(ret, &e) : QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct qi_dd d = QI_DD_ALL;

	if (!take_operands(&d, argc, argv))
		return QI_EXIT_FAILED;
	return copy(&d);
}

const struct qi_stock_command qi_stock_command_dd = {
	.name = "dd",
	.synopsis = "[--object objectdef] [--image-opts] [-U] [-f fmt] "
		    "[-O output_fmt] [bs=block_size] [count=blocks] "
		    "[skip=blocks] if=input of=output",
	.options = options,
	.run = run,
};
