/* SPDX-License-Identifier: MIT */
/*
 * internal.h - internal snapshots as text and JSON
 */
#ifndef QIMG_INTERNAL_H
#define QIMG_INTERNAL_H

#include <jansson.h>

#include "lib/qimg.h"

/* The table of qemu-img, with its heading; nothing when there are none. */
void qi_internal_print(const struct qi_internal_snapshot *all, size_t count);
/* An array of objects as in qemu-img info. */
json_t *qi_internal_json(const struct qi_internal_snapshot *all, size_t count);

#endif
