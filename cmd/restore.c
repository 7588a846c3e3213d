// SPDX-License-Identifier: MIT
/*
 * restore.c - qimg restore: make an image of a point of a repository
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/command.h"
#include "cmd/common/copy.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *from, *at, *drive, *format;
	struct qi_list options;
	unsigned threads;
	bool compress, force, dry_run, quiet;
	int output, progress, wait;
} opt = { .at = "last", .format = "qcow2" };

static const struct qi_option options[] = {
	QI_OPT_TEXT("from", 0, "REPO", &opt.from, QI_COMPLETE_FOLDER,
		    "the repository"),
	QI_OPT_TEXT("at", 0, "POINT|TIME", &opt.at, QI_COMPLETE_POINT,
		    "the point, or the last not after a time (last)"),
	QI_OPT_TEXT("drive", 0, "NAME", &opt.drive, QI_COMPLETE_NONE,
		    "which drive, where the point has several"),
	QI_OPT_TEXT("target-format", 'O', "FMT", &opt.format,
		    QI_COMPLETE_FORMAT, "format of the target (qcow2)"),
	QI_OPT_LIST("target-format-options", 'o', "OPTS", &opt.options,
		    QI_COMPLETE_NONE,
		    "format options NAME=VALUE,...; 'help' lists them"),
	QI_OPT_FLAG("compress", 'c', &opt.compress, "compress the target"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_FLAG("force", 0, &opt.force, "replace an existing file"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* "'a', 'b'": what the point has. Freed by the caller. */
static char *drive_names(const struct qi_point *p)
{
	char *names = qi_xstrdup("");

	for (size_t i = 0; i < p->drive_count; i++) {
		char *longer = qi_xprintf("%s%s'%s'", names, i ? ", " : "",
					  p->drives[i].name);

		free(names);
		names = longer;
	}
	return names;
}

/* Sets *drive to the name of the drive to restore, or returns an exit code. */
static int choose_drive(const struct qi_point *p, const char **drive)
{
	QI_AUTO_TEXT char *names = drive_names(p);

	*drive = opt.drive;
	if (p->problem)
		return 0; /* told when it is opened */
	if (!opt.drive && p->drive_count > 1)
		return qi_usage("point '%s' has %zu drives; choose with "
				"--drive: %s",
				p->id, p->drive_count, names);
	for (size_t i = 0; i < p->drive_count; i++) {
		if (opt.drive && strcmp(opt.drive, p->drives[i].name) != 0)
			continue;
		*drive = p->drives[i].name;
		return 0;
	}
	qi_say_error("point '%s' has no drive '%s'; it has %s", p->id,
		     opt.drive, names);
	return QI_EXIT_FAILED;
}

static int convert(struct qi_node *source, const char *target,
		   struct qi_expected *expected, struct qi_copy_stats *stats,
		   struct qi_error *e)
{
	struct qi_convert c = {
		.target = { .format = opt.format, .replace = opt.force },
		.compress = opt.compress,
		.threads = opt.threads,
		.expected = expected,
	};

	return qi_copy_image(source, target, "restore", &c, &opt.options,
			     opt.quiet ? 0 : opt.progress, opt.dry_run, stats,
			     e);
}

static void print_json(const struct qi_point *p, const char *drive,
		       const char *target, const struct qi_copy_stats *stats)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "point", qi_json_text(p->id));
	qi_json_member(&j, "drive", qi_json_text(drive));
	qi_json_member(&j, "filename", qi_json_text(target));
	qi_json_member(&j, "format", qi_json_text(opt.format));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "written", qi_json_uint(stats->written));
	qi_json_member(&j, "zero", qi_json_uint(stats->zero));
	qi_json_end(&j, 0, NULL);
}

static void print_text(const struct qi_point *p, const char *drive,
		       const char *target, uint64_t size)
{
	QI_AUTO_TEXT char *safe = qi_safe(target);
	QI_AUTO_TEXT char *name = qi_safe(drive);
	char human[QI_HUMAN];

	printf("%s drive '%s' of point '%s' to '%s': %s, %s\n",
	       opt.dry_run ? "would restore" : "restored", name, p->id, safe,
	       opt.format, qi_human_size(human, size));
}

static int restore(struct qi_repo *r, const struct qi_point *p,
		   const char *drive, const char *target)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_copy_stats stats = { 0 };
	struct qi_error e = { "" };
	struct qi_expected *expected = NULL;
	struct qi_node *source;
	int ret = qi_repo_open_image(r, p, drive, g, &source, &e);

	if (ret >= 0)
		ret = qi_graph_lock(g, opt.wait, &e);
	if (ret >= 0)
		ret = qi_repo_expected(r, p, drive, &expected, &e);
	if (ret >= 0)
		ret = convert(source, target, expected, &stats, &e);
	qi_expected_free(expected);
	if (ret < 0)
		return qi_report(ret, &e);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(p, drive, target, &stats);
	else if (!opt.quiet)
		print_text(p, drive, target, qi_node_facts(source)->size);
	return QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	const struct qi_point *p;
	const char *drive;
	struct qi_error e = { "" };
	int ret;

	if (qi_options_asked(&opt.options, opt.format, &ret))
		return ret;
	if (argc < 1)
		return qi_usage("restore: the name of the target is missing");
	if (!opt.from)
		return qi_usage("restore: --from is missing");
	ret = qi_repo_open(opt.from, QI_REPO_OPEN, &r, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	p = qi_repo_find(r, opt.at, &e);
	if (!p)
		return qi_report(-ENOENT, &e);
	ret = choose_drive(p, &drive);
	return ret ? ret : restore(r, p, drive, argv[0]);
}

const struct qi_command qi_command_restore = {
	.name = "restore",
	.summary = "make an image of a point of a repository",
	.synopsis = QI_LINES(
		"--from REPO [--at POINT|TIME] [--drive NAME] [OPTION]... "
		"TARGET"),
	.options = options,
	.examples = QI_LINES(
		"qimg restore --from /backup/vm vm.qcow2",
		"qimg restore --from /backup/vm --at 2026-03-01 -O raw vm.raw"),
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.run = run,
};
