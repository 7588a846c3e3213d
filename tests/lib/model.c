/* SPDX-License-Identifier: MIT */
/*
 * model.c - random life of a drive, compared with plain arrays
 *
 * A small disk is written, snapshotted, committed, resized, backed up and
 * mistreated by foreign tools. After each step the guest's content must be
 * that of the model, and each byte that differs from what it was when a
 * bitmap started must be in its dirty set. Where nothing foreign happened the
 * set must be what was written, rounded to the granularity, and no more.
 *
 * QIMG_SEED chooses another life, QIMG_MODEL_STEPS how long it is.
 */
#include "tests/lib/model.h"
#include "tests/lib/tap.h"

/* ---------------------------------------------------------------- steps */

/* A qimg command on the drive with the expected exit code. */
static void expect(int want, int code, const char *what)
{
	if (code != want)
		fail("%s: exit code %d, expected %d", what, code, want);
}

static bool is_backed_up(const struct bitmap *b)
{
	return b == &m.bitmap[0];
}

static void note_start(struct bitmap *b)
{
	start_bitmap(b);
	if (is_backed_up(b)) {
		m.is_continued = m.is_unsure = false;
		m.has_gap = b->paused;
	}
}

static void add_bitmap(struct bitmap *b)
{
	expect(0,
	       run(qimg, "bitmap", "add", "--drive", drive, "-g",
		   b->granularity_text, b->name),
	       "bitmap add");
	b->paused = false;
	note_start(b);
}

static void do_clear(struct bitmap *b)
{
	expect(0, run(qimg, "bitmap", "clear", "--drive", drive, b->name),
	       "bitmap clear");
	note_start(b);
}

static void do_snapshot(void)
{
	char tag[16];

	if (m.layers == MAX_LAYERS)
		return;
	snprintf(tag, sizeof(tag), "t%u", ++m.serial);
	expect(0, run(qimg, "snapshot", "create", "--drive", drive, tag),
	       "snapshot create");
	m.layer_size[m.layers++] = m.size;
	m.is_torn = false;
}

static void do_add_again(struct bitmap *b)
{
	expect(0, run(qimg, "bitmap", "remove", "--drive", drive, b->name),
	       "bitmap remove");
	expect(1, run(qimg, "bitmap", "show", "--drive", drive, b->name),
	       "bitmap show of none");
	if (one_in(3))
		do_snapshot();
	add_bitmap(b);
}

/* A few requests by qemu-io; killed after them, or not. */
static void do_write(bool killed)
{
	char text[4][64];
	const char *argv[24] = { "qemu-io", "-f", "qcow2", "-d", "unmap" };
	size_t n = 5, count = 1 + below(4);
	int code;

	for (size_t i = 0; i < count; i++) {
		uint64_t kind = below(5);
		uint64_t unit = kind == 4 ? CLUSTER : SECTOR;
		uint64_t units = m.size / unit, off = below(units);
		uint64_t len =
			qi_min(1 + below(one_in(3) ? 40 : 300), units - off);
		int value = kind >= 3 ? 0 : 1 + (int)below(255);
		char pattern[24];

		if (unit == CLUSTER)
			len = qi_min(len, 6);
		snprintf(pattern, sizeof(pattern), "write -P %d", value);
		snprintf(text[i], sizeof(text[i]), "%s %llu %llu",
			 kind == 4 ? "discard" :
			 kind == 3 ? "write -z" :
				     pattern,
			 (unsigned long long)(off * unit),
			 (unsigned long long)(len * unit));
		printf("#   %s\n", text[i]);
		argv[n++] = "-c";
		argv[n++] = text[i];
		note_write(off * unit, len * unit, value);
	}
	if (killed) {
		argv[n++] = "-c";
		argv[n++] = "flush";
		argv[n++] = "-c";
		argv[n++] = "sigraise 9";
		note_foreign();
		m.is_torn = true;
	}
	argv[n++] = drive;
	argv[n] = NULL;
	code = run_argv(argv);
	expect(killed ? 128 + 9 : 0, code, "qemu-io");
}

/* Where the head really is. */
static void find_head(char path[256])
{
	ssize_t n = readlink(drive, path, 255);

	if (n < 0)
		n = snprintf(path, 256, "%s", drive);
	path[n] = '\0';
}

static uint64_t random_size(void)
{
	return CLUSTER * (20 + below(MAX_SIZE / CLUSTER - 20));
}

