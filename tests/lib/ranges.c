/* SPDX-License-Identifier: MIT */
/* ranges.c - streams of ranges, compared with arrays of bytes */
#include <stdlib.h>

#include "lib/ranges.h"
#include "tests/lib/random.h"
#include "tests/lib/tap.h"

#define SPACE 4096 /* bytes of the disk; one bool each */
#define ROUNDS 400

static struct random rnd;

/* Pieces of what is true in `map`, cut at random: adjacent ones happen. */
struct pieces {
	struct qi_ranges base;
	const bool *map;
	size_t pos;
};

static int pieces_next(struct qi_ranges *r, struct qi_range *out,
		       struct qi_error *e)
{
	struct pieces *p = qi_container_of(r, struct pieces, base);

	(void)e;
	while (p->pos < SPACE && !p->map[p->pos])
		p->pos++;
	if (p->pos == SPACE)
		return 0;
	out->off = p->pos;
	do {
		p->pos++;
	} while (p->pos < SPACE && p->map[p->pos] && random_below(&rnd, 40));
	out->len = p->pos - out->off;
	return 1;
}

static unsigned alive;

static void pieces_free(struct qi_ranges *r)
{
	alive--;
	free(qi_container_of(r, struct pieces, base));
}

static void random_map(bool *map)
{
	bool value = random_below(&rnd, 2);
	size_t longest = 1 + (size_t)random_below(&rnd, 600);

	for (size_t i = 0; i < SPACE; value = !value) {
		size_t n = 1 + (size_t)random_below(&rnd, longest);

		while (n-- && i < SPACE)
			map[i++] = value;
	}
}

static struct qi_ranges *stream(const bool *map)
{
	struct pieces *p = calloc(1, sizeof(*p));

	p->base =
		(struct qi_ranges){ .next = pieces_next, .free = pieces_free };
	p->map = map;
	alive++;
	return &p->base;
}

/* Is the stream sorted, disjoint, not adjacent, and just what map says? */
static bool matches(struct qi_ranges *r, const bool *map, size_t size)
{
	bool got[SPACE] = { 0 };
	uint64_t end = 0;
	struct qi_error e;
	struct qi_range x;
	bool first = true;
	int ret;

	while ((ret = qi_ranges_next(r, &x, &e)) > 0) {
		if (!x.len || (!first && x.off <= end) || x.off + x.len > size)
			return false;
		end = x.off + x.len;
		first = false;
		memset(got + x.off, true, x.len);
	}
	qi_ranges_free(r);
	return !ret && !memcmp(got, map, SPACE * sizeof(bool));
}

static void test_one(void)
{
	struct qi_ranges *r;
	bool map[SPACE] = { 0 };

	ok(!qi_ranges_one(&r, 5, 0) && matches(r, map, SPACE), "nothing");
	memset(map + 5, true, 7);
	ok(!qi_ranges_one(&r, 5, 7) && matches(r, map, SPACE), "one range");
}

static void test_union(void)
{
	bool good = true;

	for (int round = 0; round < ROUNDS; round++) {
		static bool map[6][SPACE], all[SPACE];
		struct qi_ranges *in[6], *r;
		size_t count = random_below(&rnd, 7);

		memset(all, false, sizeof(all));
		for (size_t i = 0; i < count; i++) {
			random_map(map[i]);
			in[i] = stream(map[i]);
			for (size_t k = 0; k < SPACE; k++)
				all[k] |= map[i][k];
		}
		good &= !qi_ranges_union(&r, in, count) &&
			matches(r, all, SPACE);
	}
	ok(good, "unions of up to 6 streams");
	ok(alive == 0, "which own what they are given");
}

static void test_round(void)
{
	bool good = true;

	for (int round = 0; round < ROUNDS; round++) {
		static bool map[SPACE], want[SPACE];
		size_t unit = (size_t)1 << random_below(&rnd, 10);
		size_t size = random_below(&rnd, SPACE + 1);
		struct qi_ranges *r;

		random_map(map);
		memset(want, false, sizeof(want));
		for (size_t i = 0; i < SPACE; i++)
			if (map[i])
				for (size_t k = i & ~(unit - 1), n = unit;
				     n-- && k < size; k++)
					want[k] = true;
		good &= !qi_ranges_round(&r, stream(map), unit, size) &&
			matches(r, want, size);
	}
	ok(good, "rounded to any unit and cut at any size");
	ok(alive == 0, "which owns what it is given");
}

static void test_clip(void)
{
	bool good = true;
	struct qi_ranges *in, *r;
	struct qi_range x;

	for (int round = 0; round < ROUNDS; round++) {
		static bool map[SPACE], want[SPACE];
		size_t size = random_below(&rnd, SPACE + 1);

		random_map(map);
		memset(want, false, sizeof(want));
		memcpy(want, map, size * sizeof(bool));
		good &= !qi_ranges_clip(&r, stream(map), size) &&
			matches(r, want, size);
	}
	ok(good, "cut at any size");
	good = !qi_ranges_one(&in, UINT64_MAX - 10, 10) &&
	       !qi_ranges_round(&r, in, 1ull << 40, UINT64_MAX) &&
	       qi_ranges_next(r, &x, NULL) == 1 && x.off == UINT64_MAX << 40 &&
	       x.len == UINT64_MAX - x.off;
	ok(good, "rounding at the end of all numbers");
	qi_ranges_free(r);
}

