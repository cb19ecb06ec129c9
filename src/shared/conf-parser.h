/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "macro.h"

/* INI files with drop-ins, as systemd reads them: [Section], Key=value, comments by '#' and ';', a '\' at the end of a line
 * continues it. An empty value resets a list. */
typedef struct ConfSource {
        const char *path;
        unsigned line;
        const char *section, *key;
} ConfSource;

/* What is odd is told and then ignored, so that a downgrade still starts. r is a negative errno. */
typedef void (*conf_warn_t)(const ConfSource *where, int r, const char *message, void *userdata);

/* Stores value (never NULL) at field. -EINVAL, -ERANGE: warned about, the field keeps what it had. Other errors end it. */
typedef int (*conf_set_t)(const ConfSource *where, const char *value, void *field);

typedef struct ConfItem {
        const char *section; /* may be a pattern: "Registry *" */
        const char *key;
        conf_set_t set;
        size_t offset; /* of the field in data */
} ConfItem;

/* Reads the first "<directory>/<name>" that exists, then all "<directory>/<name>.d" files that end with ".conf", sorted by file
 * name; one in an earlier directory hides its namesakes in later ones, a link to /dev/null hides as well. directories ends with NULL;
 * CONF_DIRECTORIES is the usual choice. A file that cannot be read is an error, one that is missing is not. */
int conf_read(const char *const *directories, const char *name, const ConfItem *items, size_t n_items,
                void *data, conf_warn_t warn, void *userdata);

/* One file; -ENOENT when missing. */
int conf_read_file(const char *path, const ConfItem *items, size_t n_items, void *data, conf_warn_t warn,
                void *userdata);

#define CONF_DIRECTORIES                                                                                    \
        ((const char *const[]){ SYSCONFDIR "/kontena", "/run/kontena", "/usr/local/lib/kontena",            \
                        "/usr/lib/kontena", NULL })

int conf_set_string(const ConfSource *where, const char *value, void *field); /* char **; empty: NULL */
int conf_set_strv(const ConfSource *where, const char *value,
                void *field); /* char ***; blanks part, adds; empty resets */
int conf_set_bool(const ConfSource *where, const char *value, void *field); /* bool * */
int conf_set_u32(const ConfSource *where, const char *value, void *field);  /* uint32_t * */
int conf_set_port(const ConfSource *where, const char *value, void *field); /* uint16_t * */
int conf_set_size(const ConfSource *where, const char *value, void *field); /* uint64_t *, "64M" */
int conf_set_sec(const ConfSource *where, const char *value, void *field);  /* uint64_t *, microseconds */
int conf_set_path(const ConfSource *where, const char *value, void *field); /* char **; absolute */
int conf_set_log_level(const ConfSource *where, const char *value, void *field); /* int * */
