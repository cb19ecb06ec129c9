/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tar-metadata.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "kontena-limits.h"
#include "string-util.h"

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define ACL_VERSION 2U
#define ACL_NO_ID   UINT32_MAX

/* Of a descriptor: works for those opened with O_PATH, too. */
#define FD_PATH_MAX sizeof("/proc/self/fd/-2147483648")
static const char *fd_path(int fd, char buffer[static FD_PATH_MAX]) {
        (void) snprintf(buffer, FD_PATH_MAX, "/proc/self/fd/%i", fd);
        return buffer;
}
#define FD_PATH(fd) fd_path((fd), (char[FD_PATH_MAX]){})

void tar_metadata_done(TarMetadata *m) {
        FOREACH_ARRAY(a, m->attributes, m->n_attributes) {
                free(a->name);
                free(a->value);
        }
        free(m->attributes);
        *m = (TarMetadata){};
}

/* With those of overlayfs a tree could hide or redirect what lies below it. */
static bool is_of_overlay(const char *name) {
        return startswith(name, "user.overlay.") || startswith(name, "trusted.overlay.");
}

static bool attribute_is_wanted(const char *name, const TarOptions *o) {
        /* Capabilities of a file are for a user namespace. */
        if (is_of_overlay(name) || (o->uid_base > 0 && streq(name, "security.capability")))
                return false;
        return startswith(name, "user.") || o->owner != TAR_OWNER_SELF;
}

uint32_t tar_user_of(uint32_t id, const TarOptions *o) {
        if (o->uid_base == 0)
                return id;
        return id >= o->uid_base && id - o->uid_base < TAR_USERS ? id - o->uid_base : TAR_NOBODY;
}

/* 0, or -EDOM: there is no such user in the tree. */
static int user_in(int64_t id, const TarOptions *o, int64_t *ret) {
        /* The last one means "leave it" to chown(). */
        if (id < 0 || id >= (o->uid_base > 0 ? TAR_USERS : UINT32_MAX))
                return -EDOM;
        *ret = id + o->uid_base;
        return 0;
}

static bool has_attribute(const TarMetadata *m, const char *name) {
        FOREACH_ARRAY(a, m->attributes, m->n_attributes)
                if (streq(a->name, name))
                        return true;
        return false;
}

static int add_attribute(TarMetadata *m, const char *name, const void *value, size_t size) {
        TarAttribute *larger;
        TarAttribute a;

        if (m->n_attributes >= IMAGE_XATTRS_MAX)
                return -E2BIG;
        larger = reallocarray(m->attributes, m->n_attributes + 1, sizeof(TarAttribute));
        if (!larger)
                return -ENOMEM;
        m->attributes = larger;

        a = (TarAttribute){ .name = strdup(name), .value = malloc(MAX(size, (size_t) 1)), .size = size };
        if (!a.name || !a.value) {
                free(a.name);
                free(a.value);
                return -ENOMEM;
        }
        if (size > 0)
                memcpy(a.value, value, size);
        m->attributes[m->n_attributes++] = a;
        m->size += strlen(name) + size;
        return 0;
}

/* What is in an attribute of Linux: a version, then tag, permissions and id of each, little-endian, in the order of tags. */
typedef struct AclEntry {
        uint16_t tag, permissions;
        uint32_t id;
} AclEntry;

/* Users of a list that is for another user namespace. */
static int shift_acl(uint8_t *value, size_t size, const TarOptions *o, bool pack) {
        for (size_t i = 4; o->uid_base > 0 && i + sizeof(AclEntry) <= size; i += sizeof(AclEntry)) {
                AclEntry e;
                int64_t id;

                memcpy(&e, value + i, sizeof(e));
                if (e.id == htole32(ACL_NO_ID))
                        continue;
                if (pack)
                        e.id = htole32(tar_user_of(le32toh(e.id), o));
                else if (user_in(le32toh(e.id), o, &id) < 0)
                        return -EDOM;
                else
                        e.id = htole32((uint32_t) id);
                memcpy(value + i, &e, sizeof(e));
        }
        return 0;
}

