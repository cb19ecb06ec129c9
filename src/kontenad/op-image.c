/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "events.h"
#include "image-reference.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "node-session.h"
#include "op-internal.h"
#include "render.h"
#include "string-util.h"

#define LIST_TIMEOUT_USEC  (10ULL * 1000000ULL)
#define PRUNE_TIMEOUT_USEC (60ULL * 1000000ULL)

/* One question to all nodes of a grid, or to one, at the same time. Who does not answer is named in the warnings. */
typedef struct Fan {
        OperationCall *call;
        bool removes;
        unsigned open, answered;
        bool starting;         /* answers are counted only when all were asked */
        KError error;          /* the first, for when nobody answers; or one of our own */
        bool broken;           /* by one of our own */
        json_object *rows;     /* of all answers */
        json_object *warnings; /* sentences */
} Fan;

typedef struct Ask {
        Fan *fan;
        char *node;
} Ask;

static Ask *ask_free(Ask *a) {
        if (!a)
                return NULL;
        free(a->node);
        return mfree(a);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Ask *, ask_free);

static Fan *fan_free(Fan *f) {
        if (!f)
                return NULL;
        kerror_done(&f->error);
        json_object_put(f->rows);
        json_object_put(f->warnings);
        return mfree(f);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Fan *, fan_free);

static void fan_break(Fan *f, int error) {
        f->broken = true;
        (void) kerror_set_errno(&f->error, error, "The answer cannot be made: %m.");
}

/* In the order of nodes' names, not of their answers. */
static int by_node(const void *a, const void *b) {
        json_object *x = *(json_object *const *) a, *y = *(json_object *const *) b;
        int r = strcmp(json_object_get_string(json_object_object_get(x, "node")),
                        json_object_get_string(json_object_object_get(y, "node")));

        return r != 0 ? r
                      : strcmp(json_object_get_string(json_object_object_get(x, "manifest")),
                                        json_object_get_string(json_object_object_get(y, "manifest")));
}

static void finish(Fan *f) {
        _cleanup_json_ json_object *o = json_object_new_object();
        size_t n = json_object_array_length(f->rows);

        json_object_array_sort(f->rows, by_node);
        if (!o || json_add(o, "images", json_object_get(f->rows)) < 0 ||
                        json_add(o, "warnings", json_object_get(f->warnings)) < 0)
                fan_break(f, -ENOMEM);
        if (f->removes && n > 0)
                (void) events_add(f->call->master,
                                &(EventInfo){ .severity = "info",
                                                .type = "grid:images",
                                                .grid_id = f->call->grid->id },
                                "%zu unused image%s removed from the nodes of grid '%s'.", n,
                                n == 1 ? " was" : "s were", f->call->grid->name);
        operation_call_finish(f->call, o,
                        kerror_is_set(&f->error) && (f->broken || f->answered == 0) ? &f->error : NULL);
        fan_free(f);
}

static void fail_one(Fan *f, const char *node, const KError *error) {
        _cleanup_free_ char *s = strprintf("%s: %s", node, kerror_message(error));

        if (!s || json_append_string(f->warnings, s) < 0) {
                fan_break(f, -ENOMEM);
                return;
        }
        if (!kerror_is_set(&f->error)) {
                (void) kerror_set(&f->error, error->code, "%s", kerror_message(error));
                kerror_prefix(&f->error, "Node '%s'", node);
        }
}

