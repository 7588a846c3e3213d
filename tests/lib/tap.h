/* SPDX-License-Identifier: MIT */
/*
 * tap.h - the few words of a C test, printed as TAP
 *
 *	int main(void)
 *	{
 *		ok(1 + 1 == 2, "adding %d and %d", 1, 1);
 *		return tap_done();
 *	}
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static unsigned tap_planned, tap_run, tap_failed;

/* Optional: say first how many tests there will be. */
static inline void plan(unsigned count)
{
	tap_planned = count;
	printf("1..%u\n", count);
}

static inline bool tap_ok(bool good, const char *file, int line,
			  const char *name, ...)
	__attribute__((format(printf, 4, 5)));

static inline bool tap_ok(bool good, const char *file, int line,
			  const char *name, ...)
{
	va_list ap;

	printf("%sok %u - ", good ? "" : "not ", ++tap_run);
	va_start(ap, name);
	vprintf(name, ap);
	va_end(ap);
	putchar('\n');
	if (!good) {
		tap_failed++;
		printf("# failed at %s:%d\n", file, line);
	}
	/* What was said before a crash is seen. */
	fflush(stdout);
	return good;
}

/* A test: a condition, then a name as for printf(). Returns the condition. */
#define ok(condition, ...) tap_ok(condition, __FILE__, __LINE__, __VA_ARGS__)

/* A test that cannot run here. */
#define skip(why) printf("ok %u # SKIP %s\n", ++tap_run, why)

/* The exit code of main(). */
static inline int tap_done(void)
{
	if (!tap_planned)
		printf("1..%u\n", tap_run);
	return tap_failed || (tap_planned && tap_planned != tap_run);
}

#endif
