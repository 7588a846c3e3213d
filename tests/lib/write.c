/* SPDX-License-Identifier: MIT */
/*
 * write.c - images of all kinds written in place, compared with a plain array
 *
 * Random lists of writes go into an image; what qimg and QEMU read must be
 * what an array has that got the same. QEMU must find the image clean, and a
 * bitmap must have each written range and no more. Then one list of each kind
 * of write is ended at each of its calls: every sector is old or new.
 *
 * QIMG_SEED chooses other writes, QIMG_WRITE_STEPS how many.
 */
#include "tests/lib/written.h"

/* ----------------------------------------------------------------- lives */

static void live(uint64_t seed, uint64_t backing, unsigned steps)
{
	bool snapshot = !t.kind.is_raw && !t.kind.has_data &&
			!t.kind.no_snapshots;
	unsigned step;

	t.rnd.state = seed * 0x9e3779b97f4a7c15ull | 1;
	make_image(backing);
	for (step = 0; step < steps && !t.failed; step++) {
		write_some();
		if (step % 6 == 5 && !t.failed)
			compare();
		if (step == steps / 2 && snapshot && !t.failed)
			take_snapshot();
	}
	if (!t.failed)
		compare();
	if (snapshot && !t.failed)
		check_snapshot();
	close_image();
	ok(!t.failed, "%s, %s backing file: %u steps, seed %llu",
	   t.kind.options,
	   !backing	    ? "no" :
	   backing < t.size ? "shorter" :
			      "longer",
	   step, (unsigned long long)seed);
}

/* ------------------------------------------------------------------- ends */

/* One write of each kind, each in a part of the disk of its own. */
static void make_all(struct qi_write *all, uint64_t seed)
{
	uint64_t share;

	t.rnd.state = seed | 1;
	share = qi_round_down(t.size / MAX_WRITES, t.kind.cluster);
	for (unsigned i = 0; i < MAX_WRITES; i++) {
		uint64_t from = i * share;

		do {
			all[i] = make_write(from, i + 1 < MAX_WRITES ?
							  from + share :
							  t.size);
			if (all[i].len && all[i].type == (enum qi_write_type)i)
				break;
			free_writes(&all[i], 1);
		} while (t.kind.has_data || t.kind.is_raw ?
				 i != QI_WRITE_COMPRESSED || !all[i].len :
				 true);
	}
}

/* The program under test for the ends: this one, run as a child. */
static int child(char *const argv[])
{
	struct qi_write all[MAX_WRITES];
	struct qi_error e = { "" };

	t.size = strtoull(argv[2], NULL, 0);
	t.kind.cluster = (uint32_t)strtoul(argv[3], NULL, 0);
	t.kind.has_data = *argv[5] == 'd';
	make_all(all, strtoull(argv[4], NULL, 0));
	if (!open_image() || qi_node_write(t.node, all, MAX_WRITES, &e)) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	close_image();
	free_writes(all, MAX_WRITES);
	return 0;
}

static int run_child(const char *self, uint64_t seed)
{
	char size[24], cluster[24], number[24];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)t.size);
	snprintf(cluster, sizeof(cluster), "%u", t.kind.cluster);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)seed);
	return run(self, "child", size, cluster, number,
		   t.kind.has_data ? "data" : "image");
}

static void check_after_end(const char *what)
{
	static bool marked[MAX_SIZE / GRAIN];
	struct qi_ranges *r = NULL;
	struct qi_range x;
	struct qi_error e = { "" };
	size_t len;
	char *got;

	compare_by_qemu(true);
	memset(marked, t.kind.is_v2, sizeof(marked));
	if (!t.kind.is_v2 &&
	    (!open_image() || qi_node_bitmap_ranges(t.node, "on", &r, &e)))
		complain(what, "the bitmap is lost");
	while (r && qi_ranges_next(r, &x, &e) > 0)
		for (uint64_t i = x.off / GRAIN; i * GRAIN < x.off + x.len; i++)
			marked[i] = true;
	qi_ranges_free(r);
	close_image();
	got = slurp("got.raw", &len);
	for (uint64_t off = 0; off < t.size && !t.failed; off += 512) {
		uint64_t n = qi_min(512, t.size - off);
		bool is_old = !memcmp(got + off, t.old + off, n);

		if (len < t.size ||
		    (!is_old && memcmp(got + off, t.guest + off, n)))
			complain(what, "a sector is neither old nor new");
		else if (!is_old && !marked[off / GRAIN])
			complain(what, "what is new is not in the bitmap");
	}
	free(got);
}

