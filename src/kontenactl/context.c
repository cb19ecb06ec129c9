/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "context.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define NAME_LENGTH_MAX 64U

void context_done(Context *c) {
        free(c->name);
        free(c->url);
        free(c->ca);
        free(c->fingerprint);
        free(c->user);
        free(c->master);
        free(c->token_id);
        erase_and_freep(&c->token);
        erase_and_freep(&c->refresh_token);
        *c = (Context){};
}

void contexts_done(Contexts *l) {
        for (size_t i = 0; i < l->n; i++)
                context_done(l->list + i);
        free(l->list);
        free(l->current);
        *l = (Contexts){};
}

bool context_name_is_valid(const char *name) {
        size_t n = strlen(name);

        return n > 0 && n <= NAME_LENGTH_MAX && name[0] != '-' && name[0] != '.' &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n &&
               !streq(name, CONTEXT_LOCAL);
}

/* Which text of a context is under which key. */
static const struct {
        const char *key;
        size_t offset;
        bool required;
} texts[] = {
        { "name", offsetof(Context, name), true },
        { "url", offsetof(Context, url), true },
        { "ca", offsetof(Context, ca), true },
        { "ca_fingerprint", offsetof(Context, fingerprint), true },
        { "user", offsetof(Context, user), false },
        { "master", offsetof(Context, master), false },
        { "token", offsetof(Context, token), false },
        { "refresh_token", offsetof(Context, refresh_token), false },
        { "token_id", offsetof(Context, token_id), false },
};

#define TEXT(context, entry) (*(char **) ((char *) (context) + (entry)->offset))

int context_copy(const Context *c, Context *ret) {
        _cleanup_context_ Context copy = { .expires_at = c->expires_at };

        FOREACH_ARRAY(t, texts, ELEMENTSOF(texts))
                if (free_and_strdup(&TEXT(&copy, t), TEXT(c, t)) < 0)
                        return -ENOMEM;

        *ret = TAKE_GENERIC(copy, (Context){});
        return 0;
}

Context *contexts_find(Contexts *l, const char *name) {
        FOREACH_ARRAY(c, l->list, l->n)
                if (streq(c->name, name))
                        return c;
        return NULL;
}

Context *contexts_find_url(Contexts *l, const char *url) {
        FOREACH_ARRAY(c, l->list, l->n)
                if (streq(c->url, url))
                        return c;
        return NULL;
}

int contexts_put(Contexts *l, Context *c) {
        Context *old = contexts_find(l, c->name), *list;

        if (old) {
                context_done(old);
                *old = TAKE_GENERIC(*c, (Context){});
                return 0;
        }

        list = l->n < CONTEXTS_MAX ? reallocarray(l->list, l->n + 1, sizeof(Context)) : NULL;
        if (!list) {
                context_done(c);
                return l->n < CONTEXTS_MAX ? -ENOMEM : -E2BIG;
        }
        l->list = list;
        l->list[l->n++] = TAKE_GENERIC(*c, (Context){});
        return 0;
}

int contexts_remove(Contexts *l, const char *name) {
        Context *c = contexts_find(l, name);
        size_t i;

        if (!c)
                return -ENOENT;
        i = (size_t) (c - l->list);
        context_done(c);
        memmove(l->list + i, l->list + i + 1, (l->n - i - 1) * sizeof(Context));
        l->n--;
        if (streq_ptr(l->current, name))
                l->current = mfree(l->current);
        return 0;
}

static int parse_one(json_object *o, Contexts *l, KError *reterr) {
        _cleanup_context_ Context c = {};
        int r;

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A context is not an object.");
        FOREACH_ARRAY(t, texts, ELEMENTSOF(texts)) {
                const char *s = NULL;

                r = t->required ? json_get_string(o, t->key, &s, reterr)
                                : json_find_string(o, t->key, &s, reterr);
                if (r < 0)
                        return r;
                TEXT(&c, t) = s ? strdup(s) : NULL;
                if (s && !TEXT(&c, t))
                        return -ENOMEM;
                /* They go into headers and on the terminal; but for the certificate none has more than one line. */
                if (s && (isempty(s) || (!streq(t->key, "ca") && !string_is_printable(s))))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' of a context is malformed.",
                                        t->key);
        }
        r = json_find_u64(o, "expires_at", &c.expires_at, reterr);
        if (r < 0)
                return r;

        if (!context_name_is_valid(c.name))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not the name of a context.", c.name);
        if (contexts_find(l, c.name))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There are two contexts '%s'.", c.name);
        if (!startswith(c.url, "https://"))
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "The URL of context '%s' is not https.", c.name);
        r = contexts_put(l, &c);
        if (r == -E2BIG)
                return kerror_set(
                                reterr, K_LIMIT_EXCEEDED, "There are more than %u contexts.", CONTEXTS_MAX);
        return r;
}

int contexts_parse(const char *text, size_t size, Contexts *ret, KError *reterr) {
        _cleanup_contexts_ Contexts l = {};
        _cleanup_json_ json_object *o = NULL;
        const char *current = NULL;
        json_object *list;
        int r;

        r = json_parse(text, size, CONTEXTS_SIZE_MAX, &o, reterr);
        if (r < 0)
                return r;
        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "It is not an object.");
        r = json_find_string(o, "current", &current, reterr);
        if (r >= 0)
                r = json_get_array(o, "contexts", &list, reterr);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(c, list) {
                r = parse_one(c, &l, reterr);
                if (r < 0)
                        return r;
        }
        /* One that is gone is not the bus of this machine: nobody is to change another master than they think. */
        if (current && !contexts_find(&l, current))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "There is no context '%s', which is the current one.", current);
        if (free_and_strdup(&l.current, current) < 0)
                return -ENOMEM;

        *ret = TAKE_GENERIC(l, (Contexts){});
        return 0;
}

