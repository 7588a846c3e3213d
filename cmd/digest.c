// SPDX-License-Identifier: MIT
/*
 * digest.c - qimg digest: one hash of all that a guest reads
 */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *format;
	unsigned threads;
	bool force_share;
	int output, progress, wait;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the images (found by probing)"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* All are locked before the first is read: they are of one moment. */
static int open_all(struct qi_graph *g, char **paths, struct qi_node **nodes,
		    size_t count, struct qi_error *e)
{
	const struct qi_open how = {
		.format = opt.format,
		.access = QI_ACCESS_READ,
		.force_share = opt.force_share,
	};

	for (size_t i = 0; i < count; i++) {
		int ret = qi_graph_add(g, paths[i], &how, &nodes[i], e);

		if (ret < 0)
			return ret;
	}
	return qi_graph_lock(g, opt.wait, e);
}

static void print(struct qi_json *j, const char *path, struct qi_node *n,
		  const struct qi_hash *digest)
{
	QI_AUTO_TEXT char *safe = qi_safe(path);
	char hex[QI_HASH_TEXT];

	qi_hash_format(digest, hex);
	if (opt.output == QI_OUTPUT_JSON)
		qi_json_element(j,
				json_pack("{s:o, s:o, s:s}", "filename",
					  qi_json_text(path), "virtual-size",
					  qi_json_uint(qi_node_facts(n)->size),
					  "digest", hex));
	else
		printf("%s  %s\n", hex, safe);
}

static int digest_all(struct qi_json *j, char **paths, struct qi_node **nodes,
		      size_t count, struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < count && ret >= 0; i++) {
		struct qi_progress p =
			qi_progress_start(opt.progress, "digest");
		struct qi_hash digest;

		ret = qi_digest(nodes[i], opt.threads, &p, &digest, e);
		qi_progress_end(ret);
		if (ret >= 0)
			print(j, paths[i], nodes[i], &digest);
	}
	return ret;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	size_t count = (size_t)argc;
	struct qi_node **nodes =
		qi_xrealloc(NULL, count * sizeof(struct qi_node *));
	struct qi_error e = { "" };
	struct qi_json j;
	int ret = open_all(g, argv, nodes, count, &e);

	if (ret >= 0 && opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_list_begin(&j, "images");
		ret = digest_all(&j, argv, nodes, count, &e);
		qi_json_end(&j, ret, &e);
	} else if (ret >= 0) {
		ret = digest_all(NULL, argv, nodes, count, &e);
	}
	free(nodes);
	return ret < 0 ? qi_report(ret, &e) : QI_EXIT_OK;
}

const struct qi_command qi_command_digest = {
	.name = "digest",
	.summary = "print one hash of all that a guest reads",
	.synopsis = QI_LINES("[-f FMT] [OPTION]... IMAGE..."),
	.options = options,
	.examples = QI_LINES("qimg digest disk.raw disk.qcow2"),
	.min_args = 1,
	.max_args = QI_ARGS_ANY,
	.complete = QI_COMPLETE_FILE,
	.run = run,
};
