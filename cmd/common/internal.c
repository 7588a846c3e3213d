/* SPDX-License-Identifier: MIT */
/*
 * internal.c - internal snapshots as text and JSON
 */
#include <stdio.h>
#include <time.h>

#include "cmd/common/internal.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

#define NSEC_PER_SEC 1000000000ull

static void print_row(const struct qi_internal_snapshot *s)
{
	QI_AUTO_TEXT char *id = qi_safe(s->id);
	QI_AUTO_TEXT char *name = qi_safe(s->name);
	char size[QI_HUMAN], date[32], clock[48], icount[24] = "";
	uint64_t seconds = s->vm_clock_nsec / NSEC_PER_SEC;
	time_t when = s->date_sec;
	struct tm tm;

	localtime_r(&when, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(clock, sizeof(clock), "%02llu:%02llu:%02llu.%03llu",
		 (unsigned long long)seconds / 3600,
		 (unsigned long long)seconds / 60 % 60,
		 (unsigned long long)seconds % 60,
		 (unsigned long long)(s->vm_clock_nsec / 1000000 % 1000));
	if (s->icount != UINT64_MAX)
		snprintf(icount, sizeof(icount), "%llu",
			 (unsigned long long)s->icount);
	printf("%-9s %-16s %8s%20s%13s%11s\n", id, name,
	       qi_human_size(size, s->vm_state_size), date, clock, icount);
}

void qi_internal_print(const struct qi_internal_snapshot *all, size_t count)
{
	if (!count)
		return;
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG",
	       "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	for (size_t i = 0; i < count; i++)
		print_row(&all[i]);
}

static json_t *row_json(const struct qi_internal_snapshot *s)
{
	json_t *o = json_object();

	if (s->icount != UINT64_MAX)
		json_object_set_new(o, "icount",
				    json_integer((json_int_t)s->icount));
	json_object_set_new(
		o, "vm-clock-nsec",
		json_integer((json_int_t)(s->vm_clock_nsec % NSEC_PER_SEC)));
	json_object_set_new(o, "name", qi_json_text(s->name));
	json_object_set_new(o, "date-sec", json_integer(s->date_sec));
	json_object_set_new(o, "date-nsec", json_integer(s->date_nsec));
	json_object_set_new(
		o, "vm-clock-sec",
		json_integer((json_int_t)(s->vm_clock_nsec / NSEC_PER_SEC)));
	json_object_set_new(o, "id", qi_json_text(s->id));
	json_object_set_new(o, "vm-state-size",
			    json_integer((json_int_t)s->vm_state_size));
	return o;
}

json_t *qi_internal_json(const struct qi_internal_snapshot *all, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, row_json(&all[i]));
	return list;
}
