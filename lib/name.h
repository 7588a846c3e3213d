/* SPDX-License-Identifier: MIT */
/* name.h - names of images: plain paths, file:PATH, json:{...} */
#ifndef QI_NAME_H
#define QI_NAME_H

#include "lib/qimg.h"

struct qi_name {
	char *path;   /* malloc'd */
	char *format; /* malloc'd, or NULL: not said */
	char *data;   /* the same: of an external data file */
};

/* Take a name apart. -ENOTSUP: a protocol or option that is not for files. */
int qi_name_parse(struct qi_name *out, const char *name, struct qi_error *e);
void qi_name_clear(struct qi_name *n);

/*
 * The name of a backing file as recorded in the image at `overlay`, as it is
 * found from here: relative plain paths are relative to the overlay's folder,
 * and links to it are not followed. malloc'd.
 */
char *qi_name_beside(const char *overlay, const char *name);

/* The same, of a name in any form: the path of its file. NULL: it has none. */
char *qi_name_file_beside(const char *overlay, const char *name);

#endif
