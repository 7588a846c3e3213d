/* SPDX-License-Identifier: MIT */
/*
 * hash.h - content hashes: XXH3 with 128 bits, in canonical form (big endian)
 *
 * They find damage and what differs, not what somebody has forged.
 */
#ifndef QI_HASH_H
#define QI_HASH_H

#include "lib/qimg.h"

/* Content hashes are per chunk of this grid, whatever the cluster size. */
#define QI_HASH_UNIT 65536u

struct qi_hash qi_hash_of(const void *data, size_t len);
/* The same of what stands in a tree: null when it is all zero. */
struct qi_hash qi_hash_of_content(const void *data, size_t len);
/* Of a whole file. */
int qi_hash_file(const char *path, struct qi_hash *out, struct qi_error *e);
/*
 * Of the bytes of an image that no content hash covers: all but data that is
 * stored as it is. They are read; what is packed is among them. EUCLEAN when
 * the places of the data cannot be, or do not ascend as in an image that was
 * written in one pass.
 */
int qi_hash_image(struct qi_node *n, struct qi_hash *out, struct qi_error *e);
/* The null hash stands for what is zero. */
bool qi_hash_is_null(const struct qi_hash *h);
bool qi_hash_equal(const struct qi_hash *a, const struct qi_hash *b);
/* False unless it is 32 lower case digits. */
bool qi_hash_parse(struct qi_hash *h, const char *text);

#endif
