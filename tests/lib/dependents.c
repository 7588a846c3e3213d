/* SPDX-License-Identifier: MIT */
/*
 * dependents.c - who rests on an image, asked again and again in one graph
 *
 * A folder is read once. What this process, or another one, does to names and
 * backing files between two questions is seen by the second.
 */
#include <stdlib.h>
#include <time.h>

#include "lib/drive.h"
#include "lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/tap.h"

static struct qi_graph *g;
static struct qi_node *base;
static struct qi_error e;

/* A change by others is seen by the time of the folder, which is coarse. */
static void wait_for_clock(void)
{
	const struct timespec pause = { 0, 30000000 };

	nanosleep(&pause, NULL);
}

static void make(const char *path, const char *backing)
{
	const struct qi_create c = { .format = "qcow2",
				     .size = 1 << 20,
				     .backing_name = backing,
				     .backing_format = backing ? "qcow2" : NULL,
				     .replace = true };

	if (qi_create_image(path, &c, &e)) {
		printf("# %s\n", e.text);
		die(path);
	}
}

static struct qi_node *add(const char *path)
{
	const struct qi_open how = { .access = QI_ACCESS_WRITE };
	struct qi_node *n;

	if (qi_graph_add(g, path, &how, &n, &e)) {
		printf("# %s\n", e.text);
		die(path);
	}
	return n;
}

/* Are these, as qi_files_text() has them, the images on base? */
static void are(const char *want, const char *what)
{
	struct qi_files f;
	char text[1100];

	if (qi_node_dependents(base, NULL, &f, &e))
		snprintf(text, sizeof(text), "%s", e.text);
	else
		qi_files_text(&f, text, sizeof(text));
	qi_files_free(&f);
	if (!ok(!strcmp(text, want), "%s", what))
		printf("# found: %s\n# not: %s\n", text, want);
}

static void our_own_changes(void)
{
	struct qi_node *top;

	make("top", "base");
	are("'top'", "one");
	are("'top'", "the same again");
	if (qi_rename("top", "new", &e) || qi_rename("other", "top", &e))
		die("rename");
	are("'new'", "renamed by us, another in its place");
	make("second", "base");
	are("'new' and 'second'", "made by us");
	if (qi_link("second", "far/second", &e) || qi_unlink("second", &e))
		die("unlink");
	are("'new'", "removed by us");
	top = add("new");
	if (qi_graph_lock(g, 0, &e) ||
	    qi_node_set_backing(top, "top", "qcow2", NULL, true, &e))
		die(e.text);
	are("'new'", "a backing file that was not changed");
	if (qi_node_set_backing(top, "top", "qcow2", NULL, false, &e))
		die(e.text);
	are("", "a backing file changed by us");
	if (qi_node_set_backing(top, "base", "qcow2", NULL, false, &e))
		die(e.text);
	are("'new'", "and back");
	if (qi_rename("base", "far/base", &e))
		die(e.text);
	are("", "the base has another name");
	if (qi_rename("far/base", "base", &e) || qi_link("base", "far/b", &e))
		die(e.text);
	make("via", "far/b");
	are("'new' and 'via'", "and its own again");
	/* The folder that was read is the same after this. */
	if (qi_unlink("far/b", &e))
		die(e.text);
	are("'new'", "a backing name leads nowhere now");
	if (qi_unlink("via", &e))
		die(e.text);
}

static void changes_by_others(void)
{
	wait_for_clock();
	are("'new'", "before");
	if (rename("new", "other.qcow2"))
		die("rename");
	are("'other.qcow2'", "renamed by somebody");
	wait_for_clock();
	are("'other.qcow2'", "still");
	if (run("cp", "other.qcow2", "copy"))
		die("cp");
	are("'copy' and 'other.qcow2'", "copied by somebody");
	wait_for_clock();
	are("'copy' and 'other.qcow2'", "still");
	if (unlink("copy"))
		die("unlink");
	are("'other.qcow2'", "removed by somebody");
	if (rename("other.qcow2", "new"))
		die("rename");
}

/* A folder that was read is read no more: what is not written there stays. */
static void read_once(void)
{
	struct timespec times[2];
	struct stat st;

	make("extra", "base");
	wait_for_clock();
	are("'extra' and 'new'", "read");
	if (stat(".", &st) || unlink("extra"))
		die("unlink");
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (utimensat(AT_FDCWD, ".", times, 0))
		die("utimensat");
	are("'extra' and 'new'", "what looks the same is not read again");
	if (qi_graph_lock(g, 0, &e))
		die(e.text);
	are("'new'", "but after locks were taken it is");
}

/* More folders, and the same file in several. */
static void more_folders(void)
{
	make("top", "base");
	make("far/one", "../base");
	are("'new' and 'top'", "the folder of the base alone");
	if (qi_graph_scan(g, "far", &e))
		die(e.text);
	are("'new', 'top' and 'far/one'", "another one");
	if (qi_graph_scan(g, "far/../far", &e) || qi_graph_scan(g, ".", &e))
		die(e.text);
	are("'new', 'top' and 'far/one'", "both, given again by other paths");
	if (link("top", "far/too") || symlink("far/one", "link"))
		die("link");
	/* far/too is the file top, but rests on what is not there. */
	are("'new', 'top' and 'far/one'", "a link to an image that was found");
	ok(qi_graph_scan(g, "gone", &e) == -ENOENT &&
		   !strcmp(e.text, "cannot read folder 'gone': No such file or "
				   "directory"),
	   "a folder that is not there");
	ok(qi_graph_scan(g, "top", &e) == -ENOTDIR, "and what is none");
	if (rename("far", "away"))
		die("rename");
	are("cannot read folder 'far': No such file or directory",
	    "a folder that has gone since is not passed over");
}

static void long_lists(void)
{
	char a[] = "a", b[] = "b", c[] = "c", *path[] = { a, b, c };
	const struct qi_files f = { path, 3 };
	char text[64];

	qi_files_text(&f, text, sizeof(text));
	ok(!strcmp(text, "'a', 'b' and 'c'"), "a list: %s", text);
	qi_files_text(&f, text, 32 + 9);
	ok(!strcmp(text, "'a', 'b' and 1 more"), "too long: %s", text);
	qi_files_text(&f, text, 32 + 2);
	ok(!strcmp(text, "3 images"), "none fits: %s", text);
}

int main(void)
{
	if (qi_graph_new(&g) || mkdir("far", 0755))
		die("start");
	make("base", NULL);
	make("other", NULL);
	base = add("base");
	are("", "none");
	our_own_changes();
	changes_by_others();
	read_once();
	more_folders();
	long_lists();
	qi_graph_free(g);
	return tap_done();
}
