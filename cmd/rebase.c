// SPDX-License-Identifier: MIT
/*
 * rebase.c - qimg rebase: put an image on another backing file
 */
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *format, *backing, *backing_format;
	unsigned threads;
	bool unsafe, compress, dry_run, quiet;
	int output, progress, wait;
	struct qi_list scan;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_TEXT("backing", 'b', "FILE", &opt.backing, QI_COMPLETE_FILE,
		    "the new backing file; '' for none"),
	QI_OPT_TEXT("backing-format", 'F', "FMT", &opt.backing_format,
		    QI_COMPLETE_FORMAT,
		    "format of the new backing file (found by probing)"),
	QI_OPT_FLAG("unsafe", 'u', &opt.unsafe,
		    "change only the name of the backing file"),
	QI_OPT_FLAG("compress", 'c', &opt.compress,
		    "compress what is copied into the image"),
	QI_OPT_SCAN(&opt.scan),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(const char *path, const struct qi_copy_stats *stats,
		       const struct qi_plan *plan)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(path));
	if (opt.backing && *opt.backing)
		qi_json_member(&j, "backing-filename",
			       qi_json_text(opt.backing));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "bytes",
		       qi_json_uint(opt.dry_run ?
					    plan->bytes :
					    stats->written + stats->zero));
	qi_json_member(&j, "written", qi_json_uint(stats->written));
	qi_json_member(&j, "zero", qi_json_uint(stats->zero));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

static int rebase(struct qi_graph *g, const char *path, struct qi_plan *plan,
		  struct qi_copy_stats *stats, struct qi_error *e)
{
	struct qi_rebase r = {
		.format = opt.format,
		.backing_name = opt.backing,
		.backing_format = opt.backing_format,
		.unsafe = opt.unsafe,
		.compress = opt.compress,
		.threads = opt.threads,
	};
	int ret = qi_scan_folders(g, &opt.scan, e);

	if (ret >= 0)
		ret = qi_rebase_open(g, path, &r, e);
	if (ret >= 0)
		ret = qi_graph_lock(g, opt.wait, e);
	if (ret < 0)
		return ret;
	r.progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "rebase");
	ret = qi_rebase_run(&r, plan, opt.dry_run, stats, e);
	qi_progress_end(ret);
	return ret;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_copy_stats stats = { 0 };
	struct qi_error e = { "" };
	int ret;

	if (argc < 1)
		return qi_usage("rebase: the name of the image is missing");
	if (!opt.backing && !opt.unsafe)
		return qi_usage("rebase: give a new backing file (-b), or use "
				"unsafe mode (-u)");
	ret = rebase(g, argv[0], &plan, &stats, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(argv[0], &stats, &plan);
	else if (opt.dry_run)
		qi_print_plan(&plan);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_rebase = {
	.name = "rebase",
	.summary = "put an image on another backing file",
	.synopsis = QI_LINES("-b FILE [-F FMT] [-u] [OPTION]... IMAGE",
			     "-b '' [OPTION]... IMAGE"),
	.options = options,
	.examples = QI_LINES("qimg rebase -b new-base.qcow2 -F qcow2 vm.qcow2",
			     "qimg rebase -b '' vm.qcow2"),
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
