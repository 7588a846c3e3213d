/* SPDX-License-Identifier: MIT */
/* keys.c - what json:{...} and --image-opts say of a node, as a flat list */
#include <errno.h>
#include <jansson.h>

#include "lib/bytes.h"
#include "lib/file.h"
#include "lib/files.h"
#include "lib/format.h"
#include "lib/keys.h"

/* Of objects in objects; more is nobody's name of an image. */
#define MAX_DEPTH 100

void qi_key_clear(struct qi_key *k)
{
	free(k->name);
	free(k->text);
	*k = (struct qi_key){ 0 };
}

void qi_keys_clear(struct qi_keys *k)
{
	for (size_t i = 0; i < k->count; i++)
		qi_key_clear(&k->all[i]);
	free(k->all);
	*k = (struct qi_keys){ 0 };
}

static struct qi_key *find(struct qi_keys *k, const char *name)
{
	for (size_t i = 0; i < k->count; i++)
		if (!strcmp(k->all[i].name, name))
			return &k->all[i];
	return NULL;
}

const char *qi_keys_first(const struct qi_keys *k)
{
	const char *first = k->all[0].name;

	for (size_t i = 1; i < k->count; i++)
		if (strcmp(k->all[i].name, first) < 0)
			first = k->all[i].name;
	return first;
}

/* Takes over both texts, whatever it returns. */
static int add(struct qi_keys *k, char *name, char *text, enum qi_key_type type,
	       struct qi_error *e)
{
	struct qi_key new = { name, text, type };
	struct qi_key *old = name ? find(k, name) : NULL;

	if (name && text && !old && qi_is_full(k->count)) {
		struct qi_key *all =
			realloc(k->all, (2 * k->count + 1) * sizeof(*all));

		if (!all) {
			qi_key_clear(&new);
			return qi_no_memory(e);
		}
		k->all = all;
	}
	if (!name || !text) {
		qi_key_clear(&new);
		return qi_no_memory(e);
	}
	if (old)
		qi_key_clear(old);
	else
		old = &k->all[k->count++];
	*old = new;
	return 0;
}

bool qi_keys_take(struct qi_keys *k, const char *name, struct qi_key *out)
{
	struct qi_key *found = find(k, name);

	if (!found)
		return false;
	*out = *found;
	/* In order, so that what is left is named in the order it came in. */
	memmove(found, found + 1,
		(size_t)(&k->all[k->count] - found - 1) * sizeof(*found));
	k->count--;
	return true;
}

int qi_keys_cut(struct qi_keys *k, const char *prefix, struct qi_keys *out,
		struct qi_error *e)
{
	const size_t n = strlen(prefix);
	int ret = 0;

	*out = (struct qi_keys){ 0 };
	for (size_t i = 0; i < k->count && !ret;) {
		struct qi_key taken;

		if (strncmp(k->all[i].name, prefix, n) ||
		    k->all[i].name[n] != '.') {
			i++;
			continue;
		}
		if (!qi_keys_take(k, k->all[i].name, &taken))
			break;
		ret = add(out, strdup(taken.name + n + 1), taken.text,
			  taken.type, e);
		taken.text = NULL;
		qi_key_clear(&taken);
	}
	return ret;
}

/* ----------------------------------------------------------------- json */

/* Strings in single quotes, as QEMU takes them, in double ones. malloc'd. */
static char *with_double_quotes(const char *text)
{
	char *out = malloc(2 * strlen(text) + 1), *to = out, quote = 0;

	for (; out && *text; text++) {
		if (*text == '\\' && text[1]) {
			if (text[1] != '\'')
				*to++ = *text;
			*to++ = *++text;
		} else if (quote ? *text == quote :
				   *text == '\'' || *text == '"') {
			quote = quote ? 0 : *text;
			*to++ = '"';
		} else {
			if (*text == '"')
				*to++ = '\\';
			*to++ = *text;
		}
	}
	if (out)
		*to = '\0';
	return out;
}

static int flatten(struct qi_keys *out, const char *name, json_t *value,
		   unsigned depth, struct qi_error *e);

static int flatten_member(struct qi_keys *out, const char *name,
			  const char *key, json_t *value, unsigned depth,
			  struct qi_error *e)
{
	QI_AUTOFREE char *full = *name ? qi_format_text("%s.%s", name, key) :
					 strdup(key);

	return full ? flatten(out, full, value, depth + 1, e) : qi_no_memory(e);
}

