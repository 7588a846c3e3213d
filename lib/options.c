/* SPDX-License-Identifier: MIT */
/* options.c - option lists of formats (-o), and sizes as people write them */
#include <ctype.h>
#include <errno.h>

#include "lib/format.h"

#define MAX_OPTIONS 64

struct qi_options {
	size_t count;
	char *name[MAX_OPTIONS];
	char *value[MAX_OPTIONS];
};

char *qi_option_next(const char **text)
{
	char *out = malloc(strlen(*text) + 1);
	char *to = out;
	const char *p = *text;

	if (!out)
		return NULL;
	for (; *p; p++) {
		if (*p == ',') {
			if (p[1] != ',')
				break;
			p++;
		}
		*to++ = *p;
	}
	*to = '\0';
	*text = *p ? p + 1 : p;
	return out;
}

static bool is_known(const char *name, const struct qi_format_option *known)
{
	for (; known && known->name; known++)
		if (strcmp(known->name, name) == 0)
			return true;
	return false;
}

static int add_element(struct qi_options *o, char *element,
		       const struct qi_format_option *known, const char *format,
		       struct qi_error *e)
{
	char *equals = strchr(element, '=');

	if (o->count == MAX_OPTIONS)
		return qi_fail(e, E2BIG, "too many options after -o");
	/* A name alone is short for name=on. */
	o->name[o->count] = element;
	o->value[o->count] = strdup(equals ? equals + 1 : "on");
	o->count++;
	if (!o->value[o->count - 1])
		return qi_no_memory(e);
	if (equals)
		*equals = '\0';
	if (!is_known(element, known))
		return qi_fail(e, EINVAL,
			       "unknown option '%s': format '%s' does not have "
			       "it; '-f %s -o help' lists the options",
			       element, format, format);
	return 0;
}

int qi_options_parse(struct qi_options **out, const char *text,
		     const struct qi_format_option *known, const char *format,
		     struct qi_error *e)
{
	struct qi_options *o = calloc(1, sizeof(*o));
	int ret = o ? 0 : qi_no_memory(e);

	while (!ret && text && *text) {
		char *element = qi_option_next(&text);

		if (!element)
			ret = qi_no_memory(e);
		else
			ret = add_element(o, element, known, format, e);
		if (ret && element && o->count == MAX_OPTIONS)
			free(element);
	}
	if (ret) {
		qi_options_free(o);
		return ret;
	}
	*out = o;
	return 0;
}

int qi_options_find(const char *text, const char *name, char **value)
{
	size_t n = strlen(name);

	*value = NULL;
	while (text && *text) {
		char *element = qi_option_next(&text);

		if (!element)
			return -ENOMEM;
		if (!strncmp(element, name, n) &&
		    (element[n] == '=' || !element[n])) {
			/* The last one counts. */
			free(*value);
			*value = strdup(element[n] ? element + n + 1 : "on");
			if (!*value) {
				free(element);
				return -ENOMEM;
			}
		}
		free(element);
	}
	return 0;
}

void qi_options_free(struct qi_options *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->count; i++) {
		free(o->name[i]);
		free(o->value[i]);
	}
	free(o);
}

const char *qi_options_get(const struct qi_options *o, const char *name)
{
	/* The last one of a name counts. */
	for (size_t i = o ? o->count : 0; i-- > 0;)
		if (strcmp(o->name[i], name) == 0)
			return o->value[i];
	return NULL;
}

int qi_options_get_size(const struct qi_options *o, const char *name,
			uint64_t dflt, uint64_t *out, struct qi_error *e)
{
	const char *text = qi_options_get(o, name);

	*out = dflt;
	if (text && !qi_parse_size(text, out))
		return qi_fail(e, EINVAL, "option '%s': '%s' is not a size",
			       name, text);
	return 0;
}

bool qi_parse_bool(const char *text, bool *out)
{
	static const char *const words[] = { "off",   "on",   "no", "yes",
					     "false", "true", "n",  "y" };

	for (size_t i = 0; i < QI_ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i]) != 0)
			continue;
		*out = i % 2;
		return true;
	}
	return false;
}

int qi_options_get_bool(const struct qi_options *o, const char *name, bool dflt,
			bool *out, struct qi_error *e)
{
	const char *text = qi_options_get(o, name);

	*out = dflt;
	if (!text)
		return 0;
	if (qi_parse_bool(text, out))
		return 0;
	return qi_fail(e, EINVAL, "option '%s': '%s' is neither on nor off",
		       name, text);
}

/* ".ddd" at *p as a fraction of one; false when no digit follows the dot. */
static bool parse_fraction(const char **p, double *out)
{
	double weight = 0.1;

	*out = 0;
	if (**p != '.')
		return true;
	if (!isdigit((unsigned char)*++*p))
		return false;
	for (; isdigit((unsigned char)**p); ++*p, weight /= 10)
		*out += weight * (**p - '0');
	return true;
}

/* The power of two that a suffix stands for; "b" and none are 0. */
static bool parse_suffix(const char *p, unsigned *shift)
{
	static const char suffixes[] = "bkmgtpe";
	const char *found;

	*shift = 0;
	if (!*p)
		return true;
	found = strchr(suffixes, tolower((unsigned char)*p));
	if (!found || p[1])
		return false;
	*shift = 10 * (unsigned)(found - suffixes);
	return true;
}

bool qi_parse_size(const char *text, uint64_t *out)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	double fraction;
	unsigned shift;
	uint64_t whole;
	char *end;
	const char *p;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	whole = strtoull(text, &end, hex ? 16 : 10);
	p = end;
	if (errno || !parse_fraction(&p, &fraction) || !parse_suffix(p, &shift))
		return false;
	/* A fraction of a byte means nothing, one of hex is a typing error. */
	if ((fraction != 0 && shift == 0) || (hex && p != end))
		return false;
	if (whole > (uint64_t)INT64_MAX >> shift)
		return false;
	*out = (whole << shift) +
	       (uint64_t)(fraction * (double)(1ull << shift) + 0.5);
	return *out <= INT64_MAX;
}
