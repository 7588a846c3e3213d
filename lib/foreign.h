/* SPDX-License-Identifier: MIT */
/*
 * foreign.h - for the drivers of formats that are recognised, and no more
 *
 * Such a driver has a probe() and an open() that takes the size of the disk out
 * of the header, so that nobody takes the image for a raw one. It has no map():
 * whoever wants its data gets -ENOTSUP.
 */
#ifndef QI_FOREIGN_H
#define QI_FOREIGN_H

#include "lib/format.h"

/* "'NAME' is damaged: ..."; returns -EUCLEAN. */
int qi_foreign_damaged(const struct qi_node *n, struct qi_error *e,
		       const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* "'NAME' is not in FORMAT format"; -EINVAL. words: those of qemu-img. */
int qi_foreign_is_other(const struct qi_node *n, const char *words,
			struct qi_error *e);
/* The disk has `count` units of `unit` bytes: -EUCLEAN if it cannot. */
int qi_foreign_size(struct qi_node *n, uint64_t count, uint64_t unit,
		    struct qi_error *e);
/* A size of clusters as facts have it: a power of two, 512 to 2 GiB. */
int qi_foreign_cluster_size(struct qi_node *n, uint64_t bytes,
			    struct qi_error *e);
/* The name at [off, off + len) of the file is that of the backing file. */
int qi_foreign_backing(struct qi_node *n, uint64_t off, uint64_t len,
		       struct qi_error *e);

#endif
