/* SPDX-License-Identifier: MIT */
/*
 * name.h - names of images
 *
 * PATH, file:PATH, host_device:PATH, null-co://, nbd:..., json:{...}, and, as
 * for --image-opts, a list of options: driver=qcow2,file.filename=PATH.
 */
#ifndef QI_NAME_H
#define QI_NAME_H

#include "lib/keys.h"

enum qi_protocol {
	QI_PROTOCOL_FILE, /* a file or, unless it was named, a block device */
	QI_PROTOCOL_DEVICE,
	QI_PROTOCOL_NULL,
	QI_PROTOCOL_NBD,
};

/* Where an NBD server is; all malloc'd. */
struct qi_nbd_name {
	char *socket; /* NULL: there is a host */
	char *host, *port;
	char *export;
};

/* A number, and as JSON has it: 512 or "1k"; NULL: not given. malloc'd. */
struct qi_given {
	uint64_t value;
	char *json;
};

struct qi_name {
	enum qi_protocol protocol;
	char *path;   /* malloc'd; where there is no file, for messages */
	char *format; /* malloc'd, or NULL: not said */
	char *data;   /* the same: of an external data file */
	bool is_bare; /* the protocol alone was named, without a format */
	bool read_only, force_share;
	bool unlocked;		      /* locks are not wanted */
	struct qi_given offset, part; /* of a raw file: start and size */
	struct qi_given size;	      /* of NULL */
	char *read_zeroes;	      /* of NULL, as JSON has it, or NULL */
	struct qi_nbd_name nbd;
	bool detached;		 /* no backing file, whatever it records */
	struct qi_name *backing; /* another one than it records, or NULL */
	struct qi_keys rest;	 /* what was not looked at yet */
};

enum qi_name_flags {
	QI_NAME_LIST = 1,   /* an option list */
	QI_NAME_STRICT = 2, /* "word:" in front is a protocol, known or not */
};

/* Take a name apart. -ENOTSUP: a protocol or option that is not for files. */
int qi_name_parse(struct qi_name *out, const char *name, struct qi_error *e);
int qi_name_parse_as(struct qi_name *out, const char *name, unsigned flags,
		     struct qi_graph *g, struct qi_error *e);
/* The same of keys, which are empty then; for lib/name*.c. */
int qi_name_from_keys(struct qi_name *out, struct qi_keys *keys,
		      struct qi_error *e);
int qi_name_from_nbd(struct qi_name *out, const char *name, struct qi_error *e);
int qi_name_from_nbd_keys(struct qi_name *out, struct qi_keys *keys,
			  struct qi_error *e);
void qi_name_clear(struct qi_name *n);

/*
 * The format is known now: look at what was said of it. no_backing: the backing
 * file will not be opened, so nothing can be said of it.
 */
int qi_name_settle(struct qi_name *n, const char *format, bool no_backing,
		   struct qi_graph *g, struct qi_error *e);
/* After that: fails when something is left that nobody knows. */
int qi_name_check_rest(const struct qi_name *n, const char *format,
		       struct qi_error *e);
/* The driver of its protocol: "file" and the like. */
const char *qi_name_driver(const struct qi_name *n);
/* What qemu-img shows as the name of an image; malloc'd, NULL: no memory. */
char *qi_name_shown(const struct qi_name *n);
/* Do both mean the same part of a file, with the same below? */
bool qi_name_is_same_view(const struct qi_name *a, const struct qi_name *b);
/* All of the file, on what it records itself. */
bool qi_name_is_plain(const struct qi_name *n);

/* Length of "word" when name starts with "word:", before any slash; else 0. */
size_t qi_name_protocol_length(const char *name);

/*
 * The name of a backing file as recorded in the image at `overlay`, as it is
 * found from here: relative plain paths are relative to the overlay's folder,
 * and links to it are not followed. malloc'd.
 */
char *qi_name_beside(const char *overlay, const char *name);

/* The same, of a name in any form: the path of its file. NULL: it has none. */
char *qi_name_file_beside(const char *overlay, const char *name);

#endif
