/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "kerror.h"
#include "macro.h"

/* Trees of files as tar streams (pax), written and read by way of libarchive. For "kontenactl cp" on both sides, and for volumes.
 *
 * Kept: names as bytes, type, mode, mtime to the nanosecond, owner as a number, extended attributes with POSIX ACLs and file
 * capabilities, hard links, holes. Sockets are left out.
 *
 * No symbolic link is ever followed, in either direction, and nothing outside the given directory is touched: not by "..", absolute
 * names, links of the archive or links that somebody makes while it is read. File systems of the kernel (proc, sysfs, cgroup, …) are
 * neither read nor written. All of it blocks: call it in a process of its own. */
typedef enum TarOwner {
        TAR_OWNER_SELF, /* whoever unpacks: no set-user-ID bits, no attributes but user.* */
        TAR_OWNER_ROOT, /* all belongs to root */
        TAR_OWNER_KEEP,
} TarOwner;

#define TAR_USERS  65536U
#define TAR_NOBODY 65534U /* whoever is outside of that */

/* A directory, by what it is and not by where. */
typedef struct TarPlace {
        dev_t device;
        ino_t inode;
} TarPlace;

typedef struct TarOptions {
        TarOwner owner;
        bool devices;    /* devices and FIFOs, too; else they are left out */
        bool one_device; /* what is mounted below is left out */
        bool private;  /* unpacking: nobody sees the directory yet; else each file is replaced as a whole */
        bool root_too; /* unpacking: owner, mode … of "." are for the directory itself */
        bool directory_only; /* unpacking: the first entry is a directory */
        /* Unpacking: the first entry's first name becomes this one, and nothing else is in the archive. NULL: as it comes. */
        const char *rename;
        /* Users of the tree are so much more than those of the archive: it is a user namespace's. Then there are TAR_USERS of them. 0: the same. */
        uint32_t uid_base;
        /* Directories that others are mounted over when it runs, however deep they are: packed as empty ones, and unpacking leaves them as
         * they are and puts nothing there. */
        const TarPlace *hidden;
        size_t n_hidden;
        uint64_t size_max;    /* bytes of files; 0: no limit but the disk's */
        uint64_t entries_max; /* 0: TAR_ENTRIES_MAX */
        /* Bytes of files so far, now and then, also while there are only holes; negative ends it. May be NULL. */
        int (*progress)(uint64_t bytes, void *userdata);
        void *userdata;
} TarOptions;

typedef struct TarStats {
        uint64_t n_entries;
        uint64_t size;      /* bytes of files, without holes */
        uint64_t n_skipped; /* sockets, devices, attributes that this file system does not have */
        uint64_t n_changed; /* packing: files that became shorter while they were read; filled up with zeros */
} TarStats;

/* Takes all of the data. */
typedef int (*tar_write_t)(const void *data, size_t size, void *userdata);
/* The next bytes, valid until the next call; *ret_size 0 at the end. */
typedef int (*tar_read_t)(const void **ret, size_t *ret_size, void *userdata);

/* Packs what has this name in the directory ("." for the directory itself), calling it as ("." or a single name). Only when it
 * succeeds does the stream have its end. */
int tar_pack(int dir_fd, const char *name, const char *as, const TarOptions *o, tar_write_t write,
                void *userdata, TarStats *ret, KError *reterr);

/* Unpacks into the directory. A stream without its end is refused, as late as that is known; the caller throws away what was made,
 * if somebody could take it for the whole. Reads the stream to its end. */
int tar_unpack(int dir_fd, const TarOptions *o, tar_read_t read, void *userdata, TarStats *ret,
                KError *reterr);

/* tar_write_t and tar_read_t for descriptors; userdata is an int* or a TarInput*. */
int tar_write_fd(const void *data, size_t size, void *userdata);
typedef struct TarInput {
        int fd;
        uint8_t buffer[64 * 1024];
} TarInput;
int tar_read_fd(const void **ret, size_t *ret_size, void *userdata);
