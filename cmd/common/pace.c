// SPDX-License-Identifier: MIT
/*
 * pace.c - work that may go on only so fast
 */
#include <time.h>

#include "cmd/common/pace.h"

static struct {
	struct qi_progress shown;
	struct timespec start;
	uint64_t rate, last;
} pace;

/* Called with what is done so far; sleeps where that is too much. */
static void slow_down(void *arg, uint64_t done, uint64_t total)
{
	struct timespec until;

	/* A part of the work that counts for itself. */
	if (done < pace.last)
		clock_gettime(CLOCK_MONOTONIC, &pace.start);
	pace.last = done;
	until = pace.start;
	if (pace.shown.fn)
		pace.shown.fn(pace.shown.arg, done, total);
	until.tv_sec += (time_t)(done / pace.rate);
	until.tv_nsec +=
		(long)((double)(done % pace.rate) / (double)pace.rate * 1e9);
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	/* A signal ends it early, which is what it is for. */
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

struct qi_progress qi_pace(struct qi_progress shown, uint64_t rate)
{
	if (!rate)
		return shown;
	pace.shown = shown;
	pace.rate = rate;
	clock_gettime(CLOCK_MONOTONIC, &pace.start);
	return (struct qi_progress){ .fn = slow_down };
}
