// SPDX-License-Identifier: MIT
/*
 * option.c - option tables, their parser and the help made of them
 */
#include "cmd/common/option.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/print.h"
#include "lib/qimg.h"

#define MAX_OPTIONS 32
#define LONG_BASE 256		      /* getopt's value of table entry 0 */
#define VERSION_VALUE (LONG_BASE - 1) /* no letter */
#define HELP_COLUMN 28

const char *const qi_output_choices[] = { "human", "json", NULL };
const char *const qi_progress_choices[] = { "none", "plain", "json", NULL };

static const char *usage_command = "";
static int usage_code = QI_EXIT_USAGE;

void qi_usage_command(const char *name, int code)
{
	usage_command = name;
	usage_code = code;
}

int qi_usage(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	qi_say_error("%s; try 'qimg%s%s --help'", text,
		     *usage_command ? " " : "", usage_command);
	return usage_code;
}

int qi_read_size(const char *what, const char *text, uint64_t *out)
{
	if (qi_parse_size(text, out))
		return 0;
	return qi_usage("%s '%s' is not a size: a number up to 2^63 - 1, or "
			"one with a suffix K, M, G, T, P or E",
			what, text);
}

static int read_size(const struct qi_option *o, const char *text)
{
	char what[80];

	snprintf(what, sizeof(what), "--%s:", o->name);
	return qi_read_size(what, text, o->value);
}

static int read_number(const struct qi_option *o, const char *text, long min,
		       long *out)
{
	char *end;

	errno = 0;
	*out = strtol(text, &end, 10);
	if (errno || *end || end == text || *out < min || *out > INT_MAX)
		return qi_usage("--%s: '%s' is not a number from %ld to %d",
				o->name, text, min, INT_MAX);
	return 0;
}

/* A percentage with up to four decimals, as millionths. */
static int read_part(const struct qi_option *o, const char *text)
{
	char *end;
	double part = strtod(text, &end) * 10000;
	bool has_unit = *end == '%';

	/* strtod() knows more than that. */
	if (end != text + strspn(text, "0123456789.") || end[has_unit] ||
	    part < 1 || part > 1000000)
		return qi_usage("--%s: '%s' is not a percentage from 0.0001 "
				"to 100",
				o->name, text);
	*(uint32_t *)o->value = (uint32_t)(part + 0.5);
	return 0;
}

static int read_choice(const struct qi_option *o, const char *text)
{
	for (int i = 0; o->choices[i]; i++) {
		if (!strcmp(o->choices[i], text)) {
			*(int *)o->value = i;
			return 0;
		}
	}
	return qi_usage("--%s: '%s' is not one of %s", o->name, text, o->arg);
}

static void append(struct qi_list *list, const char *text)
{
	size_t bytes = (list->count + 1) * sizeof(*list->item);

	list->item = qi_xrealloc(list->item, bytes);
	list->item[list->count++] = text;
}

/* text is NULL when an optional value was left out. */
static int store(const struct qi_option *o, const char *text)
{
	long number;
	int ret = 0;

	switch (o->type) {
	case QI_OPTION_FLAG:
		*(bool *)o->value = true;
		break;
	case QI_OPTION_TEXT:
		*(const char **)o->value = text;
		break;
	case QI_OPTION_LIST:
		append(o->value, text);
		break;
	case QI_OPTION_SIZE:
		return read_size(o, text);
	case QI_OPTION_COUNT:
		ret = read_number(o, text, 1, &number);
		if (!ret)
			*(unsigned *)o->value = (unsigned)number;
		break;
	case QI_OPTION_CHOICE:
		return read_choice(o, text);
	case QI_OPTION_MAYBE:
		return read_choice(o, text ? text : o->choices[1]);
	case QI_OPTION_WAIT:
		number = -1;
		if (text)
			ret = read_number(o, text, 0, &number);
		if (!ret)
			*(int *)o->value = (int)number;
		break;
	case QI_OPTION_PART:
		return read_part(o, text ? text : "100");
	}
	return ret;
}

bool qi_option_is_optional(const struct qi_option *o)
{
	return o->type == QI_OPTION_MAYBE || o->type == QI_OPTION_WAIT ||
	       o->type == QI_OPTION_PART;
}

static int argument_mode(const struct qi_option *o)
{
	if (!o->arg)
		return no_argument;
	return qi_option_is_optional(o) ? optional_argument : required_argument;
}

