/* SPDX-License-Identifier: MIT */
/* record.c - the private header extension, whole and damaged */
#include <errno.h>
#include <stdio.h>

#include "lib/record.h"
#include "tests/lib/tap.h"

static struct qi_record *sample(size_t count)
{
	struct qi_record *r;
	char name[32];

	if (qi_record_copy(&r, NULL))
		abort();
	r->parent = qi_uuid_random();
	r->drive = qi_uuid_random();
	r->frozen = true;
	r->committed = true;
	r->merging = true;
	strcpy(r->tag, "before the upgrade");
	for (size_t i = 0; i < count; i++) {
		struct qi_record_bitmap *b;

		snprintf(name, sizeof(name), "bitmap %zu", i);
		b = qi_record_put(r, name);
		b->anchor = i & 1;
		b->paused = i & 2;
		b->removed = i & 4;
		b->checkpoint = qi_uuid_random();
		b->min_size = i << 33;
	}
	if (count)
		qi_journal_set(r, QI_JOURNAL_MOVE + count % 2, &r->drive,
			       "was here", "is there");
	return r;
}

static bool same_bitmap(const struct qi_record_bitmap *a,
			const struct qi_record_bitmap *b)
{
	return b && !strcmp(a->name, b->name) && a->anchor == b->anchor &&
	       a->paused == b->paused && a->removed == b->removed &&
	       qi_uuid_equal(&a->checkpoint, &b->checkpoint) &&
	       a->min_size == b->min_size;
}

static bool same(const struct qi_record *a, const struct qi_record *b)
{
	bool yes =
		a->state == b->state && qi_uuid_equal(&a->image, &b->image) &&
		qi_uuid_equal(&a->parent, &b->parent) &&
		qi_uuid_equal(&a->drive, &b->drive) && a->frozen == b->frozen &&
		a->shared == b->shared && a->committed == b->committed &&
		a->merging == b->merging && !strcmp(a->tag, b->tag) &&
		a->count == b->count && a->journal.kind == b->journal.kind &&
		qi_uuid_equal(&a->journal.uuid, &b->journal.uuid) &&
		!strcmp(a->journal.source, b->journal.source) &&
		!strcmp(a->journal.name, b->journal.name);

	for (size_t i = 0; yes && i < a->count; i++)
		yes = same_bitmap(&a->bitmaps[i],
				  qi_record_find(b, a->bitmaps[i].name));
	return yes;
}

static enum qi_record_state state_of(const void *blob, size_t len)
{
	struct qi_record *r;
	enum qi_record_state s;

	if (qi_record_parse(&r, blob, len))
		abort();
	s = r->state;
	qi_record_free(r);
	return s;
}

static void test_round_trip(size_t count)
{
	struct qi_record *r = sample(count), *back, *copy;
	void *blob;
	size_t len;

	ok(!qi_record_serialise(r, &blob, &len) && len % 8 == 0,
	   "a record with %zu bitmaps", count);
	ok(!qi_record_parse(&back, blob, len) && same(r, back), "comes back");
	ok(!qi_record_copy(&copy, back) && same(r, copy), "and can be copied");
	free(blob);
	qi_record_free(r);
	qi_record_free(back);
	qi_record_free(copy);
}

static void test_damage(void)
{
	struct qi_record *r = sample(5);
	uint8_t *blob, longer[QI_RECORD_MAX + 8] = { 0 };
	bool flipped = true, truncated = true;
	void *p;
	size_t len;

	if (qi_record_serialise(r, &p, &len))
		abort();
	blob = p;
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			blob[i] ^= (uint8_t)(1 << bit);
			flipped &= state_of(blob, len) == QI_RECORD_UNKNOWN;
			blob[i] ^= (uint8_t)(1 << bit);
		}
	}
	ok(flipped, "any bit that flips makes it unknown");
	for (size_t i = 0; i < len; i++) {
		/* A copy of just that size: valgrind and ASan look on. */
		void *some = malloc(i + 1);

		memcpy(some, blob, i);
		truncated &= state_of(some, i) == QI_RECORD_UNKNOWN;
		free(some);
	}
	ok(truncated, "so does each truncation");
	memcpy(longer, blob, len);
	ok(state_of(longer, len + 8) == QI_RECORD_UNKNOWN &&
		   state_of(longer, sizeof(longer)) == QI_RECORD_UNKNOWN,
	   "so do bytes after it");
	ok(state_of(blob, len) == QI_RECORD_VALID, "while it is valid itself");
	free(blob);
	qi_record_free(r);
}

