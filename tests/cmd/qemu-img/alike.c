/* SPDX-License-Identifier: MIT */
/*
 * alike.c - the same command lines for QEMU's qemu-img and for ours
 *
 *	alike [--all] [--only TEXT] [--seed N] [--keep] TABLE
 *
 * Each case of a table starts with two equal folders. Its command lines run in
 * both: in one by the qemu-img found on the PATH, in the other by a link named
 * so to $QIMG. Alike must be exit code, stdout and stderr of each, and in the
 * end all files. What may differ is in the file `differences`.
 *
 * A table has one case a line, which a backslash at its end continues:
 *
 *	# a comment
 *	= bash		fixtures: done once, each case starts with the files
 *	create a 1M ; info a	two command lines, without the word qemu-img
 *	create ; !sh	done in both folders, must work, is not compared
 *	&sh ; info a	runs until the case is over; has said something first
 *	info {a|b|}	three cases; quotes take the meaning from braces
 *	info {a|b} ; check $1	what the first braces were
 *	*9 info {?a|b}	nine cases, an alternative drawn by lot in each
 *	@name create	differs as the name says, and must do so
 *	~name create	the same of one at least of what its braces make
 *
 * A test is a line with all that its braces make. Every third case is run, by
 * lot; fewer under sanitizers, all in a long run, with --all, and of those that
 * have the text of --only (or QIMG_ONLY) in them. --seed (or QIMG_SEED) chooses
 * others. --keep leaves the folders of the last case.
 */
#include <ftw.h>
#include <getopt.h>

#include "tests/cmd/qemu-img/alike/images.h"
#include "tests/cmd/qemu-img/alike/rules.h"
#include "tests/lib/tap.h"

/* How many command lines: by command, the last one is the sum. */
static struct tally {
	const char *command;
	unsigned run, differ, by_name;
} tallies[] = {
	{ "amend" },	{ "bench" },   { "bitmap" },   { "check" },
	{ "commit" },	{ "compare" }, { "convert" },  { "create" },
	{ "dd" },	{ "info" },    { "map" },      { "measure" },
	{ "rebase" },	{ "resize" },  { "snapshot" }, { "other" },
	{ "together" },
};

#define TALLIES (sizeof(tallies) / sizeof(tallies[0]))

static struct {
	const char *only; /* what cases are to have in them */
	bool keep;
	bool same_tool; /* both are QEMU's: nothing differs by name */
	uint64_t seed;
	unsigned stride; /* of so many cases one is run */
	unsigned rounds; /* as often is drawn by lot */
} options = { .stride = 3, .rounds = 1 };

static struct {
	const char *table;
	struct random sample;  /* chooses cases */
	unsigned tried, bad;   /* of those of one line */
	const char *text;      /* of the case at hand */
	const char *step;      /* its command line that is compared */
	struct tally *command; /* ... and its command */
	bool by_name;	       /* it differs so */
} now;

/* ------------------------------------------------------- what differs */

/* As TAP comments, with what a terminal would not show. */
static void show_text(const char *who, const char *text)
{
	unsigned lines = 0;

	printf("#   %s:\n#   | ", who);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c != '\n')
			printf(isprint(c) ? "%c" : "\\x%02x", c);
		else if (++lines == 40)
			break;
		else if (text[1])
			printf("\n#   | ");
	}
	puts(*text ? "\n#   | ..." : "");
}

static bool judge(const char *field, const char *theirs, const char *ours)
{
	if (alike(field, theirs, ours))
		return true;
	/* The rest of a line is most often more of the same. */
	if (now.bad >= (options.only ? 1000u : 3u))
		return false;
	printf("# %s\n#   %s differs%s%s\n", now.text, field,
	       now.step ? " after: qemu-img " : " in the end",
	       now.step ? now.step : "");
	show_text("theirs", theirs);
	show_text("ours", ours);
	return false;
}

/* ---------------------------------------------------------------- cases */

static struct tally *tally_of(const char *command)
{
	size_t i = 0;

	while (i < TALLIES - 2 && strcmp(tallies[i].command, command))
		i++;
	return &tallies[i];
}

static unsigned names_met(void)
{
	unsigned count = 0;

	for (size_t i = 1; i < name_count; i++)
		count += names[i].met;
	return count;
}

/* Null bytes are only for exact comparisons. */
static bool same_stream(const char *field, int their_fd, int our_fd)
{
	size_t a_len, b_len;
	char *a = heard(their_fd, &a_len), *b = heard(our_fd, &b_len);
	bool good = a_len == b_len && !memcmp(a, b, a_len);

	if (!good && strlen(a) == strlen(b) && a_len != b_len)
		good = judge(field, "", "(another number of null bytes)");
	else if (!good)
		good = judge(field, a, b);
	free(a);
	free(b);
	return good;
}

