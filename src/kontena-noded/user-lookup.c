/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "user-lookup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

#define DATABASE_SIZE_MAX (1024U * 1024U)
#define GROUPS_MAX        1024U

void user_identity_done(UserIdentity *u) {
        free(u->groups);
        free(u->home);
        *u = (UserIdentity){};
}

/* A line's fields, borrowed: text between colons. */
typedef struct Line {
        const char *field[7];
        size_t length[7];
        size_t n;
} Line;

/* Takes the next line from *text; false at the end. Lines with more fields keep the rest in the last one. */
static bool next_line(const char **text, Line *ret) {
        const char *p = *text, *end;

        if (!p || *p == '\0')
                return false;

        end = strchrnul(p, '\n');
        *text = *end == '\n' ? end + 1 : end;

        ret->n = 0;
        for (;;) {
                const char *colon = memchr(p, ':', (size_t) (end - p));

                if (!colon || ret->n + 1 == ELEMENTSOF(ret->field))
                        colon = end;
                ret->field[ret->n] = p;
                ret->length[ret->n++] = (size_t) (colon - p);
                if (colon == end)
                        return true;
                p = colon + 1;
        }
}

static bool field_equal(const Line *l, size_t i, const char *s) {
        return i < l->n && l->length[i] == strlen(s) && memcmp(l->field[i], s, l->length[i]) == 0;
}

static bool field_id(const Line *l, size_t i, uint32_t *ret) {
        char number[11];
        unsigned v;

        if (i >= l->n || l->length[i] == 0 || l->length[i] >= sizeof(number))
                return false;
        memcpy(number, l->field[i], l->length[i]);
        number[l->length[i]] = '\0';
        if (safe_atou(number, &v) < 0 || v == UINT32_MAX)
                return false;

        *ret = v;
        return true;
}

static bool find_user(const char *passwd, const char *name, bool numeric, uint32_t uid, Line *ret) {
        Line l;

        while (next_line(&passwd, &l)) {
                uint32_t v;

                if (!field_id(&l, 2, &v))
                        continue;
                if (numeric ? v == uid : field_equal(&l, 0, name)) {
                        *ret = l;
                        return true;
                }
        }

        return false;
}

/* "a,b,c" has the user's name. */
static bool list_contains(const char *list, size_t n, const char *name, size_t name_length) {
        while (n > 0) {
                const char *comma = memchr(list, ',', n);
                size_t k = comma ? (size_t) (comma - list) : n;

                if (k == name_length && memcmp(list, name, k) == 0)
                        return true;
                if (!comma)
                        return false;
                list = comma + 1;
                n -= k + 1;
        }

        return false;
}

static int collect_groups(
                const char *group, const char *name, size_t name_length, gid_t primary, UserIdentity *u) {
        Line l;

        while (next_line(&group, &l)) {
                uint32_t gid;
                gid_t *larger;

                if (l.n < 4 || !field_id(&l, 2, &gid) || gid == primary ||
                                !list_contains(l.field[3], l.length[3], name, name_length))
                        continue;
                if (u->n_groups == GROUPS_MAX)
                        return -E2BIG;
                larger = reallocarray(u->groups, u->n_groups + 1, sizeof(gid_t));
                if (!larger)
                        return -ENOMEM;
                u->groups = larger;
                u->groups[u->n_groups++] = gid;
        }

        return 0;
}

static int find_group(const char *group, const char *name, gid_t *ret) {
        uint32_t gid;
        unsigned number;
        Line l;

        if (safe_atou(name, &number) >= 0) {
                *ret = number;
                return number == UINT32_MAX ? -ERANGE : 0;
        }
        while (next_line(&group, &l))
                if (field_equal(&l, 0, name) && field_id(&l, 2, &gid)) {
                        *ret = gid;
                        return 0;
                }

        return -ENOENT;
}

int user_lookup_text(
                const char *passwd, const char *group, const char *user, UserIdentity *ret, KError *reterr) {
        _cleanup_(user_identity_done) UserIdentity u = {};
        _cleanup_free_ char *name = NULL;
        const char *colon, *group_name = NULL;
        unsigned number = 0;
        bool numeric, found;
        uint32_t gid;
        Line l = {};
        int r;

        user = isempty(user) ? "0" : user;
        colon = strchr(user, ':');
        if (colon)
                group_name = colon + 1;
        name = colon ? strndup(user, (size_t) (colon - user)) : strdup(user);
        if (!name)
                return -ENOMEM;

        numeric = safe_atou(name, &number) >= 0;
        if (numeric && number == UINT32_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The user id %u is not possible.", number);
        found = find_user(passwd, name, numeric, number, &l);
        if (!found && !numeric)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The image has no user '%s'.", name);

        u.uid = number;
        if (found) {
                uint32_t uid;

                if (field_id(&l, 2, &uid))
                        u.uid = uid;
                if (field_id(&l, 3, &gid))
                        u.gid = gid;
                if (l.n > 5 && l.length[5] > 0 && l.field[5][0] == '/') {
                        u.home = strndup(l.field[5], l.length[5]);
                        if (!u.home)
                                return -ENOMEM;
                }
        }

        if (!isempty(group_name)) {
                r = find_group(group, group_name, &u.gid);
                if (r < 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "The image has no group '%s'.",
                                        group_name);
        } else if (found) {
                r = collect_groups(group, l.field[0], l.length[0], u.gid, &u);
                if (r == -E2BIG)
                        return kerror_set(reterr, K_LIMIT_EXCEEDED, "User '%s' is in more than %u groups.",
                                        name, GROUPS_MAX);
                if (r < 0)
                        return r;
        }

        *ret = u;
        u = (UserIdentity){};
        return 0;
}

static int read_database(int root_fd, const char *path, char **ret, KError *reterr) {
        struct open_how how = {
                .flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        };
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        struct stat st;
        ssize_t n;

        fd = (int) syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
        if (fd < 0) {
                if (errno == ENOENT || errno == ENOTDIR)
                        return 0;
                return kerror_set_errno(reterr, -errno, "Cannot open the image's '/%s': %m", path);
        }
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return kerror_set(reterr, K_IMAGE, "The image's '/%s' is not a file.", path);
        if (st.st_size > DATABASE_SIZE_MAX)
                return kerror_set(reterr, K_IMAGE, "The image's '/%s' is larger than %u bytes.", path,
                                DATABASE_SIZE_MAX);

        text = malloc((size_t) st.st_size + 1);
        if (!text)
                return -ENOMEM;
        n = loop_read(fd, text, (size_t) st.st_size);
        if (n < 0)
                return kerror_set_errno(reterr, (int) n, "Cannot read the image's '/%s': %m", path);
        text[n] = '\0';

        *ret = TAKE_PTR(text);
        return 0;
}

int user_lookup(int root_fd, const char *user, UserIdentity *ret, KError *reterr) {
        _cleanup_free_ char *passwd = NULL, *group = NULL;
        int r;

        r = read_database(root_fd, "etc/passwd", &passwd, reterr);
        if (r >= 0)
                r = read_database(root_fd, "etc/group", &group, reterr);
        if (r < 0)
                return r;

        return user_lookup_text(passwd, group, user, ret, reterr);
}
