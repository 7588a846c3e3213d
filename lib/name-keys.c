/* SPDX-License-Identifier: MIT */
/* name-keys.c - names of images that are lists of keys */
#include <errno.h>
#include <jansson.h>

#include "lib/bytes.h"
#include "lib/file.h"
#include "lib/format.h"
#include "lib/known.h"
#include "lib/name.h"

#define NULL_SIZE (1ull << 30)

/* The protocols; "host_cdrom" and the like are files as well, but not here. */
static const struct {
	const char *driver;
	enum qi_protocol protocol;
} protocols[] = {
	{ "file", QI_PROTOCOL_FILE },	 { "host_device", QI_PROTOCOL_DEVICE },
	{ "null-co", QI_PROTOCOL_NULL }, { "null-aio", QI_PROTOCOL_NULL },
	{ "nbd", QI_PROTOCOL_NBD },
};

const char *qi_name_driver(const struct qi_name *n)
{
	size_t i = 0;

	while (protocols[i].protocol != n->protocol)
		i++;
	return protocols[i].driver;
}

static bool find_protocol(const char *driver, enum qi_protocol *out)
{
	for (size_t i = 0; i < QI_ARRAY_SIZE(protocols); i++)
		if (!strcmp(protocols[i].driver, driver)) {
			*out = protocols[i].protocol;
			return true;
		}
	return false;
}

static int no_such_node(const char *name, struct qi_error *e)
{
	return qi_stock(
		e,
		qi_fail(e, ENOTSUP,
			"'%s' is the name of a node, and here are none", name),
		"Cannot find device='%s' nor node-name='%s'", name, name);
}

static int unknown_driver(const char *name, struct qi_error *e)
{
	return qi_stock(e, qi_fail(e, EINVAL, "unknown format '%s'", name),
			"Unknown driver '%s'", name);
}

static int needs_file(struct qi_error *e)
{
	return qi_stock(e,
			qi_fail(e, EINVAL,
				"the name of the image does not say where its "
				"file is: file.filename is missing"),
			"A block device must be specified for \"file\"");
}

/* An on/off key, if it is there. */
static int take_bool(struct qi_keys *keys, const char *name, bool *out,
		     struct qi_error *e)
{
	QI_AUTOKEY struct qi_key key = { 0 };
	bool on;
	int ret;

	if (!qi_keys_take(keys, name, &key))
		return 0;
	ret = qi_key_bool(&key, &on, e);
	/* What is said of the file is true of the image. */
	*out |= on;
	return ret;
}

/* The value of a key as JSON has it. */
static char *as_json(const struct qi_key *key)
{
	json_t *text;
	char *out;

	if (key->type == QI_KEY_NUMBER)
		return strdup(key->text);
	if (key->type == QI_KEY_BOOL)
		return strdup(strcmp(key->text, "on") ? "false" : "true");
	text = json_string(key->text);
	out = text ? json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) :
		     NULL;
	json_decref(text);
	return out;
}

static int take_size(struct qi_keys *keys, const char *name,
		     struct qi_given *out, struct qi_error *e)
{
	QI_AUTOKEY struct qi_key key = { 0 };

	if (!qi_keys_take(keys, name, &key))
		return 0;
	out->json = as_json(&key);
	return out->json ? qi_key_size(&key, &out->value, e) : qi_no_memory(e);
}

/* ------------------------------------------------------------ protocols */

static int take_locking(struct qi_name *out, struct qi_keys *keys,
			struct qi_error *e)
{
	QI_AUTOKEY struct qi_key key = { 0 };

	if (!qi_keys_take(keys, "locking", &key) || !strcmp(key.text, "auto") ||
	    !strcmp(key.text, "on"))
		return 0;
	out->unlocked = !strcmp(key.text, "off");
	if (out->unlocked)
		return 0;
	return qi_stock(e,
			qi_fail(e, EINVAL,
				"option 'locking': '%s' is not one of: auto on "
				"off",
				key.text),
			"invalid parameter value: %s", key.text);
}

