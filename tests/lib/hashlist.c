/* SPDX-License-Identifier: MIT */
/* hashlist.c - lists of content hashes */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/hashlist.h"
#include "tests/lib/random.h"
#include "tests/lib/tap.h"

#define CHUNKS 20000
/* The last chunk is not a whole one. */
#define DISK ((uint64_t)CHUNKS * QI_HASH_UNIT - 7)

enum { ABSENT, ZERO, HASH };

static struct random rnd = { 99 };
static uint8_t kind[CHUNKS];
static struct qi_hash hash[CHUNKS];

static bool write_list(const char *path, struct qi_error *e)
{
	struct qi_hash_writer *w;
	int ret = qi_hash_writer_new(&w, path, DISK, e);

	if (ret)
		return false;
	for (size_t i = 0; i < CHUNKS && !ret;) {
		size_t n = 1 + random_below(&rnd, 700);

		if (n > CHUNKS - i)
			n = CHUNKS - i;
		memset(kind + i, (int)random_below(&rnd, 3), n);
		if (kind[i] == HASH)
			random_fill(&rnd, hash + i, n * sizeof(*hash));
		if (kind[i] != ABSENT)
			ret = qi_hash_writer_add(
				w, i * QI_HASH_UNIT, n,
				kind[i] == HASH ? hash + i : NULL, e);
		i += n;
	}
	if (!ret)
		ret = qi_hash_writer_finish(w, e);
	qi_hash_writer_free(w);
	return !ret;
}

static void test_read(const char *path)
{
	struct qi_hash_reader *r;
	struct qi_error e = { "" };
	bool same = true, zero;
	struct qi_hash h;
	uint64_t off;
	size_t next = 0;
	int ret = qi_hash_reader_new(&r, path, DISK, &e);

	ok(!ret, "opened%s", e.text);
	while (!ret &&
	       (ret = qi_hash_reader_next(r, &off, &h, &zero, &e)) > 0) {
		size_t i = (size_t)(off / QI_HASH_UNIT);

		while (next < i)
			same &= kind[next++] == ABSENT;
		next = i + 1;
		same &= i < CHUNKS && kind[i] == (zero ? ZERO : HASH);
		if (same && !zero)
			same = !memcmp(&h, &hash[i], sizeof(h));
		ret = 0;
	}
	while (next < CHUNKS)
		same &= kind[next++] == ABSENT;
	ok(ret == 0 && same, "all runs come back as they were");
	qi_hash_reader_free(r);
}

/* Reads to the end; the first failure. */
static int read_all(const char *path, uint64_t disk)
{
	struct qi_hash_reader *r;
	struct qi_error e;
	struct qi_hash h;
	uint64_t off;
	bool zero;
	int ret = qi_hash_reader_new(&r, path, disk, &e);

	if (ret)
		return ret;
	while ((ret = qi_hash_reader_next(r, &off, &h, &zero, &e)) > 0)
		;
	qi_hash_reader_free(r);
	return ret;
}

static void put_at(const char *path, long off, const void *data, size_t len)
{
	FILE *f = fopen(path, "r+b");

	if (!f || fseek(f, off, SEEK_SET) || fwrite(data, len, 1, f) != 1)
		abort();
	fclose(f);
}

static void test_damage(void)
{
	const struct qi_hash some[2] = { 0 };
	const uint8_t far[8] = { 0, 0, 0, 0, 0, 1, 0, 0 };
	const uint8_t many[4] = { 0xff, 0xff, 0xff, 0xff };
	struct qi_hash_writer *w;
	struct qi_error e;

	if (qi_hash_writer_new(&w, "small", DISK, &e))
		abort();
	qi_hash_writer_add(w, 5ull * QI_HASH_UNIT, 2, some, &e);
	qi_hash_writer_add(w, 9ull * QI_HASH_UNIT, 1, NULL, &e);
	qi_hash_writer_finish(w, &e);
	qi_hash_writer_free(w);
	ok(read_all("small", DISK) == 0, "a small list");
	ok(read_all("small", DISK + 1) == -EUCLEAN,
	   "a list of another disk is refused");
	if (truncate("small", 24 + 16 + 32 + 15))
		abort();
	ok(read_all("small", DISK) == -EUCLEAN, "half a run is refused");
	if (truncate("small", 24 + 16 + 20))
		abort();
	ok(read_all("small", DISK) == -EUCLEAN, "half a hash is refused");
	put_at("small", 24, far, sizeof(far));
	ok(read_all("small", DISK) == -EUCLEAN,
	   "a run past the end of the disk is refused");
	put_at("small", 24, "\0\0\0\0\0\0\0\0", 8);
	put_at("small", 32, many, sizeof(many));
	ok(read_all("small", DISK) == -EUCLEAN, "so is one that is too long");
	put_at("small", 0, "what", 4);
	ok(read_all("small", DISK) == -EUCLEAN, "a bad signature is refused");
}

int main(void)
{
	struct qi_error e = { "" };

	ok(write_list("list", &e), "written%s", e.text);
	ok(qi_hash_writer_new(&(struct qi_hash_writer *){ NULL }, "list", DISK,
			      &e) < 0,
	   "a list is never replaced");
	test_read("list");
	test_damage();
	return tap_done();
}