static void write_range(enum qi_write_type type, uint64_t off, uint64_t len)
{
	struct qi_write x = { type, off, len, NULL };
	struct qi_error e = { "" };

	if (type == QI_WRITE_DATA || type == QI_WRITE_COMPRESSED)
		x.data = make_data(len);
	apply(&x);
	if (!open_image() || qi_node_write(t.node, &x, 1, &e))
		complain("a write fails", e.text);
	free_writes(&x, 1);
	close_image();
}

static void end_at_each_call(const char *self, uint64_t seed, uint64_t backing)
{
	struct qi_write all[MAX_WRITES];
	char fault[32];
	unsigned n;

	t.rnd.state = seed | 1;
	make_image(backing);
	for (unsigned i = 0; i < 3; i++)
		write_some();
	if (!t.kind.has_data)
		take_snapshot();
	/* Clusters that the snapshot shares, or that become free. */
	if (seed % 2)
		write_range(QI_WRITE_DATA, 0, t.size);
	write_some();
	close_image();
	memcpy(t.old, t.guest, t.size);
	make_all(all, seed);
	for (unsigned i = 0; i < MAX_WRITES; i++)
		apply(&all[i]);
	copy_file("img", "start");
	if (t.kind.has_data)
		copy_file("data", "start.data");
	for (n = 1; n < 500 && !t.failed; n++) {
		int code;

		copy_file("start", "img");
		if (t.kind.has_data)
			copy_file("start.data", "data");
		snprintf(fault, sizeof(fault), "change:%u:%s", n,
			 n % 2 ? "kill" : "kill-after");
		setenv("QIMG_FAULT", fault, 1);
		code = run_child(self, seed);
		unsetenv("QIMG_FAULT");
		if (code == 0)
			break;
		if (code != 128 + 9)
			complain(fault, "the child failed");
		check_after_end(fault);
		if (!t.failed && run_child(self, seed))
			complain(fault, "it cannot be done again");
		compare_by_qemu(true);
		if (!t.failed && !file_holds("got.raw", t.guest))
			complain(fault, "done again, it is something else");
	}
	for (unsigned i = 0; t.failed && i < MAX_WRITES; i++)
		say(&all[i]);
	free_writes(all, MAX_WRITES);
	ok(!t.failed && n > 5 && n < 500,
	   "%s: ended at each of %u calls, seed %llu", t.kind.options, n - 1,
	   (unsigned long long)seed);
}

/* -------------------------------------------------------------- refusals */

static bool refuses(const struct qi_write *x, const char *text)
{
	struct qi_error e = { "" };
	int ret = qi_node_write(t.node, x, 1, &e);

	if (ret >= 0 || !strstr(e.text, text))
		printf("# %d: %s\n", ret, e.text);
	return ret < 0 && strstr(e.text, text);
}

static void check_refusals(void)
{
	const struct qi_open alone = { .access = QI_ACCESS_WRITE,
				       .no_backing = true };
	struct qi_write x = { .type = QI_WRITE_ZERO, .off = 512, .len = 512 };
	struct qi_error e;

	t.kind = (struct kind){ "cluster_size=64k", 65536, 0, 0, 0, 0, 0, 0 };
	make_image(1 << 20);
	if (qi_graph_new(&t.graph) ||
	    qi_graph_add(t.graph, "img", &alone, &t.node, &e))
		die("img");
	ok(refuses(&x, "not open for writing"), "a node that is not locked");
	if (qi_graph_lock(t.graph, 0, &e))
		die(e.text);
	ok(refuses(&x, "without its backing file"),
	   "a part of a cluster, above a backing file that is not open");
	x = (struct qi_write){ .type = QI_WRITE_UNMAP, .len = 65536 };
	ok(!qi_node_write(t.node, &x, 1, &e), "a whole cluster there");
	x.off = t.size;
	ok(refuses(&x, "not inside"), "a range past the end");
	x = (struct qi_write){ QI_WRITE_COMPRESSED, 512, 65536, buf };
	ok(refuses(&x, "whole clusters"), "a compressed part of a cluster");
	close_image();
}

/* ------------------------------------------------------------------ room */

static uint64_t file_size(void)
{
	struct stat st;

	if (stat("img", &st))
		die("img");
	return (uint64_t)st.st_size;
}

static uint64_t room_used(void)
{
	struct stat st;

	if (stat("img", &st))
		die("img");
	return (uint64_t)st.st_blocks * 512;
}

