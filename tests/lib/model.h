/* SPDX-License-Identifier: MIT */
/* model.h - what a drive and its bitmaps should be, for model.c */
#ifndef MODEL_H
#define MODEL_H

#include <stdarg.h>

#include "lib/bytes.h"
#include "tests/lib/random.h"
#include "tests/lib/run.h"

#define SECTOR 512u
#define CLUSTER 65536u
#define MAX_SIZE (5u << 20)
#define SECTORS (MAX_SIZE / SECTOR)
#define MAX_LAYERS 6

struct bitmap {
	const char *name;
	char granularity_text[8];
	uint32_t granularity;
	bool paused;
	bool was_paused; /* at some time since it starts */
	bool fuzzy;	 /* something foreign happened since it starts */
	uint64_t base_size, min_size;
	uint8_t base[MAX_SIZE]; /* content when it started */
	bool written[SECTORS];	/* since then, while it was enabled */
	bool excused[SECTORS];	/* written while it was not */
	/* as qimg shows it */
	bool dirty[SECTORS];
	bool is_full;
};

static struct {
	struct random rnd;
	bool is_link;
	unsigned step, serial;
	uint64_t size;
	uint8_t guest[MAX_SIZE];
	uint64_t layer_size[MAX_LAYERS];
	unsigned layers;
	bool is_torn; /* the head's bitmaps were left in use */
	struct bitmap bitmap[2];
	/* backups, of the first bitmap */
	bool has_point, is_continued, has_gap, is_unsure;
} m;

static const char drive[] = "vm.qcow2";
static const char *qimg;
static bool failed;

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void fail(const char *fmt, ...)
{
	va_list ap;

	printf("# step %u: ", m.step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	show_messages();
	failed = true;
}

static uint64_t below(uint64_t n)
{
	return random_below(&m.rnd, n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* ------------------------------------------------------------ the model */

static void start_bitmap(struct bitmap *b)
{
	b->fuzzy = false;
	b->was_paused = b->paused;
	b->base_size = b->min_size = m.size;
	memcpy(b->base, m.guest, MAX_SIZE);
	memset(b->written, 0, sizeof(b->written));
	memset(b->excused, 0, sizeof(b->excused));
}

static void note_write(uint64_t off, uint64_t len, int value)
{
	memset(m.guest + off, value, len);
	for (size_t i = 0; i < 2; i++) {
		struct bitmap *b = &m.bitmap[i];

		for (uint64_t s = off / SECTOR; s < (off + len) / SECTOR; s++)
			*(b->paused ? &b->excused[s] : &b->written[s]) = true;
	}
}

/* Bits past the end are gone; what comes back there is another matter. */
static void note_size(uint64_t size)
{
	if (size < m.size) {
		memset(m.guest + size, 0, MAX_SIZE - size);
		for (size_t i = 0; i < 2; i++) {
			struct bitmap *b = &m.bitmap[i];

			b->min_size = qi_min(b->min_size, size);
			for (uint64_t s = size / SECTOR; s < SECTORS; s++)
				b->written[s] = b->excused[s] = false;
		}
	}
	m.size = m.layer_size[m.layers - 1] = size;
}

static void note_foreign(void)
{
	m.bitmap[0].fuzzy = m.bitmap[1].fuzzy = true;
}

/* ----------------------------------------------------------- comparing */

/* Does the JSON of a layer say anything that only foreign tools explain? */
static bool layer_is_plain(json_t *layer)
{
	const char *s = json_string_value(json_object_get(layer, "status"));

	return s && (!strcmp(s, "exact") || !strcmp(s, "paused"));
}

static bool take_dirty(struct bitmap *b, json_t *root)
{
	json_t *x, *layers = json_object_get(root, "layers");
	const char *s = json_string_value(json_object_get(root, "status"));
	size_t i;

	memset(b->dirty, 0, sizeof(b->dirty));
	b->is_full = s && !strcmp(s, "full");
	json_array_foreach(json_object_get(root, "extents"), i, x)
	{
		json_int_t off =
			json_integer_value(json_object_get(x, "offset"));
		json_int_t len =
			json_integer_value(json_object_get(x, "length"));

		if (off < 0 || len <= 0 || off % SECTOR || len % SECTOR ||
		    (uint64_t)(off + len) > m.size)
			return false;
		memset(b->dirty + off / SECTOR, true, (size_t)len / SECTOR);
	}
	if (!s || json_array_size(layers) == 0)
		return false;
	json_array_foreach(layers, i, x)
	{
		if (b->fuzzy || layer_is_plain(x))
			continue;
		fail("bitmap %s: a layer is %s: %s", b->name,
		     json_string_value(json_object_get(x, "status")),
		     json_string_value(json_object_get(x, "reason")));
	}
	return true;
}

static void compare_dirty(const struct bitmap *b)
{
	static bool exact[SECTORS];
	uint64_t unit = b->granularity / SECTOR, end = m.size / SECTOR;

	memset(exact, 0, sizeof(exact));
	for (uint64_t s = 0; s < end; s++) {
		bool differs = s >= b->base_size / SECTOR ||
			       memcmp(b->base + s * SECTOR,
				      m.guest + s * SECTOR, SECTOR);

		if (differs && !b->dirty[s] && !b->excused[s]) {
			fail("bitmap %s misses %llu", b->name,
			     (unsigned long long)s * SECTOR);
			return;
		}
		if (s >= b->min_size / SECTOR)
			exact[s] = true;
		if (!b->written[s])
			continue;
		for (uint64_t k = s / unit * unit; k < s / unit * unit + unit;
		     k++)
			exact[k] |= k < end;
	}
	for (uint64_t s = 0; s < end && !b->fuzzy; s++) {
		if (b->dirty[s] == exact[s])
			continue;
		fail("bitmap %s: %llu is %s", b->name,
		     (unsigned long long)s * SECTOR,
		     exact[s] ? "clean" : "dirty for no reason");
		return;
	}
}

static void compare_bitmap(struct bitmap *b)
{
	json_t *root;

	if (run(qimg, "bitmap", "show", "--drive", drive, "--output", "json",
		b->name)) {
		fail("bitmap %s cannot be shown", b->name);
		return;
	}
	root = output_json();
	if (!root || !take_dirty(b, root))
		fail("bitmap %s: bad JSON", b->name);
	else if (!failed)
		compare_dirty(b);
	json_decref(root);
}

static void compare_content(const char *path, const char *what)
{
	size_t len;
	char *raw = slurp(path, &len);

	if (len != m.size || memcmp(raw, m.guest, len))
		fail("content differs: %s", what);
	free(raw);
}

static void compare_all(void)
{
	int code = run("qemu-img", "check", "-q", "-f", "qcow2", drive);

	if (code != 0 && code != 3)
		fail("qemu-img check: exit code %d", code);
	if (run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", drive,
		"content.raw"))
		fail("qemu-img cannot read the drive");
	else
		compare_content("content.raw", "the guest's disk");
	for (size_t i = 0; i < 2 && !failed; i++)
		compare_bitmap(&m.bitmap[i]);
}

#endif
