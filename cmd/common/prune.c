// SPDX-License-Identifier: MIT
/*
 * prune.c - qimg backup prune, merge, pin, unpin
 */
#include "cmd/common/repository.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	struct qi_keep keep;
	unsigned threads;
	bool dry_run, quiet;
	int output, progress, wait;
} opt;

#define COMMON_OPTIONS                                                    \
	QI_OPT_THREADS(&opt.threads), QI_OPT_OUTPUT(&opt.output),         \
		QI_OPT_DRY_RUN('n', &opt.dry_run),                        \
		QI_OPT_PROGRESS(&opt.progress), QI_OPT_QUIET(&opt.quiet), \
		QI_OPT_WAIT(&opt.wait)

static const struct qi_option prune_options[] = {
	QI_OPT_COUNT("keep-last", &opt.keep.last, "the last N points"),
	QI_OPT_COUNT(
		"keep-hourly", &opt.keep.hourly,
		"the last point of each of the last N hours that have one"),
	QI_OPT_COUNT("keep-daily", &opt.keep.daily, "the same of days"),
	QI_OPT_COUNT("keep-weekly", &opt.keep.weekly, "the same of weeks"),
	QI_OPT_COUNT("keep-monthly", &opt.keep.monthly, "the same of months"),
	QI_OPT_COUNT("keep-yearly", &opt.keep.yearly, "the same of years"),
	COMMON_OPTIONS,
	QI_OPTION_END,
};
static const struct qi_option merge_options[] = {
	COMMON_OPTIONS,
	QI_OPTION_END,
};
static const struct qi_option pin_options[] = {
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* Points are read anew by it. */
static int open_to_change(const char *path, struct qi_repo **r,
			  struct qi_error *e)
{
	int ret = qi_repo_open(path, QI_REPO_OPEN, r, e);

	return ret < 0 ? ret : qi_repo_lock(*r, opt.wait, e);
}

/* --------------------------------------------------------- prune, merge */

static void print_pruned(const char *repo, const struct qi_pruned *p,
			 const struct qi_plan *plan)
{
	char human[QI_HUMAN];
	struct qi_json j;

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_member(&j, "repository", qi_json_text(repo));
		qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
		qi_json_member(&j, "removed", qi_json_uint(p->removed));
		qi_json_member(&j, "merged", qi_json_uint(p->merged));
		qi_json_member(&j, "freed", qi_json_uint(p->freed));
		qi_json_member(&j, "steps", qi_json_plan(plan));
		qi_json_end(&j, 0, NULL);
	} else if (opt.dry_run) {
		qi_print_plan(plan);
	} else if (!opt.quiet) {
		printf("removed %zu point%s (%s of files), %zu rest%s on "
		       "another one now\n",
		       p->removed, p->removed == 1 ? "" : "s",
		       qi_human_size(human, p->freed), p->merged,
		       p->merged == 1 ? "s" : "");
	}
}

static int prune(struct qi_repo *r, const char *repo, struct qi_prune *how)
{
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_error e = { "" };
	struct qi_pruned pruned;
	int ret;

	how->threads = opt.threads;
	how->progress =
		qi_progress_start(opt.quiet ? 0 : opt.progress, "prune");
	ret = qi_repo_prune(r, how, &plan, opt.dry_run, &pruned, &e);
	qi_progress_end(ret);
	if (ret < 0)
		return qi_report(ret, &e);
	print_pruned(repo, &pruned, &plan);
	return QI_EXIT_OK;
}

static int run_prune(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	struct qi_prune how = { .keep = opt.keep };
	const struct qi_keep *k = &opt.keep;
	struct qi_error e = { "" };
	int ret;

	if (!(k->last || k->hourly || k->daily || k->weekly || k->monthly ||
	      k->yearly))
		return qi_usage("backup prune: say what to keep: --keep-last, "
				"--keep-hourly, --keep-daily, --keep-weekly, "
				"--keep-monthly or --keep-yearly");
	ret = open_to_change(argv[0], &r, &e);
	return ret < 0 ? qi_report(ret, &e) : prune(r, argv[0], &how);
}

/* A..B */
static int find_points(struct qi_repo *r, const char *range,
		       struct qi_prune *how, struct qi_error *e)
{
	const char *dots = strstr(range, "..");
	QI_AUTO_TEXT char *first = NULL;

	if (!dots)
		return qi_fail(e, EINVAL,
			       "'%s' is no range of points; it has the form "
			       "A..B",
			       range);
	first = qi_xprintf("%.*s", (int)(dots - range), range);
	how->first = qi_repo_find(r, first, e);
	if (how->first)
		how->last = qi_repo_find(r, dots + 2, e);
	return how->first && how->last ? 0 : -ENOENT;
}

static int run_merge(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	struct qi_prune how = { .first = NULL };
	struct qi_error e = { "" };
	int ret = open_to_change(argv[0], &r, &e);

	if (ret >= 0)
		ret = find_points(r, argv[1], &how, &e);
	return ret < 0 ? qi_report(ret, &e) : prune(r, argv[0], &how);
}

/* ----------------------------------------------------------- pin, unpin */

static int pin(char **argv, bool is_pinned)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	QI_AUTO_TEXT char *id = NULL;
	const struct qi_point *p;
	struct qi_error e = { "" };
	int ret = open_to_change(argv[0], &r, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	p = qi_repo_find(r, argv[1], &e);
	if (!p)
		return qi_report(-ENOENT, &e);
	id = qi_xstrdup(p->id);
	ret = qi_repo_pin(r, p, is_pinned, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	if (!opt.quiet)
		printf("point %s is %s\n", id,
		       is_pinned ? "pinned" : "not pinned any more");
	return QI_EXIT_OK;
}

static int run_pin(int argc, char **argv)
{
	return pin(argv, true);
}

static int run_unpin(int argc, char **argv)
{
	return pin(argv, false);
}

/* ------------------------------------------------------------- commands */

const struct qi_command qi_backup_prune = {
	.name = "prune",
	.summary = "remove old points",
	.synopsis = QI_LINES("--keep-... N... [OPTION]... REPO"),
	.options = prune_options,
	.examples = QI_LINES("qimg backup prune --keep-last 3 --keep-daily 7 "
			     "--keep-weekly 4 --keep-monthly 12 /backup/vm"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_prune,
};
const struct qi_command qi_backup_merge = {
	.name = "merge",
	.summary = "make one point of several that follow each other",
	.synopsis = QI_LINES("[OPTION]... REPO A..B"),
	.options = merge_options,
	.examples = QI_LINES("qimg backup merge /backup/vm 000002..000009"),
	.min_args = 2,
	.max_args = 2,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_merge,
};
const struct qi_command qi_backup_pin = {
	.name = "pin",
	.summary = "keep a point, whatever prune is told",
	.synopsis = QI_LINES("[OPTION]... REPO POINT"),
	.options = pin_options,
	.examples = QI_LINES("qimg backup pin /backup/vm 000005"),
	.min_args = 2,
	.max_args = 2,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_pin,
};
const struct qi_command qi_backup_unpin = {
	.name = "unpin",
	.summary = "let prune remove a point again",
	.synopsis = QI_LINES("[OPTION]... REPO POINT"),
	.options = pin_options,
	.examples = QI_LINES("qimg backup unpin /backup/vm 000005"),
	.min_args = 2,
	.max_args = 2,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_unpin,
};
