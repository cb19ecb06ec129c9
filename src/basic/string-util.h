/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdarg.h>
#include <string.h>

#include "macro.h"

#define streq(a, b)     (strcmp((a), (b)) == 0)
#define strneq(a, b, n) (strncmp((a), (b), (n)) == 0)

static inline bool isempty(const char *s) {
        return !s || s[0] == '\0';
}
static inline const char *strempty(const char *s) {
        return s ?: "";
}
static inline const char *strna(const char *s) {
        return s ?: "n/a";
}
static inline const char *strnull(const char *s) {
        return s ?: "(null)";
}
static inline const char *empty_to_null(const char *s) {
        return isempty(s) ? NULL : s;
}

/* NULL equals only NULL. */
bool streq_ptr(const char *a, const char *b) _pure_;

/* Pointer behind the prefix or before the suffix; NULL when s does not have it. */
const char *startswith(const char *s, const char *prefix) _pure_;
const char *endswith(const char *s, const char *suffix) _pure_;

/* True if s is one of the NULL-terminated strings. */
bool string_in_set(const char *s, ...) _sentinel_;
#define STR_IN_SET(s, ...) string_in_set((s), __VA_ARGS__, NULL)

/* Replaces *p by a copy of s (NULL allowed). Returns 1 if it changed, 0 if it was the same, -ENOMEM. */
int free_and_strdup(char **p, const char *s);

/* printf into a fresh string; NULL on lack of memory. */
char *strprintf(const char *format, ...) _printf_(1, 2);
char *strvprintf(const char *format, va_list ap) _printf_(1, 0);

/* Joins the NULL-terminated arguments; NULL on lack of memory. */
char *strjoin_real(const char *first, ...) _sentinel_;
#define strjoin(...) strjoin_real(__VA_ARGS__, NULL)

/* Well-formed UTF-8 without control characters but those allowed; for what a person sends and we show. */
bool utf8_is_valid(const char *s, size_t n) _pure_;
char *
utf8_repair(char *s); /* in place: each byte that belongs to no character becomes '?'. Returns s, which may be NULL */
bool string_is_printable(const char *s) _pure_;

/* Overwrites n bytes so that the compiler cannot drop it. */
void erase_memory(void *p, size_t n);
static inline void erase_and_freep(char **p) {
        if (!*p)
                return;
        erase_memory(*p, strlen(*p));
        free(*p);
}
#define _cleanup_erase_ _cleanup_(erase_and_freep)

/* Lower-case hexadecimal. ret is malloc()ed. */
char *hexmem(const void *p, size_t n);
int unhexmem(const char *s, void *ret, size_t n); /* exactly n bytes, else -EINVAL */

/* RFC 4648 base32, lower case, no padding: safe in names, tokens and on the phone. */
char *base32mem(const void *p, size_t n);

/* NULL-terminated vectors of strings. */
char **strv_free(char **l);
DEFINE_TRIVIAL_CLEANUP_FUNC(char **, strv_free);
#define _cleanup_strv_free_ _cleanup_(strv_freep)
size_t strv_length(char *const *l) _pure_;
bool strv_contains(char *const *l, const char *s) _pure_;
int strv_extend(char ***l, const char *s);
int strv_consume(char ***l, char *s); /* takes s, also on failure */
int strv_extendf(char ***l, const char *format, ...) _printf_(2, 3);
char **strv_copy(char *const *l);
/* Splits at any of the separators; empty parts are dropped. */
int strv_split(const char *s, const char *separators, char ***ret);
char *strv_join(char *const *l, const char *separator);
#define STRV_FOREACH(s, l) for (char *const *s = (l); s && *s; s++)

/* Two functions for an enum: name_to_string(), name_from_string() (-EINVAL when unknown). */
#define DECLARE_STRING_TABLE_LOOKUP(name, type)                                                             \
        const char *name##_to_string(type v) _const_;                                                       \
        type name##_from_string(const char *s) _pure_
#define DEFINE_STRING_TABLE_LOOKUP(name, type)                                                              \
        const char *name##_to_string(type v) {                                                              \
                if ((int) v < 0 || (size_t) v >= ELEMENTSOF(name##_table))                                  \
                        return NULL;                                                                        \
                return name##_table[v];                                                                     \
        }                                                                                                   \
        type name##_from_string(const char *s) {                                                            \
                for (size_t i = 0; s && i < ELEMENTSOF(name##_table); i++)                                  \
                        if (name##_table[i] && streq(name##_table[i], s))                                   \
                                return (type) i;                                                            \
                return (type) -EINVAL;                                                                      \
        }
