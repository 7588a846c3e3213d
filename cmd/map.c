// SPDX-License-Identifier: MIT
/*
 * map.c - qimg map: which file holds which part of a disk
 */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/print.h"

static struct {
	const char *format;
	uint64_t start, length;
	bool force_share;
	int output, wait;
} opt = { .length = UINT64_MAX };

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_SIZE("start-offset", 's', &opt.start, "start here"),
	QI_OPT_SIZE("max-length", 'l', &opt.length, "at most so much"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const char *bool_text(unsigned flag)
{
	return flag ? "true" : "false";
}

static void print_text(const struct qi_extent *x)
{
	QI_AUTO_TEXT char *path = NULL;
	char offset[QI_HUMAN] = "compressed";

	/* Holes and zeroes have no place in a file. */
	if (!(x->flags & QI_EXT_DATA) || x->flags & QI_EXT_ZERO || !x->node)
		return;
	path = qi_safe(qi_node_data_path(x->node));
	if (!(x->flags & QI_EXT_COMPRESSED))
		snprintf(offset, sizeof(offset), "%#" PRIx64, x->host_off);
	printf("%#-16" PRIx64 "%#-16" PRIx64 "%-16s%s\n", x->off, x->len,
	       offset, path);
}

static void print_json(const struct qi_extent *x, bool first)
{
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
	       first ? "" : ",\n", x->off, x->len, x->depth,
	       bool_text(x->flags & QI_EXT_ALLOCATED),
	       bool_text(x->flags & QI_EXT_ZERO),
	       bool_text(x->flags & QI_EXT_DATA));
	if (x->host_off != QI_NO_OFFSET && !(x->flags & QI_EXT_COMPRESSED))
		printf(", \"offset\": %" PRIu64, x->host_off);
	putchar('}');
}

static int print_extents(struct qi_scan *s, struct qi_error *e)
{
	const bool json = opt.output == QI_OUTPUT_JSON;
	struct qi_extent x;
	bool first = true;
	int ret;

	if (json)
		putchar('[');
	else
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to",
		       "File");
	while ((ret = qi_scan_next(s, &x, e)) > 0) {
		if (json)
			print_json(&x, first);
		else
			print_text(&x);
		first = false;
	}
	if (json)
		puts("]");
	return ret;
}

static int map(struct qi_node *n, struct qi_error *e)
{
	struct qi_scan *scan;
	int ret = qi_chain_check_readable(n, e);

	if (ret < 0)
		return ret;
	/* It ends at the end of the disk, whatever was asked for. */
	ret = qi_scan_new(&scan, n, NULL, opt.start, opt.length);
	if (ret < 0)
		return qi_fail(e, -ret, "'%s': its extents cannot be listed",
			       qi_node_facts(n)->path);
	qi_scan_see_holes(scan);
	ret = print_extents(scan, e);
	qi_scan_free(scan);
	return ret;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = {
		.format = opt.format,
		.access = QI_ACCESS_READ,
		.force_share = opt.force_share,
	};
	struct qi_error e = { "" };
	struct qi_node *n;
	int ret = qi_open_image(g, argv[0], &how, opt.wait, &n, &e);

	if (ret >= 0)
		ret = map(n, &e);
	return ret < 0 ? qi_report_as(ret, &e, QI_EXIT_FAILED) : QI_EXIT_OK;
}

const struct qi_command qi_command_map = {
	.name = "map",
	.summary = "show which file holds which part of a disk",
	.synopsis = QI_LINES("[OPTION]... FILE"),
	.options = options,
	.examples =
		QI_LINES("qimg map disk.qcow2",
			 "qimg map --output json --start-offset 1G disk.qcow2"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
