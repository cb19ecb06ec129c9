/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <unistd.h>

#include "file-util.h"
#include "identity.h"
#include "kontena-limits.h"
#include "log.h"
#include "master-config.h"
#include "string-util.h"

/* What a master that has no users yet begins with. */

#define CREDENTIAL    "kontena.admin-code"
#define VARIABLE      "INITIAL_ADMIN_CODE"
#define CODE_SIZE_MIN 12U

/* *ret is NULL when none was given. The environment of a process can be read by others of its user for as long as it runs; the
 * credential cannot. */
static int given_code(char **ret) {
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_free_ char *path = NULL;
        _cleanup_erase_ char *code = NULL;
        size_t size;
        int r;

        if (credentials) {
                path = strjoin(credentials, "/", CREDENTIAL);
                if (!path)
                        return -ENOMEM;
                r = read_file(path, TOKEN_LENGTH_MAX, &code, &size);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (code)
                        code[strcspn(code, "\n")] = '\0';
        }
        if (!code && getenv(VARIABLE)) {
                code = strdup(getenv(VARIABLE));
                if (!code)
                        return -ENOMEM;
        }
        (void) unsetenv(VARIABLE); /* no child needs it */

        *ret = TAKE_PTR(code);
        return 0;
}

static bool is_good(const char *code) {
        return strlen(code) >= CODE_SIZE_MIN && strlen(code) <= TOKEN_LENGTH_MAX &&
               string_is_printable(code) && !strpbrk(code, " ");
}

static int seed_config(Master *m, KError *reterr) {
        _cleanup_free_ char *uuid = store_new_id();
        char host[65] = "";
        int r;

        if (!uuid)
                return -ENOMEM;
        if (gethostname(host, sizeof(host) - 1) < 0 || isempty(host))
                host[0] = '\0';
        r = master_config_set(m, "server.uuid", uuid, reterr);
        if (r >= 0 && host[0])
                r = master_config_set(m, "server.name", host, reterr);
        return r;
}

int identity_start(Master *m, KError *reterr) {
        _cleanup_(user_row_list_done) UserRowList users = {};
        _cleanup_(issued_token_done) IssuedToken t = {};
        _cleanup_(store_rollbackp) Store *s = NULL;
        _cleanup_erase_ char *code = NULL;
        int r;

        r = given_code(&code);
        if (r < 0)
                log_warning_errno(r, "The first administrator's code cannot be read: %m");
        r = store_list_users(m->store, &users);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The store cannot be read: %m.");
        if (users.n > 0)
                return 0;

        if (code && !is_good(code)) {
                log_warning("The first administrator's code is not taken: it must have %u characters or "
                            "more, none of "
                            "them blank.",
                                CODE_SIZE_MIN);
                erase_and_freep(&code);
                code = NULL;
        }
        r = store_begin(m->store, reterr);
        if (r < 0)
                return r;
        s = m->store;
        r = seed_config(m, reterr);
        if (r >= 0)
                r = identity_admin_code(m, code, &t, reterr);
        if (r < 0)
                return r;
        if (!code) { /* one that nobody knows is of no use */
                r = store_delete_codes(s, t.row->user_id);
                if (r < 0)
                        return r;
        }
        r = store_commit(s, reterr);
        s = NULL;
        if (r < 0)
                return r;

        if (code)
                log_notice("The first administrator can log in with the code that was given to kontenad, "
                           "once, until "
                           "tomorrow.");
        else
                log_notice("Nobody can log in over the network yet; 'kontenactl master admin-code' gives "
                           "the first "
                           "administrator a code.");
        return 0;
}