/* Any size, any clusters up to those of the drive. */
static void do_overlay(void)
{
	uint64_t new_size = one_in(3) ? random_size() : m.size;
	char head[256], base[32], top[32], size[32], option[32];

	if (m.layers == MAX_LAYERS)
		return;
	find_head(head);
	m.serial++;
	snprintf(base, sizeof(base), "base%u.qcow2", m.serial);
	snprintf(top, sizeof(top), "top%u.qcow2", m.serial);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)new_size);
	snprintf(option, sizeof(option), "cluster_size=%u",
		 CLUSTER >> 2 * below(3));
	if (!m.is_link && rename(drive, base))
		die(base);
	expect(0,
	       run("qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b",
		   m.is_link ? head : base, "-o", option,
		   m.is_link ? top : drive, size),
	       "qemu-img create");
	if (m.is_link && (unlink(drive) || symlink(top, drive)))
		die(top);
	m.layers++;
	note_size(new_size);
	m.is_torn = false;
	note_foreign();
}

/* The base of the head, as the head records it. */
static void find_base(char path[256])
{
	json_t *root;

	expect(0, run("qemu-img", "info", "--output=json", drive),
	       "qemu-img info");
	root = output_json();
	snprintf(path, 256, "%s",
		 json_string_value(json_object_get(root, "backing-filename")));
	json_decref(root);
}

/* Is the bitmap as it was before its newest layer was lost? */
static bool is_kept(const struct bitmap *b)
{
	json_t *root;
	bool kept;

	if (run(qimg, "bitmap", "show", "--output", "json", "--drive", drive,
		b->name) == 1) {
		add_bitmap(&m.bitmap[b - m.bitmap]);
		return true;
	}
	root = output_json();
	kept = !strcmp(json_string_value(json_object_get(root, "state")),
		       "enabled");
	json_decref(root);
	return kept;
}

/*
 * A commit by QEMU: the base's bitmaps record it, the head's are lost. What is
 * known to the head alone is lost with it: a bitmap, or that it was enabled.
 */
static void do_foreign_commit(void)
{
	char head[256], base[256];

	if (m.layers < 2 || m.layer_size[m.layers - 2] != m.size ||
	    m.bitmap[0].was_paused || m.bitmap[1].was_paused)
		return;
	find_head(head);
	find_base(base);
	expect(0, run("qemu-img", "commit", "-q", "-f", "qcow2", "-d", drive),
	       "qemu-img commit");
	if (unlink(drive) || (m.is_link ? symlink(base, drive) || unlink(head) :
					  rename(base, drive)))
		die(base);
	m.layers--;
	m.is_torn = m.is_unsure = true;
	note_foreign();
	for (size_t i = 0; i < 2; i++)
		if (!is_kept(&m.bitmap[i]))
			do_add_again(&m.bitmap[i]);
	/* The base is still marked as frozen; a change of bitmaps ends that. */
	do_clear(&m.bitmap[1]);
}

static void do_commit(void)
{
	bool can = m.layers > 1 && m.layer_size[m.layers - 2] <= m.size;

	expect(can ? 0 : 6, run(qimg, "commit", "--drive", drive), "commit");
	if (!can)
		return;
	m.layers--;
	m.layer_size[m.layers - 1] = m.size;
	/* Whether the base is torn is not tracked: a resize may fail. */
	m.is_torn = true;
}

/* Shrinking is seen while it lasts: a snapshot makes it last. */
static void do_resize(void)
{
	uint64_t size = random_size();
	bool shrinks = size < m.size;
	char text[32];

	if (shrinks && m.layers == MAX_LAYERS)
		return;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	/* Ours notes it, whatever the head is. */
	if (one_in(2)) {
		expect(0, run(qimg, "resize", "--shrink", drive, text),
		       "resize");
		note_size(size);
		return;
	}
	if (run("qemu-img", "resize", "-f", "qcow2", "--shrink", drive, text)) {
		if (!m.is_torn)
			fail("qemu-img resize");
		return;
	}
	note_size(size);
	if (shrinks)
		do_snapshot();
}

static void do_pause(struct bitmap *b)
{
	expect(0,
	       run(qimg, "bitmap", b->paused ? "enable" : "disable", "--drive",
		   drive, b->name),
	       "bitmap enable or disable");
	b->paused = !b->paused;
	b->was_paused = true;
	if (is_backed_up(b))
		m.has_gap = true;
}

/* Node verbs do not touch segments. */
static void do_node_verb(struct bitmap *b)
{
	static const char *const verbs[] = { "clear", "remove", "disable",
					     "enable" };
	char head[256];
	int code;

	find_head(head);
	code = run(qimg, "bitmap", verbs[below(4)], "--node", head, b->name);
	/* A head made by another tool has no such bitmap. */
	if (code != 6 && !(code == 1 && b->fuzzy))
		fail("a node verb on a segment: exit code %d", code);
}

