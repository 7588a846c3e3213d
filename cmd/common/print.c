// SPDX-License-Identifier: MIT
/*
 * print.c - text for people: messages, sizes, times, names
 */
#include "cmd/common/print.h"

#include <assert.h>
#include <errno.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "cmd/common/option.h"
#include "cmd/common/progress.h"

static const char *const units[] = {
	"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", NULL,
};

void qi_auto_text(char **text)
{
	free(*text);
}

static void die_without_memory(void)
{
	fputs("qimg: out of memory\n", stderr);
	exit(QI_EXIT_FAILED);
}

void *qi_xrealloc(void *p, size_t bytes)
{
	p = realloc(p, bytes);
	if (!p)
		die_without_memory();
	return p;
}

char *qi_xstrdup(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		die_without_memory();
	return copy;
}

char *qi_xprintf(const char *fmt, ...)
{
	char *text;
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (ret < 0)
		die_without_memory();
	return text;
}

/* Bytes of a character at s that could drive a terminal, or 0. */
static size_t control_length(const unsigned char *s)
{
	if (s[0] < 0x20 || s[0] == 0x7f)
		return 1;
	/* C1 controls, U+0080 to U+009F, in UTF-8 */
	if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
		return 2;
	/* and as single bytes, which no UTF-8 text starts with */
	return s[0] >= 0x80 && s[0] < 0xa0 ? 1 : 0;
}

