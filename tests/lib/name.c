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
		{ "json:{'file': {'filename': 'a\"\\'b'}}", "a\"'b", NULL },
		{ "null-co://", "null-co://", NULL },
		{ "nbd:unix:/s:exportname=a b", "nbd+unix:///a b?socket=/s",
		  NULL },
		{ "nbd://h/a%20b", "nbd://h:10809/a b", NULL },
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
		"nbd:",
		"nbd:host",
		"nbd+unix:///disk",
		"null-co://disk",
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
		"json:{\"file.driver\":\"http\",\"file.filename\":\"a\"}",
		"json:{\"file\":{\"driver\":\"nbd\",\"filename\":\"a\"}}",
		"json:{\"file\":{\"driver\":\"file\"}}",
		"json:{\"file\":{\"filename\":\"a\",\"x\":1}}",
		"json:{\"file.filename\":\"a\",\"read-only\":\"x\"}",
		"json:{\"file.filename\":\"a\",\"file.locking\":1}",
		"json:{\"file.filename\":\"a\",\"node-name\":\"1\"}",
		"json:{\"driver\":\"null-co\",\"size\":-1}",
		"json:{\"driver\":\"nbd\"}",
		"json:{\"driver\":\"nbd\",\"path\":\"a\",\"host\":\"b\"}",
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(bad); i++) {
		struct qi_error e = { "" };
		struct qi_name n;

		ok(qi_name_parse(&n, bad[i], &e) < 0 && e.text[0] && !n.path &&
			   !n.format,
		   "refused: '%s'", bad[i]);
	}
}

/* What --image-opts says, and what qemu-img shows of it. */
static void test_lists(void)
{
	static const struct {
		const char *list, *format, *shown;
	} good[] = {
		{ "driver=qcow2,file.filename=a,,b", "qcow2", "a,b" },
		{ "file.driver=file,file.filename=a:b", "raw", "./a:b" },
		{ "driver=file,filename=a,locking=off", "raw", "a" },
		{ "driver=qcow2,file.filename=a,driver=raw", "raw", "a" },
		{ "driver=raw,offset=1k,size=512,file.filename=a", "raw",
		  "json:{\"offset\": \"1k\", \"driver\": \"raw\", "
		  "\"size\": \"512\", \"file\": {\"driver\": \"file\", "
		  "\"filename\": \"a\"}}" },
		{ "driver=null-co,size=1M", "raw",
		  "json:{\"driver\": \"null-co\", \"size\": \"1M\"}" },
		{ "driver=raw,file.driver=null-co", "raw", "null-co://" },
		{ "driver=nbd,path=/s,export=e", "raw",
		  "nbd+unix:///e?socket=/s" },
		{ "driver=nbd,server.type=inet,server.host=h,server.port=1",
		  "raw", "nbd://h:1" },
		{ "driver=qcow2,file.filename=a,backing.driver=raw,"
		  "backing.file.filename=b,l2-cache-size=1M",
		  "qcow2", "a" },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(good); i++) {
		QI_AUTOFREE char *shown = NULL;
		struct qi_error e = { "" };
		struct qi_name n;
		const char *f = good[i].format;
		int ret = qi_name_parse_as(&n, good[i].list, QI_NAME_LIST, NULL,
					   &e);

		if (!ret)
			ret = qi_name_settle(&n, f, false, NULL, &e);
		if (!ret)
			ret = qi_name_check_rest(&n, f, &e);
		shown = ret ? NULL : qi_name_shown(&n);
		ok(shown && !strcmp(shown, good[i].shown) &&
			   (!n.format || !strcmp(n.format, f)),
		   "%s: %s%s", good[i].list, shown ? shown : "", e.text);
		qi_name_clear(&n);
	}
}

/* Words of qemu-img for what is wrong. */
static void test_words(void)
{
	static const struct {
		const char *name;
		unsigned flags;
		const char *stock;
	} bad[] = {
		{ "a:b", QI_NAME_STRICT, "Unknown protocol 'a'" },
		{ "file:", 0, "The 'file' block driver requires a file name" },
		{ "", QI_NAME_LIST, "Must specify either driver or file" },
		{ "a", QI_NAME_LIST,
		  "Cannot find device='a' nor node-name='a'" },
		{ "driver=x", QI_NAME_LIST, "Unknown driver 'x'" },
		{ "driver=raw", QI_NAME_LIST,
		  "A block device must be specified for \"file\"" },
		{ "file.filename=a,file.x=1", QI_NAME_LIST,
		  "Block protocol 'file' doesn't support the option 'x'" },
		{ "json:{'file.filename':'a','discard':'x'}", 0,
		  "Invalid discard option" },
		{ "json:{'a':1,'a':2}", 0,
		  "Could not parse the JSON options: JSON parse error, "
		  "duplicate key" },
		{ "json:[]", 0, "Invalid JSON object given" },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(bad); i++) {
		struct qi_error e = { "" };
		struct qi_name n;

		ok(qi_name_parse_as(&n, bad[i].name, bad[i].flags, NULL, &e) <
				   0 &&
			   !strcmp(e.stock, bad[i].stock),
		   "'%s': %s", bad[i].name, e.stock);
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
	test_lists();
	test_words();
	test_beside();
	return tap_done();
}
