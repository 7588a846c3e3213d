/* SPDX-License-Identifier: MIT */
/*
 * rules.h - what may differ: the file `differences`
 *
 * A name at the start of a line, then indented lines: why, and what is passed
 * over. A rule is a field and /REGEX/REPLACEMENT/, done to both texts before
 * they are compared, or a field alone, which then may be anything. The rules
 * named `always` are for all cases; others are for those with @NAME.
 */
#ifndef ALIKE_RULES_H
#define ALIKE_RULES_H

#include <regex.h>

#include "tests/cmd/qemu-img/alike/table.h"

#define MAX_RULES 256
#define MAX_NAMES 64

static const char *const fields[] = { "stdout", "stderr", "code",    "files",
				      "bytes",	"room",	  "content", "check",
				      "info",	"map",	  "bitmaps" };

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

static struct rule {
	size_t name;
	const char *field;
	bool is_whole; /* no regex */
	regex_t regex;
	char *replacement; /* \1 to \9 are what the groups have */
} rules[MAX_RULES];
static size_t rule_count;

/* names[0] is `always`. */
static struct name {
	char *text;
	bool has_reason;
	bool wanted;	/* the case at hand has it */
	bool met;	/* ... and differs so */
	bool may;	/* it need not: other cases of the line do */
	bool met_once;	/* in the line at hand */
	unsigned lines; /* that differ so, in all cases */
} names[MAX_NAMES];
static size_t name_count;

/*
 * Cuts off and returns what is before the next `mark` without a backslash; \n
 * in it becomes a newline.
 */
static char *cut_at(char **text, char mark)
{
	char *start = *text, *p = start;

	for (; *p && *p != mark; p++) {
		if (*p != '\\' || !p[1])
			continue;
		if (*++p == 'n' || *p == 'r') {
			p[-1] = *p == 'n' ? '\n' : '\r';
			memmove(p, p + 1, strlen(p));
			p--;
		}
	}
	if (!*p)
		die("a rule lacks its last mark");
	*p = '\0';
	*text = p + 1;
	return start;
}

static void add_rule(const char *field, char *text)
{
	struct rule *r = &rules[rule_count++];
	char mark = *text;

	if (rule_count == MAX_RULES)
		die("too many rules");
	r->name = name_count - 1;
	r->field = field;
	r->is_whole = !mark;
	if (r->is_whole)
		return;
	text++;
	if (regcomp(&r->regex, cut_at(&text, mark), REG_EXTENDED | REG_NEWLINE))
		die("a rule has a bad regex");
	r->replacement = format("%s", cut_at(&text, mark));
}

static void read_rule(char *line)
{
	size_t len;

	line += strspn(line, " \t");
	len = strcspn(line, " \t");
	for (size_t i = 0; i < FIELDS; i++) {
		char *rest = line + len;

		if (strlen(fields[i]) != len || strncmp(line, fields[i], len))
			continue;
		rest += strspn(rest, " \t");
		if (*rest && !ispunct((unsigned char)*rest))
			break;
		add_rule(fields[i], rest);
		return;
	}
	names[name_count - 1].has_reason = true;
}

static void read_rules(const char *path)
{
	FILE *f = fopen(path, "r");
	unsigned number = 0;
	char *line;

	if (!f)
		die(path);
	while ((line = next_line(f, &number))) {
		if (isspace((unsigned char)*line) && name_count) {
			read_rule(line);
			free(line);
		} else {
			if (name_count == MAX_NAMES)
				die("too many names");
			names[name_count++].text = line;
		}
	}
	fclose(f);
	for (size_t i = 0; i < name_count; i++) {
		if (!names[i].has_reason)
			die("a difference lacks its reason");
	}
}

static void free_rules(void)
{
	for (size_t i = 0; i < rule_count; i++) {
		free(rules[i].replacement);
		if (!rules[i].is_whole)
			regfree(&rules[i].regex);
	}
	for (size_t i = 0; i < name_count; i++)
		free(names[i].text);
}

/* ------------------------------------------------------- using them */

static void put_replacement(FILE *f, const struct rule *r, const char *text,
			    const regmatch_t *groups)
{
	for (const char *p = r->replacement; *p; p++) {
		const regmatch_t *g;

		if (*p != '\\' || !isdigit((unsigned char)p[1])) {
			fputc(*p, f);
			continue;
		}
		g = &groups[*++p - '0'];
		if (g->rm_so >= 0)
			fwrite(text + g->rm_so, 1,
			       (size_t)(g->rm_eo - g->rm_so), f);
	}
}

/* The text after the rule; frees the one before it. */
static char *apply_rule(const struct rule *r, char *text)
{
	regmatch_t groups[10];
	char *out, *p = text;
	size_t size;
	FILE *f;

	if (r->is_whole) {
		*text = '\0';
		return text;
	}
	f = open_memstream(&out, &size);
	if (!f)
		die("open_memstream");
	while (*p) {
		int flags = p > text && p[-1] != '\n' ? REG_NOTBOL : 0;

		if (regexec(&r->regex, p, 10, groups, flags) ||
		    groups[0].rm_eo == groups[0].rm_so)
			break;
		fwrite(p, 1, (size_t)groups[0].rm_so, f);
		put_replacement(f, r, p, groups);
		p += groups[0].rm_eo;
	}
	fputs(p, f);
	fclose(f);
	free(text);
	return out;
}

/* Applies the rules of one name to both; true when one of them changed. */
static bool apply_rules(size_t name, const char *field, char **a, char **b)
{
	char *was_a = format("%s", *a), *was_b = format("%s", *b);
	bool changed;

	for (size_t i = 0; i < rule_count; i++) {
		if (rules[i].name != name || strcmp(rules[i].field, field))
			continue;
		*a = apply_rule(&rules[i], *a);
		*b = apply_rule(&rules[i], *b);
	}
	changed = strcmp(*a, was_a) || strcmp(*b, was_b);
	free(was_a);
	free(was_b);
	return changed;
}

/* Are the texts equal, or do they differ as names of this case allow? */
static bool alike(const char *field, const char *theirs, const char *ours)
{
	bool by_name[MAX_NAMES] = { false };
	char *a, *b;
	bool good;

	if (!strcmp(theirs, ours))
		return true;
	a = format("%s", theirs);
	b = format("%s", ours);
	for (size_t i = 0; i < name_count && strcmp(a, b); i++) {
		if (!i || names[i].wanted)
			by_name[i] = apply_rules(i, field, &a, &b);
	}
	good = !strcmp(a, b);
	for (size_t i = 1; good && i < name_count; i++)
		names[i].met |= by_name[i];
	free(a);
	free(b);
	return good;
}

#endif
