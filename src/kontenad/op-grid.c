/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/random.h>

#include "affinity.h"
#include "ca.h"
#include "caller-token.h"
#include "events.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "names.h"
#include "operation.h"
#include "parse-util.h"
#include "render.h"
#include "string-util.h"

#define SHOWN_NAMES_MAX   (AUDIT_PARAMETERS_MAX / 2)

#define SUBNET_DEFAULT    "10.81.0.0/16"
#define SUPERNET_DEFAULT  "10.80.0.0/12"
#define PREFIX_LENGTH_MIN 8
#define PREFIX_LENGTH_MAX 24
#define INITIAL_SIZE_MAX  7U

static const char *const settings_create[] = { "subnet", "supernet", "trusted_subnets", "default_affinity",
        "initial_size", NULL };
static const char *const settings_update[] = { "trusted_subnets", "default_affinity", NULL };

/* Addresses that no network of machines can have. */
static const char *const impossible[] = { "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3" };

static int parse_network(const char *what, const char *text, Ipv4Prefix *ret, KError *reterr) {
        Ipv4Prefix p, other;

        if (parse_ipv4_prefix(text, &p) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The %s '%s' is not a network: an IPv4 address and '/LENGTH', with no bits "
                                "set behind the length.",
                                what, text);
        FOREACH_ARRAY(i, impossible, ELEMENTSOF(impossible))
                if (parse_ipv4_prefix(*i, &other) >= 0 && ipv4_prefix_overlaps(&p, &other))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The %s '%s' lies in %s, which cannot be used.", what, text, *i);

        *ret = p;
        return 0;
}

static int check_networks(const GridRow *g, KError *reterr) {
        Ipv4Prefix subnet, supernet, trusted;
        int r;

        r = parse_network("subnet", g->subnet, &subnet, reterr);
        if (r < 0)
                return r;
        if (subnet.length < PREFIX_LENGTH_MIN || subnet.length > PREFIX_LENGTH_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The subnet '%s' must be between /%u and /%u: half of it is for nodes, half "
                                "for instances.",
                                g->subnet, PREFIX_LENGTH_MIN, PREFIX_LENGTH_MAX);

        r = parse_network("supernet", g->supernet, &supernet, reterr);
        if (r < 0)
                return r;
        if (supernet.length > subnet.length || !ipv4_prefix_contains(&supernet, subnet.address))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The supernet '%s' does not contain the subnet '%s'.", g->supernet,
                                g->subnet);

        if (strv_length(g->trusted_subnets) > LIST_ENTRIES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are at most %u trusted subnets.",
                                LIST_ENTRIES_MAX);
        STRV_FOREACH(t, g->trusted_subnets) {
                r = parse_network("trusted subnet", *t, &trusted, reterr);
                if (r < 0)
                        return r;
                if (ipv4_prefix_overlaps(&trusted, &subnet))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The trusted subnet '%s' overlaps the grid's own subnet '%s'; it is "
                                        "for the machines' addresses.",
                                        *t, g->subnet);
        }

        return 0;
}

/* Without a word about the supernet: the usual one, or just the subnet when that is elsewhere. */
static int default_supernet(GridRow *g) {
        Ipv4Prefix subnet, supernet;

        if (parse_ipv4_prefix(SUPERNET_DEFAULT, &supernet) >= 0 &&
                        parse_ipv4_prefix(g->subnet, &subnet) >= 0 && subnet.length >= supernet.length &&
                        ipv4_prefix_contains(&supernet, subnet.address))
                g->supernet = strdup(SUPERNET_DEFAULT);
        else
                g->supernet = strdup(g->subnet);

        return g->supernet ? 0 : -ENOMEM;
}

static int take_list(json_object *settings, const char *key, char ***list, KError *reterr) {
        char **l = NULL;
        int r;

        r = json_find_strv(settings, key, &l, reterr);
        if (r > 0) {
                strv_free(*list);
                *list = l;
        }
        return MIN(r, 0);
}

