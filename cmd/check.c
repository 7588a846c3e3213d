// SPDX-License-Identifier: MIT
/*
 * check.c - qimg check: is an image consistent
 */
#include <errno.h>
#include <stdio.h>

#include "cmd/common/checked.h"
#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *format;
	bool force_share, quiet, dry_run;
	int output, wait, repair;
} opt = { .repair = -1 };

/* In the order of enum qi_repair, without its first. */
static const char *const repair_choices[] = { "leaks", "all", NULL };

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	{ .name = "repair",
	  .letter = 'r',
	  .arg = "leaks|all",
	  .help = "repair leaked clusters, or all that can be",
	  .type = QI_OPTION_CHOICE,
	  .value = &opt.repair,
	  .choices = repair_choices },
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	bool writes = opt.repair >= 0 && !opt.dry_run;
	struct qi_open how = {
		.format = opt.format,
		.access = writes ? QI_ACCESS_WRITE : QI_ACCESS_READ,
		.force_share = opt.force_share,
		.no_backing = true,
		.to_check = true,
	};
	struct qi_check check = { .finding = qi_checked_finding };
	bool shown = opt.output == QI_OUTPUT_HUMAN && !opt.quiet;
	struct qi_error e = { "" };
	struct qi_node *n;
	int ret;

	if (writes && opt.force_share)
		return qi_usage("a repair writes: --force-share goes with "
				"--dry-run alone");
	ret = qi_open_image(g, argv[0], &how, opt.wait, &n, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_CHECK_NOT_DONE);
	if (!opt.dry_run)
		check.repair = (enum qi_repair)(opt.repair + 1);
	ret = qi_checked_run(n, &check, shown, &e);
	if (ret < 0)
		return qi_report_as(ret, &e,
				    ret == -ENOTSUP ? QI_CHECK_UNSUPPORTED :
						      QI_CHECK_NOT_DONE);
	if (opt.output == QI_OUTPUT_JSON)
		qi_json_print(qi_checked_json(&check, qi_node_facts(n)));
	else if (!opt.quiet)
		qi_checked_text(&check);
	return qi_checked_code(&check);
}

const struct qi_command qi_command_check = {
	.name = "check",
	.summary = "check an image for inconsistencies",
	.synopsis = QI_LINES("[OPTION]... FILE"),
	.options = options,
	.examples = QI_LINES("qimg check disk.qcow2",
			     "qimg check --output json disk.qcow2",
			     "qimg check --repair all disk.qcow2"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
