/* SPDX-License-Identifier: MIT */
/* name.c - names of images: how they start */
#include <errno.h>

#include "lib/bytes.h"
#include "lib/file.h"
#include "lib/format.h"
#include "lib/name.h"

#define NULL_SIZE (1ull << 30)

static void nbd_clear(struct qi_nbd_name *n)
{
	free(n->socket);
	free(n->host);
	free(n->port);
	free(n->export);
}

void qi_name_clear(struct qi_name *n)
{
	free(n->path);
	free(n->format);
	free(n->data);
	free(n->offset.json);
	free(n->part.json);
	free(n->size.json);
	free(n->read_zeroes);
	nbd_clear(&n->nbd);
	if (n->backing)
		qi_name_clear(n->backing);
	free(n->backing);
	qi_keys_clear(&n->rest);
	*n = (struct qi_name){ 0 };
}

size_t qi_name_protocol_length(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':' ? n : 0;
}

static bool starts(const char *name, const char *with)
{
	return !strncmp(name, with, strlen(with));
}

static int take_path(struct qi_name *out, enum qi_protocol protocol,
		     const char *path, struct qi_error *e)
{
	if (!*path)
		return qi_stock(
			e, qi_fail(e, EINVAL, "the name of the image is empty"),
			"The '%s' block driver requires a file name",
			protocol == QI_PROTOCOL_DEVICE ? "host_device" :
							 "file");
	out->protocol = protocol;
	out->path = strdup(path);
	return out->path ? 0 : qi_no_memory(e);
}

static int take_null(struct qi_name *out, const char *name, struct qi_error *e)
{
	if (strcmp(name, "null-co://") && strcmp(name, "null-aio://"))
		return qi_stock(
			e,
			qi_fail(e, EINVAL,
				"cannot open '%s': there is but 'null-co://'",
				name),
			"The only allowed filename for this driver is "
			"'%.*s://'",
			(int)qi_name_protocol_length(name), name);
	out->protocol = QI_PROTOCOL_NULL;
	out->size.value = NULL_SIZE;
	out->path = strdup(name);
	return out->path ? 0 : qi_no_memory(e);
}

static int take_json(struct qi_name *out, const char *text, struct qi_error *e)
{
	QI_AUTOKEYS struct qi_keys keys = { 0 };
	int ret = qi_keys_from_json(&keys, text, e);

	return ret ? ret : qi_name_from_keys(out, &keys, e);
}

static int take_list(struct qi_name *out, const char *text, struct qi_graph *g,
		     struct qi_error *e)
{
	QI_AUTOKEYS struct qi_keys keys = { 0 };
	int ret = qi_keys_from_list(&keys, text, g, e);

	return ret ? ret : qi_name_from_keys(out, &keys, e);
}

static int take_plain(struct qi_name *out, const char *name, unsigned flags,
		      struct qi_error *e)
{
	size_t n = qi_name_protocol_length(name);

	if (starts(name, "json:"))
		return take_json(out, name + 5, e);
	if (starts(name, "file:"))
		return take_path(out, QI_PROTOCOL_FILE, name + 5, e);
	if (starts(name, "host_device:"))
		return take_path(out, QI_PROTOCOL_DEVICE, name + 12, e);
	if (starts(name, "null-co:") || starts(name, "null-aio:"))
		return take_null(out, name, e);
	if (starts(name, "nbd:") || starts(name, "nbd+tcp:") ||
	    starts(name, "nbd+unix:"))
		return qi_name_from_nbd(out, name, e);
	if (n && (flags & QI_NAME_STRICT || starts(name + n, "://")))
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"cannot open '%s': protocol '%.*s' "
					"is not supported",
					name, (int)n, name),
				"Unknown protocol '%.*s'", (int)n, name);
	return take_path(out, QI_PROTOCOL_FILE, name, e);
}

int qi_name_parse_as(struct qi_name *out, const char *name, unsigned flags,
		     struct qi_graph *g, struct qi_error *e)
{
	int ret;

	*out = (struct qi_name){ 0 };
	if (flags & QI_NAME_LIST)
		ret = take_list(out, name, g, e);
	else
		ret = take_plain(out, name, flags, e);
	if (ret)
		qi_name_clear(out);
	return ret;
}

int qi_name_parse(struct qi_name *out, const char *name, struct qi_error *e)
{
	return qi_name_parse_as(out, name, 0, NULL, e);
}

char *qi_name_beside(const char *overlay, const char *name)
{
	QI_AUTOFREE char *dir = NULL;

	if (*name == '/' || qi_name_protocol_length(name))
		return strdup(name);
	dir = qi_path_folder(overlay);
	return dir ? qi_path_join(dir, name) : NULL;
}

char *qi_name_file_beside(const char *overlay, const char *name)
{
	QI_AUTOFREE char *where = qi_name_beside(overlay, name);
	struct qi_name parsed = { 0 };
	char *path = NULL;

	if (where && !qi_name_parse(&parsed, where, NULL) &&
	    parsed.protocol <= QI_PROTOCOL_DEVICE) {
		path = parsed.path;
		parsed.path = NULL;
	}
	qi_name_clear(&parsed);
	return path;
}
