/* SPDX-License-Identifier: MIT */
/*
 * pace.h - work that may go on only so fast
 */
#ifndef QIMG_PACE_H
#define QIMG_PACE_H

#include "lib/qimg.h"

/*
 * Progress that sleeps where more than `rate` bytes a second were done, and
 * tells `shown` of it. 0: as fast as can be. One at a time.
 */
struct qi_progress qi_pace(struct qi_progress shown, uint64_t rate);

#endif
