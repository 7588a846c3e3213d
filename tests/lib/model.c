/* SPDX-License-Identifier: MIT */
/*
 * model.c - random life of a drive, compared with plain arrays
 *
 * A small disk is written, snapshotted, merged, resized, cloned, backed up,
 * booted and mistreated by foreign tools. After each step the guest's content
 * must be that of the model, and so must that of each snapshot and clone; and
 * each byte that differs from what it was when a bitmap started must be in
 * its dirty set. Where nothing foreign happened the set must be what was
 * written, rounded to the granularity, and no more. Bitmaps of nodes must
 * stay where they are, and what would harm them must be refused.
 *
 *	QIMG_SEED=N		another life; all is made from it
 *	QIMG_MODEL_STEPS=N	how long each is
 *	QIMG_MODEL_LIFE=NAME	this one alone: link or plain
 *	QIMG_MODEL_SAY=1	print all commands
 */
#include "tests/lib/model/backups.h"
#include "tests/lib/model/vm.h"
#include "tests/lib/tap.h"

struct verb {
	unsigned weight;
	const char *name;
	enum outcome (*take)(void);
	unsigned tried, done;
	unsigned turns; /* in this life */
};

static struct verb verbs[] = {
	{ 30, "write", step_write },
	{ 4, "write and be killed", step_killed_write },
	{ 6, "a VM", step_vm },
	{ 9, "snapshot create", step_snapshot },
	{ 4, "snapshot revert", step_revert },
	{ 5, "snapshot delete", step_delete },
	{ 6, "commit", step_commit },
	{ 3, "commit --into", step_commit_into },
	{ 3, "stream", step_stream },
	{ 2, "stream a range", step_stream_range },
	{ 2, "rebase", step_rebase },
	{ 5, "resize", step_resize },
	{ 3, "clone", step_clone },
	{ 2, "write to a clone", step_clone_write },
	{ 2, "remove a clone", step_clone_remove },
	{ 5, "bitmap clear", step_clear },
	{ 3, "bitmap remove and add", step_add_again },
	{ 4, "bitmap disable or enable", step_pause },
	{ 3, "bitmap merge", step_merge },
	{ 3, "bitmap populate", step_populate },
	{ 2, "bitmap move there and back", step_move_round },
	{ 5, "node bitmap add", step_node_add },
	{ 2, "node bitmap remove", step_node_remove },
	{ 2, "node bitmap clear", step_node_clear },
	{ 2, "node bitmap disable or enable", step_node_pause },
	{ 2, "node bitmap merge", step_node_merge },
	{ 2, "node bitmap populate", step_node_populate },
	{ 2, "node bitmap move", step_node_move },
	{ 2, "foreign bitmap merge", step_node_foreign_merge },
	{ 2, "node verb on a segment", step_node_verb },
	{ 4, "foreign overlay", step_overlay },
	{ 2, "foreign commit", step_foreign_commit },
	{ 2, "foreign rebase", step_foreign_rebase },
	{ 2, "layer renamed", step_rename_layer },
	{ 2, "snapshot -c", step_inner_create },
	{ 2, "snapshot -a", step_inner_apply },
	{ 2, "snapshot -d", step_inner_delete },
	{ 4, "full backup", step_full_backup },
	{ 6, "incremental backup", step_incremental_backup },
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

static bool has_program(const char *name)
{
	char text[64];

	snprintf(text, sizeof(text), "command -v %s", name);
	return run("sh", "-c", text) == 0;
}

/* One that had the fewest turns. */
static struct verb *rare_verb(void)
{
	struct verb *rarest = NULL;
	size_t first = below(VERBS);

	for (size_t k = 0; k < VERBS; k++) {
		struct verb *v = &verbs[(first + k) % VERBS];

		if (!rarest || v->turns < rarest->turns)
			rarest = v;
	}
	return rarest;
}

static struct verb *any_verb(void)
{
	uint64_t total = 0, dice;
	size_t i = 0;

