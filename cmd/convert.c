// SPDX-License-Identifier: MIT
/*
 * convert.c - qimg convert: copy an image into another format
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *source_format, *format;
	struct qi_list options;
	unsigned threads;
	bool compress, force, force_share, dry_run, quiet;
	int output, progress, wait;
} opt = { .format = "raw" };

static const struct qi_option options[] = {
	QI_OPT_TEXT("source-format", 'f', "FMT", &opt.source_format,
		    QI_COMPLETE_FORMAT,
		    "format of the source (found by probing)"),
	QI_OPT_TEXT("target-format", 'O', "FMT", &opt.format,
		    QI_COMPLETE_FORMAT, "format of the target (raw)"),
	QI_OPT_LIST("target-format-options", 'o', "OPTS", &opt.options,
		    QI_COMPLETE_NONE,
		    "format options NAME=VALUE,...; 'help' lists them"),
	QI_OPT_FLAG("compress", 'c', &opt.compress, "compress the target"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_FLAG("force", 0, &opt.force, "replace an existing file"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN(0, &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(const char *path, const struct qi_copy_stats *stats)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(path));
	qi_json_member(&j, "format", qi_json_text(opt.format));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "read", qi_json_uint(stats->read));
	qi_json_member(&j, "written", qi_json_uint(stats->written));
	qi_json_member(&j, "zero", qi_json_uint(stats->zero));
	qi_json_end(&j, 0, NULL);
}

static int convert(struct qi_node *source, const char *path,
		   struct qi_copy_stats *stats, struct qi_error *e)
{
	QI_AUTO_TEXT char *joined = qi_join_options(&opt.options);
	struct qi_convert c = {
		.target = { .format = opt.format,
			    .options = joined,
			    .size = qi_node_facts(source)->size,
			    .replace = opt.force,
			    .ignores_size_option = true },
		.compress = opt.compress,
		.threads = opt.threads,
	};
	uint64_t size;
	int ret;

	if (opt.dry_run)
		return qi_try_create(path, &c.target, &size, e);
	c.progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "convert");
	ret = qi_convert_image(source, path, &c, stats, e);
	qi_progress_end(ret);
	return ret;
}

static void print_dry_run(const struct qi_node *source, const char *path)
{
	QI_AUTO_TEXT char *from = qi_safe(qi_node_facts(source)->path);
	QI_AUTO_TEXT char *to = qi_safe(path);
	char human[QI_HUMAN];

	printf("would convert '%s' to '%s': %s, %s\n", from, to, opt.format,
	       qi_human_size(human, qi_node_facts(source)->size));
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = {
		.format = opt.source_format,
		.access = QI_ACCESS_READ,
		.force_share = opt.force_share,
	};
	struct qi_copy_stats stats = { 0 };
	struct qi_error e = { "" };
	struct qi_node *source;
	int ret;

	if (qi_options_asked(&opt.options, opt.format, &ret))
		return ret;
	if (argc < 2)
		return qi_usage("convert: give a source and a target");
	ret = qi_open_image(g, argv[0], &how, opt.wait, &source, &e);
	if (ret >= 0)
		ret = convert(source, argv[1], &stats, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(argv[1], &stats);
	else if (opt.dry_run)
		print_dry_run(source, argv[1]);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_convert = {
	.name = "convert",
	.summary = "copy an image into another format",
	.synopsis = QI_LINES(
		"[-f FMT] [-O FMT] [-c] [-o OPTS] [OPTION]... SOURCE TARGET"),
	.options = options,
	.examples = QI_LINES("qimg convert -O qcow2 -c disk.raw disk.qcow2",
			     "qimg convert -p disk.qcow2 disk.raw"),
	.max_args = 2,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