static bool is_acl(const char *name) {
        return STR_IN_SET(name, ACL_ACCESS, ACL_DEFAULT);
}

/* Other archivers write lists of access rights as text, which libarchive reads; we write the attribute itself. */
static int add_acl(TarMetadata *m, struct archive_entry *entry, int type, const char *name) {
        static const struct {
                int theirs;
                uint16_t ours;
        } tags[] = {
                { ARCHIVE_ENTRY_ACL_USER_OBJ, 0x01 },
                { ARCHIVE_ENTRY_ACL_USER, 0x02 },
                { ARCHIVE_ENTRY_ACL_GROUP_OBJ, 0x04 },
                { ARCHIVE_ENTRY_ACL_GROUP, 0x08 },
                { ARCHIVE_ENTRY_ACL_MASK, 0x10 },
                { ARCHIVE_ENTRY_ACL_OTHER, 0x20 },
        };
        uint8_t value[4 + IMAGE_XATTRS_MAX * sizeof(AclEntry)];
        uint32_t version = htole32(ACL_VERSION);
        size_t n = 4;

        memcpy(value, &version, 4);
        FOREACH_ARRAY(t, tags, ELEMENTSOF(tags)) {
                int entry_type, permissions, tag, id;
                const char *who;

                if (archive_entry_acl_reset(entry, type) <= 0)
                        return 0;
                while (archive_entry_acl_next(entry, type, &entry_type, &permissions, &tag, &id, &who) ==
                                ARCHIVE_OK) {
                        AclEntry e = {
                                .tag = htole16(t->ours),
                                .permissions = htole16((uint16_t) (permissions & 7)),
                                .id = htole32(ACL_NO_ID),
                        };

                        if (tag != t->theirs)
                                continue;
                        if (tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP) {
                                if (id < 0)
                                        return -EDOM;
                                e.id = htole32((uint32_t) id);
                        }
                        if (n + sizeof(e) > sizeof(value))
                                return -E2BIG;
                        memcpy(value + n, &e, sizeof(e));
                        n += sizeof(e);
                }
        }

        return n > 4 ? add_attribute(m, name, value, n) : 0;
}

static int read_attributes(
                TarMetadata *m, struct archive_entry *entry, const TarOptions *o, uint64_t *skipped) {
        unsigned n = 0;

        (void) archive_entry_xattr_reset(entry);
        for (;;) {
                const char *name;
                const void *value;
                size_t size;
                int r;

                if (archive_entry_xattr_next(entry, &name, &value, &size) != ARCHIVE_OK || !name)
                        return 0;
                if (++n > IMAGE_XATTRS_MAX)
                        return -E2BIG;
                if (!attribute_is_wanted(name, o) || size > XATTR_SIZE_MAX || has_attribute(m, name)) {
                        *skipped += o->owner != TAR_OWNER_SELF;
                        continue;
                }
                r = add_attribute(m, name, value, size);
                if (r < 0)
                        return r;
        }
}

