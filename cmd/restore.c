// SPDX-License-Identifier: MIT
/*
 * restore.c - qimg restore: make images of a point of a repository
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *from, *at, *format;
	struct qi_list drives, options;
	unsigned threads;
	bool delta, compress, force, dry_run, quiet;
	int output, progress, wait;
} opt = { .at = "last" };

static const struct qi_option options[] = {
	QI_OPT_TEXT("from", 0, "REPO", &opt.from, QI_COMPLETE_FOLDER,
		    "the repository"),
	QI_OPT_TEXT("at", 0, "POINT|TIME", &opt.at, QI_COMPLETE_POINT,
		    "the point, or the last not after a time (last)"),
	QI_OPT_LIST("drive", 0, "NAME", &opt.drives, QI_COMPLETE_NONE,
		    "which drive; may be repeated (all)"),
	QI_OPT_FLAG("delta", 0, &opt.delta,
		    "write into a target that is there, only what differs"),
	QI_OPT_TEXT("target-format", 'O', "FMT", &opt.format,
		    QI_COMPLETE_FORMAT,
		    "format of the target (that of the drive)"),
	QI_OPT_LIST("target-format-options", 'o', "OPTS", &opt.options,
		    QI_COMPLETE_NONE,
		    "format options NAME=VALUE,... (those of the drive); "
		    "'help' lists them"),
	QI_OPT_FLAG("compress", 'c', &opt.compress, "compress the target"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_FLAG("force", 0, &opt.force,
		    "replace an existing file, or overwrite a device"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* --------------------------------------------------------------- choosing */

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

static bool is_chosen(const char *drive)
{
	for (size_t i = 0; i < opt.drives.count; i++) {
		if (!strcmp(opt.drives.item[i], drive))
			return true;
	}
	return !opt.drives.count;
}

static bool has_drive(const struct qi_point *p, const char *drive)
{
	for (size_t i = 0; i < p->drive_count; i++) {
		if (!strcmp(p->drives[i].name, drive))
			return true;
	}
	return false;
}

/* An existing folder, or what can be nothing else. */
static bool is_folder(const char *path)
{
	size_t n = strlen(path);
	struct stat st;

	return (n && path[n - 1] == '/') ||
	       (!stat(path, &st) && S_ISDIR(st.st_mode));
}

/* Where a drive goes; freed by the caller. */
static char *target_of(const struct qi_point_drive *d, const char *target)
{
	size_t n = strlen(target);

	if (!is_folder(target))
		return qi_xstrdup(target);
	return qi_xprintf("%s%s%s.%s", target, target[n - 1] == '/' ? "" : "/",
			  d->name, opt.format ? opt.format : d->origin.format);
}

/* The drives to restore, or an exit code. */
static int choose_drives(const struct qi_point *p, const char *target,
			 struct qi_restore *r)
{
	QI_AUTO_TEXT char *names = drive_names(p);

	for (size_t i = 0; i < opt.drives.count; i++) {
		if (has_drive(p, opt.drives.item[i]))
			continue;
		qi_say_error("point '%s' has no drive '%s'; it has %s", p->id,
			     opt.drives.item[i], names);
		return QI_EXIT_FAILED;
	}
	for (size_t i = 0; i < p->drive_count; i++) {
		if (!is_chosen(p->drives[i].name))
			continue;
		r->drives = qi_xrealloc(r->drives,
					(r->count + 1) * sizeof(*r->drives));
		r->drives[r->count++] = (struct qi_restored){
			.drive = p->drives[i].name,
			.target = target_of(&p->drives[i], target),
		};
	}
	if (r->count == 1 || is_folder(target))
		return 0;
	return qi_usage("point '%s' has %zu drives; choose one with --drive, "
			"or a folder as target: %s",
			p->id, p->drive_count, names);
}

/* --------------------------------------------------------------- printing */

static void print_json(const struct qi_restore *r)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "point", qi_json_text(r->point->id));
	qi_json_member(&j, "delta", json_boolean(r->delta));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_list_begin(&j, "drives");
	for (size_t i = 0; i < r->count; i++) {
		const struct qi_restored *d = &r->drives[i];

		qi_json_element(
			&j,
			json_pack(
				"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
				"drive", qi_json_text(d->drive), "filename",
				qi_json_text(d->target), "format",
				qi_json_text(d->create->format), "virtual-size",
				qi_json_uint(d->size), "differing",
				r->delta ? qi_json_uint(d->differing) :
					   json_null(),
				"written", qi_json_uint(d->stats.written),
				"zero", qi_json_uint(d->stats.zero), "past-end",
				qi_json_uint(d->past_end), "bitmaps",
				qi_json_uint(d->bitmaps)));
	}
	qi_json_end(&j, 0, NULL);
}

