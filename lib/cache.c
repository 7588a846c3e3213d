/* SPDX-License-Identifier: MIT */
/* cache.c - the names of cache modes */
#include <string.h>

#include "lib/qimg.h"

bool qi_cache_parse(const char *text, enum qi_cache *out)
{
	static const struct {
		const char *name;
		enum qi_cache mode;
	} known[] = {
		{ "writeback", QI_CACHE_WRITEBACK },
		{ "none", QI_CACHE_NONE },
		{ "off", QI_CACHE_NONE },
		{ "writethrough", QI_CACHE_WRITETHROUGH },
		{ "directsync", QI_CACHE_DIRECTSYNC },
		{ "unsafe", QI_CACHE_UNSAFE },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (strcmp(text, known[i].name))
			continue;
		*out = known[i].mode;
		return true;
	}
	return false;
}
