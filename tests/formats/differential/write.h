/* SPDX-License-Identifier: MIT */
/*
 * write.h - guest writes for differential.c: one text for both tools
 *
 * qemu-io takes "write -P 7 0 512" and its like as they are. So does this
 * program when it is called with "write IMAGE TEXT...": it then writes by the
 * library, as a process of its own, which may crash.
 */
#ifndef DIFFERENTIAL_WRITE_H
#define DIFFERENTIAL_WRITE_H

#include "lib/qimg.h"
#include "tests/formats/differential/model.h"

#define MAX_REQUESTS 4

enum kind { DATA, NOISE, COMPRESSED, PACKED_NOISE, ZERO, UNMAP, DISCARD };

/* As qemu-io has them; in the order of enum kind. */
static const char *const kind_text[] = {
	"write -P", "write -s noise", "write -c -P", "write -c -s noise",
	"write -z", "write -z -u",    "discard",
};

struct request {
	enum kind kind;
	uint64_t off, len;
	unsigned value;
	char text[80];
};

static bool is_compressed(const struct request *r)
{
	return r->kind == COMPRESSED || r->kind == PACKED_NOISE;
}

/* ----------------------------------------------------------- the writer */

/* The words of one text, as a write; data is malloc'd. */
static bool parse_request(char *text, struct qi_write *w)
{
	char *rest, *word = strtok_r(text, " ", &rest);
	const char *source = NULL, *number[2];
	uint8_t *data = NULL;
	size_t numbers = 0;
	int value = 0;

	*w = (struct qi_write){ .type = strcmp(word, "discard") ?
						QI_WRITE_DATA :
						QI_WRITE_DISCARD };
	while ((word = strtok_r(NULL, " ", &rest))) {
		if (!strcmp(word, "-c"))
			w->type = QI_WRITE_COMPRESSED;
		else if (!strcmp(word, "-z"))
			w->type = QI_WRITE_ZERO;
		else if (!strcmp(word, "-u"))
			w->type = QI_WRITE_UNMAP;
		else if (!strcmp(word, "-P"))
			value = atoi(strtok_r(NULL, " ", &rest));
		else if (!strcmp(word, "-s"))
			source = strtok_r(NULL, " ", &rest);
		else if (numbers < 2)
			number[numbers++] = word;
	}
	if (numbers < 2)
		return false;
	w->off = strtoull(number[0], NULL, 10);
	w->len = strtoull(number[1], NULL, 10);
	if (w->type != QI_WRITE_DATA && w->type != QI_WRITE_COMPRESSED)
		return true;
	data = malloc(w->len + 1);
	if (!data)
		die("malloc");
	memset(data, value, w->len);
	if (source) {
		size_t n, len;
		char *from = slurp(source, &len);

		for (n = 0; n < w->len; n += len)
			memcpy(data + n, from, qi_min(len, w->len - n));
		free(from);
	}
	w->data = data;
	return true;
}

/* differential write IMAGE TEXT... */
static int writer(int argc, char **argv)
{
	struct qi_open how = { .format = "qcow2", .access = QI_ACCESS_WRITE };
	struct qi_write w[MAX_REQUESTS];
	struct qi_error e = { "" };
	struct qi_graph *g = NULL;
	struct qi_node *n;
	size_t count = 0;
	int ret;

	while (count < MAX_REQUESTS && (int)count + 3 < argc) {
		if (!parse_request(argv[count + 3], &w[count]))
			return 2;
		count++;
	}
	ret = qi_graph_new(&g);
	if (!ret)
		ret = qi_graph_add(g, argv[2], &how, &n, &e);
	if (!ret)
		ret = qi_graph_lock(g, 0, &e);
	if (!ret)
		ret = qi_node_write(n, w, count, &e);
	qi_graph_free(g);
	while (count)
		free((void *)(uintptr_t)w[--count].data);
	if (ret < 0)
		fprintf(stderr, "%s\n", e.text);
	return ret < 0;
}