static void print_text(const struct qi_restore *r)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct qi_restored *d = &r->drives[i];
		QI_AUTO_TEXT char *safe = qi_safe(d->target);
		QI_AUTO_TEXT char *name = qi_safe(d->drive);
		char human[QI_HUMAN];

		printf("%s drive '%s' of point '%s' to '%s': %s, %s",
		       opt.dry_run ? "would restore" : "restored", name,
		       r->point->id, safe, d->create->format,
		       qi_human_size(human, d->size));
		if (r->delta)
			printf(", %s differ%s",
			       qi_human_size(human, d->differing),
			       opt.dry_run ? "" : "ed");
		if (d->past_end)
			printf(", %s past its end left as they are",
			       qi_human_size(human, d->past_end));
		putchar('\n');
	}
}

/* ---------------------------------------------------------------- running */

static int plan(struct qi_restore *r, struct qi_error *e)
{
	int ret;

	r->progress =
		qi_progress_start(opt.quiet ? 0 : opt.progress, "compare");
	ret = qi_restore_plan(r, e);
	qi_progress_end(ret);
	for (size_t i = 0; opt.dry_run && ret >= 0 && i < r->count; i++) {
		const struct qi_restored *d = &r->drives[i];
		uint64_t size;

		if (!d->in_place)
			ret = qi_try_create(d->target, d->create, &size, e);
	}
	return ret;
}

static int run_it(struct qi_restore *r, struct qi_error *e)
{
	int ret;

	r->progress =
		qi_progress_start(opt.quiet ? 0 : opt.progress, "restore");
	ret = qi_restore_run(r, e);
	qi_progress_end(ret);
	return ret;
}

static int restore(struct qi_restore *r)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_error e = { "" };
	int ret = qi_restore_open(g, r, &e);

	if (ret >= 0)
		ret = qi_graph_lock(g, opt.wait, &e);
	if (ret >= 0)
		ret = plan(r, &e);
	if (ret >= 0 && !opt.dry_run)
		ret = run_it(r, &e);
	if (ret < 0)
		qi_report(ret, &e);
	else if (opt.output == QI_OUTPUT_JSON)
		print_json(r);
	else if (!opt.quiet)
		print_text(r);
	qi_restore_close(r);
	return ret < 0 ? qi_exit_code(ret) : QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *repo = NULL;
	QI_AUTO_TEXT char *joined = qi_join_options(&opt.options);
	struct qi_restore r = { .format = opt.format,
				.options = joined,
				.delta = opt.delta,
				.replace = opt.force,
				.compress = opt.compress,
				.threads = opt.threads };
	struct qi_error e = { "" };
	int ret;

	if (qi_options_asked(&opt.options, opt.format ? opt.format : "qcow2",
			     &ret))
		return ret;
	if (argc < 1)
		return qi_usage("restore: the name of the target is missing");
	if (!opt.from)
		return qi_usage("restore: --from is missing");
	if (opt.delta && opt.force)
		return qi_usage("restore: --delta and --force do not go "
				"together");
	ret = qi_repo_open(opt.from, QI_REPO_OPEN, &repo, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	r.repo = repo;
	r.point = qi_repo_find(repo, opt.at, &e);
	if (!r.point)
		return qi_report(-ENOENT, &e);
	if (r.point->problem)
		return qi_report(qi_fail(&e, EUCLEAN, "%s", r.point->problem),
				 &e);
	ret = choose_drives(r.point, argv[0], &r);
	if (!ret && qi_restore_check_options(&r, &e) < 0)
		ret = qi_usage("restore: %s", e.text);
	if (!ret)
		ret = restore(&r);
	for (size_t i = 0; i < r.count; i++)
		free((char *)r.drives[i].target);
	free(r.drives);
	return ret;
}

const struct qi_command qi_command_restore = {
	.name = "restore",
	.summary = "make images of a point of a repository",
	.synopsis = QI_LINES(
		"--from REPO [--at POINT|TIME] [--drive NAME]... [OPTION]... "
		"TARGET|FOLDER",
		"--delta --from REPO [--at POINT|TIME] [--drive NAME]... "
		"[OPTION]... TARGET|FOLDER"),
	.options = options,
	.examples = QI_LINES(
		"qimg restore --from /backup/vm vm.qcow2",
		"qimg restore --from /backup/vm --at 2026-03-01 -O raw vm.raw",
		"qimg restore --from /backup/vm --delta --drive vm vm.qcow2",
		"qimg restore --from /backup/vm /srv/images/"),
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.run = run,
};
