/* SPDX-License-Identifier: MIT */
/* hash.c - content hashes */
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "lib/format.h"
#include "lib/hash.h"

#define BUFFER 65536u

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

int qi_hash_file(const char *path, struct qi_hash *out, struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	XXH3_state_t *state = XXH3_createState();
	QI_AUTOFREE uint8_t *buf = malloc(BUFFER);
	XXH128_canonical_t canonical;
	uint64_t off = 0;
	ssize_t n = 1;
	int ret = state && buf ? qi_file_open(&f, path, false, e) :
				 qi_no_memory(e);

	if (!ret)
		XXH3_128bits_reset(state);
	while (!ret && n > 0) {
		n = qi_file_read_some(f, off, BUFFER, buf, e);
		if (n < 0) {
			ret = (int)n;
			break;
		}
		XXH3_128bits_update(state, buf, (size_t)n);
		off += (uint64_t)n;
	}
	if (!ret) {
		XXH128_canonicalFromHash(&canonical,
					 XXH3_128bits_digest(state));
		memcpy(out->b, canonical.digest, sizeof(out->b));
	}
	XXH3_freeState(state);
	return ret;
}
