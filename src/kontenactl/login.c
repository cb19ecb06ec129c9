/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include "confirm.h"
#include "context.h"
#include "ctl.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "login-callback.h"
#include "remote.h"
#include "secret-input.h"
#include "string-util.h"
#include "uri.h"

#define SECRET_LENGTH_MAX    4096U
#define BROWSER_TIMEOUT_USEC (300U * USEC_PER_SEC)
#define FINGERPRINT_LENGTH   64U

extern char **environ;

/* Which master */

/* "AB:CD:…" as other tools write it, and "abcd…". */
static int normalize_fingerprint(const char *s, char **ret, KError *reterr) {
        _cleanup_free_ char *t = new0(char, strlen(s) + 1);
        size_t n = 0;

        if (!t)
                return -ENOMEM;
        for (; *s; s++)
                if (*s != ':')
                        t[n++] = (char) tolower((unsigned char) *s);
        if (n != FINGERPRINT_LENGTH || strspn(t, "0123456789abcdef") != n)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--ca-fingerprint= wants the 64 hexadecimal digits of a SHA-256.");

        *ret = TAKE_PTR(t);
        return 0;
}

/* "master" of https://master.example:9292 */
static char *name_of_url(const char *url) {
        const char *host = startswith(url, "https://") ?: url;
        _cleanup_free_ char *name = strndup(host, strcspn(host, ":/"));

        return name && context_name_is_valid(name) ? TAKE_PTR(name) : strdup("master");
}

/* Nobody can look into this for a person: the first time they must compare. */
static int check_authority(Context *c, const Context *known, const char *wanted, KError *reterr) {
        int r;

        r = remote_show_ca(c->url, &c->ca, &c->fingerprint, reterr);
        if (r < 0)
                return r;
        if (wanted) {
                if (streq(wanted, c->fingerprint))
                        return 0;
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The master at %s shows an authority with the fingerprint %s, not %s.",
                                c->url, c->fingerprint, wanted);
        }
        if (known && known->fingerprint) {
                if (streq(known->fingerprint, c->fingerprint))
                        return 0;
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The master at %s shows an authority with the fingerprint %s, not %s as "
                                "before: it was "
                                "installed anew, its authority was replaced, or somebody is between. If its "
                                "administrator confirms the new one: kontenactl login --ca-fingerprint=%s "
                                "%s",
                                c->url, c->fingerprint, known->fingerprint, c->fingerprint, c->url);
        }

        if (isatty(STDIN_FILENO) <= 0 || isatty(STDERR_FILENO) <= 0)
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The authority of the master at %s is not known here, and there is no "
                                "terminal to ask on. "
                                "Its fingerprint is %s; if that is right, say --ca-fingerprint=%s",
                                c->url, c->fingerprint, c->fingerprint);
        fprintf(stderr,
                        "The authority of the master at %s is not known here. Its fingerprint is\n\n    "
                        "%s\n\n"
                        "On the master, \"kontenactl master ca\" shows it.\n",
                        c->url, c->fingerprint);
        r = confirm(false, NULL, "Is it the same?");
        return r < 0 ? kerror_set(reterr, K_NOT_AUTHENTICATED,
                                       "The master is not trusted, nothing was done.")
                     : 0;
}

/* Who */

static int exchange(Context *c, const char *code, KError *reterr) {
        _cleanup_json_ json_object *body = json_object_new_object(), *answer = NULL;
        int status, r;

        r = body ? json_add_string(body, "grant_type", "authorization_code") : -ENOMEM;
        if (r >= 0)
                r = json_add_string(body, "code", code);
        if (r >= 0)
                r = remote_request(c, "POST", "/oauth2/token", NULL, body, &status, &answer, reterr);
        if (r < 0)
                return r;
        if (status == 404 || status == 400)
                return kerror_set(
                                reterr, K_NOT_AUTHENTICATED, "The code is wrong, was used, or has expired.");
        if (status == 429)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "Too many attempts; try again in a minute.");
        if (status != 200 && status != 201)
                return kerror_set(reterr, K_UNAVAILABLE, "The master at %s answers with status %i.", c->url,
                                status);
        return remote_take_token(answer, c, reterr);
}

/* The token works, and whose it is. */
static int find_user(Context *c, KError *reterr) {
        _cleanup_json_ json_object *answer = NULL;
        const char *email = NULL;
        int status, r;

        r = remote_request(c, "GET", "/v1/user", c->token, NULL, &status, &answer, reterr);
        if (r < 0)
                return r;
        if (status == 401 || status == 403)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The master at %s does not take the token.",
                                c->url);
        if (status != 200 || json_get_string(answer, "email", &email, NULL) < 0 ||
                        !string_is_printable(email))
                return kerror_set(reterr, K_UNAVAILABLE, "The master at %s answers with status %i.", c->url,
                                status);
        return MIN(free_and_strdup(&c->user, email), 0);
}

