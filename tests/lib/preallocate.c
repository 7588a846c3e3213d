/* SPDX-License-Identifier: MIT */
/* preallocate.c - room for units, by writers that can and cannot reserve */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/preallocate.h"
#include "tests/lib/tap.h"

#define UNIT ((uint64_t)4096)
#define RUN (16 * UNIT)

/* Places units twice as far from the start as they are on the disk. */
struct fake {
	struct qi_writer w;
	uint64_t reserved, placed; /* bytes */
	uint64_t first;		   /* guest offset of the first call */
	bool can_reserve;
};

static int put(struct fake *f, uint64_t off, uint64_t len, uint64_t *host_off,
	       uint64_t *host_len)
{
	if (f->first == QI_NO_OFFSET)
		f->first = off;
	*host_off = off * 2;
	*host_len = qi_min(len, RUN);
	return 0;
}

static int fake_place(struct qi_writer *w, uint64_t off, uint64_t len,
		      uint64_t *host_off, uint64_t *host_len,
		      struct qi_error *e)
{
	struct fake *f = qi_container_of(w, struct fake, w);
	int ret = put(f, off, len, host_off, host_len);

	f->placed += *host_len;
	return ret;
}

static int fake_reserve(struct qi_writer *w, uint64_t off, uint64_t len,
			uint64_t *host_off, uint64_t *host_len,
			struct qi_error *e)
{
	struct fake *f = qi_container_of(w, struct fake, w);
	int ret;

	if (!f->can_reserve)
		return -ENOTSUP;
	ret = put(f, off, len, host_off, host_len);
	f->reserved += *host_len;
	return ret;
}

static const struct qi_writer_ops fake_ops = {
	.place = fake_place,
	.reserve = fake_reserve,
};

/* Run it on a file that holds other bytes; how many are zero after that? */
static uint64_t run(struct fake *f, bool can_reserve, uint64_t off,
		    uint64_t len, enum qi_preallocation mode)
{
	static uint8_t bytes[512 * UNIT];
	struct qi_error e = { "" };
	uint64_t zeroes = 0;

	*f = (struct fake){ .w = { .ops = &fake_ops, .unit = (uint32_t)UNIT },
			    .first = QI_NO_OFFSET,
			    .can_reserve = can_reserve };
	memset(bytes, 0xff, sizeof(bytes));
	qi_unlink("file", NULL);
	if (qi_file_create(&f->w.file, "file", &e) ||
	    qi_file_write(f->w.file, 0, sizeof(bytes), bytes, &e) ||
	    qi_preallocate(&f->w, off, len, mode, &e) ||
	    qi_file_read(f->w.file, 0, sizeof(bytes), bytes, &e)) {
		printf("# %s\n", e.text);
		return QI_NO_OFFSET;
	}
	for (size_t i = 0; i < sizeof(bytes); i++)
		zeroes += !bytes[i];
	qi_file_close(f->w.file, NULL);
	return zeroes;
}

int main(void)
{
	enum qi_preallocation mode;
	struct qi_error e = { "" };
	uint64_t n;
	struct fake f;

	ok(!qi_preallocation_parse("falloc", &mode, &e) &&
		   mode == QI_PREALLOC_FALLOC,
	   "a mode by its name");
	ok(qi_preallocation_parse("Full", &mode, &e) == -EINVAL && e.text[0],
	   "no other name: %s", e.text);

	n = run(&f, true, 0, 100 * UNIT, QI_PREALLOC_OFF);
	ok(!n && !f.reserved && !f.placed, "off: nothing");
	n = run(&f, true, 0, 100 * UNIT, QI_PREALLOC_METADATA);
	ok(!n && f.reserved == 100 * UNIT && !f.placed, "metadata: reserved");
	n = run(&f, true, 0, 100 * UNIT, QI_PREALLOC_FALLOC);
	ok(!n && f.reserved == 100 * UNIT, "falloc: nothing is written");
	n = run(&f, true, 0, 100 * UNIT, QI_PREALLOC_FULL);
	ok(n == 100 * UNIT && f.reserved == 100 * UNIT, "full: zeroes");

	n = run(&f, false, 0, 100 * UNIT, QI_PREALLOC_METADATA);
	ok(n == 100 * UNIT && f.placed == 100 * UNIT,
	   "placed where nothing can be reserved, so zeroes");

	n = run(&f, true, 5 * UNIT + 512, 10 * UNIT, QI_PREALLOC_FULL);
	ok(f.first == 6 * UNIT && n == 10 * UNIT,
	   "a unit that was begun before is left alone");
	n = run(&f, true, 5 * UNIT + 512, 1024, QI_PREALLOC_FULL);
	ok(!n && !f.reserved, "and that may be all");
	return tap_done();
}
