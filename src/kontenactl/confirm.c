/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "confirm.h"

#include <stdio.h>
#include <unistd.h>

#include "string-util.h"
#include "terminal.h"

int confirm(bool force, KError *reterr, const char *format, ...) {
        _cleanup_free_ char *question = NULL, *clean = NULL;
        char answer[16] = "";
        va_list ap;

        if (force)
                return 0;

        va_start(ap, format);
        question = strvprintf(format, ap);
        va_end(ap);
        clean = question ? text_escape(question, /* keep_newlines= */ false) : NULL;
        if (!clean)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        if (isatty(STDIN_FILENO) <= 0 || isatty(STDERR_FILENO) <= 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "%s There is no terminal to ask on: say --force if so.", clean);

        fprintf(stderr, "%s [y/N] ", clean);
        (void) fflush(stderr);
        if (!fgets(answer, sizeof(answer), stdin) ||
                        !STR_IN_SET(answer, "y\n", "Y\n", "yes\n", "Yes\n", "YES\n"))
                return kerror_set(reterr, K_CONFLICT, "Nothing was done.");
        return 0;
}
