// SPDX-License-Identifier: MIT
/*
 * complete.c - answers for the shells' completion scripts
 *
 * `qimg --complete KIND [COMMAND [SUBCOMMAND]] [WORD]` prints one word a line.
 * Without a command it is the first word that is asked for.
 * KIND-help adds a tab and a description. A line that starts with a colon
 * asks the shell for something it knows better: ":file", ":folder", or to ask
 * again with a path from its command line: ":bitmap", ":point", ":tag".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/print.h"

static bool with_help;

static void answer(const char *prefix, const char *word, const char *help)
{
	printf("%s%s", prefix, word);
	if (with_help && help)
		printf("\t%s", help);
	putchar('\n');
}

static void commands(const struct qi_command *const *list)
{
	for (; list && *list; list++)
		answer("", (*list)->name, (*list)->summary);
}

/* What may be the first word. */
static void first_words(void)
{
	commands(qi_commands);
	answer("", "help", "show how a command is used");
}

/* Options of cmd, or of the program. */
static void options(const struct qi_command *cmd)
{
	const struct qi_option *o = cmd ? cmd->options : NULL;

	for (; o && o->name; o++) {
		char letter[2] = { o->letter };

		answer("--", o->name, o->help);
		if (o->letter)
			answer("-", letter, o->help);
	}
	answer("--", "help", "show this help");
	answer("--", "version", "show the version");
}

static void kind(enum qi_complete_kind k)
{
	const char *const *format;

	switch (k) {
	case QI_COMPLETE_NONE:
		break;
	case QI_COMPLETE_FILE:
		puts(":file");
		break;
	case QI_COMPLETE_FOLDER:
		puts(":folder");
		break;
	case QI_COMPLETE_BITMAP:
		puts(":bitmap");
		break;
	case QI_COMPLETE_POINT:
		puts(":point");
		break;
	case QI_COMPLETE_TAG:
		puts(":tag");
		break;
	case QI_COMPLETE_FORMAT:
		for (format = qi_format_names(); *format; format++)
			if (qi_format_can_create(*format))
				puts(*format);
		break;
	}
}

/*
 * word: --NAME or -X where the value is the next word, --NAME= where it is
 * part of the same word; an optional value can only be that.
 */
static void values(const struct qi_option *table, const char *word)
{
	QI_AUTO_TEXT char *name = qi_xstrdup(word);
	const size_t n = strlen(name);
	const bool joined = n > 0 && name[n - 1] == '=';
	const struct qi_option *o;

	if (joined)
		name[n - 1] = '\0';
	o = table ? qi_option_find(table, name) : NULL;
	if (!o || !o->arg || (qi_option_is_optional(o) && !joined))
		return;
	for (int i = 0; o->choices && o->choices[i]; i++)
		puts(o->choices[i]);
	kind(o->complete);
}

/* Opens a drive as it is, or fails without a word. */
static bool look_at_drive(struct qi_graph **g, const char *path,
			  struct qi_drive **d)
{
	struct qi_open how = { .access = QI_ACCESS_NONE, .force_share = true };

	return qi_graph_new(g) >= 0 &&
	       qi_drive_add(*g, path, &how, d, NULL) >= 0;
}

static void drive_bitmaps(const char *path)
{
	QI_AUTO_GRAPH struct qi_graph *g = NULL;
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	struct qi_drive_bitmap *all;
	size_t count;

	if (!look_at_drive(&g, path, &d) ||
	    qi_drive_bitmaps(d, &all, &count, NULL) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		puts(all[i].name);
	free(all);
}

static void tags(const char *path)
{
	QI_AUTO_GRAPH struct qi_graph *g = NULL;
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	struct qi_drive_layer *all;
	size_t count;

	if (!look_at_drive(&g, path, &d) ||
	    qi_drive_layers(d, &all, &count, NULL) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (all[i].tag)
			puts(all[i].tag);
	free(all);
}

static void node_bitmaps(const char *path)
{
	QI_AUTO_GRAPH struct qi_graph *g = NULL;
	struct qi_open how = { .access = QI_ACCESS_NONE,
			       .force_share = true,
			       .no_backing = true };
	struct qi_bitmap_facts *all;
	struct qi_node *n;
	struct qi_error e;
	size_t count;

	if (qi_graph_new(&g) < 0 || qi_graph_add(g, path, &how, &n, &e) < 0 ||
	    qi_node_bitmaps(n, &all, &count, &e) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		if (all[i].attachment == QI_ON_NODE)
			puts(all[i].name);
	}
	free(all);
}

static void points(const char *path)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	const struct qi_point *p;
	struct qi_error e;
	size_t count;

	if (qi_repo_open(path, QI_REPO_OPEN, &r, &e) < 0)
		return;
	p = qi_repo_points(r, &count);
	for (size_t i = 0; i < count; i++)
		puts(p[i].id);
}

/* Follow argv[0] and, where it is one, argv[1] to a command. */
static const struct qi_command *command_of(int *argc, char ***argv)
{
	const struct qi_command *cmd = NULL, *sub;

	if (*argc > 0)
		cmd = qi_command_find(qi_commands, **argv);
	if (!cmd)
		return NULL;
	(*argc)--;
	(*argv)++;
	sub = *argc ? qi_command_find(cmd->subcommands, **argv) : NULL;
	if (!sub)
		return cmd;
	(*argc)--;
	(*argv)++;
	return sub;
}

static const struct qi_command *const *subcommands(const char *name)
{
	const struct qi_command *cmd = qi_command_find(qi_commands, name);

	return cmd ? cmd->subcommands : NULL;
}

int qi_complete(int argc, char **argv)
{
	const struct qi_command *cmd;
	char what[32] = "";
	char *suffix;

	if (argc < 1)
		return qi_usage("--complete needs a kind");
	snprintf(what, sizeof(what), "%s", argv[0]);
	suffix = strstr(what, "-help");
	if (suffix) {
		with_help = true;
		*suffix = '\0';
	}
	argc--;
	argv++;
	if (!strcmp(what, "bitmaps") && argc) {
		drive_bitmaps(argv[0]);
		return QI_EXIT_OK;
	}
	if (!strcmp(what, "node-bitmaps") && argc) {
		node_bitmaps(argv[0]);
		return QI_EXIT_OK;
	}
	if (!strcmp(what, "tags") && argc) {
		tags(argv[0]);
		return QI_EXIT_OK;
	}
	if (!strcmp(what, "points") && argc) {
		points(argv[0]);
		return QI_EXIT_OK;
	}
	if (!strcmp(what, "commands") && argc && !strcmp(argv[0], "help")) {
		/* What help takes are the commands themselves. */
		commands(argc > 1 ? subcommands(argv[1]) : qi_commands);
		return QI_EXIT_OK;
	}
	cmd = command_of(&argc, &argv);
	if (!strcmp(what, "commands") && !cmd)
		first_words();
	else if (!strcmp(what, "commands"))
		commands(cmd->subcommands);
	else if (!strcmp(what, "options"))
		options(cmd);
	else if (cmd && !strcmp(what, "arguments"))
		kind(cmd->complete);
	else if (cmd && !strcmp(what, "values") && argc)
		values(cmd->options, argv[0]);
	return QI_EXIT_OK;
}
