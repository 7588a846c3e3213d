/* SPDX-License-Identifier: MIT */
/* known.h - keys of nodes: which there are, and the values that they take */
#ifndef QI_KNOWN_H
#define QI_KNOWN_H

#include "lib/keys.h"

/* The value of a key that was taken. */
int qi_key_bool(const struct qi_key *k, bool *out, struct qi_error *e);
int qi_key_size(const struct qi_key *k, uint64_t *out, struct qi_error *e);

/*
 * Take those that change nothing of what is done here, after a look at their
 * values, as QEMU takes them: of any node, of a file, of a qcow2 image.
 */
int qi_known_of_node(struct qi_keys *k, struct qi_error *e);
int qi_known_of_file(struct qi_keys *k, struct qi_error *e);
int qi_known_of_qcow2(struct qi_keys *k, struct qi_error *e);

#endif