/* AIO of the kernel needs what no cache is between; see open(2). */
static int check_aio(struct qi_keys *keys, struct qi_error *e)
{
	const char *aio = "", *direct = "off";

	for (size_t i = 0; i < keys->count; i++) {
		if (!strcmp(keys->all[i].name, "aio"))
			aio = keys->all[i].text;
		if (!strcmp(keys->all[i].name, "cache.direct"))
			direct = keys->all[i].text;
	}
	if (strcmp(aio, "native") || strcmp(direct, "off"))
		return 0;
	return qi_stock(
		e, qi_fail(e, EINVAL, "aio=native needs cache.direct=on, too"),
		"aio=native was specified, but it requires "
		"cache.direct=on, which was not specified.");
}

static int take_file(struct qi_name *out, const char *driver,
		     struct qi_keys *keys, struct qi_error *e)
{
	QI_AUTOKEY struct qi_key key = { 0 };
	int ret = 0;

	if (!qi_keys_take(keys, "filename", &key) || key.type != QI_KEY_TEXT ||
	    !*key.text)
		return qi_stock(
			e,
			qi_fail(e, EINVAL, "driver '%s' needs a file name",
				driver),
			"The '%s' block driver requires a file name", driver);
	out->path = key.text;
	key.text = NULL;
	ret = take_locking(out, keys, e);
	if (!ret)
		ret = check_aio(keys, e);
	return ret ? ret : qi_known_of_file(keys, e);
}

static int take_null(struct qi_name *out, struct qi_keys *keys,
		     struct qi_error *e)
{
	QI_AUTOKEY struct qi_key zeroes = { 0 }, latency = { 0 };
	bool on;
	int ret;

	out->path = strdup("null-co://");
	out->size.value = NULL_SIZE;
	ret = out->path ? take_size(keys, "size", &out->size, e) :
			  qi_no_memory(e);
	if (!ret && qi_keys_take(keys, "read-zeroes", &zeroes)) {
		ret = qi_key_bool(&zeroes, &on, e);
		out->read_zeroes = as_json(&zeroes);
	}
	qi_keys_take(keys, "latency-ns", &latency);
	return ret;
}

/* All that the keys say, by what they say of the protocol. */
static int take_protocol(struct qi_name *out, const char *driver,
			 struct qi_keys *keys, struct qi_error *e)
{
	int ret = qi_known_of_node(keys, e);

	if (!ret)
		ret = take_bool(keys, "read-only", &out->read_only, e);
	if (!ret)
		ret = take_bool(keys, "force-share", &out->force_share, e);
	if (ret)
		return ret;
	switch (out->protocol) {
	case QI_PROTOCOL_NULL:
		ret = take_null(out, keys, e);
		break;
	case QI_PROTOCOL_NBD:
		ret = qi_name_from_nbd_keys(out, keys, e);
		break;
	default:
		ret = take_file(out, driver, keys, e);
	}
	if (ret || !keys->count)
		return ret;
	return qi_stock(e,
			qi_fail(e, ENOTSUP, "driver '%s' has no option '%s'",
				driver, qi_keys_first(keys)),
			"Block protocol '%s' doesn't support the option '%s'",
			driver, qi_keys_first(keys));
}

/* The keys of "file": {...}, which needs no driver. */
static int take_below(struct qi_name *out, struct qi_keys *keys,
		      struct qi_error *e)
{
	QI_AUTOKEY struct qi_key driver = { 0 };
	bool is_said = qi_keys_take(keys, "driver", &driver);
	const char *name = is_said ? driver.text : "file";

	if (find_protocol(name, &out->protocol))
		return take_protocol(out, name, keys, e);
	if (!qi_format_find(name))
		return unknown_driver(name, e);
	for (size_t i = 0; i < keys->count; i++)
		if (!strncmp(keys->all[i].name, "file.", 5))
			return qi_fail(e, ENOTSUP,
				       "a file in format '%s' cannot be that "
				       "of an image here",
				       name);
	return needs_file(e);
}

/* --------------------------------------------------------------- nodes */

static int take_format(struct qi_name *out, struct qi_keys *keys,
		       struct qi_error *e)
{
	QI_AUTOKEYS struct qi_keys below = { 0 };
	QI_AUTOKEY struct qi_key file = { 0 };
	int ret = qi_known_of_node(keys, e);