/* ------------------------------------------------------------- requests */

/* A range of the disk: of sectors, of clusters, or of bytes. */
static void random_range(struct request *r, uint64_t size, uint64_t unit)
{
	uint64_t units = qi_div_up(size, unit), first = below(units);
	uint64_t most = qi_max((one_in(4) ? size / 4 : 70000) / unit, 1);
	uint64_t count = 1 + below(one_in(2) ? qi_min(most, 4) : most);

	r->off = first * unit;
	r->len = qi_min(count * unit, size - r->off);
}

static void random_request(struct request *r, uint64_t size, uint64_t cluster)
{
	static const enum kind kinds[] = { DATA,       DATA,  DATA,
					   NOISE,      NOISE, COMPRESSED,
					   COMPRESSED, ZERO,  PACKED_NOISE,
					   ZERO,       UNMAP, DISCARD,
					   DISCARD };
	uint64_t unit = SECTOR;
	const char *value = "";

	r->kind = kinds[below(sizeof(kinds) / sizeof(kinds[0]))];
	r->value = 1 + (unsigned)below(255);
	if (one_in(3) || is_compressed(r))
		unit = cluster;
	else if (r->kind != DISCARD && one_in(6))
		unit = 1;
	random_range(r, size, unit);
	/* QEMU's tool takes one cluster each time. */
	if (is_compressed(r))
		r->len = qi_min(cluster, size - r->off);
	else if (r->kind == DATA || r->kind == NOISE)
		r->len = qi_min(r->len, 1u << 20);
	if (r->kind == DATA || r->kind == COMPRESSED)
		value = text_of(r->value);
	snprintf(r->text, sizeof(r->text), "%s %s %" PRIu64 " %" PRIu64,
		 kind_text[r->kind], value, r->off, r->len);
}

/*
 * Discarded is what the clusters inside the range hold. They read as zero
 * then, but where another layer or a raw data file might show through, it is
 * the tool that decides.
 */
static void apply_discard(const struct request *r, uint8_t *guest,
			  uint64_t size, uint64_t cluster, bool is_strict)
{
	uint64_t start = qi_div_up(r->off, cluster) * cluster;
	uint64_t end = r->off + r->len;

	if (end != size)
		end = end / cluster * cluster;
	if (start >= end)
		return;
	if (is_strict)
		memset(guest + start, 0, end - start);
	for (uint64_t s = start / SECTOR; s < end / SECTOR && !is_strict; s++)
		d.loose[s] = true;
}

static void apply(const struct request *r, uint8_t *guest)
{
	switch (r->kind) {
	case DATA:
	case COMPRESSED:
		memset(guest + r->off, (int)r->value, r->len);
		break;
	case NOISE:
	case PACKED_NOISE:
		for (uint64_t i = 0; i < r->len; i++)
			guest[r->off + i] = noise[i % sizeof(noise)];
		break;
	case ZERO:
	case UNMAP:
		memset(guest + r->off, 0, r->len);
		break;
	case DISCARD:
		break;
	}
}

static int send_requests(enum tool tool, const char *path,
			 const struct request *r, size_t count)
{
	const char *argv[9 + 2 * MAX_REQUESTS];
	size_t n = 0;

	if (tool == OURS) {
		argv[n++] = self;
		argv[n++] = "write";
		argv[n++] = path;
	} else {
		argv[n++] = "qemu-io";
		argv[n++] = "-f";
		argv[n++] = "qcow2";
		argv[n++] = "-d";
		argv[n++] = "unmap";
		argv[n++] = "-t";
		argv[n++] = "unsafe";
	}
	for (size_t i = 0; i < count; i++) {
		if (tool == QEMU)
			argv[n++] = "-c";
		argv[n++] = r[i].text;
	}
	if (tool == QEMU)
		argv[n++] = path;
	argv[n] = NULL;
	return command_argv(argv);
}

#endif
