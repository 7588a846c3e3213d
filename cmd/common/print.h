/* SPDX-License-Identifier: MIT */
/*
 * print.h - text for people: messages, sizes, times, names
 */
#ifndef QIMG_PRINT_H
#define QIMG_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/qimg.h"

/* Frees a char pointer at the end of its scope. */
void qi_auto_text(char **text);
#define QI_AUTO_TEXT __attribute__((cleanup(qi_auto_text)))

/* Like their namesakes, but print and exit when there is no memory. */
void *qi_xrealloc(void *p, size_t bytes);
char *qi_xstrdup(const char *text);
char *qi_xprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One line on stderr: "qimg: TEXT" or "qimg: warning: TEXT". */
void qi_say_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void qi_say_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Print *e and return the exit code of the native commands for ret. */
int qi_report(int ret, const struct qi_error *e);
/* The same for the commands of qemu-img: `code`, unless interrupted. */
int qi_report_as(int ret, const struct qi_error *e, int code);

#define QI_HUMAN 32 /* bytes of the buffers below */
/* Three digits and a unit, as qemu-img prints them: "3.26 MiB". */
const char *qi_human_size(char buf[QI_HUMAN], uint64_t bytes);
/* One decimal: "40.0 MiB". */
const char *qi_human_fixed(char buf[QI_HUMAN], uint64_t bytes);
/* "3%", "0.5%", of millionths. */
const char *qi_human_part(char buf[QI_HUMAN], uint32_t part);
/* "0.6 s", "3 min 12 s", "2 h 05 min". */
const char *qi_human_seconds(char buf[QI_HUMAN], double seconds);
/* How long ago: "5 min", "30 h", "12 d", in whole units. */
const char *qi_human_age(char buf[QI_HUMAN], int64_t seconds);
/* UUID or "none". */
const char *qi_human_uuid(char buf[QI_UUID_TEXT], const struct qi_uuid *u);

/*
 * A copy of text in which control characters are \xNN, so that a file name
 * cannot drive the terminal. Freed by the caller.
 */
char *qi_safe(const char *text);

/* Print the steps of a plan that --dry-run asked for. */
void qi_print_plan(const struct qi_plan *plan);

/* Colours: only on a terminal, and never when NO_COLOR is set. */
enum qi_colour { QI_PLAIN, QI_BOLD, QI_DIM, QI_RED, QI_YELLOW, QI_GREEN };
const char *qi_colour(enum qi_colour c);
/* Whether the locale can show characters outside of ASCII. */
bool qi_is_utf8(void);

/* A table with aligned columns; cells are copied and made safe. */
struct qi_table {
	char **cell;
	size_t count;
	unsigned columns;
	unsigned right; /* bit n: column n is aligned to the right */
};
void qi_table_add(struct qi_table *t, const char *text);
/* Print and empty the table; the first row is its head. */
void qi_table_print(struct qi_table *t);

/* Close stdout; 0, or QI_EXIT_FAILED after having printed why. */
int qi_finish_stdout(void);

#endif
