/* SPDX-License-Identifier: MIT */
/*
 * snapshot.c - a new head on top of a drive
 *
 * Order of writes: the old head gets a record, if it has none; the overlay is
 * written whole under a hidden name; it gets its name; then the one switch: the
 * drive link is flipped, or the overlay takes the name of a plain file, whose
 * old bytes got a second name before; the old head is marked as frozen.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "lib/overlay.h"

struct work {
	struct qi_drive *d;
	struct qi_node *old;
	char tag[QI_TAG_MAX + 1];
	char *old_path;		      /* of the old head, afterwards */
	char *new_path;		      /* of the new head */
	struct qi_record *old_record; /* NULL: it can hold none */
	struct qi_drive_bitmap *bitmaps;
	size_t bitmap_count;
	bool replaces; /* a new head that an ended run has left */
};

static void work_clear(struct work *w)
{
	free(w->old_path);
	free(w->new_path);
	free(w->bitmaps);
	qi_record_free(w->old_record);
}

/* ----------------------------------------------------------------- names */

/* The name without its last extension. */
static int stem_length(const char *name)
{
	const char *dot = strrchr(name, '.');

	return (int)(dot && dot != name ? dot - name : (ptrdiff_t)strlen(name));
}

/* "NAME@TAG.FORMAT", a second name that an ended run gave a plain file. */
static bool is_second_name(const struct work *w, const char *file)
{
	const char *name = qi_path_name(w->d->path);
	size_t stem = (size_t)stem_length(name), len = strlen(file);
	size_t end = strlen(w->old->format->name) + 1;

	if (len < stem + 1 + end || strncmp(file, name, stem) ||
	    file[stem] != '@' || file[len - end] != '.' ||
	    len - stem - 1 - end >= sizeof(((struct work *)0)->tag))
		return false;
	return !strcmp(file + len - end + 1, w->old->format->name);
}

/* The tag of a plain file that has a second name. */
static void find_second_name(struct work *w, struct qi_files *all)
{
	for (size_t i = 0; i < all->count; i++) {
		const char *file = qi_path_name(all->path[i]);
		size_t stem = (size_t)stem_length(qi_path_name(w->d->path));
		size_t end = strlen(w->old->format->name) + 1;

		if (is_second_name(w, file) &&
		    qi_node_is_file(w->old, all->path[i]))
			snprintf(w->tag, sizeof(w->tag), "%.*s",
				 (int)(strlen(file) - stem - 1 - end),
				 file + stem + 1);
	}
}

/* What a run without a tag has begun is gone on with, by the tag it took. */
static int find_begun(struct work *w, struct qi_error *e)
{
	QI_AUTOFREE char *dir = qi_path_folder(w->old->path);
	struct qi_files all = { 0 };
	struct stat st;
	int ret;

	if (!dir)
		return qi_no_memory(e);
	if (!w->d->is_link && (stat(w->old->path, &st) || st.st_nlink < 2))
		return 0;
	ret = w->d->is_link ? qi_node_dependents(w->old, NULL, &all, e) :
			      qi_folder_images(dir, &all, e);
	if (!ret && !w->d->is_link)
		find_second_name(w, &all);
	for (size_t i = 0; w->d->is_link && i < all.count && !ret; i++)
		if (qi_drive_is_unfinished(w->d, all.path[i], w->tag))
			break;
	qi_files_free(&all);
	return ret;
}

static int choose_tag(struct work *w, const char *wanted, struct qi_error *e)
{
	time_t now = time(NULL);
	struct tm tm;
	size_t n;

	if (!wanted) {
		int ret = find_begun(w, e);

		if (ret || *w->tag)
			return ret;
		gmtime_r(&now, &tm);
		strftime(w->tag, sizeof(w->tag), "%Y%m%dT%H%M%SZ", &tm);
		return 0;
	}
	n = strlen(wanted);
	if (!n || n > 200 || strchr(wanted, '/') || wanted[0] == '.')
		return qi_fail(e, EINVAL,
			       "'%s' is no tag: it has 1 to 200 "
			       "bytes, no '/', and no '.' in front",
			       wanted);
	memcpy(w->tag, wanted, n);
	return 0;
}

static int choose_paths(struct work *w, const char *overlay, struct qi_error *e)
{
	const char *name = qi_path_name(w->d->path);
	QI_AUTOFREE char *dir = qi_path_folder(w->old->path);
	QI_AUTOFREE char *file = NULL;

	if (!dir)
		return qi_no_memory(e);
	if (!w->d->is_link && overlay)
		return qi_fail(e, EINVAL,
			       "'%s' is a plain file, so the new "
			       "head takes its name; --overlay is for drive "
			       "links",
			       w->d->path);
	if (!w->d->is_link) {
		file = qi_format_text("%.*s@%s.%s", stem_length(name), name,
				      w->tag, w->old->format->name);
		w->old_path = file ? qi_path_join(dir, file) : NULL;
		w->new_path = strdup(w->old->path);
	} else {
		file = qi_format_text("%.*s.%s.qcow2", stem_length(name), name,
				      w->tag);
		w->old_path = strdup(w->old->path);
		if (overlay)
			w->new_path = strdup(overlay);
		else
			w->new_path = file ? qi_path_join(dir, file) : NULL;
	}
	return w->old_path && w->new_path ? 0 : qi_no_memory(e);
}

