/* SPDX-License-Identifier: MIT */
/* bench.c - not there yet */
#include <errno.h>

#include "lib/format.h"

int qi_bench(struct qi_node *n, const struct qi_bench *b, double *seconds,
	     struct qi_error *e)
{
	(void)n;
	(void)b;
	*seconds = 0;
	return qi_fail(e, ENOTSUP, "benchmarking is not supported");
}
