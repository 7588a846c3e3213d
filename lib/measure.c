/* SPDX-License-Identifier: MIT */
/* measure.c - not there yet */
#include <errno.h>

#include "lib/format.h"

int qi_measure(struct qi_node *src, const struct qi_measure *m,
	       struct qi_measurement *out, struct qi_error *e)
{
	(void)src;
	(void)m;
	*out = (struct qi_measurement){ 0 };
	return qi_fail(e, ENOTSUP, "measuring is not supported");
}