/* ---------------------------------------------------------------- checks */

static int check_names(struct work *w, struct qi_error *e)
{
	const char *fresh = w->d->is_link ? w->new_path : w->old_path;
	struct stat st;

	if (lstat(fresh, &st))
		return 0;
	/* The second name of the old head, made before a crash. */
	if (!w->d->is_link && qi_node_is_file(w->old, fresh))
		return 0;
	w->replaces = qi_drive_is_unfinished(w->d, fresh, NULL);
	if (w->replaces)
		return 0;
	return qi_fail(e, EEXIST, "'%s' exists already; choose another tag%s",
		       fresh, w->d->is_link ? ", or --overlay" : "");
}

static int check(struct work *w, struct qi_error *e)
{
	const char *own = qi_node_own_bitmap(w->old);
	int ret = check_names(w, e);

	if (!ret)
		ret = qi_drive_check(w->d, e);
	if (ret)
		return ret;
	if (qi_drive_find_tag(w->d, w->tag))
		return qi_fail(e, EEXIST,
			       "drive '%s' has a snapshot '%s' already",
			       w->d->path, w->tag);
	if (qi_record_state_of(w->old) == QI_RECORD_UNKNOWN)
		return qi_fail(e, ESTALE,
			       "the record of '%s' is damaged or of "
			       "a later version; 'qimg bitmap add --drive %s "
			       "NAME' starts a new one",
			       w->old->path, QI_WORD(w->d->path));
	if (w->d->is_link)
		return 0;
	if (strcmp(w->old->format->name, "qcow2"))
		return qi_fail(e, ESTALE,
			       "'%s' is a plain file in %s format, and the new "
			       "head would take its name in another; make a "
			       "drive link to it ('ln -s') and use that",
			       w->old->path, w->old->format->name);
	/* Its old head gets another name, so (node, name) would change. */
	if (own)
		return qi_fail(e, ESTALE,
			       "'%s' has the node bitmap '%s', and "
			       "its file would get another name; make a drive "
			       "link to it ('ln -s') and use that, or 'qimg "
			       "bitmap remove --node %s %s'",
			       w->old->path, own, QI_WORD(w->old->path),
			       QI_WORD(own));
	return qi_node_check_dependents(w->old, NULL, "rename", e);
}

/* ----------------------------------------------------------------- parts */

/* What the overlay will refer to: an id, and a drive. */
static int prepare_old(struct work *w, bool dry_run, struct qi_error *e)
{
	const struct qi_record *now = w->old->record;
	int ret;

	if (qi_node_can_store(w->old, NULL))
		return 0;
	ret = qi_drive_head_record(w->d, &w->old_record, e);
	if (ret || dry_run ||
	    (qi_record_state_of(w->old) == QI_RECORD_VALID &&
	     !qi_uuid_is_null(&now->drive)))
		return ret;
	return qi_node_store(w->old, w->old_record, NULL, 0, e);
}

/* A layer below a head; it is not to be taken for one itself. */
static int freeze(struct qi_node *n, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	if (qi_record_state_of(n) != QI_RECORD_VALID || !n->file->writable ||
	    (n->record->frozen && !n->record->merging))
		return 0;
	if (qi_record_copy(&r, n->record))
		return qi_no_memory(e);
	r->frozen = true;
	/* It was the head: what it has now is what the snapshot holds. */
	r->committed = r->merging = false;
	return qi_node_store(n, r, NULL, 0, e);
}

/* The record of the new head and its empty segments. */
static int make_segments(struct work *w, struct qi_record *r,
			 struct qi_bitmap_change *changes)
{
	for (size_t i = 0; i < w->bitmap_count; i++) {
		const struct qi_drive_bitmap *from = &w->bitmaps[i];
		struct qi_record_bitmap *b = qi_record_put(r, from->name);

		if (!b)
			return -ENOMEM;
		b->paused = b->gap = from->paused;
		b->checkpoint = from->checkpoint;
		b->min_size = w->old->facts.size;
		changes[i].name = from->name;
		changes[i].enabled = !from->paused;
		changes[i].granularity_bits =
			(unsigned)__builtin_ctz(from->granularity);
	}
	return 0;
}

/* A complete overlay under a hidden name. */
static int write_overlay(struct work *w, struct qi_image *img,
			 struct qi_error *e)
{
	QI_AUTOFREE struct qi_bitmap_change *changes =
		calloc(w->bitmap_count + 1, sizeof(*changes));
	QI_AUTORECORD struct qi_record *r = NULL;
	struct qi_overlay o = { .path = w->new_path,
				.mode = !w->d->is_link ? QI_TEMP_OWNED :
					w->replaces    ? QI_TEMP_REPLACE :
							 QI_TEMP_NEW,
				.base = w->old,
				.base_path = w->old_path,
				.changes = changes,
				.count = w->bitmap_count };

