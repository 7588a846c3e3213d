/* SPDX-License-Identifier: MIT */
/*
 * estimate.h - how large an image would be, as text and JSON
 */
#ifndef QIMG_ESTIMATE_H
#define QIMG_ESTIMATE_H

#include <jansson.h>

#include "lib/qimg.h"

void qi_estimate_text(const struct qi_measurement *m);
json_t *qi_estimate_json(const struct qi_measurement *m);

#endif
