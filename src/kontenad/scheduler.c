/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "scheduler.h"

#include <stdarg.h>

#include "affinity.h"
#include "file-util.h"
#include "names.h"
#include "string-util.h"

/* Nodes named in an explanation for one reason; the others are counted. */
#define NODES_NAMED_MAX 8U

typedef struct Candidate {
        const SchedulerNode *node;
        bool dropped, matches;
        char *reason;   /* only in a run that explains */
        uint64_t order; /* after shuffling: breaks ties */
} Candidate;

typedef struct Run {
        const SchedulerSnapshot *snapshot;
        const SchedulerRequest *request;
        Candidate *candidates;
        size_t n;
        bool explain, soft;
        bool alone; /* as if the service had no instance yet */
        bool homes; /* nodes with data of a stateful service count whatever their state */
} Run;

static void run_done(Run *run) {
        for (size_t i = 0; i < run->n; i++)
                free(run->candidates[i].reason);
        run->candidates = mfree(run->candidates);
        run->n = 0;
}

void scheduler_instance_done(SchedulerInstance *i) {
        for (size_t j = 0; j < i->n_ports; j++)
                free(i->ports[j].ip);
        free(i->ports);
        free(i->service_id);
        free(i->stack);
        free(i->service);
        free(i->container);
        *i = (SchedulerInstance){};
}

void scheduler_snapshot_done(SchedulerSnapshot *s) {
        if (!s)
                return;

        FOREACH_ARRAY(n, s->nodes, s->n_nodes) {
                for (size_t i = 0; i < n->n_instances; i++)
                        scheduler_instance_done(&n->instances[i]);
                free(n->instances);
                strv_free(n->labels);
                strv_free(n->volumes);
                strv_free(n->volume_drivers);
                free(n->id);
                free(n->name);
        }
        free(s->nodes);
        strv_free(s->default_affinity);
        *s = (SchedulerSnapshot){};
}

void scheduler_volumes_done(SchedulerVolumes *v) {
        if (!v)
                return;

        FOREACH_ARRAY(i, v->items, v->n) {
                free(i->name);
                free(i->driver);
        }
        free(v->items);
        *v = (SchedulerVolumes){};
}

uint64_t strategy_offline_grace(Strategy s) {
        switch (s) {
        case STRATEGY_DAEMON:
                return 600 * USEC_PER_SEC;
        case STRATEGY_RANDOM:
                return 30 * USEC_PER_SEC;
        default:
                return 120 * USEC_PER_SEC;
        }
}

static bool is_same(const SchedulerRequest *q, const SchedulerInstance *i) {
        return i->number == q->number && streq(i->service_id, q->service_id);
}

static bool is_here(const Run *run, const SchedulerNode *n) {
        if (!run->alone)
                FOREACH_ARRAY(i, n->instances, n->n_instances)
                        if (is_same(run->request, i))
                                return true;
        return false;
}

/* An instance is not its own neighbour: a rule "service!=web" of web keeps its instances apart and does not drive
 * each from the node where it is. */
static bool is_neighbour(const Run *run, const SchedulerInstance *i) {
        if (run->alone)
                return !streq(i->service_id, run->request->service_id);
        return !is_same(run->request, i);
}

static bool is_home(const Run *run, const SchedulerNode *n) {
        if (run->homes && run->request->spec->stateful)
                FOREACH_ARRAY(i, n->instances, n->n_instances)
                        if (streq(i->service_id, run->request->service_id))
                                return true;
        return false;
}

static int _printf_(3, 4) drop(const Run *run, Candidate *c, const char *format, ...) {
        va_list ap;

        c->dropped = true;
        if (!run->explain)
                return 0;

        va_start(ap, format);
        free(c->reason);
        c->reason = strvprintf(format, ap);
        va_end(ap);

        return c->reason ? 0 : -ENOMEM;
}

#define FOREACH_SURVIVOR(c, run)                                                                            \
        FOREACH_ARRAY(c, (run)->candidates, (run)->n)                                                       \
                if (!c->dropped)

