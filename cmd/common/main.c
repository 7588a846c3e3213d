// SPDX-License-Identifier: MIT
/*
 * main.c - one program, many commands
 */
#include <ctype.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cmd/common/command.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"
#include "cmd/qemu-img/common/stock.h"

static void on_stop(int number)
{
	qi_interrupt();
}

/* The first SIGINT or SIGTERM asks for an orderly stop, the second kills. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_stop,
				    .sa_flags = SA_RESETHAND };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	qi_progress_on_signal();
}

const struct qi_command *qi_command_find(const struct qi_command *const *list,
					 const char *name)
{
	for (; list && *list; list++) {
		if (!strcmp((*list)->name, name))
			return *list;
	}
	return NULL;
}

static size_t smallest(size_t a, size_t b, size_t c)
{
	if (b < a)
		a = b;
	return c < a ? c : a;
}

/* Insertions, deletions and replacements that make b of a; b is short. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n >= 64)
		return SIZE_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n; j++) {
			size_t above = row[j + 1];

			row[j + 1] = smallest(above + 1, row[j] + 1,
					      diagonal + (a[i] != b[j]));
			diagonal = above;
		}
	}
	return row[n];
}

static const char *nearest(const struct qi_command *const *list,
			   const char *name)
{
	const char *best = NULL;
	size_t limit = 3;

	for (; list && *list; list++) {
		size_t d = distance(name, (*list)->name);

		if (d < limit && d < strlen((*list)->name)) {
			limit = d;
			best = (*list)->name;
		}
	}
	return best;
}

static int unknown(const struct qi_command *const *list, const char *what,
		   const char *name)
{
	const char *guess = nearest(list, name);

	if (!guess)
		return qi_usage("unknown %s '%s'", what, name);
	if (!strcmp(guess, name))
		return qi_usage("%s '%s' comes before the options", what, name);
	qi_say_error("unknown %s '%s'; did you mean '%s'?", what, name, guess);
	return QI_EXIT_USAGE;
}

static void print_list(const struct qi_command *const *list)
{
	for (; *list; list++)
		printf("  %-10s %s\n", (*list)->name, (*list)->summary);
}

static void main_help(FILE *f)
{
	fputs("usage: qimg COMMAND [OPTION]... [ARGUMENT]...\n"
	      "       qimg help COMMAND\n"
	      "       qimg --version\n"
	      "Disk images, their dirty bitmaps and incremental backups.\n",
	      f);
	if (f != stdout)
		return;
	puts("\nCommands:");
	print_list(qi_commands);
}

static const struct qi_option no_options[] = { QI_OPTION_END };

/* path: the command's whole name, such as "bitmap add" */
static void command_help(const struct qi_command *cmd, const char *path)
{
	const char *const *line;
	const char *word = "usage:";

	for (line = cmd->synopsis; line && *line; line++, word = "      ")
		printf("%s qimg %s %s\n", word, path, *line);
	printf("%c%s.\n", toupper((unsigned char)cmd->summary[0]),
	       cmd->summary + 1);
	if (cmd->subcommands) {
		puts("\nSubcommands:");
		print_list(cmd->subcommands);
	}
	qi_args_help(cmd->options ? cmd->options : no_options);
	for (line = cmd->examples; line && *line; line++) {
		if (line == cmd->examples)
			puts("\nExamples:");
		printf("  %s\n", *line);
	}
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h");
}

static int print_version(void)
{
	puts("qimg " QI_VERSION);
	return QI_EXIT_OK;
}

static int unexpected(const struct qi_command *cmd, const char *path,
		      const char *word)
{
	if (cmd->subcommands)
		return unknown(cmd->subcommands, "subcommand", word);
	return qi_usage("%s: unexpected argument '%s'", path, word);
}

static int run(const struct qi_command *cmd, const char *path, int argc,
	       char **argv)
{
	unsigned count;
	int first, code;

	qi_usage_command(path,
			 cmd->is_qemu_img ? QI_EXIT_FAILED : QI_EXIT_USAGE);
	if (cmd->subcommands && argc > 1) {
		const struct qi_command *sub;

		sub = qi_command_find(cmd->subcommands, argv[1]);
		if (sub) {
			QI_AUTO_TEXT char *longer = NULL;

			longer = qi_xprintf("%s %s", path, sub->name);
			return run(sub, longer, argc - 1, argv + 1);
		}
	}
	if (!cmd->run) {
		if (argc < 2)
			return qi_usage("%s needs a subcommand", path);
		if (!strcmp(argv[1], "--version"))
			return print_version();
		if (!is_help(argv[1]))
			return unknown(cmd->subcommands, "subcommand", argv[1]);
		command_help(cmd, path);
		return QI_EXIT_OK;
	}
	code = qi_args_parse(cmd->options, argc, argv, &first);
	if (code)
		return code;
	if (first < 0)
		return print_version();
	if (first == 0) {
		command_help(cmd, path);
		return QI_EXIT_OK;
	}
	count = (unsigned)(argc - first);
	if (count < cmd->min_args)
		return qi_usage("%s: an argument is missing", path);
	if (count > cmd->max_args)
		return unexpected(cmd, path, argv[first + (int)cmd->max_args]);
	return cmd->run((int)count, argv + first);
}

/* `qimg help [COMMAND [SUBCOMMAND]]` */
static int help(int argc, char **argv)
{
	QI_AUTO_TEXT char *path = NULL;
	const struct qi_command *cmd, *sub = NULL;

	if (argc < 2) {
		main_help(stdout);
		return QI_EXIT_OK;
	}
	cmd = qi_command_find(qi_commands, argv[1]);
	if (!cmd)
		return unknown(qi_commands, "command", argv[1]);
	if (argc > 2) {
		sub = qi_command_find(cmd->subcommands, argv[2]);
		if (!sub)
			return unknown(cmd->subcommands, "subcommand", argv[2]);
	}
	path = qi_xprintf("%s%s%s", cmd->name, sub ? " " : "",
			  sub ? sub->name : "");
	command_help(sub ? sub : cmd, path);
	return QI_EXIT_OK;
}

/* argv[0] is the command. */
static int dispatch(int argc, char **argv)
{
	const struct qi_command *cmd;

	if (is_help(argv[0]) || !strcmp(argv[0], "help"))
		return help(argc, argv);
	if (!strcmp(argv[0], "--version") || !strcmp(argv[0], "-V"))
		return print_version();
	if (!strcmp(argv[0], "--complete"))
		return qi_complete(argc - 1, argv + 1);
	if (argv[0][0] == '-')
		return qi_usage("unknown option %s", argv[0]);
	cmd = qi_command_find(qi_commands, argv[0]);
	if (!cmd)
		return unknown(qi_commands, "command", argv[0]);
	return run(cmd, cmd->name, argc, argv);
}

int main(int argc, char **argv)
{
	const char *name;
	int code, written;

	setlocale(LC_CTYPE, "");
	catch_signals();
	name = argc ? strrchr(argv[0], '/') : "";
	name = name ? name + (*name == '/') : argv[0];
	if (!strcmp(name, "qemu-img")) {
		code = qi_stock_main(argc, argv);
	} else if (!strncmp(name, "qimg-", 5)) {
		/* A link named after a command runs that. */
		argv[0] = (char *)name + 5;
		code = dispatch(argc, argv);
	} else if (argc > 1) {
		code = dispatch(argc - 1, argv + 1);
	} else {
		main_help(stderr);
		code = QI_EXIT_USAGE;
	}
	written = qi_finish_stdout();
	return code ? code : written;
}
