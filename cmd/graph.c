// SPDX-License-Identifier: MIT
/*
 * graph.c - qimg graph: drives, images, who backs whom, and their bitmaps
 *
 * Shared images are drawn once: roots at the top, overlays below them.
 */
#include <sys/stat.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/tree.h"

static const char *const output_choices[] = { "human", "json", "dot", NULL };

static struct {
	struct qi_list scan;
	bool force_share;
	int output;
} opt;

static const struct qi_option options[] = {
	QI_OPT_LIST("scan", 0, "FOLDER", &opt.scan, QI_COMPLETE_FOLDER,
		    "add all images of a folder"),
	{ .name = "output",
	  .arg = "human|json|dot",
	  .help = "a tree for people, JSON or a Graphviz graph",
	  .type = QI_OPTION_CHOICE,
	  .value = &opt.output,
	  .choices = output_choices },
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPTION_END,
};

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int exit_code(const struct qi_tree *t)
{
	if (t->broken_count && !t->node_count)
		return qi_exit_code(t->broken[0].ret);
	if (t->broken_count)
		return QI_EXIT_WARNING;
	for (size_t i = 0; i < t->node_count; i++) {
		if (t->nodes[i].error)
			return QI_EXIT_WARNING;
	}
	return QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_tree tree = {
		.graph = g,
		.how = { .access = QI_ACCESS_NONE,
			 .force_share = opt.force_share },
	};
	int code;

	if (!argc && !opt.scan.count)
		return qi_usage("graph: give a path or --scan");
	for (int i = 0; i < argc; i++) {
		if (is_folder(argv[i]))
			qi_tree_add_folder(&tree, argv[i]);
		else
			qi_tree_add(&tree, argv[i]);
	}
	for (size_t i = 0; i < opt.scan.count; i++)
		qi_tree_add_folder(&tree, opt.scan.item[i]);
	qi_tree_finish(&tree);
	if (opt.output == QI_OUTPUT_JSON)
		qi_tree_print_json(&tree);
	else if (opt.output == QI_OUTPUT_DOT)
		qi_tree_print_dot(&tree);
	else
		qi_tree_print_text(&tree);
	code = exit_code(&tree);
	qi_tree_free(&tree);
	return code;
}

const struct qi_command qi_command_graph = {
	.name = "graph",
	.summary = "show drives, images, who backs whom, and bitmaps",
	.synopsis = QI_LINES(
		"[--scan FOLDER]... [--output human|json|dot] PATH..."),
	.options = options,
	.examples =
		QI_LINES("qimg graph vm.qcow2",
			 "qimg graph --output dot /var/lib/images | dot -Tsvg"),
	.max_args = QI_ARGS_ANY,
	.complete = QI_COMPLETE_FILE,
	.run = run,
};
