/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"

static int max_level = LOG_INFO;
static bool to_journal = false;

void log_set_max_level(int level) {
        max_level = level;
}

int log_get_max_level(void) {
        return max_level;
}

int log_level_from_string(const char *s) {
        static const char *const names[] = { "emerg", "alert", "crit", "err", "warning", "notice", "info",
                "debug" };
        unsigned level;

        for (size_t i = 0; s && i < ELEMENTSOF(names); i++)
                if (streq(s, names[i]))
                        return (int) i;
        if (safe_atou(s, &level) < 0 || level > LOG_DEBUG)
                return -EINVAL;

        return (int) level;
}

/* systemd tells in JOURNAL_STREAM which device and inode the journal's stream has. */
static bool stderr_is_journal(void) {
        unsigned long long dev, ino;
        const char *e;
        struct stat st;

        e = getenv("JOURNAL_STREAM");
        if (!e || sscanf(e, "%llu:%llu", &dev, &ino) != 2)
                return false;

        return fstat(STDERR_FILENO, &st) >= 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_setup(void) {
        int level;

        to_journal = stderr_is_journal();
        level = log_level_from_string(getenv("KONTENA_LOG_LEVEL"));
        if (level >= 0)
                max_level = level;
}

static void log_dispatch(int level, int error, const char *file, int line, const char *func,
                const char *const *fields, const char *message) {
        struct iovec iov[LOG_FIELDS_MAX + 6];
        char priority[32], code_line[32], errno_field[32];
        _cleanup_free_ char *m = NULL, *f = NULL, *fn = NULL;
        int n = 0;

        if (!to_journal) {
                fprintf(stderr, "%s\n", message);
                return;
        }

        m = strjoin("MESSAGE=", message);
        f = strjoin("CODE_FILE=", file);
        fn = strjoin("CODE_FUNC=", func);
        if (!m || !f || !fn)
                return;
        snprintf(priority, sizeof(priority), "PRIORITY=%i", level);
        snprintf(code_line, sizeof(code_line), "CODE_LINE=%i", line);

        iov[n++] = (struct iovec){ m, strlen(m) };
        iov[n++] = (struct iovec){ priority, strlen(priority) };
        iov[n++] = (struct iovec){ f, strlen(f) };
        iov[n++] = (struct iovec){ code_line, strlen(code_line) };
        iov[n++] = (struct iovec){ fn, strlen(fn) };
        if (error != 0) {
                snprintf(errno_field, sizeof(errno_field), "ERRNO=%i", abs(error));
                iov[n++] = (struct iovec){ errno_field, strlen(errno_field) };
        }
        for (size_t i = 0; fields && fields[i] && i < LOG_FIELDS_MAX; i++)
                iov[n++] = (struct iovec){ (char *) fields[i], strlen(fields[i]) };

        (void) sd_journal_sendv(iov, n);
}

static int log_internalv(int level, int error, const char *file, int line, const char *func,
                const char *const *fields, const char *format, va_list ap) {
        _cleanup_free_ char *message = NULL;

        if (level > max_level)
                return -abs(error);

        errno = abs(error); /* for %m */
        message = strvprintf(format, ap);
        log_dispatch(level, error, file, line, func, fields, message ?: "Out of memory.");

        return -abs(error);
}

int log_full_errno_real(int level, int error, const char *file, int line, const char *func,
                const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = log_internalv(level, error, file, line, func, NULL, format, ap);
        va_end(ap);

        return r;
}

int log_struct_real(int level, int error, const char *file, int line, const char *func,
                const char *const *fields, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = log_internalv(level, error, file, line, func, fields, format, ap);
        va_end(ap);

        return r;
}
