// SPDX-License-Identifier: MIT
/*
 * dd.c - qimg dd: copy a part of a disk into a new image
 */
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/dd.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *format, *target_format;
	struct qi_list options;
	bool force, force_share, quiet;
	int output, progress, wait;
} opt = { .target_format = "raw" };

static const struct qi_option options[] = {
	QI_OPT_TEXT("source-format", 'f', "FMT", &opt.format,
		    QI_COMPLETE_FORMAT,
		    "format of the source (found by probing)"),
	QI_OPT_TEXT("target-format", 'O', "FMT", &opt.target_format,
		    QI_COMPLETE_FORMAT, "format of the target (raw)"),
	QI_OPT_LIST("target-format-options", 'o', "OPTS", &opt.options,
		    QI_COMPLETE_NONE,
		    "format options NAME=VALUE,...; 'help' lists them"),
	QI_OPT_FLAG("force", 0, &opt.force, "replace an existing file"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* An exit code after a message, or 0. */
static int take_operands(struct qi_dd *d, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		struct qi_dd_place p;
		int ret = 0;

		if (!qi_dd_operand(d, argv[i], &p))
			return qi_usage("dd: '%s' is none of bs=, count=, "
					"skip=, if= and of=",
					argv[i]);
		if (p.text)
			*p.text = p.value;
		else
			ret = qi_read_size(p.name, p.value, p.number);
		if (ret)
			return ret;
		if (p.number && (*p.number < p.min || *p.number > p.max))
			return qi_usage("dd: %s is from %llu to %llu", p.name,
					(unsigned long long)p.min,
					(unsigned long long)p.max);
	}
	return d->in && d->out ? 0 : qi_usage("dd: give if= and of=");
}

static int copy(const struct qi_dd *d, struct qi_node *source,
		struct qi_copy_stats *stats, struct qi_error *e)
{
	QI_AUTO_TEXT char *joined = qi_join_options(&opt.options);
	struct qi_convert c = {
		.target = { .format = opt.target_format,
			    .options = joined,
			    .replace = opt.force,
			    .ignores_size_option = true },
	};
	int ret;

	c.progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "dd");
	ret = qi_convert_image(source, d->out, &c, stats, e);
	qi_progress_end(ret);
	return ret;
}

static void print_json(const struct qi_dd *d, uint64_t off, uint64_t len,
		       const struct qi_copy_stats *stats)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(d->out));
	qi_json_member(&j, "format", qi_json_text(opt.target_format));
	qi_json_member(&j, "offset", qi_json_uint(off));
	qi_json_member(&j, "length", qi_json_uint(len));
	qi_json_member(&j, "read", qi_json_uint(stats->read));
	qi_json_member(&j, "written", qi_json_uint(stats->written));
	qi_json_member(&j, "zero", qi_json_uint(stats->zero));
	qi_json_end(&j, 0, NULL);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_READ,
			       .force_share = opt.force_share };
	struct qi_copy_stats stats = { 0 };
	struct qi_dd d = QI_DD_ALL;
	struct qi_slice part = { 0 };
	struct qi_error e = { "", "" };
	struct qi_node *source;
	int ret;

	if (qi_options_asked(&opt.options, opt.target_format, &ret))
		return ret;
	ret = take_operands(&d, argc, argv);
	if (ret)
		return ret;
	ret = qi_open_image(g, d.in, &how, opt.wait, &part.node, &e);
	if (ret >= 0 && !qi_dd_range(&d, qi_node_facts(part.node)->size,
				     &part.off, &part.len))
		return qi_usage("dd: skip= goes past the end of '%s', or of "
				"count=",
				d.in);
	if (ret >= 0)
		ret = qi_join_node(g, &part, 1, &source, &e);
	if (ret >= 0)
		ret = copy(&d, source, &stats, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(&d, part.off, part.len, &stats);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_dd = {
	.name = "dd",
	.summary = "copy a part of a disk into a new image",
	.synopsis = QI_LINES("[-f FMT] [-O FMT] [-o OPTS] [OPTION]... "
			     "[bs=SIZE] [count=N] [skip=N] if=FILE of=FILE"),
	.options = options,
	.examples = QI_LINES("qimg dd bs=512 count=1 if=disk.qcow2 of=mbr.raw",
			     "qimg dd -O qcow2 bs=1M skip=1 if=disk.raw "
			     "of=part.qcow2"),
	.max_args = QI_ARGS_ANY,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
