// SPDX-License-Identifier: MIT
/*
 * create.c - qemu-img create
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *backing, *backing_format;
	struct qi_list options;
	bool quiet, unsafe;
} opt = { .format = "raw" };

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 'b', QI_STOCK_TEXT, &opt.backing },
	{ NULL, 'F', QI_STOCK_TEXT, &opt.backing_format },
	{ NULL, 'u', QI_STOCK_FLAG, &opt.unsafe },
	{ NULL, 'o', QI_STOCK_LIST, &opt.options },
	QI_STOCK_END,
};

/* Take what is after -o and -b together; false after a message. */
static bool take_target(const char *name, const char *text, uint64_t size,
			struct qi_create *c)
{
	if (!qi_stock_take_options(name, text, c))
		return false;
	if (size != QI_NO_OFFSET && c->size != QI_NO_OFFSET) {
		qi_stock_say("%s: The image size must be specified only once",
			     name);
		return false;
	}
	if (size != QI_NO_OFFSET)
		c->size = size;
	if (opt.backing)
		c->backing_name = opt.backing;
	if (opt.backing_format)
		c->backing_format = opt.backing_format;
	return true;
}

/* What QEMU says of a backing file before it looks at it. */
static bool check_backing(const char *name, const struct qi_create *c)
{
	if (c->backing_name && !strcmp(c->format, "raw"))
		qi_stock_say("%s: Backing file not supported for file format "
			     "'%s'",
			     name, c->format);
	else if (c->backing_format && !strcmp(c->format, "raw"))
		qi_stock_say(
			"%s: Backing file format not supported for file format "
			"'%s'",
			name, c->format);
	else if (c->backing_name && !*c->backing_name)
		qi_stock_say("%s: Expected backing file name, got empty string",
			     name);
	else if (c->backing_name && !strcmp(c->backing_name, name))
		qi_stock_say("%s: Error: Trying to create an image with the "
			     "same filename as the backing file",
			     name);
	else
		return true;
	return false;
}

/* Open the backing file, for its size and to see that it can be. */
static bool look_at_backing(const char *name, struct qi_create *c)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = c->backing_format,
			       .access = QI_ACCESS_NONE,
			       .strict_name = true };
	QI_AUTO_TEXT char *path = NULL;
	struct qi_error e = { "", "" };
	struct qi_node *n;
	int ret;

	if (!c->backing_name || c->unchecked_backing)
		return true;
	if (c->backing_format && qi_stock_target_kind(c->backing_format) ==
					 QI_STOCK_TARGET_UNKNOWN) {
		qi_stock_say("%s: Unknown driver '%s'\nCould not open backing "
			     "image.",
			     name, c->backing_format);
		return false;
	}
	path = qi_path_beside(name, c->backing_name);
	/* Nothing of it is read, so it may be in use. */
	ret = qi_graph_add(g, path, &how, &n, &e);
	if (ret < 0) {
		qi_stock_say("%s: %s\nCould not open backing image.", name,
			     qi_stock_inner_words(qi_stock_words(ret, &e),
						  path));
		return false;
	}
	if (!c->backing_format) {
		qi_stock_say("%s: Backing file specified without backing "
			     "format",
			     name);
		/* Without an end of the line, as QEMU has it. */
		fprintf(stderr, "Detected format of %s.",
			qi_node_facts(n)->format);
		return false;
	}
	if (c->size == QI_NO_OFFSET)
		c->size = qi_node_facts(n)->size;
	return true;
}

static int create(const char *name, const char *text, uint64_t size)
{
	struct qi_create c = { .format = opt.format,
			       .size = QI_NO_OFFSET,
			       .unchecked_backing = opt.unsafe,
			       .in_place = true };
	QI_AUTO_TEXT char *prefix = qi_xprintf("%s: ", name);
	struct qi_error e = { "", "" };
	const char *path;
	int ret;

	if (!qi_stock_can_make(c.format, prefix))
		return QI_EXIT_FAILED;
	path = qi_stock_target(name, prefix);
	if (!path)
		return QI_EXIT_FAILED;
	if (!take_target(name, text, size, &c) || !check_backing(name, &c) ||
	    !look_at_backing(name, &c))
		return QI_EXIT_FAILED;
	if (c.backing_name && !c.backing_format)
		return qi_stock_say("%s: Backing file specified without "
				    "backing format",
				    name);
	if (c.size == QI_NO_OFFSET)
		return qi_stock_say("%s: Image creation needs a size parameter",
				    name);
	if (!opt.quiet)
		qi_stock_formatting(name, &c);
	ret = qi_create_image(path, &c, &e);
	return ret < 0 ? qi_stock_say("%s: %s", name, qi_stock_words(ret, &e)) :
			 QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_TEXT char *text = NULL;
	const char *name = argc ? argv[0] : NULL;
	uint64_t size = QI_NO_OFFSET;
	bool wants_help;

	if (!qi_stock_join(&opt.options, &text))
		return QI_EXIT_FAILED;
	wants_help = qi_stock_wants_help(text);
	if (!name && !wants_help)
		return qi_stock_mistake("Expecting image file name");
	if (argc > 1 &&
	    !qi_stock_size("image size", argv[1], 0, INT64_MAX, &size))
		return QI_EXIT_FAILED;
	if (argc > 2)
		return qi_stock_mistake("Unexpected argument: %s", argv[2]);
	if (wants_help)
		return qi_stock_options_help(opt.format, name);
	return create(name, text, size);
}

const struct qi_stock_command qi_stock_command_create = {
	.name = "create",
	.synopsis = "[--object objectdef] [-q] [-f fmt] [-b backing_file "
		    "[-F backing_fmt]] [-u] [-o options] filename [size]",
	.options = options,
	.run = run,
};
