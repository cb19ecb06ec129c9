/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "polkit.h"

#include <inttypes.h>

#include "string-util.h"

#define POLKIT_SERVICE     "org.freedesktop.PolicyKit1"
#define POLKIT_PATH        "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE   "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_TIMEOUT     (25U * 1000000U)
#define POLKIT_INTERACTIVE (10U * 60U * 1000000U) /* a person may look for a password */

struct PolkitQuery {
        sd_bus *bus;
        sd_bus_message *call;
        char *action;
        char **details;
        sd_bus_slot *slot; /* the question that is open: to the bus, then to polkit */
        sd_bus_slot *watch;
        char *cancellation_id; /* set while polkit works on it */
        PolkitPeer peer;
        bool interactive;
        polkit_done_t done;
        polkit_peer_t on_peer;
        void *userdata;
};

static void withdraw(PolkitQuery *q) {
        _cleanup_free_ char *id = TAKE_PTR(q->cancellation_id);

        q->slot = sd_bus_slot_unref(q->slot);
        if (!id)
                return;

        /* Closes a dialogue that a person may have in front of them. Whether it arrives does not matter. */
        (void) sd_bus_call_method_async(q->bus, NULL, POLKIT_SERVICE, POLKIT_PATH, POLKIT_INTERFACE,
                        "CancelCheckAuthorization", NULL, NULL, "s", id);
}

PolkitQuery *polkit_query_free(PolkitQuery *q) {
        if (!q)
                return NULL;

        withdraw(q);
        sd_bus_slot_unref(q->watch);
        sd_bus_message_unref(q->call);
        sd_bus_unref(q->bus);
        free(q->action);
        strv_free(q->details);
        free(q);
        return NULL;
}

/* The last thing that happens to q: done may free it. */
static int finish(PolkitQuery *q, const KError *error) {
        q->cancellation_id = mfree(q->cancellation_id);
        q->slot = sd_bus_slot_unref(q->slot);
        q->watch = sd_bus_slot_unref(q->watch);
        q->done(&q->peer, kerror_is_set(error) ? error : NULL, q->userdata);
        return 0;
}

static int refuse(PolkitQuery *q, KErrorCode code, const char *sentence) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        kerror_set(&e, code, "%s", sentence);
        return finish(q, &e);
}

static int on_authorization(sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        PolkitQuery *q = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int authorized, challenge;
        int r;

        q->cancellation_id = mfree(q->cancellation_id);

        if (e) {
                if (sd_bus_error_has_names(e, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                    "org.freedesktop.systemd1.NoSuchUnit",
                                    "org.freedesktop.systemd1.UnitMasked"))
                        return refuse(q, K_ACCESS_DENIED,
                                        "polkit is not running on this machine, so only root may do this.");
                if (sd_bus_error_has_names(e, "org.freedesktop.PolicyKit1.Error.Cancelled"))
                        return refuse(q, K_ACCESS_DENIED, "The authentication was cancelled.");
                if (sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT))
                        return refuse(q, K_ACCESS_DENIED, "polkit gave no answer in time.");

                _cleanup_kerror_ KError k = KERROR_NULL;
                kerror_set(&k, K_ACCESS_DENIED, "polkit could not say whether this is allowed: %s",
                                e->message ?: e->name);
                return finish(q, &k);
        }

        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_STRUCT, "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
        if (r < 0)
                return refuse(q, K_ACCESS_DENIED, "polkit's answer could not be read.");

        if (authorized)
                return finish(q, NULL);
        if (challenge)
                return refuse(q, K_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                "Interactive authentication is required.");
        return refuse(q, K_ACCESS_DENIED, "Permission denied.");
}

static int ask_polkit(PolkitQuery *q) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint64_t cookie;
        int r;

        r = sd_bus_message_get_cookie(q->call, &cookie);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(
                        q->bus, &m, POLKIT_SERVICE, POLKIT_PATH, POLKIT_INTERFACE, "CheckAuthorization");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                        sd_bus_message_get_sender(q->call), q->action);
        if (r < 0)
                return r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{ss}");
        if (r < 0)
                return r;
        for (char **d = q->details; d && d[0]; d += 2) {
                r = sd_bus_message_append(m, "{ss}", d[0], d[1]);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;

        q->cancellation_id = strprintf("kontena-%s-%" PRIu64, sd_bus_message_get_sender(q->call), cookie);
        if (!q->cancellation_id)
                return -ENOMEM;

        r = sd_bus_message_append(m, "us", q->interactive ? 1U : 0U, q->cancellation_id);
        if (r < 0)
                return r;

        q->slot = sd_bus_slot_unref(q->slot);
        return sd_bus_call_async(q->bus, &q->slot, m, on_authorization, q,
                        q->interactive ? POLKIT_INTERACTIVE : POLKIT_TIMEOUT);
}