static int take_lists(json_object *settings, GridRow *g, KError *reterr) {
        int r;

        r = take_list(settings, "trusted_subnets", &g->trusted_subnets, reterr);
        if (r < 0)
                return r;
        r = take_list(settings, "default_affinity", &g->default_affinity, reterr);
        if (r < 0)
                return r;
        if (strv_length(g->default_affinity) > LIST_ENTRIES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are at most %u affinity rules.",
                                LIST_ENTRIES_MAX);

        return affinity_validate(g->default_affinity, reterr);
}

static int set_token(Master *m, GridRow *g, KError *reterr) {
        _cleanup_free_ char *context = NULL;
        _cleanup_erase_ char *secret = NULL;
        void *sealed;
        size_t size;
        int r;

        r = join_secret_new(NULL, &secret);
        if (r < 0)
                return kerror_set_errno(reterr, r, "A token cannot be made: %m.");
        context = strjoin("grid-token:", g->id);
        if (!context)
                return -ENOMEM;
        r = keyring_seal(m->keyring, context, secret, strlen(secret), &sealed, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The token cannot be sealed: %m.");

        free(g->token_sealed);
        g->token_sealed = sealed;
        g->token_sealed_size = size;
        keyring_hash_token(m->keyring, secret, g->token_hash);
        free(g->token_id);
        g->token_id = strndup(secret, JOIN_TOKEN_ID_LENGTH);
        return g->token_id ? 0 : -ENOMEM;
}

static int choose_name(const char *wish, char **ret, KError *reterr) {
        _cleanup_free_ char *text = NULL;
        uint8_t random[5];
        int r;

        if (!isempty(wish)) {
                r = grid_name_validate(wish, reterr);
                if (r < 0)
                        return r;
                *ret = strdup(wish);
                return *ret ? 0 : -ENOMEM;
        }

        if (getrandom(random, sizeof(random), 0) != (ssize_t) sizeof(random))
                return -EIO;
        text = base32mem(random, sizeof(random));
        if (!text)
                return -ENOMEM;
        *ret = strjoin("grid-", text);
        return *ret ? 0 : -ENOMEM;
}

static int grid_create(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(grid_row_freep) GridRow *g = NULL, *other = NULL;
        _cleanup_(grid_row_list_done) GridRowList all = {};
        const char *name, *subnet = SUBNET_DEFAULT, *supernet = NULL;
        const UserRow *creator = caller_user(c->caller);
        json_object *settings;
        uint64_t size = 1;
        int r;

        r = call_string(c, "name", &name, reterr);
        if (r < 0)
                return r;
        r = call_settings(c, "settings", settings_create, &settings, reterr);
        if (r < 0)
                return r;

        g = new0(GridRow, 1);
        if (!g)
                return -ENOMEM;
        r = choose_name(name, &g->name, reterr);
        if (r < 0)
                return r;

        r = json_find_string(settings, "subnet", &subnet, reterr);
        if (r >= 0)
                r = json_find_string(settings, "supernet", &supernet, reterr);
        if (r >= 0)
                r = json_find_u64(settings, "initial_size", &size, reterr);
        if (r < 0)
                return r;
        if (size < 1 || size > INITIAL_SIZE_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'initial_size' must be between 1 and %u.",
                                INITIAL_SIZE_MAX);
        g->initial_size = (uint32_t) size;
        g->subnet = strdup(subnet);
        if (!g->subnet)
                return -ENOMEM;
        if (supernet) {
                g->supernet = strdup(supernet);
                r = g->supernet ? 0 : -ENOMEM;
        } else
                r = default_supernet(g);
        if (r >= 0)
                r = take_lists(settings, g, reterr);
        if (r >= 0)
                r = check_networks(g, reterr);
        if (r < 0)
                return r;

        r = store_find_grid(c->master->store, g->name, &other);
        if (r >= 0)
                return kerror_set(reterr, K_ALREADY_EXISTS, "There is a grid '%s' already.", g->name);
        if (r != -ENOENT)
                return r;
        r = store_list_grids(c->master->store, &all);
        if (r < 0)
                return r;
        if (all.n >= GRIDS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "There are %zu grids already, at most %u are possible.", all.n, GRIDS_MAX);

        g->id = store_new_id();
        if (!g->id)
                return -ENOMEM;
        g->revision = 1;
        g->created_at = g->updated_at = now_realtime();
        r = set_token(c->master, g, reterr);
        if (r >= 0)
                r = store_put_grid(c->master->store, g);
        if (r >= 0 && creator)
                r = store_add_grid_user(c->master->store, g->id, creator->id);
        if (r < 0)
                return r;
        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info", .type = "grid:create", .grid_id = g->id },
                        "Grid '%s' with subnet %s was created.", g->name, g->subnet);

        return render_grid(c->master, g, ret);
}

