/* SPDX-License-Identifier: MIT */
/* name.c - names of images: plain paths, file:PATH, json:{...} */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>

#include "lib/bytes.h"
#include "lib/file.h"
#include "lib/name.h"

void qi_name_clear(struct qi_name *n)
{
	free(n->path);
	free(n->format);
	free(n->data);
	*n = (struct qi_name){ 0 };
}

/* "word:" in front, before any slash, is a protocol. */
static size_t protocol_length(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':' ? n : 0;
}

static bool is_file_driver(const char *name)
{
	return !strcmp(name, "file") || !strcmp(name, "host_device");
}

static int bad_json(struct qi_error *e, const char *why, const char *what)
{
	return qi_fail(e, ENOTSUP, "json: image name: %s '%s'", why, what);
}

/* The protocol level: {"driver": "file", "filename": PATH}, or its name. */
static int take_file(char **path, json_t *file, struct qi_error *e)
{
	const char *key;
	json_t *value;

	if (!json_is_object(file))
		return bad_json(e, "no object is", "file");
	json_object_foreach(file, key, value)
	{
		const char *text = json_string_value(value);

		if (!strcmp(key, "driver")) {
			if (!text || !is_file_driver(text))
				return bad_json(e, "unsupported protocol",
						text ? text : "");
		} else if (!strcmp(key, "filename") && text) {
			free(*path);
			*path = strdup(text);
		} else if (strcmp(key, "node-name") && strcmp(key, "locking")) {
			return bad_json(e, "unsupported key", key);
		}
	}
	return 0;
}

static int take_key(struct qi_name *out, const char *key, json_t *value,
		    struct qi_error *e)
{
	const char *text = json_string_value(value);

	if (!strcmp(key, "driver") && text) {
		if (is_file_driver(text))
			text = "raw";
		out->format = strdup(text);
		return 0;
	}
	if (!strcmp(key, "file"))
		return take_file(&out->path, value, e);
	if (!strcmp(key, "data-file"))
		return take_file(&out->data, value, e);
	if (!strcmp(key, "data-file.filename") && text) {
		free(out->data);
		out->data = strdup(text);
		return 0;
	}
	if ((!strcmp(key, "file.filename") || !strcmp(key, "filename")) &&
	    text) {
		free(out->path);
		out->path = strdup(text);
		return 0;
	}
	if ((!strcmp(key, "file.driver") || !strcmp(key, "data-file.driver")) &&
	    text)
		return is_file_driver(text) ?
			       0 :
			       bad_json(e, "unsupported protocol", text);
	if (!strcmp(key, "node-name") || !strcmp(key, "read-only"))
		return 0;
	return bad_json(e, "unsupported key", key);
}

static int parse_json(struct qi_name *out, const char *text, struct qi_error *e)
{
	json_error_t why;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
	const char *key;
	json_t *value;
	int ret = 0;

	if (!json_is_object(root))
		ret = bad_json(e, "cannot parse", root ? text : why.text);
	else
		json_object_foreach(root, key, value)
		{
			ret = take_key(out, key, value, e);
			if (ret)
				break;
		}
	if (!ret && !out->path)
		ret = bad_json(e, "missing key", "file.filename");
	json_decref(root);
	return ret;
}

int qi_name_parse(struct qi_name *out, const char *name, struct qi_error *e)
{
	size_t n = protocol_length(name);
	int ret;

	*out = (struct qi_name){ 0 };
	if (n == 4 && !strncmp(name, "json", 4)) {
		ret = parse_json(out, name + 5, e);
		if (ret)
			qi_name_clear(out);
		return ret;
	}
	if (n &&
	    (!strncmp(name, "file:", 5) || !strncmp(name, "host_device:", 12)))
		name += n + 1;
	else if (n && name[n + 1] == '/' && name[n + 2] == '/')
		return qi_fail(e, ENOTSUP,
			       "cannot open '%s': protocol '%.*s' "
			       "is not supported",
			       name, (int)n, name);
	if (!*name)
		return qi_fail(e, EINVAL, "the name of the image is empty");
	out->path = strdup(name);
	return out->path ? 0 : qi_fail(e, ENOMEM, "out of memory");
}

char *qi_name_beside(const char *overlay, const char *name)
{
	QI_AUTOFREE char *dir = NULL;

	if (*name == '/' || protocol_length(name))
		return strdup(name);
	dir = qi_path_folder(overlay);
	return dir ? qi_path_join(dir, name) : NULL;
}

char *qi_name_file_beside(const char *overlay, const char *name)
{
	QI_AUTOFREE char *where = qi_name_beside(overlay, name);
	struct qi_name parsed = { 0 };
	char *path = NULL;

	if (where && !qi_name_parse(&parsed, where, NULL)) {
		path = parsed.path;
		parsed.path = NULL;
	}
	qi_name_clear(&parsed);
	return path;
}
