// SPDX-License-Identifier: MIT
/*
 * bitmap.c - qemu-img bitmap
 */
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *granularity, *source, *source_format;
	struct qi_list steps;
	bool image_opts;
} opt;

static bool take_granularity(const char *text, uint64_t *out)
{
	return qi_stock_size("granularity", text, 0, INT64_MAX, out);
}

static bool check_granularity(const char *text)
{
	uint64_t size;

	return take_granularity(text, &size);
}

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ "add", 0, QI_STOCK_STEP, &opt.steps },
	{ "remove", 0, QI_STOCK_STEP, &opt.steps },
	{ "clear", 0, QI_STOCK_STEP, &opt.steps },
	{ "enable", 0, QI_STOCK_STEP, &opt.steps },
	{ "disable", 0, QI_STOCK_STEP, &opt.steps },
	{ "merge", 0, QI_STOCK_STEP_WITH, &opt.steps },
	{ "granularity", 'g', QI_STOCK_TEXT, &opt.granularity,
	  check_granularity },
	{ "source-file", 'b', QI_STOCK_TEXT, &opt.source },
	{ "source-format", 'F', QI_STOCK_TEXT, &opt.source_format },
	QI_STOCK_END,
};

/* The images, and the bitmap of the first that is meant. */
struct work {
	struct qi_node *node, *source;
	const char *name;
	uint64_t granularity;
};

static bool is_merge(const char *step)
{
	return !strcmp(step, "merge");
}

/* The step after this one; a merge has its source in between. */
static size_t next_step(size_t i)
{
	return i + 1 + is_merge(opt.steps.item[i]);
}

static bool has_step(const char *name)
{
	size_t i = 0;

	while (i < opt.steps.count && strcmp(opt.steps.item[i], name) != 0)
		i = next_step(i);
	return i < opt.steps.count;
}

/* ----------------------------------------------------------------- steps */

static int edit(const struct work *w, enum qi_bitmap_verb verb,
		struct qi_error *e)
{
	struct qi_bitmap_edit x = { .verb = verb,
				    .name = w->name,
				    .granularity = (uint32_t)w->granularity };

	/* None is for the default; this one is refused. */
	if (w->granularity > UINT32_MAX)
		x.granularity = 1;
	return qi_node_bitmap_edit(w->node, &x, NULL, false, e);
}

static int merge(const struct work *w, const char *name, struct qi_error *e)
{
	const struct qi_bitmap_address from = { .node = w->source,
						.name = name };
	const struct qi_bitmap_merge m = { .into = { .node = w->node,
						     .name = w->name },
					   .sources = &from,
					   .count = 1 };

	return qi_bitmap_merge(&m, NULL, false, e);
}

static int run_step(const struct work *w, const char *const *step)
{
	static const char *const verbs[] = {
		[QI_BITMAP_ADD] = "add",	 [QI_BITMAP_REMOVE] = "remove",
		[QI_BITMAP_CLEAR] = "clear",	 [QI_BITMAP_ENABLE] = "enable",
		[QI_BITMAP_DISABLE] = "disable",
	};
	struct qi_error e = { "", "" };
	int ret;

	if (is_merge(step[0])) {
		ret = merge(w, step[1], &e);
	} else {
		enum qi_bitmap_verb v = QI_BITMAP_ADD;

		while (strcmp(verbs[v], step[0]) != 0)
			v++;
		ret = edit(w, v, &e);
	}
	if (ret < 0)
		qi_stock_say("Operation %s on bitmap %s failed: %s", step[0],
			     w->name, qi_stock_words(ret, &e));
	return ret;
}

/* What was done before a step fails stays done. */
static int run_steps(const struct work *w)
{
	for (size_t i = 0; i < opt.steps.count; i = next_step(i))
		if (run_step(w, opt.steps.item + i) < 0)
			return QI_EXIT_FAILED;
	return QI_EXIT_OK;
}

/* False after a message. */
static bool check(int argc)
{
	if (!opt.steps.count)
		qi_stock_say("Need at least one of --add, --remove, --clear, "
			     "--enable, --disable, or --merge");
	else if (opt.granularity && !has_step("add"))
		qi_stock_say("granularity only supported with --add");
	else if (opt.source_format && !opt.source)
		qi_stock_say("-F only supported with -b");
	else if (opt.source && !has_step("merge"))
		qi_stock_say("Merge bitmap source file only supported with "
			     "--merge");
	else if (argc != 2)
		qi_stock_say("Expecting filename and bitmap name");
	else
		return true;
	return false;
}

static int run(int argc, char **argv)
{
	/* Each has its own locks: the source cannot be the image itself. */
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	QI_AUTO_GRAPH struct qi_graph *other = qi_stock_graph();
	const struct qi_open how = { .format = opt.format,
				     .access = QI_ACCESS_WRITE,
				     .no_backing = true };
	const struct qi_open from = { .format = opt.source_format,
				      .access = QI_ACCESS_READ,
				      .no_backing = true };
	struct work w = { .name = argc == 2 ? argv[1] : "" };

	if (!check(argc))
		return QI_EXIT_FAILED;
	if (opt.granularity)
		take_granularity(opt.granularity, &w.granularity);
	if (qi_stock_open(g, argv[0], opt.image_opts, &how, &w.node) < 0)
		return QI_EXIT_FAILED;
	w.source = w.node;
	if (opt.source &&
	    qi_stock_open(other, opt.source, false, &from, &w.source) < 0)
		return QI_EXIT_FAILED;
	return run_steps(&w);
}

const struct qi_stock_command qi_stock_command_bitmap = {
	.name = "bitmap",
	.synopsis = "(--merge SOURCE | --add | --remove | --clear | --enable | "
		    "--disable)... [-b source_file [-F source_fmt]] [-g "
		    "granularity] [--object objectdef] [--image-opts | -f fmt] "
		    "filename bitmap",
	.options = options,
	.run = run,
};
