/* SPDX-License-Identifier: MIT */
/*
 * keys.h - what json:{...} and --image-opts say of a node, as a flat list
 *
 * {"file": {"filename": "x"}} and file.filename=x are the same key.
 */
#ifndef QI_KEYS_H
#define QI_KEYS_H

#include "lib/qimg.h"

enum qi_key_type { QI_KEY_TEXT, QI_KEY_NUMBER, QI_KEY_BOOL, QI_KEY_NULL };

struct qi_key {
	char *name; /* "file.filename"; malloc'd */
	char *text; /* of a bool "on" or "off", of null ""; malloc'd */
	enum qi_key_type type;
};

struct qi_keys {
	struct qi_key *all;
	size_t count;
};

void qi_key_clear(struct qi_key *k);
void qi_keys_clear(struct qi_keys *k);

/* Of an object; quotes may be single ones, as in QEMU. */
int qi_keys_from_json(struct qi_keys *out, const char *text,
		      struct qi_error *e);
/*
 * Of "a=b,c=d", where ",," stands for a comma; the last one of a name counts. A
 * first word alone is file=WORD; warnings about others go to g.
 */
int qi_keys_from_list(struct qi_keys *out, const char *text, struct qi_graph *g,
		      struct qi_error *e);

/* Take one out of the list: true and *out, to be cleared. */
bool qi_keys_take(struct qi_keys *k, const char *name, struct qi_key *out);
/* Move those of "PREFIX.NAME" to *out, as NAME. */
int qi_keys_cut(struct qi_keys *k, const char *prefix, struct qi_keys *out,
		struct qi_error *e);

/* The name that comes first in the alphabet; there is one at least. */
const char *qi_keys_first(const struct qi_keys *k);

#define QI_AUTOKEY __attribute__((cleanup(qi_key_clear)))
#define QI_AUTOKEYS __attribute__((cleanup(qi_keys_clear)))

#endif
