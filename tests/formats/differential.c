/* SPDX-License-Identifier: MIT */
/*
 * differential.c - random operations on one image, by QEMU and qimg in turn
 *
 * Each sequence makes an image of a random kind and does random things to it:
 * cluster size, refcount width, subclusters, compression, data file, version,
 * backing file; writes, snapshots, resizes, amends, bitmaps, commits, rebases.
 * Each step is done by one of the tools. After it both must read the content
 * that the model has, both checks must be clean with the same counts, and
 * every byte that changed must be in each bitmap that was there.
 *
 *	QIMG_SEED=N		other sequences; all is made from it
 *	QIMG_SEQUENCES=N	how many
 *	QIMG_SEQUENCE=N		this one alone, and say what it does
 *	QIMG_STEPS=N		steps of each sequence
 *
 * A sequence that fails prints its commands as a script. A long run, of so
 * many seconds at most:
 *
 *	make check T=tests/formats/differential.c QIMG_SEQUENCES=5000 \
 *		QIMG_LIMIT=7200
 */
#include "tests/formats/differential/layers.h"
#include "tests/formats/differential/verify.h"
#include "tests/lib/tap.h"

struct verb {
	unsigned weight;
	bool (*take)(enum tool tool);
};

static const struct verb verbs[] = {
	{ 40, step_write },	    { 10, step_snapshot_create },
	{ 7, step_snapshot_apply }, { 6, step_snapshot_delete },
	{ 9, step_resize },	    { 9, step_amend },
	{ 7, step_bitmap_add },	    { 6, step_bitmap_edit },
	{ 8, step_commit },	    { 5, step_rebase },
	{ 2, step_repair },
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const struct verb *random_verb(void)
{
	uint64_t total = 0, dice;
	size_t i = 0;

	for (size_t k = 0; k < VERBS; k++)
		total += verbs[k].weight;
	dice = below(total);
	while (dice >= verbs[i].weight)
		dice -= verbs[i++].weight;
	return &verbs[i];
}

static void step(void)
{
	static uint8_t before[MAX_DISK];
	bool done = false;

	memcpy(before, d.guest, MAX_DISK);
	while (!done) {
		const struct verb *verb = random_verb();

		done = verb->take(one_in(2) ? OURS : QEMU);
	}
	if (!d.failed)
		verify(before);
	d.steps_run++;
}

static void start_sequence(unsigned sequence)
{
	d.sequence = sequence;
	d.rnd.state = (d.seed << 32 | sequence) * 0x9e3779b97f4a7c15ull | 1;
	for (unsigned i = 0; i < 20; i++)
		random_next(&d.rnd);
	d.serial = d.step = 0;
	d.saved_count = 0;
	d.failed = false;
	memset(d.bitmap, 0, sizeof(d.bitmap));
	d.script = open_memstream(&d.log, &d.log_len);
	if (!d.script)
		die("open_memstream");
}

static void end_sequence(bool say_all)
{
	fclose(d.script);
	if (d.failed || say_all)
		print_commented(d.log);
	if (d.failed)
		printf("# again: QIMG_SEED=%" PRIu64 " QIMG_SEQUENCE=%u\n",
		       d.seed, d.sequence);
	free(d.log);
}

/* In a folder of its own, which stays there if it fails. */
static bool run_sequence(unsigned sequence, unsigned steps, bool say_all)
{
	char dir[32];

	snprintf(dir, sizeof(dir), "sequence-%u", sequence);
	if (mkdir(dir, 0755) || chdir(dir))
		die(dir);
	start_sequence(sequence);
	write_file("noise", noise, sizeof(noise));
	create();
	if (!d.failed)
		verify(d.guest);
	while (!d.failed && d.step < steps) {
		note("# step %u", ++d.step);
		step();
	}
	if (!d.failed)
		verify_at_the_end();
	end_sequence(say_all);
	if (chdir(".."))
		die("..");
	if (!d.failed)
		run("rm", "-rf", dir);
	return !d.failed;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void find_self(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		die("/proc/self/exe");
	self = path;
}

int main(int argc, char **argv)
{
	struct random r = { 20161 };
	const char *slow = getenv("QIMG_SAN");
	uint64_t count = number("QIMG_SEQUENCES", slow && *slow ? 8 :
						  number("QIMG_LONG", 0) ?
								  2000 :
								  24);
	uint64_t only = number("QIMG_SEQUENCE", 0), bad = 0;
	unsigned steps = (unsigned)number("QIMG_STEPS", 20);

	if (argc > 3 && !strcmp(argv[1], "write"))
		return writer(argc, argv);
	qimg = qimg_path();
	find_self();
	random_fill(&r, noise, sizeof(noise));
	d.seed = number("QIMG_SEED", 2016);
	printf("# seed %" PRIu64 "\n", d.seed);
	for (uint64_t i = only ? only : 1; i <= (only ? only : count); i++) {
		bool good = run_sequence((unsigned)i, steps, only);

		ok(good, "sequence %" PRIu64 ": %u steps", i, d.step);
		bad += !good;
	}
	printf("# %lu steps, %" PRIu64 " sequences failed\n", d.steps_run, bad);
	return tap_done();
}
