/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* Texts that are to stand on no command line. Erase them after use. */

/* All there is, at most max bytes; *ret has a NUL behind it. */
int secret_read_all(int fd, size_t max, char **ret, size_t *ret_size, KError *reterr);

/* From a terminal one line, asked for with "prompt" and not shown while it is typed; otherwise all of standard input without the last
 * line feed. what: "value", for errors. */
int secret_input(const char *prompt, const char *what, size_t max, char **ret, KError *reterr);
