/* SPDX-License-Identifier: MIT */
/*
 * table.h - reading a table: lines, alternatives, steps, words
 *
 * The syntax is told at the top of alike.c. Quotes are those of sh, and what is
 * in quotes is none of the table's business.
 */
#ifndef ALIKE_TABLE_H
#define ALIKE_TABLE_H

#include <ctype.h>
#include <inttypes.h>

#include "tests/lib/random.h"
#include <stdbool.h>

#include "tests/lib/run.h"

static struct random dice;

/* The text as by printf(); free it. */
static char *format(const char *how, ...) __attribute__((format(printf, 1, 2)));

static char *format(const char *how, ...)
{
	va_list ap;
	char *text;

	va_start(ap, how);
	if (vasprintf(&text, how, ap) < 0)
		die("vasprintf");
	va_end(ap);
	return text;
}

/*
 * The first of `wanted` at or after p that is neither quoted nor, when
 * `nested`, inside of braces; else the end of the text.
 */
static const char *find_bare(const char *p, const char *wanted, bool nested)
{
	unsigned depth = 0;
	char quote = '\0';

	for (; *p; p++) {
		if (*p == '\\' && quote != '\'' && p[1]) {
			p++;
		} else if (quote) {
			if (*p == quote)
				quote = '\0';
		} else if (!depth && strchr(wanted, *p)) {
			return p;
		} else if (*p == '\'' || *p == '"') {
			quote = *p;
		} else if (nested && *p == '{') {
			depth++;
		} else if (depth && *p == '}') {
			depth--;
		}
	}
	return p;
}

/* The text with `choice` in place of $GROUP; free it. */
static char *refer(const char *text, unsigned group, const char *choice,
		   size_t len)
{
	char *out, mark[12];
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		die("open_memstream");
	snprintf(mark, sizeof(mark), "$%u", group);
	for (const char *at; (at = strstr(text, mark)); text = at + 2) {
		fwrite(text, 1, (size_t)(at - text), f);
		fwrite(choice, 1, len, f);
	}
	fputs(text, f);
	fclose(f);
	return out;
}

/* Calls fn for each line that the alternatives of this one make. */
static void expand(const char *line, unsigned group, void (*fn)(const char *))
{
	const char *open = find_bare(line, "{", false), *at = open + 1, *close;
	unsigned count = 1, only;
	bool is_random;

	if (!*open) {
		fn(line);
		return;
	}
	is_random = *at == '?';
	at += is_random;
	close = at;
	while (*(close = find_bare(close, "|}", true)) == '|') {
		close++;
		count++;
	}
	if (!*close)
		die("a brace is not closed in a table");
	only = is_random ? (unsigned)random_below(&dice, count) : count;
	for (unsigned i = 0; i < count; i++) {
		const char *end = find_bare(at, "|}", true);

		if (only == count || only == i) {
			char *rest, *one;

			rest = refer(close + 1, group, at, (size_t)(end - at));
			one = format("%.*s%.*s%s", (int)(open - line), line,
				     (int)(end - at), at, rest);
			free(rest);
			expand(one, group + 1, fn);
			free(one);
		}
		at = end + 1;
	}
}

/* The next step of *line, cut off at " ; "; NULL after the last. */
static char *next_step(char **line)
{
	char *step = *line, *end;

	if (!step)
		return NULL;
	step += strspn(step, " \t");
	for (end = step;; end++) {
		end += find_bare(end, ";", false) - end;
		/* One with a space before it: sh may need others. */
		if (!*end || (end > step && end[-1] == ' '))
			break;
	}
	*line = *end ? end + 1 : NULL;
	while (end > step && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return step;
}

#define MAX_WORDS 100

/* Cuts a step into words, in place; NULL after the last. */
static void cut_words(char *text, const char *words[MAX_WORDS])
{
	char *out = text, quote = '\0';
	size_t count = 0;

	while (*(text += strspn(text, " \t"))) {
		if (count == MAX_WORDS - 1)
			die("too many words in a line of a table");
		words[count++] = out;
		for (; *text && (quote || !isspace((unsigned char)*text));
		     text++) {
			if (quote ? *text == quote :
				    strchr("'\"", *text) != NULL)
				quote = quote ? '\0' : *text;
			else if (*text == '\\' && quote != '\'' && text[1])
				*out++ = *++text;
			else
				*out++ = *text;
		}
		text += *text != '\0';
		*out++ = '\0';
	}
	words[count] = NULL;
}

/* The next line, continued lines joined, comments left out; free it. */
static char *next_line(FILE *f, unsigned *number)
{
	char *whole = format("%s", ""), *part = NULL, *joined;
	size_t room = 0;
	ssize_t len;

	while ((len = getline(&part, &room, f)) >= 0) {
		bool more;

		++*number;
		while (len && isspace((unsigned char)part[len - 1]))
			part[--len] = '\0';
		if (!*whole && (!len || *part == '#'))
			continue;
		more = len && part[len - 1] == '\\';
		if (more)
			part[--len] = '\0';
		joined = format("%s%s", whole,
				*whole ? part + strspn(part, " \t") : part);
		free(whole);
		whole = joined;
		if (!more)
			break;
	}
	free(part);
	if (*whole)
		return whole;
	free(whole);
	return NULL;
}

#endif
