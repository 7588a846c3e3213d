// SPDX-License-Identifier: MIT
/*
 * commit.c - qimg commit: merge the head of a drive into the layer below
 */
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *drive;
	unsigned threads;
	bool dry_run, quiet;
	int output, progress, wait;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE,
		    "the drive"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(const struct qi_change *c, const struct qi_plan *plan)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "drive", qi_json_text(opt.drive));
	qi_json_member(&j, "merged", qi_json_text(c->old_head));
	qi_json_member(&j, "head", qi_json_text(c->new_head));
	qi_json_member(&j, "bytes", qi_json_uint(c->bytes));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

static void print_text(const struct qi_change *c)
{
	QI_AUTO_TEXT char *drive = qi_safe(opt.drive);
	QI_AUTO_TEXT char *new = qi_safe(c->new_head);
	char human[QI_HUMAN];

	/* The layer below may have got the name of the old head. */
	printf("drive '%s': its head was merged into the layer below, %s "
	       "copied; the head is now '%s'\n",
	       drive, qi_human_size(human, c->bytes), new);
}

/* Opens the drive so that its head and the layer below may be written. */
static int open_drive(struct qi_graph *g, struct qi_drive **d,
		      struct qi_error *e)
{
	struct qi_open how = { .access = QI_ACCESS_WRITE };
	struct qi_node *below;
	int ret = qi_drive_add(g, opt.drive, &how, d, e);

	if (ret < 0)
		return ret;
	below = qi_node_facts(qi_drive_head(*d))->backing;
	if (below)
		qi_node_want(below, QI_ACCESS_WRITE);
	return qi_graph_lock(g, opt.wait, e);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_commit c = { .threads = opt.threads };
	struct qi_change change = { .bytes = 0 };
	struct qi_error e = { "" };
	int ret;

	if (!opt.drive)
		return qi_usage("commit: --drive is missing");
	ret = open_drive(g, &d, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	c.progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "commit");
	ret = qi_commit_drive(d, &c, &plan, opt.dry_run, &change, &e);
	qi_progress_end(ret);
	if (ret < 0)
		return qi_report(ret, &e);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(&change, &plan);
	else if (opt.dry_run)
		qi_print_plan(&plan);
	else if (!opt.quiet)
		print_text(&change);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_commit = {
	.name = "commit",
	.summary = "merge the head of a drive into the layer below",
	.synopsis = QI_LINES("--drive PATH [OPTION]..."),
	.options = options,
	.examples = QI_LINES("qimg commit --drive vm.qcow2 -p",
			     "qimg commit --drive vm.qcow2 --dry-run"),
	.run = run,
};
