/* SPDX-License-Identifier: MIT */
/* error.c - one line for the user, and what its class means for a script */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/format.h"

static volatile sig_atomic_t interrupted;

int qi_fail(struct qi_error *e, int err, const char *fmt, ...)
{
	va_list ap;

	if (e) {
		va_start(ap, fmt);
		vsnprintf(e->text, sizeof(e->text), fmt, ap);
		va_end(ap);
		e->stock[0] = '\0';
	}
	return -err;
}

/* Put what fmt says, and ": ", in front of a text. */
static void put_in_front(char text[1024], const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void put_in_front(char text[1024], const char *fmt, va_list ap)
{
	char longer[1024];
	size_t n, rest;

	vsnprintf(longer, sizeof(longer) - 3, fmt, ap);
	n = strlen(longer);
	memcpy(longer + n, ": ", 3);
	n += 2;
	rest = strnlen(text, sizeof(longer) - 1 - n);
	memcpy(longer + n, text, rest);
	longer[n + rest] = '\0';
	memcpy(text, longer, sizeof(longer));
}

int qi_context(struct qi_error *e, int ret, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return ret;
	va_start(ap, fmt);
	put_in_front(e->text, fmt, ap);
	va_end(ap);
	return ret;
}

int qi_stock(struct qi_error *e, int ret, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return ret;
	va_start(ap, fmt);
	vsnprintf(e->stock, sizeof(e->stock), fmt, ap);
	va_end(ap);
	return ret;
}

int qi_stock_context(struct qi_error *e, int ret, const char *fmt, ...)
{
	va_list ap;

	if (!e || !e->stock[0])
		return ret;
	va_start(ap, fmt);
	put_in_front(e->stock, fmt, ap);
	va_end(ap);
	return ret;
}

static bool is_plain(char c)
{
	return c & 0x80 || isalnum((unsigned char)c) ||
	       (c && strchr("@%+=:,./_-", c));
}

const char *qi_word(struct qi_word *w, const char *name)
{
	size_t n = 0;
	bool plain = true;

	for (const char *p = name; *p && n + 2 < sizeof(w->text); p++) {
		if (!is_plain(*p)) {
			w->text[n++] = '\\';
			plain = false;
		}
		w->text[n++] = *p;
	}
	w->text[n] = '\0';
	return plain ? name : w->text;
}

int qi_exit_code(int ret)
{
	if (ret >= 0)
		return 0;
	switch (-ret) {
	case EUCLEAN:
		return 4;
	case EBUSY:
		return 5;
	case ESTALE:
		return 6;
	case ENOSPC:
	case EDQUOT:
		return 7;
	case EINTR:
		return 130;
	default:
		return 1;
	}
}

void qi_interrupt(void)
{
	interrupted = 1;
}

int qi_interrupted(struct qi_error *e)
{
	return interrupted ? qi_fail(e, EINTR, "interrupted") : 0;
}

int qi_no_memory(struct qi_error *e)
{
	return qi_fail(e, ENOMEM, "out of memory");
}
