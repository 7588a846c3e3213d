/* SPDX-License-Identifier: MIT */
/* compare.h - is everything as the model says? for model.c */
#ifndef MODEL_COMPARE_H
#define MODEL_COMPARE_H

#include "tests/lib/model/nbd.h"

static const char *text_in(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* The extents that `bitmap show` prints. */
static bool take_extents(bool dirty[SECTORS], json_t *root, uint64_t size)
{
	json_t *x;
	size_t i;

	memset(dirty, 0, SECTORS);
	json_array_foreach(json_object_get(root, "extents"), i, x)
	{
		json_int_t off =
			json_integer_value(json_object_get(x, "offset"));
		json_int_t len =
			json_integer_value(json_object_get(x, "length"));

		if (off < 0 || len <= 0 || off % SECTOR || len % SECTOR ||
		    (uint64_t)(off + len) > size)
			return false;
		memset(dirty + off / SECTOR, true, (size_t)len / SECTOR);
	}
	return true;
}

/* -------------------------------------------------------- drive bitmaps */

/* Does the JSON of a layer say anything that only foreign tools explain? */
static bool layer_is_plain(json_t *layer)
{
	const char *s = text_in(layer, "status");

	return !strcmp(s, "exact") || !strcmp(s, "paused");
}

/* It stays, unless a foreign tool has taken the last segment off the chain. */
static void take_granularity(struct bitmap *b, json_t *root)
{
	json_int_t is =
		json_integer_value(json_object_get(root, "granularity"));

	if (b->fuzzy)
		b->granularity = (uint32_t)is;
	else if (is != (json_int_t)b->granularity)
		fail("bitmap %s: its granularity is %lld, not %u", b->name,
		     (long long)is, b->granularity);
}

static bool take_dirty(struct bitmap *b, json_t *root)
{
	json_t *x, *layers = json_object_get(root, "layers");
	size_t i;

	take_granularity(b, root);
	b->is_full = !strcmp(text_in(root, "status"), "full");
	if (!take_extents(b->dirty, root, m.size) ||
	    !*text_in(root, "status") || json_array_size(layers) == 0)
		return false;
	json_array_foreach(layers, i, x)
	{
		if (b->fuzzy || layer_is_plain(x))
			continue;
		fail("bitmap %s: a layer is %s: %s", b->name,
		     text_in(x, "status"), text_in(x, "reason"));
	}
	return true;
}

/* What was written, rounded, and what was past the end at some time. */
static void make_exact(const struct bitmap *b, bool exact[SECTORS])
{
	uint64_t unit = b->granularity / SECTOR, end = m.size / SECTOR;

	memset(exact, 0, SECTORS);
	for (uint64_t s = 0; s < end; s++) {
		uint64_t first = s / unit * unit;

		if (s >= b->min_size / SECTOR)
			exact[s] = true;
		if (b->written[s])
			memset(exact + first, true,
			       qi_min(first + unit, end) - first);
	}
}

static void compare_dirty(const struct bitmap *b)
{
	static bool exact[SECTORS];
	uint64_t end = m.size / SECTOR;

	for (uint64_t s = 0; s < end; s++) {
		bool differs = s >= b->base_size / SECTOR ||
			       memcmp(b->base + s * SECTOR,
				      m.guest + s * SECTOR, SECTOR);

		if (differs && !b->dirty[s] && !b->excused[s]) {
			fail("bitmap %s misses %llu", b->name,
			     (unsigned long long)s * SECTOR);
			return;
		}
	}
	make_exact(b, exact);
	for (uint64_t s = 0; s < end && !b->fuzzy; s++) {
		if (b->dirty[s] == exact[s])
			continue;
		fail("bitmap %s: %llu is %s", b->name,
		     (unsigned long long)s * SECTOR,
		     exact[s] ? "clean" : "dirty for no reason");
		return;
	}
}

/* It changes when the bitmap starts anew, and only then. */
static void compare_checkpoint(struct bitmap *b, json_t *root)
{
	const char *id = text_in(root, "checkpoint");

	if (*b->checkpoint && strcmp(b->checkpoint, id))
		fail("bitmap %s: its checkpoint is another one, %s", b->name,
		     id);
	snprintf(b->checkpoint, sizeof(b->checkpoint), "%s", id);
}

static void compare_bitmap(struct bitmap *b)
{
	json_t *root;

	if (call(qimg, "bitmap", "show", "--drive", drive, "--output", "json",
		 b->name)) {
		fail("bitmap %s cannot be shown", b->name);
		return;
	}
	root = output_json();
	if (!root || !take_dirty(b, root))
		fail("bitmap %s: bad JSON", b->name);
	else if (!b->fuzzy && strcmp(text_in(root, "state"),
				     b->paused ? "paused" : "enabled"))
		fail("bitmap %s is %s", b->name, text_in(root, "state"));
	else if (!failed)
		compare_dirty(b);
	compare_checkpoint(b, root);
	json_decref(root);
}

/* --------------------------------------------------------- node bitmaps */

/* The bitmap's file reads as `content`: what must be dirty? */
static bool is_due(const struct node_bitmap *b, const uint8_t *content,
		   uint64_t s)
{
	static const uint8_t zeroes[SECTOR];

	/* Past the end that it had, anything that is there was written. */
	const uint8_t *was = s < b->min_size / SECTOR ? b->base + s * SECTOR :
							zeroes;

	return b->written[s] ||
	       (!b->excused[s] && memcmp(was, content + s * SECTOR, SECTOR));
}

static void compare_node_bitmap(struct node_bitmap *b)
{
	int layer = layer_at(b->path);
	uint64_t size = layer < 0 ? MAX_SIZE : size_of_layer((unsigned)layer);
	const uint8_t *content;
	json_t *root;

	if (!ours(b->lost ? 6 : 0, "bitmap", "show", "--node", b->path,
		  "--output", "json", b->name))
		return;
	root = output_json();
	if (!take_extents(b->dirty, root, size))
		fail("bitmap %s of %s: bad JSON", b->name, b->path);
	json_decref(root);
	if (layer < 0)
		return;
	content = content_of_layer((unsigned)layer);
	for (uint64_t s = 0; s < size / SECTOR && !failed; s++)
		if (is_due(b, content, s) && !b->dirty[s])
			fail("bitmap %s of %s misses %llu", b->name, b->path,
			     (unsigned long long)s * SECTOR);
}

/* Is one that is listed where the model has it? */
static bool is_known(json_t *listed)
{
	const struct node_bitmap *b;

	if (strcmp(text_in(listed, "attachment"), "node"))
		return true;
	for (size_t i = 0; i < NODE_BITMAPS; i++) {
		b = &m.node_bitmap[i];
		if (b->exists && !strcmp(b->name, text_in(listed, "name")))
			return !strcmp(b->path, text_in(listed, "node")) &&
			       !strcmp(text_in(listed, "state"),
				       b->lost	   ? "in use" :
				       b->disabled ? "disabled" :
						     "enabled");
	}
	return false;
}

/* They are on the very files that they were added to, and on no other. */
static void compare_addresses(void)
{
	const char *argv[24] = { qimg, "bitmap", "list", "--output", "json" };
	size_t n = 5, i;
	json_t *root, *x;

	for (i = 0; i < m.layers; i++)
		argv[n++] = m.layer[i]->path;
	for (i = 0; i < CLONES; i++)
		if (m.clone[i].exists)
			argv[n++] = m.clone[i].path;
	if (call_argv(argv)) {
		fail("qimg cannot list bitmaps");
		return;
	}
	root = output_json();
	json_array_foreach(json_object_get(root, "bitmaps"), i, x)
	{
		if (!is_known(x))
			fail("bitmap %s is on %s, %s", text_in(x, "name"),
			     text_in(x, "node"), text_in(x, "state"));
	}
	json_decref(root);
	for (i = 0; i < NODE_BITMAPS && !failed; i++) {
		struct node_bitmap *b = &m.node_bitmap[i];
		struct stat st;

		if (!b->exists)
			continue;
		if (stat(b->path, &st) || st.st_ino != b->ino)
			fail("the file of %s, %s, is another one", b->name,
			     b->path);
		else
			compare_node_bitmap(b);
	}
}

/* -------------------------------------------------------------- content */

static void compare_content(const char *what, const uint8_t *is, uint64_t len,
			    const uint8_t *content, uint64_t size)
{
	if (len != size)
		fail("%s: %llu bytes, expected %llu", what,
		     (unsigned long long)len, (unsigned long long)size);
	for (uint64_t i = 0; i < len && !failed; i++)
		if (is[i] != content[i])
			fail("%s: differs at %llu: %d, expected %d", what,
			     (unsigned long long)i, is[i], content[i]);
}

static void compare_file(const char *path, const uint8_t *content,
			 uint64_t size)
{
	size_t len;
	char *raw = slurp(path, &len);

	compare_content(path, (const uint8_t *)raw, len, content, size);
	free(raw);
}

/* As QEMU reads it. */
static void compare_image(const char *path, const uint8_t *content,
			  uint64_t size)
{
	static uint8_t is[MAX_SIZE];
	uint64_t len;

	if (failed)
		return;
	if (reader.in) {
		note("# QEMU reads %s", path);
		open_in_qemu(&reader, path, "reader", false);
		len = read_nbd("reader-nbd", "reader", is);
		close_in_qemu(&reader, "reader");
		if (!failed)
			compare_content(path, is, len, content, size);
		return;
	}
	foreign("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path,
		"content.raw");
	if (!failed)
		compare_file("content.raw", content, size);
}

static void check_image(const char *path)
{
	int code = call("qemu-img", "check", "-q", "-f", "qcow2", path);

	if (code != 0 && code != 3)
		fail("qemu-img check %s: exit code %d", path, code);
}

/* The layers that are frozen; one of them where none was changed. */
static void compare_layers(void)
{
	unsigned only = m.layers > 1 ? (unsigned)below(m.layers - 1) : 0;

	for (unsigned i = 0; i + 1 < m.layers; i++) {
		struct layer *l = m.layer[i];

		if (!m.compare_layers && i != only)
			continue;
		compare_image(l->path, l->content, l->size);
		if (m.compare_layers && !failed)
			check_image(l->path);
	}
	m.compare_layers = false;
}

static void compare_clones(bool all)
{
	for (size_t i = 0; i < CLONES; i++) {
		struct clone *c = &m.clone[i];

		if (c->exists && (all || one_in(4)))
			compare_image(c->path, c->content, c->size);
	}
}

/* ------------------------------------------------------------ snapshots */

static bool is_text(json_t *o, const char *key, const char *wanted)
{
	return !strcmp(text_in(o, key), wanted);
}

/* All layers, from the head down; those that are snapshots with their tags. */
static void compare_tags(void)
{
	json_t *root, *x, *all;
	size_t i;

	if (!ours(0, "snapshot", "list", "--output", "json", "--drive", drive))
		return;
	root = output_json();
	all = json_object_get(root, "layers");
	if (json_array_size(all) != m.layers)
		fail("%zu layers are listed, expected %u", json_array_size(all),
		     m.layers);
	json_array_foreach(all, i, x)
	{
		const struct layer *l = failed ? NULL :
						 m.layer[m.layers - 1 - i];

		if (l && (!is_text(x, "node", l->path) ||
			  !is_text(x, "snapshot", i ? l->tag : "")))
			fail("layer %s, snapshot '%s' is listed, expected %s, "
			     "'%s'",
			     text_in(x, "node"), text_in(x, "snapshot"),
			     l->path, i ? l->tag : "");
	}
	json_decref(root);
}

static void compare_all(void)
{
	bool all_clones = m.compare_layers;

	check_image(drive);
	compare_image(drive, m.guest, m.size);
	for (size_t i = 0; i < DRIVE_BITMAPS && !failed; i++)
		compare_bitmap(&m.bitmap[i]);
	if (!failed)
		compare_addresses();
	compare_layers();
	compare_clones(all_clones);
	if (!failed)
		compare_tags();
}

#endif
