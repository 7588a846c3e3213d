// SPDX-License-Identifier: MIT
/*
 * graph.c - qimg graph: drives, images, who backs whom, and their bitmaps
 *
 * Shared images are drawn once: roots at the top, overlays below them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
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

/* ---------------------------------------------------------------- tree */

/* Pieces of the lines that connect nodes */
struct strokes {
	const char *fork, *corner, *bar, *gap;
};
static const struct strokes utf8_strokes = { "├─ ", "└─ ", "│  ", "   " };
static const struct strokes ascii_strokes = { "|- ", "`- ", "|  ", "   " };

static const struct strokes *strokes(void)
{
	return qi_is_utf8() ? &utf8_strokes : &ascii_strokes;
}

static size_t next_child(const struct qi_tree *t, size_t parent, size_t from)
{
	for (; from < t->node_count; from++) {
		if (t->nodes[from].parent == parent)
			return from;
	}
	return QI_NO_INDEX;
}

static void draw_error(const char *prefix, const char *text)
{
	QI_AUTO_TEXT char *safe = qi_safe(text);

	printf("%s%serror: %s%s\n", prefix, qi_colour(QI_RED), safe,
	       qi_colour(QI_PLAIN));
}

static void draw_bitmap(const char *prefix, const struct qi_tree_bitmap *b)
{
	QI_AUTO_TEXT char *name = qi_safe(b->name);
	char step[QI_HUMAN], dirty[QI_HUMAN];

	printf("%sbitmap %s%s%s on %s: %s, granularity %s", prefix,
	       qi_colour(QI_GREEN), name, qi_colour(QI_PLAIN),
	       b->attachment == QI_ON_DRIVE ? "drive" : "node", b->state,
	       qi_human_size(step, b->granularity));
	if (b->known)
		printf(", %s dirty", qi_human_size(dirty, b->bytes));
	if (b->status)
		printf(", %s", b->status);
	putchar('\n');
	if (b->error)
		draw_error(prefix, b->error);
}

static void draw_drive(const char *prefix, const struct qi_tree_drive *d)
{
	QI_AUTO_TEXT char *path = qi_safe(qi_drive_path(d->drive));
	QI_AUTO_TEXT char *inner = qi_xprintf("%s   ", prefix);

	printf("%sdrive %s%s%s%s\n", prefix, qi_colour(QI_BOLD), path,
	       qi_colour(QI_PLAIN),
	       qi_drive_is_link(d->drive) ? " (link)" : "");
	for (size_t i = 0; i < d->bitmap_count; i++)
		draw_bitmap(inner, &d->bitmaps[i]);
}

/* The record of an overlay has the tag of the snapshot that is below it. */
static void draw_tags(const struct qi_tree *t, size_t index)
{
	size_t i = next_child(t, index, 0);

	for (; i != QI_NO_INDEX; i = next_child(t, index, i + 1)) {
		const struct qi_record_facts *r = &t->nodes[i].record;
		QI_AUTO_TEXT char *tag = NULL;

		if (r->state != QI_RECORD_VALID || !r->tag[0])
			continue;
		tag = qi_safe(r->tag);
		printf(", snapshot %s", tag);
	}
}

static void draw_name(const struct qi_tree *t, size_t index)
{
	const struct qi_tree_node *n = &t->nodes[index];
	QI_AUTO_TEXT char *path = qi_safe(n->path);
	char size[QI_HUMAN], disk[QI_HUMAN];

	printf("%s%s%s: %s, %s, %s on disk", qi_colour(QI_BOLD), path,
	       qi_colour(QI_PLAIN), n->facts->format,
	       qi_human_size(size, n->facts->size),
	       qi_human_size(disk, n->facts->disk_size));
	if (n->record.state == QI_RECORD_UNKNOWN)
		printf(", record unknown");
	if (n->record.frozen)
		printf(", frozen");
	if (n->record.shared)
		printf(", shared");
	draw_tags(t, index);
	putchar('\n');
}

