/* SPDX-License-Identifier: MIT */
/*
 * layers.h - the operations of differential.c that need a second image:
 * creating, commit, rebase
 */
#ifndef DIFFERENTIAL_LAYERS_H
#define DIFFERENTIAL_LAYERS_H

#include "tests/formats/differential/steps.h"

/* ------------------------------------------------------- backing files */

static void write_file(const char *path, const uint8_t *data, size_t len)
{
	FILE *f = fopen(path, "wb");

	if (!f || fwrite(data, 1, len, f) != len || fclose(f))
		die(path);
}

/* A raw file of holes, noise and bytes; what it holds goes to `guest`. */
static void make_raw(const char *path, uint8_t *guest, uint64_t size)
{
	memset(guest, 0, MAX_DISK);
	for (unsigned n = 0; n < 8; n++) {
		struct request r;

		random_request(&r, size, cluster_size());
		apply(&r, guest);
	}
	write_file(path, guest, size);
}

/* A new backing file, raw or qcow2; its content goes to `guest`. */
static void make_backing(uint8_t *guest)
{
	uint64_t size = one_in(3) ? d.size : random_size();
	char option[40];
	bool is_raw = one_in(3);

	d.serial++;
	snprintf(d.backing, sizeof(d.backing), "base%u", d.serial);
	d.backing_format = is_raw ? "raw" : "qcow2";
	make_raw(is_raw ? d.backing : "base.raw", guest, size);
	note("# %s: %" PRIu64 " bytes", d.backing, size);
	if (is_raw)
		return;
	snprintf(option, sizeof(option), "cluster_size=%u",
		 512u << 2 * below(7));
	if (command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o",
		    option, "base.raw", d.backing))
		fail("cannot make the backing file");
}

/* --------------------------------------------------------------- create */

static void random_config(void)
{
	d.c = (struct config){ .cluster_bits = 9 + (unsigned)below(13),
			       .refcount_bits = 16 };
	d.c.v2 = one_in(5);
	if (d.c.v2)
		return;
	if (one_in(2))
		d.c.refcount_bits = 1u << below(7);
	d.c.extended_l2 = d.c.cluster_bits >= 14 && one_in(3);
	d.c.zstd = one_in(3);
	d.c.lazy = one_in(5);
	d.c.data_file = one_in(6);
	d.c.data_file_raw = d.c.data_file && one_in(2);
}

static void config_text(char *text, size_t size)
{
	static const char *const modes[] = { "off", "metadata", "falloc",
					     "full" };
	const struct config *c = &d.c;
	const char *mode = modes[one_in(4) && !*d.backing ? below(4) : 0];
	int n = snprintf(text, size,
			 "cluster_size=%" PRIu64 ",compat=%s,preallocation=%s",
			 cluster_size(), c->v2 ? "0.10" : "1.1",
			 c->data_file_raw ? "metadata" : mode);

	if (c->v2)
		return;
	snprintf(text + n, size - (size_t)n,
		 ",refcount_bits=%u,compression_type=%s%s%s%s%s",
		 c->refcount_bits, c->zstd ? "zstd" : "zlib",
		 c->extended_l2 ? ",extended_l2=on" : "",
		 c->lazy ? ",lazy_refcounts=on" : "",
		 c->data_file ? ",data_file=d.data" : "",
		 c->data_file_raw ? ",data_file_raw=on" : "");
}

static void create(void)
{
	enum tool tool = one_in(2) ? OURS : QEMU;
	const char *name = tool == OURS ? qimg : "qemu-img";
	char options[200];
	int code;

	random_config();
	d.size = random_size();
	*d.backing = '\0';
	memset(d.guest, 0, MAX_DISK);
	if (!d.c.data_file_raw && one_in(2))
		make_backing(d.guest);
	memset(d.guest + d.size, 0, MAX_DISK - d.size);
	config_text(options, sizeof(options));
	if (*d.backing)
		code = command(name, "create", "-q", "-f", "qcow2", "-o",
			       options, "-b", d.backing, "-F", d.backing_format,
			       image, text_of(d.size));
	else
		code = command(name, "create", "-q", "-f", "qcow2", "-o",
			       options, image, text_of(d.size));
	came_out(DONE, code, "create");
}

