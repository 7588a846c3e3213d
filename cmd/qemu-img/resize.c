// SPDX-License-Identifier: MIT
/*
 * resize.c - qemu-img resize
 */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/common/image.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *preallocation;
	bool image_opts, quiet, shrink;
} opt = { .preallocation = "off" };

static bool check_mode(const char *text)
{
	enum qi_preallocation mode;

	if (qi_preallocation_parse(text, &mode, NULL) >= 0)
		return true;
	qi_stock_say("Invalid preallocation mode '%s'", text);
	return false;
}

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	{ "preallocation", 0, QI_STOCK_TEXT, &opt.preallocation, check_mode },
	{ "shrink", 0, QI_STOCK_FLAG, &opt.shrink },
	QI_STOCK_END,
};

/* "+N" and "-N" are relative to the size now; false after a message. */
static bool new_size(char sign, uint64_t number, uint64_t old, uint64_t *out)
{
	*out = sign == '+' ? old + number : sign == '-' ? old - number : number;
	if (*out && *out <= INT64_MAX)
		return true;
	qi_stock_say("New image size must be positive");
	return false;
}

/* False after a message. */
static bool check(const struct qi_resize *r, uint64_t old)
{
	if (r->size <= old && r->preallocation) {
		qi_stock_say("Preallocation can only be used for growing "
			     "images");
		return false;
	}
	if (r->size >= old || r->shrink)
		return true;
	qi_stock_say("Use the --shrink option to perform a shrink operation.");
	qi_stock_warn("Shrinking an image will delete all data beyond the "
		      "shrunken image's end. Before performing such an "
		      "operation, make sure there is no important data there.");
	return false;
}

static int resize(struct qi_node *n, char sign, uint64_t number)
{
	struct qi_resize r = { .shrink = opt.shrink };
	uint64_t old = qi_node_facts(n)->size;
	struct qi_error e = { "", "" };
	int ret;

	qi_preallocation_parse(opt.preallocation, &r.preallocation, NULL);
	if (!new_size(sign, number, old, &r.size) || !check(&r, old))
		return QI_EXIT_FAILED;
	ret = qi_resize_image(n, &r, NULL, false, &e);
	if (ret < 0)
		return qi_stock_fail(ret, &e);
	if (!opt.quiet)
		puts("Image resized.");
	return QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_WRITE };
	const char *text = argv[argc - 1];
	const bool is_relative = *text == '+' || *text == '-';
	struct qi_node *n;
	uint64_t number;

	if (argc != 2)
		return qi_stock_mistake("Expecting image file name and size");
	if (!qi_stock_option_size("size", text + is_relative, &number) ||
	    qi_stock_open(g, argv[0], opt.image_opts, &how, &n) < 0)
		return QI_EXIT_FAILED;
	return resize(n, is_relative ? *text : '\0', number);
}

const struct qi_stock_command qi_stock_command_resize = {
	.name = "resize",
	.synopsis = "[--object objectdef] [--image-opts] [-f fmt] "
		    "[--preallocation=prealloc] [-q] [--shrink] filename "
		    "[+ | -]size",
	.options = options,
	.takes_last = true,
	.run = run,
};
