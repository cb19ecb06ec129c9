/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "kerror.h"
#include "macro.h"

/* Who a container's process is: "user", "uid", "user:group", ... looked up in the image's own passwd and group, which are input
 * from afar: opened beneath the root, of bounded size, parsed here and never by the C library. */
typedef struct UserIdentity {
        uid_t uid;
        gid_t gid;
        gid_t *groups; /* supplementary */
        size_t n_groups;
        char *home; /* NULL: not in passwd */
} UserIdentity;

void user_identity_done(UserIdentity *u);

/* user NULL or empty is root. A number needs no entry. With an explicit group there are no supplementary ones, as in Docker. */
int user_lookup(int root_fd, const char *user, UserIdentity *ret, KError *reterr);

/* The same on texts, for tests and the fuzzer. Either may be NULL: the file is missing. */
int user_lookup_text(
                const char *passwd, const char *group, const char *user, UserIdentity *ret, KError *reterr);