	if (!ret)
		ret = take_bool(keys, "read-only", &out->read_only, e);
	if (!ret)
		ret = take_bool(keys, "force-share", &out->force_share, e);
	if (!ret && qi_keys_take(keys, "file", &file) &&
	    file.type == QI_KEY_TEXT)
		ret = no_such_node(file.text, e);
	if (!ret)
		ret = qi_keys_cut(keys, "file", &below, e);
	if (!ret && !below.count)
		ret = out->format ?
			      needs_file(e) :
			      qi_stock(e, needs_file(e),
				       "Must specify either driver or file");
	return ret ? ret : take_below(out, &below, e);
}

int qi_name_from_keys(struct qi_name *out, struct qi_keys *keys,
		      struct qi_error *e)
{
	QI_AUTOKEY struct qi_key driver = { 0 };
	int ret;

	if (qi_keys_take(keys, "driver", &driver) &&
	    driver.type == QI_KEY_TEXT) {
		out->is_bare = find_protocol(driver.text, &out->protocol);
		out->format = strdup(out->is_bare ? "raw" : driver.text);
		if (!out->format)
			return qi_no_memory(e);
		if (!qi_format_find(out->format))
			return unknown_driver(driver.text, e);
	}
	ret = out->is_bare ? take_protocol(out, driver.text, keys, e) :
			     take_format(out, keys, e);
	out->rest = *keys;
	*keys = (struct qi_keys){ 0 };
	return ret;
}

/* ------------------------------------------------- what the format knows */

static int take_backing(struct qi_name *n, bool no_backing, struct qi_graph *g,
			struct qi_error *e)
{
	QI_AUTOKEYS struct qi_keys keys = { 0 };
	QI_AUTOKEY struct qi_key key = { 0 };
	int ret = 0;

	if (qi_keys_take(&n->rest, "backing", &key)) {
		n->detached = key.type == QI_KEY_NULL || !*key.text;
		if (n->detached && key.type != QI_KEY_NULL)
			qi_warn(g, "Use of \"backing\": \"\" is deprecated; "
				   "use \"backing\": null instead");
		if (n->detached)
			return 0;
		ret = no_such_node(key.text, e);
		return no_backing ?
			       qi_stock(e, ret,
					"Block format 'qcow2' does not "
					"support the option 'backing'") :
			       qi_stock_context(e, ret,
						"Could not open backing file");
	}
	/* What is not opened is not looked at: it is left as unknown. */
	if (!no_backing)
		ret = qi_keys_cut(&n->rest, "backing", &keys, e);
	if (ret || !keys.count)
		return ret;
	n->backing = calloc(1, sizeof(*n->backing));
	if (!n->backing)
		return qi_no_memory(e);
	ret = qi_name_from_keys(n->backing, &keys, e);
	return ret ? qi_stock_context(e, ret, "Could not open backing file") :
		     0;
}

static int take_data(struct qi_name *n, struct qi_error *e)
{
	QI_AUTOKEYS struct qi_keys keys = { 0 };
	QI_AUTOKEY struct qi_key key = { 0 };
	struct qi_name data = { 0 };
	int ret = 0;

	if (qi_keys_take(&n->rest, "data-file", &key) &&
	    key.type == QI_KEY_TEXT)
		return no_such_node(key.text, e);
	ret = qi_keys_cut(&n->rest, "data-file", &keys, e);
	if (ret || !keys.count)
		return ret;
	ret = take_below(&data, &keys, e);
	if (!ret && data.protocol > QI_PROTOCOL_DEVICE)
		ret = qi_fail(e, ENOTSUP, "'%s' cannot be a data file",
			      data.path);
	n->data = data.path;
	data.path = NULL;
	qi_name_clear(&data);
	return ret;
}

int qi_name_settle(struct qi_name *n, const char *format, bool no_backing,
		   struct qi_graph *g, struct qi_error *e)
{
	int ret = 0;