static void draw_details(const struct qi_tree *t, size_t index,
			 const char *prefix)
{
	const struct qi_tree_node *n = &t->nodes[index];

	if (n->error)
		draw_error(prefix, n->error);
	if (n->bitmaps_problem)
		draw_error(prefix, n->bitmaps_problem);
	for (size_t i = 0; i < n->hidden.count; i++) {
		QI_AUTO_TEXT char *path = qi_safe(n->hidden.path[i]);

		printf("%snot shown: its overlay %s\n", prefix, path);
	}
	for (size_t i = 0; i < n->bitmap_count; i++) {
		/* Segments are told as the bitmaps of their drive. */
		if (n->bitmaps[i].attachment == QI_ON_NODE)
			draw_bitmap(prefix, &n->bitmaps[i]);
	}
	for (size_t i = 0; i < t->drive_count; i++) {
		if (t->drives[i].head == index)
			draw_drive(prefix, &t->drives[i]);
	}
}

/* prefix: what stands before the lines below this node */
static void draw_node(const struct qi_tree *t, size_t index, const char *prefix)
{
	const struct strokes *s = strokes();
	size_t child = next_child(t, index, 0);
	QI_AUTO_TEXT char *inner = NULL;

	draw_name(t, index);
	inner = qi_xprintf("%s%s", prefix,
			   child == QI_NO_INDEX ? s->gap : s->bar);
	draw_details(t, index, inner);
	while (child != QI_NO_INDEX) {
		size_t next = next_child(t, index, child + 1);
		bool last = next == QI_NO_INDEX;
		QI_AUTO_TEXT char *below = NULL;

		printf("%s%s", prefix, last ? s->corner : s->fork);
		below = qi_xprintf("%s%s", prefix, last ? s->gap : s->bar);
		draw_node(t, child, below);
		child = next;
	}
}

static void draw(const struct qi_tree *t)
{
	size_t root = next_child(t, QI_NO_INDEX, 0);

	for (; root != QI_NO_INDEX; root = next_child(t, QI_NO_INDEX, root + 1))
		draw_node(t, root, "");
	for (size_t i = 0; i < t->broken_count; i++) {
		QI_AUTO_TEXT char *path = NULL;

		if (!t->node_count) {
			qi_say_error("%s", t->broken[i].error);
			continue;
		}
		path = qi_safe(t->broken[i].path);
		printf("%s%s%s:\n", qi_colour(QI_BOLD), path,
		       qi_colour(QI_PLAIN));
		draw_error("   ", t->broken[i].error);
	}
}

/* ---------------------------------------------------------------- JSON */

static json_t *bitmaps_json(const struct qi_tree_bitmap *b, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++) {
		bool drive = b[i].attachment == QI_ON_DRIVE;
		json_t *o = json_pack(
			"{s:o, s:s, s:s, s:o, s:o}", "name",
			qi_json_text(b[i].name), "attachment",
			drive ? "drive" : "node", "state", b[i].state,
			"granularity", qi_json_uint(b[i].granularity),
			"dirty-bytes",
			b[i].known ? qi_json_uint(b[i].bytes) : json_null());

		if (b[i].status)
			json_object_set_new(o, "status",
					    json_string(b[i].status));
		if (b[i].error)
			json_object_set_new(o, "error",
					    qi_json_text(b[i].error));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *files_json(const struct qi_files *files)
{
	json_t *list = json_array();

	for (size_t i = 0; i < files->count; i++)
		json_array_append_new(list, qi_json_text(files->path[i]));
	return list;
}

static json_t *node_json(const struct qi_tree *t, const struct qi_tree_node *n)
{
	const struct qi_node_facts *f = n->facts;
	const char *backing = NULL;
	json_t *o = json_object();

	if (n->parent != QI_NO_INDEX)
		backing = t->nodes[n->parent].path;
	json_object_set_new(o, "path", qi_json_text(n->path));
	json_object_set_new(o, "format", qi_json_text(f->format));
	json_object_set_new(o, "virtual-size", qi_json_uint(f->size));
	json_object_set_new(o, "actual-size", qi_json_uint(f->disk_size));
	json_object_set_new(o, "backing", qi_json_text(backing));
	json_object_set_new(o, "backing-filename",
			    qi_json_text(f->backing_name));
	json_object_set_new(o, "overlays-not-shown", files_json(&n->hidden));
	json_object_set_new(o, "record", qi_json_record(&n->record));
	json_object_set_new(o, "bitmaps",
			    bitmaps_json(n->bitmaps, n->bitmap_count));
	json_object_set_new(o, "bitmaps-problem",
			    qi_json_text(n->bitmaps_problem));
	json_object_set_new(o, "error", qi_json_text(n->error));
	return o;
}

static json_t *drive_json(const struct qi_tree *t,
			  const struct qi_tree_drive *d)
{
	struct qi_uuid id = qi_drive_uuid(d->drive);
	const char *head = t->nodes[d->head].path;

	return json_pack("{s:o, s:b, s:o, s:o, s:o}", "path",
			 qi_json_text(qi_drive_path(d->drive)), "link",
			 qi_drive_is_link(d->drive), "head", qi_json_text(head),
			 "drive-id", qi_json_uuid(&id), "bitmaps",
			 bitmaps_json(d->bitmaps, d->bitmap_count));
}

static void print_json(const struct qi_tree *t)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_list_begin(&j, "nodes");
	for (size_t i = 0; i < t->node_count; i++)
		qi_json_element(&j, node_json(t, &t->nodes[i]));
	qi_json_list_end(&j);
	qi_json_list_begin(&j, "drives");
	for (size_t i = 0; i < t->drive_count; i++)
		qi_json_element(&j, drive_json(t, &t->drives[i]));
	qi_json_list_end(&j);
	qi_json_list_begin(&j, "broken");
	for (size_t i = 0; i < t->broken_count; i++)
		qi_json_element(
			&j, json_pack("{s:o, s:o}", "path",
				      qi_json_text(t->broken[i].path), "error",
				      qi_json_text(t->broken[i].error)));
	qi_json_end(&j, 0, NULL);
}

