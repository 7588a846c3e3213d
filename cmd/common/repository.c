// SPDX-License-Identifier: MIT
/*
 * repository.c - qimg backup list, check
 */
#include "cmd/common/repository.h"

#include <stdio.h>

#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/point.h"
#include "cmd/common/print.h"

static struct {
	bool quiet;
	int output;
} opt;

static const struct qi_option list_options[] = {
	QI_OPT_OUTPUT(&opt.output),
	QI_OPTION_END,
};

static const struct qi_option check_options[] = {
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPTION_END,
};

/* ---------------------------------------------------------------- list */

static int run_list(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	struct qi_error e = { "" };
	const struct qi_point *p;
	struct qi_table table;
	struct qi_json j;
	size_t count;
	int ret = qi_repo_open(argv[0], QI_REPO_OPEN, &r, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	p = qi_repo_points(r, &count);
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_list_begin(&j, "points");
		for (size_t i = 0; i < count; i++)
			qi_json_element(&j, qi_point_json(&p[i]));
		qi_json_end(&j, 0, NULL);
		return QI_EXIT_OK;
	}
	qi_point_table_head(&table);
	for (size_t i = 0; i < count; i++)
		qi_point_table_row(&table, &p[i]);
	qi_table_print(&table);
	return QI_EXIT_OK;
}

/* --------------------------------------------------------------- check */

static void on_check(void *arg, bool is_problem, const char *text)
{
	QI_AUTO_TEXT char *safe = NULL;

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_element(arg,
				json_pack("{s:b, s:o}", "problem", is_problem,
					  "text", qi_json_text(text)));
		return;
	}
	safe = qi_safe(text);
	puts(safe);
}

static void print_checked(const struct qi_repo_check *c, size_t points)
{
	printf("checked %zu point%s: ", points, points == 1 ? "" : "s");
	if (c->problems)
		printf("%llu problem%s, ", (unsigned long long)c->problems,
		       c->problems == 1 ? "" : "s");
	else
		printf("no problems, ");
	printf("%llu thing%s to know\n", (unsigned long long)c->notes,
	       c->notes == 1 ? "" : "s");
}

static int run_check(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	struct qi_json j;
	struct qi_repo_check c = { .finding = on_check, .arg = &j };
	struct qi_error e = { "" };
	size_t count = 0;
	int ret = qi_repo_open(argv[0], QI_REPO_OPEN, &r, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	qi_repo_points(r, &count);
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_list_begin(&j, "findings");
	}
	ret = qi_repo_check(r, &c, &e);
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_list_end(&j);
		qi_json_member(&j, "points", qi_json_uint(count));
		qi_json_member(&j, "problems", qi_json_uint(c.problems));
		qi_json_end(&j, ret, &e);
	} else if (ret >= 0 && !opt.quiet) {
		print_checked(&c, count);
	}
	if (ret < 0)
		return qi_report(ret, &e);
	return c.problems ? QI_EXIT_DAMAGED :
	       c.notes	  ? QI_EXIT_WARNING :
			    QI_EXIT_OK;
}

/* ------------------------------------------------------------ commands */

const struct qi_command qi_backup_list = {
	.name = "list",
	.summary = "list the points of a repository",
	.synopsis = QI_LINES("[OPTION]... REPO"),
	.options = list_options,
	.examples = QI_LINES("qimg backup list /backup/vm"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_list,
};

const struct qi_command qi_backup_check = {
	.name = "check",
	.summary = "find what is missing, left over or foreign",
	.synopsis = QI_LINES("[OPTION]... REPO"),
	.options = check_options,
	.examples = QI_LINES("qimg backup check /backup/vm"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_check,
};
