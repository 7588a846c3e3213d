/* SPDX-License-Identifier: MIT */
/*
 * state.h - what a drive should be, in plain arrays: its content, its layers,
 * its snapshots, its bitmaps, its clones; for model.c
 */
#ifndef MODEL_STATE_H
#define MODEL_STATE_H

#include <stdbool.h>

#include "lib/bytes.h"
#include "tests/lib/random.h"
#include "tests/lib/run.h"

#define SECTOR 512u
#define CLUSTER 65536u
#define MAX_SIZE ((size_t)40 * CLUSTER)
#define SECTORS (MAX_SIZE / SECTOR)
#define MAX_LAYERS 6
#define DRIVE_BITMAPS 2
#define NODE_BITMAPS 2
#define CLONES 2

/* A bitmap of the drive. */
struct bitmap {
	const char *name;
	char granularity_text[8];
	uint32_t granularity;
	char checkpoint[40]; /* the id of its start; "" before qimg tells */
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

/* A bitmap of one file, which must stay there. */
struct node_bitmap {
	bool exists;
	char name[16], path[64];
	ino_t ino;
	bool disabled;
	bool lost; /* its image was left in use */
	uint64_t min_size;
	uint8_t base[MAX_SIZE]; /* what the file read as when it started */
	bool written[SECTORS], excused[SECTORS];
	bool dirty[SECTORS]; /* as qimg shows it */
};

/* A file of the chain. Of the head, path alone counts. */
struct layer {
	char path[64];
	char tag[16]; /* of the snapshot that it is, or "" */
	uint64_t size;
	uint8_t content[MAX_SIZE];
	bool was_shared; /* a clone was made on it */
	bool is_broken;	 /* it does not rest on what it was made on */
};

/* A drive that starts on a layer of ours. */
struct clone {
	bool exists;
	char path[64];
	int rests_on; /* index of a layer, or of one below; -1: none */
	uint64_t size;
	uint8_t content[MAX_SIZE];
};

/* A snapshot inside the file of the head. */
struct inner {
	bool exists;
	char name[16], path[64];
	uint64_t size;
	uint8_t content[MAX_SIZE];
};

static struct {
	struct random rnd;
	const char *life;
	uint64_t seed;
	bool is_link;
	bool has_daemon, has_system; /* QEMU processes that can be used */
	unsigned step, serial;
	uint64_t size;
	uint8_t guest[MAX_SIZE];
	unsigned layers;
	struct layer *layer[MAX_LAYERS + 1]; /* [0] is the root */
	bool is_torn;	/* the head's bitmaps were left in use */
	bool is_marked; /* the head is frozen, perhaps */
	bool has_leftovers;
	bool compare_layers; /* all of them, as the step changed some */
	struct bitmap bitmap[DRIVE_BITMAPS];
	struct node_bitmap node_bitmap[NODE_BITMAPS];
	struct clone clone[CLONES];
	struct inner inner;
	/* backups, of the first bitmap */
	bool has_point, is_continued, has_gap, is_unsure;
	unsigned points;
} m;

static const char drive[] = "vm.qcow2";
static const char *qimg;
static bool failed;

/* What a step came to. */
enum outcome { NO_SENSE, REFUSED, DONE };

static uint64_t below(uint64_t n)
{
	return random_below(&m.rnd, n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

static struct layer *head(void)
{
	return m.layer[m.layers - 1];
}

static uint64_t size_of_layer(unsigned i)
{
	return i == m.layers - 1 ? m.size : m.layer[i]->size;
}

static const uint8_t *content_of_layer(unsigned i)
{
	return i == m.layers - 1 ? m.guest : m.layer[i]->content;
}

/* The layer in that file; -1: none, any more. */
static int layer_at(const char *path)
{
	for (unsigned i = 0; i < m.layers; i++)
		if (!strcmp(m.layer[i]->path, path))
			return (int)i;
	return -1;
}

static uint64_t random_size(void)
{
	return CLUSTER * (10 + below(MAX_SIZE / CLUSTER - 10));
}

/* -------------------------------------------------------- drive bitmaps */

static void start_bitmap(struct bitmap *b)
{
	b->fuzzy = false;
	*b->checkpoint = '\0';
	b->was_paused = b->paused;
	b->base_size = b->min_size = m.size;
	memcpy(b->base, m.guest, MAX_SIZE);
	memset(b->written, 0, sizeof(b->written));
	memset(b->excused, 0, sizeof(b->excused));
}

static bool is_backed_up(const struct bitmap *b)
{
	return b == &m.bitmap[0];
}

/* It starts afresh. */
static void note_start(struct bitmap *b)
{
	start_bitmap(b);
	/* What the other bitmap misses by that is in its set from now on. */
	head()->is_broken = false;
	if (is_backed_up(b)) {
		m.is_continued = m.is_unsure = false;
		m.has_gap = b->paused;
	}
}

/* Its sets may have more from here on than what was written. */
static void note_foreign(void)
{
	for (size_t i = 0; i < DRIVE_BITMAPS; i++)
		m.bitmap[i].fuzzy = true;
}

/* --------------------------------------------------------- node bitmaps */

/* A node bitmap of the file, or NULL. */
static struct node_bitmap *node_bitmap_at(const char *path)
{
	for (size_t i = 0; i < NODE_BITMAPS; i++)
		if (m.node_bitmap[i].exists &&
		    !strcmp(m.node_bitmap[i].path, path))
			return &m.node_bitmap[i];
	return NULL;
}

static struct node_bitmap *node_bitmap_of(unsigned layer)
{
	return node_bitmap_at(m.layer[layer]->path);
}

/* Any from one layer up to another? */
static struct node_bitmap *node_bitmap_between(unsigned from, unsigned to)
{
	for (unsigned i = from; i <= to; i++)
		if (node_bitmap_of(i))
			return node_bitmap_of(i);
	return NULL;
}

/* What is dirty in it from here on counts from what its file reads as now. */
static void start_node_bitmap(struct node_bitmap *b)
{
	int i = layer_at(b->path);

	memset(b->written, 0, sizeof(b->written));
	memset(b->excused, 0, sizeof(b->excused));
	memset(b->dirty, 0, sizeof(b->dirty));
	b->lost = false;
	if (i < 0)
		return;
	b->min_size = size_of_layer((unsigned)i);
	memcpy(b->base, content_of_layer((unsigned)i), MAX_SIZE);
}

/* The file at `from` is at `to` now; nothing of ours did that. */
static void move_node_bitmaps(const char *from, const char *to)
{
	for (size_t i = 0; i < NODE_BITMAPS; i++) {
		struct node_bitmap *b = &m.node_bitmap[i];

		if (b->exists && !strcmp(b->path, from))
			snprintf(b->path, sizeof(b->path), "%s", to);
	}
}

/* ------------------------------------------------------ what is written */

static void note_write(uint64_t off, uint64_t len, int value)
{
	memset(m.guest + off, value, len);
	for (uint64_t s = off / SECTOR; s < (off + len) / SECTOR; s++) {
		for (size_t i = 0; i < DRIVE_BITMAPS; i++) {
			struct bitmap *b = &m.bitmap[i];

			*(b->paused ? &b->excused[s] : &b->written[s]) = true;
		}
		for (size_t i = 0; i < NODE_BITMAPS; i++) {
			struct node_bitmap *b = &m.node_bitmap[i];

			if (b->exists && !strcmp(b->path, head()->path))
				*(b->disabled ? &b->excused[s] :
						&b->written[s]) = true;
		}
	}
}

/* A disabled node bitmap does not see what a file gets. */
static void excuse_node_bitmaps(unsigned layer, const uint8_t *content)
{
	const uint8_t *old = content_of_layer(layer);

	for (size_t i = 0; i < NODE_BITMAPS; i++) {
		struct node_bitmap *b = &m.node_bitmap[i];

		if (!b->exists || !b->disabled ||
		    strcmp(b->path, m.layer[layer]->path))
			continue;
		for (uint64_t s = 0; s < SECTORS; s++)
			b->excused[s] |= memcmp(old + s * SECTOR,
						content + s * SECTOR,
						SECTOR) != 0;
	}
}

static void forget_past_end(bool *written, bool *excused, uint64_t size)
{
	for (uint64_t s = size / SECTOR; s < SECTORS; s++)
		written[s] = excused[s] = false;
}

/* Bits past the end are gone; what comes back there is another matter. */
static void note_size(uint64_t size)
{
	if (size < m.size)
		memset(m.guest + size, 0, MAX_SIZE - size);
	for (size_t i = 0; i < DRIVE_BITMAPS && size < m.size; i++) {
		struct bitmap *b = &m.bitmap[i];

		b->min_size = qi_min(b->min_size, size);
		forget_past_end(b->written, b->excused, size);
	}
	m.size = size;
	for (size_t i = 0; i < NODE_BITMAPS; i++) {
		struct node_bitmap *b = &m.node_bitmap[i];

		if (!b->exists || strcmp(b->path, head()->path) ||
		    size >= b->min_size)
			continue;
		b->min_size = size;
		forget_past_end(b->written, b->excused, size);
	}
}

/* The guest sees something else; not by writing. */
static void note_content(const uint8_t *content, uint64_t size)
{
	for (size_t i = 0; i < DRIVE_BITMAPS; i++) {
		struct bitmap *b = &m.bitmap[i];

		b->fuzzy = true;
		for (uint64_t s = 0; s < SECTORS && b->paused; s++)
			b->excused[s] |= memcmp(content + s * SECTOR,
						m.guest + s * SECTOR,
						SECTOR) != 0;
	}
	note_size(size);
	memcpy(m.guest, content, MAX_SIZE);
}

#endif
