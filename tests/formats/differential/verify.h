/* SPDX-License-Identifier: MIT */
/*
 * verify.h - is the image what the model says, for both tools?
 */
#ifndef DIFFERENTIAL_VERIFY_H
#define DIFFERENTIAL_VERIFY_H

#include "tests/formats/differential/model.h"

/* -------------------------------------------------------------- content */

static bool read_by(enum tool tool, const char *into)
{
	int code;

	if (tool == OURS)
		code = run(qimg, "convert", "--force", "-q", "-f", "qcow2",
			   "-O", "raw", image, into);
	else
		code = run("qemu-img", "convert", "-q", "-f", "qcow2", "-O",
			   "raw", image, into);
	if (code)
		fail("%s cannot read the image: exit code %d",
		     tool == OURS ? "qimg" : "qemu-img", code);
	return !code;
}

/* The file may be longer than the disk if it says so. */
static void compare_content(const char *path, const char *what, bool longer)
{
	size_t len, at = 0;
	uint8_t *raw = (uint8_t *)slurp(path, &len);

	if (longer ? len < d.size : len != d.size) {
		fail("%s: %zu bytes, not %" PRIu64, what, len, d.size);
	} else if (memcmp(raw, d.guest, d.size)) {
		while (raw[at] == d.guest[at])
			at++;
		fail("%s differs at %zu: %u, not %u", what, at, raw[at],
		     d.guest[at]);
	}
	free(raw);
}

/* What may be this or that is what qimg found; QEMU has to find the same. */
static void settle(const char *path)
{
	static const uint8_t zero[SECTOR];
	size_t len;
	uint8_t *raw = (uint8_t *)slurp(path, &len);

	for (uint64_t s = 0; s < qi_min(len, d.size) / SECTOR; s++) {
		uint8_t *now = d.guest + s * SECTOR, *is = raw + s * SECTOR;

		if (d.wild[s] || (d.loose[s] && !memcmp(is, zero, SECTOR)))
			memcpy(now, is, SECTOR);
		/* QEMU does not say that it changed. */
		for (size_t i = 0; i < BITMAPS && d.wild[s]; i++)
			memcpy(d.bitmap[i].base + s * SECTOR, is, SECTOR);
	}
	memset(d.loose, false, sizeof(d.loose));
	memset(d.wild, false, sizeof(d.wild));
	free(raw);
}

static void verify_content(void)
{
	if (!read_by(OURS, "ours.raw"))
		return;
	settle("ours.raw");
	compare_content("ours.raw", "what qimg reads", false);
	if (read_by(QEMU, "qemu.raw"))
		compare_content("qemu.raw", "what qemu-img reads", false);
	if (d.c.data_file_raw && !d.failed)
		compare_content("d.data", "the raw data file", true);
}

static void verify_saved(const struct saved *s)
{
	char option[40];
	size_t len;
	char *raw;

	snprintf(option, sizeof(option), "snapshot.name=%s", s->name);
	if (run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-l", option,
		image, "saved.raw")) {
		fail("qemu-img cannot read snapshot %s", s->name);
		return;
	}
	raw = slurp("saved.raw", &len);
	/* It gives all snapshots the size that the disk has now. */
	if (memcmp(raw, s->guest, qi_min(len, s->size)))
		fail("snapshot %s differs", s->name);
	free(raw);
}

/* ---------------------------------------------------------------- check */

static json_t *check_by(enum tool tool)
{
	const char *name = tool == OURS ? "qimg" : "qemu-img";
	int code = run(tool == OURS ? qimg : name, "check", "-f", "qcow2",
		       "--output=json", image);
	json_t *root = output_json();

	if (code)
		fail("%s check: exit code %d", name, code);
	if (!root)
		fail("%s check: no JSON", name);
	return root;
}

static void verify_check(void)
{
	static const char *const keys[] = {
		"total-clusters",      "allocated-clusters",
		"compressed-clusters", "image-end-offset",
		"fragmented-clusters", "leaks",
		"corruptions",	       "check-errors",
	};
	json_t *a = check_by(QEMU), *b = check_by(OURS);

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		long long x = json_integer_value(json_object_get(a, keys[i]));
		long long y = json_integer_value(json_object_get(b, keys[i]));

		if (x != y)
			fail("%s: qemu-img %lld, qimg %lld", keys[i], x, y);
	}
	json_decref(a);
	json_decref(b);
}

/* -------------------------------------------------------------- bitmaps */

