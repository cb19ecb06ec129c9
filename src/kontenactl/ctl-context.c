/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/wait.h>

#include "context.h"
#include "ctl.h"
#include "file-util.h"
#include "join-token.h"
#include "remote.h"
#include "string-util.h"

#define EXPIRES_SOON_SEC 30U

/* $KONTENA_URL: of a master that was logged in to once, or whose authority $KONTENA_CA_FINGERPRINT names. */
static int from_environment(Contexts *l, const char *url, Context *ret, KError *reterr) {
        const char *fingerprint = empty_to_null(getenv("KONTENA_CA_FINGERPRINT"));
        _cleanup_free_ char *channel = NULL, *shown = NULL;
        _cleanup_context_ Context c = {};
        const Context *known;
        int r;

        r = join_url_normalize(url, &channel, reterr);
        if (r < 0)
                return r;
        c.url = master_address(channel);
        if (!c.url)
                return -ENOMEM;
        known = contexts_find_url(l, c.url);
        if (known && !(fingerprint && !streq(fingerprint, known->fingerprint)))
                return context_copy(known, ret);

        if (!fingerprint)
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The authority of the master at $KONTENA_URL is not known here: log in "
                                "once, or say "
                                "$KONTENA_CA_FINGERPRINT.");
        r = remote_show_ca(c.url, &c.ca, &shown, reterr);
        if (r < 0)
                return r;
        if (!streq(shown, fingerprint))
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The master at %s shows an authority with the fingerprint %s, not %s.",
                                c.url, shown, fingerprint);
        c.fingerprint = TAKE_PTR(shown);

        *ret = TAKE_GENERIC(c, (Context){});
        return 0;
}

static int look(Ctl *c, Context *ret, KError *reterr) {
        const char *url = empty_to_null(getenv("KONTENA_URL")),
                   *token = empty_to_null(getenv("KONTENA_TOKEN")), *name;
        _cleanup_contexts_ Contexts l = {};
        const Context *found;
        int r;

        if (streq_ptr(c->context_option, CONTEXT_LOCAL))
                return 0;
        r = contexts_load(&l, reterr);
        if (r < 0)
                return r;

        name = c->context_option ?: url ? c->context_option : l.current;
        if (!name && !url)
                return 0;
        if (name) {
                found = contexts_find(&l, name);
                if (!found)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "There is no context '%s'; see: kontenactl context list", name);
                r = context_copy(found, ret);
        } else
                r = from_environment(&l, url, ret, reterr);
        if (r < 0)
                return r;

        if (token) {
                erase_and_freep(&ret->token);
                erase_and_freep(&ret->refresh_token);
                ret->refresh_token = NULL;
                ret->expires_at = 0;
                ret->token = strdup(token);
                if (!ret->token)
                        return -ENOMEM;
        }
        return 1;
}

int ctl_context(Ctl *c, Context **ret, KError *reterr) {
        _cleanup_context_ Context found = {};
        int r;

        if (c->host || c->machine)
                c->context_known = true;
        if (!c->context_known) {
                r = look(c, &found, reterr);
                if (r < 0)
                        return r;
                if (r > 0) {
                        c->context = new0(Context, 1);
                        if (!c->context)
                                return -ENOMEM;
                        *c->context = TAKE_GENERIC(found, (Context){});
                }
                c->context_known = true;
        }

        *ret = c->context;
        return 0;
}

void ctl_use_local(Ctl *c) {
        c->context_known = true;
        if (c->context)
                context_done(c->context);
        c->context = mfree(c->context);
}

/* Whatever the token's clock says: the master knows better. */
static bool has_expired(const Context *x) {
        return x->expires_at > 0 && x->expires_at <= now_realtime() / USEC_PER_SEC + EXPIRES_SOON_SEC;
}

static int connect_bridge(Ctl *c, int *ret_fd, KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Context *x = c->context;
        bool refreshed = false;
        int r;

        c->token_refused = !x->token;
        if (!x->token)
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "Not logged in at %s; first: kontenactl login %s", x->url, x->url);
        if (has_expired(x) && x->refresh_token) {
                r = remote_refresh(x, &error);
                if (r >= 0)
                        refreshed = true;
                else if (error.code != K_NOT_AUTHENTICATED) {
                        kerror_move(reterr, &error);
                        return r;
                }
                kerror_done(&error);
        }

        r = remote_open(x, &c->bridge_pid, ret_fd, &c->bridge_out, &error);
        if (r < 0 && error.code == K_ACCESS_DENIED && x->refresh_token && !refreshed) {
                kerror_done(&error);
                r = remote_refresh(x, &error);
                if (r < 0)
                        c->token_refused = error.code == K_NOT_AUTHENTICATED;
                else
                        r = remote_open(x, &c->bridge_pid, ret_fd, &c->bridge_out, &error);
        }
        if (r < 0 && error.code == K_ACCESS_DENIED) {
                c->token_refused = true;
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "%s Log in again: kontenactl login %s",
                                kerror_message(&error), x->url);
        }
        if (r < 0 && error.code == K_NOT_AUTHENTICATED && strstr(kerror_message(&error), "authority"))
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "%s If its administrator confirms the new one: kontenactl login "
                                "--ca-fingerprint=... %s",
                                kerror_message(&error), x->url);
        if (r < 0)
                kerror_move(reterr, &error);
        return r;
}

int ctl_open_remote(Ctl *c, sd_bus **ret, KError *reterr) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = connect_bridge(c, &fd, reterr);
        if (r < 0)
                return r;
        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_fd(bus, fd, fd);
        if (r >= 0)
                TAKE_FD(fd);
        if (r >= 0) /* the token has said who it is */
                r = sd_bus_set_anonymous(bus, true);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Cannot connect to the master at %s: %m", c->context->url);

        *ret = TAKE_PTR(bus);
        return 0;
}

void ctl_end_bridge(Ctl *c) {
        if (c->bridge_pid > 0) {
                c->bridge_out = safe_close(c->bridge_out);
                (void) kill(c->bridge_pid, SIGTERM);
                (void) waitpid(c->bridge_pid, NULL, 0);
        }
        c->bridge_pid = 0;
        kerror_done(&c->lost);
}

void ctl_close_remote(Ctl *c) {
        /* It has seen the end of its socket, says goodbye to the master, and needs nobody for that. */
        if (c->bridge_pid > 0)
                c->bridge_out = safe_close(c->bridge_out);
        c->bridge_pid = 0;
        kerror_done(&c->lost);
        ctl_use_local(c);
        c->context_known = false;
}

int ctl_connection_lost(Ctl *c, KError *reterr) {
        /* Said once, and asked for by each call that was on the way. */
        if (c->bridge_pid > 0 && !kerror_is_set(&c->lost))
                (void) remote_reason(c->bridge_out, &c->lost);
        if (kerror_is_set(&c->lost))
                return kerror_set(reterr, c->lost.code, "%s", kerror_message(&c->lost));
        return kerror_set(reterr, K_UNAVAILABLE, "The connection to %s was lost.",
                        c->context ? c->context->url : c->host ?: c->machine ?: "the bus");
}