static bool has_browser(void) {
        return !isempty(getenv("DISPLAY")) || !isempty(getenv("WAYLAND_DISPLAY"));
}

/* Not waited for: where there is no desktop xdg-open is the browser, and ends with it. */
static void open_browser(const char *url) {
        const char *const argv[] = { "xdg-open", url, NULL };
        posix_spawn_file_actions_t actions;
        pid_t pid;

        if (posix_spawn_file_actions_init(&actions) != 0)
                return;
        /* What a browser complains about would stand between what the user is asked. */
        if (posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0) == 0 &&
                        posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO) == 0 &&
                        posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDERR_FILENO) == 0)
                (void) posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *) argv, environ);
        posix_spawn_file_actions_destroy(&actions);
}

static int code_by_browser(Ctl *c, Context *x, char **ret, KError *reterr) {
        _cleanup_(login_callback_freep) LoginCallback *callback = NULL;
        _cleanup_free_ char *escaped = NULL, *url = NULL;
        int r;

        r = login_callback_new(&callback, reterr);
        if (r < 0)
                return r;
        escaped = uri_escape(login_callback_url(callback));
        url = escaped ? strjoin(x->url, "/authenticate?redirect_uri=", escaped) : NULL;
        if (!url)
                return -ENOMEM;
        fprintf(stderr,
                        "Log in with a browser on this machine (elsewhere: kontenactl login --remote):\n\n  "
                        "  %s\n\n",
                        url);
        if (has_browser())
                open_browser(url);
        return login_callback_wait(callback, BROWSER_TIMEOUT_USEC, ret, reterr);
}

static int code_by_hand(Context *x, char **ret, KError *reterr) {
        fprintf(stderr,
                        "Log in with any browser, and bring the code that it shows:\n\n"
                        "    %s/authenticate?redirect_uri=%%2Fcode\n\n",
                        x->url);
        return secret_input("Code: ", "code", SECRET_LENGTH_MAX, ret, reterr);
}

static int get_token(Ctl *c, const Arguments *a, Context *x, KError *reterr) {
        const char *code = arguments_get(a, "code"), *token = arguments_get(a, "token");
        _cleanup_erase_ char *text = NULL;
        int r;

        if (token) {
                if (!streq(token, "-"))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "--token= takes only \"-\", standard input: others would see it in "
                                        "the list of "
                                        "processes.");
                r = secret_input("Token: ", "token", SECRET_LENGTH_MAX, &x->token, reterr);
                if (r >= 0 && !string_is_printable(x->token))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "That is not a token.");
                return r;
        }
        if (code && streq(code, "-"))
                r = secret_input("Code: ", "code", SECRET_LENGTH_MAX, &text, reterr);
        else if (code) {
                text = strdup(code);
                r = text ? 0 : -ENOMEM;
        } else if (arguments_has(a, "remote"))
                r = code_by_hand(x, &text, reterr);
        else
                r = code_by_browser(c, x, &text, reterr);
        return r < 0 ? r : exchange(x, text, reterr);
}

static int put_current(Contexts *l, void *userdata, KError *reterr) {
        Context *c = userdata;
        int r;

        r = free_and_strdup(&l->current, c->name);
        if (r >= 0)
                r = contexts_put(l, c);
        if (r == -E2BIG)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are %u contexts already.", CONTEXTS_MAX);
        return MIN(r, 0);
}

