/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ca.h"
#include "events.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "keyring.h"
#include "node-session.h"
#include "op-internal.h"
#include "string-util.h"

/* The token of one node, which admits one machine as that node. As that of a grid it is kept sealed with the master's key. */

#define CLOSE_WRONG_NODE_TOKEN 4002

static char *context_of(const NodeRow *n) {
        return strjoin("node-token:", n->id);
}

int node_make_token(OperationCall *c, NodeRow *n, char **ret, KError *reterr) {
        _cleanup_free_ char *context = context_of(n);
        _cleanup_erase_ char *secret = NULL;
        void *sealed = NULL;
        size_t size;
        char *token;
        int r;

        if (!context)
                return -ENOMEM;
        r = join_secret_new(c->grid->token_id, &secret);
        if (r >= 0)
                r = keyring_seal(c->master->keyring, context, secret, strlen(secret), &sealed, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "A token cannot be made: %m.");
        free(n->token_sealed);
        n->token_sealed = sealed;
        n->token_sealed_size = size;
        keyring_hash_token(c->master->keyring, secret, n->token_hash);

        token = join_token_format(ca_fingerprint(c->master->ca), secret);
        if (!token)
                return -ENOMEM;
        *ret = token;
        return 0;
}

static int answer(const NodeRow *n, const char *token, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? json_add_string(o, "node", n->name) : -ENOMEM;

        if (r >= 0)
                r = json_add_string(o, "token", token);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int node_token(OperationCall *c, json_object **ret, KError *reterr) {
        static const uint8_t none[sizeof(c->node->token_hash)] = {};
        _cleanup_free_ char *context = context_of(c->node);
        _cleanup_erase_ char *secret = NULL, *token = NULL;
        void *opened;
        size_t size;
        int r;

        if (!context)
                return -ENOMEM;
        if (memcmp(c->node->token_hash, none, sizeof(none)) == 0)
                return kerror_set(reterr, K_NO_SUCH_TOKEN, "Node '%s' has no token of its own.",
                                c->node->name);
        if (!c->node->token_sealed)
                return kerror_set(reterr, K_NO_SUCH_TOKEN,
                                "The token of node '%s' was made by an earlier version, which showed it "
                                "once; "
                                "reset it.",
                                c->node->name);
        r = keyring_open(c->master->keyring, context, c->node->token_sealed, c->node->token_sealed_size,
                        &opened, &size);
        if (r < 0)
                return kerror_set(reterr, K_CONFLICT,
                                "The token of node '%s' cannot be opened with this master's key; reset it.",
                                c->node->name);
        secret = opened;
        /* What a change of the grid's token has made void is not shown. */
        if (!c->grid->token_id || !startswith(secret, c->grid->token_id))
                return kerror_set(reterr, K_NO_SUCH_TOKEN,
                                "The token of node '%s' went with that of grid '%s'; reset it.",
                                c->node->name, c->grid->name);

        token = join_token_format(ca_fingerprint(c->master->ca), secret);
        return token ? answer(c->node, token, ret) : -ENOMEM;
}

/* The machine that was this node is so no longer: its key is forgotten, and it needs a token to come back. */
static int forget_machine(OperationCall *c, KError *reterr) {
        bool reset_connection = false;
        NodeSession *session;
        int r;

        r = json_find_bool(c->parameters, "reset_connection", &reset_connection, reterr);
        if (r < 0)
                return r;
        c->node->node_key = mfree(c->node->node_key);
        c->node->updated_at = now_realtime();
        r = store_put_node(c->master->store, c->node);
        if (r < 0)
                return r;

        session = reset_connection ? node_sessions_find(c->master->sessions, c->node->id) : NULL;
        if (session)
                session_close(session, CLOSE_WRONG_NODE_TOKEN, "The node's token was replaced.");
        return 0;
}

static int node_reset_token(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_erase_ char *token = NULL;
        int r;

        r = node_make_token(c, c->node, &token, reterr);
        if (r >= 0)
                r = forget_machine(c, reterr);
        if (r < 0)
                return r;
        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "node:token",
                                        .grid_id = c->grid->id,
                                        .node_id = c->node->id },
                        "Node '%s' has a new token; its machine has to join with it.", c->node->name);
        return answer(c->node, token, ret);
}

/* A machine that has joined is known by its key, and stays. */
static int node_clear_token(OperationCall *c, json_object **ret, KError *reterr) {
        int r;

        c->node->token_sealed = mfree(c->node->token_sealed);
        c->node->token_sealed_size = 0;
        memset(c->node->token_hash, 0, sizeof(c->node->token_hash));
        c->node->updated_at = now_realtime();
        r = store_put_node(c->master->store, c->node);
        if (r < 0)
                return r;
        return events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "node:token",
                                        .grid_id = c->grid->id,
                                        .node_id = c->node->id },
                        "Node '%s' has no token of its own any more.", c->node->name);
}

#define NODE_PARAMETERS                                                                                     \
        { "grid", PARAMETER_STRING, true }, {                                                               \
                "node", PARAMETER_STRING, true                                                              \
        }

const Operation node_token_operations[] = {
        {
                        .name = "node.token",
                        .method = "GetNodeToken",
                        .action = "io.kontena.master1.manage-tokens",
                        .role = "grid_admin",
                        .flags = OPERATION_AUDITED | OPERATION_GRID | OPERATION_NODE,
                        .parameters = { NODE_PARAMETERS },
                        .results = { "token" },
                        .perform = node_token,
        },
        {
                        .name = "node.reset-token",
                        .method = "ResetNodeToken",
                        .action = "io.kontena.master1.manage-tokens",
                        .role = "grid_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_NODE,
                        .parameters = { NODE_PARAMETERS, { "reset_connection", PARAMETER_BOOL, false } },
                        .results = { "token" },
                        .perform = node_reset_token,
        },
        {
                        .name = "node.clear-token",
                        .method = "ClearNodeToken",
                        .action = "io.kontena.master1.manage-tokens",
                        .role = "grid_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_NODE,
                        .parameters = { NODE_PARAMETERS },
                        .perform = node_clear_token,
        },
};
const size_t n_node_token_operations = ELEMENTSOF(node_token_operations);