/* --------------------------------------------------------------- commit */

/* By drive: the layer below takes the name of the drive. */
static int commit(enum tool tool, bool by_drive)
{
	int code;

	if (!by_drive)
		return command(tool == OURS ? qimg : "qemu-img", "commit", "-q",
			       "-f", "qcow2", "-d", "top.qcow2");
	code = command(qimg, "commit", "-q", "--drive", "top.qcow2");
	return code ? code : command("mv", "top.qcow2", image);
}

/* Writes to an overlay of the given size; what it holds goes to `guest`. */
static bool fill_overlay(uint8_t *guest, uint64_t size, uint64_t cluster)
{
	struct request r[MAX_REQUESTS];
	size_t count = below(MAX_REQUESTS + 1);
	uint64_t grain = qi_max(cluster, 4096);

	for (size_t i = 0; i < count; i++) {
		random_request(&r[i], size, cluster);
		/* Those that QEMU may refuse are not for here. */
		if (is_compressed(&r[i]))
			r[i--].kind = DATA;
	}
	if (count &&
	    send_requests(one_in(2) ? OURS : QEMU, "top.qcow2", r, count))
		return false;
	for (size_t i = 0; i < count; i++) {
		apply(&r[i], guest);
		if (r[i].kind == DISCARD)
			apply_discard(&r[i], guest, size, cluster, true);
		/* A cluster is committed as a whole, a page at least. */
		note_touched(r[i].off / grain * grain, r[i].len + 2 * grain);
	}
	return true;
}

/* An overlay is made, written to and committed. */
static bool step_commit(enum tool tool)
{
	static uint8_t guest[MAX_DISK];
	uint64_t cluster = 512u << below(13);
	uint64_t size = one_in(2) ? d.size : random_size();
	bool by_drive = tool == OURS && one_in(2);
	enum want want = DONE;
	char option[40];

	/* See step_resize(). */
	if (d.c.v2 && (d.saved_count || (tool == QEMU && *d.backing)))
		size = qi_min(size, d.size);
	snprintf(option, sizeof(option), "cluster_size=%" PRIu64, cluster);
	if (command("qemu-img", "create", "-q", "-f", "qcow2", "-o", option,
		    "-b", image, "-F", "qcow2", "top.qcow2", text_of(size)))
		fail("cannot make the overlay");
	memcpy(guest, d.guest, MAX_DISK);
	if (!fill_overlay(guest, size, cluster))
		fail("cannot write to the overlay");
	/* The bitmaps of the base do not take another name. */
	if (by_drive && (bitmap_count() || size < d.size))
		want = REFUSED;
	if (came_out(want, commit(tool, by_drive), "commit")) {
		if (tool == QEMU && size > d.size)
			note_wild_tail(d.size, size, false);
		note_size(qi_max(size, d.size));
		memcpy(d.guest, guest, MAX_DISK);
	}
	unlink("top.qcow2");
	return true;
}

/* --------------------------------------------------------------- rebase */

static bool step_rebase(enum tool tool)
{
	static uint8_t below_it[MAX_DISK];
	bool to_none = one_in(4);
	const char *name = tool == OURS ? qimg : "qemu-img";
	char old[24];
	int code;

	/* Snapshots would lose what they have from the backing file. */
	if (d.c.data_file_raw || d.saved_count)
		return false;
	/* QEMU 7.2 loses zeroes that version 2 cannot store. */
	if (tool == QEMU && d.c.v2)
		return false;
	snprintf(old, sizeof(old), "%s", d.backing);
	if (to_none)
		*d.backing = '\0';
	else
		make_backing(below_it);
	if (to_none)
		code = command(name, "rebase", "-q", "-f", "qcow2", "-b", "",
			       image);
	else
		code = command(name, "rebase", "-q", "-f", "qcow2", "-b",
			       d.backing, "-F", d.backing_format, image);
	if (came_out(DONE, code, "rebase"))
		note_touched(0, d.size);
	if (*old)
		unlink(old);
	return true;
}

#endif