	if (!strcmp(format, "raw") && !n->is_bare) {
		/* A size that NULL got is that of the file below. */
		ret = take_size(&n->rest, "offset", &n->offset, e);
		if (!ret)
			ret = take_size(&n->rest, "size", &n->part, e);
	}
	if (!strcmp(format, "qcow2")) {
		ret = take_backing(n, no_backing, g, e);
		if (!ret)
			ret = take_data(n, e);
		if (!ret)
			ret = qi_known_of_qcow2(&n->rest, e);
	}
	return ret;
}

int qi_name_check_rest(const struct qi_name *n, const char *format,
		       struct qi_error *e)
{
	const char *left;

	if (!n->rest.count)
		return 0;
	left = qi_keys_first(&n->rest);
	return qi_stock(e,
			qi_fail(e, ENOTSUP,
				"'%s': format '%s' has no option '%s'", n->path,
				format, left),
			"Block format '%s' does not support the option '%s'",
			format, left);
}

/* ---------------------------------------------------------- as it shows */

/* {"driver": ...} of the protocol, without braces. */
static char *protocol_json(const struct qi_name *n)
{
	struct qi_key path = { .text = n->path };
	QI_AUTOFREE char *a = NULL, *b = NULL;

	switch (n->protocol) {
	case QI_PROTOCOL_NULL:
		return qi_format_text("%s%s%s\"driver\": \"null-co\"%s%s",
				      n->read_zeroes ? "\"read-zeroes\": " : "",
				      n->read_zeroes ? n->read_zeroes : "",
				      n->read_zeroes ? ", " : "",
				      n->size.json ? ", \"size\": " : "",
				      n->size.json ? n->size.json : "");
	case QI_PROTOCOL_NBD:
		path.text = n->nbd.socket ? n->nbd.socket : n->nbd.host;
		a = as_json(&path);
		path.text = n->nbd.export;
		b = as_json(&path);
		if (n->nbd.socket)
			return qi_format_text("\"server.path\": %s, "
					      "\"driver\": \"nbd\", "
					      "\"export\": %s, "
					      "\"server.type\": \"unix\"",
					      a, b);
		return qi_format_text("\"server.port\": \"%s\", "
				      "\"server.host\": %s, "
				      "\"driver\": \"nbd\", \"export\": %s, "
				      "\"server.type\": \"inet\"",
				      n->nbd.port, a, b);
	default:
		a = as_json(&path);
		return qi_format_text("\"driver\": \"%s\", \"filename\": %s",
				      n->protocol == QI_PROTOCOL_DEVICE ?
					      "host_device" :
					      "file",
				      a ? a : "");
	}
}

char *qi_name_shown(const struct qi_name *n)
{
	QI_AUTOFREE char *below = protocol_json(n);
	bool is_part = n->offset.json || n->part.json;

	if (!below)
		return NULL;
	if (is_part)
		return qi_format_text(
			"json:{%s%s%s\"driver\": \"raw\"%s%s, \"file\": {%s}}",
			n->offset.json ? "\"offset\": " : "",
			n->offset.json ? n->offset.json : "",
			n->offset.json ? ", " : "",
			n->part.json ? ", \"size\": " : "",
			n->part.json ? n->part.json : "", below);
	if (n->protocol == QI_PROTOCOL_NULL && (n->size.json || n->read_zeroes))
		return n->is_bare ? qi_format_text("json:{%s}", below) :
				    qi_format_text("json:{\"driver\": \"raw\", "
						   "\"file\": {%s}}",
						   below);
	/* A path that would be taken for a protocol. */
	if (n->protocol <= QI_PROTOCOL_DEVICE &&
	    qi_name_protocol_length(n->path))
		return qi_format_text("./%s", n->path);
	return strdup(n->path);
}

bool qi_name_is_plain(const struct qi_name *n)
{
	return !n->offset.value && !n->part.json && !n->detached && !n->backing;
}

bool qi_name_is_same_view(const struct qi_name *a, const struct qi_name *b)
{
	return a->offset.value == b->offset.value &&
	       !a->part.json == !b->part.json &&
	       a->part.value == b->part.value && a->detached == b->detached &&
	       !a->backing && !b->backing;
}
