// SPDX-License-Identifier: MIT
/*
 * progress.c - how far a long operation is, on stderr
 *
 * On a terminal one line is rewritten, elsewhere lines are added, seldom
 * enough for a log file. The callback may come from any thread.
 */
#include "cmd/common/progress.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/common/print.h"

#define TERMINAL_INTERVAL 0.1 /* seconds between two lines */
#define LOG_INTERVAL 5.0

static struct {
	pthread_mutex_t lock;
	enum qi_progress_mode mode;
	const char *what;
	bool terminal;
	bool line_open; /* the cursor stands behind a progress line */
	bool started;	/* total is known */
	double start, last;
	uint64_t done, total;
} state = { .lock = PTHREAD_MUTEX_INITIALIZER };

static volatile sig_atomic_t asked;

static void on_signal(int number)
{
	asked = 1;
}

void qi_progress_on_signal(void)
{
	struct sigaction action = { .sa_handler = on_signal,
				    .sa_flags = SA_RESTART };

	sigaction(SIGUSR1, &action, NULL);
}

static double percent(void)
{
	if (!state.total)
		return 100;
	return 100.0 * (double)state.done / (double)state.total;
}

static void clear_line(void)
{
	if (state.line_open)
		fputs("\r\033[K", stderr);
	state.line_open = false;
}

static void show_plain(double elapsed, bool rewrite)
{
	char done[QI_HUMAN], total[QI_HUMAN], speed[QI_HUMAN], left[QI_HUMAN];
	double per_second = elapsed > 0 ? (double)state.done / elapsed : 0;

	clear_line();
	fprintf(stderr, "%s: %5.1f%%  %s of %s", state.what, percent(),
		qi_human_fixed(done, state.done),
		qi_human_fixed(total, state.total));
	if (elapsed >= 1 && per_second >= 1) {
		double rest = (double)(state.total - state.done) / per_second;

		fprintf(stderr, "  %s/s  %s left",
			qi_human_fixed(speed, (uint64_t)per_second),
			qi_human_seconds(left, rest));
	}
	if (!rewrite)
		fputc('\n', stderr);
	state.line_open = rewrite;
	fflush(stderr);
}

static void show_json(double elapsed)
{
	fprintf(stderr,
		"{\"qimg\": \"%s\", \"progress\": {\"operation\": \"%s\", "
		"\"done\": %llu, \"total\": %llu, \"percent\": %.2f, "
		"\"seconds\": %.1f}}\n",
		QI_VERSION, state.what, (unsigned long long)state.done,
		(unsigned long long)state.total, percent(), elapsed);
}

static void show(double time)
{
	if (state.mode == QI_PROGRESS_JSON)
		show_json(time - state.start);
	else
		show_plain(time - state.start,
			   state.terminal && state.mode == QI_PROGRESS_PLAIN);
	state.last = time;
}

static void step(void *arg, uint64_t done, uint64_t total)
{
	double interval = LOG_INTERVAL, time;

	/* Whoever finds the lock taken has nothing newer to say. */
	if (pthread_mutex_trylock(&state.lock))
		return;
	state.done = done < total ? done : total;
	state.total = total;
	state.started = true;
	time = qi_seconds();
	if (state.terminal || state.mode == QI_PROGRESS_JSON)
		interval = TERMINAL_INTERVAL;
	if (asked) {
		asked = 0;
		show(time);
	} else if (state.mode && time - state.last >= interval) {
		show(time);
	}
	pthread_mutex_unlock(&state.lock);
}

struct qi_progress qi_progress_start(int mode, const char *what)
{
	pthread_mutex_lock(&state.lock);
	state.mode = (enum qi_progress_mode)mode;
	state.what = what;
	state.terminal = isatty(STDERR_FILENO);
	state.started = false;
	state.start = state.last = qi_seconds();
	state.done = state.total = 0;
	pthread_mutex_unlock(&state.lock);
	return (struct qi_progress){ .fn = step };
}

void qi_progress_end(int ret)
{
	pthread_mutex_lock(&state.lock);
	if (state.mode && ret >= 0 && state.started) {
		state.done = state.total;
		show(qi_seconds());
	}
	if (state.line_open)
		fputc('\n', stderr);
	state.line_open = false;
	state.mode = QI_PROGRESS_NONE;
	pthread_mutex_unlock(&state.lock);
}

void qi_progress_clear(void)
{
	pthread_mutex_lock(&state.lock);
	clear_line();
	pthread_mutex_unlock(&state.lock);
}
