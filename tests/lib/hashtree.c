/* SPDX-License-Identifier: MIT */
/* hashtree.c - trees of content hashes, against plain arrays of hashes */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/hashtree.h"
#include "lib/ranges.h"
#include "tests/lib/random.h"
#include "tests/lib/tap.h"

#define CHUNKS 300000 /* more than three levels of nodes */
#define POINTS 12

/* A disk as it is now, and what the last point stored of it. */
static struct random rnd;
static uint64_t size;
static struct qi_hash now[CHUNKS];
static bool stored[CHUNKS];

static size_t chunks_of(uint64_t bytes)
{
	return (size_t)qi_div_up(bytes, QI_HASH_UNIT);
}

/* As the manual has it: level by level, over all of the disk. */
static struct qi_hash root_of_all(void)
{
	static struct qi_hash level[CHUNKS + 64];
	size_t count = chunks_of(size);
	struct {
		be64 size;
		struct qi_hash top;
	} both = { be64_put(size), { { 0 } } };

	memset(level, 0, sizeof(level));
	memcpy(level, now, count * sizeof(*now));
	do {
		size_t nodes = qi_max(qi_div_up(count, 64), 1);

		for (size_t i = 0; i < nodes; i++) {
			struct qi_hash *first = &level[i * 64];
			size_t len = 64 * sizeof(*first);
			struct qi_hash h = { { 0 } };

			if (!qi_is_zero(first, len))
				h = qi_hash_of(first, len);
			level[i] = h;
		}
		memset(&level[nodes], 0, (CHUNKS + 64 - nodes) * 16);
		count = nodes;
	} while (count > 1);
	both.top = level[0];
	return qi_hash_of(&both, sizeof(both));
}

static void change(size_t first, size_t count, struct qi_hash_tree_writer *w)
{
	/* Often at the end, which may have been cut. */
	bool zero = random_below(&rnd, 3) == 0 ||
		    (first + count == chunks_of(size) &&
		     random_below(&rnd, 2) == 0);
	struct qi_error e;

	if (zero)
		memset(&now[first], 0, count * sizeof(*now));
	else
		random_fill(&rnd, &now[first], count * sizeof(*now));
	memset(&stored[first], true, count);
	if (qi_hash_tree_writer_add(w, first * QI_HASH_UNIT, count,
				    zero ? NULL : &now[first], &e))
		abort();
}

/* The disk gets another size, and changes at random places. */
static struct qi_hash write_point(const char *path, struct qi_hash_tree *below)
{
	size_t old = chunks_of(size), count, last;
	bool resized = !below || random_below(&rnd, 3) == 0;
	struct qi_hash_tree_writer *w;
	struct qi_hash root;
	struct qi_error e;

	memset(stored, 0, sizeof(stored));
	if (resized)
		size = random_below(&rnd, (uint64_t)QI_HASH_UNIT
						  << random_below(&rnd, 19));
	count = chunks_of(size);
	if (count < old)
		memset(&now[count], 0, (old - count) * sizeof(*now));
	/* Where the smaller of the two ends, a chunk has another length. */
	last = qi_min(old, count);
	if (qi_hash_tree_writer_new(&w, path, size, below, &e))
		abort();
	for (size_t at = 0; at < count;) {
		size_t n =
			1 + random_below(&rnd, 1ull << random_below(&rnd, 16));

		n = qi_min(n, count - at);
		if (random_below(&rnd, 3) == 0) {
			change(at, n, w);
		} else if (resized && last && at < last && at + n >= last) {
			if (at + 1 < last)
				at = last - 1;
			n = 1;
			change(at, n, w);
		}
		at += n;
	}
	if (qi_hash_tree_writer_finish(w, &root, &e))
		abort();
	qi_hash_tree_writer_free(w);
	return root;
}

static bool hashes_are_right(struct qi_hash_tree *t)
{
	struct qi_error e;
	struct qi_hash h;

	for (size_t i = 0; i < chunks_of(size) + 3; i++) {
		size_t at = i;

		/* To and fro, as nobody reads in order alone. */
		if (i % 100 == 7)
			at = (size_t)random_below(&rnd, chunks_of(size) + 1);
		if (qi_hash_tree_hash(t, (uint64_t)at * QI_HASH_UNIT, &h, &e) ||
		    !qi_hash_equal(&h, &now[at]))
			return false;
	}
	return true;
}

static bool stored_is_right(struct qi_hash_tree *t)
{
	struct qi_ranges *all;
	struct qi_range r;
	struct qi_error e;
	size_t next = 0;
	bool good = true;
	int ret;

	if (qi_hash_tree_stored(&all, t))
		abort();
	while ((ret = qi_ranges_next(all, &r, &e)) > 0) {
		good &= r.off % QI_HASH_UNIT == 0 &&
			qi_fits(r.off, r.len, size);
		while (good && next < r.off / QI_HASH_UNIT)
			good = !stored[next++];
		while (good && next < chunks_of(r.off + r.len))
			good = stored[next++];
		if (!good)
			break;
	}
	qi_ranges_free(all);
	while (good && next < chunks_of(size))
		good = !stored[next++];
	return good && !ret;
}

