/* SPDX-License-Identifier: MIT */
/* clock.c - time that passes, and waiting */
#include <errno.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/format.h"

/* Seconds. A signal may go to another thread than the one that sleeps. */
#define PAUSE 0.1

double qi_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int qi_sleep(double seconds, struct qi_error *e)
{
	double end = qi_seconds() + seconds, left;
	int ret;

	while (!(ret = qi_interrupted(e)) && (left = end - qi_seconds()) > 0) {
		struct timespec pause = {
			0, (long)((left < PAUSE ? left : PAUSE) * 1e9)
		};

		nanosleep(&pause, NULL);
	}
	return ret;
}

int qi_try_again(int ret, double start, int wait, struct qi_error *e)
{
	if (ret != -EBUSY || (wait >= 0 && qi_seconds() - start >= wait))
		return ret;
	return qi_sleep(PAUSE, e);
}