/* A node may say anything: only what is of the right type goes on. */
static int add_row(Fan *f, const char *node, json_object *image) {
        static const char *const numbers[] = { "size", "instances", "used_at" };
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *digest = NULL, *index = NULL;
        _cleanup_strv_free_ char **references = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        if (json_find_string(image, "digest", &digest, NULL) <= 0 || !digest_hex(digest))
                return 0;
        if (json_find_string(image, "index_digest", &index, NULL) <= 0 || !digest_hex(index))
                index = digest;
        r = json_find_strv(image, "references", &references, NULL);
        if (r == -ENOMEM)
                return r;

        r = json_add_string(o, "node", node);
        if (r >= 0)
                r = json_add_string(o, "digest", index);
        if (r >= 0)
                r = json_add_string(o, "manifest", digest);
        if (r >= 0)
                r = json_add_strv(o, "references", references);
        FOREACH_ARRAY(key, numbers, ELEMENTSOF(numbers)) {
                uint64_t n = 0;

                (void) json_find_u64(image, *key, &n, NULL);
                if (r >= 0)
                        r = json_add_u64(o, *key, n);
        }
        return r < 0 ? r : json_append(f->rows, TAKE_PTR(o));
}

static int add_rows(Fan *f, const char *node, json_object *result) {
        json_object *images = NULL;
        size_t n = 0;
        int r;

        if (json_find_array(result, "images", &images, NULL) <= 0)
                return 0;
        FOREACH_JSON_ARRAY(image, images) {
                if (n++ >= IMAGES_LISTED_MAX)
                        break;
                r = add_row(f, node, image);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void on_answer(NodeSession *s, json_object *result, const KError *error, void *userdata) {
        _cleanup_(ask_freep) Ask *a = userdata;
        Fan *f = a->fan;
        int r;

        f->open--;
        if (kerror_is_set(error))
                fail_one(f, a->node, error);
        else {
                f->answered++;
                r = add_rows(f, a->node, result);
                if (r < 0)
                        fan_break(f, r);
        }
        if (f->open == 0 && !f->starting)
                finish(f);
}

/* Takes nothing: every node has its own copy. */
static int ask(Fan *f, const NodeRow *node, json_object *params) {
        _cleanup_(ask_freep) Ask *a = new0(Ask, 1);
        _cleanup_kerror_ KError error = KERROR_NULL;
        NodeSession *session;
        int r;

        if (!a)
                return -ENOMEM;
        a->fan = f;
        a->node = strdup(node->name);
        if (!a->node)
                return -ENOMEM;
        session = node_sessions_find(f->call->master->sessions, node->id);
        if (!session) {
                (void) kerror_set(&error, K_NODE_OFFLINE, "It is offline.");
                fail_one(f, node->name, &error);
                return 0;
        }

        f->open++;
        r = session_call(session, f->call->operation->name, json_object_get(params),
                        f->removes ? PRUNE_TIMEOUT_USEC : LIST_TIMEOUT_USEC, on_answer, a);
        if (r < 0) {
                f->open--;
                (void) kerror_set_errno(&error, r, "It cannot be asked: %m.");
                fail_one(f, node->name, &error);
                return 0;
        }
        TAKE_PTR(a);
        return 0;
}

/* What services of the grid need, or would go back to, though nothing stands on it just now. */
static int add_service(Store *s, const ServiceRow *service, json_object *keep) {
        _cleanup_(revision_row_freep) RevisionRow *present = NULL, *good = NULL;
        const char *image = NULL;
        int r;

        if (json_find_string(service->spec, "image", &image, NULL) > 0) {
                r = json_append_string(keep, image);
                if (r < 0)
                        return r;
        }
        r = store_find_revision(s, service->id, service->revision, &present);
        if (r >= 0 && present->image_digest)
                r = json_append_string(keep, present->image_digest);
        if (r < 0 && r != -ENOENT)
                return r;
        r = store_find_good_revision(s, service->id, service->revision, &good);
        if (r >= 0 && good->image_digest)
                r = json_append_string(keep, good->image_digest);
        return r == -ENOENT ? 0 : r;
}

static int add_keep(OperationCall *c, json_object *params) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        json_object *keep = json_object_new_array();
        Store *s = c->master->store;
        int r;

        r = json_add(params, "keep", keep);
        if (r >= 0)
                r = store_list_services(s, c->grid->id, &services);
        FOREACH_ARRAY(i, services.rows, services.n)
                if (r >= 0)
                        r = add_service(s, *i, keep);
        if (r >= 0)
                r = store_list_unfinished_deploys(s, &deploys);
        FOREACH_ARRAY(i, deploys.rows, deploys.n)
                if (r >= 0 && (*i)->image_digest && streq((*i)->grid_id, c->grid->id))
                        r = json_append_string(keep, (*i)->image_digest);
        return MIN(r, 0);
}

static int make_params(OperationCall *c, bool prune, json_object *options, json_object **ret,
                bool *ret_dry_run, KError *reterr) {
        _cleanup_json_ json_object *params = json_object_new_object();
        bool dry_run = false, all = false;
        int r;

        if (!params)
                return -ENOMEM;
        if (prune) {
                r = json_find_bool(options, "dry_run", &dry_run, reterr);
                if (r >= 0)
                        r = json_find_bool(options, "all", &all, reterr);
                if (r >= 0)
                        r = json_add_bool(params, "dry_run", dry_run);
                if (r >= 0 && !all)
                        r = add_keep(c, params);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(params);
        *ret_dry_run = dry_run;
        return 0;
}

/* Those that have a machine; "node" of the options: that one. */
static int select_nodes(OperationCall *c, json_object *options, NodeRowList *ret, KError *reterr) {
        _cleanup_(node_row_list_done) NodeRowList l = {};
        const char *name = NULL;
        size_t n = 0;
        int r;

        r = json_find_string(options, "node", &name, reterr);
        if (r >= 0)
                r = store_list_nodes(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;
        for (size_t i = 0; i < l.n; i++) {
                NodeRow *node = l.rows[i];

                if (name ? streq(node->name, name) : !!node->node_key)
                        l.rows[n++] = node;
                else
                        node_row_free(node);
        }
        l.n = n;
        if (name && n == 0)
                return kerror_set(reterr, K_NO_SUCH_NODE, "No node '%s' in grid '%s'.", name, c->grid->name);

        *ret = TAKE_GENERIC(l, (NodeRowList){});
        return 0;
}

static int image_ask(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const list_options[] = { "node", NULL };
        static const char *const prune_options[] = { "node", "dry_run", "all", NULL };
        bool prune = streq(c->operation->name, "image.prune"), dry_run;
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_json_ json_object *params = NULL;
        _cleanup_(fan_freep) Fan *f = NULL;
        json_object *options;
        Fan *fan;
        int r;

        r = call_settings(c, "options", prune ? prune_options : list_options, &options, reterr);
        if (r >= 0)
                r = select_nodes(c, options, &nodes, reterr);
        if (r >= 0)
                r = make_params(c, prune, options, &params, &dry_run, reterr);
        if (r < 0)
                return r;

        f = new0(Fan, 1);
        if (!f)
                return -ENOMEM;
        f->call = c;
        f->removes = prune && !dry_run;
        f->starting = true;
        f->rows = json_object_new_array();
        f->warnings = json_object_new_array();
        if (!f->rows || !f->warnings)
                return -ENOMEM;

        fan = TAKE_PTR(f); /* freed with its last answer from here on */
        FOREACH_ARRAY(i, nodes.rows, nodes.n) {
                r = ask(fan, *i, params);
                if (r < 0)
                        fan_break(fan, r);
        }
        fan->starting = false;
        if (fan->open == 0)
                finish(fan);
        return 1;
}

const Operation image_operations[] = {
        {
                        .name = "image.list",
                        .method = "ListImages",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "images", "warnings" },
                        .perform = image_ask,
        },
        {
                        .name = "image.prune",
                        .method = "PruneImages",
                        .action = "io.kontena.master1.manage-nodes",
                        .role = "grid_admin",
                        .flags = OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "images", "warnings" },
                        .perform = image_ask,
        },
};
const size_t n_image_operations = ELEMENTSOF(image_operations);
