/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-admit.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "events.h"
#include "file-util.h"
#include "ipam.h"
#include "join-token.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "log.h"
#include "names.h"
#include "placement.h"
#include "store.h"
#include "string-util.h"

#define CLOCK_AHEAD_MAX_USEC  (1 * USEC_PER_SEC)
#define CLOCK_BEHIND_MAX_USEC (6 * USEC_PER_SEC)
#define REFUSAL_REPEAT_USEC   (600 * USEC_PER_SEC)

typedef struct Refusal {
        uint64_t hash, time;
} Refusal;

struct NodeAdmission {
        Master *master;
        Refusal refusals[REFUSALS_REMEMBERED_MAX]; /* a ring */
        size_t next;
        uint64_t minute;
        unsigned in_minute;
};

int node_admission_new(Master *m, NodeAdmission **ret) {
        NodeAdmission *a;

        assert(m);
        assert(ret);

        a = new0(NodeAdmission, 1);
        if (!a)
                return -ENOMEM;
        a->master = m;
        *ret = a;
        return 0;
}

NodeAdmission *node_admission_free(NodeAdmission *a) {
        return mfree(a);
}

static bool is_news(NodeAdmission *a, uint64_t hash, uint64_t now) {
        FOREACH_ARRAY(r, a->refusals, ELEMENTSOF(a->refusals))
                if (r->hash == hash && r->time != 0 && now - r->time < REFUSAL_REPEAT_USEC)
                        return false;

        if (now / (60 * USEC_PER_SEC) != a->minute) {
                a->minute = now / (60 * USEC_PER_SEC);
                a->in_minute = 0;
        }
        if (a->in_minute >= REFUSAL_EVENTS_PER_MINUTE_MAX)
                return false;
        a->in_minute++;

        a->refusals[a->next] = (Refusal){ .hash = hash, .time = now };
        a->next = (a->next + 1) % ELEMENTSOF(a->refusals);
        return true;
}

void node_admission_refused(NodeAdmission *a, const NodeIntroduction *who, const char *grid_id, int code,
                const char *sentence, uint64_t now) {
        uint64_t hash;

        assert(a);
        assert(who);

        hash = placement_seed(strempty(grid_id), (uint64_t) code) ^
               placement_seed(strempty(who->node_key), 1) ^ placement_seed(strempty(who->name), 2);
        if (!is_news(a, hash, now))
                return;

        if (!grid_id) { /* events_add() would log it as well */
                log_warning("Node '%s' at %s is refused with code %i: %s", strna(who->name),
                                strna(who->address), code, sentence);
                return;
        }
        (void) events_add(a->master,
                        &(EventInfo){ .severity = "warning", .type = "node:refused", .grid_id = grid_id },
                        "Node '%s' at %s is refused with code %i: %s", strna(who->name), strna(who->address),
                        code, sentence);
}

static int parse_version(const char *s, unsigned *ret_major, unsigned *ret_minor) {
        unsigned major, minor;

        if (isempty(s) || sscanf(s, "%u.%u", &major, &minor) != 2)
                return -EINVAL;
        *ret_major = major;
        *ret_minor = minor;
        return 0;
}

/* One minor release of difference is served, so that machines can be upgraded one after another. */
static int check_version(const NodeIntroduction *who, KError *reterr) {
        unsigned major, minor, own_major, own_minor;
        int r;

        r = parse_version(KONTENA_VERSION, &own_major, &own_minor);
        if (r < 0)
                return r;
        if (parse_version(who->version, &major, &minor) < 0) {
                (void) kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a version.",
                                strempty(who->version));
                return 4000;
        }
        if (major == own_major && minor + 1 >= own_minor && minor <= own_minor + 1)
                return 0;

        (void) kerror_set(reterr, K_NOT_SUPPORTED,
                        "The node runs version %s, the master %s: they may differ by one minor release.",
                        who->version, KONTENA_VERSION);
        return 4010;
}

