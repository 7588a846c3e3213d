/* SPDX-License-Identifier: MIT */
/* files.c - lists of files, as a folder has them */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "lib/files.h"
#include "lib/format.h"
#include "lib/name.h"

void qi_files_free(struct qi_files *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->path[i]);
	free(f->path);
	*f = (struct qi_files){ 0 };
}

bool qi_is_full(size_t count)
{
	return (count & (count - 1)) == 0;
}

int qi_files_add(struct qi_files *f, const char *path, struct qi_error *e)
{
	if (qi_is_full(f->count)) {
		char **p = realloc(f->path, (2 * f->count + 1) * sizeof(*p));

		if (!p)
			return qi_no_memory(e);
		f->path = p;
	}
	f->path[f->count] = strdup(path);
	if (!f->path[f->count])
		return qi_no_memory(e);
	f->count++;
	return 0;
}

void qi_files_text(const struct qi_files *f, char *text, size_t len)
{
	/* For the end of the sentence. */
	size_t room = len - 32, used = 0, i;

	text[0] = '\0';
	for (i = 0; i < f->count; i++) {
		bool last = i && i + 1 == f->count;
		int n = snprintf(text + used, room - used, "%s'%s'",
				 last ? " and " :
				 i    ? ", " :
					"",
				 f->path[i]);

		if (n < 0 || (size_t)n >= room - used)
			break;
		used += (size_t)n;
	}
	if (i < f->count)
		snprintf(text + used, len - used, "%s%zu %s", i ? " and " : "",
			 f->count - i, i ? "more" : "images");
}

/* Does its signature say that the file is an image (of more than raw)? */
static bool is_image(const char *path)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	const struct qi_format *format;
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) &&
	       !qi_file_open(&f, path, false, NULL) &&
	       !qi_file_probe(f, &format, NULL) &&
	       format != qi_format_find("raw");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int qi_cannot_read_folder(const char *dir, struct qi_error *e)
{
	return qi_fail(e, errno, "cannot read folder '%s': %s", dir,
		       strerror(errno));
}

/* Is it a symbolic link that leads nowhere? */
static bool is_broken_link(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISLNK(st.st_mode) && stat(path, &st) &&
	       (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
}

static int list_folder(const char *dir, bool (*is_wanted)(const char *path),
		       struct qi_files *out, struct qi_error *e)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	int ret = 0;

	*out = (struct qi_files){ 0 };
	if (!d)
		return qi_cannot_read_folder(dir, e);
	while (!ret && (entry = readdir(d))) {
		QI_AUTOFREE char *path = NULL;

		if (qi_path_is_temporary(entry->d_name))
			continue;
		path = qi_path_join(dir, entry->d_name);
		if (!path)
			ret = qi_no_memory(e);
		else if (is_wanted(path))
			ret = qi_files_add(out, path, e);
	}
	closedir(d);
	if (ret)
		qi_files_free(out);
	else if (out->count)
		qsort(out->path, out->count, sizeof(char *), by_name);
	return ret;
}

int qi_folder_images(const char *dir, struct qi_files *out, struct qi_error *e)
{
	return list_folder(dir, is_image, out, e);
}

int qi_folder_broken_links(const char *dir, struct qi_files *out,
			   struct qi_error *e)
{
	return list_folder(dir, is_broken_link, out, e);
}
