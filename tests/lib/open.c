/* SPDX-License-Identifier: MIT */
/* open.c - what qemu-img says when an image cannot be opened */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/graph.h"
#include "tests/lib/tap.h"

static void make(const char *path, const char *backing)
{
	const struct qi_create c = { .format = "qcow2",
				     .size = 1 << 20,
				     .backing_name = backing,
				     .backing_format = backing ? "qcow2" : NULL,
				     .unchecked_backing = true };

	if (qi_create_image(path, &c, NULL))
		abort();
}

/* Change one byte of the header of a new image "bad". */
static void spoil(off_t at, char value)
{
	struct qi_file *f;

	unlink("bad");
	make("bad", NULL);
	if (qi_file_open(&f, "bad", true, NULL) ||
	    qi_file_write(f, (uint64_t)at, 1, &value, NULL) ||
	    qi_file_close(f, NULL))
		abort();
}

/* Opened and locked for reading, or for `access`. */
static void says(const char *name, const char *format, enum qi_access access,
		 const char *stock)
{
	const struct qi_open how = { .format = format, .access = access };
	struct qi_error e = { "" };
	struct qi_graph *g;
	struct qi_node *n;
	int ret;

	if (qi_graph_new(&g))
		abort();
	ret = qi_graph_add(g, name, &how, &n, &e);
	if (!ret)
		ret = qi_graph_lock(g, 0, &e);
	ok(ret < 0 && !strcmp(e.stock, stock), "%s: %.40s", name, stock);
	qi_graph_free(g);
}

static void test_files(void)
{
	if (mkdir("folder", 0777))
		abort();
	says("none", NULL, QI_ACCESS_READ,
	     "Could not open 'none': Could not open 'none': "
	     "No such file or directory");
	says("file:none", NULL, QI_ACCESS_READ,
	     "Could not open 'file:none': Could not open 'none': "
	     "No such file or directory");
	says("folder", NULL, QI_ACCESS_READ,
	     "Could not open 'folder': 'file' driver requires 'folder' to be a "
	     "regular file");
	says("top", "none", QI_ACCESS_READ,
	     "Could not open 'top': Unknown driver 'none'");
	says("host_device:top", NULL, QI_ACCESS_READ,
	     "Could not open 'host_device:top': 'host_device' driver requires "
	     "'top' to be either a character or block device");
	says("json:{'file.filename':'top','read-only':true}", NULL,
	     QI_ACCESS_WRITE,
	     "Could not open 'json:{'file.filename':'top','read-only':true}': "
	     "Block node is read-only");
}

static void test_chain(void)
{
	says("top", NULL, QI_ACCESS_READ,
	     "Could not open 'top': Could not open backing file: Could not "
	     "open backing file: Could not open 'low': No such file or "
	     "directory");
	make("low", NULL);
}

static void test_locks(void)
{
	const struct qi_open how = { .access = QI_ACCESS_WRITE };
	struct qi_graph *g;
	struct qi_node *n;

	if (qi_graph_new(&g) || qi_graph_add(g, "low", &how, &n, NULL) ||
	    qi_graph_lock(g, 0, NULL))
		abort();
	says("top", NULL, QI_ACCESS_READ,
	     "Could not open 'top': Could not open backing file: Could not "
	     "open backing file: Failed to get shared \"write\" lock\n"
	     "Is another process using the image [low]?");
	says("./low", NULL, QI_ACCESS_WRITE,
	     "Could not open './low': Failed to get \"write\" lock\n"
	     "Is another process using the image [./low]?");
	qi_graph_free(g);
}

static void test_headers(void)
{
	static const struct {
		off_t at;
		int value;
		const char *stock;
	} bad[] = {
		{ 0, 'X', "Image is not in qcow2 format" },
		{ 7, 4, "Unsupported qcow2 version 4" },
		{ 23, 7, "Unsupported cluster size: 2^7" },
		{ 103, 96, "qcow2 header too short" },
		{ 101, 2, "qcow2 header exceeds cluster size" },
		{ 99, 7,
		  "Reference count entry width too large; may not exceed 64 "
		  "bits" },
		{ 35, 3, "Unsupported encryption method 3" },
		{ 39, 0, "L1 table is too small" },
		{ 36, 127, "Active L1 table too large" },
		{ 47, 1, "Active L1 table offset invalid" },
		{ 55, 1, "Reference count table offset invalid" },
		{ 59, 0, "Image does not contain a reference count table" },
		{ 56, 127, "Reference count table too large" },
		{ 60, 1, "Snapshot table too large" },
		{ 79, 96,
		  "Unsupported qcow2 feature(s): Unknown incompatible feature: "
		  "60" },
		{ 79, 8,
		  "qcow2: Compression type incompatible feature bit must not "
		  "be set" },
		{ 104, 2, "qcow2: unknown compression type: 2" },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(bad); i++) {
		char text[256];

		snprintf(text, sizeof(text), "Could not open 'bad': %s",
			 bad[i].stock);
		spoil(bad[i].at, (char)bad[i].value);
		says("bad", "qcow2", QI_ACCESS_READ, text);
	}
}

int main(void)
{
	make("top", "middle");
	make("middle", "low");
	test_files();
	test_chain();
	test_locks();
	test_headers();
	return tap_done();
}
