/* SPDX-License-Identifier: MIT */
/* known.c - keys of nodes: which there are, and the values that they take */
#include <ctype.h>
#include <errno.h>

#include "lib/bytes.h"
#include "lib/format.h"
#include "lib/known.h"

enum kind { ANY, BOOL, SIZE, NUMBER, CHOICE };

struct known {
	const char *name;
	enum kind kind;
	const char *choices; /* with a blank before and after each */
	/* Of another value, which is between these two, or not said: NULL. */
	const char *stock, *stock_end;
};

#define INVALID "invalid parameter value: ", ""
#define NO_TEMPLATE                                                    \
	"Unsupported value '",                                         \
		"' for qcow2 option 'overlap-check'. Allowed are any " \
		"of the following: none, constant, cached, all"

static const struct known of_node[] = {
	{ "auto-read-only", BOOL },
	{ "cache.direct", BOOL },
	{ "cache.no-flush", BOOL },
	{ "detect-zeroes", CHOICE, " off on unmap ", INVALID },
	{ "discard", CHOICE, " ignore off unmap on ", "Invalid discard option",
	  NULL },
	{ NULL, ANY },
};

static const struct known of_file[] = {
	{ "aio", CHOICE, " threads native io_uring ", INVALID },
	{ "aio-max-batch", NUMBER },
	{ "drop-cache", BOOL },
	{ "x-check-cache-dropped", BOOL },
	{ NULL, ANY },
};

static const struct known of_qcow2[] = {
	{ "cache-clean-interval", NUMBER },
	{ "cache-size", SIZE },
	{ "discard-no-unref", BOOL },
	{ "encrypt.key-secret", ANY },
	{ "l2-cache-entry-size", SIZE },
	{ "l2-cache-size", SIZE },
	{ "lazy-refcounts", BOOL },
	{ "overlap-check", CHOICE, " none constant cached all ", NO_TEMPLATE },
	{ "overlap-check.active-l1", BOOL },
	{ "overlap-check.active-l2", BOOL },
	{ "overlap-check.bitmap-directory", BOOL },
	{ "overlap-check.inactive-l1", BOOL },
	{ "overlap-check.inactive-l2", BOOL },
	{ "overlap-check.main-header", BOOL },
	{ "overlap-check.refcount-block", BOOL },
	{ "overlap-check.refcount-table", BOOL },
	{ "overlap-check.snapshot-table", BOOL },
	{ "overlap-check.template", CHOICE, " none constant cached all ",
	  NO_TEMPLATE },
	{ "pass-discard-other", BOOL },
	{ "pass-discard-request", BOOL },
	{ "pass-discard-snapshot", BOOL },
	{ "refcount-cache-size", SIZE },
	{ NULL, ANY },
};

static bool is_word_of(const char *text, const char *words)
{
	const size_t n = strlen(text);

	for (const char *p = strstr(words, text); n && p;
	     p = strstr(p + 1, text))
		if (p > words && p[-1] == ' ' && p[n] == ' ')
			return true;
	return false;
}

static int bad_value(const struct qi_key *k, const char *wants,
		     struct qi_error *e)
{
	return qi_stock(e,
			qi_fail(e, EINVAL, "option '%s': '%s' is not %s",
				k->name, k->text, wants),
			"Parameter '%s' expects %s", k->name, wants);
}

int qi_key_bool(const struct qi_key *k, bool *out, struct qi_error *e)
{
	if (qi_parse_bool(k->text, out))
		return 0;
	return bad_value(k, "'on' or 'off'", e);
}

int qi_key_size(const struct qi_key *k, uint64_t *out, struct qi_error *e)
{
	int ret;

	if (qi_parse_size(k->text, out))
		return 0;
	ret = bad_value(k, "a non-negative number below 2^64", e);
	return qi_stock(e, ret,
			"Parameter '%s' expects a non-negative number below "
			"2^64\nOptional suffix k, M, G, T, P or E means kilo-, "
			"mega-, giga-, tera-, peta-\nand exabytes, "
			"respectively.",
			k->name);
}

static int check_number(const struct qi_key *k, struct qi_error *e)
{
	const char *p = k->text;

	while (isdigit((unsigned char)*p))
		p++;
	return *p || p == k->text ? bad_value(k, "a number", e) : 0;
}

static int check(const struct qi_key *k, const struct known *known,
		 struct qi_error *e)
{
	uint64_t size;
	bool on;
	int ret;

	switch (known->kind) {
	case BOOL:
		return qi_key_bool(k, &on, e);
	case SIZE:
		return qi_key_size(k, &size, e);
	case NUMBER:
		return check_number(k, e);
	case CHOICE:
		if (is_word_of(k->text, known->choices))
			return 0;
		ret = qi_fail(e, EINVAL, "option '%s': '%s' is not one of:%.*s",
			      k->name, k->text, (int)strlen(known->choices) - 1,
			      known->choices);
		return qi_stock(e, ret, "%s%s%s", known->stock,
				known->stock_end ? k->text : "",
				known->stock_end ? known->stock_end : "");
	case ANY:
		break;
	}
	return 0;
}

static int take_known(struct qi_keys *k, const struct known *known,
		      struct qi_error *e)
{
	int ret = 0;

	for (; known->name && !ret; known++) {
		QI_AUTOKEY struct qi_key key = { 0 };

		if (qi_keys_take(k, known->name, &key))
			ret = check(&key, known, e);
	}
	return ret;
}

/* Names of nodes have no meaning here, but they have a form. */
static int take_node_name(struct qi_keys *k, struct qi_error *e)
{
	QI_AUTOKEY struct qi_key key = { 0 };
	const char *p;

	if (!qi_keys_take(k, "node-name", &key))
		return 0;
	p = key.text;
	while (isalnum((unsigned char)*p) ||
	       (p > key.text && *p && strchr("-._", *p)))
		p++;
	if (!*p && isalpha((unsigned char)key.text[0]) && p - key.text < 32)
		return 0;
	return qi_stock(e,
			qi_fail(e, EINVAL, "'%s' cannot be the name of a node",
				key.text),
			"Invalid node-name: '%s'", key.text);
}

int qi_known_of_node(struct qi_keys *k, struct qi_error *e)
{
	int ret = take_known(k, of_node, e);

	return ret ? ret : take_node_name(k, e);
}

int qi_known_of_file(struct qi_keys *k, struct qi_error *e)
{
	return take_known(k, of_file, e);
}

int qi_known_of_qcow2(struct qi_keys *k, struct qi_error *e)
{
	return take_known(k, of_qcow2, e);
}