static int flatten_all(struct qi_keys *out, const char *name, json_t *value,
		       unsigned depth, struct qi_error *e)
{
	json_t *member;
	const char *key;
	size_t i;
	int ret = 0;

	json_object_foreach(value, key, member)
	{
		if (!ret)
			ret = flatten_member(out, name, key, member, depth, e);
	}
	json_array_foreach(value, i, member)
	{
		char number[24];

		snprintf(number, sizeof(number), "%zu", i);
		if (!ret)
			ret = flatten_member(out, name, number, member, depth,
					     e);
	}
	return ret;
}

static int flatten(struct qi_keys *out, const char *name, json_t *value,
		   unsigned depth, struct qi_error *e)
{
	char *text;

	if (depth > MAX_DEPTH)
		return qi_fail(e, EINVAL, "json: image name: too deep");
	switch (json_typeof(value)) {
	case JSON_OBJECT:
	case JSON_ARRAY:
		if (!*name || json_object_size(value) || json_array_size(value))
			return flatten_all(out, name, value, depth, e);
		return add(out, strdup(name), strdup(""), QI_KEY_NULL, e);
	case JSON_STRING:
		return add(out, strdup(name), strdup(json_string_value(value)),
			   QI_KEY_TEXT, e);
	case JSON_TRUE:
	case JSON_FALSE:
		return add(out, strdup(name),
			   strdup(json_is_true(value) ? "on" : "off"),
			   QI_KEY_BOOL, e);
	case JSON_NULL:
		return add(out, strdup(name), strdup(""), QI_KEY_NULL, e);
	case JSON_INTEGER:
	case JSON_REAL:
		break;
	}
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	return add(out, strdup(name), text, QI_KEY_NUMBER, e);
}

/* As QEMU has it, for the mistakes that happen. */
static const char *stock_words(const json_error_t *why, const char *text)
{
	if (!text[strspn(text, " \t\r\n")])
		return "Expecting a JSON value";
	switch (json_error_code(why)) {
	case json_error_duplicate_key:
		return "JSON parse error, duplicate key";
	case json_error_end_of_input_expected:
		return "Expecting at most one JSON value";
	case json_error_premature_end_of_input:
		return "JSON parse error, premature EOI";
	default:
		if (strstr(why->text, "':' expected"))
			return "JSON parse error, missing : in object pair";
		if (strstr(why->text, "'}' expected"))
			return "JSON parse error, expected separator in dict";
		return "JSON parse error, expecting value";
	}
}

int qi_keys_from_json(struct qi_keys *out, const char *text, struct qi_error *e)
{
	QI_AUTOFREE char *quoted = with_double_quotes(text);
	json_error_t why;
	json_t *root;
	int ret;

	*out = (struct qi_keys){ 0 };
	if (!quoted)
		return qi_no_memory(e);
	root = json_loads(quoted, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
			  &why);
	if (!root)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"json: image name: cannot parse: %s",
					why.text),
				"Could not parse the JSON options: %s",
				stock_words(&why, text));
	if (!json_is_object(root))
		ret = qi_stock(e,
			       qi_fail(e, EINVAL,
				       "json: image name: '%s' is no object",
				       text),
			       "Invalid JSON object given");
	else
		ret = flatten(out, "", root, 0, e);
	json_decref(root);
	if (ret)
		qi_keys_clear(out);
	return ret;
}

/* ----------------------------------------------------------------- list */

/* A word alone: the node's file if it comes first, else a switch. */
static int add_word(struct qi_keys *out, const char *word, bool first,
		    struct qi_graph *g, struct qi_error *e)
{
	bool is_on = strncmp(word, "no", 2);

	if (first)
		return add(out, strdup("file"), strdup(word), QI_KEY_TEXT, e);
	qi_warn(g,
		"short-form boolean option '%s' deprecated\n"
		"Please use %s=%s instead",
		word, is_on ? word : word + 2, is_on ? "on" : "off");
	return add(out, strdup(is_on ? word : word + 2),
		   strdup(is_on ? "on" : "off"), QI_KEY_TEXT, e);
}

int qi_keys_from_list(struct qi_keys *out, const char *text, struct qi_graph *g,
		      struct qi_error *e)
{
	int ret = 0;

	*out = (struct qi_keys){ 0 };
	for (bool first = true; *text && !ret; first = false) {
		QI_AUTOFREE char *element = qi_option_next(&text);
		char *equals = element ? strchr(element, '=') : NULL;

		if (!element)
			ret = qi_no_memory(e);
		else if (equals)
			ret = add(out,
				  strndup(element, (size_t)(equals - element)),
				  strdup(equals + 1), QI_KEY_TEXT, e);
		else
			ret = add_word(out, element, first, g, e);
	}
	if (ret)
		qi_keys_clear(out);
	return ret;
}
