// SPDX-License-Identifier: MIT
/*
 * stock.c - messages and values as qemu-img has them
 */
#include "cmd/qemu-img/common/stock.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/common/checked.h"
#include "cmd/common/image.h"
#include "cmd/common/print.h"

#define PREFIX "qemu-img: "

/* Its own newlines stay, other control characters do not reach a terminal. */
static void say(const char *prefix, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void say(const char *prefix, const char *fmt, va_list ap)
{
	char text[4096];
	char *line = text, *next;

	vsnprintf(text, sizeof(text), fmt, ap);
	fflush(stdout);
	fputs(prefix, stderr);
	do {
		QI_AUTO_TEXT char *safe = NULL;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		safe = qi_safe(line);
		fprintf(stderr, "%s\n", safe);
		line = next;
	} while (next);
}

int qi_stock_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(PREFIX, fmt, ap);
	va_end(ap);
	return QI_EXIT_FAILED;
}

int qi_stock_mistake(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(PREFIX, fmt, ap);
	va_end(ap);
	fputs("Try 'qemu-img --help' for more information\n", stderr);
	return QI_EXIT_FAILED;
}

void qi_stock_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(PREFIX "warning: ", fmt, ap);
	va_end(ap);
}

const char *qi_stock_words(int ret, const struct qi_error *e)
{
	if (e->stock[0])
		return e->stock;
	return e->text[0] ? e->text : strerror(-ret);
}

const char *qi_stock_inner_words(const char *words, const char *name)
{
	QI_AUTO_TEXT char *outer = qi_xprintf("Could not open '%s': ", name);
	size_t n = strlen(outer);

	return strncmp(words, outer, n) ? words : words + n;
}

int qi_stock_fail(int ret, const struct qi_error *e)
{
	qi_stock_say("%s", qi_stock_words(ret, e));
	return ret == -EINTR ? QI_EXIT_INTERRUPTED : QI_EXIT_FAILED;
}

/* --------------------------------------------------------------- values */

bool qi_stock_size(const char *what, const char *text, uint64_t min,
		   uint64_t max, uint64_t *out)
{
	int ret = qi_stock_parse_size(text, out);

	if (!ret && *out >= min && *out <= max)
		return true;
	if (ret != -EINVAL) {
		qi_stock_say("Invalid %s specified. Must be between %" PRIu64
			     " and %" PRIu64 ".",
			     what, min, max);
		return false;
	}
	qi_stock_say("Invalid %s specified. You may use k, M, G, T, P or E "
		     "suffixes for",
		     what);
	qi_stock_say("kilobytes, megabytes, gigabytes, terabytes, petabytes "
		     "and exabytes.");
	return false;
}

bool qi_stock_output(const char *text, int *out)
{
	*out = QI_OUTPUT_HUMAN;
	if (!text || !strcmp(text, "human"))
		return true;
	*out = QI_OUTPUT_JSON;
	if (!strcmp(text, "json"))
		return true;
	qi_stock_say("--output must be used with human or json as argument.");
	return false;
}

bool qi_stock_cache(const char *text, bool is_source, enum qi_cache *out)
{
	if (!text || qi_cache_parse(text, out))
		return true;
	qi_stock_say("Invalid %scache option: %s", is_source ? "source " : "",
		     text);
	return false;
}

struct qi_list qi_stock_objects;

/* What --object secret can be told. */
struct secret {
	char *type, *id, *data, *file, *other;
};

static char **secret_member(struct secret *s, const char *key)
{
	static const char *const ignored[] = { "format", "keyid", "iv",
					       "loaded" };

	if (!strcmp(key, "qom-type"))
		return &s->type;
	if (!strcmp(key, "id"))
		return &s->id;
	if (!strcmp(key, "data"))
		return &s->data;
	if (!strcmp(key, "file"))
		return &s->file;
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		if (!strcmp(key, ignored[i]))
			return NULL;
	return &s->other;
}

static void take_element(struct secret *s, char *element, bool first)
{
	char *equals = strchr(element, '='), **member;

	if (equals)
		*equals = '\0';
	/* The first one may be the type alone. */
	member = !equals && first ? &s->type : secret_member(s, element);
	if (!member)
		return;
	free(*member);
	*member = qi_xstrdup(equals && member != &s->other ? equals + 1 :
							     element);
}

/* Where the secret is in a file, that is read; false after a message. */
static bool check_file(const char *path)
{
	FILE *f = fopen(path, "re");

	if (!f) {
		qi_stock_say("Unable to read %s: Failed to open file “%s”: %s",
			     path, path, strerror(errno));
		return false;
	}
	fclose(f);
	return true;
}

