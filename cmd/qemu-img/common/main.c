// SPDX-License-Identifier: MIT
/*
 * main.c - the program under the name qemu-img: options, commands, help
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

/* What programs that ask for a version find: the one whose options these are */
#define STOCK_VERSION "10.0.0"

#define MAX_OPTIONS 24
#define LONG_BASE 256

static int print_version(void)
{
	puts("qemu-img version " STOCK_VERSION " (qimg " QI_VERSION ")");
	return QI_EXIT_OK;
}

static int help(void)
{
	puts("qemu-img version " STOCK_VERSION " (qimg " QI_VERSION ")\n"
	     "usage: qemu-img [standard options] command [command options]\n"
	     "Disk images, by qimg under the name of QEMU's tool\n\n"
	     "    '-h', '--help'     show this\n"
	     "    '-V', '--version'  show the version\n"
	     "    '-T', '--trace'    accepted; there is nothing to trace\n\n"
	     "Command syntax:");
	for (size_t i = 0; qi_stock_commands[i]; i++)
		printf("  %s %s\n", qi_stock_commands[i]->name,
		       qi_stock_commands[i]->synopsis);
	puts("\nqimg-qemu-img(7) tells what the parameters mean.");
	fputs("\nSupported formats:", stdout);
	for (const char *const *f = qi_format_names(); *f; f++)
		printf(" %s", *f);
	putchar('\n');
	return QI_EXIT_OK;
}

/* A table in the two forms that getopt_long wants. */
struct tables {
	struct option longs[MAX_OPTIONS + 2];
	char shorts[2 * MAX_OPTIONS + 4];
};

static bool has_value(const struct qi_stock_option *o)
{
	return o->type != QI_STOCK_FLAG && o->type != QI_STOCK_STEP;
}

static void fill_tables(struct tables *t, const struct qi_stock_option *o)
{
	struct option *l = t->longs;
	char *s = t->shorts;

	memset(t, 0, sizeof(*t));
	*s++ = ':'; /* tells a missing value from an unknown option */
	*s++ = 'h';
	*l++ = (struct option){ "help", no_argument, NULL, 'h' };
	for (int i = 0; o[i].value; i++) {
		if (o[i].name)
			*l++ = (struct option){ o[i].name, has_value(&o[i]),
						NULL, LONG_BASE + i };
		if (o[i].letter)
			*s++ = o[i].letter;
		if (o[i].letter && has_value(&o[i]))
			*s++ = ':';
	}
}

static void add(struct qi_list *list, const char *text)
{
	list->item = qi_xrealloc(list->item, (list->count + 1) * sizeof(text));
	list->item[list->count++] = text;
}

static void store(const struct qi_stock_option *o, const char *text)
{

	switch (o->type) {
	case QI_STOCK_FLAG:
		*(bool *)o->value = true;
		break;
	case QI_STOCK_TEXT:
		*(const char **)o->value = text;
		break;
	case QI_STOCK_LIST:
		add(o->value, text);
		break;
	case QI_STOCK_STEP:
		add(o->value, o->name);
		break;
	case QI_STOCK_STEP_WITH:
		add(o->value, o->name);
		add(o->value, text);
		break;
	}
}

static const struct qi_stock_option *by_value(
	const struct qi_stock_option *options, int c)
{
	if (c >= LONG_BASE)
		return &options[c - LONG_BASE];
	while (options->letter != c)
		options++;
	return options;
}

/* 1 when all is stored, 0 when the help is asked for, -1 after a message. */
static int parse(const struct qi_stock_option *options, int argc, char **argv)
{
	const struct qi_stock_option *o;
	struct tables t;
	int c;

	fill_tables(&t, options);
	opterr = 0;
	optind = 0; /* glibc: start afresh, forget an earlier scan */
	while ((c = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1) {
		if (c == 'h')
			return 0;
		if (c == ':')
			qi_stock_mistake("missing argument for option '%s'",
					 argv[optind - 1]);
		else if (c == '?')
			qi_stock_mistake("unrecognized option '%s'",
					 argv[optind - 1]);
		if (c == ':' || c == '?')
			return -1;
		o = by_value(options, c);
		if (o->check && !o->check(optarg))
			return -1;
		store(o, optarg);
	}
	return 1;
}

/* argv[0] is the command. */
static int run(int argc, char **argv)
{
	for (size_t i = 0; qi_stock_commands[i]; i++) {
		const struct qi_stock_command *c = qi_stock_commands[i];
		int found;

		if (strcmp(c->name, argv[0]) != 0)
			continue;
		if (c->takes_last && argc < 3)
			return qi_stock_mistake("Not enough arguments");
		found = parse(c->options, argc - c->takes_last, argv);
		if (found <= 0)
			return found ? QI_EXIT_FAILED : help();
		return c->run(argc - optind, argv + optind);
	}
	return qi_stock_mistake("Command not found: %s", argv[0]);
}

int qi_stock_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "trace", required_argument, NULL, 'T' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	if (argc < 2)
		return qi_stock_mistake("Not enough arguments");
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:hVT:", longs, NULL)) != -1) {
		switch (c) {
		case 'h':
			return help();
		case 'V':
			return print_version();
		case 'T':
			break;
		case ':':
			return qi_stock_mistake(
				"missing argument for option '%s'",
				argv[optind - 1]);
		default:
			return qi_stock_mistake("unrecognized option '%s'",
						argv[optind - 1]);
		}
	}
	if (optind == argc)
		return qi_stock_mistake("Not enough arguments");
	return run(argc - optind, argv + optind);
}
