/* SPDX-License-Identifier: MIT */
/*
 * images.h - comparing what the two folders have in the end
 *
 * Files of equal bytes are equal. Else raw files differ, and of qcow2 images
 * QEMU is asked: content, check, info and map, each layer for itself. Bitmaps
 * are read by libqimg, as qemu-img does not show their bits.
 */
#ifndef ALIKE_IMAGES_H
#define ALIKE_IMAGES_H

#include "tests/cmd/qemu-img/alike/files.h"

/* Called with what is to be alike; false when it is not. */
typedef bool judge_fn(const char *field, const char *theirs, const char *ours);

static const char *oracle;

/* The image FOLDER/NAME alone, as after --image-opts; free it. */
static char *layer(const char *folder, const char *name)
{
	char *out;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		die("open_memstream");
	fprintf(f, "driver=qcow2,backing=,file.driver=file,file.filename=%s",
		folder);
	for (; *name; name++)
		fputs(*name == ',' ? ",," : (char[]){ *name, '\0' }, f);
	fclose(f);
	return out;
}

static bool same_content(const char *name, judge_fn *judge)
{
	char *a = layer("theirs/", name), *b = layer("ours/", name);
	const char *const argv[] = {
		"qemu-img", "compare", "-U", "--image-opts", a, b, NULL
	};
	struct tool *tool = &tools[OURS];
	char *what = NULL;
	bool good = true;

	start_in(tool, AT_FDCWD, oracle, argv);
	alarm(seconds);
	end(tool);
	alarm(0);
	/* What it cannot open, it says of each of them, too. */
	if (tool->code == 1)
		what = heard(tool->out, NULL);
	if (what)
		good = judge("content", "", what);
	free(what);
	free(a);
	free(b);
	return good;
}

/*
 * The map without places in the file, and what these alone tore joined. Whether
 * data is in a hole of the file, which makes it zero, hangs on the place, too.
 */
static char *join_map(char *text)
{
	unsigned long long start = 0, len = 0, at, more;
	char *out, *rest, state[100] = "";
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		die("open_memstream");
	for (char *line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *entry = strchr(line, '{'), now[100];

		if (!entry ||
		    sscanf(entry,
			   "{ \"start\": %llu, \"length\": %llu, %99[^}]", &at,
			   &more, now) != 3) {
			fprintf(f, "%s\n", line);
			continue;
		}
		if (strstr(now, ", \"offset\""))
			*strstr(now, ", \"offset\"") = '\0';
		if (strstr(now, "\"data\": true"))
			*strstr(now, "\"zero\"") = '\0';
		if (strcmp(now, state)) {
			fprintf(f, "%llu +%llu %s\n", start, len, state);
			memcpy(state, now, sizeof(state));
			start = at;
			len = 0;
		}
		len += more;
	}
	fprintf(f, "%llu +%llu %s\n", start, len, state);
	fclose(f);
	free(text);
	return out;
}

static bool same_report(const char *name, const char *command, judge_fn *judge)
{
	char *spec = layer("", name), *said[TOOLS];
	const char *const argv[] = {
		"qemu-img",	command, "-U", "--output=json",
		"--image-opts", spec,	 NULL
	};
	bool good;

	run_both(oracle, oracle, argv);
	for (int t = 0; t < TOOLS; t++) {
		char *text = heard(tools[t].out, NULL);

		if (!strcmp(command, "map"))
			text = join_map(text);
		said[t] = format("%s: exit code %d\n%s", name, tools[t].code,
				 text);
		free(text);
	}
	good = judge(command, said[THEIRS], said[OURS]);
	free(said[THEIRS]);
	free(said[OURS]);
	free(spec);
	return good;
}

/* -------------------------------------------------------------- bitmaps */

static void list_bits(FILE *f, struct qi_node *n, size_t index)
{
	struct qi_ranges *ranges;
	struct qi_range r;

	if (qi_node_bitmap_ranges_at(n, index, &ranges, NULL))
		return;
	while (qi_ranges_next(ranges, &r, NULL) > 0)
		fprintf(f, "  %" PRIu64 " +%" PRIu64 "\n", r.off, r.len);
	qi_ranges_free(ranges);
}