static void test_points(uint64_t seed)
{
	struct qi_hash_tree *t = NULL;
	struct qi_error e = { "" };

	rnd.state = seed;
	size = 0;
	memset(now, 0, sizeof(now));
	for (unsigned i = 0; i < POINTS; i++) {
		char path[32];
		struct qi_hash root, all, is;
		int ret;

		snprintf(path, sizeof(path), "%u-%u", (unsigned)seed, i);
		root = write_point(path, t);
		all = root_of_all();
		ret = qi_hash_tree_open(&t, path, t, &e);
		if (!ok(!ret, "seed %u, point %u opens%s", (unsigned)seed, i,
			e.text))
			return;
		is = qi_hash_tree_root(t);
		ok(qi_hash_equal(&root, &is) && qi_hash_equal(&root, &all),
		   "its root is that of all of the disk, %zu chunks",
		   chunks_of(size));
		ok(qi_hash_tree_size(t) == size && hashes_are_right(t),
		   "its hashes are right");
		ok(stored_is_right(t), "what it stores is right");
	}
	qi_hash_tree_free(t);
}

/* Reads all that there is; the first failure, or 1 if something is other. */
static int read_again(const char *path, const char *below,
		      const struct qi_hash *root)
{
	struct qi_hash_tree *b = NULL, *t = NULL;
	struct qi_error e;
	struct qi_hash is;
	int ret = qi_hash_tree_open(&b, below, NULL, &e);

	if (!ret)
		ret = qi_hash_tree_open(&t, path, b, &e);
	if (ret)
		return ret;
	is = qi_hash_tree_root(t);
	if (!qi_hash_equal(&is, root) || !hashes_are_right(t))
		ret = 1;
	qi_hash_tree_free(t);
	return ret;
}

static void flip(const char *path, long at, int bits)
{
	FILE *f = fopen(path, "r+b");
	int c;

	if (!f || fseek(f, at, SEEK_SET))
		abort();
	c = getc(f);
	if (fseek(f, at, SEEK_SET) || putc(c ^ bits, f) == EOF)
		abort();
	fclose(f);
}

/* A byte of either file changes: that is seen, save in what is stored. */
static void test_flips(void)
{
	struct qi_hash_tree_writer *w;
	struct qi_hash_tree *b;
	struct qi_hash root;
	struct qi_error e;
	unsigned missed = 0, tried = 0;
	const char *const paths[] = { "below", "above" };

	rnd.state = 77;
	memset(now, 0, sizeof(now));
	size = 70 * QI_HASH_UNIT - 5;
	if (qi_hash_tree_writer_new(&w, "below", size, NULL, &e))
		abort();
	change(0, 70, w);
	if (qi_hash_tree_writer_finish(w, &root, &e) ||
	    qi_hash_tree_open(&b, "below", NULL, &e))
		abort();
	qi_hash_tree_writer_free(w);
	if (qi_hash_tree_writer_new(&w, "above", size, b, &e))
		abort();
	random_fill(&rnd, &now[68], sizeof(*now));
	qi_hash_tree_writer_add(w, 68ull * QI_HASH_UNIT, 1, &now[68], &e);
	if (qi_hash_tree_writer_finish(w, &root, &e))
		abort();
	qi_hash_tree_writer_free(w);
	qi_hash_tree_free(b);
	ok(read_again("above", "below", &root) == 0, "two small trees");
	for (unsigned p = 0; p < 2; p++) {
		long len = p ? 64 + 2 * 1056 : 64 + 3 * 1056;

		for (long at = 0; at < len; at++) {
			long in = at < 64 ? -1 : (at - 64) % 1040;
			bool is_node = at < 64 + (p ? 2 : 3) * 1040;

			if (is_node && in >= 8 && in < 16)
				continue; /* what is stored */
			flip(paths[p], at, 0x10);
			tried++;
			missed += !read_again("above", "below", &root);
			flip(paths[p], at, 0x10);
		}
	}
	/* Of the file below two nodes have been changed, and are not used. */
	ok(missed == 2 * (1040 - 8), "of %u flipped bytes %u are not seen",
	   tried, missed);
	if (truncate("above", 64 + 2 * 1056 - 1))
		abort();
	ok(read_again("above", "below", &root) == -EUCLEAN, "cut off");
}

int main(void)
{
	struct qi_error e;

	for (uint64_t seed = 1; seed <= 40; seed++)
		test_points(seed);
	test_flips();
	ok(qi_hash_tree_writer_new(&(struct qi_hash_tree_writer *){ NULL },
				   "below", 1, NULL, &e) < 0,
	   "a tree is never replaced");
	return tap_done();
}