int tar_metadata_read(
                struct archive_entry *entry, const TarOptions *o, TarMetadata *ret, uint64_t *skipped) {
        _cleanup_(tar_metadata_done) TarMetadata m = {};
        int r;

        m.mode = archive_entry_mode(entry) & 07777;
        m.mtime = (struct timespec){ archive_entry_mtime(entry), archive_entry_mtime_nsec(entry) };
        switch (o->owner) {
        case TAR_OWNER_SELF:
                m.mode &= 01777;
                m.uid = m.gid = -1;
                break;
        case TAR_OWNER_ROOT:
                m.uid = m.gid = o->uid_base;
                break;
        default:
                r = user_in(archive_entry_uid(entry), o, &m.uid);
                if (r >= 0)
                        r = user_in(archive_entry_gid(entry), o, &m.gid);
                if (r < 0)
                        return r;
        }

        r = read_attributes(&m, entry, o, skipped);
        if (r >= 0 && o->owner != TAR_OWNER_SELF && !has_attribute(&m, ACL_ACCESS) &&
                        (archive_entry_acl_types(entry) & ARCHIVE_ENTRY_ACL_TYPE_ACCESS))
                r = add_acl(&m, entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, ACL_ACCESS);
        if (r >= 0 && o->owner != TAR_OWNER_SELF && !has_attribute(&m, ACL_DEFAULT) &&
                        (archive_entry_acl_types(entry) & ARCHIVE_ENTRY_ACL_TYPE_DEFAULT))
                r = add_acl(&m, entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, ACL_DEFAULT);
        FOREACH_ARRAY(a, m.attributes, m.n_attributes)
                if (r >= 0 && is_acl(a->name))
                        r = shift_acl(a->value, a->size, o, /* pack= */ false);
        if (r < 0)
                return r;

        *ret = TAKE_GENERIC(m, (TarMetadata){});
        return 0;
}

int tar_metadata_apply(const TarMetadata *m, int fd, const TarOptions *o, uint64_t *skipped) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, m->mtime };
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (m->uid >= 0 && fchownat(fd, "", (uid_t) m->uid, (gid_t) m->gid, AT_EMPTY_PATH) < 0)
                return -errno;
        if (!S_ISLNK(st.st_mode) && chmod(FD_PATH(fd), m->mode) < 0)
                return -errno;
        FOREACH_ARRAY(a, m->attributes, S_ISLNK(st.st_mode) ? 0 : m->n_attributes)
                if (setxattr(FD_PATH(fd), a->name, a->value, a->size, 0) < 0) {
                        /* Others have it, this file system or this user has not. */
                        if (!(errno == EOPNOTSUPP || errno == EPERM))
                                return -errno;
                        *skipped += o->owner != TAR_OWNER_SELF;
                }
        if (utimensat(fd, "", times, AT_EMPTY_PATH) < 0)
                return -errno;
        return 0;
}

static ssize_t read_names(int fd, char **ret) {
        for (unsigned tries = 0; tries < 8; tries++) {
                _cleanup_free_ char *names = NULL;
                ssize_t n = listxattr(FD_PATH(fd), NULL, 0);

                if (n <= 0)
                        return n < 0 && errno != EOPNOTSUPP ? -errno : 0;
                names = malloc((size_t) n);
                if (!names)
                        return -ENOMEM;
                n = listxattr(FD_PATH(fd), names, (size_t) n);
                if (n >= 0) {
                        *ret = TAKE_PTR(names);
                        return n;
                }
                if (errno != ERANGE) /* it got more meanwhile */
                        return -errno;
        }

        return -ERANGE;
}

int tar_metadata_pack(int fd, struct archive_entry *entry, const TarOptions *o, uint64_t *skipped) {
        _cleanup_free_ char *names = NULL, *value = NULL;
        ssize_t n;

        n = read_names(fd, &names);
        if (n <= 0)
                return (int) n;
        value = malloc(XATTR_SIZE_MAX);
        if (!value)
                return -ENOMEM;
        for (const char *p = names; p < names + n; p += strlen(p) + 1) {
                ssize_t size;

                if (!attribute_is_wanted(p, o)) {
                        *skipped += !is_of_overlay(p);
                        continue;
                }
                size = getxattr(FD_PATH(fd), p, value, XATTR_SIZE_MAX);
                if (size < 0) {
                        *skipped += errno != ENODATA;
                        continue;
                }
                if (is_acl(p))
                        (void) shift_acl((uint8_t *) value, (size_t) size, o, /* pack= */ true);
                archive_entry_xattr_add_entry(entry, p, value, (size_t) size);
        }

        return 0;
}
