// SPDX-License-Identifier: MIT
/*
 * snapshot.c - qimg snapshot: layers of a drive
 */
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *drive, *overlay;
	bool dry_run, quiet;
	int output, wait;
} opt;

static const struct qi_option create_options[] = {
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE,
		    "the drive"),
	QI_OPT_TEXT("overlay", 0, "PATH", &opt.overlay, QI_COMPLETE_FILE,
		    "name of the new head, where the drive is a link"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(const struct qi_change *c, const struct qi_plan *plan)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "drive", qi_json_text(opt.drive));
	qi_json_member(&j, "snapshot", qi_json_text(c->old_head));
	qi_json_member(&j, "head", qi_json_text(c->new_head));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

static void print_text(const struct qi_change *c)
{
	QI_AUTO_TEXT char *drive = qi_safe(opt.drive);
	QI_AUTO_TEXT char *old = qi_safe(c->old_head);
	QI_AUTO_TEXT char *new = qi_safe(c->new_head);

	printf("drive '%s': '%s' is the snapshot, '%s' is the head\n", drive,
	       old, new);
}

static int run_create(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_open how = { .access = QI_ACCESS_WRITE };
	struct qi_snapshot s = {
		.tag = argc ? argv[0] : NULL,
		.overlay = opt.overlay,
	};
	struct qi_change change = { .bytes = 0 };
	struct qi_error e = { "" };
	int ret;

	if (!opt.drive)
		return qi_usage("snapshot create: --drive is missing");
	ret = qi_open_drive(g, opt.drive, &how, opt.wait, &d, &e);
	if (ret >= 0)
		ret = qi_snapshot_create(d, &s, &plan, opt.dry_run, &change,
					 &e);
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

static const struct qi_command create = {
	.name = "create",
	.summary = "freeze the head of a drive and put a new one on top",
	.synopsis = QI_LINES("--drive PATH [--overlay PATH] [OPTION]... [TAG]"),
	.options = create_options,
	.examples = QI_LINES(
		"qimg snapshot create --drive vm.qcow2 before-upgrade"),
	.max_args = 1,
	.run = run_create,
};

const struct qi_command qi_command_snapshot = {
	.name = "snapshot",
	.summary = "work with the layers of a drive",
	.synopsis = QI_LINES("SUBCOMMAND [OPTION]... [ARGUMENT]..."),
	.subcommands = (const struct qi_command *const[]){ &create, NULL },
};
