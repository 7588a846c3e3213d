/* SPDX-License-Identifier: MIT */
/* probe.c - which driver is for an image */
#include "lib/format.h"

const struct qi_format *qi_format_find(const char *name)
{
	for (size_t i = 0; qi_formats[i]; i++)
		if (strcmp(qi_formats[i]->name, name) == 0)
			return qi_formats[i];
	return NULL;
}

const struct qi_format *qi_format_probe(const uint8_t *head, size_t len)
{
	const struct qi_format *best = NULL;
	int best_score = 0;

	for (size_t i = 0; qi_formats[i]; i++) {
		int score = qi_formats[i]->probe(head, len);

		if (score > best_score) {
			best = qi_formats[i];
			best_score = score;
		}
	}
	return best;
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
