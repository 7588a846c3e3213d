/* SPDX-License-Identifier: MIT */
/* threads.h - the same work in several threads */
#ifndef QI_THREADS_H
#define QI_THREADS_H

#include <stddef.h>

#define QI_MAX_THREADS 16

/* So many as are wanted, 0: as there are processors; QI_MAX_THREADS at most. */
unsigned qi_thread_count(unsigned wanted);
/*
 * Call work() with each of `count` items of `size` bytes at the same time, the
 * first in the caller's thread. Those for which the system has no thread are
 * left out: each takes what is next to do, none has a share of its own.
 */
void qi_run_threads(void *(*work)(void *item), void *items, size_t size,
		    unsigned count);

#endif