/* ----------------------------------------------------------------- dot */

/* Text inside of a quoted string of the dot language. */
static void dot_text(const char *text)
{
	QI_AUTO_TEXT char *safe = qi_safe(text);

	for (const char *c = safe; *c; c++) {
		if (*c == '"' || *c == '\\')
			putchar('\\');
		putchar(*c);
	}
}

static void dot_bitmaps(const struct qi_tree_bitmap *b, size_t count,
			enum qi_attachment attachment)
{
	char human[QI_HUMAN];

	for (size_t i = 0; i < count; i++) {
		if (b[i].attachment != attachment)
			continue;
		fputs("\\nbitmap ", stdout);
		dot_text(b[i].name);
		printf(": %s", b[i].state);
		if (b[i].known)
			printf(", %s dirty", qi_human_size(human, b[i].bytes));
	}
}

static void dot_node(const struct qi_tree *t, size_t i)
{
	const struct qi_tree_node *n = &t->nodes[i];
	char human[QI_HUMAN];

	printf("\tn%zu [shape=box, color=%s, label=\"", i,
	       n->error ? "red" : "black");
	dot_text(n->path);
	printf("\\n%s, %s", n->facts->format,
	       qi_human_size(human, n->facts->size));
	if (n->record.frozen)
		printf(", frozen");
	dot_bitmaps(n->bitmaps, n->bitmap_count, QI_ON_NODE);
	if (n->error) {
		fputs("\\nerror: ", stdout);
		dot_text(n->error);
	}
	puts("\"];");
	if (n->parent != QI_NO_INDEX)
		printf("\tn%zu -> n%zu;\n", i, n->parent);
}

static void print_dot(const struct qi_tree *t)
{
	puts("digraph qimg {\n\trankdir=BT;");
	for (size_t i = 0; i < t->node_count; i++)
		dot_node(t, i);
	for (size_t i = 0; i < t->drive_count; i++) {
		const struct qi_tree_drive *d = &t->drives[i];

		printf("\td%zu [shape=ellipse, label=\"drive ", i);
		dot_text(qi_drive_path(d->drive));
		dot_bitmaps(d->bitmaps, d->bitmap_count, QI_ON_DRIVE);
		puts("\"];");
		if (d->head != QI_NO_INDEX)
			printf("\td%zu -> n%zu;\n", i, d->head);
	}
	for (size_t i = 0; i < t->broken_count; i++) {
		printf("\tb%zu [shape=box, color=red, label=\"", i);
		dot_text(t->broken[i].path);
		fputs("\\nerror: ", stdout);
		dot_text(t->broken[i].error);
		puts("\"];");
	}
	puts("}");
}

/* ------------------------------------------------------------- command */

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
		print_json(&tree);
	else if (opt.output == QI_OUTPUT_DOT)
		print_dot(&tree);
	else
		draw(&tree);
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
