/* SPDX-License-Identifier: MIT */
/* join.c - parts of nodes as one disk: what it reads as, where it is zero */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/graph.h"
#include "tests/lib/tap.h"

#define MIB (1ull << 20)

/* An image of 4 MiB with a byte in one MiB of it. */
static struct qi_node *make(struct qi_graph *g, const char *path,
			    const char *format, unsigned index, int byte)
{
	const struct qi_create c = { .format = format, .size = 4 * MIB };
	const struct qi_open how = { .format = format,
				     .access = QI_ACCESS_WRITE };
	uint8_t *data = malloc(MIB);
	const struct qi_write w = { .type = QI_WRITE_COMPRESSED,
				    .off = index * MIB,
				    .len = MIB,
				    .data = data };
	const struct qi_write plain = { .off = index * MIB,
					.len = MIB,
					.data = data };
	struct qi_node *n;

	if (!data || qi_create_image(path, &c, NULL) ||
	    qi_graph_add(g, path, &how, &n, NULL) || qi_graph_lock(g, 0, NULL))
		abort();
	memset(data, byte, MIB);
	if (qi_node_write(n, strcmp(format, "raw") ? &w : &plain, 1, NULL))
		abort();
	free(data);
	return n;
}

/* Is it all `byte`, with the flags that go with that? */
static void test_run(struct qi_node *n, uint64_t off, uint64_t len, int byte)
{
	uint8_t *data = malloc(len);
	struct qi_scan *s;
	struct qi_extent x;
	bool fine = data && !qi_read(n, off, len, data, NULL);

	for (uint64_t i = 0; i < len && fine; i++)
		fine = data[i] == byte;
	free(data);
	if (qi_scan_new(&s, n, NULL, off, len))
		abort();
	fine = fine && qi_scan_next(s, &x, NULL) == 1 && x.off == off &&
	       x.len == len &&
	       x.flags ==
		       (QI_EXT_ALLOCATED | (byte ? QI_EXT_DATA : QI_EXT_ZERO));
	qi_scan_free(s);
	ok(fine, "%llu bytes of %d at %llu", (unsigned long long)len, byte,
	   (unsigned long long)off);
}

int main(void)
{
	struct qi_graph *g;
	struct qi_node *a, *b, *n, *whole;
	struct qi_error e = { "" };

	if (qi_graph_new(&g))
		abort();
	a = make(g, "a", "qcow2", 1, 17);
	b = make(g, "b", "raw", 0, 34);
	{
		const struct qi_slice parts[] = {
			{ a, 512, QI_NO_OFFSET }, /* 4 MiB - 512 */
			{ b, 4 * MIB, QI_NO_OFFSET },
			{ b, MIB / 2, MIB },
			{ a, 3 * MIB, 2 * MIB }, /* past its end */
			{ a, MIB + 3, 5 },
		};

		ok(!qi_join_node(g, parts, QI_ARRAY_SIZE(parts), &n, &e) &&
			   qi_node_facts(n)->size == 7 * MIB,
		   "size, in whole sectors%s", e.text);
	}
	test_run(n, 0, MIB - 512, 0);
	test_run(n, MIB - 512, MIB, 17);
	test_run(n, 2 * MIB - 512, 2 * MIB, 0);
	test_run(n, 4 * MIB - 512, MIB / 2, 34);
	test_run(n, 4 * MIB - 512 + MIB / 2, MIB / 2 + 2 * MIB, 0);
	test_run(n, 7 * MIB - 512, 5, 17);
	/* Backwards, and a part of a run. */
	test_run(n, 4 * MIB, 1000, 34);
	test_run(n, MIB, 1000, 17);
	{
		const struct qi_slice part = { n, MIB, 1000 };

		ok(!qi_join_node(g, &part, 1, &whole, &e), "of a joined one%s",
		   e.text);
	}
	test_run(whole, 10, 990, 17);
	ok(!qi_join_node(g, NULL, 0, &whole, &e) && !qi_node_facts(whole)->size,
	   "nothing is a disk as well%s", e.text);
	ok(qi_node_check_writable(n, &e) == -EACCES, "read only: %s", e.text);
	qi_graph_free(g);
	return tap_done();
}