static bool same_step(const char *step)
{
	char *copy = format("%s", step), code[TOOLS][16];
	const char *argv[MAX_WORDS + 1] = { "qemu-img" };
	unsigned met = names_met();
	bool good;

	cut_words(copy, argv + 1);
	now.step = step;
	now.command = tally_of(argv[1] ? argv[1] : "");
	run_both(tools[THEIRS].path, tools[OURS].path, argv);
	for (int t = 0; t < TOOLS; t++)
		snprintf(code[t], sizeof(code[t]), "%d", tools[t].code);
	good = same_stream("stderr", tools[THEIRS].err, tools[OURS].err);
	good = same_stream("stdout", tools[THEIRS].out, tools[OURS].out) &&
	       good;
	good = judge("code", code[THEIRS], code[OURS]) && good;
	now.command->run++;
	now.by_name = names_met() > met;
	now.command->by_name += now.by_name;
	now.step = NULL;
	free(copy);
	return good;
}

static bool run_steps(char *line)
{
	char *step;

	now.command = NULL;
	now.by_name = false;
	while ((step = next_step(&line))) {
		if (*step == '!') {
			if (!help(step + 1))
				return false;
		} else if (*step == '&') {
			for (int t = 0; t < TOOLS; t++)
				hold_in(tools[t].dir, step + 1);
		} else if (!same_step(step)) {
			return false;
		}
	}
	return true;
}

/* Cuts the names off the start of a case. */
static char *take_names(char *line)
{
	for (size_t i = 0; i < name_count; i++)
		names[i].wanted = names[i].met = names[i].may = false;
	while (*line == '@' || *line == '~') {
		bool may = *line == '~';
		size_t len = strcspn(++line, " "), i = 1;

		while (i < name_count && (strlen(names[i].text) != len ||
					  strncmp(names[i].text, line, len)))
			i++;
		if (i == name_count)
			die("a case has a name that `differences` lacks");
		names[i].wanted = true;
		names[i].may = may;
		line += len + strspn(line + len, " ");
	}
	return line;
}

/* What is said to differ does differ. */
static bool differs_as_named(void)
{
	bool good = true;

	for (size_t i = 1; i < name_count; i++) {
		names[i].lines += names[i].met;
		names[i].met_once |= names[i].met;
		if (!names[i].wanted || names[i].met || names[i].may ||
		    options.same_tool)
			continue;
		printf("# %s\n#   no longer differs: @%s\n", now.text,
		       names[i].text);
		good = false;
	}
	return good;
}

static void run_case(const char *text)
{
	char *copy;
	bool good;

	if (random_below(&now.sample, options.stride) ||
	    (options.only && !strstr(text, options.only)))
		return;
	now.text = text;
	now.tried++;
	copy = format("%s", text);
	for (int t = 0; t < TOOLS; t++)
		restore(tools[t].dir);
	good = run_steps(take_names(copy));
	release_all();
	good = good && same_files(judge) && differs_as_named();
	free(copy);
	if (good)
		return;
	now.bad++;
	if (now.command) {
		now.command->differ++;
		now.command->by_name -= now.by_name;
	}
}

/* --------------------------------------------------------------- tables */

/* Numbers that depend on the seed and `which` alone. */
static void seed_random(struct random *r, uint64_t which)
{
	r->state = (options.seed << 32 | which) * 0x9e3779b97f4a7c15ull | 1;
	for (unsigned i = 0; i < 20; i++)
		random_next(r);
}

/* One case at least differs as they may. */
static bool some_differ(const char *line)
{
	for (size_t i = 1; i < name_count; i++) {
		if (!names[i].may || names[i].met_once)
			continue;
		printf("# %s\n#   none differs: ~%s\n", line, names[i].text);
		return false;
	}
	return true;
}

static void run_line(char *line, unsigned number)
{
	/* Of a sample it cannot be told. */
	bool is_whole = options.stride == 1 && !options.only &&
			!options.same_tool && *line != '*';
	unsigned draws = 1;

	now.tried = now.bad = 0;
	for (size_t i = 0; i < name_count; i++)
		names[i].met_once = names[i].may = false;
	seed_random(&dice, number);
	if (*line == '*') {
		draws = (unsigned)strtoul(line + 1, &line, 10) * options.rounds;
		line += strspn(line, " ");
	}
	while (draws--)
		expand(line, 1, run_case);
	if (!now.tried)
		return;
	if (is_whole && !some_differ(line))
		now.bad++;
	ok(!now.bad, "%s:%u: %.70s%s (%u of %u)", now.table, number, line,
	   strlen(line) > 70 ? "..." : "", now.tried - now.bad, now.tried);
}

/* Where the tables are. */
static const char *here(void)
{
	static char path[4096];
	const char *source = getenv("QIMG_SRC");

	if (!source)
		die("QIMG_SRC is not set: run the tests by make check");
	snprintf(path, sizeof(path), "%s/tests/cmd/qemu-img", source);
	return path;
}