/* All bitmaps of FOLDER/NAME with their bits, as text; free it. */
static char *bitmaps_of(const char *folder, const char *name)
{
	const struct qi_open how = { .format = "qcow2",
				     .no_backing = true,
				     .force_share = true };
	char *path = format("%s/%s", folder, name), *out;
	struct qi_bitmap_facts *facts = NULL;
	struct qi_graph *g = NULL;
	struct qi_node *n;
	size_t size, count = 0;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		die("open_memstream");
	if (!qi_graph_new(&g) && !qi_graph_add(g, path, &how, &n, NULL) &&
	    !qi_node_bitmaps(n, &facts, &count, NULL)) {
		for (size_t i = 0; i < count; i++) {
			fprintf(f, "%s: %s: of %u bytes%s%s\n", name,
				facts[i].name, facts[i].granularity,
				facts[i].enabled ? "" : ", disabled",
				facts[i].in_use ? ", in use" : "");
			list_bits(f, n, i);
		}
	}
	fclose(f);
	free(facts);
	qi_graph_free(g);
	free(path);
	return out;
}

static bool same_bitmaps(const char *name, judge_fn *judge)
{
	char *theirs = bitmaps_of("theirs", name);
	char *ours = bitmaps_of("ours", name);
	bool good = judge("bitmaps", theirs, ours);

	free(theirs);
	free(ours);
	return good;
}

/* ---------------------------------------------------------------- files */

static bool is_qcow2(int fd)
{
	char magic[4] = "";

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	       !memcmp(magic, "QFI\xfb", sizeof(magic));
}

static char *say_bytes(const char *name, int fd, const struct stat *st,
		       off_t at)
{
	unsigned char byte = 0;

	if (pread(fd, &byte, 1, at) != 1)
		return format("%s: %lld bytes", name, (long long)st->st_size);
	return format("%s: %lld bytes, %02x at %lld", name,
		      (long long)st->st_size, byte, (long long)at);
}

/*
 * Room on disk may differ a little: file systems round, and tables of a qcow2
 * image may have holes.
 */
static long long slack(int fd)
{
	unsigned char bits = 0;

	if (!is_qcow2(fd) || pread(fd, &bits, 1, 23) != 1 || bits > 21)
		return 64 << 10;
	return 4LL << bits;
}

static bool same_room(const char *name, int fd, const struct stat *a,
		      const struct stat *b, judge_fn *judge)
{
	long long theirs = a->st_blocks * 512, ours = b->st_blocks * 512;
	char *x, *y;
	bool good;

	if (llabs(theirs - ours) <=
	    slack(fd) + (long long)qi_max(theirs, ours) / 8)
		return true;
	x = format("%s: %lld bytes allocated", name, theirs);
	y = format("%s: %lld bytes allocated", name, ours);
	good = judge("room", x, y);
	free(x);
	free(y);
	return good;
}

static bool same_bytes(const char *name, const struct stat *a,
		       const struct stat *b, judge_fn *judge)
{
	int x = openat(tools[THEIRS].dir, name, O_RDONLY | O_CLOEXEC);
	int y = openat(tools[OURS].dir, name, O_RDONLY | O_CLOEXEC);
	bool both_qcow2, good = true;
	off_t at;

	if (x < 0 || y < 0)
		die(name);
	at = first_difference(x, y, a->st_size, b->st_size);
	both_qcow2 = at >= 0 && is_qcow2(x) && is_qcow2(y);
	if (at >= 0 && !both_qcow2) {
		char *theirs = say_bytes(name, x, a, at);
		char *ours = say_bytes(name, y, b, at);

		good = judge("bytes", theirs, ours);
		free(theirs);
		free(ours);
	}
	good = good && same_room(name, x, a, b, judge);
	close(x);
	close(y);
	if (!both_qcow2 || !good)
		return good;
	return same_content(name, judge) && same_report(name, "check", judge) &&
	       same_report(name, "info", judge) &&
	       same_report(name, "map", judge) && same_bitmaps(name, judge);
}

/* One line for each file: its type, permissions and name; free it. */
static char *say_files(const struct tree *t)
{
	char *out;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		die("open_memstream");
	for (size_t i = 0; i < t->count; i++)
		fprintf(f, "%06o %s\n", t->entries[i].st.st_mode,
			t->entries[i].name);
	fclose(f);
	return out;
}

/* All that the folders have. False when the judge says so of something. */
static bool same_files(judge_fn *judge)
{
	struct tree theirs = list(tools[THEIRS].dir);
	struct tree ours = list(tools[OURS].dir);
	char *a = say_files(&theirs), *b = say_files(&ours);
	bool good = judge("files", a, b);

	for (size_t i = 0; good && i < theirs.count; i++) {
		const struct entry *x = &theirs.entries[i];
		const struct entry *y = find_entry(&ours, x->name);

		if (!y || !S_ISREG(x->st.st_mode) || !S_ISREG(y->st.st_mode) ||
		    (untouched(x) && untouched(y)))
			continue;
		good = same_bytes(x->name, &x->st, &y->st, judge);
	}
	free(a);
	free(b);
	free_tree(&theirs);
	free_tree(&ours);
	return good;
}

#endif