static bool is_identifier(const char *id)
{
	if (!isalpha((unsigned char)*id))
		return false;
	while (isalnum((unsigned char)*id) || (*id && strchr("-._", *id)))
		id++;
	return !*id;
}

static bool check_secret(const struct secret *s)
{
	if (!s->type)
		qi_stock_say("Parameter 'qom-type' is missing");
	else if (strcmp(s->type, "secret") != 0)
		qi_stock_say("Parameter 'qom-type' does not accept value '%s'",
			     s->type);
	else if (!s->id)
		qi_stock_say("Parameter 'id' is missing");
	else if (!is_identifier(s->id))
		qi_stock_say("Parameter 'id' expects an identifier\n"
			     "Identifiers consist of letters, digits, '-', "
			     "'.', '_', starting with a letter.");
	else if (s->other)
		qi_stock_say("Parameter '%s' is unexpected", s->other);
	else if (!s->data && !s->file)
		qi_stock_say("Either 'file' or 'data' must be provided");
	else if (s->data && s->file)
		qi_stock_say("'file' and 'data' are mutually exclusive");
	else
		return s->data || check_file(s->file);
	return false;
}

/* Is the id in a text of --object? */
static bool has_id(const char *text, const char *id)
{
	while (*text) {
		QI_AUTO_TEXT char *element = qi_option_next(&text);

		if (element && !strncmp(element, "id=", 3) &&
		    !strcmp(element + 3, id))
			return true;
	}
	return false;
}

static bool check_new(const struct secret *s)
{
	for (size_t i = 0; i < qi_stock_objects.count; i++) {
		if (!has_id(qi_stock_objects.item[i], s->id))
			continue;
		qi_stock_say("attempt to add duplicate property '%s' to object "
			     "(type 'container')",
			     s->id);
		return false;
	}
	return true;
}

static void take_json(struct secret *s, const char *text)
{
	json_t *root = json_loads(text, 0, NULL), *value;
	const char *key;

	json_object_foreach(root, key, value)
	{
		char **member = secret_member(s, key);

		if (!member || !json_is_string(value))
			continue;
		free(*member);
		*member = qi_xstrdup(
			member == &s->other ? key : json_string_value(value));
	}
	json_decref(root);
}

bool qi_stock_object(const char *text)
{
	bool is_json = *text == '{';
	struct secret s = { NULL, NULL, NULL, NULL, NULL };
	bool good;

	if (is_json)
		take_json(&s, text);
	for (bool first = true; !is_json && *text; first = false) {
		QI_AUTO_TEXT char *element = qi_option_next(&text);

		if (element)
			take_element(&s, element, first);
	}
	good = check_secret(&s) && check_new(&s);
	free(s.type);
	free(s.id);
	free(s.data);
	free(s.file);
	free(s.other);
	return good;
}

/* -------------------------------------------------------------- opening */

static void on_warning(void *arg, const char *text)
{
	qi_stock_warn("%s", text);
}

struct qi_graph *qi_stock_graph(void)
{
	struct qi_graph *g;

	if (qi_graph_new(&g) < 0) {
		qi_stock_say("out of memory");
		exit(QI_EXIT_FAILED);
	}
	qi_graph_on_warning(g, on_warning, NULL);
	qi_graph_be_stock(g);
	return g;
}

/* Whoever writes a boot sector could make another format of a raw disk. */
static void warn_of_probing(const struct qi_node *n)
{
	const struct qi_node_facts *f = qi_node_facts(n);
	QI_AUTO_TEXT char *path = qi_safe(f->path);

	if (strcmp(f->format, "raw") != 0)
		return;
	fprintf(stderr,
		"WARNING: Image format was not specified for '%s' and probing "
		"guessed raw.\n"
		"         Automatically detecting the format is dangerous for "
		"raw images, write operations on block 0 will be restricted.\n"
		"         Specify the 'raw' format explicitly to remove the "
		"restrictions.\n",
		path);
}

