/* SPDX-License-Identifier: MIT */
/*
 * stock.h - what the commands of qemu-img share
 *
 * Called by the name qemu-img, the program has the options, texts and exit
 * codes of QEMU's tool (7.2, and what came until 10). Each command is one file
 * of cmd/qemu-img; what they do is done by the library, as for the native
 * commands, and what both print is in cmd/common.
 */
#ifndef QIMG_STOCK_H
#define QIMG_STOCK_H

#include <jansson.h>

#include "cmd/common/option.h"
#include "lib/qimg.h"

enum qi_stock_option_type {
	QI_STOCK_FLAG, /* bool */
	QI_STOCK_TEXT, /* const char *; the last one counts */
	QI_STOCK_LIST, /* struct qi_list */
	/* struct qi_list, to which it adds its name, and its value */
	QI_STOCK_STEP,
	QI_STOCK_STEP_WITH,
};

/* -LETTER and --NAME; one of them may be missing. */
struct qi_stock_option {
	const char *name;
	char letter;
	enum qi_stock_option_type type;
	void *value; /* NULL ends the table */
	/* Called at once; false after a message, which ends it all. */
	bool (*check)(const char *text);
};
#define QI_STOCK_END             \
	{                        \
		NULL, 0, 0, NULL \
	}
/* Options that read the same in all commands. */
#define QI_STOCK_OBJECT                                                        \
	{                                                                      \
		"object", 0, QI_STOCK_LIST, &qi_stock_objects, qi_stock_object \
	}
#define QI_STOCK_IMAGE_OPTS(flag_)                    \
	{                                             \
		"image-opts", 0, QI_STOCK_FLAG, flag_ \
	}
#define QI_STOCK_SHARE(flag_)                            \
	{                                                \
		"force-share", 'U', QI_STOCK_FLAG, flag_ \
	}

/*
 * Each cmd/qemu-img/NAME.c ends with one of these, qi_stock_command_NAME. The
 * table of all of them is generated from the file names.
 */
struct qi_stock_command {
	const char *name;
	const char *synopsis; /* what follows the name; one line */
	const struct qi_stock_option *options;
	bool takes_last; /* the last word is none of the options */
	/*
	 * Called with the options stored and the arguments that are none.
	 * Returns the exit code.
	 */
	int (*run)(int argc, char **argv);
};
extern const struct qi_stock_command *const qi_stock_commands[];

/* The program under this name; returns the exit code. */
int qi_stock_main(int argc, char **argv);

/* ------------------------------------------------------------- messages */

/* "qemu-img: TEXT" on stderr; the second with a hint at --help. Return 1. */
int qi_stock_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int qi_stock_mistake(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));
void qi_stock_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The words of qemu-img in *e, or else ours; returns 1. */
int qi_stock_fail(int ret, const struct qi_error *e);
/* The words alone. */
const char *qi_stock_words(int ret, const struct qi_error *e);
/* What follows "Could not open 'NAME': ", for those who say so themselves. */
const char *qi_stock_inner_words(const char *words, const char *name);

/* Print a document whose reference is taken, keys in QEMU's order. */
void qi_stock_json(json_t *value);

/* --------------------------------------------------------------- values */

/*
 * A size from min to max; false after a message, in which `what` names it, as
 * in "image size".
 */
bool qi_stock_size(const char *what, const char *text, uint64_t min,
		   uint64_t max, uint64_t *out);
/* --output: NULL, human or json; false after a message. */
bool qi_stock_output(const char *text, int *out);
/*
 * -t, or -T if it is the source's; NULL: as it is. False after a message.
 */
bool qi_stock_cache(const char *text, bool is_source, enum qi_cache *out);
/*
 * Look at a value of --object: a secret, which nothing here needs. False after
 * a message.
 */
bool qi_stock_object(const char *text);
/* Those that were given so far. */
extern struct qi_list qi_stock_objects;

/* -------------------------------------------------------------- opening */

/* A new graph whose warnings go to stderr. */
struct qi_graph *qi_stock_graph(void);
/*
 * Add an image to g, or say why not. is_options: the name is a list of
 * options (--image-opts).
 */
int qi_stock_add(struct qi_graph *g, const char *name, bool is_options,
		 const struct qi_open *how, struct qi_node **out);
/* The same of one whose data can be read, and lock all of g. 0 or negative. */
int qi_stock_open(struct qi_graph *g, const char *name, bool is_options,
		  const struct qi_open *how, struct qi_node **out);

/* -l: "snapshot.id=ID,snapshot.name=NAME" or one of both; lasts for ever. */
bool qi_stock_snapshot(const char *text, struct qi_snapshot_choice *out);
/* qi_stock_open() of an internal snapshot, if one is chosen. */
int qi_stock_open_snapshot(struct qi_graph *g, const char *name,
			   bool is_options, const struct qi_open *how,
			   const struct qi_snapshot_choice *choice,
			   struct qi_node **out);

/*
 * The path that a new image of that name has, or NULL after a message: file:
 * and host_device: lead to one, other protocols do not. prefix: goes in front
 * of the message, or "".
 */
const char *qi_stock_target(const char *name, const char *prefix);

/* ------------------------------------------------------------- progress */

/* What library operations are given; `shown` is -p. */
struct qi_progress qi_stock_progress(bool shown);
/* All is done; and the end, good or bad. */
void qi_stock_progress_full(void);
void qi_stock_progress_end(void);

/* -------------------------------------------------- options of formats */

/* A copy of a text that lasts as long as the program. */
const char *qi_stock_keep(const char *text);

enum qi_stock_target {
	QI_STOCK_TARGET_MADE,
	QI_STOCK_TARGET_KNOWN, /* but not made */
	QI_STOCK_TARGET_UNKNOWN,
};
enum qi_stock_target qi_stock_target_kind(const char *format);
/* Can images of that format be made? False after a message. */
bool qi_stock_can_make(const char *format, const char *prefix);

/* All of -o as one list, malloc'd; NULL: none, or false after a message. */
bool qi_stock_join(const struct qi_list *list, char **out);
/* Is `help` or `?` among them? */
bool qi_stock_wants_help(const char *options);
/* What `-o help` prints; returns the exit code. name: of the target or NULL */
int qi_stock_options_help(const char *format, const char *name);
/*
 * Are the names known and the values of their types? *c gets them less the
 * size, the backing file and its format, which it has members for. name: of
 * the image for messages, or NULL. False after a message.
 */
bool qi_stock_take_options(const char *name, const char *text,
			   struct qi_create *c);
/* The same for amend. */
bool qi_stock_check_amend(const char *format, const char *text);
/* One line each; of_file: those of the file below the format, too. */
void qi_stock_options_print(const struct qi_format_option *o, bool of_file);
/* As QEMU reads sizes: 0, -EINVAL, or -ERANGE from 2^64 on. */
int qi_stock_parse_size(const char *text, uint64_t *out);
/* Any size that fits into 64 bits; false after a message. */
bool qi_stock_option_size(const char *name, const char *text, uint64_t *out);
/* Print "Formatting ..." for an image that is about to be made. */
void qi_stock_formatting(const char *name, const struct qi_create *c);

#endif
