// SPDX-License-Identifier: MIT
/*
 * commit.c - qimg commit: merge the head of a drive into the layer below, or
 * an image into one below it, as qemu-img does
 */
#include <stdio.h>

#include "cmd/common/change.h"
#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/pace.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *drive, *into, *format, *base;
	uint64_t rate;
	unsigned threads;
	bool keep, strict, dry_run, quiet;
	int output, progress, wait;
	struct qi_list scan;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE,
		    "the drive, whose bitmaps and name follow"),
	QI_OPT_TEXT("into", 0, "NODE", &opt.into, QI_COMPLETE_FILE,
		    "the layer that becomes the head (the next below)"),
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_TEXT("base", 'b', "FILE", &opt.base, QI_COMPLETE_FILE,
		    "the layer to write into (the next below); implies -d"),
	QI_OPT_FLAG("drop", 'd', &opt.keep,
		    "do not empty the image, it will be dropped"),
	QI_OPT_SCAN(&opt.scan),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_SIZE("rate-limit", 'r', &opt.rate,
		    "copy at most so many bytes a second"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static struct qi_progress start_progress(void)
{
	return qi_pace(qi_progress_start(opt.quiet ? 0 : opt.progress,
					 "commit"),
		       opt.rate);
}

/* -------------------------------------------------------------- a drive */

static void print_text(const char *drive, const char *old_head,
		       const char *new_head, uint64_t bytes)
{
	char human[QI_HUMAN];

	/* The layer below may have got the name of the old head. */
	printf("drive '%s': its head was merged into %s below, %s copied; the "
	       "head is now '%s'\n",
	       drive, opt.into ? "a layer" : "the layer",
	       qi_human_size(human, bytes), new_head);
}

static int open_drive(struct qi_graph *g, struct qi_drive **d,
		      struct qi_commit *c, struct qi_error *e)
{
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_WRITE,
			       .strict = opt.strict };
	int ret = qi_scan_folders(g, &opt.scan, e);

	if (ret >= 0)
		ret = qi_drive_add(g, opt.drive, &how, d, e);
	if (ret >= 0)
		ret = qi_commit_prepare(*d, c, e);
	return ret < 0 ? ret : qi_graph_lock(g, opt.wait, e);
}

static int run_drive(void)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_commit c = { .into = opt.into, .threads = opt.threads };
	struct qi_change_report report = { .drive = opt.drive,
					   .old_key = "merged",
					   .has_bytes = true,
					   .output = opt.output,
					   .dry_run = opt.dry_run,
					   .quiet = opt.quiet,
					   .print = print_text };
	struct qi_change change = { .bytes = 0 };
	struct qi_error e = { "" };
	int ret;

	ret = open_drive(g, &d, &c, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	c.progress = start_progress();
	ret = qi_commit_drive(d, &c, &plan, opt.dry_run, &change, &e);
	qi_progress_end(ret);
	return ret < 0 ? qi_report(ret, &e) :
			 qi_report_change(&report, &change, &plan);
}

/* ------------------------------------------------- an image, as qemu-img */

static int commit_image(struct qi_graph *g, struct qi_commit_image *c,
			const char *path, struct qi_plan *plan, uint64_t *bytes,
			struct qi_error *e)
{
	int ret = qi_scan_folders(g, &opt.scan, e);

	if (ret >= 0)
		ret = qi_commit_open(g, path, c, e);
	if (ret >= 0)
		ret = qi_graph_lock(g, opt.wait, e);
	if (ret < 0)
		return ret;
	c->progress = start_progress();
	ret = qi_commit_run(c, plan, opt.dry_run, bytes, e);
	qi_progress_end(ret);
	return ret;
}

static void print_json(const struct qi_commit_image *c, const char *path,
		       uint64_t bytes, const struct qi_plan *plan)
{
	const char *base = qi_node_facts(c->below)->path;
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(path));
	qi_json_member(&j, "base", qi_json_text(base));
	qi_json_member(&j, "bytes",
		       qi_json_uint(opt.dry_run ? plan->bytes : bytes));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

static int run_image(const char *path)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_commit_image c = { .format = opt.format,
				     .base = opt.base,
				     .keep = opt.keep,
				     .threads = opt.threads };
	struct qi_error e = { "" };
	uint64_t bytes = 0;
	int ret = commit_image(g, &c, path, &plan, &bytes, &e);

	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(&c, path, bytes, &plan);
	else if (opt.dry_run)
		qi_print_plan(&plan);
	else if (!opt.quiet)
		puts("Image committed.");
	return QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	if (!opt.drive == !argc)
		return qi_usage("commit: give --drive, or one image");
	if (!opt.drive && opt.into)
		return qi_usage("commit: --into is for a drive; -b names the "
				"layer that an image is written into");
	if (opt.strict && !opt.drive)
		return qi_usage("commit: --strict is for --drive");
	if (!opt.drive)
		return run_image(argv[0]);
	if (opt.base || opt.keep)
		return qi_usage("commit: -b and -d are for an image, and "
				"--drive for a drive");
	return run_drive();
}

const struct qi_command qi_command_commit = {
	.name = "commit",
	.summary = "merge a layer into one below it",
	.synopsis = QI_LINES("--drive PATH [--into NODE] [OPTION]...",
			     "[-f FMT] [-b FILE] [-d] [-r RATE] [OPTION]... "
			     "IMAGE"),
	.options = options,
	.examples = QI_LINES("qimg commit --drive vm.qcow2 -p",
			     "qimg commit --drive vm.qcow2 --dry-run",
			     "qimg commit --drive vm --into base.qcow2",
			     "qimg commit overlay.qcow2"),
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.run = run,
};