static void check_restore(void)
{
	expect(0,
	       run(qimg, "restore", "--force", "--from", "repo", "-O", "raw",
		   "restored.raw"),
	       "restore");
	if (!failed)
		compare_content("restored.raw", "the restored disk");
	if (one_in(6))
		expect(0, run(qimg, "backup", "verify", "--read-data", "repo"),
		       "backup verify");
}

static void do_backup(bool full)
{
	struct bitmap *b = &m.bitmap[0];
	bool can = full ||
		   (m.has_point && m.is_continued && !m.has_gap && !b->is_full);
	char option[16];
	int code;

	snprintf(option, sizeof(option), "--%s", full ? "full" : "incremental");
	code = run(qimg, "backup", option, "--drive", drive, "--bitmap",
		   b->name, "--to", "repo");
	/* What a foreign commit leaves may do, or be refused. */
	if (!full && m.is_unsure && m.has_point && (code == 0 || code == 6))
		can = code == 0;
	/* Without a repository there is nothing to look into. */
	expect(can ? 0 : m.has_point ? 6 : 1, code, option);
	if (!can || failed)
		return;
	note_start(b);
	m.has_point = m.is_continued = true;
	check_restore();
}

static const char *do_step(void)
{
	struct bitmap *b = &m.bitmap[below(2)];
	uint64_t dice = below(100);

	if (dice < 40)
		return do_write(false), "write";
	if (dice < 44)
		return do_write(true), "write and be killed";
	if (dice < 48)
		return do_overlay(), "foreign overlay";
	if (dice < 50)
		return do_foreign_commit(), "foreign commit";
	if (dice < 60)
		return do_snapshot(), "snapshot";
	if (dice < 70)
		return do_commit(), "commit";
	if (dice < 75)
		return do_resize(), "resize";
	if (dice < 80)
		return do_clear(b), "clear";
	if (dice < 83)
		return do_add_again(b), "remove and add";
	if (dice < 88)
		return do_pause(b), "enable or disable";
	if (dice < 90)
		return do_node_verb(b), "node verb";
	return do_backup(dice < 94),
	       dice < 94 ? "full backup" : "incremental backup";
}

/* ---------------------------------------------------------------- lives */

static void start_life(uint64_t seed, bool is_link)
{
	memset(&m, 0, sizeof(m));
	m.rnd.state = seed * 0x9e3779b97f4a7c15ull | 1;
	m.is_link = is_link;
	expect(0,
	       run(qimg, "create", "-q", "-f", "qcow2",
		   is_link ? "disk.qcow2" : drive, "4M"),
	       "create");
	if (is_link && symlink("disk.qcow2", drive))
		die(drive);
	m.size = m.layer_size[0] = 4 << 20;
	m.layers = 1;
	do_write(false);
	for (size_t i = 0; i < 2; i++) {
		struct bitmap *b = &m.bitmap[i];

		b->name = i ? "fine" : "daily";
		b->granularity = i ? 4096 : 65536;
		snprintf(b->granularity_text, sizeof(b->granularity_text), "%u",
			 b->granularity);
		add_bitmap(b);
	}
}

/* In a folder of its own. */
static void live(const char *dir, uint64_t seed, bool is_link, unsigned steps)
{
	if (mkdir(dir, 0755) || chdir(dir))
		die(dir);
	printf("# %s, seed %llu\n", dir, (unsigned long long)seed);
	failed = false;
	start_life(seed, is_link);
	for (m.step = 1; m.step <= steps && !failed; m.step++) {
		printf("# step %u\n", m.step);
		printf("#   %s, %u layers\n", do_step(), m.layers);
		if (!failed)
			compare_all();
	}
	if (chdir(".."))
		die("..");
	ok(!failed, "%s: %u steps, seed %llu", dir, m.step - 1,
	   (unsigned long long)seed);
}

int main(void)
{
	const char *text = getenv("QIMG_MODEL_STEPS");
	unsigned steps = text ? (unsigned)strtoul(text, NULL, 0) : 100;
	uint64_t seed;

	qimg = qimg_path();
	text = getenv("QIMG_SEED");
	seed = text ? strtoull(text, NULL, 0) : 2016;
	live("link", 2 * seed + 1, true, steps);
	live("plain", 2 * seed + 3, false, steps);
	return tap_done();
}