static int grid_update(OperationCall *c, json_object **ret, KError *reterr) {
        json_object *settings;
        int r;

        r = call_settings(c, "settings", settings_create, &settings, reterr);
        if (r < 0)
                return r;
        json_object_object_foreach(settings, key, value) {
                bool can = false;

                (void) value;
                for (const char *const *s = settings_update; *s; s++)
                        can = can || streq(*s, key);
                if (!can)
                        return kerror_set(reterr, K_CONFLICT, "'%s' of a grid is fixed when it is created.",
                                        key);
        }

        r = take_lists(settings, c->grid, reterr);
        if (r < 0)
                return r;
        r = check_networks(c->grid, reterr);
        if (r < 0)
                return r;

        c->grid->revision++;
        c->grid->updated_at = now_realtime();
        return store_put_grid(c->master->store, c->grid);
}

static int grid_remove(OperationCall *c, json_object **ret, KError *reterr) {
        GridSummary summary;
        int r;

        r = store_summarize_grid(c->master->store, c->grid->id, &summary);
        if (r < 0)
                return r;
        if (summary.services > 0 || summary.nodes > 0)
                return kerror_set(reterr, K_IN_USE,
                                "Grid '%s' has %u services and %u nodes; remove them first.", c->grid->name,
                                summary.services, summary.nodes);

        r = store_delete_grid(c->master->store, c->grid->id);
        if (r == -EBUSY)
                return kerror_set(reterr, K_IN_USE, "Instances of grid '%s' are still being removed.",
                                c->grid->name);
        return r;
}

