/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "desired-json.h"

#include "json-util.h"
#include "names.h"
#include "node-tracker.h"
#include "parse-util.h"
#include "registry.h"
#include "string-util.h"
#include "vault.h"

int desired_grid_to_json(const GridRow *g, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *domain = NULL;
        int r;

        o = json_object_new_object();
        domain = stack_domain(g->name, STACK_NULL);
        if (!o || !domain)
                return -ENOMEM;

        if ((r = json_add_string(o, "id", g->id)) < 0 || (r = json_add_string(o, "name", g->name)) < 0 ||
                        (r = json_add_string(o, "subnet", g->subnet)) < 0 ||
                        (r = json_add_string(o, "supernet", g->supernet)) < 0 ||
                        (r = json_add_strv(o, "trusted_subnets", g->trusted_subnets)) < 0 ||
                        (r = json_add_string(o, "domain", domain)) < 0 ||
                        (r = json_add_u64(o, "revision", g->revision)) < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int desired_peer_to_json(const GridRow *g, const NodeRow *n, const char *region, const char *link,
                json_object **ret) {
        const char *private_address = NULL, *public_address = NULL;
        _cleanup_json_ json_object *o = NULL;
        uint64_t mtu = 0;
        int r;

        (void) json_find_string(n->report, "private_address", &private_address, NULL);
        (void) json_find_string(n->report, "public_address", &public_address, NULL);
        (void) json_find_u64(n->report, "mtu", &mtu, NULL);

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        if ((r = json_add_string(o, "name", n->name)) < 0 ||
                        (r = json_add_u64(o, "number", n->number)) < 0 ||
                        (r = json_add_string(o, "overlay_address",
                                         IPV4_TO_STRING(node_overlay_address(g, n->number)))) < 0 ||
                        (r = json_add_strv(o, "blocks", n->blocks)) < 0 ||
                        (r = json_add_string(o, "private_address", private_address)) < 0 ||
                        (r = json_add_string(o, "public_address", public_address)) < 0 ||
                        (r = json_add_string(o, "region", region)) < 0 ||
                        (r = json_add_u64(o, "mtu", mtu)) < 0 ||
                        (r = json_add_string(o, "link", link)) < 0 || (r = json_keep_text(o)) < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int desired_node_to_json(
                Store *s, struct Keyring *k, const GridRow *g, const NodeRow *n, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        if ((r = json_add_string(o, "id", n->id)) < 0 || (r = json_add_string(o, "name", n->name)) < 0 ||
                        (r = json_add_u64(o, "number", n->number)) < 0 ||
                        (r = json_add_strv(o, "labels", n->labels)) < 0 ||
                        (r = json_add_string(o, "overlay_address",
                                         IPV4_TO_STRING(node_overlay_address(g, n->number)))) < 0 ||
                        (r = json_add_strv(o, "blocks", n->blocks)) < 0 ||
                        (r = json_add_string(o, "availability",
                                         node_availability_to_string(n->availability))) < 0 ||
                        (r = registry_add_to_node(s, k, n, o)) < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int add_search(json_object *o, const char *domain) {
        _cleanup_json_ json_object *search = NULL;
        const char *dot = strchr(domain, '.');
        int r;

        search = json_object_new_array();
        if (!search)
                return -ENOMEM;
        r = json_append_string(search, domain);
        if (r >= 0 && dot)
                r = json_append_string(search, dot + 1);
        if (r < 0)
                return r;
        return json_add(o, "search", TAKE_PTR(search));
}

static int add_hooks_done(Store *s, const InstanceRow *row, json_object *o) {
        _cleanup_strv_free_ char **hooks = NULL;
        int r;

        if (!row->spec || !json_object_object_get_ex(row->spec, "hooks", NULL))
                return 0;
        r = store_list_hooks_done(s, row->service_id, row->number, &hooks);
        if (r < 0)
                return r;
        return json_add_strv(o, "hooks_done", hooks);
}

/* What a rollback would go to is not swept away meanwhile. */
static int add_rollback_digest(Store *s, const InstanceRow *row, json_object *o) {
        _cleanup_free_ char *digest = NULL;
        int r;

        if (row->run_id || row->desired == INSTANCE_TERMINATED)
                return 0;
        r = store_find_rollback_digest(s, row->service_id, row->service_rev, &digest);
        if (r <= 0 || streq_ptr(digest, row->wanted_digest))
                return MIN(r, 0);
        return json_add_string(o, "rollback_digest", digest);
}

int desired_instance_to_json(Store *s, struct Keyring *k, const GridRow *g, json_object *report,
                const char *stack, const char *service, const InstanceRow *row, json_object **ret) {
        _cleanup_free_ char *domain = NULL, *default_hostname = NULL;
        _cleanup_json_ json_object *o = NULL;
        const char *hostname = NULL;
        bool stateful = false;
        int r;

        if (row->spec) {
                (void) json_find_bool(row->spec, "stateful", &stateful, NULL);
                (void) json_find_string(row->spec, "hostname", &hostname, NULL);
        }
        domain = stack_domain(g->name, stack);
        default_hostname = strprintf("%s-%u", service, row->number);
        o = json_object_new_object();
        if (!domain || !default_hostname || !o)
                return -ENOMEM;

        if ((r = json_add_string(o, "id", row->id)) < 0 ||
                        (r = json_add_u64(o, "number", row->number)) < 0 ||
                        (r = json_add_string(o, "grid", g->name)) < 0 ||
                        (r = json_add_string(o, "stack", stack)) < 0 ||
                        (r = json_add_string(o, "service", service)) < 0 ||
                        (r = json_add_string(o, "service_id", row->service_id)) < 0 ||
                        (r = json_add_string(o, "desired", instance_desired_to_string(row->desired))) < 0 ||
                        (r = json_add_u64(o, "deploy_rev", row->deploy_rev)) < 0 ||
                        (r = json_add_u64(o, "service_rev", row->service_rev)) < 0 ||
                        (r = json_add_bool(o, "force", row->force)) < 0 ||
                        (r = json_add_bool(o, "stateful", stateful)) < 0 ||
                        (r = json_add_string(o, "address", row->address)) < 0 ||
                        (r = json_add_string(o, "hostname",
                                         isempty(hostname) ? default_hostname : hostname)) < 0 ||
                        (r = json_add_string(o, "domain", domain)) < 0 || (r = add_search(o, domain)) < 0 ||
                        (r = json_add_string(o, "slot", strempty(row->slot))) < 0 ||
                        (r = json_add_bool(o, "incoming", row->role == INSTANCE_INCOMING)) < 0 ||
                        (r = json_add_u64(o, "drain", row->drain_sec)) < 0 ||
                        (r = json_add_string(o, "digest", row->wanted_digest)) < 0 ||
                        (r = add_rollback_digest(s, row, o)) < 0 ||
                        (r = json_add_string(o, "run", row->run_id)) < 0 ||
                        (r = add_hooks_done(s, row, o)) < 0 ||
                        (r = vault_add_to_instance(s, k, g->id, report, row, o)) < 0)
                return r;
        r = row->spec ? json_add(o, "spec", json_object_get(row->spec)) : json_add_string(o, "spec", NULL);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