int contexts_format(const Contexts *l, char **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *list = json_object_new_array();
        const char *text;
        int r;

        r = o ? json_add(o, "contexts", list) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(o, "current", l->current);
        FOREACH_ARRAY(c, l->list, l->n) {
                json_object *entry = json_object_new_object();

                if (r >= 0)
                        r = json_append(list, entry);
                FOREACH_ARRAY(t, texts, ELEMENTSOF(texts))
                        if (r >= 0 && TEXT(c, t))
                                r = json_add_string(entry, t->key, TEXT(c, t));
                if (r >= 0 && c->expires_at > 0)
                        r = json_add_u64(entry, "expires_at", c->expires_at);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;

        text = json_object_to_json_string_ext(o,
                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);
        *ret = text ? strjoin(text, "\n") : NULL;
        return *ret ? 0 : -ENOMEM;
}

/* The file */

static int directory(char **ret, KError *reterr) {
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

        /* The specification wants relative ones ignored. */
        if (config && config[0] == '/')
                *ret = strjoin(config, "/kontena");
        else if (home && home[0] == '/')
                *ret = strjoin(home, "/.config/kontena");
        else
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Neither $HOME nor $XDG_CONFIG_HOME says where contexts are kept.");
        return *ret ? 0 : -ENOMEM;
}

static int check_private(int fd, const char *path, mode_t mask, KError *reterr) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return kerror_set_errno(reterr, -errno, "'%s' cannot be looked at: %m", path);
        if (st.st_uid != geteuid())
                return kerror_set(reterr, K_ACCESS_DENIED, "'%s' belongs to somebody else (uid %u).", path,
                                (unsigned) st.st_uid);
        if (st.st_mode & mask)
                return kerror_set(reterr, K_ACCESS_DENIED,
                                "Others may %s '%s' (mode %04o), which holds tokens; set that right: chmod "
                                "%s %s",
                                mask == 022 ? "change" : "read", path, (unsigned) st.st_mode & 07777,
                                mask == 022 ? "go-w" : "600", path);
        return 0;
}

static int load_from(const char *dir, Contexts *ret, KError *reterr) {
        _cleanup_free_ char *path = strjoin(dir, "/contexts.json");
        _cleanup_close_ int fd = -EBADF;
        _cleanup_erase_ char *text = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        ssize_t n;
        int r;

        if (!path)
                return -ENOMEM;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && errno == ENOENT) {
                *ret = (Contexts){};
                return 0;
        }
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "'%s' cannot be read: %m", path);
        r = check_private(fd, path, 077, reterr);
        if (r < 0)
                return r;
        text = malloc(CONTEXTS_SIZE_MAX + 2);
        if (!text)
                return -ENOMEM;
        n = loop_read(fd, text, CONTEXTS_SIZE_MAX + 1);
        text[MAX(n, (ssize_t) 0)] = '\0';
        r = n < 0 ? (int) n : contexts_parse(text, (size_t) n, ret, &error);
        if (r < 0 && kerror_is_set(&error))
                return kerror_set(reterr, error.code, "'%s' is not what it should be: %s", path,
                                kerror_message(&error));
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be read: %m", path);
        return 0;
}

int contexts_load(Contexts *ret, KError *reterr) {
        _cleanup_free_ char *dir = NULL;
        int r;

        r = directory(&dir, NULL);
        if (r == -ENOMEM)
                return r;
        if (r < 0) { /* a service without home has logged in nowhere */
                *ret = (Contexts){};
                return 0;
        }
        return load_from(dir, ret, reterr);
}

static int lock(const char *dir, int *ret, KError *reterr) {
        _cleanup_free_ char *path = strjoin(dir, "/lock");
        _cleanup_close_ int fd = -EBADF, dir_fd = -EBADF;
        int r;

        if (!path)
                return -ENOMEM;
        r = mkdir_p(dir, 0700);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be made: %m", dir);
        dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return kerror_set_errno(reterr, -errno, "'%s' cannot be used: %m", dir);
        r = check_private(dir_fd, dir, 022, reterr);
        if (r < 0)
                return r;
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "'%s' cannot be made: %m", path);
        while (flock(fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        return kerror_set_errno(reterr, -errno, "'%s' cannot be locked: %m", path);

        *ret = TAKE_FD(fd);
        return 0;
}

int contexts_change(contexts_change_t change, void *userdata, KError *reterr) {
        _cleanup_free_ char *dir = NULL, *path = NULL;
        _cleanup_contexts_ Contexts l = {};
        _cleanup_erase_ char *text = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = directory(&dir, reterr);
        if (r >= 0)
                r = lock(dir, &fd, reterr);
        if (r >= 0)
                r = load_from(dir, &l, reterr);
        if (r >= 0)
                r = change(&l, userdata, reterr);
        if (r != 0)
                return MIN(r, 0);

        path = strjoin(dir, "/contexts.json");
        r = path ? contexts_format(&l, &text) : -ENOMEM;
        if (r < 0)
                return r;
        r = write_file_atomic(path, text, strlen(text), 0600);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be written: %m", path);
        return 0;
}
