/* SPDX-License-Identifier: MIT */
/* files.h - lists of files */
#ifndef QI_FILES_H
#define QI_FILES_H

#include "lib/qimg.h"

/* Is it time to double an array of so many elements, 0 too? */
bool qi_is_full(size_t count);
/* Append a copy of the path. */
int qi_files_add(struct qi_files *f, const char *path, struct qi_error *e);
/* "'a', 'b' and 3 more"; len: over 32. */
void qi_files_text(const struct qi_files *f, char *text, size_t len);
/* Says why, by errno; returns -errno. */
int qi_cannot_read_folder(const char *dir, struct qi_error *e);

#endif
