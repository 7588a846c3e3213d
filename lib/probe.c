/* SPDX-License-Identifier: MIT */
/* probe.c - which driver is for an image, and what it cannot do */
#include <errno.h>

#include "lib/format.h"

/* More is not looked at, so that all say the same as QEMU. */
#define LOOKED_AT 512

const struct qi_format *qi_format_find(const char *name)
{
	for (size_t i = 0; qi_formats[i]; i++)
		if (strcmp(qi_formats[i]->name, name) == 0)
			return qi_formats[i];
	return NULL;
}

const struct qi_format *qi_format_probe(const uint8_t *head, size_t len,
					const char *name)
{
	const struct qi_format *best = NULL;
	int best_score = 0;

	len = qi_min(len, LOOKED_AT);
	for (size_t i = 0; qi_formats[i]; i++) {
		int score = qi_formats[i]->probe(head, len, name);

		if (score > best_score) {
			best = qi_formats[i];
			best_score = score;
		}
	}
	return best;
}

int qi_file_probe(struct qi_file *f, const struct qi_format **out,
		  struct qi_error *e)
{
	uint8_t head[LOOKED_AT];
	ssize_t len = qi_file_read_some(f, 0, sizeof(head), head, e);

	if (len < 0)
		return (int)len;
	*out = qi_format_probe(head, (size_t)len, f->name);
	return 0;
}

const struct qi_format *qi_format_ending(const uint8_t *sector)
{
	for (size_t i = 0; qi_formats[i]; i++)
		if (qi_formats[i]->ends && qi_formats[i]->ends(sector))
			return qi_formats[i];
	return NULL;
}

int qi_node_check_known(const struct qi_node *n, struct qi_error *e)
{
	if (n->format->map)
		return 0;
	return qi_fail(e, ENOTSUP,
		       "format '%s' of '%s' is recognised, but reading and "
		       "writing it is not supported",
		       n->format->name, n->path);
}

int qi_node_map(struct qi_node *n, uint64_t off, uint64_t len,
		struct qi_extent *out, unsigned max, struct qi_error *e)
{
	int ret = qi_node_check_known(n, e);

	return ret ? ret : n->format->map(n, off, len, out, max, e);
}

const char *const *qi_format_names(void)
{
	static const char *names[32];

	for (size_t i = 0; qi_formats[i] && i < QI_ARRAY_SIZE(names) - 1; i++)
		names[i] = qi_formats[i]->name;
	return names;
}

const struct qi_format_option *qi_format_options(const char *format)
{
	const struct qi_format *f = qi_format_find(format);

	return f ? f->options : NULL;
}

bool qi_format_can_create(const char *format)
{
	const struct qi_format *f = qi_format_find(format);

	return f && f->build;
}