	if (one_in(4))
		return rare_verb();
	for (size_t k = 0; k < VERBS; k++)
		total += verbs[k].weight;
	dice = below(total);
	while (dice >= verbs[i].weight)
		dice -= verbs[i++].weight;
	return &verbs[i];
}

/* ------------------------------------------------------------ leftovers */

#define MAX_NEEDED 32

/* Names of files that some drive consists of. */
struct needed {
	size_t count;
	char path[MAX_NEEDED][64];
};

static void need_chain_of(const char *image, struct needed *out)
{
	json_t *chain, *x;
	size_t i;

	if (call("qemu-img", "info", "--backing-chain", "--output=json",
		 image)) {
		fail("the chain of %s is broken", image);
		return;
	}
	chain = output_json();
	json_array_foreach(chain, i, x)
	{
		if (out->count < MAX_NEEDED)
			snprintf(out->path[out->count++], sizeof(out->path[0]),
				 "%s", name_of(x));
	}
	json_decref(chain);
}

static bool is_needed(const struct needed *n, const char *path)
{
	if (!strcmp(path, drive) || layer_at(path) >= 0)
		return true;
	for (size_t i = 0; i < n->count; i++)
		if (!strcmp(n->path[i], path))
			return true;
	return false;
}

/* Files that nothing rests on any more; bitmaps of such nodes first. */
static void remove_leftovers(void)
{
	DIR *d = opendir(".");
	struct needed needed = { 0 };
	struct dirent *entry;

	for (size_t i = 0; i < CLONES; i++)
		if (m.clone[i].exists)
			need_chain_of(m.clone[i].path, &needed);
	for (size_t i = 0; i < NODE_BITMAPS; i++)
		if (m.node_bitmap[i].exists &&
		    layer_at(m.node_bitmap[i].path) < 0)
			remove_node_bitmap(&m.node_bitmap[i]);
	if (!d)
		die(m.life);
	while ((entry = readdir(d)) && !failed)
		if (strstr(entry->d_name, ".qcow2") &&
		    !is_needed(&needed, entry->d_name))
			remove_file(entry->d_name);
	closedir(d);
	m.has_leftovers = false;
}

/* ---------------------------------------------------------------- lives */

static const char *take_step(void)
{
	enum outcome outcome = NO_SENSE;
	struct verb *v = NULL;

	if (m.has_leftovers)
		remove_leftovers();
	while (outcome == NO_SENSE && !failed) {
		v = any_verb();
		note("# %s", v->name);
		outcome = v->take();
		/* One that never makes sense must not be in the way. */
		v->turns += outcome == NO_SENSE ? 1 : 4;
		v->tried += outcome != NO_SENSE;
		v->done += outcome == DONE;
	}
	return v ? v->name : "leftovers";
}

static void start_life(void)
{
	const char *root = m.is_link ? "disk.qcow2" : drive;

	m.rnd.state = (m.seed * 2 + m.is_link) * 0x9e3779b97f4a7c15ull | 1;
	foreign(qimg, "create", "-q", "-f", "qcow2", root, "2M");
	if (m.is_link && symlink(root, drive))
		die(drive);
	m.size = 2 << 20;
	m.layers = 1;
	snprintf(head()->path, sizeof(head()->path), "%s", root);
	write_as_guest(false);
	for (size_t i = 0; i < DRIVE_BITMAPS; i++) {
		struct bitmap *b = &m.bitmap[i];

		b->name = i ? "fine" : "daily";
		b->granularity = i ? 4096 : 65536;
		snprintf(b->granularity_text, sizeof(b->granularity_text), "%u",
			 b->granularity);
		add_bitmap(b);
	}
}

static void forget_life(void)
{
	for (size_t i = 0; i <= MAX_LAYERS; i++)
		free(m.layer[i]);
	for (size_t i = 0; i < VERBS; i++)
		verbs[i].turns = 0;
	memset(&m, 0, sizeof(m));
	forget_steps();
	failed = false;
}

static void run_steps(unsigned steps)
{
	start_step();
	if (m.has_daemon)
		start_reader();
	start_life();
	end_step();
	while (m.step < steps && !failed) {
		m.step++;
		start_step();
		printf("# step %u: %s", m.step, take_step());
		printf(", %u layers\n", m.layers);
		if (!failed)
			compare_all();
		if (reader.in && (failed || m.step == steps))
			end_qemu(&reader, false);
		end_step();
	}
	if (failed)
		show_last_steps();
}

/* In a folder of its own. */
static void live(const char *name, uint64_t seed, unsigned steps)
{
	forget_life();
	m.life = name;
	m.seed = seed;
	m.is_link = !strcmp(name, "link");
	m.has_daemon = has_program("qemu-storage-daemon");
	/* One life has the VM of the other kind, where there are both. */
	m.has_system = has_program("qemu-system-x86_64") &&
		       !(m.is_link && m.has_daemon);
	for (size_t i = 0; i <= MAX_LAYERS; i++) {
		m.layer[i] = calloc(1, sizeof(struct layer));
		if (!m.layer[i])
			die("memory");
	}
	if (mkdir(name, 0755) || chdir(name))
		die(name);
	printf("# %s, seed %llu\n", name, (unsigned long long)seed);
	run_steps(steps);
	if (chdir(".."))
		die("..");
	ok(!failed, "%s: %u steps, seed %llu", name, m.step,
	   (unsigned long long)seed);
	if (!failed)
		run("rm", "-rf", name);
}

/* Was each there? A life that is long enough has them all. */
static bool show_verbs(void)
{
	bool all = true;

	for (size_t i = 0; i < VERBS; i++) {
		const struct verb *v = &verbs[i];

		printf("# %s: %u, done %u\n", v->name, v->tried, v->done);
		all &= v->done;
	}
	return all;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int main(void)
{
	const char *only = getenv("QIMG_MODEL_LIFE");
	const char *slow = getenv("QIMG_SAN");
	bool is_long = number("QIMG_LONG", 0);
	uint64_t seed = number("QIMG_SEED", 2016);
	unsigned steps = (unsigned)number("QIMG_MODEL_STEPS", slow && *slow ?
								      40 :
							      is_long ? 5000 :
									120);
	bool all;

	qimg = qimg_path();
	/* A QEMU that has died is found by what it does not say. */
	signal(SIGPIPE, SIG_IGN);
	trace.says_all = number("QIMG_MODEL_SAY", 0);
	if (!only || !strcmp(only, "link"))
		live("link", seed, steps);
	if (!only || !strcmp(only, "plain"))
		live("plain", seed, steps);
	all = show_verbs();
	if (!only && steps >= 200 && !getenv("QIMG_SEED"))
		ok(all, "every operation was done");
	return tap_done();
}
