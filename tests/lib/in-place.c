/* SPDX-License-Identifier: MIT */
/* in-place.c - images that are made under their name, as by qemu-img */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/format.h"
#include "lib/lock.h"
#include "tests/lib/tap.h"

#define SIZE (1u << 20)

static struct qi_error error;

/* A file of 4 MiB of bytes that are not zero. */
static void put_old(const char *path, mode_t mode)
{
	FILE *f = fopen(path, "w");

	for (unsigned i = 0; f && i < 4 * SIZE; i++)
		putc('x', f);
	if (!f || fclose(f) || chmod(path, mode))
		abort();
}

static ino_t inode(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_ino;
}

static int create(const char *path, const char *format, const char *options)
{
	const struct qi_create c = {
		.format = format,
		.options = options,
		.size = options && strstr(options, "size=5") ? QI_NO_OFFSET :
							       SIZE,
		.in_place = true,
		.cache = QI_CACHE_UNSAFE
	};

	error = (struct qi_error){ "", "" };
	return qi_create_image(path, &c, &error);
}

/* Does it read as zeroes, and has it that format? */
static bool is_empty(const char *path, const char *format)
{
	const struct qi_open how = { .access = QI_ACCESS_READ };
	static uint8_t buf[SIZE];
	struct qi_graph *g;
	struct qi_node *n;
	bool good;

	if (qi_graph_new(&g))
		abort();
	good = !qi_graph_add(g, path, &how, &n, &error) &&
	       !qi_graph_lock(g, 0, &error) &&
	       !strcmp(qi_node_facts(n)->format, format) &&
	       qi_node_facts(n)->size == SIZE &&
	       !qi_read(n, 0, SIZE, buf, &error);
	for (unsigned i = 0; i < SIZE && good; i++)
		good = !buf[i];
	qi_graph_free(g);
	return good;
}

static void test_existing(const char *format)
{
	struct stat st;
	ino_t old;

	put_old("old", 0640);
	old = inode("old");
	ok(!link("old", "hard") && !symlink("old", "soft") &&
		   !create("soft", format, NULL) && is_empty("old", format),
	   "%s, in place of what a link leads to%s", format, error.text);
	ok(inode("old") == old && inode("hard") == old && !stat("old", &st) &&
		   (st.st_mode & 0777) == 0640 && !lstat("soft", &st) &&
		   S_ISLNK(st.st_mode),
	   "it is the same file, with its links and its mode");
	unlink("hard");
	unlink("soft");
	unlink("old");
	ok(!symlink("new", "soft") && !create("soft", format, NULL) &&
		   is_empty("new", format),
	   "a new one where a link leads to nothing%s", error.text);
	unlink("soft");
	unlink("new");
}

static void test_data_file(void)
{
	ino_t old;

	put_old("data", 0600);
	old = inode("data");
	ok(!create("a", "qcow2", "data_file=data") && inode("data") == old &&
		   is_empty("a", "qcow2"),
	   "a data file is made in place, too%s", error.text);
	unlink("data");
	unlink("a");
}

/* Its bitmaps come last: the image is opened again for them. */
static void test_convert(void)
{
	const struct qi_open how = { .access = QI_ACCESS_WRITE };
	const struct qi_bitmap_change b = { .name = "b",
					    .enabled = true,
					    .granularity_bits = 16 };
	const struct qi_convert c = { .target = { .format = "qcow2",
						  .options = "data_file=data",
						  .in_place = true },
				      .bitmaps = true };
	struct qi_bitmap_facts *all = NULL;
	struct qi_copy_stats stats;
	struct qi_graph *g;
	struct qi_node *n;
	size_t count = 0;

	if (qi_graph_new(&g) || create("from", "qcow2", NULL) ||
	    qi_graph_add(g, "from", &how, &n, &error) ||
	    qi_graph_lock(g, 0, &error) ||
	    n->format->bitmaps->update(n, &b, 1, NULL, 0, &error))
		abort();
	put_old("to", 0600);
	ok(!qi_convert_image(n, "to", &c, &stats, &error) &&
		   is_empty("to", "qcow2"),
	   "a conversion into what is there%s", error.text);
	qi_graph_free(g);
	if (qi_graph_new(&g))
		abort();
	ok(!qi_graph_add(g, "to", &how, &n, &error) &&
		   !qi_node_bitmaps(n, &all, &count, &error) && count == 1,
	   "brings its bitmaps%s", error.text);
	free(all);
	qi_graph_free(g);
}

