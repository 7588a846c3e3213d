/* SPDX-License-Identifier: MIT */
/* vm.h - a step in which a QEMU process has the drive open */
#ifndef MODEL_VM_H
#define MODEL_VM_H

#include "tests/lib/model/foreign.h"
#include "tests/lib/model/qmp.h"

/* Is the segment in the head what QEMU writes into? */
static void check_recording(struct vm *v, const struct bitmap *b)
{
	json_t *node = query_node(v, "vm"), *x;
	bool found = false;
	size_t i;

	json_array_foreach(json_object_get(node, "dirty-bitmaps"), i, x)
	{
		if (strcmp(text_in(x, "name"), b->name))
			continue;
		found = true;
		if (json_is_true(json_object_get(x, "recording")) ==
			    b->paused ||
		    !json_is_true(json_object_get(x, "persistent")) ||
		    json_is_true(json_object_get(x, "inconsistent")))
			fail("QEMU does not record bitmap %s", b->name);
	}
	json_decref(node);
	if (!found)
		fail("QEMU has no bitmap %s", b->name);
}

/* Nothing of ours writes to the drive now. */
static void try_to_write(void)
{
	switch (below(6)) {
	case 0:
		ours(5, "bitmap", "clear", "--drive", drive, m.bitmap[0].name);
		break;
	case 1:
		ours(5, "bitmap", "add", "--drive", drive, "other");
		break;
	case 2:
		ours(5, "bitmap", "add", "--node", head()->path, "other");
		break;
	case 3:
		ours(5, "snapshot", "create", "--drive", drive, "other");
		break;
	case 4:
		ours(5, "commit", "--drive", drive);
		break;
	default:
		ours(5, "backup", "--full", "--drive", drive, "--bitmap",
		     m.bitmap[0].name, "--to", "repo");
	}
}

/*
 * The guest's writes, and a flush: a kill loses nothing then. QEMU drops
 * discards while a job runs, and on the nodes that it opens by itself.
 */
static void write_to_vm(bool discards)
{
	struct requests r;

	start_requests(&r, "raw");
	add_requests(&r, discards);
	add_word(&r, "-c");
	add_word(&r, "flush");
	add_word(&r, "nbd+unix:///vm?socket=nbd");
	foreign_argv(r.argv);
}

/* A bitmap of the VM's own comes and goes. */
static void use_transient(struct vm *v)
{
	qmp(v, "block-dirty-bitmap-add",
	    json_pack("{s:s, s:s}", "node", "vm", "name", "transient"));
	write_to_vm(false);
	qmp(v,
	    one_in(2) ? "block-dirty-bitmap-clear" :
			"block-dirty-bitmap-remove",
	    json_pack("{s:s, s:s}", "node", "vm", "name", "transient"));
}

/* An external snapshot: the VM goes on in a new file. */
static void snapshot_in_vm(struct vm *v, const char *top)
{
	qmp(v, "blockdev-snapshot-sync",
	    json_pack("{s:s, s:s, s:s, s:s}", "node-name", "vm",
		      "snapshot-file", top, "snapshot-node-name", "top",
		      "format", "qcow2"));
	push_layer("");
	snprintf(head()->path, sizeof(head()->path), "%s", top);
	write_to_vm(false);
}

/* Into the layer below, which the VM goes on in. */
static void commit_in_vm(struct vm *v)
{
	json_t *node = query_node(v, "vm");
	json_t *image = json_object_get(node, "image");

	qmp(v, "block-commit",
	    json_pack("{s:s, s:s, s:s}", "job-id", "commit", "device", "vm",
		      "base", text_in(image, "full-backing-filename")));
	json_decref(node);
	expect_event(v, "BLOCK_JOB_READY");
	if (one_in(2))
		write_to_vm(false);
	qmp(v, "block-job-complete", json_pack("{s:s}", "device", "commit"));
	expect_event(v, "BLOCK_JOB_COMPLETED");
	/* What is below was not flushed by that. */
	if (!failed)
		write_to_vm(false);
}

/* What the VM does to its chain. */
enum change { NOTHING, SNAPSHOT, COMMIT };

static enum change any_change(void)
{
	switch (below(4)) {
	case 0:
		return m.layers < MAX_LAYERS ? SNAPSHOT : NOTHING;
	case 1:
		return may_commit() ? COMMIT : NOTHING;
	default:
		return NOTHING;
	}
}

static void run_vm(struct vm *v, enum change change, const char *top)
{
	for (size_t i = 0; i < DRIVE_BITMAPS && !failed; i++)
		if (!m.bitmap[i].fuzzy)
			check_recording(v, &m.bitmap[i]);
	if (!failed)
		write_to_vm(true);
	if (!failed && one_in(2))
		use_transient(v);
	if (!failed)
		try_to_write();
	if (!failed && change == SNAPSHOT)
		snapshot_in_vm(v, top);
	if (!failed && change == COMMIT)
		commit_in_vm(v);
	if (!failed && one_in(2))
		write_to_vm(false);
	/* After a commit, the drive still leads to the file that has gone. */
	if (!failed && change != COMMIT)
		try_to_write();
}

static enum outcome step_vm(void)
{
	enum change change = any_change();
	bool killed = one_in(3);
	struct vm v = { 0 };
	const char *image;
	char top[32];

	if (!m.has_daemon && !m.has_system)
		return NO_SENSE;
	new_name(top, "live");
	/* What is made on a link would rest on itself when that leads to it. */
	image = change || one_in(2) ? head()->path : drive;
	if (!start_qemu(&v, m.has_system))
		return DONE;
	serve_nbd(&v, "nbd");
	open_in_qemu(&v, image, "vm", true);
	run_vm(&v, change, top);
	end_qemu(&v, killed);
	if (failed)
		return DONE;
	if (change == SNAPSHOT) {
		snprintf(head()->path, sizeof(head()->path), "%s", top);
		take_overlay(top);
		find_layers();
		note_foreign();
	}
	if (change == COMMIT)
		take_committed();
	if (killed)
		note_killed();
	return DONE;
}

#endif
