// SPDX-License-Identifier: MIT
/*
 * options.c - format options after -o: their types, and "Formatting ..."
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

enum qi_stock_target qi_stock_target_kind(const char *format)
{
	/* Of QEMU's drivers, those that are no formats of a file. */
	static const char *const others[] = { "file", "host_device", "nbd",
					      "null-co", NULL };

	if (qi_format_options(format))
		return QI_STOCK_TARGET_MADE;
	for (const char *const *f = qi_format_names(); *f; f++)
		if (!strcmp(*f, format))
			return QI_STOCK_TARGET_KNOWN;
	for (const char *const *f = others; *f; f++)
		if (!strcmp(*f, format))
			return QI_STOCK_TARGET_KNOWN;
	return QI_STOCK_TARGET_UNKNOWN;
}

bool qi_stock_can_make(const char *format, const char *prefix)
{
	switch (qi_stock_target_kind(format)) {
	case QI_STOCK_TARGET_MADE:
		return true;
	case QI_STOCK_TARGET_KNOWN:
		qi_stock_say("%sFormat driver '%s' does not support image "
			     "creation",
			     prefix, format);
		break;
	case QI_STOCK_TARGET_UNKNOWN:
		qi_stock_say("%sUnknown file format '%s'", prefix, format);
		break;
	}
	return false;
}

/* A list as QEMU takes it: no empty name at its start, no comma at its end. */
static bool is_list(const char *text)
{
	size_t n = strlen(text), commas = 0;

	while (commas < n && text[n - 1 - commas] == ',')
		commas++;
	return n && commas % 2 == 0 && text[0] != ',';
}

bool qi_stock_join(const struct qi_list *list, char **out)
{
	*out = NULL;
	for (size_t i = 0; i < list->count; i++) {
		if (is_list(list->item[i]))
			continue;
		qi_stock_say("Invalid option list: %s", list->item[i]);
		return false;
	}
	*out = qi_join_options(list);
	return true;
}

bool qi_stock_wants_help(const char *options)
{
	while (options && *options) {
		QI_AUTO_TEXT char *element = qi_option_next(&options);

		if (element &&
		    (!strcmp(element, "help") || !strcmp(element, "?")))
			return true;
	}
	return false;
}

/* Of the file below a format: they are known once there is a file name. */
static bool is_of_file(const char *name)
{
	return !strcmp(name, "nocow") || !strcmp(name, "extent_size_hint");
}

static void help_line(const struct qi_format_option *o)
{
	QI_AUTO_TEXT char *left =
		qi_xprintf("%s=<%s>", o->name,
			   strcmp(o->arg, "bool") ? o->arg : "bool (on/off)");

	printf("  %-22s - %s\n", left, o->help);
}

void qi_stock_options_print(const struct qi_format_option *o, bool of_file)
{
	for (; o->name; o++)
		if (!o->is_ours && (of_file || !is_of_file(o->name)))
			help_line(o);
}

int qi_stock_options_help(const char *format, const char *name)
{
	const struct qi_format_option *o = qi_format_options(format);

	if (!o)
		return qi_stock_say("Unknown file format '%s'", format);
	if (name)
		puts("Supported options:");
	else
		printf("Supported %s options:\n", format);
	qi_stock_options_print(o, name);
	if (!name)
		puts("\nThe protocol level may support further options.\n"
		     "Specify the target filename to include those options.");
	return QI_EXIT_OK;
}

/* ---------------------------------------------------------------- types */

static const struct qi_format_option *find(const struct qi_format_option *o,
					   const char *name)
{
	while (o && o->name && (o->is_ours || strcmp(o->name, name) != 0))
		o++;
	return o && o->name ? o : NULL;
}

static bool is_number(const char *value)
{
	char *end;

	errno = 0;
	strtoull(value, &end, 0);
	return !errno && end != value && !*end;
}

/* "0x10", "0x10k": the second with a warning. */
static int parse_hex(const char *text, uint64_t whole, unsigned shift,
		     uint64_t *out)
{
	if (shift)
		qi_stock_warn("Using a multiplier suffix on hex numbers is "
			      "deprecated: %s",
			      text);
	*out = whole << shift;
	return whole > UINT64_MAX >> shift ? -ERANGE : 0;
}

