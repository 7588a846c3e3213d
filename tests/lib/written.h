/* SPDX-License-Identifier: MIT */
/* written.h - an image and the array that has the same writes, for write.c */
#ifndef WRITTEN_H
#define WRITTEN_H

#include "lib/qimg.h"

#include "lib/bytes.h"
#include "tests/lib/random.h"
#include "tests/lib/run.h"
#include "tests/lib/tap.h"

#define MAX_SIZE (6u << 20)
#define MAX_WRITES 5
#define GRAIN 4096u

struct kind {
	const char *options;
	uint32_t cluster;
	bool is_v2, is_raw, has_data, has_raw_data, has_backing, no_snapshots;
	bool ends; /* is among those that are ended at each call */
};

/* The image is img, in this folder. */
static struct {
	struct kind kind;
	struct random rnd;
	uint64_t size;
	uint8_t guest[MAX_SIZE], saved[MAX_SIZE], old[MAX_SIZE];
	bool dirty[MAX_SIZE / GRAIN];
	struct qi_graph *graph;
	struct qi_node *node;
	bool failed;
} t;

static uint8_t buf[MAX_SIZE];

static void complain(const char *what, const char *why)
{
	printf("# %s: %s\n", what, why);
	t.failed = true;
}

static uint64_t below(uint64_t n)
{
	return random_below(&t.rnd, n);
}

static void copy_file(const char *from, const char *to)
{
	if (run("cp", from, to))
		die(to);
}

/* --------------------------------------------------------------- opening */

static void close_image(void)
{
	qi_graph_free(t.graph);
	t.graph = NULL;
}

static bool open_image(void)
{
	const struct qi_open how = { .format = t.kind.is_raw ? "raw" : "qcow2",
				     .access = QI_ACCESS_WRITE };
	struct qi_error e = { "" };

	if (t.graph)
		return true;
	if (qi_graph_new(&t.graph) ||
	    qi_graph_add(t.graph, "img", &how, &t.node, &e) ||
	    qi_graph_lock(t.graph, 0, &e)) {
		complain("cannot open it", e.text);
		close_image();
		return false;
	}
	return true;
}

/* Bytes in runs of many lengths, with holes; the seed says which. */
static void make_backing(uint64_t size)
{
	FILE *f = fopen("base.raw", "wb");

	if (!f)
		die("base.raw");
	memset(buf, 0, sizeof(buf));
	for (uint64_t off = 0; off < size;) {
		uint64_t len = qi_min(1 + below(40000), size - off);

		if (below(3))
			memset(buf + off, 1 + (int)below(255), len);
		off += len;
	}
	if (fwrite(buf, 1, size, f) != size || fclose(f))
		die("base.raw");
	memcpy(t.guest, buf, qi_min(size, t.size));
}

static void make_image(uint64_t backing)
{
	char size[24];

	close_image();
	t.failed = false;
	t.size = qi_max(1 << 20, 5ull * t.kind.cluster / 2) + 1536;
	memset(t.guest, 0, sizeof(t.guest));
	memset(t.dirty, 0, sizeof(t.dirty));
	run("rm", "-f", "img", "data", "base.raw");
	snprintf(size, sizeof(size), "%llu", (unsigned long long)t.size);
	t.kind.has_backing = backing != 0;
	if (backing)
		make_backing(backing);
	if (t.kind.is_raw)
		run("truncate", "-s", size, "img");
	else if (backing)
		run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
		    t.kind.options, "-b", "base.raw", "-F", "raw", "img", size);
	else
		run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
		    t.kind.options, "img", size);
	if (t.kind.is_raw || t.kind.is_v2)
		return;
	run("qemu-img", "bitmap", "--add", "-g", "4096", "img", "on");
	run("qemu-img", "bitmap", "--add", "--disable", "img", "off");
}

/* ---------------------------------------------------------------- writes */

/* Random bytes, or one that repeats; the seed says which. */
static uint8_t *make_data(uint64_t len)
{
	uint8_t *data = malloc(len + 1);
	bool noise = !below(3);

	if (!data)
		die("malloc");
	memset(data, (int)below(9) * 25, len);
	if (noise)
		random_fill(&t.rnd, data, len);
	return data;
}

static struct qi_write make_write(uint64_t from, uint64_t to)
{
	static const uint32_t grains[] = { 1, 512, 4096 };
	uint32_t grain = below(3) ? grains[below(3)] : t.kind.cluster;
	struct qi_write x = { .type = (enum qi_write_type)below(5) };
	uint64_t longest = 1 + below(3) * below(6ull * t.kind.cluster);

	if (x.type == QI_WRITE_COMPRESSED && (t.kind.is_raw || t.kind.has_data))
		x.type = QI_WRITE_DATA;
	if (x.type == QI_WRITE_COMPRESSED)
		grain = t.kind.cluster;
	x.off = qi_min(qi_round_up(from + below(to - from), grain), to);
	x.len = qi_round_up(1 + below(longest), grain);
	/* Whole clusters end where the disk does, or before. */
	if (x.off + x.len > to)
		x.len = to == t.size ? to - x.off :
				       qi_round_down(to - x.off, grain);
	if (x.type == QI_WRITE_DATA || x.type == QI_WRITE_COMPRESSED)
		x.data = make_data(x.len);
	return x;
}