static int grid_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(grid_row_list_done) GridRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_grids(c->master->store, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(g, l.rows, l.n) {
                json_object *row;

                if (!call_sees_grid(c, (*g)->id))
                        continue;
                r = render_grid(c->master, *g, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        return json_wrap("grids", TAKE_PTR(array), ret);
}

static int grid_get(OperationCall *c, json_object **ret, KError *reterr) {
        return render_grid(c->master, c->grid, ret);
}

static int replace_token(OperationCall *c, KError *reterr) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        r = store_begin(c->master->store, reterr);
        if (r < 0)
                return r;
        t = c->master->store;
        r = set_token(c->master, c->grid, reterr);
        if (r < 0)
                return r;
        c->grid->revision++;
        c->grid->updated_at = now_realtime();
        r = store_put_grid(t, c->grid);
        if (r < 0)
                return r;

        return store_commit(TAKE_PTR(t), reterr);
}

/* *ret is to be erased. */
static int open_token(Master *m, const GridRow *g, char **ret, KError *reterr) {
        _cleanup_free_ char *context = strjoin("grid-token:", g->id);
        _cleanup_erase_ char *secret = NULL;
        char *token;
        void *opened;
        size_t size;
        int r;

        if (!context)
                return -ENOMEM;
        r = keyring_open(m->keyring, context, g->token_sealed, g->token_sealed_size, &opened, &size);
        if (r < 0)
                return kerror_set(reterr, K_CONFLICT,
                                "The token of grid '%s' cannot be opened with this master's key; regenerate "
                                "it.",
                                g->name);
        secret = opened;

        token = join_token_format(ca_fingerprint(m->ca), secret);
        if (!token)
                return -ENOMEM;
        *ret = token;
        return 0;
}

/* Not in a transaction from the start: a full disk does not hide the token. */
static int grid_token(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_erase_ char *token = NULL;
        bool regenerate = false;
        int r;

        r = json_find_bool(c->parameters, "regenerate", &regenerate, reterr);
        if (r < 0)
                return r;
        if (regenerate) {
                r = replace_token(c, reterr);
                if (r < 0)
                        return r;
        }

        r = o ? open_token(c->master, c->grid, &token, reterr) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(o, "token", token);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* The audit has what was shown as if it had been asked for by name: as many grids as fit into a row, and how many there were. */
static int note_shown(OperationCall *c, json_object *values) {
        _cleanup_json_ json_object *names = json_object_new_array();
        size_t bytes = 0;
        int r = names ? 0 : -ENOMEM;

        json_object_object_foreach(values, name, value) {
                (void) value;
                bytes += strlen(name) + sizeof("\"\", ");
                if (r >= 0 && bytes <= SHOWN_NAMES_MAX)
                        r = json_append_string(names, name);
        }
        if (r >= 0)
                r = json_add(c->parameters, "grids", TAKE_PTR(names));
        return r < 0 ? r
                     : json_add_u64(c->parameters, "count", (uint64_t) json_object_object_length(values));
}

/* Of all grids whose tokens the caller may see: one request, one row of the audit. */
static int grid_tokens(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *values = json_object_new_object();
        _cleanup_(grid_row_list_done) GridRowList l = {};
        const UserRow *user = caller_user(c->caller);
        int r;

        r = values ? store_list_grids(c->master->store, &l) : -ENOMEM;
        if (r < 0)
                return r;
        FOREACH_ARRAY(g, l.rows, l.n) {
                _cleanup_erase_ char *token = NULL;

                if (!call_is_admin(c) &&
                                (!user || !role_allows(c->master->store, user, "grid_admin", (*g)->name)))
                        continue;
                r = open_token(c->master, *g, &token, NULL);
                if (r != -ENOMEM)
                        r = json_add_string(values, (*g)->name, token); /* null: grid.token says why */
                if (r < 0)
                        return r;
        }
        r = note_shown(c, values);
        return r < 0 ? r : json_wrap("values", TAKE_PTR(values), ret);
}

const Operation grid_operations[] = {
        {
                        .name = "grid.create",
                        .method = "CreateGrid",
                        .action = "io.kontena.master1.manage-grids",
                        .role = "master_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED,
                        .parameters = { { "name", PARAMETER_STRING, false },
                                        { "settings", PARAMETER_OBJECT, false } },
                        .results = { "name" },
                        .perform = grid_create,
        },
        {
                        .name = "grid.update",
                        .method = "UpdateGrid",
                        .action = "io.kontena.master1.manage-grids",
                        .role = "grid_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "settings", PARAMETER_OBJECT, true } },
                        .perform = grid_update,
        },
        {
                        .name = "grid.remove",
                        .method = "RemoveGrid",
                        .action = "io.kontena.master1.manage-grids",
                        .role = "master_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .perform = grid_remove,
        },
        {
                        .name = "grid.list",
                        .method = "ListGrids",
                        .action = "io.kontena.master1.read",
                        .role = "user",
                        .results = { "grids" },
                        .perform = grid_list,
        },
        {
                        .name = "grid.get",
                        .method = "GetGrid",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "" },
                        .perform = grid_get,
        },
        {
                        .name = "grid.token",
                        .method = "GetGridToken",
                        .action = "io.kontena.master1.manage-tokens",
                        .role = "grid_admin",
                        .flags = OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "regenerate", PARAMETER_BOOL, false } },
                        .results = { "token" },
                        .perform = grid_token,
        },
        {
                        .name = "grid.tokens",
                        .action = "io.kontena.master1.manage-tokens",
                        .role = "user",
                        .flags = OPERATION_AUDITED | OPERATION_SECRET,
                        .results = { "values" },
                        .perform = grid_tokens,
        },
};
const size_t n_grid_operations = ELEMENTSOF(grid_operations);
