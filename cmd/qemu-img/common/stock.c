// SPDX-License-Identifier: MIT
/*
 * stock.c - messages and values as qemu-img has them
 */
#include "cmd/qemu-img/common/stock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/print.h"

#define PREFIX "qemu-img: "

/* Its own newlines stay, other control characters do not reach a terminal. */
static void say(const char *prefix, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void say(const char *prefix, const char *fmt, va_list ap)
{
	char text[4096];
	char *line = text, *next;

	vsnprintf(text, sizeof(text), fmt, ap);
	fflush(stdout);
	fputs(prefix, stderr);
	do {
		QI_AUTO_TEXT char *safe = NULL;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		safe = qi_safe(line);
		fprintf(stderr, "%s\n", safe);
		line = next;
	} while (next);
}

int qi_stock_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(PREFIX, fmt, ap);
	va_end(ap);
	return QI_EXIT_FAILED;
}

int qi_stock_mistake(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(PREFIX, fmt, ap);
	va_end(ap);
	fputs("Try 'qemu-img --help' for more information\n", stderr);
	return QI_EXIT_FAILED;
}

void qi_stock_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(PREFIX "warning: ", fmt, ap);
	va_end(ap);
}

const char *qi_stock_words(int ret, const struct qi_error *e)
{
	if (e->stock[0])
		return e->stock;
	return e->text[0] ? e->text : strerror(-ret);
}

int qi_stock_fail(int ret, const struct qi_error *e)
{
	qi_stock_say("%s", qi_stock_words(ret, e));
	return ret == -EINTR ? QI_EXIT_INTERRUPTED : QI_EXIT_FAILED;
}

/* --------------------------------------------------------------- values */

/* Is it written like a size, though it may be too large for one? */
static bool looks_like_size(const char *text)
{
	size_t n = strspn(text, "0123456789");

	if (n && text[n] == '.')
		n += 1 + strspn(text + n + 1, "0123456789");
	return n && (!text[n] ||
		     (strchr("bBkKmMgGtTpPeE", text[n]) && !text[n + 1]));
}

bool qi_stock_size(const char *what, const char *text, uint64_t min,
		   uint64_t max, uint64_t *out)
{
	bool fits = qi_parse_size(text, out);

	if (fits && *out >= min && *out <= max)
		return true;
	if (fits || looks_like_size(text)) {
		qi_stock_say("Invalid %s specified. Must be between %" PRIu64
			     " and %" PRIu64 ".",
			     what, min, max);
		return false;
	}
	qi_stock_say("Invalid %s specified. You may use k, M, G, T, P or E "
		     "suffixes for",
		     what);
	qi_stock_say("kilobytes, megabytes, gigabytes, terabytes, petabytes "
		     "and exabytes.");
	return false;
}

bool qi_stock_output(const char *text, int *out)
{
	*out = QI_OUTPUT_HUMAN;
	if (!text || !strcmp(text, "human"))
		return true;
	*out = QI_OUTPUT_JSON;
	if (!strcmp(text, "json"))
		return true;
	qi_stock_say("--output must be used with human or json as argument.");
	return false;
}

/* What --object secret can be told. */
struct secret {
	char *type, *id, *data, *file, *other;
};

static char **secret_member(struct secret *s, const char *key)
{
	static const char *const ignored[] = { "format", "keyid", "iv",
					       "loaded" };

	if (!strcmp(key, "qom-type"))
		return &s->type;
	if (!strcmp(key, "id"))
		return &s->id;
	if (!strcmp(key, "data"))
		return &s->data;
	if (!strcmp(key, "file"))
		return &s->file;
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		if (!strcmp(key, ignored[i]))
			return NULL;
	return &s->other;
}

static void take_element(struct secret *s, char *element, bool first)
{
	char *equals = strchr(element, '='), **member;

	if (equals)
		*equals = '\0';
	/* The first one may be the type alone. */
	member = !equals && first ? &s->type : secret_member(s, element);
	if (!member)
		return;
	free(*member);
	*member = qi_xstrdup(equals && member != &s->other ? equals + 1 :
							     element);
}

static bool check_secret(const struct secret *s)
{
	if (!s->type)
		qi_stock_say("Parameter 'qom-type' is missing");
	else if (strcmp(s->type, "secret") != 0)
		qi_stock_say("Parameter 'qom-type' does not accept value '%s'",
			     s->type);
	else if (!s->id)
		qi_stock_say("Parameter 'id' is missing");
	else if (s->other)
		qi_stock_say("Parameter '%s' is unexpected", s->other);
	else if (!s->data && !s->file)
		qi_stock_say("Either 'file' or 'data' must be provided");
	else
		return true;
	return false;
}

bool qi_stock_objects(const struct qi_list *objects)
{
	bool good = true;

	for (size_t i = 0; good && i < objects->count; i++) {
		const char *text = objects->item[i];
		struct secret s = { NULL, NULL, NULL, NULL, NULL };

		for (bool first = true; *text; first = false) {
			QI_AUTO_TEXT char *element = qi_option_next(&text);

			if (element)
				take_element(&s, element, first);
		}
		good = check_secret(&s);
		free(s.type);
		free(s.id);
		free(s.data);
		free(s.file);
		free(s.other);
	}
	return good;
}

/* -------------------------------------------------------------- opening */

static void on_warning(void *arg, const char *text)
{
	qi_stock_warn("%s", text);
}

struct qi_graph *qi_stock_graph(void)
{
	struct qi_graph *g;

	if (qi_graph_new(&g) < 0) {
		qi_stock_say("out of memory");
		exit(QI_EXIT_FAILED);
	}
	qi_graph_on_warning(g, on_warning, NULL);
	return g;
}

int qi_stock_add(struct qi_graph *g, const char *name, bool is_options,
		 const struct qi_open *how, struct qi_node **out)
{
	struct qi_error e = { "", "" };
	int ret = qi_graph_add(g, name, how, out, &e);

	if (ret < 0)
		qi_stock_fail(ret, &e);
	return ret;
}

int qi_stock_open(struct qi_graph *g, const char *name, bool is_options,
		  const struct qi_open *how, struct qi_node **out)
{
	struct qi_error e = { "", "" };
	int ret = qi_stock_add(g, name, is_options, how, out);

	if (ret < 0)
		return ret;
	ret = qi_graph_lock(g, 0, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	return ret;
}
