// SPDX-License-Identifier: MIT
/*
 * measure.c - qimg measure: how large an image would be
 */
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/estimate.h"
#include "cmd/common/print.h"

static struct {
	const char *format, *target_format, *snapshot;
	struct qi_list options;
	uint64_t size;
	bool force_share;
	int output, wait;
} opt = { .target_format = "raw", .size = QI_NO_OFFSET };

static const struct qi_option options[] = {
	QI_OPT_TEXT("source-format", 'f', "FMT", &opt.format,
		    QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_TEXT("target-format", 'O', "FMT", &opt.target_format,
		    QI_COMPLETE_FORMAT, "format that it would get (raw)"),
	QI_OPT_LIST("options", 'o', "OPTS", &opt.options, QI_COMPLETE_NONE,
		    "format options NAME=VALUE,...; 'help' lists them"),
	QI_OPT_TEXT("snapshot", 'l', "NAME", &opt.snapshot, QI_COMPLETE_NONE,
		    "measure this internal snapshot of the image"),
	QI_OPT_SIZE("size", 's', &opt.size,
		    "measure an empty disk of this size"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static int measure(struct qi_node *source, struct qi_measurement *m,
		   struct qi_error *e)
{
	QI_AUTO_TEXT char *joined = qi_join_options(&opt.options);
	const struct qi_measure how = { .format = opt.target_format,
					.options = joined,
					.size = source ? 0 : opt.size };

	return qi_measure(source, &how, m, e);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = {
		.format = opt.format,
		.access = QI_ACCESS_READ,
		.force_share = opt.force_share,
		.snapshot = { .name_or_id = opt.snapshot },
	};
	struct qi_node *source = NULL;
	struct qi_measurement m;
	struct qi_error e = { "", "" };
	int ret = 0;

	if (qi_options_asked(&opt.options, opt.target_format, &ret))
		return ret;
	if (!argc == (opt.size == QI_NO_OFFSET))
		return qi_usage("measure: give an image, or --size for an "
				"empty disk");
	if (argc)
		ret = qi_open_image(g, argv[0], &how, opt.wait, &source, &e);
	if (ret >= 0)
		ret = measure(source, &m, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		qi_json_print(qi_estimate_json(&m));
	else
		qi_estimate_text(&m);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_measure = {
	.name = "measure",
	.summary = "tell how large an image would be",
	.synopsis = QI_LINES("[-O FMT] [-o OPTS] [OPTION]... FILE",
			     "[-O FMT] [-o OPTS] [OPTION]... --size SIZE"),
	.options = options,
	.examples = QI_LINES("qimg measure -O qcow2 disk.raw",
			     "qimg measure -O qcow2 --size 100G",
			     "qimg measure -O qcow2 -o cluster_size=2M "
			     "--output json disk.qcow2"),
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
