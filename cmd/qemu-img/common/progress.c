// SPDX-License-Identifier: MIT
/*
 * progress.c - how far a command is, the way qemu-img shows it
 *
 * With -p one line of stdout is rewritten at each percent; without, SIGUSR1
 * asks for one line on stderr.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "cmd/qemu-img/common/stock.h"

#define STEP 1.0 /* percent */

static struct {
	pthread_mutex_t lock;
	bool shown;
	double last; /* percent that was printed */
} state = { .lock = PTHREAD_MUTEX_INITIALIZER };

static volatile sig_atomic_t asked;

static void on_signal(int number)
{
	asked = 1;
}

static void print_line(double percent)
{
	printf("    (%3.2f/100%%)\r", percent);
	fflush(stdout);
	state.last = percent;
}

static void step(void *arg, uint64_t done, uint64_t total)
{
	double percent = 100;

	if (total && done < total)
		percent = (double)done * 100 / (double)total;
	if (pthread_mutex_trylock(&state.lock))
		return;
	if (asked && !state.shown)
		fprintf(stderr, "    (%3.2f/100%%)\n", percent);
	asked = 0;
	/* The last one is that of the end. */
	if (state.shown && percent >= state.last + STEP && percent < 100)
		print_line(percent);
	pthread_mutex_unlock(&state.lock);
}

struct qi_progress qi_stock_progress(bool shown)
{
	struct sigaction action = { .sa_handler = on_signal,
				    .sa_flags = SA_RESTART };

	sigaction(SIGUSR1, &action, NULL);
	state.shown = shown;
	if (shown)
		print_line(0);
	return (struct qi_progress){ .fn = step };
}

void qi_stock_progress_full(void)
{
	if (state.shown)
		print_line(100);
}

void qi_stock_progress_end(void)
{
	if (state.shown)
		putchar('\n');
	fflush(stdout);
	state.shown = false;
}
