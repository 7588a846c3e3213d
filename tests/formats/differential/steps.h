/* SPDX-License-Identifier: MIT */
/*
 * steps.h - the operations of differential.c: each is done by one of the
 * tools, and noted in the model. They return false when they make no sense.
 */
#ifndef DIFFERENTIAL_STEPS_H
#define DIFFERENTIAL_STEPS_H

#include "tests/formats/differential/write.h"

/* ---------------------------------------------------------------- write */

static bool step_write(enum tool tool)
{
	struct request r[MAX_REQUESTS];
	size_t count = 1 + below(MAX_REQUESTS);
	bool is_strict = !d.c.data_file && (!d.c.v2 || !*d.backing);
	enum want want = DONE;

	for (size_t i = 0; i < count; i++) {
		random_request(&r[i], d.size, cluster_size());
		note_touched(r[i].off, r[i].len);
		/* Alone: it may be refused. QEMU packs no allocated cluster. */
		if (is_compressed(&r[i]))
			want = d.c.data_file ? REFUSED :
			       tool == QEMU  ? EITHER :
					       DONE;
		/* Alone: what is written over it must not be loose. */
		else if (r[i].kind != DISCARD || is_strict)
			continue;
		r[0] = r[i];
		count = 1;
	}
	if (!came_out(want, send_requests(tool, image, r, count), "write"))
		return true;
	for (size_t i = 0; i < count; i++) {
		apply(&r[i], d.guest);
		if (r[i].kind == DISCARD)
			apply_discard(&r[i], d.guest, d.size, cluster_size(),
				      is_strict);
	}
	return true;
}

/* ----------------------------------------------------------- snapshots */

/* What qimg has just refused is no more possible for QEMU, on a copy. */
static void qemu_refuses(const char *const argv[])
{
	if (command("cp", image, "copy.qcow2"))
		die("cp");
	if (!command_argv(argv))
		fail("QEMU does what qimg refuses");
	unlink("copy.qcow2");
}

/* Narrow refcounts overflow: packed clusters share a lot. */
static bool is_narrow(void)
{
	return d.c.refcount_bits <= 8;
}

static int snapshot(enum tool tool, const char *option, const char *name)
{
	return command(tool == OURS ? qimg : "qemu-img", "snapshot", option,
		       name, image);
}

/* After a refusal of QEMU's. */
static void tidy_up(void)
{
	if (is_narrow() && !bitmap_count())
		command("qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks",
			image);
}

static bool step_snapshot_create(enum tool tool)
{
	struct saved *s = &d.saved[d.saved_count];
	enum want want = d.c.data_file ? REFUSED : is_narrow() ? EITHER : DONE;

	if (d.saved_count == MAX_SNAPSHOTS || (d.c.data_file && !one_in(4)))
		return false;
	/* Where QEMU has to give up it leaks, and step_repair() says more. */
	if (tool == QEMU && is_narrow() && bitmap_count())
		return false;
	snprintf(s->name, sizeof(s->name), "s%u", ++d.serial);
	if (!came_out(want, snapshot(tool, "-c", s->name), "snapshot -c")) {
		if (tool == QEMU)
			tidy_up();
		if (tool == OURS)
			qemu_refuses((const char *[]){ "qemu-img", "snapshot",
						       "-c", "s0", "copy.qcow2",
						       NULL });
		return true;
	}
	s->size = d.size;
	memcpy(s->guest, d.guest, MAX_DISK);
	d.saved_count++;
	return true;
}

static bool step_snapshot_apply(enum tool tool)
{
	const struct saved *s;
	enum want want = is_narrow() ? EITHER : DONE;

	if (!d.saved_count)
		return false;
	s = &d.saved[below(d.saved_count)];
	if (tool == QEMU && bitmap_count())
		want = REFUSED;
	else if (d.c.v2 && s->size != d.size)
		want = EITHER;
	if (!came_out(want, snapshot(tool, "-a", s->name), "snapshot -a")) {
		if (tool == QEMU)
			tidy_up();
		return true;
	}
	note_touched(0, qi_max(d.size, s->size));
	note_size(s->size);
	memcpy(d.guest, s->guest, MAX_DISK);
	return true;
}

