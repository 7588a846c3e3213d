/* SPDX-License-Identifier: MIT */
/* name.c - names of images */
#include <errno.h>

#include "lib/bytes.h"
#include "lib/name.h"
#include "tests/lib/tap.h"

static void test_good(void)
{
	static const struct {
		const char *name, *path, *format;
	} good[] = {
		{ "disk", "disk", NULL },
		{ "/a/b.qcow2", "/a/b.qcow2", NULL },
		{ "./a:b", "./a:b", NULL },
		{ "a:b", "a:b", NULL },
		{ "file:disk", "disk", NULL },
		{ "file:/a/b:c", "/a/b:c", NULL },
		{ "json:{\"file.filename\": \"d\"}", "d", NULL },
		{ "json:{\"filename\": \"d\", \"driver\": \"file\"}", "d",
		  "raw" },
		{ "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
		  "\"filename\":\"a b\"}}",
		  "a b", "qcow2" },
		{ "json:{\"driver\":\"qcow2\",\"file.driver\":\"file\","
		  "\"file.filename\":\"d\",\"read-only\":true}",
		  "d", "qcow2" },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(good); i++) {
		struct qi_error e = { "" };
		struct qi_name n;
		const char *f = good[i].format;
		bool fine = !qi_name_parse(&n, good[i].name, &e);

		fine = fine && !strcmp(n.path, good[i].path) &&
		       (f ? n.format && !strcmp(n.format, f) : !n.format);
		ok(fine, "%s%s", good[i].name, e.text);
		qi_name_clear(&n);
	}
}

static void test_bad(void)
{
	static const char *const bad[] = {
		"",
		"file:",
		"nbd://host/disk",
		"http://host/disk",
		"json:",
		"json:{",
		"json:[]",
		"json:\"disk\"",
		"json:{}",
		"json:{\"driver\":\"qcow2\"}",
		"json:{\"file\":\"node\"}",
		"json:{\"file.filename\":7}",
		"json:{\"file.filename\":\"a\",\"file.filename\":\"b\"}",
		"json:{\"file.driver\":\"nbd\",\"file.filename\":\"a\"}",
		"json:{\"file\":{\"driver\":\"nbd\",\"filename\":\"a\"}}",
		"json:{\"file\":{\"driver\":\"file\"}}",
		"json:{\"file\":{\"filename\":\"a\",\"x\":1}}",
		("json:{\"driver\":\"qcow2\",\"backing\":null,"
		 "\"file.filename\":\"a\"}"),
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(bad); i++) {
		struct qi_error e = { "" };
		struct qi_name n;

		ok(qi_name_parse(&n, bad[i], &e) < 0 && e.text[0] && !n.path &&
			   !n.format,
		   "refused: '%s'", bad[i]);
	}
}

static void test_beside(void)
{
	static const struct {
		const char *overlay, *name, *path;
	} cases[] = {
		{ "top", "base", "base" },
		{ "dir/top", "base", "dir/base" },
		{ "/dir/top", "sub/base", "/dir/sub/base" },
		{ "/top", "base", "/base" },
		{ "dir/top", "/base", "/base" },
		{ "dir/top", "../base", "dir/../base" },
		{ "dir/top", "file:base", "file:base" },
		{ "dir/top", "json:{}", "json:{}" },
		{ "dir/top", "./a:b", "dir/./a:b" },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(cases); i++) {
		QI_AUTOFREE char *got =
			qi_name_beside(cases[i].overlay, cases[i].name);

		ok(got && !strcmp(got, cases[i].path), "'%s' in '%s' is '%s'",
		   cases[i].name, cases[i].overlay, cases[i].path);
	}
}

int main(void)
{
	test_good();
	test_bad();
	test_beside();
	return tap_done();
}
