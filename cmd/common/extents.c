// SPDX-License-Identifier: MIT
/*
 * extents.c - which file holds which part of a disk, as text and JSON
 */
#include "cmd/common/extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cmd/common/print.h"

static const char *bool_text(unsigned flag)
{
	return flag ? "true" : "false";
}

static void print_text(const struct qi_extent *x)
{
	QI_AUTO_TEXT char *path = NULL;
	char offset[QI_HUMAN] = "compressed";

	/* Holes and zeroes have no place in a file. */
	if (!(x->flags & QI_EXT_DATA) || x->flags & QI_EXT_ZERO || !x->node)
		return;
	path = qi_safe(qi_node_data_path(x->node));
	if (!(x->flags & QI_EXT_COMPRESSED))
		snprintf(offset, sizeof(offset), "%#" PRIx64, x->host_off);
	printf("%#-16" PRIx64 "%#-16" PRIx64 "%-16s%s\n", x->off, x->len,
	       offset, path);
}

static void print_json(const struct qi_extent *x, bool first)
{
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
	       first ? "" : ",\n", x->off, x->len, x->depth,
	       bool_text(x->flags & QI_EXT_ALLOCATED),
	       bool_text(x->flags & QI_EXT_ZERO),
	       bool_text(x->flags & QI_EXT_DATA));
	if (x->host_off != QI_NO_OFFSET && !(x->flags & QI_EXT_COMPRESSED))
		printf(", \"offset\": %" PRIu64, x->host_off);
	putchar('}');
}

/* -ENOTSUP for what the text of qemu-img has no line for. */
static int check_plain(const struct qi_extent *x, struct qi_error *e)
{
	if (!(x->flags & QI_EXT_COMPRESSED))
		return 0;
	return qi_stock(
		e, qi_fail(e, ENOTSUP, "compressed data has no place to show"),
		"File contains external, encrypted or compressed "
		"clusters.");
}

static int print_all(struct qi_scan *s, enum qi_extents_form form,
		     struct qi_error *e)
{
	const bool json = form == QI_EXTENTS_JSON;
	struct qi_extent x;
	bool first = true;
	int ret;

	if (json)
		putchar('[');
	else
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to",
		       "File");
	while ((ret = qi_scan_next(s, &x, e)) > 0) {
		if (form == QI_EXTENTS_PLAIN && check_plain(&x, e))
			return -ENOTSUP;
		if (json)
			print_json(&x, first);
		else
			print_text(&x);
		first = false;
	}
	if (json)
		puts("]");
	return ret;
}

int qi_extents_print(struct qi_node *n, uint64_t off, uint64_t len,
		     enum qi_extents_form form, struct qi_error *e)
{
	struct qi_scan *scan;
	int ret = qi_chain_check_readable(n, e);

	if (ret < 0)
		return ret;
	/* It ends at the end of the disk, whatever was asked for. */
	ret = qi_scan_new(&scan, n, NULL, off, len);
	if (ret < 0)
		return qi_fail(e, -ret, "'%s': its extents cannot be listed",
			       qi_node_facts(n)->path);
	qi_scan_see_holes(scan);
	ret = print_all(scan, form, e);
	qi_scan_free(scan);
	return ret;
}