/* ------------------------------------------------- bitmaps, allocation */

static struct {
	struct qi_stored_bitmap facts;
	uint8_t *bits;
	enum qi_chunk *kind;
	const bool *allocated;
} fake;

static const struct qi_stored_bitmap *fake_list(struct qi_node *n,
						size_t *count)
{
	(void)n;
	*count = 1;
	return &fake.facts;
}

static int fake_chunk(struct qi_node *n, size_t which, uint64_t index,
		      uint8_t *buf, enum qi_chunk *kind, struct qi_error *e)
{
	(void)n;
	(void)which;
	(void)e;
	*kind = fake.kind[index];
	/* Of chunks without bits the buffer keeps what it had. */
	if (*kind == QI_CHUNK_BITS)
		memcpy(buf, fake.bits + index * fake.facts.chunk_bytes,
		       fake.facts.chunk_bytes);
	return 0;
}

static int fake_map(struct qi_node *n, uint64_t off, uint64_t len,
		    struct qi_extent *out, unsigned max, struct qi_error *e)
{
	uint64_t end = off + len;
	unsigned count = 0;

	(void)n;
	(void)e;
	while (off < end && count < max && (!count || random_below(&rnd, 9))) {
		uint64_t from = off;

		do {
			off++;
		} while (off < end &&
			 fake.allocated[off] == fake.allocated[from]);
		out[count++] = (struct qi_extent){
			.off = from,
			.len = off - from,
			.host_off = QI_NO_OFFSET,
			.flags = fake.allocated[from] ? QI_EXT_ALLOCATED : 0,
		};
	}
	return (int)count;
}

static const struct qi_bitmap_ops fake_bitmaps = { .list = fake_list,
						   .chunk = fake_chunk };
static const struct qi_format fake_format = { .name = "fake",
					      .map = fake_map,
					      .bitmaps = &fake_bitmaps };

static bool bit_is_set(uint64_t bit)
{
	uint64_t chunk_bits = fake.facts.chunk_bytes * 8;

	switch (fake.kind[bit / chunk_bits]) {
	case QI_CHUNK_ZEROES:
		return false;
	case QI_CHUNK_ONES:
		return true;
	default:
		/* NOLINTNEXTLINE(clang-analyzer-core.*): it is filled */
		return fake.bits[bit / 8] >> (bit % 8) & 1;
	}
}

/* One bit a byte of a small disk; dense, sparse and mixed chunks. */
static bool bitmap_round(size_t size)
{
	struct qi_node n = { .format = &fake_format, .facts.size = size };
	static bool want[SPACE];
	struct qi_ranges *r;
	size_t bytes;
	bool good;

	fake.facts.granularity_bits = (unsigned)random_below(&rnd, 5);
	fake.facts.chunk_bytes = 8u << random_below(&rnd, 4);
	fake.facts.chunks =
		qi_div_up(qi_div_up(size, 1u << fake.facts.granularity_bits),
			  fake.facts.chunk_bytes * 8);
	bytes = (size_t)(fake.facts.chunks * fake.facts.chunk_bytes);
	fake.bits = malloc(bytes + 1);
	fake.kind = calloc((size_t)fake.facts.chunks + 1, sizeof(*fake.kind));
	random_fill(&rnd, fake.bits, bytes);
	for (size_t i = 0; i < bytes; i++)
		if (random_below(&rnd, 3))
			fake.bits[i] = random_below(&rnd, 2) ? 0 : 0xff;
	for (uint64_t i = 0; i < fake.facts.chunks; i++)
		fake.kind[i] = (enum qi_chunk)random_below(&rnd, 3);
	for (size_t i = 0; i < SPACE; i++)
		want[i] = i < size &&
			  bit_is_set(i >> fake.facts.granularity_bits);
	good = !qi_ranges_bitmap(&r, &n, 0) && matches(r, want, size);
	free(fake.bits);
	free(fake.kind);
	return good;
}

static void test_bitmap(void)
{
	bool good = true;

	for (int round = 0; round < ROUNDS; round++)
		good &= bitmap_round(1 + random_below(&rnd, SPACE));
	ok(good, "bitmaps with chunks of bits, ones and zeroes");
}

static void test_allocated(void)
{
	bool good = true;

	for (int round = 0; round < ROUNDS; round++) {
		static bool map[SPACE];
		size_t size = random_below(&rnd, SPACE + 1);
		struct qi_node n = { .format = &fake_format,
				     .facts.size = size };
		struct qi_ranges *r;

		random_map(map);
		memset(map + size, false, SPACE - size);
		fake.allocated = map;
		good &= !qi_ranges_allocated(&r, &n) && matches(r, map, size);
	}
	ok(good, "what a layer has allocated");
}

int main(void)
{
	const char *seed = getenv("QIMG_SEED");

	rnd.state = seed ? strtoull(seed, NULL, 0) | 1 : 20261;
	printf("# seed %llu\n", (unsigned long long)rnd.state);
	test_one();
	test_union();
	test_round();
	test_clip();
	test_bitmap();
	test_allocated();
	return tap_done();
}