/* The same table in the two forms that getopt_long wants. */
struct getopt_tables {
	struct option longs[MAX_OPTIONS + 3];
	char shorts[2 * MAX_OPTIONS + 3];
};

static void fill_tables(struct getopt_tables *t,
			const struct qi_option *options)
{
	char *s = t->shorts;
	int i;

	memset(t, 0, sizeof(*t));
	*s++ = ':'; /* tells a missing value from an unknown option */
	*s++ = 'h';
	for (i = 0; options[i].name && i < MAX_OPTIONS; i++) {
		int mode = argument_mode(&options[i]);

		t->longs[i] = (struct option){ options[i].name, mode, NULL,
					       LONG_BASE + i };
		if (!options[i].letter)
			continue;
		*s++ = options[i].letter;
		/* A letter takes no optional value: -pq is -p -q. */
		if (mode == required_argument)
			*s++ = ':';
	}
	t->longs[i++] = (struct option){ "help", no_argument, NULL, 'h' };
	t->longs[i] =
		(struct option){ "version", no_argument, NULL, VERSION_VALUE };
}

static const struct qi_option *by_value(const struct qi_option *options, int c)
{
	if (c >= LONG_BASE)
		return &options[c - LONG_BASE];
	for (; options->name; options++) {
		if (options->letter == c)
			return options;
	}
	return NULL;
}

static int complain(const struct qi_option *options, int c, const char *word)
{
	const struct qi_option *o = NULL;

	if (optopt)
		o = by_value(options, optopt);
	if (optopt == VERSION_VALUE)
		return qi_usage("option --version takes no value");
	if (c == ':' && o)
		return qi_usage("option --%s needs a value", o->name);
	if (o && optopt >= LONG_BASE)
		return qi_usage("option --%s takes no value", o->name);
	if (optopt && optopt < LONG_BASE)
		return qi_usage("unknown option -%c", optopt);
	return qi_usage("unknown or ambiguous option %s", word);
}

/* No option is a digit: a last word like "-10G" is an argument. */
static bool is_negative(const char *word)
{
	return word[0] == '-' && word[1] >= '0' && word[1] <= '9';
}

int qi_args_parse(const struct qi_option *options, int argc, char **argv,
		  int *first)
{
	int words = argc > 1 ? argc - is_negative(argv[argc - 1]) : argc;
	struct getopt_tables tables;
	const struct qi_option *o;
	int c, code = 0;

	fill_tables(&tables, options);
	opterr = 0;
	optind = 0; /* glibc: start afresh, forget an earlier scan */
	*first = 0;
	while (!code) {
		c = getopt_long(words, argv, tables.shorts, tables.longs, NULL);
		if (c == -1) {
			*first = optind;
			return 0;
		}
		if (c == 'h')
			return 0;
		if (c == VERSION_VALUE) {
			*first = -1;
			return 0;
		}
		if (c == '?' || c == ':')
			return complain(options, c, argv[optind - 1]);
		o = by_value(options, c);
		code = store(o, optarg);
	}
	return code;
}

const struct qi_option *qi_option_find(const struct qi_option *options,
				       const char *text)
{
	for (; options->name; options++) {
		if (!strncmp(text, "--", 2) && !strcmp(text + 2, options->name))
			return options;
		if (text[0] == '-' && text[1] && text[1] == options->letter &&
		    !text[2])
			return options;
	}
	return NULL;
}

static void help_line(const struct qi_option *o)
{
	char left[80];
	char letter[5] = "    ";
	int used;

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	if (!o->arg)
		used = snprintf(left, sizeof(left), "%s--%s", letter, o->name);
	else if (qi_option_is_optional(o))
		used = snprintf(left, sizeof(left), "%s--%s[=%s]", letter,
				o->name, o->arg);
	else
		used = snprintf(left, sizeof(left), "%s--%s %s", letter,
				o->name, o->arg);
	if (used + 2 > HELP_COLUMN)
		printf("  %s\n  %*s%s\n", left, HELP_COLUMN, "", o->help);
	else
		printf("  %-*s%s\n", HELP_COLUMN, left, o->help);
}

void qi_args_help(const struct qi_option *options)
{
	static const struct qi_option help = { .name = "help",
					       .letter = 'h',
					       .help = "show this help" };
	static const struct qi_option version = { .name = "version",
						  .help = "show the version" };

	puts("\nOptions:");
	for (; options->name; options++)
		help_line(options);
	help_line(&help);
	help_line(&version);
}
