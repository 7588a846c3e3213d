/* SPDX-License-Identifier: MIT */
/* path.c - names of files, and other small text */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/bytes.h"
#include "lib/file.h"

char *qi_format_text(const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : text;
}

char *qi_path_folder(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

const char *qi_path_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

char *qi_path_join(const char *dir, const char *name)
{
	if (*name == '/' || strcmp(dir, ".") == 0)
		return strdup(name);
	return qi_format_text("%s%s%s", dir, strcmp(dir, "/") ? "/" : "", name);
}

char *qi_path_temporary(const char *path)
{
	QI_AUTOFREE char *dir = qi_path_folder(path);
	/* A long name is cut so that the addition fits the limit of 255. */
	QI_AUTOFREE char *name =
		qi_format_text(".%.240s.qimg", qi_path_name(path));

	return dir && name ? qi_path_join(dir, name) : NULL;
}

bool qi_path_is_temporary(const char *name)
{
	size_t len = strlen(name);

	return name[0] == '.' && len > 5 && !strcmp(name + len - 5, ".qimg");
}

void qi_random(void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		/* Interrupted, or a kernel that is not ready: try again. */
		if (n <= 0)
			continue;
		p += n;
		len -= (size_t)n;
	}
}
