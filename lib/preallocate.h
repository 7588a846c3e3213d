/* SPDX-License-Identifier: MIT */
/* preallocate.h - making room for guest data before it is written */
#ifndef QI_PREALLOCATE_H
#define QI_PREALLOCATE_H

#include "lib/format.h"

/*
 * Give the units that begin in [off, off + len) a place in the image, of
 * which nothing was placed yet; METADATA does no more. FALLOC has the file
 * system keep room for them (zeroes are written where it cannot), FULL writes
 * zeroes. -ENOSPC as early as it can be known. Memory does not grow with len.
 */
int qi_preallocate(struct qi_writer *w, uint64_t off, uint64_t len,
		   enum qi_preallocation mode, struct qi_error *e);

#endif