static bool step_snapshot_delete(enum tool tool)
{
	size_t i;

	if (!d.saved_count)
		return false;
	i = below(d.saved_count);
	if (came_out(DONE, snapshot(tool, "-d", d.saved[i].name),
		     "snapshot -d"))
		memmove(&d.saved[i], &d.saved[i + 1],
			(--d.saved_count - i) * sizeof(d.saved[0]));
	return true;
}

/* ---------------------------------------------------------------- sizes */

static uint64_t random_size(void)
{
	uint64_t most = qi_min(qi_max(64 * cluster_size(), 1u << 20), MAX_DISK);

	return SECTOR * (128 + below(most / SECTOR - 127));
}

/*
 * QEMU leaves what was behind the end in the last cluster, and what was in
 * clusters of the file that it takes for preallocation.
 */
static void note_wild_tail(uint64_t from, uint64_t to, bool allocated)
{
	while (from < to && (allocated || from % cluster_size())) {
		d.wild[from / SECTOR] = true;
		from += SECTOR;
	}
}

static bool step_resize(enum tool tool)
{
	static const char *const modes[] = { "off", "off", "metadata", "falloc",
					     "full" };
	uint64_t size = one_in(6) ? d.size : random_size();
	const char *mode = size > d.size ? modes[below(5)] : "off";
	enum want want = d.c.v2 && d.saved_count ? REFUSED : DONE;
	char option[32];
	int code;

	if (tool == QEMU && size > d.size && d.size % cluster_size() &&
	    d.c.extended_l2) {
		/* It loses a packed last cluster, or cannot zero it. */
		mode = "off";
		want = EITHER;
	}
	/* It preallocates no file that is longer than what is used of it. */
	if (tool == QEMU && *mode == 'f' && want == DONE)
		want = EITHER;
	/* It wants zero clusters, which version 2 does not have. */
	if (tool == QEMU && size > d.size && d.c.v2 && *d.backing)
		return false;
	snprintf(option, sizeof(option), "--preallocation=%s", mode);
	code = command(tool == OURS ? qimg : "qemu-img", "resize", "-q", "-f",
		       "qcow2", "--shrink", option, image, text_of(size));
	if (!came_out(want, code, "resize"))
		return true;
	if (tool == QEMU)
		note_wild_tail(d.size, size, *mode != 'o');
	note_size(size);
	return true;
}

/* -------------------------------------------------------------- bitmaps */

static bool step_bitmap_add(enum tool tool)
{
	struct bitmap *b = NULL;
	const char *who = tool == OURS ? "--node" : "--add";
	enum want want = d.c.v2 ? REFUSED : DONE;
	int code;

	for (size_t i = 0; i < BITMAPS; i++)
		if (!d.bitmap[i].exists)
			b = &d.bitmap[i];
	if (!b)
		return false;
	snprintf(b->name, sizeof(b->name), "b%u", ++d.serial);
	b->granularity = 512ull << below(12);
	b->disabled = one_in(5);
	if (tool == OURS && b->disabled)
		code = command(qimg, "bitmap", "add", "--disabled", who, image,
			       "-g", text_of(b->granularity), b->name);
	else if (tool == OURS)
		code = command(qimg, "bitmap", "add", who, image, "-g",
			       text_of(b->granularity), b->name);
	else if (b->disabled)
		code = command("qemu-img", "bitmap", who, "--disable", "-g",
			       text_of(b->granularity), image, b->name);
	else
		code = command("qemu-img", "bitmap", who, "-g",
			       text_of(b->granularity), image, b->name);
	if (!came_out(want, code, "bitmap add"))
		return true;
	b->exists = true;
	start_bitmap(b);
	return true;
}

