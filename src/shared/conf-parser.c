/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "conf-parser.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <sys/stat.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "parse-util.h"
#include "string-util.h"

typedef struct Parser {
        const ConfItem *items;
        size_t n_items;
        void *data;
        conf_warn_t warn;
        void *userdata;
        char *section;
        bool section_known;
} Parser;

static void complain(Parser *p, const ConfSource *where, int r, const char *message) {
        if (p->warn)
                p->warn(where, r, message, p->userdata);
}

static char *strip(char *s) {
        char *end;

        s += strspn(s, " \t\r");
        for (end = s + strlen(s); end > s && strchr(" \t\r", end[-1]);)
                end--;
        *end = '\0';
        return s;
}

static int parse_section(Parser *p, ConfSource *where, char *line) {
        size_t n = strlen(line);

        p->section = mfree(p->section);
        p->section_known = false;
        if (n < 3 || line[n - 1] != ']') {
                complain(p, where, -EBADMSG, "Not a section, ignored until the next one");
                return 0;
        }

        p->section = strndup(line + 1, n - 2);
        if (!p->section)
                return -ENOMEM;
        where->section = p->section;

        FOREACH_ARRAY(i, p->items, p->n_items)
                if (fnmatch(i->section, p->section, 0) == 0)
                        p->section_known = true;
        /* "X-" sections are for others, as in unit files. */
        if (!p->section_known && !startswith(p->section, "X-"))
                complain(p, where, -ENOENT, "Unknown section, ignored");

        return 0;
}

static int parse_line(Parser *p, ConfSource *where, char *line) {
        char *value;
        int r;

        line = strip(line);
        if (*line == '\0')
                return 0;
        if (*line == '[')
                return parse_section(p, where, line);

        if (!utf8_is_valid(line, strlen(line))) {
                complain(p, where, -EBADMSG, "Not valid UTF-8, ignored");
                return 0;
        }
        value = strchr(line, '=');
        if (!value || value == line) {
                complain(p, where, -EBADMSG, "Not a Key=value line, ignored");
                return 0;
        }
        *value++ = '\0';
        where->key = strip(line);
        where->section = p->section;
        if (!p->section) {
                complain(p, where, -EBADMSG, "Setting outside of a section, ignored");
                return 0;
        }
        if (!p->section_known)
                return 0;

        FOREACH_ARRAY(i, p->items, p->n_items) {
                if (!streq(i->key, where->key) || fnmatch(i->section, p->section, 0) != 0)
                        continue;

                r = i->set(where, strip(value), (uint8_t *) p->data + i->offset);
                if (r == -EINVAL || r == -ERANGE) {
                        complain(p, where, r, "Invalid value, ignored");
                        return 0;
                }
                return r;
        }

        complain(p, where, -ENOENT, "Unknown setting, ignored");
        return 0;
}

/* Lines, with "\" continuations joined by a blank and comments left out, also between continued lines. */
static int parse_text(Parser *p, const char *path, char *text) {
        ConfSource where = { .path = path };
        _cleanup_free_ char *joined = NULL;
        unsigned number = 0;
        int r;

        for (char *line = text, *next; line; line = next) {
                size_t n;
                char *s;
                bool more;

                next = strchr(line, '\n');
                if (next)
                        *next++ = '\0';
                number++;

                s = line + strspn(line, " \t\r");
                if (*s == '#' || *s == ';')
                        continue;

                n = strlen(line);
                if (n > 0 && line[n - 1] == '\r')
                        line[--n] = '\0';
                more = n > 0 && line[n - 1] == '\\';
                if (more)
                        line[n - 1] = '\0';

                if (!joined)
                        where.line = number;
                if (joined || more) {
                        s = joined ? strjoin(joined, " ", line) : strdup(line);
                        if (!s)
                                return -ENOMEM;
                        free(joined);
                        joined = s;
                        if (more && next)
                                continue;
                        line = joined;
                }

                where.key = NULL;
                where.section = p->section;
                r = parse_line(p, &where, line);
                if (r < 0)
                        return r;
                joined = mfree(joined);
        }

        return 0;
}

int conf_read_file(const char *path, const ConfItem *items, size_t n_items, void *data, conf_warn_t warn,
                void *userdata) {
        _cleanup_free_ char *text = NULL;
        Parser p = { items, n_items, data, warn, userdata };
        size_t size;
        int r;

        assert(path);
        assert(items || n_items == 0);

        r = read_file(path, CONF_FILE_SIZE_MAX, &text, &size);
        if (r < 0)
                return r;
        if (strlen(text) != size) {
                complain(&p, &(ConfSource){ .path = path }, -EBADMSG,
                                "The file has a NUL byte in it, ignored");
                return 0;
        }

        r = parse_text(&p, path, text);
        free(p.section);
        return r;
}

