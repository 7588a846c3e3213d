/* SPDX-License-Identifier: MIT */
/*
 * progress.h - how far a long operation is, on stderr
 */
#ifndef QIMG_PROGRESS_H
#define QIMG_PROGRESS_H

#include "lib/qimg.h"

/* Index in qi_progress_choices. */
enum qi_progress_mode {
	QI_PROGRESS_NONE, /* only when SIGUSR1 asks */
	QI_PROGRESS_PLAIN,
	QI_PROGRESS_JSON, /* one JSON object a line */
};

/* Have SIGUSR1 print the state of the operation once. Called by main. */
void qi_progress_on_signal(void);

/* Start showing; what library operations are given. One at a time. */
struct qi_progress qi_progress_start(int mode, const char *what);
/* Show the end of it (if it was reached) and leave the line. */
void qi_progress_end(int ret);
/* Take the line off the terminal before something else is printed. */
void qi_progress_clear(void);

#endif
