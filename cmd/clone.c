// SPDX-License-Identifier: MIT
/*
 * clone.c - qimg clone: a new drive on a layer of another one
 */
#include <stdio.h>

#include "cmd/common/change.h"
#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *drive, *at, *tag, *unshare;
	bool strict, dry_run, quiet;
	int output, wait;
	struct qi_list scan;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE,
		    "the drive that is cloned"),
	QI_OPT_TEXT("at", 0, "TAG", &opt.at, QI_COMPLETE_TAG,
		    "as it was at this snapshot (as it is now)"),
	QI_OPT_TEXT("tag", 0, "TAG", &opt.tag, QI_COMPLETE_NONE,
		    "name of the snapshot that the drive gets (the time)"),
	QI_OPT_TEXT("unshare", 0, "NODE", &opt.unshare, QI_COMPLETE_FILE,
		    "no clone rests on this layer any more"),
	QI_OPT_SCAN(&opt.scan),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_text(const char *drive, const char *base, const char *clone,
		       uint64_t bytes)
{
	printf("drive '%s': '%s' is a clone, on '%s'\n", drive, clone, base);
}

static int run_clone(const char *path)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_open how = { .access = QI_ACCESS_READ, .strict = opt.strict };
	const struct qi_clone c = { .path = path,
				    .at = opt.at,
				    .tag = opt.tag };
	struct qi_change_report report = { .drive = opt.drive,
					   .old_key = "base",
					   .new_key = "clone",
					   .output = opt.output,
					   .dry_run = opt.dry_run,
					   .quiet = opt.quiet,
					   .print = print_text };
	struct qi_change change = { .bytes = 0 };
	struct qi_error e = { "" };
	int ret = qi_scan_folders(g, &opt.scan, &e);

	if (ret >= 0)
		ret = qi_drive_add(g, opt.drive, &how, &d, &e);
	if (ret >= 0)
		ret = qi_clone_prepare(d, &c, &e);
	if (ret >= 0)
		ret = qi_graph_lock(g, opt.wait, &e);
	if (ret >= 0)
		ret = qi_clone_drive(d, &c, &plan, opt.dry_run, &change, &e);
	return ret < 0 ? qi_report(ret, &e) :
			 qi_report_change(&report, &change, &plan);
}

static void unshare_json(const struct qi_plan *plan)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "node", qi_json_text(opt.unshare));
	qi_json_member(&j, "shared", json_false());
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

static int run_unshare(void)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	QI_AUTO_TEXT char *safe = qi_safe(opt.unshare);
	struct qi_open how = { .access = QI_ACCESS_WRITE, .no_backing = true };
	struct qi_error e = { "" };
	struct qi_node *n;
	int ret = qi_scan_folders(g, &opt.scan, &e);

	if (ret >= 0)
		ret = qi_open_image(g, opt.unshare, &how, opt.wait, &n, &e);
	if (ret >= 0)
		ret = qi_node_unshare(n, &plan, opt.dry_run, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	if (opt.output == QI_OUTPUT_JSON)
		unshare_json(&plan);
	else if (opt.dry_run)
		qi_print_plan(&plan);
	else if (!opt.quiet)
		printf("'%s' is not shared any more\n", safe);
	return QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	if (!opt.drive == !opt.unshare)
		return qi_usage("clone: give --drive and a new path, or "
				"--unshare");
	if (opt.unshare && (argc || opt.at || opt.tag || opt.strict))
		return qi_usage("clone: --unshare stands alone");
	if (opt.unshare)
		return run_unshare();
	if (!argc)
		return qi_usage("clone: the path of the new drive is missing");
	if (opt.at && opt.tag)
		return qi_usage("clone: --tag names a new snapshot, and --at "
				"one that is there: give one of them");
	return run_clone(argv[0]);
}

const struct qi_command qi_command_clone = {
	.name = "clone",
	.summary = "make a new drive on a layer of another one",
	.synopsis = QI_LINES("--drive PATH [--at TAG | --tag TAG] [OPTION]... "
			     "NEWPATH",
			     "--unshare NODE [OPTION]..."),
	.options = options,
	.examples = QI_LINES("qimg clone --drive vm.qcow2 copy.qcow2",
			     "qimg clone --drive vm.qcow2 --at before-upgrade "
			     "copy.qcow2",
			     "qimg clone --unshare base.qcow2"),
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.run = run,
};