/* What is given back is used again, and is a hole until then. */
static void check_room(void)
{
	uint64_t full = 0, after, used;

	t.kind = (struct kind){ .options = "cluster_size=4k", .cluster = 4096 };
	make_image(0);
	for (unsigned i = 0; i < 8; i++) {
		write_range(QI_WRITE_DATA, 0, 1 << 20);
		if (i == 1)
			full = file_size();
		used = room_used();
		write_range(i % 2 ? QI_WRITE_UNMAP : QI_WRITE_DISCARD, 0,
			    1 << 20);
	}
	ok(file_size() == full, "freed clusters are used again");
	after = room_used();
	printf("# %llu bytes, then %llu\n", (unsigned long long)used,
	       (unsigned long long)after);
	if (used > after)
		ok(after < 1 << 18, "freed clusters are holes");
	else
		skip("no holes in this file system");
	write_range(QI_WRITE_DATA, 0, 1 << 20);
	write_range(QI_WRITE_ZERO, 0, 1 << 20);
	ok(room_used() >= 1 << 20, "zeroes can keep their clusters");
	write_range(QI_WRITE_UNMAP, 0, 1 << 20);
	for (unsigned i = 0; i < 256; i++)
		write_range(QI_WRITE_COMPRESSED, i * 4096ull, 4096);
	compare_by_qemu(false);
	ok(!t.failed && file_size() == full, "nor does it grow otherwise");
}

static const struct kind kinds[] = {
	{ .options = "raw", .cluster = 4096, .is_raw = true },
	{ .options = "cluster_size=512", .cluster = 512 },
	{ .options = "cluster_size=4k,refcount_bits=8",
	  .cluster = 4096,
	  .ends = true },
	{ .options = "cluster_size=64k", .cluster = 65536 },
	{ .options = "cluster_size=2M", .cluster = 2 << 20 },
	{ .options = "compat=0.10",
	  .cluster = 65536,
	  .is_v2 = true,
	  .ends = true },
	{ .options = "compat=0.10,cluster_size=512",
	  .cluster = 512,
	  .is_v2 = true },
	{ .options = "extended_l2=on,cluster_size=16k",
	  .cluster = 16384,
	  .ends = true },
	{ .options = "extended_l2=on,cluster_size=128k", .cluster = 131072 },
	{ .options = "refcount_bits=1,cluster_size=8k",
	  .cluster = 8192,
	  .no_snapshots = true },
	/* Packed clusters share until nothing more can. */
	{ .options = "refcount_bits=2,cluster_size=1k",
	  .cluster = 1024,
	  .no_snapshots = true },
	{ .options = "refcount_bits=4,cluster_size=2k",
	  .cluster = 2048,
	  .no_snapshots = true },
	{ .options = "refcount_bits=32,compression_type=zstd",
	  .cluster = 65536 },
	{ .options = "refcount_bits=64,lazy_refcounts=on", .cluster = 65536 },
	{ .options = "data_file=data",
	  .cluster = 65536,
	  .has_data = true,
	  .ends = true },
	{ .options = "data_file=data,extended_l2=on,cluster_size=16k",
	  .cluster = 16384,
	  .has_data = true },
	{ .options = "data_file=data,data_file_raw=on,cluster_size=4k",
	  .cluster = 4096,
	  .has_data = true,
	  .has_raw_data = true,
	  .ends = true },
	{ .options = "data_file=data,data_file_raw=on,extended_l2=on",
	  .cluster = 65536,
	  .has_data = true,
	  .has_raw_data = true },
};

int main(int argc, char **argv)
{
	const char *text = getenv("QIMG_WRITE_STEPS");
	unsigned steps = text ? (unsigned)strtoul(text, NULL, 0) : 12;
	static char self[4096];
	uint64_t seed;

	if (argc == 6)
		return child(argv);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		die("/proc/self/exe");
	text = getenv("QIMG_SEED");
	seed = text ? strtoull(text, NULL, 0) : 1967;
	for (size_t i = 0; i < QI_ARRAY_SIZE(kinds); i++) {
		t.kind = kinds[i];
		live(seed++, 0, steps);
		if (t.kind.is_raw || t.kind.has_raw_data)
			continue;
		live(seed++, 3 * MAX_SIZE / 4, steps);
		live(seed++, 600 << 10, steps);
	}
	for (size_t i = 0; i < QI_ARRAY_SIZE(kinds); i++) {
		t.kind = kinds[i];
		if (t.kind.ends)
			end_at_each_call(self, seed++,
					 t.kind.has_raw_data ? 0 : 600 << 10);
	}
	check_refusals();
	check_room();
	return tap_done();
}
