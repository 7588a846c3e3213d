// SPDX-License-Identifier: MIT
/*
 * measure.c - qemu-img measure
 */
#include "cmd/common/image.h"
#include "cmd/common/estimate.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *target_format, *output, *size, *snapshot;
	struct qi_list options;
	bool image_opts, share;
} opt = { .target_format = "raw" };

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 'l', QI_STOCK_TEXT, &opt.snapshot },
	{ NULL, 'o', QI_STOCK_LIST, &opt.options },
	{ NULL, 'O', QI_STOCK_TEXT, &opt.target_format },
	{ "output", 0, QI_STOCK_TEXT, &opt.output },
	{ "size", 0, QI_STOCK_TEXT, &opt.size },
	QI_STOCK_END,
};

/* What QEMU says of options that do not go together; true: nothing. */
static bool check(int argc)
{
	if (argc > 1)
		qi_stock_say("At most one filename argument is allowed.");
	else if (!argc && (opt.image_opts || opt.format || opt.snapshot))
		qi_stock_say("--image-opts, -f, and -l require a filename "
			     "argument.");
	else if (argc && opt.size)
		qi_stock_say("--size N cannot be used together with a "
			     "filename.");
	else if (!argc && !opt.size)
		qi_stock_say("Either --size N or one filename must be "
			     "specified.");
	else
		return true;
	return false;
}

static int open_source(struct qi_graph *g, const char *name,
		       const struct qi_snapshot_choice *snapshot,
		       struct qi_node **out)
{
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.share };

	return qi_stock_open_snapshot(g, name, opt.image_opts, &how, snapshot,
				      out);
}

static int measure(const char *name, struct qi_measure *m,
		   const struct qi_snapshot_choice *snapshot, bool json)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_measurement result;
	struct qi_error e = { "", "" };
	struct qi_node *source = NULL;
	struct qi_create c = { .format = opt.target_format,
			       .size = QI_NO_OFFSET };
	QI_AUTO_TEXT char *text = NULL;
	int ret;

	if (name && open_source(g, name, snapshot, &source) < 0)
		return QI_EXIT_FAILED;
	if (qi_stock_target_kind(c.format) == QI_STOCK_TARGET_KNOWN)
		return qi_stock_say("Block driver '%s' does not support size "
				    "measurement",
				    c.format);
	if (!qi_stock_can_make(c.format, ""))
		return QI_EXIT_FAILED;
	if (!qi_stock_join(&opt.options, &text))
		return QI_EXIT_FAILED;
	if (!qi_stock_take_options(NULL, text, &c))
		return qi_stock_say("Invalid options for file format '%s'",
				    c.format);
	m->format = c.format;
	m->options = text;
	ret = qi_measure(source, m, &result, &e);
	if (ret < 0)
		return qi_stock_fail(ret, &e);
	if (json)
		qi_stock_json(qi_estimate_json(&result));
	else
		qi_estimate_text(&result);
	return QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct qi_snapshot_choice snapshot = { NULL };
	struct qi_measure m = { .size = 0 };
	int output;

	if (opt.snapshot && !qi_stock_snapshot(opt.snapshot, &snapshot))
		return QI_EXIT_FAILED;
	if (!qi_stock_output(opt.output, &output) ||
	    (opt.size &&
	     !qi_stock_size("image size", opt.size, 0, INT64_MAX, &m.size)) ||
	    !check(argc))
		return QI_EXIT_FAILED;
	return measure(argc ? argv[0] : NULL, &m, &snapshot,
		       output == QI_OUTPUT_JSON);
}

const struct qi_stock_command qi_stock_command_measure = {
	.name = "measure",
	.synopsis = "[--output=ofmt] [-O output_fmt] [-o options] "
		    "[--size N | [--object objectdef] [--image-opts] [-f fmt] "
		    "[-l snapshot_param] [-U] filename]",
	.options = options,
	.run = run,
};
