/* SPDX-License-Identifier: MIT */
/*
 * analyzer.h - hints for clang-tidy, which .ci/lint includes
 *
 * What the analyzer cannot see in a declaration: that these never return 0, or
 * what they were given. Without it, it follows paths that go on after a
 * failure.
 */
#define qi_fail(...) (qi_fail(__VA_ARGS__), -1)
#define qi_no_memory(e) (qi_no_memory(e), -1)
#define qi_stock_context(e, ret, ...) \
	(qi_stock_context(e, ret, __VA_ARGS__), ret)
