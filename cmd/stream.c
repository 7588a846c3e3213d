// SPDX-License-Identifier: MIT
/*
 * stream.c - qimg stream: pull data of lower layers up into the head
 */
#include <stdio.h>

#include "cmd/common/change.h"
#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *drive, *base;
	uint64_t offset, length;
	unsigned threads;
	bool compress, strict, dry_run, quiet;
	int output, progress, wait;
} opt = { .offset = UINT64_MAX, .length = UINT64_MAX }; /* not given */

static const struct qi_option options[] = {
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE,
		    "the drive"),
	QI_OPT_TEXT("base", 'b', "NODE", &opt.base, QI_COMPLETE_FILE,
		    "the layer that the head will rest on (none)"),
	QI_OPT_SIZE("offset", 0, &opt.offset,
		    "pull a range alone, from here on (0)"),
	QI_OPT_SIZE("length", 0, &opt.length,
		    "bytes of the range (to the end)"),
	QI_OPT_FLAG("compress", 'c', &opt.compress, "compress what is copied"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static bool is_range(void)
{
	return opt.offset != UINT64_MAX || opt.length != UINT64_MAX;
}

static void print_text(const char *drive, const char *base, const char *head,
		       uint64_t bytes)
{
	char human[QI_HUMAN];

	printf("drive '%s': %s pulled up into '%s'", drive,
	       qi_human_size(human, bytes), head);
	if (is_range())
		putchar('\n');
	else if (*base)
		printf(", which rests on '%s'\n", base);
	else
		puts(", which rests on nothing");
}

static int stream(struct qi_graph *g, struct qi_stream *s, struct qi_drive **d,
		  struct qi_plan *plan, struct qi_change *change,
		  struct qi_error *e)
{
	struct qi_open how = { .access = QI_ACCESS_WRITE,
			       .strict = opt.strict };
	int ret = qi_drive_add(g, opt.drive, &how, d, e);

	if (ret >= 0)
		ret = qi_stream_prepare(*d, s, e);
	if (ret >= 0)
		ret = qi_graph_lock(g, opt.wait, e);
	if (ret < 0)
		return ret;
	s->progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "stream");
	ret = qi_stream_drive(*d, s, plan, opt.dry_run, change, e);
	qi_progress_end(ret);
	return ret;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_stream s = { .base = opt.base,
			       .compress = opt.compress,
			       .threads = opt.threads };
	struct qi_change_report report = { .drive = opt.drive,
					   .old_key = "base",
					   .has_bytes = true,
					   .output = opt.output,
					   .dry_run = opt.dry_run,
					   .quiet = opt.quiet,
					   .print = print_text };
	struct qi_change change = { .bytes = 0 };
	struct qi_error e = { "" };
	int ret;

	if (!opt.drive)
		return qi_usage("stream: --drive is missing");
	if (!opt.length)
		return qi_usage("stream: --length 0 is nothing");
	if (is_range()) {
		s.offset = opt.offset == UINT64_MAX ? 0 : opt.offset;
		s.length = opt.length;
	}
	ret = stream(g, &s, &d, &plan, &change, &e);
	return ret < 0 ? qi_report(ret, &e) :
			 qi_report_change(&report, &change, &plan);
}

const struct qi_command qi_command_stream = {
	.name = "stream",
	.summary = "pull data of lower layers up into the head of a drive",
	.synopsis = QI_LINES("--drive PATH [--base NODE] [--offset OFFSET] "
			     "[--length LENGTH] [OPTION]..."),
	.options = options,
	.examples = QI_LINES("qimg stream --drive vm.qcow2 -p",
			     "qimg stream --drive vm.qcow2 --base base.qcow2",
			     "qimg stream --drive vm.qcow2 --length 100M"),
	.run = run,
};
