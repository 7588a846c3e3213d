/* SPDX-License-Identifier: MIT */
/* rate.h - no more than so many bytes a second, over all threads */
#ifndef QI_RATE_H
#define QI_RATE_H

#include <pthread.h>

#include "lib/qimg.h"

struct qi_rate {
	pthread_mutex_t lock;
	uint64_t limit; /* bytes a second, not 0 */
	double ready;	/* when the next may be taken; CLOCK_MONOTONIC */
};
#define QI_RATE(limit_)                                             \
	{                                                           \
		.lock = PTHREAD_MUTEX_INITIALIZER, .limit = limit_, \
	}

/*
 * Wait until so many bytes may be read; -EINTR when a signal ends that. r NULL:
 * there is no limit. From any thread.
 */
int qi_rate_take(struct qi_rate *r, uint64_t bytes, struct qi_error *e);

#endif