static void test_facts(void)
{
	static const char *const commands[] = { NULL, "bitmap move",
						"snapshot delete or commit" };
	struct qi_record_facts f;

	for (enum qi_journal_kind kind = 0; kind <= QI_JOURNAL_DROP; kind++) {
		struct qi_record *r = sample(0);
		struct qi_node n = { .record = r };
		const char *want = commands[kind];

		qi_journal_set(r, kind, &r->drive, "there", "here");
		ok(!qi_node_record(&n, &f) && f.committed &&
			   !f.unfinished == !want &&
			   (!want || !strcmp(f.unfinished, want)),
		   "what is unfinished is said: %s", want ? want : "nothing");
		ok(!f.parent_is_right, "without the layer below");
		qi_record_free(r);
	}
}

static void test_too_big(void)
{
	struct qi_record *r = sample(0), *back;
	char name[QI_NAME_MAX + 1];
	void *blob = NULL;
	size_t len;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	qi_record_put(r, name);
	ok(!qi_record_serialise(r, &blob, &len) && len <= QI_RECORD_MAX,
	   "one bitmap of the longest name fits");
	ok(!qi_record_parse(&back, blob, len) && qi_record_find(back, name),
	   "and is found");
	free(blob);
	qi_record_free(back);
	name[0] = 'y';
	qi_record_put(r, name);
	ok(qi_record_serialise(r, &blob, &len) == -E2BIG, "two do not");
	qi_record_free(r);
	r = sample(50);
	ok(qi_record_serialise(r, &blob, &len) == -E2BIG,
	   "nor do fifty with short names");
	qi_record_free(r);
}

static void test_changes(void)
{
	struct qi_record *r = sample(3), *fresh, *unknown;
	struct qi_record_bitmap *b = qi_record_find(r, "bitmap 1");

	ok(b && b == qi_record_put(r, "bitmap 1") && r->count == 3,
	   "putting what is there finds it");
	qi_record_drop(r, "bitmap 0");
	ok(r->count == 2 && !qi_record_find(r, "bitmap 0") &&
		   qi_record_find(r, "bitmap 1") &&
		   qi_record_find(r, "bitmap 2"),
	   "dropping one keeps the others");
	qi_record_drop(r, "nothing");
	ok(r->count == 2, "dropping nothing");
	if (qi_record_parse(&unknown, "x", 1) ||
	    qi_record_copy(&fresh, unknown))
		abort();
	ok(fresh->state == QI_RECORD_VALID && !qi_uuid_is_null(&fresh->image) &&
		   !fresh->count,
	   "the copy of an unknown one is new");
	qi_record_free(r);
	qi_record_free(fresh);
	qi_record_free(unknown);
}

static void test_uuid(void)
{
	struct qi_uuid u = qi_uuid_random(), v, w = qi_uuid_random();
	char text[QI_UUID_TEXT];

	qi_uuid_format(&u, text);
	ok(qi_uuid_parse(&v, text) && qi_uuid_equal(&u, &v), "%s", text);
	ok(!qi_uuid_equal(&u, &w) && !qi_uuid_is_null(&u), "ids differ");
	text[35] = '\0';
	ok(!qi_uuid_parse(&v, text) && !qi_uuid_parse(&v, "") &&
		   !qi_uuid_parse(&v, "00000000-0000-0000-0000-00000000000g") &&
		   !qi_uuid_parse(&v,
				  "00000000-0000-0000-0000-0000000000000") &&
		   !qi_uuid_parse(&v, "00000000+0000-0000-0000-000000000000") &&
		   !qi_uuid_parse(&v, "0 000000-0000-0000-0000-000000000000") &&
		   !qi_uuid_parse(&v, "+0000000-0000-0000-0000-000000000000"),
	   "what is no id is refused");
}

int main(void)
{
	test_round_trip(0);
	test_round_trip(8);
	test_round_trip(9);
	test_damage();
	test_facts();
	test_too_big();
	test_changes();
	test_uuid();
	return tap_done();
}
