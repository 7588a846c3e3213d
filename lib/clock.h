/* SPDX-License-Identifier: MIT */
/* clock.h - time that passes, and waiting */
#ifndef QI_CLOCK_H
#define QI_CLOCK_H

#include "lib/qimg.h"

/* Sleep, or be woken by a signal: -EINTR once an end was asked for. */
int qi_sleep(double seconds, struct qi_error *e);
/*
 * Whether to try again what gave ret. 0 after a pause when that was -EBUSY and
 * less than `wait` seconds (-1: for ever) have passed since qi_seconds() was
 * start; else what the caller is to return.
 */
int qi_try_again(int ret, double start, int wait, struct qi_error *e);

#endif
