/* SPDX-License-Identifier: MIT */
/* hash.c - content hashes */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "lib/format.h"
#include "lib/hash.h"

#define BUFFER 65536u
#define EXTENTS 64u

struct qi_hash qi_hash_of(const void *data, size_t len)
{
	XXH128_canonical_t canonical;
	struct qi_hash h;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, len));
	memcpy(h.b, canonical.digest, sizeof(h.b));
	return h;
}

struct qi_hash qi_hash_of_content(const void *data, size_t len)
{
	const struct qi_hash null = { { 0 } };

	return qi_is_zero(data, len) ? null : qi_hash_of(data, len);
}

bool qi_hash_is_null(const struct qi_hash *h)
{
	return qi_is_zero(h, sizeof(*h));
}

bool qi_hash_equal(const struct qi_hash *a, const struct qi_hash *b)
{
	return !memcmp(a, b, sizeof(*a));
}

void qi_hash_format(const struct qi_hash *h, char text[QI_HASH_TEXT])
{
	for (size_t i = 0; i < sizeof(h->b); i++)
		snprintf(text + i * 2, 3, "%02x", h->b[i]);
}

bool qi_hash_parse(struct qi_hash *h, const char *text)
{
	static const char digits[] = "0123456789abcdef";

	if (strlen(text) != QI_HASH_TEXT - 1 ||
	    strspn(text, digits) != QI_HASH_TEXT - 1)
		return false;
	for (size_t i = 0; i < sizeof(h->b); i++)
		h->b[i] =
			(uint8_t)((strchr(digits, text[2 * i]) - digits) << 4 |
				  (strchr(digits, text[2 * i + 1]) - digits));
	return true;
}

/* ------------------------------------------------------------------ files */

struct hasher {
	struct qi_file *file;
	XXH3_state_t *state;
	uint8_t *buf;
	uint64_t pos; /* up to where the file was looked at */
};

static int start(struct hasher *h, struct qi_file *f, struct qi_error *e)
{
	*h = (struct hasher){ .file = f,
			      .state = XXH3_createState(),
			      .buf = malloc(BUFFER) };
	if (!h->state || !h->buf)
		return qi_no_memory(e);
	XXH3_128bits_reset(h->state);
	return 0;
}

/* Take in what is before `end`. */
static int take_until(struct hasher *h, uint64_t end, struct qi_error *e)
{
	int ret = 0;

	while (h->pos < end && !ret) {
		size_t n = (size_t)qi_min(BUFFER, end - h->pos);

		ret = qi_file_read(h->file, h->pos, n, h->buf, e);
		if (!ret)
			ret = qi_interrupted(e);
		if (!ret)
			XXH3_128bits_update(h->state, h->buf, n);
		h->pos += n;
	}
	return ret;
}

static void finish(struct hasher *h, struct qi_hash *out)
{
	XXH128_canonical_t canonical;

	if (h->state) {
		XXH128_canonicalFromHash(&canonical,
					 XXH3_128bits_digest(h->state));
		memcpy(out->b, canonical.digest, sizeof(out->b));
	}
	XXH3_freeState(h->state);
	free(h->buf);
}

int qi_hash_file(const char *path, struct qi_hash *out, struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	struct hasher h;
	int ret = qi_file_open(&f, path, false, e);

	if (ret)
		return ret;
	ret = start(&h, f, e);
	if (!ret)
		ret = take_until(&h, f->size, e);
	finish(&h, out);
	return ret;
}

static bool is_plain(const struct qi_extent *x)
{
	return x->flags & QI_EXT_DATA && !(x->flags & QI_EXT_COMPRESSED) &&
	       x->host_off != QI_NO_OFFSET;
}

/* What comes before the data of an extent. */
static int take_before(struct hasher *h, const struct qi_extent *x,
		       struct qi_error *e)
{
	int ret;

	if (!is_plain(x))
		return 0;
	if (x->host_off < h->pos ||
	    !qi_fits(x->host_off, x->len, h->file->size))
		return qi_fail(e, EUCLEAN,
			       "the places of the data in '%s' are damaged",
			       h->file->name);
	ret = take_until(h, x->host_off, e);
	h->pos = x->host_off + x->len;
	return ret;
}

/* Of the file, all but the plain data. */
static int take_rest(struct hasher *h, struct qi_node *n, struct qi_error *e)
{
	struct qi_extent x[EXTENTS];
	uint64_t off = 0;

	while (off < n->facts.size) {
		int count =
			qi_node_map(n, off, n->facts.size - off, x, EXTENTS, e);
		int ret = count < 0 ? count : 0;

		for (int i = 0; i < count && !ret; i++)
			ret = take_before(h, &x[i], e);
		if (ret)
			return ret;
		off = x[count - 1].off + x[count - 1].len;
	}
	return take_until(h, h->file->size, e);
}

int qi_hash_image(struct qi_node *n, struct qi_hash *out, struct qi_error *e)
{
	struct hasher h;
	int ret = start(&h, n->file, e);

	if (!ret)
		ret = take_rest(&h, n, e);
	finish(&h, out);
	return ret;
}