/* What bash, told all lines that begin with "=", leaves in its folder. */
static void make_fixtures(const char *path)
{
	char *script, *line;
	unsigned number = 0;
	FILE *f = fopen(path, "r"), *out;
	size_t size;

	out = open_memstream(&script, &size);
	if (!f || !out || mkdir("fixtures", 0755))
		die(path);
	fprintf(out, "cd fixtures\nsource '%s/fixtures.bash'\n", here());
	while ((line = next_line(f, &number))) {
		if (*line == '=')
			fprintf(out, "%s\n", line + 1);
		free(line);
	}
	fclose(out);
	fclose(f);
	if (run("bash", "-euc", script)) {
		show_messages();
		die("the fixtures cannot be made");
	}
	fixture_dir = open("fixtures", O_RDONLY | O_CLOEXEC);
	fixtures = list(fixture_dir);
	free(script);
}

static void run_table(const char *path)
{
	FILE *f = fopen(path, "r");
	unsigned number = 0;
	char *line;

	if (!f)
		die(path);
	seed_random(&now.sample, 0);
	now.table = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	while ((line = next_line(f, &number))) {
		if (*line != '=')
			run_line(line, number);
		free(line);
	}
	fclose(f);
}

static void summary(void)
{
	struct tally *all = &tallies[TALLIES - 1];

	for (size_t i = 0; i < TALLIES; i++) {
		const struct tally *t = &tallies[i];

		if (!t->run)
			continue;
		all->run += t == all ? 0 : t->run;
		all->differ += t == all ? 0 : t->differ;
		all->by_name += t == all ? 0 : t->by_name;
	}
	for (size_t i = 0; i < TALLIES; i++) {
		const struct tally *t = &tallies[i];

		if (t->run)
			printf("# %s: %u command lines, %u alike, %u differ "
			       "by name, %u differ\n",
			       t->command, t->run,
			       t->run - t->by_name - t->differ, t->by_name,
			       t->differ);
	}
	for (size_t i = 1; i < name_count; i++) {
		if (names[i].lines)
			printf("# differs by name: %s, %u cases\n",
			       names[i].text, names[i].lines);
	}
}

/* --------------------------------------------------------------- set up */

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *level)
{
	return remove(path);
}

/* The program of that name on the PATH; free it. */
static char *find_program(const char *name)
{
	char *path = format("%s", getenv("PATH")), *rest, *out = NULL;

	for (char *dir = strtok_r(path, ":", &rest); dir && !out;
	     dir = strtok_r(NULL, ":", &rest)) {
		out = format("%s/%s", dir, name);
		if (access(out, X_OK)) {
			free(out);
			out = NULL;
		}
	}
	free(path);
	return out;
}

static void read_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "only", required_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 's' },
		{ "keep", no_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 },
	};
	const char *seed = getenv("QIMG_SEED"), *slow = getenv("QIMG_SAN");
	const char *is_long = getenv("QIMG_LONG");
	int c;

	options.only = getenv("QIMG_ONLY");
	if (slow && *slow) {
		options.stride = 16;
		seconds = 200;
	}
	if (is_long && *is_long) {
		options.stride = 1;
		options.rounds = 20;
	}
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 'a')
			options.stride = 1;
		else if (c == 'o')
			options.only = optarg;
		else if (c == 's')
			seed = optarg;
		else if (c == 'k')
			options.keep = true;
		else
			exit(2);
	}
	if (options.only)
		options.stride = 1;
	options.seed = seed ? strtoull(seed, NULL, 0) : 7222;
	if (optind + 1 != argc)
		die("alike takes one table");
}

/* Is the oracle there, in the version whose words are ours? */
static bool find_oracle(void)
{
	bool good;
	char *text;

	oracle = tools[THEIRS].path = find_program("qemu-img");
	if (!oracle)
		return false;
	run(oracle, "--version");
	text = slurp("out", NULL);
	good = strstr(text, "version 7.2.") != NULL;
	free(text);
	return good;
}

/* Ours is called by a link, as it will be. */
static void find_ours(const char *dir)
{
	struct stat a, b;

	tools[OURS].path = format("%s/qemu-img", dir);
	if (symlink(qimg_path(), tools[OURS].path) || stat(oracle, &a) ||
	    stat(qimg_path(), &b))
		die(qimg_path());
	options.same_tool = a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void run_all(const char *table)
{
	char *path = format("%s/differences", here());

	printf("# seed %" PRIu64 "\n", options.seed);
	read_rules(path);
	open_tools();
	make_fixtures(table);
	run_table(table);
	summary();
	close_tools();
	close(fixture_dir);
	free_tree(&fixtures);
	free_rules();
	free(path);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = format("%s/alike.XXXXXX", tmp ? tmp : "/tmp"), *table;

	read_options(argc, argv);
	table = realpath(argv[optind], NULL);
	if (!table || !mkdtemp(dir) || chdir(dir))
		die(argv[optind]);
	umask(022);
	if (find_oracle()) {
		find_ours(dir);
		run_all(table);
	} else {
		skip("needs qemu-img 7.2");
	}
	if (options.keep)
		printf("# kept: %s\n", dir);
	else if (chdir("/") || nftw(dir, remove_one, 20, FTW_DEPTH | FTW_PHYS))
		die(dir);
	free(table);
	free(dir);
	return tap_done();
}