static void free_writes(struct qi_write *all, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free((void *)(uintptr_t)all[i].data);
}

static void apply(const struct qi_write *x)
{
	uint64_t unit = t.kind.is_raw ? 512 : t.kind.cluster;
	uint64_t from = x->off, to = x->off + x->len;

	if (x->type == QI_WRITE_DISCARD) {
		from = qi_round_up(from, unit);
		if (to < t.size)
			to = qi_round_down(to, unit);
		/* Version 2 can only show what is below: QEMU lets it be. */
		if (t.kind.is_v2 && t.kind.has_backing)
			to = from;
	}
	if (x->data)
		memcpy(t.guest + from, x->data, to - from);
	else if (from < to)
		memset(t.guest + from, 0, to - from);
	for (uint64_t i = x->off / GRAIN;
	     x->len && i <= (x->off + x->len - 1) / GRAIN; i++)
		t.dirty[i] = true;
}

static void say(const struct qi_write *x)
{
	static const char *const names[] = { "data", "compressed", "zero",
					     "unmap", "discard" };

	printf("#   %s %llu %llu\n", names[x->type], (unsigned long long)x->off,
	       (unsigned long long)x->len);
}

static void write_some(void)
{
	struct qi_write all[MAX_WRITES];
	size_t count = 1 + below(MAX_WRITES);
	struct qi_error e = { "" };

	if (!open_image())
		return;
	for (size_t i = 0; i < count; i++) {
		all[i] = make_write(0, t.size);
		apply(&all[i]);
	}
	if (qi_node_write(t.node, all, count, &e))
		complain("a write fails", e.text);
	else if (qi_read(t.node, 0, t.size, buf, &e))
		complain("a read fails", e.text);
	else if (memcmp(buf, t.guest, t.size))
		complain("a read", "it is not what was written");
	for (size_t i = 0; t.failed && i < count; i++)
		say(&all[i]);
	free_writes(all, count);
}

/* ------------------------------------------------------------- comparing */

/* The disk and nothing more; zeroes may be missing or added at its end. */
static bool file_holds(const char *path, const uint8_t *disk)
{
	size_t len, both;
	char *text = slurp(path, &len);
	bool same;

	both = qi_min(len, t.size);
	same = !memcmp(text, disk, both) &&
	       qi_is_zero(disk + both, t.size - both) &&
	       qi_is_zero(text + both, len - both);
	free(text);
	return same;
}

static void compare_bitmaps(void)
{
	static bool found[MAX_SIZE / GRAIN];
	struct qi_ranges *r;
	struct qi_range x;
	struct qi_error e = { "" };

	if (t.kind.is_raw || t.kind.is_v2 || !open_image())
		return;
	memset(found, 0, sizeof(found));
	if (qi_node_bitmap_ranges(t.node, "on", &r, &e)) {
		complain("bitmap", e.text);
		return;
	}
	while (qi_ranges_next(r, &x, &e) > 0)
		for (uint64_t i = x.off / GRAIN; i * GRAIN < x.off + x.len; i++)
			found[i] = true;
	qi_ranges_free(r);
	if (memcmp(found, t.dirty, sizeof(found)))
		complain("bitmap", "it has not the ranges that were written");
	if (qi_node_bitmap_ranges(t.node, "off", &r, &e) ||
	    qi_ranges_next(r, &x, &e))
		complain("bitmap", "a disabled one records");
	else
		qi_ranges_free(r);
}

/* How QEMU sees the image; leaks: may there be some? */
static void compare_by_qemu(bool leaks)
{
	const char *format = t.kind.is_raw ? "raw" : "qcow2";
	char *text;
	int code = 0;

	close_image();
	if (!t.kind.is_raw)
		code = run("qemu-img", "check", "-q", "-f", "qcow2", "img");
	if (code && !(leaks && code == 3)) {
		complain("qemu-img check", "it is not clean");
		run("qemu-img", "check", "img");
		text = slurp("out", NULL);
		fputs(text, stdout);
		free(text);
	}
	if (run("qemu-img", "convert", "-f", format, "-O", "raw", "img",
		"got.raw"))
		complain("qemu-img", "it cannot read it");
}

static void compare(void)
{
	compare_bitmaps();
	compare_by_qemu(false);
	if (!file_holds("got.raw", t.guest))
		complain("qemu-img", "it reads something else");
	if (t.kind.has_raw_data && !file_holds("data", t.guest))
		complain("the data file", "it is not a copy of the disk");
}

static void take_snapshot(void)
{
	struct qi_error e = { "" };

	if (!open_image())
		return;
	memcpy(t.saved, t.guest, t.size);
	if (qi_internal_snapshot_edit(t.node, QI_INTERNAL_CREATE, "s", &e))
		complain("snapshot", e.text);
}

static void check_snapshot(void)
{
	close_image();
	if (run("qemu-img", "convert", "-l", "s", "-O", "raw", "img",
		"got.raw"))
		complain("the snapshot", slurp("err", NULL));
	else if (!file_holds("got.raw", t.saved))
		complain("the snapshot", "it was changed");
	if (run("qemu-img", "snapshot", "-d", "s", "img"))
		complain("the snapshot", "it cannot be deleted");
	compare_by_qemu(false);
}

#endif
