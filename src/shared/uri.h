/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Percent-encoding: RFC 3986 section 2; '+' for a space is that of HTML forms. */

/* "%40" becomes "@". -EINVAL: malformed, or then no UTF-8 or with a NUL in it. plus: '+' is a space. */
int uri_unescape(const char *text, size_t size, bool plus, char **ret);
/* What is not unreserved becomes %XX. malloc()ed; NULL on lack of memory. */
char *uri_escape(const char *text);

/* Appends SEPARATOR KEY=VALUE, the value escaped; *uri may be NULL. What was there is erased, it may be secret. */
int uri_append(char **uri, const char *separator, const char *key, const char *value);