/* Length of the UTF-8 sequence at s, or 0 if it is none. */
static size_t sequence_length(const unsigned char *s)
{
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

char *qi_safe(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	char *safe = qi_xrealloc(NULL, 4 * strlen(text) + 1);
	char *out = safe;

	while (*s) {
		size_t escape = control_length(s);
		size_t plain = sequence_length(s);

		if (!escape && !plain)
			escape = 1;
		for (; escape; escape--, plain = 0)
			out += sprintf(out, "\\x%02x", *s++);
		for (; plain; plain--)
			*out++ = (char)*s++;
	}
	*out = '\0';
	return safe;
}

static void say(const char *prefix, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void say(const char *prefix, const char *fmt, va_list ap)
{
	QI_AUTO_TEXT char *safe = NULL;
	char text[2048];

	vsnprintf(text, sizeof(text), fmt, ap);
	safe = qi_safe(text);
	qi_progress_clear();
	fprintf(stderr, "%s%s\n", prefix, safe);
}

void qi_say_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("qimg: ", fmt, ap);
	va_end(ap);
}

void qi_say_warning(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("qimg: warning: ", fmt, ap);
	va_end(ap);
}

int qi_report(int ret, const struct qi_error *e)
{
	qi_say_error("%s", e->text[0] ? e->text : strerror(-ret));
	return qi_exit_code(ret);
}

int qi_report_as(int ret, const struct qi_error *e, int code)
{
	qi_report(ret, e);
	return ret == -EINTR ? QI_EXIT_INTERRUPTED : code;
}

/* Scale bytes; a unit is left at 1000 so that three digits are enough. */
static const char *scale(double *value, uint64_t bytes)
{
	size_t unit = 0;

	*value = (double)bytes;
	for (; *value >= 1000 && units[unit + 1]; unit++)
		*value /= 1024;
	return units[unit];
}

const char *qi_human_size(char buf[QI_HUMAN], uint64_t bytes)
{
	double value;
	const char *unit = scale(&value, bytes);

	snprintf(buf, QI_HUMAN, "%0.3g %s", value, unit);
	return buf;
}

const char *qi_human_fixed(char buf[QI_HUMAN], uint64_t bytes)
{
	double value;
	const char *unit = scale(&value, bytes);

	snprintf(buf, QI_HUMAN, "%.*f %s", bytes < 1000 ? 0 : 1, value, unit);
	return buf;
}

const char *qi_human_part(char buf[QI_HUMAN], uint32_t part)
{
	snprintf(buf, QI_HUMAN, "%.7g%%", part / 10000.0);
	return buf;
}

const char *qi_human_seconds(char buf[QI_HUMAN], double seconds)
{
	unsigned long whole = (unsigned long)(seconds + 0.5);

	if (seconds < 59.95)
		snprintf(buf, QI_HUMAN, "%.1f s", seconds);
	else if (whole < 3600)
		snprintf(buf, QI_HUMAN, "%lu min %02lu s", whole / 60,
			 whole % 60);
	else
		snprintf(buf, QI_HUMAN, "%lu h %02lu min", whole / 3600,
			 whole / 60 % 60);
	return buf;
}

const char *qi_human_age(char buf[QI_HUMAN], int64_t seconds)
{
	static const struct {
		int64_t below, unit;
		const char *name;
	} steps[] = {
		{ 60, 1, "s" },
		{ 3600, 60, "min" },
		{ 48 * 3600ll, 3600, "h" },
		{ 100 * 86400ll, 86400, "d" },
		{ 730 * 86400ll, 30 * 86400ll + 37800, "months" },
		{ INT64_MAX, 365 * 86400ll + 21600, "years" },
	};
	size_t i = 0;

	/* A clock may have been set back. */
	if (seconds < 0)
		seconds = 0;
	while (seconds >= steps[i].below)
		i++;
	snprintf(buf, QI_HUMAN, "%lld %s", (long long)(seconds / steps[i].unit),
		 steps[i].name);
	return buf;
}

const char *qi_human_uuid(char buf[QI_UUID_TEXT], const struct qi_uuid *u)
{
	if (qi_uuid_is_null(u))
		snprintf(buf, QI_UUID_TEXT, "none");
	else
		qi_uuid_format(u, buf);
	return buf;
}

void qi_print_plan(const struct qi_plan *plan)
{
	puts("nothing was changed; this would be done:");
	for (size_t i = 0; i < plan->count; i++) {
		QI_AUTO_TEXT char *safe = qi_safe(plan->steps[i]);

		printf("%3zu. %s\n", i + 1, safe);
	}
}

const char *qi_colour(enum qi_colour c)
{
	static const char *const codes[] = {
		[QI_PLAIN] = "\033[0m",	  [QI_BOLD] = "\033[1m",
		[QI_DIM] = "\033[2m",	  [QI_RED] = "\033[31m",
		[QI_YELLOW] = "\033[33m", [QI_GREEN] = "\033[32m",
	};
	const char *no_colour = getenv("NO_COLOR");

	if ((no_colour && *no_colour) || !isatty(STDOUT_FILENO))
		return "";
	return codes[c];
}

bool qi_is_utf8(void)
{
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}

void qi_table_add(struct qi_table *t, const char *text)
{
	/* At each power of two there is to be room for as many again. */
	if (!(t->count & (t->count - 1))) {
		size_t room = t->count ? 2 * t->count : 1;

		t->cell = qi_xrealloc(t->cell, room * sizeof(*t->cell));
	}
	t->cell[t->count++] = qi_safe(text);
}

/* Columns that text takes on a terminal; its bytes if that is unknown. */
static int text_width(const char *text)
{
	wchar_t wide[256];
	size_t n = mbstowcs(wide, text, 256);
	int width = n < 256 ? wcswidth(wide, n) : -1;

	return width < 0 ? (int)strlen(text) : width;
}

static int column_width(const struct qi_table *t, unsigned column)
{
	int width = 0;

	for (size_t i = column; i < t->count; i += t->columns) {
		int w = text_width(t->cell[i]);

		if (w > width)
			width = w;
	}
	return width;
}

void qi_table_print(struct qi_table *t)
{
	int width[8] = { 0 };

	assert(t->columns > 0 && t->columns <= 8);
	for (unsigned c = 0; c < t->columns; c++)
		width[c] = column_width(t, c);
	for (size_t i = 0; i < t->count; i++) {
		unsigned c = (unsigned)(i % t->columns);
		bool last = c + 1 == t->columns;
		int pad = width[c] - text_width(t->cell[i]);

		if (t->right & 1u << c)
			printf("%*s%s%s", pad, "", t->cell[i],
			       last ? "\n" : "  ");
		else if (last)
			printf("%s\n", t->cell[i]);
		else
			printf("%s%*s  ", t->cell[i], pad, "");
		free(t->cell[i]);
	}
	free(t->cell);
	t->cell = NULL;
	t->count = 0;
}

int qi_finish_stdout(void)
{
	/* A closed stdout (>&-) is no loss when nothing was printed. */
	bool used = __fpending(stdout) > 0;
	bool failed = ferror(stdout);

	errno = 0;
	if (fclose(stdout) == 0 && !failed)
		return QI_EXIT_OK;
	if (errno == EBADF && !used && !failed)
		return QI_EXIT_OK;
	qi_say_error("cannot write to standard output: %s",
		     errno ? strerror(errno) : "write error");
	return QI_EXIT_FAILED;
}
