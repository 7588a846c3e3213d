/* SPDX-License-Identifier: MIT */
/*
 * sums.h - checksums of the small files of a repository
 *
 * They cover each byte: a file that was changed anywhere is found.
 */
#ifndef QI_SUMS_H
#define QI_SUMS_H

#include "lib/hash.h"

/*
 * Text of a JSON object that ends in a line with its brace gets a last key,
 * "checksum", of all that is before that. malloc'd; NULL without memory.
 */
char *qi_seal(const char *text);
/* Is it what qi_seal() has made, to the last byte? */
bool qi_is_sealed(const char *text, size_t len);

/* Append a line of a CHECKSUMS file. */
int qi_sums_add_hash(char **text, const struct qi_hash *h, const char *name,
		     struct qi_error *e);
/* The same with the hash of the file at `path`. */
int qi_sums_add(char **text, const char *path, const char *name,
		struct qi_error *e);
/*
 * Compare the files of a folder with its CHECKSUMS, which must have these in
 * this order and nothing else. Calls fn with what is wrong.
 */
int qi_sums_check(const char *folder, const char *const *names, size_t count,
		  void (*fn)(void *arg, const char *text), void *arg,
		  struct qi_error *e);

#endif