int qi_stock_add(struct qi_graph *g, const char *name, bool is_options,
		 const struct qi_open *how, struct qi_node **out)
{
	struct qi_open as = *how;
	struct stat st;
	struct qi_error e = { "", "" };
	int ret;

	if (is_options && how->format) {
		qi_stock_say("--image-opts and --format are mutually "
			     "exclusive");
		return -EINVAL;
	}
	if (how->access == QI_ACCESS_WRITE && !stat(name, &st) &&
	    S_ISDIR(st.st_mode)) {
		qi_stock_say("Could not open '%s': Could not open '%s': %s",
			     name, name, strerror(EISDIR));
		return -EISDIR;
	}
	as.is_options = is_options;
	as.strict_name = true;
	ret = qi_graph_add(g, name, &as, out, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	else if (how->access == QI_ACCESS_WRITE && !how->format && !is_options)
		warn_of_probing(*out);
	return ret;
}

/*
 * As QEMU repairs an image that was not closed and is to be written; negative
 * after a message.
 */
static int repair(const char *name, bool is_options, const struct qi_open *how)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open to_check = *how;
	struct qi_check check = { .repair = QI_REPAIR_ALL,
				  .finding = qi_checked_finding };
	struct qi_error e = { "", "" };
	struct qi_node *n;
	int ret;

	to_check.to_check = to_check.no_backing = true;
	ret = qi_stock_add(g, name, is_options, &to_check, &n);
	if (ret < 0)
		return ret;
	ret = qi_graph_lock(g, 0, &e);
	/* Somebody else may have done it by now. */
	if (ret >= 0 && qi_node_facts(n)->is_dirty)
		ret = qi_check_image(n, &check, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	return ret;
}

int qi_stock_open(struct qi_graph *g, const char *name, bool is_options,
		  const struct qi_open *how, struct qi_node **out)
{
	struct qi_error e = { "", "" };
	int ret = qi_stock_add(g, name, is_options, how, out);

	if (ret < 0)
		return ret;
	if (how->access == QI_ACCESS_WRITE && !how->to_check &&
	    qi_node_facts(*out)->is_dirty)
		ret = repair(name, is_options, how);
	if (ret < 0)
		return ret;
	ret = qi_graph_lock(g, 0, &e);
	if (ret < 0)
		qi_stock_fail(ret, &e);
	if (ret < 0 || !qi_node_facts(*out)->is_encrypted)
		return ret;
	/* A secret would not help here. */
	qi_stock_say("Could not open '%s': Parameter 'encrypt.key-secret' is "
		     "required for cipher",
		     name);
	return -ENOTSUP;
}

const char *qi_stock_target(const char *name, const char *prefix)
{
	/* Whether a new image can be made by that protocol. */
	static const struct {
		const char *name;
		bool makes;
	} protocols[] = {
		{ "file", true },
		{ "host_device", true },
		{ "nbd", false },
		{ "null-co", false },
	};
	size_t n = strcspn(name, ":/");

	if (name[n] != ':')
		return name;
	for (size_t i = 0; i < sizeof(protocols) / sizeof(*protocols); i++) {
		if (strlen(protocols[i].name) != n ||
		    strncmp(protocols[i].name, name, n))
			continue;
		if (protocols[i].makes)
			return name + n + 1;
		qi_stock_say("%sProtocol driver '%s' does not support image "
			     "creation",
			     prefix, protocols[i].name);
		return NULL;
	}
	qi_stock_say("%sUnknown protocol '%.*s'", prefix, (int)n, name);
	return NULL;
}

/* --------------------------------------------------- internal snapshots */

bool qi_stock_snapshot(const char *text, struct qi_snapshot_choice *out)
{
	const char *rest = text;

	*out = (struct qi_snapshot_choice){ .keeps_size = true };
	if (strncmp(text, "snapshot.", 9)) {
		out->name_or_id = text;
		return true;
	}
	while (*rest) {
		QI_AUTO_TEXT char *element = qi_option_next(&rest);
		char *value = element ? strchr(element, '=') : NULL;

		if (value)
			*value++ = '\0';
		if (element && !strcmp(element, "snapshot.id")) {
			out->id = qi_stock_keep(value ? value : "on");
		} else if (element && !strcmp(element, "snapshot.name")) {
			out->name = qi_stock_keep(value ? value : "on");
		} else {
			qi_stock_say("Invalid parameter '%s'",
				     element ? element : "");
			qi_stock_say("Failed in parsing snapshot param '%s'",
				     text);
			return false;
		}
	}
	return true;
}

int qi_stock_open_snapshot(struct qi_graph *g, const char *name,
			   bool is_options, const struct qi_open *how,
			   const struct qi_snapshot_choice *choice,
			   struct qi_node **out)
{
	struct qi_open at = *how;
	struct qi_error e = { "", "" };
	/* What is wrong with the image itself is said first. */
	int ret = qi_stock_open(g, name, is_options, how, out);

	if (ret < 0 || (!choice->id && !choice->name && !choice->name_or_id))
		return ret;
	at.snapshot = *choice;
	at.is_options = is_options;
	at.strict_name = true;
	ret = qi_graph_add(g, name, &at, out, &e);
	if (ret >= 0)
		ret = qi_graph_lock(g, 0, &e);
	if (ret < 0) {
		/* The image could be opened, so that is not what is said. */
		const char *words = qi_stock_words(ret, &e);
		const char *inner = strstr(words, "Failed to load snapshot");

		qi_stock_say("%s", inner ? inner : words);
	}
	return ret;
}