	if (!changes || qi_record_copy(&r, NULL) ||
	    make_segments(w, r, changes))
		return qi_no_memory(e);
	/* A head without a record continues the drive of the layers below. */
	r->drive = w->old_record ? w->old_record->drive : qi_drive_uuid(w->d);
	if (qi_uuid_is_null(&r->drive))
		r->drive = qi_uuid_random();
	if (w->old_record)
		r->parent = w->old_record->image;
	memcpy(r->tag, w->tag, sizeof(r->tag));
	o.record = r;
	return qi_overlay_write(&o, img, e);
}

/* The switch. */
static int publish(struct work *w, struct qi_image *img, struct qi_change *out,
		   struct qi_error *e)
{
	static const char done[] =
		"the snapshot is made, but a power cut may undo it";
	int ret = 0;

	if (!w->d->is_link) {
		if (!qi_node_is_file(w->old, w->old_path))
			ret = qi_link(w->old->path, w->old_path, e);
		if (!ret)
			ret = qi_sync_folder_of(w->old_path, e);
	}
	if (!ret)
		ret = qi_image_publish(img, e);
	if (!ret && w->d->is_link)
		ret = qi_drive_flip(w->d, w->new_path, e);
	/* A plain file that has the name now: only the sync can have failed. */
	else if (ret && !w->d->is_link && !qi_node_is_file(w->old, w->new_path))
		ret = 1;
	if (ret > 0)
		qi_change_problem(out, e, "%s", done);
	if (ret < 0)
		return ret;
	if (freeze(w->old, e))
		qi_change_problem(out, e,
				  "the snapshot is made, but '%s' is not "
				  "marked as frozen",
				  w->old_path);
	return 0;
}

static int make_plan(struct work *w, struct qi_plan *p)
{
	int ret = qi_plan_step(p,
			       "write the new head '%s' on '%s', with %zu "
			       "empty segment(s)",
			       w->new_path, w->old_path, w->bitmap_count);

	if (!ret && w->d->is_link)
		ret = qi_plan_step(p, "point the drive link '%s' at '%s'",
				   w->d->path, w->new_path);
	else if (!ret)
		ret = qi_plan_step(p, "give '%s' the name '%s'", w->d->path,
				   w->old_path);
	return ret ? ret : qi_plan_step(p, "mark '%s' as frozen", w->old_path);
}

/*
 * The snapshot is there, and the drive has not changed since: an earlier run
 * was ended after the switch.
 */
static bool is_done(struct qi_node *head, const char *tag)
{
	return qi_record_state_of(head) == QI_RECORD_VALID &&
	       head->facts.backing && !strcmp(head->record->tag, tag) &&
	       qi_node_is_empty(head);
}

int qi_snapshot_create_prepare(struct qi_drive *d, const char *tag,
			       struct qi_error *e)
{
	(void)e;
	if (tag && is_done(d->head, tag) &&
	    qi_record_state_of(d->head->facts.backing) == QI_RECORD_VALID &&
	    !d->head->facts.backing->record->frozen)
		qi_node_want(d->head->facts.backing, QI_ACCESS_WRITE);
	return 0;
}

/* What is left of such a run: the mark. */
static int finish(struct work *w, struct qi_plan *p, bool dry_run,
		  struct qi_change *out, struct qi_error *e)
{
	struct qi_node *below = w->old->facts.backing;

	out->is_nothing = true;
	snprintf(out->new_head, sizeof(out->new_head), "%s", w->old->path);
	snprintf(out->old_head, sizeof(out->old_head), "%s", below->path);
	if (qi_plan_step(p, "nothing: the snapshot is there, and the drive has "
			    "not changed since"))
		return qi_no_memory(e);
	return dry_run ? 0 : freeze(below, e);
}

static int run(struct work *w, const struct qi_snapshot *s, struct qi_plan *p,
	       bool dry_run, struct qi_change *out, struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	int ret = choose_tag(w, s->tag, e);

	if (!ret && is_done(w->old, w->tag))
		return finish(w, p, dry_run, out, e);
	if (!ret)
		ret = choose_paths(w, s->overlay, e);
	if (!ret)
		ret = check(w, e);
	if (!ret)
		ret = qi_drive_bitmaps(w->d, &w->bitmaps, &w->bitmap_count, e);
	if (!ret)
		ret = prepare_old(w, dry_run, e);
	if (!ret && make_plan(w, p))
		ret = qi_no_memory(e);
	if (ret)
		return ret;
	snprintf(out->old_head, sizeof(out->old_head), "%s", w->old_path);
	snprintf(out->new_head, sizeof(out->new_head), "%s", w->new_path);
	if (dry_run)
		return 0;
	ret = write_overlay(w, &img, e);
	return ret ? ret : publish(w, &img, out, e);
}

int qi_snapshot_create(struct qi_drive *d, const struct qi_snapshot *s,
		       struct qi_plan *plan, bool dry_run,
		       struct qi_change *out, struct qi_error *e)
{
	struct work w = { .d = d, .old = d->head };
	int ret;

	*out = (struct qi_change){ .bytes = 0 };
	ret = run(&w, s, plan, dry_run, out, e);
	work_clear(&w);
	return ret;
}