int command_login(Ctl *c, const Arguments *a, KError *reterr) {
        const char *name = arguments_get(a, "name"), *wanted = arguments_get(a, "ca-fingerprint");
        _cleanup_free_ char *channel = NULL, *fingerprint = NULL, *user = NULL, *url = NULL,
                            *final_name = NULL;
        _cleanup_contexts_ Contexts l = {};
        _cleanup_context_ Context x = {};
        const Context *known;
        int r;

        if (arguments_has(a, "code") + arguments_has(a, "token") + arguments_has(a, "remote") > 1)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--code, --token and --remote exclude each other.");
        if (name && !context_name_is_valid(name))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' cannot be the name of a context.", name);
        r = wanted ? normalize_fingerprint(wanted, &fingerprint, reterr) : 0;
        if (r >= 0)
                r = join_url_normalize(arguments_arg(a, 0), &channel, reterr);
        if (r >= 0)
                r = contexts_load(&l, reterr);
        if (r < 0)
                return r;

        x.url = master_address(channel);
        if (!x.url)
                return -ENOMEM;
        known = name ? contexts_find(&l, name) : contexts_find_url(&l, x.url);
        if (known && !streq(known->url, x.url))
                return kerror_set(reterr, K_ALREADY_EXISTS, "The context '%s' is of the master at %s.",
                                known->name, known->url);
        if (!known) /* under another name, perhaps */
                known = contexts_find_url(&l, x.url);
        x.name = name ? strdup(name) : known ? strdup(known->name) : name_of_url(x.url);
        if (!x.name)
                return -ENOMEM;
        if (!name && !known && contexts_find(&l, x.name))
                return kerror_set(reterr, K_ALREADY_EXISTS,
                                "There is a context '%s' of another master: say --name=.", x.name);

        r = check_authority(&x, known, fingerprint, reterr);
        if (r >= 0)
                r = get_token(c, a, &x, reterr);
        if (r >= 0)
                r = find_user(&x, reterr);
        if (r < 0)
                return r;
        user = strdup(x.user);
        url = strdup(x.url);
        final_name = strdup(x.name);
        r = contexts_change(put_current, &x, reterr);
        if (r < 0)
                return r;
        ctl_say(c,
                        "Logged in at %s as %s. Commands go there (context '%s'); back to this machine: "
                        "kontenactl context use "
                        "local",
                        strna(url), strna(user), strna(final_name));
        return 0;
}

/* Out */

static int forget_token(Contexts *l, void *userdata, KError *reterr) {
        Context *c = contexts_find(l, userdata);

        if (!c)
                return 1;
        erase_and_freep(&c->token);
        erase_and_freep(&c->refresh_token);
        c->token = c->refresh_token = NULL;
        c->token_id = mfree(c->token_id);
        c->user = mfree(c->user);
        c->expires_at = 0;
        return 0;
}

/* 1: the master said yes. */
static int revoke_token(Context *c, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        int status, r;

        if (!c->token || !c->token_id)
                return 0;
        path = strjoin("/oauth2/tokens/", c->token_id);
        r = path ? remote_request(c, "DELETE", path, c->token, NULL, &status, NULL, reterr) : -ENOMEM;
        if (r < 0)
                return r;
        if (status == 401 || status == 403 || status == 404) /* gone already */
                return 1;
        return status < 300 ? 1
                            : kerror_set(reterr, K_UNAVAILABLE, "The master answers with status %i.",
                                              status);
}

/* Named, or the current one. */
static int choose(const Arguments *a, Contexts *l, Context **ret, KError *reterr) {
        const char *name = arguments_arg(a, 0) ?: arguments_get(a, "context") ?: l->current;

        if (!name)
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "No context is selected: name one, or log in.");
        *ret = contexts_find(l, name);
        if (!*ret)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no context '%s'.", name);
        return 0;
}

int command_logout(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_contexts_ Contexts l = {};
        Context *x;
        int r;

        r = contexts_load(&l, reterr);
        if (r >= 0)
                r = choose(a, &l, &x, reterr);
        if (r < 0)
                return r;
        if (!x->token) {
                ctl_say(c, "Not logged in at %s.", x->url);
                return 0;
        }

        if (revoke_token(x, &error) < 0)
                ctl_warn("The token stays valid at the master until it expires or is removed: %s",
                                kerror_message(&error));
        r = contexts_change(forget_token, x->name, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "Logged out of %s.", x->url);
        return 0;
}

/* Names of roles, which the REST face describes. */
static int who_at(const Context *x, json_object *record, KError *reterr) {
        _cleanup_json_ json_object *answer = NULL, *names = json_object_new_array();
        json_object *roles = NULL;
        int status, r;

        r = names ? remote_request(x, "GET", "/v1/user", x->token, NULL, &status, &answer, reterr) : -ENOMEM;
        if (r < 0)
                return r;
        if (status != 200)
                return kerror_set(reterr,
                                status == 401 || status == 403 ? K_NOT_AUTHENTICATED : K_UNAVAILABLE,
                                "The master at %s %s.", x->url,
                                status == 401 || status == 403 ? "does not take the token" : "does not say");
        (void) json_find_array(answer, "roles", &roles, NULL);
        FOREACH_JSON_ARRAY(role, roles)
                if (r >= 0)
                        r = json_append_string(names, row_string(role, "name"));
        if (r >= 0)
                r = json_add_string(record, "email", row_string(answer, "email"));
        if (r >= 0)
                r = json_add_string(record, "name", row_string(answer, "name"));
        if (r >= 0)
                r = json_add(record, "roles", TAKE_PTR(names));
        return r;
}