static void format_time(uint64_t usec, char *buffer, size_t size) {
        time_t t = (time_t) (usec / USEC_PER_SEC);
        struct tm tm;

        if (!gmtime_r(&t, &tm) || strftime(buffer, size, "%F %T UTC", &tm) == 0)
                (void) snprintf(buffer, size, "%" PRIu64 " s", usec / USEC_PER_SEC);
}

static int check_clock(const NodeIntroduction *who, uint64_t now, KError *reterr) {
        bool ahead = who->time > now;
        uint64_t difference = ahead ? who->time - now : now - who->time;
        char theirs[64], ours[64];

        if (who->time == 0) {
                (void) kerror_set(reterr, K_INVALID_ARGUMENT, "The node did not say what time it is.");
                return 4000;
        }
        if (difference <= (ahead ? CLOCK_AHEAD_MAX_USEC : CLOCK_BEHIND_MAX_USEC))
                return 0;

        format_time(who->time, theirs, sizeof(theirs));
        format_time(now, ours, sizeof(ours));
        (void) kerror_set(reterr, K_CONFLICT,
                        "The node's clock says %s, the master's %s: it is %.1f s %s. Is time synchronized?",
                        theirs, ours, (double) difference / (double) USEC_PER_SEC,
                        ahead ? "ahead" : "behind");
        return 4020;
}

static int check_form(const NodeIntroduction *who, KError *reterr) {
        if (isempty(who->node_key))
                (void) kerror_set(reterr, K_INVALID_ARGUMENT, "The node did not show a key.");
        else if (isempty(who->machine_id) || strlen(who->machine_id) > 64 ||
                        !string_is_printable(who->machine_id))
                (void) kerror_set(reterr, K_INVALID_ARGUMENT, "The node did not say its machine id.");
        else if (isempty(who->name) || strlen(who->name) > 255 || !string_is_printable(who->name))
                (void) kerror_set(reterr, K_INVALID_ARGUMENT, "The node did not say its name.");
        else
                return 0;
        return 4000;
}

static int refuse_store(int error, KError *reterr) {
        (void) kerror_set_errno(reterr, error, "The master cannot read or write its store now: %m");
        return 4050;
}

static bool has_own_token(const NodeRow *n) {
        for (size_t i = 0; i < sizeof(n->token_hash); i++)
                if (n->token_hash[i] != 0)
                        return true;
        return false;
}

/* Which grid, and with a node's own token which node, this secret opens. 0 or a close code. */
static int check_token(NodeAdmission *a, const NodeIntroduction *who, GridRow **ret_grid, NodeRow **ret_node,
                KError *reterr) {
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        char token_id[JOIN_TOKEN_ID_LENGTH + 1] = {};
        bool meant_for_node = false;
        int r;

        if (isempty(who->secret)) {
                (void) kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The master does not know this node, and it came without a token. Join it "
                                "again with a token of its grid.");
                return 4004;
        }
        if (!join_secret_is_valid(who->secret)) {
                (void) kerror_set(reterr, K_INVALID_ARGUMENT, "What the node showed is not a token.");
                return 4001;
        }

        memcpy(token_id, who->secret, JOIN_TOKEN_ID_LENGTH);
        r = store_find_grid_by_token_id(a->master->store, token_id, &grid);
        if (r == -ENOENT) {
                (void) kerror_set(reterr, K_NO_SUCH_GRID,
                                "No grid has this token: it was removed, or its token was replaced.");
                return 4007;
        }
        if (r < 0)
                return refuse_store(r, reterr);

        if (keyring_token_matches(a->master->keyring, who->secret, grid->token_hash)) {
                *ret_grid = TAKE_PTR(grid);
                return 0;
        }

        r = store_list_nodes(a->master->store, grid->id, &nodes);
        if (r < 0)
                return refuse_store(r, reterr);
        FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                if (!has_own_token(*n))
                        continue;
                if (keyring_token_matches(a->master->keyring, who->secret, (*n)->token_hash)) {
                        *ret_grid = TAKE_PTR(grid);
                        *ret_node = TAKE_PTR(*n);
                        *n = nodes.rows[--nodes.n];
                        return 0;
                }
                meant_for_node = meant_for_node || streq((*n)->name, who->name);
        }

        *ret_grid = TAKE_PTR(grid);
        if (meant_for_node) {
                (void) kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The token is not that of node '%s' in grid '%s'.", who->name,
                                (*ret_grid)->name);
                return 4002;
        }
        (void) kerror_set(reterr, K_NOT_AUTHENTICATED, "The token is not the one of grid '%s'.",
                        (*ret_grid)->name);
        return 4001;
}

