// SPDX-License-Identifier: MIT
/*
 * compare.c - qimg compare: do two images have the same content
 */
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/compared.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *format[2];
	bool strict, force_share, quiet;
	int output, progress, wait;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("a-format", 'f', "FMT", &opt.format[0], QI_COMPLETE_FORMAT,
		    "format of the first image (found by probing)"),
	QI_OPT_TEXT("b-format", 'F', "FMT", &opt.format[1], QI_COMPLETE_FORMAT,
		    "format of the second image (found by probing)"),
	QI_OPT_FLAG("strict", 's', &opt.strict,
		    "sizes and allocation have to be equal, too"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(const struct qi_comparison *c)
{
	static const char *const names[] = {
		[QI_COMPARE_EQUAL] = "equal",
		[QI_COMPARE_DIFFERENT] = "different",
		[QI_COMPARE_SIZE] = "size-differs",
		[QI_COMPARE_STATUS] = "allocation-differs",
	};
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "result", json_string(names[c->result]));
	qi_json_member(&j, "size-differs", json_boolean(c->size_differs));
	if (c->result == QI_COMPARE_DIFFERENT || c->result == QI_COMPARE_STATUS)
		qi_json_member(&j, "offset", qi_json_uint(c->off));
	qi_json_end(&j, 0, NULL);
}

static int open_both(struct qi_graph *g, char **path, struct qi_node *node[2],
		     struct qi_error *e)
{
	for (int i = 0; i < 2; i++) {
		struct qi_open how = {
			.format = opt.format[i],
			.access = QI_ACCESS_READ,
			.force_share = opt.force_share,
		};
		int ret = qi_graph_add(g, path[i], &how, &node[i], e);

		if (ret < 0)
			return ret;
	}
	return qi_graph_lock(g, opt.wait, e);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_comparison result = { .result = QI_COMPARE_EQUAL };
	struct qi_progress progress;
	struct qi_error e = { "" };
	struct qi_node *node[2];
	uint64_t size[2];
	int ret = open_both(g, argv, node, &e);

	if (ret < 0)
		return qi_report_as(ret, &e, QI_COMPARED_NOT_OPENED);
	progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "compare");
	ret = qi_compare_images(node[0], node[1], opt.strict, &progress,
				&result, &e);
	qi_progress_end(ret);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_COMPARED_NOT_READ);
	size[0] = qi_node_facts(node[0])->size;
	size[1] = qi_node_facts(node[1])->size;
	if (opt.output == QI_OUTPUT_JSON) {
		print_json(&result);
	} else if (!opt.quiet) {
		if (result.size_differs && result.result != QI_COMPARE_SIZE &&
		    (result.result == QI_COMPARE_EQUAL ||
		     result.off >= size[size[0] > size[1]]))
			qi_compared_warn();
		qi_compared_text(&result);
	}
	return result.result == QI_COMPARE_EQUAL ? QI_COMPARED_EQUAL :
						   QI_COMPARED_DIFFERENT;
}

const struct qi_command qi_command_compare = {
	.name = "compare",
	.summary = "compare the content of two images",
	.synopsis = QI_LINES("[-f FMT] [-F FMT] [-s] [OPTION]... FILE1 FILE2"),
	.options = options,
	.examples = QI_LINES("qimg compare disk.raw disk.qcow2"),
	.min_args = 2,
	.max_args = 2,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
