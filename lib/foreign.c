/* SPDX-License-Identifier: MIT */
/* foreign.c - for the drivers of formats that are recognised, and no more */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/foreign.h"

/* As long as a backing name can be in QEMU. */
#define MAX_BACKING_NAME 1023

int qi_foreign_damaged(const struct qi_node *n, struct qi_error *e,
		       const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return qi_fail(e, EUCLEAN, "'%s' is damaged: %s", n->path, text);
}

int qi_foreign_is_other(const struct qi_node *n, const char *words,
			struct qi_error *e)
{
	return qi_stock(e,
			qi_fail(e, EINVAL, "'%s' is not in %s format", n->path,
				n->format->name),
			"%s", words);
}

int qi_foreign_size(struct qi_node *n, uint64_t count, uint64_t unit,
		    struct qi_error *e)
{
	if (!qi_mul(count, unit, &n->facts.size) || n->facts.size > INT64_MAX)
		return qi_foreign_damaged(n, e,
					  "its disk has %llu times %llu bytes",
					  (unsigned long long)count,
					  (unsigned long long)unit);
	return 0;
}

int qi_foreign_cluster_size(struct qi_node *n, uint64_t bytes,
			    struct qi_error *e)
{
	if (bytes < 512 || bytes > 1u << 31 || bytes & (bytes - 1))
		return qi_foreign_damaged(n, e, "its clusters have %llu bytes",
					  (unsigned long long)bytes);
	n->facts.cluster_size = (uint32_t)bytes;
	return 0;
}

int qi_foreign_backing(struct qi_node *n, uint64_t off, uint64_t len,
		       struct qi_error *e)
{
	if (!len)
		return 0;
	if (len > MAX_BACKING_NAME || !qi_fits(off, len, n->file->size))
		return qi_foreign_damaged(n, e,
					  "its backing file name, of %llu "
					  "bytes at %llu, is not in it",
					  (unsigned long long)len,
					  (unsigned long long)off);
	n->backing_name = calloc(1, len + 1);
	if (!n->backing_name)
		return qi_no_memory(e);
	return qi_file_read(n->file, off, len, n->backing_name, e);
}
