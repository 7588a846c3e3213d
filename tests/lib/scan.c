/* SPDX-License-Identifier: MIT */
/* scan.c - the guest view of random chains, compared with arrays of bytes */
#include <stdlib.h>

#include "lib/name.h"
#include "lib/format.h"
#include "tests/lib/random.h"
#include "tests/lib/tap.h"

#define SPACE 3000
#define LAYERS 6
#define ROUNDS 200

enum kind { HOLE, ZERO, DATA, PACKED, KINDS };

/* A layer is a list of runs; byte i of its data is a function of both. */
struct layer {
	struct qi_node node;
	enum kind kind[SPACE];
	unsigned run[SPACE]; /* changes where a new extent starts */
};

static struct layer layer[LAYERS];
static struct random rnd;
static struct qi_file *file; /* its bytes are those of DATA */

static uint8_t data_byte(uint64_t host)
{
	return (uint8_t)(host * 31 + (host >> 8) * 7 + 1);
}

static uint8_t packed_byte(const struct layer *l, uint64_t off)
{
	return (uint8_t)(off * 13 + (uint64_t)(l - layer) * 57 + 3);
}

/* Layers lie one after the other in the file, runs in reverse order. */
static uint64_t host_of(const struct layer *l, uint64_t off)
{
	return (uint64_t)(l - layer) * SPACE + off;
}

static struct layer *layer_of(struct qi_node *n)
{
	return qi_container_of(n, struct layer, node);
}

static int layer_map(struct qi_node *n, uint64_t off, uint64_t len,
		     struct qi_extent *out, unsigned max, struct qi_error *e)
{
	static const unsigned flags[KINDS] = {
		[HOLE] = 0,
		[ZERO] = QI_EXT_ALLOCATED | QI_EXT_ZERO,
		[DATA] = QI_EXT_ALLOCATED | QI_EXT_DATA,
		[PACKED] = QI_EXT_ALLOCATED | QI_EXT_DATA | QI_EXT_COMPRESSED,
	};
	struct layer *l = layer_of(n);
	uint64_t end = off + len;
	unsigned count = 0;

	(void)e;
	while (off < end && count < max && (!count || random_below(&rnd, 20))) {
		uint64_t from = off;
		enum kind k = l->kind[from];

		do {
			off++;
		} while (off < end && l->run[off] == l->run[from]);
		out[count++] = (struct qi_extent){
			.off = from,
			.len = off - from,
			.host_off = k == DATA ? host_of(l, from) : QI_NO_OFFSET,
			.flags = flags[k],
		};
	}
	return (int)count;
}

static int layer_read_packed(struct qi_node *n, uint64_t off, size_t len,
			     void *buf, struct qi_error *e)
{
	uint8_t *to = buf;

	(void)e;
	while (len--)
		*to++ = packed_byte(layer_of(n), off++);
	return 0;
}

static struct qi_name plain;

static const struct qi_format format = { .name = "fake",
					 .map = layer_map,
					 .read_packed = layer_read_packed };

static unsigned make_chain(void)
{
	static char name[] = "below";
	unsigned count = 1 + (unsigned)random_below(&rnd, LAYERS);

	for (unsigned i = 0; i < count; i++) {
		struct layer *l = &layer[i];
		uint64_t longest = 1 + random_below(&rnd, 90);
		unsigned run = 0;

		l->node = (struct qi_node){ .format = &format,
					    .name = &plain,
					    .file = file,
					    .data = file };
		l->node.facts.size = 1 + random_below(&rnd, SPACE);
		for (uint64_t off = 0; off < SPACE; run++) {
			uint64_t n = 1 + random_below(&rnd, longest);
			enum kind k = (enum kind)random_below(&rnd, KINDS);

			for (; n-- && off < SPACE; off++) {
				l->kind[off] = k;
				l->run[off] = run;
			}
		}
		if (i + 1 < count) {
			l->node.facts.backing = &layer[i + 1].node;
			l->node.facts.backing_name = name;
		}
	}
	return count;
}

/* What decides the byte at off: a layer, or NULL for none; and its value. */
static const struct layer *naive(unsigned layers, uint64_t off, uint8_t *value,
				 unsigned *depth)
{
	*value = 0;
	*depth = 0;
	for (unsigned i = 0; i < layers; i++) {
		struct layer *l = &layer[i];

		if (off >= l->node.facts.size)
			return NULL;
		*depth = i;
		if (l->kind[off] == HOLE)
			continue;
		if (l->kind[off] == DATA)
			*value = data_byte(host_of(l, off));
		if (l->kind[off] == PACKED)
			*value = packed_byte(l, off);
		return l;
	}
	return NULL;
}