static int read_credentials(sd_bus_message *reply, PolkitPeer *ret) {
        bool uid_seen = false;
        int r;

        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return r;

        for (;;) {
                const char *key;
                uint32_t u;

                r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_DICT_ENTRY, "sv");
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                r = sd_bus_message_read(reply, "s", &key);
                if (r < 0)
                        return r;

                if (STR_IN_SET(key, "UnixUserID", "ProcessID")) {
                        r = sd_bus_message_read(reply, "v", "u", &u);
                        if (r < 0)
                                return r;
                        if (streq(key, "ProcessID"))
                                ret->pid = (pid_t) u;
                        else {
                                ret->uid = u;
                                uid_seen = true;
                        }
                } else {
                        r = sd_bus_message_skip(reply, "v");
                        if (r < 0)
                                return r;
                }

                r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }

        return uid_seen ? 0 : -ENODATA;
}

static int on_credentials(sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        PolkitQuery *q = userdata;
        int r;

        if (sd_bus_message_is_method_error(reply, NULL))
                return refuse(q, K_NOT_AUTHENTICATED, "The caller has left the bus.");

        r = read_credentials(reply, &q->peer);
        if (r < 0)
                return refuse(q, K_NOT_AUTHENTICATED, "The bus does not know who the caller is.");

        if (q->on_peer)
                q->on_peer(q, &q->peer, q->userdata);
        if (!q->action || q->peer.uid == 0)
                return finish(q, NULL);

        r = ask_polkit(q);
        if (r < 0) {
                _cleanup_kerror_ KError e = KERROR_NULL;

                kerror_set_errno(&e, r, "polkit could not be asked: %m");
                return finish(q, &e);
        }

        return 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        PolkitQuery *q = userdata;

        withdraw(q);
        (void) refuse(q, K_NOT_AUTHENTICATED, "The caller has left the bus.");
        return 0;
}

void polkit_query_on_peer(PolkitQuery *q, polkit_peer_t peer) {
        q->on_peer = peer;
}

int polkit_query_add_detail(PolkitQuery *q, const char *key, const char *value) {
        int r;

        if (isempty(value))
                return 0;
        r = strv_extend(&q->details, key);
        return r < 0 ? r : strv_extend(&q->details, value);
}

static int copy_details(const char *const *details, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        for (const char *const *d = details; d && d[0]; d += 2) {
                if (isempty(d[1]))
                        continue;
                r = strv_extend(&l, d[0]);
                if (r >= 0)
                        r = strv_extend(&l, d[1]);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

static int check(sd_bus_message *call, const char *action, const char *const *details, polkit_done_t done,
                void *userdata, bool interactive, PolkitQuery **ret) {
        _cleanup_(polkit_query_freep) PolkitQuery *q = NULL;
        _cleanup_free_ char *match = NULL;
        const char *sender;
        int r;

        assert(call);
        assert(done);
        assert(ret);

        sender = sd_bus_message_get_sender(call);
        if (!sender)
                return -EBADMSG;

        q = new0(PolkitQuery, 1);
        if (!q)
                return -ENOMEM;
        *q = (PolkitQuery){
                .bus = sd_bus_ref(sd_bus_message_get_bus(call)),
                .call = sd_bus_message_ref(call),
                .peer.uid = (uid_t) -1,
                .interactive = interactive,
                .done = done,
                .userdata = userdata,
        };

        r = copy_details(details, &q->details);
        if (r < 0)
                return r;
        if (action) {
                q->action = strdup(action);
                if (!q->action)
                        return -ENOMEM;
        }

        match = strprintf("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                          "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s',arg2=''",
                        sender);
        if (!match)
                return -ENOMEM;
        r = sd_bus_add_match_async(q->bus, &q->watch, match, on_owner_changed, NULL, q);
        if (r < 0)
                return r;

        /* Asked of the bus each time: a uid in the message would be the caller's word. */
        r = sd_bus_call_method_async(q->bus, &q->slot, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                        "org.freedesktop.DBus", "GetConnectionCredentials", on_credentials, q, "s", sender);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(q);
        return 0;
}

int polkit_check(sd_bus_message *call, const char *action, const char *const *details, polkit_done_t done,
                void *userdata, PolkitQuery **ret) {
        int r;

        r = sd_bus_message_get_allow_interactive_authorization(call);
        if (r < 0)
                return r;
        return check(call, action, details, done, userdata, r > 0, ret);
}

int polkit_check_silently(sd_bus_message *call, const char *action, const char *const *details,
                polkit_done_t done, void *userdata, PolkitQuery **ret) {
        return check(call, action, details, done, userdata, /* interactive= */ false, ret);
}
