/* SPDX-License-Identifier: MIT */
/* threads.c - the same work in several threads */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/threads.h"

unsigned qi_thread_count(unsigned wanted)
{
	long n = wanted ? (long)wanted : sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > QI_MAX_THREADS ? QI_MAX_THREADS : (unsigned)n;
}

void qi_run_threads(void *(*work)(void *item), void *items, size_t size,
		    unsigned count)
{
	pthread_t *thread = calloc(count, sizeof(*thread));
	char *item = items;
	unsigned started = 1;

	while (thread && started < count &&
	       !pthread_create(&thread[started], NULL, work,
			       item + started * size))
		started++;
	work(item);
	while (--started)
		pthread_join(thread[started], NULL);
	free(thread);
}
