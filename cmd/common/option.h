/* SPDX-License-Identifier: MIT */
/*
 * option.h - option tables, their parser and the help made of them
 */
#ifndef QIMG_OPTION_H
#define QIMG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	QI_EXIT_OK = 0,
	QI_EXIT_FAILED = 1,
	QI_EXIT_USAGE = 2,
	QI_EXIT_WARNING = 3,
	QI_EXIT_DAMAGED = 4,
	QI_EXIT_INTERRUPTED = 130,
};

/* What a shell should offer for a value or an argument. */
enum qi_complete_kind {
	QI_COMPLETE_NONE,
	QI_COMPLETE_FILE,
	QI_COMPLETE_FOLDER,
	QI_COMPLETE_FORMAT, /* image formats */
	QI_COMPLETE_BITMAP, /* bitmaps of the --drive or --node given */
	QI_COMPLETE_POINT,  /* points of the repository given */
	QI_COMPLETE_TAG,    /* snapshots of the --drive given */
};

/* How a value is read, and the type of what `value` points to. */
enum qi_option_type {
	QI_OPTION_FLAG,	  /* bool */
	QI_OPTION_TEXT,	  /* const char * */
	QI_OPTION_LIST,	  /* struct qi_list; may be repeated */
	QI_OPTION_SIZE,	  /* uint64_t, bytes */
	QI_OPTION_COUNT,  /* unsigned, 1 or more */
	QI_OPTION_CHOICE, /* int, index in `choices` */
	QI_OPTION_MAYBE,  /* as CHOICE; without a value: index 1 */
	QI_OPTION_WAIT,	  /* int, seconds; without a value: -1, for ever */
	QI_OPTION_PART,	  /* uint32_t, millionths; without a value: all */
};

struct qi_option {
	const char *name; /* long form */
	char letter;	  /* short form, or 0 */
	const char *arg;  /* name of the value for people, or NULL */
	const char *help;
	enum qi_option_type type;
	void *value;
	const char *const *choices; /* ends with NULL */
	enum qi_complete_kind complete;
};

/* Values of an option that may be repeated; they point into argv. */
struct qi_list {
	const char **item;
	size_t count;
};

enum qi_output { QI_OUTPUT_HUMAN, QI_OUTPUT_JSON, QI_OUTPUT_DOT };
extern const char *const qi_output_choices[];

/* Options that read the same in every command. */
#define QI_OPTION_END        \
	{                    \
		.name = NULL \
	}
#define QI_OPT_FLAG(name_, letter_, value_, help_)               \
	{                                                        \
		.name = name_, .letter = letter_, .help = help_, \
		.type = QI_OPTION_FLAG, .value = value_          \
	}
#define QI_OPT_TEXT(name_, letter_, arg_, value_, complete_, help_)            \
	{                                                                      \
		.name = name_, .letter = letter_, .arg = arg_, .help = help_,  \
		.type = QI_OPTION_TEXT, .value = value_, .complete = complete_ \
	}
#define QI_OPT_LIST(name_, letter_, arg_, value_, complete_, help_)            \
	{                                                                      \
		.name = name_, .letter = letter_, .arg = arg_, .help = help_,  \
		.type = QI_OPTION_LIST, .value = value_, .complete = complete_ \
	}
#define QI_OPT_SIZE(name_, letter_, value_, help_)                     \
	{                                                              \
		.name = name_, .letter = letter_, .arg = "SIZE",       \
		.help = help_, .type = QI_OPTION_SIZE, .value = value_ \
	}
#define QI_OPT_COUNT(name_, value_, help_)                \
	{                                                 \
		.name = name_, .arg = "N", .help = help_, \
		.type = QI_OPTION_COUNT, .value = value_  \
	}
#define QI_OPT_OUTPUT(value_)                                                \
	{                                                                    \
		.name = "output", .arg = "human|json",                       \
		.help = "text for people or JSON", .type = QI_OPTION_CHOICE, \
		.value = value_, .choices = qi_output_choices                \
	}
#define QI_OPT_QUIET(value_) \
	QI_OPT_FLAG("quiet", 'q', value_, "print nothing but errors")
#define QI_OPT_FORCE_SHARE(value_)              \
	QI_OPT_FLAG("force-share", 'U', value_, \
		    "read even while another process writes")
#define QI_OPT_DRY_RUN(letter_, value_)         \
	QI_OPT_FLAG("dry-run", letter_, value_, \
		    "show what would be done and change nothing")
#define QI_OPT_THREADS(value_)                                       \
	{                                                            \
		.name = "parallel", .letter = 'm', .arg = "THREADS", \
		.help = "threads to use (one a processor)",          \
		.type = QI_OPTION_COUNT, .value = value_             \
	}
#define QI_OPT_WAIT(value_)                                                   \
	{                                                                     \
		.name = "wait", .arg = "SECONDS",                             \
		.help = "wait for images in use (for ever without a number)", \
		.type = QI_OPTION_WAIT, .value = value_                       \
	}
#define QI_OPT_SCAN(value_)                                          \
	QI_OPT_LIST("scan", 0, "FOLDER", value_, QI_COMPLETE_FOLDER, \
		    "look for overlays in this folder, too")
#define QI_OPT_STRICT(value_)            \
	QI_OPT_FLAG("strict", 0, value_, \
		    "refuse a drive with layers made by other tools")
#define QI_OPT_PROGRESS(value_)                                             \
	{                                                                   \
		.name = "progress", .letter = 'p', .arg = "plain|json",     \
		.help = "show progress on stderr", .type = QI_OPTION_MAYBE, \
		.value = value_, .choices = qi_progress_choices             \
	}
extern const char *const qi_progress_choices[];

/*
 * Store the options found in argv, which may be mixed with arguments, and
 * move the arguments to its end. Stores the index of the first, 0 when --help
 * asks for the help, -1 when --version asks for that. Returns 0, or the exit
 * code of a usage error.
 */
int qi_args_parse(const struct qi_option *options, int argc, char **argv,
		  int *first);

/* The table entry for --NAME or -X, or NULL. */
const struct qi_option *qi_option_find(const struct qi_option *options,
				       const char *text);

/* Whether its value may be left out, so that it needs the form --NAME=VALUE. */
bool qi_option_is_optional(const struct qi_option *o);

/* Print the options, aligned. */
void qi_args_help(const struct qi_option *options);

/*
 * Name of the command that usage errors refer to, such as "bitmap add", and
 * the exit code that they give.
 */
void qi_usage_command(const char *name, int code);

/* Print a usage error with a hint; returns its exit code. */
int qi_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* qi_parse_size(); 0, or an exit code after an error that names `what`. */
int qi_read_size(const char *what, const char *text, uint64_t *out);

#endif
