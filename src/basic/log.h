/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <syslog.h>

#include "macro.h"

/* Messages go to the journal with fields; when standard error is a terminal (or not the journal) they go there
 * as lines. Macros return -error so that a failure is logged and passed on in one statement. */
void log_set_max_level(int level);
int log_get_max_level(void);
int log_level_from_string(const char *s); /* "info", "debug", 0..7; -EINVAL */
void log_setup(void);                     /* level from KONTENA_LOG_LEVEL, target by stderr */

int log_full_errno_real(int level, int error, const char *file, int line, const char *func,
                const char *format, ...) _printf_(6, 7);
/* fields: "KEY=value" strings, ended by NULL, are added to the entry. */
int log_struct_real(int level, int error, const char *file, int line, const char *func,
                const char *const *fields, const char *format, ...) _printf_(7, 8);

#define log_full_errno(level, error, ...)                                                                   \
        ({                                                                                                  \
                int _level_ = (level), _error_ = (error);                                                   \
                _level_ <= log_get_max_level() ? log_full_errno_real(_level_, _error_, __FILE__, __LINE__,  \
                                                                 __func__, __VA_ARGS__)                     \
                                               : -abs(_error_);                                             \
        })

#define log_debug(...)                (void) log_full_errno(LOG_DEBUG, 0, __VA_ARGS__)
#define log_info(...)                 (void) log_full_errno(LOG_INFO, 0, __VA_ARGS__)
#define log_notice(...)               (void) log_full_errno(LOG_NOTICE, 0, __VA_ARGS__)
#define log_warning(...)              (void) log_full_errno(LOG_WARNING, 0, __VA_ARGS__)
#define log_error(...)                (void) log_full_errno(LOG_ERR, 0, __VA_ARGS__)
#define log_debug_errno(error, ...)   log_full_errno(LOG_DEBUG, error, __VA_ARGS__)
#define log_info_errno(error, ...)    log_full_errno(LOG_INFO, error, __VA_ARGS__)
#define log_warning_errno(error, ...) log_full_errno(LOG_WARNING, error, __VA_ARGS__)
#define log_error_errno(error, ...)   log_full_errno(LOG_ERR, error, __VA_ARGS__)
#define log_oom()                     log_full_errno(LOG_ERR, ENOMEM, "Out of memory.")

/* log_struct(LOG_INFO, r, FIELDS(f1, f2), "Message '%s': %m", x). A NULL string inside FIELDS() ends the list. */
#define FIELDS(...)                   ((const char *const[]){ __VA_ARGS__, NULL })
#define log_struct(level, error, fields, ...)                                                               \
        log_struct_real(level, error, __FILE__, __LINE__, __func__, fields, __VA_ARGS__)
