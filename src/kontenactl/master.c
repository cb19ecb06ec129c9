/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"
#include "watch.h"

#define TIMEOUT_USEC (120ULL * USEC_PER_SEC)

static const TableColumn authority_fields[] = {
        { .title = "Fingerprint", .key = "fingerprint" },
        { .title = "Next", .key = "next_fingerprint" },
        { .title = "Server certificate expires", .key = "expires_at", .format = format_relative_time },
        {},
};

static const TableColumn node_columns[] = {
        { .title = "GRID", .key = "grid" },
        { .title = "NODE", .key = "node" },
        { .title = "CONNECTED", .key = "connected", .format = format_yes_no },
        {},
};

static json_object *nodes_of(json_object *authority) {
        json_object *nodes = NULL;

        return json_find_array(authority, "nodes", &nodes, NULL) > 0 ? nodes : NULL;
}

static int show(Ctl *c, json_object *authority, KError *reterr) {
        json_object *nodes = nodes_of(authority);
        int r;

        if (c->json != JSON_OFF)
                return ctl_print_json(c, authority);
        r = ctl_print_record(c, authority_fields, authority, reterr);
        if (r < 0)
                return r;
        if (!row_bool(authority, "own"))
                ctl_say(c, "The certificate is one of yours (Certificate= in kontenad.conf), the master "
                           "does not replace it.");
        if (!nodes || json_object_array_length(nodes) == 0)
                return 0;
        ctl_say(c, "\nNodes that do not trust yet what they should:");
        return ctl_print_rows(c, node_columns, nodes, "", reterr);
}

/* "g/node2, g/node3 (offline)" */
static int name_nodes(json_object *nodes, char **ret) {
        _cleanup_strv_free_ char **l = NULL;

        FOREACH_JSON_ARRAY(n, nodes) {
                char *name = strjoin(row_string(n, "grid"), "/", row_string(n, "node"),
                                row_bool(n, "connected") ? "" : " (offline)");
                int r = name ? strv_extend(&l, name) : -ENOMEM;

                free(name);
                if (r < 0)
                        return r;
        }
        *ret = strv_join(l, ", ");
        return *ret ? 0 : -ENOMEM;
}

typedef struct Rotation {
        json_object *authority;
} Rotation;

static int check_rotation(Ctl *c, void *userdata, KError *reterr) {
        Rotation *rotation = userdata;
        json_object *authority;
        int r;

        r = ctl_call_json(c, "GetAuthority", &authority, reterr, NULL);
        if (r < 0)
                return r;
        json_object_put(rotation->authority);
        rotation->authority = authority;
        return isempty(row_string(authority, "next_fingerprint"));
}

static int rotate(Ctl *c, const Arguments *a, KError *reterr) {
        const char *v = arguments_get(a, "timeout");
        _cleanup_free_ char *names = NULL;
        _cleanup_json_ json_object *authority = NULL;
        uint64_t timeout = TIMEOUT_USEC;
        Rotation rotation = {};
        json_object *nodes;
        int r;

        if (v && parse_sec(v, &timeout) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--timeout=%s: a time is wanted, say 30s or 5min.", v);
        r = ctl_call_json(c, "RotateAuthority", &authority, reterr, "b", arguments_has(a, "force"));
        if (r < 0)
                return r;
        nodes = nodes_of(authority);
        if (isempty(row_string(authority, "next_fingerprint")) || arguments_has(a, "no-block"))
                return show(c, authority, reterr);
        if (nodes && json_object_array_length(nodes) > 0)
                ctl_say(c, "Waiting for %zu nodes to trust the next authority.",
                                json_object_array_length(nodes));

        r = ctl_wait(c,
                        "type='signal',sender='" MASTER_NAME "',path='" MASTER_PATH
                        "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                        check_rotation, &rotation, timeout, reterr);
        if (r < 0 && reterr->code == K_TIMEOUT) /* as it is now, for the sentence */
                (void) check_rotation(c, &rotation, NULL);
        if (rotation.authority) {
                json_object_put(authority);
                authority = rotation.authority;
                nodes = nodes_of(authority);
        }
        if (r < 0 && reterr->code == K_TIMEOUT && nodes) {
                r = name_nodes(nodes, &names);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Out of memory.");
                kerror_done(reterr);
                return kerror_set(reterr, K_TIMEOUT,
                                "These do not trust the next authority yet: %s. The master goes on by "
                                "itself when they do; "
                                "'kontenactl master ca rotate --force' leaves them behind, 'kontenactl "
                                "master ca abort' gives up.",
                                names);
        }
        if (r < 0)
                return r;
        if (c->json == JSON_OFF)
                ctl_say(c, "The certificate authority was replaced; join tokens that were given out before "
                           "are void.");
        return show(c, authority, reterr);
}

int command_master_ca(Ctl *c, const Arguments *a, KError *reterr) {
        const char *action = arguments_arg(a, 0) ?: "status";
        _cleanup_json_ json_object *authority = NULL;
        int r;

        if (streq(action, "rotate"))
                return rotate(c, a, reterr);
        if (!STR_IN_SET(action, "status", "abort"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not one of status, rotate, abort.",
                                action);

        r = ctl_call_json(c, streq(action, "abort") ? "AbortAuthorityRotation" : "GetAuthority", &authority,
                        reterr, NULL);
        if (r < 0)
                return r;
        return show(c, authority, reterr);
}