/* Ranges of a JSON list as sectors; `clean` names a key that excludes one. */
static bool take_ranges(const json_t *list, const char *start,
			const char *clean, bool dirty[SECTORS])
{
	json_t *x;
	size_t i;

	memset(dirty, false, SECTORS);
	json_array_foreach(list, i, x)
	{
		json_int_t off = json_integer_value(json_object_get(x, start));
		json_int_t len =
			json_integer_value(json_object_get(x, "length"));

		if (off < 0 || len <= 0 || off + len > MAX_DISK)
			return false;
		if (clean && json_is_true(json_object_get(x, clean)))
			continue;
		for (json_int_t s = off / SECTOR; s < (off + len) / SECTOR; s++)
			dirty[s] = true;
	}
	return json_is_array(list);
}

static bool differs(const struct bitmap *b, uint64_t s)
{
	return memcmp(b->base + s * SECTOR, d.guest + s * SECTOR, SECTOR);
}

/* Nothing is missing, and nothing is dirty that no operation touched. */
static void compare_dirty(const struct bitmap *b)
{
	uint64_t unit = qi_max(b->granularity, cluster_size()) / SECTOR;
	uint64_t end = d.size / SECTOR;
	bool may = false;

	for (uint64_t s = 0; s < end; s++)
		if (!b->dirty[s] && !b->excused[s] && differs(b, s)) {
			fail("bitmap %s misses %" PRIu64, b->name, s * SECTOR);
			return;
		}
	for (uint64_t s = 0; s < end; s++) {
		if (s % unit == 0) {
			may = false;
			for (uint64_t k = s; k < qi_min(s + unit, SECTORS); k++)
				may |= b->touched[k];
		}
		if (b->dirty[s] && !may) {
			fail("bitmap %s has %" PRIu64 " for no reason", b->name,
			     s * SECTOR);
			return;
		}
	}
}

static void verify_bitmap(struct bitmap *b)
{
	json_t *root;

	if (run(qimg, "bitmap", "show", "--node", image, "--output", "json",
		b->name)) {
		fail("bitmap %s cannot be shown", b->name);
		return;
	}
	root = output_json();
	if (!take_ranges(json_object_get(root, "extents"), "offset", NULL,
			 b->dirty))
		fail("bitmap %s: bad JSON", b->name);
	else
		compare_dirty(b);
	json_decref(root);
}

/* By a server of QEMU's; slow, so at the end of a sequence only. */
static void verify_bitmap_by_qemu(const struct bitmap *b)
{
	static bool dirty[SECTORS];
	char cwd[256], sock[300], option[400];
	json_t *root;

	if (!getcwd(cwd, sizeof(cwd)))
		die("getcwd");
	snprintf(sock, sizeof(sock), "%s/%s", cwd, b->name);
	snprintf(option, sizeof(option),
		 "driver=nbd,server.type=unix,server.path=%s,"
		 "x-dirty-bitmap=qemu:dirty-bitmap:%s",
		 sock, b->name);
	if (run("qemu-nbd", "--fork", "-r", "-f", "qcow2", "-B", b->name, "-k",
		sock, image)) {
		fail("qemu-nbd does not serve bitmap %s", b->name);
		return;
	}
	if (run("qemu-img", "map", "--output=json", "--image-opts", option)) {
		fail("qemu-img does not show bitmap %s", b->name);
		return;
	}
	root = output_json();
	if (!take_ranges(root, "start", "data", dirty))
		fail("bitmap %s: bad JSON of QEMU", b->name);
	for (uint64_t s = 0; s < d.size / SECTOR && !d.failed; s++)
		if (dirty[s] != b->dirty[s])
			fail("bitmap %s: QEMU finds %" PRIu64 " %s", b->name,
			     s * SECTOR, dirty[s] ? "dirty" : "clean");
	json_decref(root);
}

/* After each step; before it the content was `before`. */
static void verify(const uint8_t *before)
{
	verify_content();
	excuse(before);
	if (!d.failed)
		verify_check();
	for (size_t i = 0; i < BITMAPS && !d.failed; i++)
		if (d.bitmap[i].exists)
			verify_bitmap(&d.bitmap[i]);
	for (size_t i = 0; i < d.saved_count && !d.failed; i++)
		if (one_in(4))
			verify_saved(&d.saved[i]);
}

/* After the last one. */
static void verify_at_the_end(void)
{
	for (size_t i = 0; i < d.saved_count && !d.failed; i++)
		verify_saved(&d.saved[i]);
	for (size_t i = 0; i < BITMAPS && !d.failed; i++)
		if (d.bitmap[i].exists)
			verify_bitmap_by_qemu(&d.bitmap[i]);
}

#endif