static bool extent_is_right(unsigned layers, const struct qi_extent *x)
{
	for (uint64_t off = x->off; off < x->off + x->len; off++) {
		unsigned depth;
		uint8_t value;
		const struct layer *l = naive(layers, off, &value, &depth);
		enum kind k = l ? l->kind[off] : ZERO;

		if (x->depth != depth || x->node != (l ? &l->node : NULL) ||
		    !(x->flags & QI_EXT_ALLOCATED) != !l ||
		    !(x->flags & QI_EXT_ZERO) != (k != ZERO) ||
		    !(x->flags & QI_EXT_COMPRESSED) != (k != PACKED) ||
		    (k == DATA ?
			     x->host_off + (off - x->off) != host_of(l, off) :
			     x->host_off != QI_NO_OFFSET))
			return false;
	}
	return true;
}

static bool can_join(const struct qi_extent *a, const struct qi_extent *b)
{
	return a->node == b->node && a->flags == b->flags &&
	       a->depth == b->depth &&
	       (a->host_off == QI_NO_OFFSET ||
		a->host_off + a->len == b->host_off);
}

static bool scan_is_right(unsigned layers, uint64_t off, uint64_t len)
{
	uint64_t size = layer[0].node.facts.size;
	struct qi_extent x, last = { 0 };
	struct qi_error e;
	struct qi_scan *s;
	int ret = qi_scan_new(&s, &layer[0].node, NULL, off, len);
	uint64_t pos = qi_min(off, size), end = pos + qi_min(len, size - pos);
	bool good = !ret;

	while (good && (ret = qi_scan_next(s, &x, &e)) > 0) {
		good = x.off == pos && x.len && x.off + x.len <= end &&
		       extent_is_right(layers, &x) &&
		       !(last.len && can_join(&last, &x));
		pos += x.len;
		last = x;
	}
	qi_scan_free(s);
	return good && !ret && pos == end;
}

static bool read_is_right(unsigned layers, uint64_t off, size_t len)
{
	static uint8_t buf[2 * SPACE];
	struct qi_error e;

	memset(buf, 0xaa, sizeof(buf));
	if (qi_read(&layer[0].node, off, len, buf, &e))
		return false;
	for (size_t i = 0; i < len; i++) {
		uint8_t value;
		unsigned depth;

		naive(layers, off + i, &value, &depth);
		if (buf[i] != value)
			return false;
	}
	return buf[len] == 0xaa;
}

static bool make_file(void)
{
	static uint8_t bytes[LAYERS * SPACE];
	struct qi_error e;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = data_byte(i);
	return !qi_file_create(&file, "data", &e) &&
	       !qi_file_write(file, 0, sizeof(bytes), bytes, &e);
}

int main(void)
{
	const char *seed = getenv("QIMG_SEED");
	bool scans = true, parts = true, reads = true;
	static char below[] = "below";

	rnd.state = seed ? strtoull(seed, NULL, 0) | 1 : 4711;
	printf("# seed %llu\n", (unsigned long long)rnd.state);
	if (!ok(make_file(), "a file with the data"))
		return tap_done();
	for (int round = 0; round < ROUNDS; round++) {
		unsigned layers = make_chain();
		uint64_t off = random_below(&rnd, SPACE + 100);
		uint64_t len = random_below(&rnd, SPACE);

		scans &= scan_is_right(layers, 0, UINT64_MAX);
		parts &= scan_is_right(layers, off, len);
		reads &= read_is_right(layers, off, (size_t)len);
		reads &= read_is_right(layers, 0, SPACE);
	}
	ok(scans, "extents of whole chains");
	ok(parts, "extents of parts");
	ok(reads, "bytes");
	layer[0].node.backing_name = below;
	layer[0].node.facts.backing = NULL;
	ok(qi_scan_new(&(struct qi_scan *){ NULL }, &layer[0].node, NULL, 0,
		       1) < 0,
	   "no scan of a chain whose lower layers are not open");
	qi_file_close(file, NULL);
	return tap_done();
}
