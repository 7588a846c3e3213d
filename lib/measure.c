/* SPDX-License-Identifier: MIT */
/* measure.c - how large a new image would be */
#include <errno.h>

#include "lib/format.h"

int qi_measure(struct qi_node *src, const struct qi_measure *m,
	       struct qi_measurement *out, struct qi_error *e)
{
	const struct qi_format *f = qi_format_find(m->format);
	struct qi_image_spec spec = { .size = m->size };
	struct qi_options *options;
	int ret;

	*out = (struct qi_measurement){ 0 };
	if (!f)
		return qi_stock(
			e, qi_fail(e, EINVAL, "unknown format '%s'", m->format),
			"Unknown file format '%s'", m->format);
	if (!f->measure)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"images of format '%s' cannot be made",
					f->name),
				"Block driver '%s' does not support size "
				"measurement",
				f->name);
	ret = qi_options_parse(&options, m->options, f->options, f->name, e);
	if (ret)
		return ret;
	spec.options = options;
	if (!src && !m->size)
		ret = qi_options_get_size(options, "size", 0, &spec.size, e);
	if (!ret)
		ret = f->measure(&spec, src, out, e);
	qi_options_free(options);
	return ret;
}
