/* SPDX-License-Identifier: MIT */
/* rate.c - no more than so many bytes a second, over all threads */
#include "lib/rate.h"

#include "lib/clock.h"

/* Threads get their turns in the order in which they ask. */
static double take_turn(struct qi_rate *r, uint64_t bytes)
{
	double turn = qi_seconds();

	pthread_mutex_lock(&r->lock);
	/* Time in which nothing was read is not made up for. */
	if (r->ready > turn)
		turn = r->ready;
	r->ready = turn + (double)bytes / (double)r->limit;
	pthread_mutex_unlock(&r->lock);
	return turn;
}

int qi_rate_take(struct qi_rate *r, uint64_t bytes, struct qi_error *e)
{
	return r ? qi_sleep(take_turn(r, bytes) - qi_seconds(), e) : 0;
}
