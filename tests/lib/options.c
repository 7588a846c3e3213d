/* SPDX-License-Identifier: MIT */
/* options.c - sizes as people write them, and option lists after -o */
#include "lib/format.h"
#include "tests/lib/tap.h"

static void test_good_sizes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "1", 1 },
		{ "512", 512 },
		{ "010", 10 }, /* no octal numbers, as in qemu-img */
		{ "0x10", 16 },
		{ "1b", 1 },
		{ "1k", 1024 },
		{ "1K", 1024 },
		{ "3M", 3ull << 20 },
		{ "2g", 2ull << 30 },
		{ "1T", 1ull << 40 },
		{ "1P", 1ull << 50 },
		{ "7E", 7ull << 60 },
		{ "1.5G", 3ull << 29 },
		{ "0.5k", 512 },
		{ "1.25M", 1310720 },
		{ "9223372036854775807", INT64_MAX },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(good); i++) {
		uint64_t got = 99;

		ok(qi_parse_size(good[i].text, &got) && got == good[i].bytes,
		   "'%s' is %llu", good[i].text,
		   (unsigned long long)good[i].bytes);
	}
}

static void test_bad_sizes(void)
{
	static const char *const bad[] = {
		"",	 "k",	 "-1",	   "+1",    " 1",
		"1 ",	 "1kk",	 "1kb",	   "1x",    "1.5",
		"1.",	 "1.k",	 ".5k",	   "1..5k", "1.5e3k",
		"8E",	 "16E",	 "1e3",	   "0x",    "99999999999999999999",
		"1.5.k", "1,5k", "0x1.8k", "nan",   "9223372036854775808",
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(bad); i++) {
		uint64_t got;

		ok(!qi_parse_size(bad[i], &got), "'%s' is no size", bad[i]);
	}
}

static const struct qi_format_option known[] = {
	{ "size", "size", "" },
	{ "name", "str", "" },
	{ "lazy", "bool", "" },
	{ NULL, NULL, NULL },
};

static bool has(const struct qi_options *o, const char *name, const char *text)
{
	const char *got = qi_options_get(o, name);

	return got && text ? !strcmp(got, text) : got == text;
}

static void test_lists(void)
{
	struct qi_error e = { "" };
	struct qi_options *o = NULL;
	uint64_t n = 0;
	bool on = false;

	ok(!qi_options_parse(&o, NULL, known, "fmt", &e) &&
		   has(o, "size", NULL),
	   "no list is an empty one");
	qi_options_free(o);
	ok(!qi_options_parse(&o, "size=1M,name=a,,b=c,lazy,size=2M", known,
			     "fmt", &e),
	   "a list");
	ok(has(o, "name", "a,b=c"), "doubled commas are one");
	ok(!qi_options_get_size(o, "size", 5, &n, &e) && n == 2 << 20,
	   "the last one of a name counts");
	ok(has(o, "lazy", "on") &&
		   !qi_options_get_bool(o, "lazy", false, &on, &e) && on,
	   "a name alone is name=on");
	ok(qi_options_get_bool(o, "size", false, &on, &e) < 0 &&
		   strstr(e.text, "'2M' is neither on nor off"),
	   "what is not on or off is refused");
	ok(qi_options_get_size(o, "lazy", 5, &n, &e) < 0 &&
		   strstr(e.text, "option 'lazy': 'on' is not a size"),
	   "what is not a size is refused");
	qi_options_free(o);
	o = NULL;
	ok(!qi_options_get_size(o, "size", 5, &n, &e) && n == 5 &&
		   !qi_options_get_bool(o, "lazy", true, &on, &e) && on,
	   "what is not given has its default");
	ok(qi_options_parse(&o, "size=1,what=2", known, "fmt", &e) < 0 &&
		   strstr(e.text, "unknown option 'what': format 'fmt'"),
	   "an unknown option is refused by name");
	ok(qi_options_parse(&o, "size=1,,", NULL, "fmt", &e) < 0,
	   "a format without options has none");
}

static void test_long_list(void)
{
	char text[8 * 65 + 1] = "";
	struct qi_options *o;
	struct qi_error e;

	for (size_t i = 0; i < 64; i++)
		memcpy(&text[i * 7], "name=x,", 7);
	ok(!qi_options_parse(&o, text, known, "fmt", &e), "64 options");
	qi_options_free(o);
	memcpy(&text[(size_t)64 * 7], "name=y", 6);
	ok(qi_options_parse(&o, text, known, "fmt", &e) < 0,
	   "65 options are too many");
}

int main(void)
{
	test_good_sizes();
	test_bad_sizes();
	test_lists();
	test_long_list();
	return tap_done();
}
