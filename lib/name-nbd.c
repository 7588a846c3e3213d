/* SPDX-License-Identifier: MIT */
/*
 * name-nbd.c - names of disks that an NBD server has
 *
 * nbd:HOST:PORT, nbd:unix:PATH, both with :exportname=EXPORT; and
 * nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH.
 */
#include <errno.h>

#include "lib/bytes.h"
#include "lib/file.h"
#include "lib/format.h"
#include "lib/known.h"
#include "lib/name.h"

#define DEFAULT_PORT "10809"

static int bad_name(const char *name, const char *words, struct qi_error *e)
{
	return qi_stock(e,
			qi_fail(e, EINVAL,
				"cannot open '%s': it does not name an NBD "
				"server; nbd://HOST[:PORT]/EXPORT and "
				"nbd+unix:///EXPORT?socket=PATH do",
				name),
			"%s", words);
}

static int hex(char c)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	const char *p = c ? strchr(digits, c) : NULL;

	return !p		      ? -1 :
	       (int)(p - digits) < 16 ? (int)(p - digits) :
					(int)(p - digits) - 6;
}

/* len bytes of a URI with %XX taken out; malloc'd. */
static char *decoded(const char *text, size_t len)
{
	char *out = malloc(len + 1), *to = out;

	for (size_t i = 0; out && i < len; i++) {
		if (text[i] == '%' && i + 2 < len && hex(text[i + 1]) >= 0 &&
		    hex(text[i + 2]) >= 0) {
			*to++ = (char)(hex(text[i + 1]) * 16 +
				       hex(text[i + 2]));
			i += 2;
		} else {
			*to++ = text[i];
		}
	}
	if (out)
		*to = '\0';
	return out;
}

/* What of the address is given gets a name that people know. */
static int complete(struct qi_name *out, struct qi_error *e)
{
	struct qi_nbd_name *n = &out->nbd;

	out->protocol = QI_PROTOCOL_NBD;
	if (!n->export)
		n->export = strdup("");
	if (!n->export || (!n->socket && (!n->host || !n->port)))
		return qi_no_memory(e);
	if (n->socket && *n->export)
		out->path = qi_format_text("nbd+unix:///%s?socket=%s",
					   n->export, n->socket);
	else if (n->socket)
		out->path = qi_format_text("nbd+unix://?socket=%s", n->socket);
	else
		out->path = qi_format_text("nbd://%s:%s%s%s", n->host, n->port,
					   *n->export ? "/" : "", n->export);
	return out->path ? 0 : qi_no_memory(e);
}

/* nbd+unix:///EXPORT?socket=PATH; p is after the slashes. */
static int take_unix_uri(struct qi_name *out, const char *name, const char *p,
			 struct qi_error *e)
{
	const char *query = strchr(p, '?');

	if (!query || strncmp(query, "?socket=", 8) || !query[8])
		return bad_name(name, "No valid URL specified", e);
	p += *p == '/';
	out->nbd.export = decoded(p, (size_t)(query - p));
	out->nbd.socket = decoded(query + 8, strlen(query + 8));
	return out->nbd.export && out->nbd.socket ? complete(out, e) :
						    qi_no_memory(e);
}

static int take_uri(struct qi_name *out, const char *name, const char *p,
		    struct qi_error *e)
{
	size_t n = strcspn(p, "/?"),
	       host = *p == '[' ? strcspn(p, "]") + 1 : strcspn(p, ":/?");
	bool bracket = *p == '[';

	if (!n || host > n || p[n] == '?')
		return bad_name(name, "No valid URL specified", e);
	out->nbd.host = decoded(p + bracket, host - (bracket ? 2 : 0));
	out->nbd.port = p[host] == ':' && host + 1 < n ?
				strndup(p + host + 1, n - host - 1) :
				strdup(DEFAULT_PORT);
	p += n + (p[n] == '/');
	out->nbd.export = decoded(p, strlen(p));
	return complete(out, e);
}

/* HOST:PORT or unix:PATH, and what QEMU had before there were URIs. */
static int take_old(struct qi_name *out, const char *name, const char *p,
		    struct qi_error *e)
{
	const char *export = strstr(p, ":exportname=");
	size_t n = export ? (size_t)(export - p) : strlen(p);
	size_t host = *p == '[' ? strcspn(p, "]") + 1 : strcspn(p, ":");
	bool bracket = *p == '[';

	if (export)
		out->nbd.export = strdup(export + 12);
	if (!n)
		return bad_name(name, "NBD server address missing", e);
	if (!strncmp(p, "unix:", 5)) {
		if (n == 5)
			return bad_name(name, "Invalid NBD server address", e);
		out->nbd.socket = strndup(p + 5, n - 5);
		return out->nbd.socket ? complete(out, e) : qi_no_memory(e);
	}
	if (host + 1 >= n || p[host] != ':')
		return qi_stock(e, bad_name(name, "", e),
				"error parsing address '%.*s'", (int)n, p);
	out->nbd.host = strndup(p + bracket, host - (bracket ? 2 : 0));
	out->nbd.port = strndup(p + host + 1, n - host - 1);
	return complete(out, e);
}

int qi_name_from_nbd(struct qi_name *out, const char *name, struct qi_error *e)
{
	const char *p = name + qi_name_protocol_length(name) + 1;

	if (strncmp(p, "//", 2))
		return take_old(out, name, p, e);
	return strncmp(name, "nbd+unix", 8) ?
		       take_uri(out, name, p + 2, e) :
		       take_unix_uri(out, name, p + 2, e);
}

/* A text under any of two names, malloc'd, or NULL. */
static char *take_text(struct qi_keys *keys, const char *name,
		       const char *other)
{
	QI_AUTOKEY struct qi_key key = { 0 };
	char *text;

	if (!qi_keys_take(keys, name, &key) && !qi_keys_take(keys, other, &key))
		return NULL;
	text = key.text;
	key.text = NULL;
	return text;
}

int qi_name_from_nbd_keys(struct qi_name *out, struct qi_keys *keys,
			  struct qi_error *e)
{
	static const char *const waits[] = { "reconnect-delay",
					     "open-timeout" };
	struct qi_nbd_name *n = &out->nbd;

	n->socket = take_text(keys, "server.path", "path");
	n->host = take_text(keys, "server.host", "host");
	n->port = take_text(keys, "server.port", "port");
	n->export = take_text(keys, "export", "export");
	free(take_text(keys, "server.type", "server.type"));
	for (size_t i = 0; i < QI_ARRAY_SIZE(waits); i++)
		free(take_text(keys, waits[i], waits[i]));
	if (n->socket && n->host)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"an NBD server has a path or a host"),
				"path and host may not be used at the same "
				"time");
	if (!n->socket && !n->host)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"an NBD server needs a path or a host"),
				"NBD server address missing");
	if (!n->port)
		n->port = strdup(DEFAULT_PORT);
	return complete(out, e);
}