static bool step_bitmap_edit(enum tool tool)
{
	static const char *const verbs[][2] = { { "--remove", "remove" },
						{ "--clear", "clear" },
						{ "--enable", "enable" },
						{ "--disable", "disable" } };
	struct bitmap *b = &d.bitmap[below(BITMAPS)];
	enum want want = d.c.v2 ? REFUSED : DONE;
	size_t verb = below(4);
	int code;

	if (!b->exists)
		return false;
	if (tool == OURS)
		code = command(qimg, "bitmap", verbs[verb][1], "--node", image,
			       b->name);
	else
		code = command("qemu-img", "bitmap", verbs[verb][0], image,
			       b->name);
	if (!came_out(want, code, "bitmap"))
		return true;
	if (verb == 0)
		b->exists = false;
	if (verb == 1)
		start_bitmap(b);
	if (verb > 1)
		b->disabled = verb == 3;
	return true;
}

/* ---------------------------------------------------------------- amend */

static bool is_downgrade_possible(void)
{
	for (size_t i = 0; i < d.saved_count; i++)
		if (d.saved[i].size != d.size)
			return false;
	return d.c.refcount_bits == 16 && !d.c.extended_l2 && !d.c.data_file;
}

static bool amend(enum tool tool, enum want want, const char *options)
{
	return came_out(want,
			command(tool == OURS ? qimg : "qemu-img", "amend", "-q",
				"-f", "qcow2", "-o", options, image),
			"amend");
}

static bool amend_version(enum tool tool)
{
	bool down = !d.c.v2;
	enum want want = DONE;

	if (down && !is_downgrade_possible())
		want = REFUSED;
	else if (down && d.c.zstd)
		want = EITHER; /* it depends on what is packed */
	/* Bitmaps would be lost; QEMU changes what snapshots show. */
	if (down && (bitmap_count() || (tool == QEMU && d.saved_count)))
		return false;
	if (!amend(tool, want, down ? "compat=0.10" : "compat=1.1"))
		return true;
	d.c.v2 = down;
	if (down)
		d.c.zstd = d.c.lazy = false;
	return true;
}

static bool amend_width(enum tool tool)
{
	unsigned bits = 1u << below(7);
	enum want want = DONE;
	char options[32];

	/* QEMU's time grows with the square of the cluster size: 64k, 1 s. */
	if (tool == QEMU && d.c.cluster_bits > 14)
		return false;
	if (d.c.v2)
		want = bits == 16 ? DONE : REFUSED;
	else if (bits < 16 && bits < d.c.refcount_bits)
		want = EITHER;
	snprintf(options, sizeof(options), "refcount_bits=%u", bits);
	if (amend(tool, want, options))
		d.c.refcount_bits = bits;
	else if (tool == OURS && d.c.cluster_bits <= 14)
		qemu_refuses((const char *[]){ "qemu-img", "amend", "-f",
					       "qcow2", "-o", options,
					       "copy.qcow2", NULL });
	return true;
}

static bool step_amend(enum tool tool)
{
	bool lazy = one_in(2);

	if (one_in(3))
		return amend_version(tool);
	if (one_in(2))
		return amend_width(tool);
	if (amend(tool, d.c.v2 && lazy ? REFUSED : DONE,
		  lazy ? "lazy_refcounts=on" : "lazy_refcounts=off"))
		d.c.lazy = lazy;
	return true;
}

/* ---------------------------------------------------------------- check */

static bool step_repair(enum tool tool)
{
	/* QEMU 7.2 drops all snapshots of an image that has bitmaps. */
	if (tool == QEMU && bitmap_count() && d.saved_count)
		return false;
	return came_out(DONE,
			command(tool == OURS ? qimg : "qemu-img", "check", "-q",
				"-f", "qcow2", "-r",
				one_in(2) ? "all" : "leaks", image),
			"check -r"),
	       true;
}

#endif
