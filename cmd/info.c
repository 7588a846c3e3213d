// SPDX-License-Identifier: MIT
/*
 * info.c - qimg info: what an image is
 */
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/info.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *format;
	bool backing_chain, force_share;
	int output;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_FLAG("backing-chain", 0, &opt.backing_chain,
		    "show the backing files too"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPTION_END,
};

/* Show n and, with --backing-chain, what is below it. */
static int show(struct qi_node *n, struct qi_error *e)
{
	json_t *chain = json_array();
	bool first = true;
	int ret = 0;

	for (; n; n = opt.backing_chain ? qi_node_facts(n)->backing : NULL) {
		struct qi_info r;

		ret = qi_info_collect(&r, n, e);
		if (ret >= 0 && opt.output == QI_OUTPUT_JSON) {
			json_array_append_new(chain, qi_info_json(&r, true));
		} else if (ret >= 0) {
			if (!first)
				putchar('\n');
			qi_info_text(&r, true);
		}
		first = false;
		qi_info_release(&r);
		if (ret < 0)
			break;
	}
	if (ret >= 0 && opt.output == QI_OUTPUT_JSON)
		qi_json_print(json_incref(
			opt.backing_chain ? chain : json_array_get(chain, 0)));
	json_decref(chain);
	return ret;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = {
		.format = opt.format,
		.access = QI_ACCESS_NONE,
		.force_share = opt.force_share,
		.no_backing = !opt.backing_chain,
	};
	struct qi_error e = { "" };
	struct qi_node *n;
	/* Nothing is locked: an image in use can be asked, too. */
	int ret = qi_graph_add(g, argv[0], &how, &n, &e);

	if (ret >= 0)
		ret = show(n, &e);
	return ret < 0 ? qi_report_as(ret, &e, QI_EXIT_FAILED) : QI_EXIT_OK;
}

const struct qi_command qi_command_info = {
	.name = "info",
	.summary = "show what an image is",
	.synopsis = QI_LINES("[OPTION]... FILE"),
	.options = options,
	.examples =
		QI_LINES("qimg info disk.qcow2",
			 "qimg info --backing-chain --output json disk.qcow2"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