static void refuses(const char *path, const char *format, const char *options,
		    int code, const char *stock)
{
	int ret = create(path, format, options);

	ok(ret == -code && !strcmp(error.stock, stock), "%s: %d, '%.24s...'",
	   path, ret, error.stock);
}

static void test_refusals(void)
{
	struct qi_file *f;

	if (mkfifo("fifo", 0600) || mkdir("folder", 0700))
		abort();
	refuses("fifo", "raw", NULL, EINVAL,
		"Could not resize file: Invalid argument");
	refuses("/dev/null", "raw", NULL, EINVAL, "Cannot grow device files");
	refuses("folder", "raw", NULL, EISDIR,
		"Could not create 'folder': Is a directory");
	refuses("no/a", "qcow2", NULL, ENOENT,
		"Could not create 'no/a': No such file or directory");
	put_old("held", 0600);
	if (qi_file_open(&f, "held", true, NULL) ||
	    qi_lock(f, QI_ACCESS_WRITE, false, NULL))
		abort();
	refuses("held", "raw", NULL, EBUSY,
		"Failed to get \"write\" lock\nIs another process using the "
		"image [held]?");
	ok(f->size == (uint64_t)4 * SIZE && inode("held") == f->ino,
	   "what is in use stays as it is");
	qi_file_close(f, NULL);
	ok(create("held", "raw", "preallocation=what") == -EINVAL &&
		   inode("held"),
	   "options are looked at first");
}

/* In a process of its own: the fault layer is chosen at its first call. */
static void test_failure(void)
{
	ino_t old;
	int status;
	pid_t pid;

	put_old("old", 0600);
	old = inode("old");
	pid = fork();
	if (pid == 0) {
		setenv("QIMG_FAULT", "write:1:ENOSPC", 1);
		_exit(create("new", "qcow2", NULL) == -ENOSPC ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	ok(!status && access("new", F_OK), "no space: a new file goes again");
	pid = fork();
	if (pid == 0) {
		setenv("QIMG_FAULT", "write:1:ENOSPC", 1);
		_exit(create("old", "qcow2", NULL) == -ENOSPC ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	ok(!status && inode("old") == old, "one that was there does not");
	unlink("old");
}

/* What a device has before must not be seen in the image. */
static void test_device(void)
{
	char device[64] = "", command[96];
	FILE *p;

	put_old("below", 0600);
	p = geteuid() ? NULL :
			popen("losetup -f --show below 2>/dev/null", "r");
	if (p && !fgets(device, sizeof(device), p))
		*device = '\0';
	if (p)
		pclose(p);
	device[strcspn(device, "\n")] = '\0';
	if (!*device) {
		ok(true, "devices # SKIP there are no loop devices");
		return;
	}
	ok(!create(device, "qcow2", "preallocation=metadata") &&
		   is_empty(device, "qcow2"),
	   "a device, with room for all of the disk");
	ok(!create(device, "qcow2", "cluster_size=4k") &&
		   is_empty(device, "qcow2"),
	   "and with none");
	refuses(device, "raw", "size=5M", ENOSPC, "Cannot grow device files");
	snprintf(command, sizeof(command), "losetup -d %s", device);
	ok(!system(command), "%s is let go", device);
}

int main(void)
{
	test_failure();
	test_existing("raw");
	test_existing("qcow2");
	test_data_file();
	test_convert();
	test_refusals();
	test_device();
	return tap_done();
}