static int take_labels(NodeRow *node, char *const *labels) {
        int r;

        STRV_FOREACH(l, labels) {
                if (strlen(*l) > LABEL_LENGTH_MAX || !string_is_printable(*l) ||
                                strv_contains(node->labels, *l))
                        continue;
                if (strv_length(node->labels) >= LABELS_MAX)
                        break;
                r = strv_extend(&node->labels, *l);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The host's name without its domain, made unique by the node's number. 0 or a close code. */
static int choose_name(NodeAdmission *a, const GridRow *grid, const char *wish, uint32_t number, char **ret,
                KError *reterr) {
        _cleanup_(node_row_freep) NodeRow *other = NULL;
        _cleanup_free_ char *name = NULL;
        int r;

        name = strndup(wish, strcspn(wish, "."));
        if (!name)
                return refuse_store(-ENOMEM, reterr);
        if (name_validate("node", name, reterr) < 0)
                return 4000;

        r = store_find_node(a->master->store, grid->id, name, &other);
        if (r >= 0) {
                char *numbered;

                if (strlen(name) > NAME_LENGTH_MAX - 4)
                        name[NAME_LENGTH_MAX - 4] = '\0';
                numbered = strprintf("%s-%u", name, number);
                if (!numbered)
                        return refuse_store(-ENOMEM, reterr);
                free(name);
                name = numbered;
        } else if (r != -ENOENT)
                return refuse_store(r, reterr);

        *ret = TAKE_PTR(name);
        return 0;
}

static int grid_is_full(const GridRow *grid, uint32_t number_max, KError *reterr) {
        (void) kerror_set(reterr, K_LIMIT_EXCEEDED, "Grid '%s' is full: it has %u nodes.", grid->name,
                        number_max);
        return 4008;
}

/* A new node for the grid. 0 or a close code. */
static int make_node(NodeAdmission *a, const GridRow *grid, const NodeIntroduction *who, uint64_t now,
                NodeRow **ret, KError *reterr) {
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        Ipv4Prefix subnet;
        int r;

        r = parse_ipv4_prefix(grid->subnet, &subnet);
        if (r < 0)
                return refuse_store(r, reterr);

        node = new0(NodeRow, 1);
        if (!node)
                return refuse_store(-ENOMEM, reterr);
        node->id = store_new_id();
        node->grid_id = strdup(grid->id);
        if (!node->id || !node->grid_id)
                return refuse_store(-ENOMEM, reterr);
        node->created_at = now;

        r = store_next_node_number(a->master->store, grid->id, &node->number);
        if (r == -E2BIG || (r >= 0 && node->number > ipam_node_number_max(&subnet)))
                return grid_is_full(grid, ipam_node_number_max(&subnet), reterr);
        if (r < 0)
                return refuse_store(r, reterr);

        r = choose_name(a, grid, who->name, node->number, &node->name, reterr);
        if (r != 0)
                return r;

        *ret = TAKE_PTR(node);
        return 0;
}

/* An unknown key with a good token. In a transaction. 0 or a close code. */
static int bind_node(NodeAdmission *a, const GridRow *grid, NodeRow **node, const NodeIntroduction *who,
                uint64_t now, KError *reterr) {
        _cleanup_(node_row_freep) NodeRow *other = NULL;
        int r;

        if (*node && (*node)->node_key) {
                (void) kerror_set(reterr, K_CONFLICT,
                                "The token of node '%s' was used by another machine already.",
                                (*node)->name);
                return 4003;
        }

        r = store_find_node_by_machine_id(a->master->store, grid->id, who->machine_id, &other);
        if (r >= 0 && other->node_key && (!*node || !streq(other->id, (*node)->id))) {
                (void) kerror_set(reterr, K_CONFLICT,
                                "This machine is node '%s' of the grid already, with another key. Remove "
                                "that node first if it was "
                                "installed anew.",
                                other->name);
                return 4006;
        }
        if (r < 0 && r != -ENOENT)
                return refuse_store(r, reterr);

        /* One whose key and token were taken from it comes back as what it was. */
        if (!*node && other && !other->node_key && !has_own_token(other))
                *node = TAKE_PTR(other);
        if (!*node) {
                r = make_node(a, grid, who, now, node, reterr);
                if (r != 0)
                        return r;
        }

        r = free_and_strdup(&(*node)->node_key, who->node_key);
        if (r >= 0)
                r = free_and_strdup(&(*node)->machine_id, who->machine_id);
        if (r >= 0)
                r = take_labels(*node, who->labels);
        if (r < 0)
                return refuse_store(r, reterr);
        (*node)->updated_at = now;

        r = store_put_node(a->master->store, *node);
        if (r < 0)
                return refuse_store(r, reterr);

        (void) events_add(a->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "node:join",
                                        .grid_id = grid->id,
                                        .node_id = (*node)->id },
                        "Node '%s' joined from %s as number %u.", (*node)->name, strna(who->address),
                        (*node)->number);
        return 0;
}

static int admit_unknown(NodeAdmission *a, const NodeIntroduction *who, uint64_t now, char **ret_node_id,
                char **ret_grid_id, KError *reterr) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        int r;

        r = check_token(a, who, &grid, &node, reterr);
        if (grid) {
                *ret_grid_id = strdup(grid->id);
                if (!*ret_grid_id)
                        return refuse_store(-ENOMEM, reterr);
        }
        if (r != 0)
                return r;

        r = store_begin(a->master->store, reterr);
        if (r < 0)
                return 4050;
        t = a->master->store;
        r = bind_node(a, grid, &node, who, now, reterr);
        if (r != 0)
                return r;
        r = store_commit(a->master->store, reterr);
        if (r < 0)
                return 4050;
        t = NULL;

        *ret_node_id = TAKE_PTR(node->id);
        return 0;
}

