/* SPDX-License-Identifier: MIT */
/* nbd.h - disks that an NBD server has, as files */
#ifndef QI_NBD_H
#define QI_NBD_H

#include "lib/file.h"
#include "lib/name.h"

/* Connect to a server; path is for messages. -ENOTSUP: built without libnbd. */
int qi_nbd_open(struct qi_file **out, const struct qi_nbd_name *name,
		const char *path, struct qi_error *e);

#endif