static const char *find_label(char *const *labels, const char *key) {
        STRV_FOREACH(l, labels) {
                const char *value = startswith(*l, key);

                if (value && (value[0] == '=' || value[0] == '\0'))
                        return value[0] == '=' ? value + 1 : value;
        }
        return NULL;
}

static const char *node_zone(const SchedulerNode *n) {
        return find_label(n->labels, "az") ?: "default";
}

static int filter_connection(Run *run, KError *reterr) {
        int r;

        FOREACH_SURVIVOR(c, run) {
                const SchedulerNode *n = c->node;

                if (n->connected || n->offline_usec < run->request->offline_grace || is_home(run, n))
                        continue;
                r = n->offline_usec == USEC_INFINITY ? drop(run, c, "has never connected")
                                                     : drop(run, c, "offline");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int filter_availability(Run *run, KError *reterr) {
        int r;

        FOREACH_SURVIVOR(c, run)
        if (!c->node->active && !is_home(run, c->node)) {
                r = drop(run, c, "drained");
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What is stateful stays with its data, whatever the strategy. */
static int filter_stateful(Run *run, KError *reterr) {
        const SchedulerNode *home = NULL;
        int r;

        if (!run->request->spec->stateful)
                return 0;

        for (size_t i = 0; !home && i < run->n; i++)
                if (is_here(run, run->candidates[i].node))
                        home = run->candidates[i].node;
        if (!home)
                return 0;

        FOREACH_SURVIVOR(c, run)
        if (c->node != home) {
                r = drop(run, c, "the data is on '%s'", home->name);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int filter_ephemeral(Run *run, KError *reterr) {
        int r;

        if (!run->request->spec->stateful)
                return 0;

        FOREACH_SURVIVOR(c, run)
        if (find_label(c->node->labels, "ephemeral") && !is_here(run, c->node)) {
                r = drop(run, c, "ephemeral, and the service is stateful");
                if (r < 0)
                        return r;
        }
        return 0;
}

#define FOREACH_VOLUME(v, q)                                                                                \
        for (const SchedulerVolume *v = (q)->volumes ? (q)->volumes->items : NULL,                          \
                                   *_end = v ? v + (q)->volumes->n : NULL;                                  \
                        v < _end; v++)

static bool has_driver(const SchedulerNode *n, const char *driver) {
        return n->volume_drivers ? strv_contains(n->volume_drivers, driver) : streq(driver, "local");
}

static int filter_volume_driver(Run *run, KError *reterr) {
        int r;

        FOREACH_VOLUME(v, run->request)
        FOREACH_SURVIVOR(c, run)
        if (!has_driver(c->node, v->driver)) {
                r = drop(run, c, "has no volume driver '%s'", v->driver);
                if (r < 0)
                        return r;
        }
        return 0;
}

int scheduler_has_volume(const SchedulerNode *n, const SchedulerVolume *v, uint32_t number) {
        _cleanup_free_ char *name = NULL;

        if (!v->own)
                return strv_contains(n->volumes, v->name);
        name = strprintf("%s-%u", v->name, number);
        if (!name)
                return -ENOMEM;
        return strv_contains(n->volumes, name);
}

/* A volume of the instance's own draws it to where it is. That is a wish: where none of them may run it, another does. In the
 * reference a volume of another scope, named later, undoes this. */
static int filter_volume(Run *run, KError *reterr) {
        int r;

        if (!run->soft || run->alone)
                return 0;

        FOREACH_VOLUME(v, run->request) {
                bool any = false;

                if (!v->own)
                        continue;
                FOREACH_SURVIVOR(c, run) {
                        r = scheduler_has_volume(c->node, v, run->request->number);
                        if (r < 0)
                                return r;
                        c->matches = r > 0;
                        any = any || c->matches;
                }
                FOREACH_SURVIVOR(c, run)
                if (any && !c->matches) {
                        r = drop(run, c, "does not have the volume '%s-%u'", v->name, run->request->number);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static bool node_has(const Run *run, const SchedulerNode *n, const Affinity *a) {
        switch (a->key) {
        case AFFINITY_NODE:
                return affinity_matches(a, n->name);
        case AFFINITY_LABEL:
                STRV_FOREACH(l, n->labels)
                        if (affinity_matches(a, *l))
                                return true;
                return false;
        case AFFINITY_SERVICE:
                FOREACH_ARRAY(i, n->instances, n->n_instances)
                        if (is_neighbour(run, i) && affinity_matches_service(a, run->request->stack,
                                                                    i->stack, i->service))
                                return true;
                return false;
        case AFFINITY_CONTAINER:
                FOREACH_ARRAY(i, n->instances, n->n_instances)
                        if (is_neighbour(run, i) && affinity_matches(a, i->container))
                                return true;
                return false;
        default:
                assert(false);
                return false;
        }
}

static int drop_by_affinity(Run *run, Candidate *c, const Affinity *a) {
        const char *slash = a->is_regex ? "/" : "";

        switch (a->key) {
        case AFFINITY_NODE:
                return a->negate ? drop(run, c, "name is '%s%s%s'", slash, a->value, slash)
                                 : drop(run, c, "name is not '%s%s%s'", slash, a->value, slash);
        case AFFINITY_LABEL:
                return a->negate ? drop(run, c, "has label '%s%s%s'", slash, a->value, slash)
                                 : drop(run, c, "label '%s%s%s' is missing", slash, a->value, slash);
        case AFFINITY_SERVICE:
                return a->negate ? drop(run, c, "runs service '%s%s%s'", slash, a->value, slash)
                                 : drop(run, c, "does not run service '%s%s%s'", slash, a->value, slash);
        default:
                return a->negate ? drop(run, c, "has container '%s%s%s'", slash, a->value, slash)
                                 : drop(run, c, "does not have container '%s%s%s'", slash, a->value, slash);
        }
}

static int filter_affinity(Run *run, KError *reterr) {
        char **rules = run->request->spec->affinity ?: run->snapshot->default_affinity;
        int r;

        STRV_FOREACH(rule, rules) {
                _cleanup_affinity_ Affinity a = {};
                bool any = false;

                r = affinity_parse(*rule, run->request->number, &a, reterr);
                if (r < 0)
                        return r;
                if (a.soft && !run->soft)
                        continue;

                FOREACH_SURVIVOR(c, run) {
                        c->matches = node_has(run, c->node, &a) != a.negate;
                        any = any || c->matches;
                }
                if (a.soft && !any)
                        continue;
                FOREACH_SURVIVOR(c, run)
                if (!c->matches) {
                        r = drop_by_affinity(run, c, &a);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static bool ip_is_any(const char *ip) {
        return isempty(ip) || streq(ip, "0.0.0.0");
}

/* Unlike the reference, which compares numbers only: each protocol and address has ports of its own. */
static bool ports_collide(const PortMapping *a, const PortMapping *b) {
        return a->node_port == b->node_port && a->protocol == b->protocol &&
               (ip_is_any(a->ip) || ip_is_any(b->ip) || streq(a->ip, b->ip));
}

static int filter_ports_of(Run *run, Candidate *c, const SchedulerInstance *i) {
        FOREACH_ARRAY(p, run->request->spec->ports, run->request->spec->n_ports)
                FOREACH_ARRAY(q, i->ports, i->n_ports)
                        if (ports_collide(p, q))
                                return drop(run, c, "port %u/%s is taken by %s/%s-%u", p->node_port,
                                                transport_protocol_to_string(p->protocol), i->stack,
                                                i->service, i->number);
        return 0;
}

static int filter_port(Run *run, KError *reterr) {
        int r;

        if (run->request->spec->host_network)
                return 0;

        FOREACH_SURVIVOR(c, run)
        for (size_t i = 0; i < c->node->n_instances && !c->dropped; i++) {
                if (!is_neighbour(run, &c->node->instances[i]))
                        continue;
                r = filter_ports_of(run, c, &c->node->instances[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int filter_runtime(Run *run, KError *reterr) {
        bool machine = run->request->spec->runtime == RUNTIME_NSPAWN;
        int r;

        FOREACH_SURVIVOR(c, run)
        if (machine ? !c->node->machines : c->node->no_containers) {
                r = machine ? drop(run, c, "does not run machines (systemd-nspawn is not installed)")
                            : drop(run, c, "has no runtime for containers");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int filter_cpu(Run *run, KError *reterr) {
        double need = run->request->spec->cpus;
        int r;

        if (!(need > 0))
                return 0;

        FOREACH_SURVIVOR(c, run)
        if (c->node->cpus < need) {
                r = c->node->cpus > 0 ? drop(run, c, "has %g CPUs, %g are asked for", c->node->cpus, need)
                                      : drop(run, c, "has not reported its CPUs yet");
                if (r < 0)
                        return r;
        }
        return 0;
}

static double mebibytes(uint64_t bytes) {
        return (double) bytes / 1048576.0;
}

static uint64_t needed_memory(const SchedulerRequest *q) {
        if (q->spec->memory > 0)
                return q->spec->memory;
        if (q->spec->memory_swap > 0)
                return q->spec->memory_swap;
        return q->memory_sample + q->memory_sample / 4;
}

static int filter_memory(Run *run, KError *reterr) {
        uint64_t need = needed_memory(run->request);
        int r;

        if (need == 0)
                return 0;

        FOREACH_SURVIVOR(c, run) {
                const SchedulerNode *n = c->node;

                if (n->memory_total == 0 || is_here(run, n))
                        continue;
                if (n->memory_total >= need && n->memory_available >= need)
                        continue;
                r = n->memory_total < need
                                    ? drop(run, c, "has %.0f MiB of memory, %.0f MiB are needed",
                                                      mebibytes(n->memory_total), mebibytes(need))
                                    : drop(run, c, "%.0f MiB of memory are available, %.0f MiB are needed",
                                                      mebibytes(n->memory_available), mebibytes(need));
                if (r < 0)
                        return r;
        }
        return 0;
}

/* In the reference's order. */
static int (*const filters[])(Run *run, KError *reterr) = {
        filter_connection,
        filter_availability,
        filter_stateful,
        filter_ephemeral,
        filter_runtime,
        filter_volume_driver,
        filter_volume,
        filter_affinity,
        filter_port,
        filter_cpu,
        filter_memory,
};

static size_t count_survivors(const Run *run) {
        size_t n = 0;

        FOREACH_SURVIVOR(c, run)
        n++;
        return n;
}

static int run_filters(Run *run, KError *reterr) {
        int r;

        run_done(run);
        run->candidates = new0(Candidate, MAX(run->snapshot->n_nodes, 1U));
        if (!run->candidates)
                return -ENOMEM;
        run->n = run->snapshot->n_nodes;
        for (size_t i = 0; i < run->n; i++)
                run->candidates[i].node = &run->snapshot->nodes[i];

        for (size_t i = 0; i < ELEMENTSOF(filters); i++) {
                r = filters[i](run, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* "n1, n4: drained; n2: offline" */
static char *describe(const Run *run) {
        _cleanup_free_ char *text = NULL;

        for (size_t i = 0; i < run->n; i++) {
                const Candidate *c = &run->candidates[i];
                _cleanup_strv_free_ char **names = NULL;
                _cleanup_free_ char *joined = NULL;
                size_t n = 0;
                char *longer;

                if (!c->reason)
                        continue;
                for (size_t j = 0; j < i; j++)
                        n += streq_ptr(run->candidates[j].reason, c->reason);
                if (n > 0)
                        continue; /* told already */

                for (size_t j = i; j < run->n; j++)
                        if (streq_ptr(run->candidates[j].reason, c->reason) && n++ < NODES_NAMED_MAX &&
                                        strv_extend(&names, run->candidates[j].node->name) < 0)
                                return NULL;
                joined = strv_join(names, ", ");
                if (!joined)
                        return NULL;

                longer = n > NODES_NAMED_MAX ? strprintf("%s%s%s and %zu more: %s", strempty(text),
                                                               text ? "; " : "", joined, n - NODES_NAMED_MAX,
                                                               c->reason)
                                             : strprintf("%s%s%s: %s", strempty(text), text ? "; " : "",
                                                               joined, c->reason);
                if (!longer)
                        return NULL;
                free(text);
                text = longer;
        }

        return text ? TAKE_PTR(text) : strdup("the grid has no nodes");
}

static int explain(Run *run, KError *reterr) {
        _cleanup_free_ char *name = NULL, *reasons = NULL;
        int r;

        run->explain = true;
        r = run_filters(run, reterr);
        if (r < 0)
                return r;

        name = instance_container_name(run->request->stack, run->request->service, run->request->number);
        reasons = describe(run);
        if (!name || !reasons)
                return -ENOMEM;

        return kerror_set(reterr, K_UNSCHEDULABLE, "No node fits %s: %s.", name, reasons);
}

static uint64_t next_random(uint64_t *state) {
        uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

typedef struct Score {
        uint64_t zone, node;
        double rank;
        uint64_t order;
} Score;

static bool score_is_better(const Score *a, const Score *b) {
        if (a->zone != b->zone)
                return a->zone < b->zone;
        if (a->node != b->node)
                return a->node < b->node;
        if (a->rank < b->rank || a->rank > b->rank)
                return a->rank < b->rank;
        return a->order < b->order;
}

/* How much of what the service shares on a node is there: 0 to 1. */
static double shared_volumes(const Run *run, const SchedulerNode *n) {
        size_t shared = 0, there = 0;

        FOREACH_VOLUME(v, run->request)
        if (!v->own) {
                shared++;
                there += strv_contains(n->volumes, v->name);
        }
        return shared > 0 ? (double) there / (double) shared : 0;
}

/* Volumes that a service shares on a node do not gather its instances there, as they would if they were a filter: spreading
 * comes first. */
static Score score_ha(const Run *run, const Candidate *c) {
        const SchedulerNode *n = c->node;
        Score s = { .node = n->placed, .rank = 10, .order = c->order };

        FOREACH_ARRAY(other, run->snapshot->nodes, run->snapshot->n_nodes)
                if (other->placed > 0 && streq(node_zone(other), node_zone(n)))
                        s.zone += other->placed;
        if (is_here(run, n))
                s.rank -= 5;
        s.rank -= 2 * shared_volumes(run, n);
        if (n->memory_total > 0 && n->memory_free <= n->memory_total)
                s.rank += (double) (n->memory_total - n->memory_free) / (double) n->memory_total;
        return s;
}

/* What this run has placed on the node is among its instances, scheduler_assign() put it there. */
static Score score_daemon(const Run *run, const Candidate *c) {
        Score s = { .order = c->node->number };

        if (is_here(run, c->node))
                return s;
        s.node = 1;
        FOREACH_ARRAY(i, c->node->instances, c->node->n_instances)
                if (streq(i->service_id, run->request->service_id) && i->number <= run->request->wanted)
                        s.node++;
        return s;
}

static Score score_random(const Run *run, const Candidate *c) {
        return (Score){
                .node = !is_here(run, c->node), .rank = -shared_volumes(run, c->node), .order = c->order
        };
}

static const Candidate *pick(Run *run) {
        uint64_t state = run->request->seed ^ ((uint64_t) run->request->number << 32);
        const Candidate *best = NULL;
        Score best_score = {};

        FOREACH_ARRAY(c, run->candidates, run->n)
                c->order = next_random(&state);

        FOREACH_SURVIVOR(c, run) {
                Score s;

                switch (run->request->spec->strategy) {
                case STRATEGY_DAEMON:
                        s = score_daemon(run, c);
                        break;
                case STRATEGY_RANDOM:
                        s = score_random(run, c);
                        break;
                default:
                        s = score_ha(run, c);
                        break;
                }
                if (!best || score_is_better(&s, &best_score)) {
                        best = c;
                        best_score = s;
                }
        }
        return best;
}

int scheduler_place(const SchedulerSnapshot *s, const SchedulerRequest *q, size_t *ret, KError *reterr) {
        _cleanup_(run_done) Run run = { .snapshot = s, .request = q, .soft = true };
        int r;

        assert(s);
        assert(q);
        assert(ret);

        r = run_filters(&run, reterr);
        if (r < 0)
                return r;

        /* A wish never keeps an instance from running: the reference gives up when a later filter removes the nodes
         * that met it, here the wishes are dropped then. */
        if (count_survivors(&run) == 0) {
                run.soft = false;
                r = run_filters(&run, reterr);
                if (r < 0)
                        return r;
        }
        if (count_survivors(&run) == 0)
                return explain(&run, reterr);

        *ret = (size_t) (pick(&run)->node - s->nodes);
        return 0;
}

int scheduler_check_node(
                const SchedulerSnapshot *s, const SchedulerRequest *q, size_t node, KError *reterr) {
        _cleanup_(run_done) Run run = { .snapshot = s, .request = q, .explain = true };
        const Candidate *c;
        int r;

        assert(s);
        assert(q);
        assert(node < s->n_nodes);

        r = run_filters(&run, reterr);
        if (r < 0)
                return r;
        c = &run.candidates[node];
        return c->dropped ? kerror_set(reterr, K_UNSCHEDULABLE, "%s", c->reason) : 0;
}

uint32_t scheduler_wanted(const SchedulerSnapshot *s, const SchedulerRequest *q) {
        SchedulerRequest first = *q;
        _cleanup_(run_done) Run run = {
                .snapshot = s, .request = &first, .soft = true, .alone = true, .homes = true
        };
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (q->spec->strategy != STRATEGY_DAEMON)
                return q->spec->count;

        first.number = 1;
        if (run_filters(&run, &error) < 0)
                return 0;
        return q->spec->count * (uint32_t) count_survivors(&run);
}

static int copy_instance(const SchedulerRequest *q, SchedulerInstance *ret) {
        _cleanup_(scheduler_instance_done) SchedulerInstance i = { .number = q->number };

        i.service_id = strdup(q->service_id);
        i.stack = strdup(q->stack);
        i.service = strdup(q->service);
        i.container = instance_container_name(q->stack, q->service, q->number);
        if (!i.service_id || !i.stack || !i.service || !i.container)
                return -ENOMEM;

        if (!q->spec->host_network && q->spec->n_ports > 0) {
                i.ports = new0(PortMapping, q->spec->n_ports);
                if (!i.ports)
                        return -ENOMEM;
                for (; i.n_ports < q->spec->n_ports; i.n_ports++) {
                        i.ports[i.n_ports] = q->spec->ports[i.n_ports];
                        if (i.ports[i.n_ports].ip) {
                                i.ports[i.n_ports].ip = strdup(i.ports[i.n_ports].ip);
                                if (!i.ports[i.n_ports].ip)
                                        return -ENOMEM;
                        }
                }
        }

        *ret = TAKE_GENERIC(i, (SchedulerInstance){});
        return 0;
}

int scheduler_add(SchedulerSnapshot *s, const SchedulerRequest *q, size_t node) {
        SchedulerInstance copy;
        SchedulerNode *n;
        int r;

        assert(s);
        assert(q);
        assert(node < s->n_nodes);

        n = &s->nodes[node];
        if (n->n_instances >= n->n_allocated) {
                size_t m = MAX(8U, n->n_allocated * 2);
                SchedulerInstance *p = reallocarray(n->instances, m, sizeof(SchedulerInstance));

                if (!p)
                        return -ENOMEM;
                n->instances = p;
                n->n_allocated = m;
        }

        r = copy_instance(q, &copy);
        if (r < 0)
                return r;

        n->instances[n->n_instances++] = copy;
        return 0;
}

int scheduler_assign(SchedulerSnapshot *s, const SchedulerRequest *q, size_t node) {
        int r;

        assert(s);
        assert(q);
        assert(node < s->n_nodes);

        FOREACH_ARRAY(other, s->nodes, s->n_nodes)
                for (size_t i = 0; i < other->n_instances;)
                        if (is_same(q, &other->instances[i])) {
                                scheduler_instance_done(&other->instances[i]);
                                other->instances[i] = other->instances[--other->n_instances];
                        } else
                                i++;

        r = scheduler_add(s, q, node);
        if (r < 0)
                return r;

        s->nodes[node].placed++;
        return 0;
}