/* Labels of the configuration count while nobody has given the node any on the master. */
static void take_first_labels(NodeAdmission *a, NodeRow *node, const NodeIntroduction *who) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        if (strv_length(node->labels) > 0 || strv_length(who->labels) == 0)
                return;

        r = store_begin(a->master->store, NULL);
        if (r >= 0) {
                t = a->master->store;
                r = take_labels(node, who->labels);
                if (r >= 0)
                        r = store_put_node(a->master->store, node);
                if (r >= 0)
                        r = store_commit(a->master->store, NULL);
        }
        if (r < 0)
                log_warning_errno(
                                r, "Labels of node '%s' cannot be stored, it goes without: %m", node->name);
        else
                t = NULL;
}

int node_admission_check(NodeAdmission *a, const NodeIntroduction *who, uint64_t now, char **ret_node_id,
                KError *reterr) {
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        _cleanup_free_ char *grid_id = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r, code;

        assert(a);
        assert(who);
        assert(ret_node_id);

        code = check_form(who, &error);
        if (code == 0) {
                r = store_find_node_by_key(a->master->store, who->node_key, &node);
                if (r >= 0)
                        grid_id = strdup(node->grid_id);
                else if (r != -ENOENT)
                        code = refuse_store(r, &error);
        }
        if (code == 0)
                code = check_version(who, &error);
        if (code == 0)
                code = check_clock(who, now, &error);
        if (code == 0 && node) {
                take_first_labels(a, node, who);
                *ret_node_id = TAKE_PTR(node->id);
                return 0;
        }
        if (code == 0)
                code = admit_unknown(a, who, now, ret_node_id, &grid_id, &error);
        if (code == 0)
                return 0;

        node_admission_refused(a, who, grid_id, code, kerror_message(&error), now);
        kerror_move(reterr, &error);
        return code;
}