typedef struct DropIn {
        char *name, *path;
} DropIn;

static int drop_in_compare(const void *a, const void *b) {
        return strcmp(((const DropIn *) a)->name, ((const DropIn *) b)->name);
}

static int collect(const char *directory, const char *name, DropIn *found, size_t *n) {
        _cleanup_free_ char *path = NULL;
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;

        path = strjoin(directory, "/", name, ".d");
        if (!path)
                return -ENOMEM;

        d = opendir(path);
        if (!d)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;

        while ((errno = 0, de = readdir(d))) {
                bool hidden = false;

                if (de->d_name[0] == '.' || !endswith(de->d_name, ".conf"))
                        continue;
                for (size_t i = 0; i < *n; i++)
                        if (streq(found[i].name, de->d_name))
                                hidden = true;
                if (hidden)
                        continue;
                if (*n >= CONF_FILES_MAX)
                        return -E2BIG;

                found[*n] = (DropIn){ strdup(de->d_name), strjoin(path, "/", de->d_name) };
                (*n)++;
                if (!found[*n - 1].name || !found[*n - 1].path)
                        return -ENOMEM;
        }

        return -errno;
}

static int read_main(const char *const *directories, const char *name, const ConfItem *items, size_t n_items,
                void *data, conf_warn_t warn, void *userdata) {
        for (; *directories; directories++) {
                _cleanup_free_ char *path = NULL;
                int r;

                path = strjoin(*directories, "/", name);
                if (!path)
                        return -ENOMEM;
                r = conf_read_file(path, items, n_items, data, warn, userdata);
                if (r != -ENOENT)
                        return r;
        }

        return 0;
}

int conf_read(const char *const *directories, const char *name, const ConfItem *items, size_t n_items,
                void *data, conf_warn_t warn, void *userdata) {
        DropIn *found;
        size_t n = 0;
        int r;

        assert(directories);
        assert(name);

        r = read_main(directories, name, items, n_items, data, warn, userdata);
        if (r < 0)
                return r;

        found = new0(DropIn, CONF_FILES_MAX);
        if (!found)
                return -ENOMEM;

        for (const char *const *d = directories; *d && r >= 0; d++)
                r = collect(*d, name, found, &n);
        if (r >= 0)
                qsort(found, n, sizeof(DropIn), drop_in_compare);
        for (size_t i = 0; i < n && r >= 0; i++) {
                struct stat st;

                if (stat(found[i].path, &st) >= 0 && S_ISCHR(st.st_mode))
                        continue; /* a link to /dev/null */
                r = conf_read_file(found[i].path, items, n_items, data, warn, userdata);
        }

        FOREACH_ARRAY(f, found, n) {
                free(f->name);
                free(f->path);
        }
        free(found);
        return r;
}

int conf_set_string(const ConfSource *where, const char *value, void *field) {
        int r = free_and_strdup((char **) field, empty_to_null(value));

        return MIN(r, 0);
}

int conf_set_strv(const ConfSource *where, const char *value, void *field) {
        _cleanup_strv_free_ char **l = NULL;
        char ***to = (char ***) field;
        int r;

        if (isempty(value)) {
                *to = strv_free(*to);
                return 0;
        }

        r = strv_split(value, " \t", &l);
        if (r < 0)
                return r;
        STRV_FOREACH(s, l) {
                if (strv_length(*to) >= LIST_ENTRIES_MAX)
                        return -ERANGE;
                r = strv_extend(to, *s);
                if (r < 0)
                        return r;
        }

        return 0;
}

int conf_set_bool(const ConfSource *where, const char *value, void *field) {
        int r = parse_boolean(value);

        if (r < 0)
                return r;
        *(bool *) field = r;
        return 0;
}

int conf_set_u32(const ConfSource *where, const char *value, void *field) {
        unsigned u;
        int r;

        r = safe_atou(value, &u);
        if (r < 0)
                return r;
        *(uint32_t *) field = u;
        return 0;
}

int conf_set_port(const ConfSource *where, const char *value, void *field) {
        return parse_port(value, (uint16_t *) field);
}

int conf_set_size(const ConfSource *where, const char *value, void *field) {
        return parse_size(value, (uint64_t *) field);
}

int conf_set_sec(const ConfSource *where, const char *value, void *field) {
        return parse_sec(value, (uint64_t *) field);
}

int conf_set_path(const ConfSource *where, const char *value, void *field) {
        if (!isempty(value) && (value[0] != '/' || strlen(value) >= 4096))
                return -EINVAL;
        return conf_set_string(where, value, field);
}

int conf_set_log_level(const ConfSource *where, const char *value, void *field) {
        int level = log_level_from_string(value);

        if (level < 0)
                return level;
        *(int *) field = level;
        return 0;
}
