/* SPDX-License-Identifier: MIT */
/* sums.c - checksums of the small files of a repository */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/repo.h"
#include "lib/sums.h"

#define DIGITS (QI_HASH_TEXT - 1u)
#define SUMS_MAX (16u << 20)

/* ------------------------------------------------------------------ seals */

#define JSON_END "\n}\n"
/* 32 digits and the end follow. */
#define SEAL ",\n  \"checksum\": \""
#define SEAL_END "\"" JSON_END

static char *add_seal(const char *text, size_t len)
{
	const struct qi_hash h = qi_hash_of(text, len);
	char hex[QI_HASH_TEXT];

	qi_hash_format(&h, hex);
	return qi_format_text("%.*s" SEAL "%s" SEAL_END, (int)len, text, hex);
}

char *qi_seal(const char *text)
{
	return add_seal(text, strlen(text) - strlen(JSON_END));
}

bool qi_is_sealed(const char *text, size_t len)
{
	const size_t seal = strlen(SEAL) + DIGITS + strlen(SEAL_END);
	QI_AUTOFREE char *again = NULL;

	if (len < seal || strlen(text) != len)
		return false;
	again = add_seal(text, len - seal);
	return again && !strcmp(again, text);
}

/* -------------------------------------------------------------- CHECKSUMS */

int qi_sums_add_hash(char **text, const struct qi_hash *h, const char *name,
		     struct qi_error *e)
{
	char hex[QI_HASH_TEXT];
	char *longer;

	qi_hash_format(h, hex);
	longer = qi_format_text("%s%s  %s\n", *text ? *text : "", hex, name);
	free(*text);
	*text = longer;
	return longer ? 0 : qi_no_memory(e);
}

int qi_sums_add(char **text, const char *path, const char *name,
		struct qi_error *e)
{
	struct qi_hash h;
	int ret = qi_hash_file(path, &h, e);

	return ret ? ret : qi_sums_add_hash(text, &h, name, e);
}

static void say(void (*fn)(void *arg, const char *text), void *arg,
		const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void say(void (*fn)(void *arg, const char *text), void *arg,
		const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fn(arg, text);
}

int qi_sums_check(const char *folder, const char *const *names, size_t count,
		  void (*fn)(void *arg, const char *text), void *arg,
		  struct qi_error *e)
{
	QI_AUTOFREE char *sums = qi_path_join(folder, "CHECKSUMS");
	QI_AUTOFREE char *text = NULL;
	struct qi_error why;
	size_t len, pos = 0;

	if (!sums)
		return qi_no_memory(e);
	if (qi_read_text(sums, SUMS_MAX, &text, &len, &why)) {
		say(fn, arg, "%s", why.text);
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		QI_AUTOFREE char *path = qi_path_join(folder, names[i]);
		QI_AUTOFREE char *line = NULL;
		size_t n;
		int ret = path ? qi_sums_add(&line, path, names[i], &why) :
				 qi_no_memory(&why);

		/* Nothing is wrong with the file. */
		if (ret == -EINTR || ret == -ENOMEM) {
			if (e)
				*e = why;
			return ret;
		}
		if (ret) {
			say(fn, arg, "%s", why.text);
			pos += DIGITS + strlen(names[i]) + 3;
			continue;
		}
		n = strlen(line);
		if (pos + n > len ||
		    memcmp(text + pos + DIGITS, line + DIGITS, n - DIGITS))
			break;
		if (memcmp(text + pos, line, DIGITS))
			say(fn, arg, "'%s' was changed: its checksum differs",
			    names[i]);
		pos += n;
	}
	if (pos != len)
		say(fn, arg, "'CHECKSUMS' was changed");
	return 0;
}
