// SPDX-License-Identifier: MIT
/*
 * map.c - qimg map: which file holds which part of a disk
 */
#include "cmd/common/command.h"
#include "cmd/common/extents.h"
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
		ret = qi_extents_print(n, opt.start, opt.length,
				       opt.output == QI_OUTPUT_JSON ?
					       QI_EXTENTS_JSON :
					       QI_EXTENTS_TEXT,
				       &e);
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