int qi_stock_parse_size(const char *text, uint64_t *out)
{
	static const char suffixes[] = "bkmgtpe";
	const char *p = text + strspn(text, " \t\n\v\f\r"), *found;
	const bool hex = !strncasecmp(p, "0x", 2);
	double fraction = 0;
	unsigned shift = 0;
	uint64_t whole;
	char *end;

	if (!isdigit((unsigned char)p[*p == '+']))
		return -EINVAL;
	errno = 0;
	whole = strtoull(p, &end, hex ? 16 : 10);
	if (errno)
		return -ERANGE;
	if (*end == '.' && !hex)
		fraction = strtod(end, &end);
	if (*end) {
		found = strchr(suffixes, tolower((unsigned char)*end));
		if (!found || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(found - suffixes);
	}
	if (fraction != 0 && !shift)
		return -EINVAL;
	if (hex)
		return parse_hex(text, whole, shift, out);
	*out = (whole << shift) +
	       (uint64_t)(fraction * (double)(1ull << shift));
	return whole > UINT64_MAX >> shift ? -ERANGE : 0;
}

/* NULL, or what is wrong with a size; malloc'd. */
static char *size_complaint(const char *name, const char *value, uint64_t *out)
{
	int ret = qi_stock_parse_size(value, out);

	if (ret == -ERANGE)
		return qi_xprintf("Value '%s' is out of range for parameter "
				  "'%s'",
				  value, name);
	return ret ? qi_xprintf("Parameter '%s' expects a non-negative number "
				"below 2^64\nOptional suffix k, M, G, T, P or "
				"E means kilo-, mega-, giga-, tera-, peta-\n"
				"and exabytes, respectively.",
				name) :
		     NULL;
}

bool qi_stock_option_size(const char *name, const char *text, uint64_t *out)
{
	QI_AUTO_TEXT char *wrong = size_complaint(name, text, out);

	if (wrong)
		qi_stock_say("%s", wrong);
	return !wrong;
}

/* A value with commas as they are in a list; malloc'd. */
static char *doubled(const char *value)
{
	char *text = qi_xrealloc(NULL, 2 * strlen(value) + 1), *to = text;

	for (; *value; value++) {
		if (*value == ',')
			*to++ = ',';
		*to++ = *value;
	}
	*to = '\0';
	return text;
}

/* NULL, or what is wrong with a value; malloc'd. */
static char *complaint(const struct qi_format_option *o, const char *name,
		       const char *value)
{
	uint64_t size;
	bool on;

	if (!o)
		return qi_xprintf("Invalid parameter '%s'", name);
	if (!strcmp(o->arg, "size"))
		return size_complaint(name, value, &size);
	if (!strcmp(o->arg, "bool") && !qi_parse_bool(value, &on))
		return qi_xprintf("Parameter '%s' expects 'on' or 'off'", name);
	if (!strcmp(o->arg, "num") && !is_number(value))
		return qi_xprintf("Parameter '%s' expects a number", name);
	return NULL;
}

/*
 * Cut off the first element of a list. Without a value its name stands for on,
 * and with "no" in front for off.
 */
static char *next_option(const char **text, const char **value)
{
	char *element = qi_option_next(text);
	char *equals = element ? strchr(element, '=') : NULL;

	*value = "on";
	if (equals) {
		*equals++ = '\0';
		*value = equals;
	} else if (element && !strncmp(element, "no", 2)) {
		memmove(element, element + 2, strlen(element) - 1);
		*value = "off";
	}
	return element;
}

const char *qi_stock_keep(const char *text)
{
	static struct qi_list kept;

	kept.item = qi_xrealloc(kept.item, (kept.count + 1) * sizeof(text));
	kept.item[kept.count] = qi_xstrdup(text);
	return kept.item[kept.count++];
}

static bool take_member(struct qi_create *c, const char *name,
			const char *value)
{
	if (!strcmp(name, "size"))
		return !qi_stock_parse_size(value, &c->size);
	if (!strcmp(name, "backing_file"))
		c->backing_name = qi_stock_keep(value);
	else if (!strcmp(name, "backing_fmt"))
		c->backing_format = qi_stock_keep(value);
	else
		return false;
	return true;
}

bool qi_stock_take_options(const char *name, const char *text,
			   struct qi_create *c)
{
	const struct qi_format_option *known = qi_format_options(c->format);
	QI_AUTO_TEXT char *rest = qi_xstrdup("");

	while (text && *text) {
		const char *value;
		QI_AUTO_TEXT char *element = next_option(&text, &value);
		QI_AUTO_TEXT char *wrong = NULL, *listed = NULL;
		char *longer;

		if (!element)
			continue;
		wrong = complaint(find(known, element), element, value);
		if (wrong) {
			qi_stock_say("%s%s%s", name ? name : "",
				     name ? ": " : "", wrong);
			return false;
		}
		if (take_member(c, element, value))
			continue;
		listed = doubled(value);
		longer = qi_xprintf("%s%s%s=%s", rest, *rest ? "," : "",
				    element, listed);
		free(rest);
		rest = longer;
	}
	c->options = *rest ? qi_stock_keep(rest) : NULL;
	return true;
}

/* NULL, or what is wrong with the first bad one; malloc'd. */
static char *list_complaint(const char *text,
			    const struct qi_format_option *known,
			    const struct qi_format_option *more)
{
	char *wrong = NULL;

	while (*text && !wrong) {
		const char *value;
		QI_AUTO_TEXT char *name = next_option(&text, &value);
		const struct qi_format_option *o = find(known, name);

		if (!o && more && !is_of_file(name))
			o = find(more, name);
		wrong = complaint(o, name, value);
	}
	return wrong;
}

bool qi_stock_check_amend(const char *format, const char *text)
{
	const struct qi_format_option *known = qi_format_amend_options(format);
	QI_AUTO_TEXT char *wrong = list_complaint(text, known, NULL);
	QI_AUTO_TEXT char *still =
		list_complaint(text, known, qi_format_options(format));

	if (wrong)
		qi_stock_say("%s%s", wrong,
			     still ? "" :
				     "\nThis option is only supported for "
				     "image creation");
	return !wrong;
}

/* ----------------------------------------------------------- Formatting */

/* In the order in which QEMU prints them; dflt NULL: only when given. */
struct shown {
	const char *name, *dflt;
};
static const struct shown qcow2_shown[] = {
	{ "encryption", NULL },
	{ "encrypt.format", NULL },
	{ "cluster_size", "64k" },
	{ "extended_l2", "off" },
	{ "preallocation", NULL },
	{ "compression_type", "zlib" },
	{ "size", NULL },
	{ "compat", NULL },
	{ "backing_file", NULL },
	{ "backing_fmt", NULL },
	{ "data_file", NULL },
	{ "data_file_raw", NULL },
	{ "lazy_refcounts", "off" },
	{ "refcount_bits", "16" },
	{ "nocow", NULL },
	{ "extent_size_hint", NULL },
	{ NULL, NULL },
};
static const struct shown raw_shown[] = {
	{ "size", NULL },
	{ "nocow", NULL },
	{ "preallocation", NULL },
	{ "extent_size_hint", NULL },
	{ NULL, NULL },
};

static char *shown_value(const struct shown *s, const struct qi_create *c)
{
	char *value;

	if (!strcmp(s->name, "size"))
		return c->size == QI_NO_OFFSET ?
			       NULL :
			       qi_xprintf("%llu", (unsigned long long)c->size);
	if (!strcmp(s->name, "backing_file"))
		return c->backing_name ? qi_xstrdup(c->backing_name) : NULL;
	if (!strcmp(s->name, "backing_fmt"))
		return c->backing_format ? qi_xstrdup(c->backing_format) : NULL;
	if (qi_options_find(c->options, s->name, &value))
		value = NULL;
	return !value && s->dflt ? qi_xstrdup(s->dflt) : value;
}

static void print_value(const struct qi_format_option *o, const char *value)
{
	QI_AUTO_TEXT char *safe = qi_safe(value);
	QI_AUTO_TEXT char *listed = doubled(safe);
	uint64_t size;

	if (!strcmp(o->arg, "size") && qi_parse_size(value, &size))
		printf("%llu", (unsigned long long)size);
	else
		fputs(listed, stdout);
}

void qi_stock_formatting(const char *name, const struct qi_create *c)
{
	const struct shown *s = strcmp(c->format, "raw") ? qcow2_shown :
							   raw_shown;
	QI_AUTO_TEXT char *safe = qi_safe(name);

	printf("Formatting '%s', fmt=%s", safe, c->format);
	for (; s->name; s++) {
		QI_AUTO_TEXT char *value = shown_value(s, c);

		if (!value)
			continue;
		printf(" %s=", s->name);
		print_value(find(qi_format_options(c->format), s->name), value);
	}
	putchar('\n');
	fflush(stdout);
}