int command_whoami(Ctl *c, const Arguments *a, KError *reterr) {
        static const TableColumn fields[] = {
                { .title = "Context", .key = "context" },
                { .title = "Master", .key = "url" },
                { .title = "User", .key = "email" },
                { .title = "Name", .key = "name" },
                { .title = "Roles", .key = "roles" },
                { .title = "Uid", .key = "uid" },
                {},
        };
        _cleanup_json_ json_object *record = json_object_new_object();
        Context *x = NULL;
        int r;

        r = record ? ctl_context(c, &x, reterr) : -ENOMEM;
        if (r < 0)
                return r;
        r = json_add_string(record, "context", !x ? CONTEXT_LOCAL : x->name ?: "KONTENA_URL");
        if (r >= 0 && x)
                r = json_add_string(record, "url", x->url);
        if (r >= 0)
                r = x ? who_at(x, record, reterr) : json_add_u64(record, "uid", getuid());
        return r < 0 ? r : ctl_print_record(c, fields, record, reterr);
}

/* Contexts */

static int context_row(const Contexts *l, const Context *c, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        r = o ? json_add_string(o, "name", c->name) : -ENOMEM;
        if (r >= 0)
                r = json_add_bool(o, "current", streq_ptr(l->current, c->name));
        if (r >= 0)
                r = json_add_string(o, "url", c->url);
        if (r >= 0)
                r = json_add_string(o, "user", c->user);
        if (r >= 0)
                r = json_add_string(o, "master", c->master);
        if (r >= 0)
                r = json_add_string(o, "ca_fingerprint", c->fingerprint);
        if (r >= 0)
                r = c->expires_at > 0 ? json_add_u64(o, "expires_at", c->expires_at * USEC_PER_SEC)
                                      : json_add(o, "expires_at", json_object_new_int(0));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int command_context_list(Ctl *c, const Arguments *a, KError *reterr) {
        static const TableColumn columns[] = {
                { .title = "NAME", .key = "name" },
                { .title = "CURRENT", .key = "current" },
                { .title = "URL", .key = "url" },
                { .title = "USER", .key = "user" },
                {},
        };
        _cleanup_json_ json_object *rows = json_object_new_array();
        _cleanup_contexts_ Contexts l = {};
        int r;

        r = rows ? contexts_load(&l, reterr) : -ENOMEM;
        FOREACH_ARRAY(x, l.list, l.n) {
                json_object *row;

                if (r >= 0)
                        r = context_row(&l, x, &row);
                if (r >= 0)
                        r = json_append(rows, row);
        }
        if (r < 0)
                return r;
        return ctl_print_rows(c, columns, rows, "There is no context; make one with: kontenactl login URL",
                        reterr);
}

int command_context_show(Ctl *c, const Arguments *a, KError *reterr) {
        static const TableColumn fields[] = {
                { .title = "Name", .key = "name" },
                { .title = "Current", .key = "current" },
                { .title = "Master", .key = "url" },
                { .title = "Called", .key = "master" },
                { .title = "User", .key = "user" },
                { .title = "Authority", .key = "ca_fingerprint" },
                {},
        };
        _cleanup_json_ json_object *row = NULL;
        _cleanup_contexts_ Contexts l = {};
        Context *x;
        int r;

        r = contexts_load(&l, reterr);
        if (r >= 0)
                r = choose(a, &l, &x, reterr);
        if (r >= 0)
                r = context_row(&l, x, &row);
        return r < 0 ? r : ctl_print_record(c, fields, row, reterr);
}

static int set_current(Contexts *l, void *userdata, KError *reterr) {
        const char *name = userdata;

        if (!streq(name, CONTEXT_LOCAL) && !contexts_find(l, name))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no context '%s'.", name);
        return MIN(free_and_strdup(&l->current, streq(name, CONTEXT_LOCAL) ? NULL : name), 0);
}

int command_context_use(Ctl *c, const Arguments *a, KError *reterr) {
        const char *name = arguments_arg(a, 0);
        int r;

        r = contexts_change(set_current, (void *) name, reterr);
        if (r < 0)
                return r;
        ctl_say(c,
                        streq(name, CONTEXT_LOCAL) ? "Commands go to this machine."
                                                   : "Commands go to the context '%s'.",
                        name);
        return 0;
}

static int remove_context(Contexts *l, void *userdata, KError *reterr) {
        if (contexts_remove(l, userdata) == -ENOENT)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no context '%s'.",
                                (const char *) userdata);
        return 0;
}

int command_context_remove(Ctl *c, const Arguments *a, KError *reterr) {
        const char *name = arguments_arg(a, 0);
        int r;

        r = contexts_change(remove_context, (void *) name, reterr);
        if (r < 0)
                return r;
        ctl_say(c,
                        "The context '%s' was removed; its token, if it had one, stays valid. kontenactl "
                        "logout would have "
                        "revoked it.",
                        name);
        return 0;
}
