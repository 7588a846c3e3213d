/* SPDX-License-Identifier: MIT */
/*
 * model.h - what the image should be, for differential.c: its content, that
 * of its snapshots, its bitmaps; and the commands that led there
 */
#ifndef DIFFERENTIAL_MODEL_H
#define DIFFERENTIAL_MODEL_H

#include <inttypes.h>
#include <stdarg.h>

#include "lib/bytes.h"
#include "tests/lib/random.h"
#include "tests/lib/run.h"

#define SECTOR 512u
#define MAX_DISK (8u << 20)
#define SECTORS (MAX_DISK / SECTOR)
#define MAX_SNAPSHOTS 4
#define BITMAPS 2

enum tool { QEMU, OURS };

/* What a command is expected to do. */
enum want { REFUSED, DONE, EITHER };

struct config {
	unsigned cluster_bits;
	unsigned refcount_bits;
	bool v2, extended_l2, zstd, lazy;
	bool data_file, data_file_raw;
};

struct saved {
	char name[12];
	uint64_t size;
	uint8_t guest[MAX_DISK];
};

struct bitmap {
	char name[12];
	bool exists, disabled;
	uint64_t granularity;
	uint8_t base[MAX_DISK]; /* content when it started */
	bool touched[SECTORS];	/* may be dirty */
	bool excused[SECTORS];	/* changed while it was disabled */
	bool dirty[SECTORS];	/* as qimg shows it */
};

static struct {
	struct random rnd;
	uint64_t seed;
	unsigned sequence, step;
	unsigned serial; /* makes names that are new */
	struct config c;
	uint64_t size;
	uint8_t guest[MAX_DISK];
	bool loose[SECTORS]; /* the content may be this, or zero */
	bool wild[SECTORS];  /* the content may be anything */
	char backing[24];    /* "" for none */
	const char *backing_format;
	struct saved saved[MAX_SNAPSHOTS];
	size_t saved_count;
	struct bitmap bitmap[BITMAPS];
	bool failed;
	char *log; /* the commands so far, as a script */
	size_t log_len;
	FILE *script;
	unsigned long steps_run;
} d;

static const char image[] = "d.qcow2";
static const char *qimg;
static const char *self; /* this program, which writes as qemu-io does */
static uint8_t noise[65521];

static uint64_t below(uint64_t n)
{
	return random_below(&d.rnd, n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

static uint64_t cluster_size(void)
{
	return 1ull << d.c.cluster_bits;
}

/* Of the number as text; good until the tenth call after. */
static const char *text_of(uint64_t n)
{
	static char text[10][24];
	static unsigned next;
	char *t = text[next++ % 10];

	snprintf(t, sizeof(text[0]), "%" PRIu64, n);
	return t;
}

/* ------------------------------------------------------------- the log */

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(d.script, fmt, ap);
	va_end(ap);
	fputc('\n', d.script);
}

static void print_commented(const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		printf("#   %.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Only the first failure of a sequence says something. */
static void fail(const char *fmt, ...)
{
	va_list ap;

	if (d.failed)
		return;
	d.failed = true;
	printf("# sequence %u, step %u: ", d.sequence, d.step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	show_messages();
}

static const char *log_word(const char *word)
{
	if (word == qimg)
		return "qimg";
	return word == self ? "differential" : word;
}

/*
 * Runs a program, and writes it down as a line for the shell. One that does
 * not end is killed.
 */
static int command_argv(const char *const argv[])
{
	const char *timed[40] = { "timeout", "-s", "KILL", "30" };

	for (size_t i = 0; argv[i]; i++) {
		const char *w = log_word(argv[i]);
		bool quoted = !*w || strpbrk(w, " ,*;");

		timed[4 + i] = argv[i];
		fprintf(d.script, "%s%s%s%s", i ? " " : "", quoted ? "'" : "",
			w, quoted ? "'" : "");
	}
	fputc('\n', d.script);
	return run_argv(timed);
}

#define command(...) command_argv((const char *[]){ __VA_ARGS__, NULL })

/* Did the command do what it should? True when it did the work. */
static bool came_out(enum want want, int code, const char *what)
{
	if (code > 100 && code != 130)
		fail("%s: exit code %d", what, code);
	else if (want == DONE && code)
		fail("%s was refused: exit code %d", what, code);
	else if (want == REFUSED && !code)
		fail("%s was done, not refused", what);
	if (code)
		note("# refused");
	return code == 0;
}

/* ------------------------------------------------------------ the model */

static void start_bitmap(struct bitmap *b)
{
	memcpy(b->base, d.guest, MAX_DISK);
	memset(b->touched, false, sizeof(b->touched));
	memset(b->excused, false, sizeof(b->excused));
}

static unsigned bitmap_count(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < BITMAPS; i++)
		n += d.bitmap[i].exists;
	return n;
}

/* The range may be dirty from now on. */
static void note_touched(uint64_t off, uint64_t len)
{
	uint64_t end = qi_min(qi_div_up(off + len, SECTOR), SECTORS);

	for (size_t i = 0; i < BITMAPS; i++)
		for (uint64_t s = off / SECTOR; s < end; s++)
			if (!d.bitmap[i].disabled)
				d.bitmap[i].touched[s] = true;
}

/* Content that changes while a bitmap is disabled is none of its business. */
static void excuse(const uint8_t *before)
{
	for (size_t i = 0; i < BITMAPS; i++) {
		struct bitmap *b = &d.bitmap[i];

		if (!b->exists || !b->disabled)
			continue;
		for (uint64_t s = 0; s < SECTORS; s++)
			if (memcmp(before + s * SECTOR, d.guest + s * SECTOR,
				   SECTOR))
				b->excused[s] = true;
	}
}

/* Past the end of the disk all is zero, in the model and in its bitmaps. */
static void note_size(uint64_t size)
{
	if (size < d.size) {
		memset(d.guest + size, 0, MAX_DISK - size);
		for (size_t i = 0; i < BITMAPS; i++) {
			struct bitmap *b = &d.bitmap[i];

			memset(b->base + size, 0, MAX_DISK - size);
			for (uint64_t s = size / SECTOR; s < SECTORS; s++)
				b->excused[s] = false;
		}
	} else {
		note_touched(d.size, size - d.size);
	}
	d.size = size;
}

#endif
