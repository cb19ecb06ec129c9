/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "affinity.h"
#include "file-util.h"
#include "scheduler.h"
#include "string-util.h"
#include "test.h"

/* Thousands of random grids, each with several services that are deployed one after another. What must hold is computed here
 * a second time, the slow and obvious way. */
#define GRIDS        3000U
#define NODES_MAX    12U
#define SERVICES_MAX 5U

static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        return (uint32_t) (random_state >> 33) % n;
}

static void make_grid(SchedulerSnapshot *s) {
        s->n_nodes = 1 + random_below(NODES_MAX);
        s->nodes = new0(SchedulerNode, s->n_nodes);
        ASSERT_TRUE(s->nodes);
        for (size_t i = 0; i < s->n_nodes; i++) {
                SchedulerNode *n = &s->nodes[i];

                n->id = strprintf("id%zu", i);
                n->name = strprintf("n%zu", i);
                n->number = (uint32_t) i + 1;
                if (random_below(3) > 0)
                        ASSERT_OK(strv_extendf(&n->labels, "az=%u", random_below(3)));
                if (random_below(4) == 0)
                        ASSERT_OK(strv_extend(&n->labels, "ssd"));
                if (random_below(8) == 0)
                        ASSERT_OK(strv_extend(&n->labels, "ephemeral"));
                n->active = random_below(6) > 0;
                n->connected = random_below(8) > 0;
                n->offline_usec = random_below(900) * USEC_PER_SEC;
                n->cpus = random_below(5);
                if (random_below(4) > 0) {
                        n->memory_total = 1 + random_below(16);
                        n->memory_free = random_below((uint32_t) n->memory_total + 1);
                        n->memory_available = n->memory_free;
                }
        }
}

static const char *const rules[] = { "label==ssd", "label!=ssd", "label==~ssd", "label!=~az=1", "node!=n0",
        "node==/^n[0-4]$/", "service!=s0", "service==~s0", "container!=/^s1-/" };

static void make_spec(ServiceSpec *spec, PortMapping *port) {
        *spec = (ServiceSpec){ .count = 1 + random_below(6),
                .stateful = random_below(4) == 0,
                .strategy = random_below(_STRATEGY_MAX) };
        if (random_below(3) == 0) {
                *port = (PortMapping){ .node_port = (uint16_t) (80 + random_below(3)),
                        .protocol = random_below(_TRANSPORT_PROTOCOL_MAX) };
                spec->ports = port;
                spec->n_ports = 1;
        }
        if (random_below(3) == 0)
                spec->cpus = 1 + random_below(4);
        if (random_below(3) == 0)
                spec->memory = 1 + random_below(8);
        for (unsigned n = random_below(3); n > 0; n--)
                ASSERT_OK(strv_extend(&spec->affinity, rules[random_below(ELEMENTSOF(rules))]));
}

static bool holds(const SchedulerSnapshot *s, const SchedulerNode *n, const SchedulerRequest *q) {
        for (size_t i = 0; i < n->n_instances; i++)
                if (streq(n->instances[i].service_id, q->service_id) && n->instances[i].number == q->number)
                        return true;
        return false;
}

static bool has_label(const SchedulerNode *n, const char *label) {
        return strv_contains(n->labels, label);
}

static const char *zone(const SchedulerNode *n) {
        STRV_FOREACH(l, n->labels)
                if (startswith(*l, "az="))
                        return *l + 3;
        return "default";
}

/* Are all hard constraints met? */
static bool fits(const SchedulerSnapshot *s, const SchedulerNode *n, const SchedulerRequest *q) {
        bool here = holds(s, n, q);

        if (!n->active || !n->connected)
                return false;
        if (q->spec->stateful) {
                for (size_t i = 0; i < s->n_nodes; i++)
                        if (holds(s, &s->nodes[i], q) && &s->nodes[i] != n)
                                return false;
                if (has_label(n, "ephemeral") && !here)
                        return false;
        }
        if (q->spec->cpus > 0 && n->cpus < q->spec->cpus)
                return false;
        if (q->spec->memory > 0 && !here && n->memory_total > 0 &&
                        (n->memory_total < q->spec->memory || n->memory_available < q->spec->memory))
                return false;
        for (size_t i = 0; i < n->n_instances; i++) {
                const SchedulerInstance *o = &n->instances[i];

                if (o->number == q->number && streq(o->service_id, q->service_id))
                        continue;
                if (o->n_ports > 0 && q->spec->n_ports > 0 &&
                                o->ports[0].node_port == q->spec->ports[0].node_port &&
                                o->ports[0].protocol == q->spec->ports[0].protocol)
                        return false;
                if (strv_contains(q->spec->affinity, "service!=s0") && streq(o->service, "s0"))
                        return false;
                if (strv_contains(q->spec->affinity, "container!=/^s1-/") && startswith(o->container, "s1-"))
                        return false;
        }
        if (strv_contains(q->spec->affinity, "label==ssd") && !has_label(n, "ssd"))
                return false;
        if (strv_contains(q->spec->affinity, "label!=ssd") && has_label(n, "ssd"))
                return false;
        if (strv_contains(q->spec->affinity, "node!=n0") && streq(n->name, "n0"))
                return false;
        if (strv_contains(q->spec->affinity, "node==/^n[0-4]$/") && (n->number > 5))
                return false;
        return true;
}

/* A wish that some node could meet while it meets all else may not be missed when it is the only rule. */
static void check_wish(const SchedulerSnapshot *s, const SchedulerRequest *q, const SchedulerNode *chosen) {
        if (strv_length(q->spec->affinity) != 1 || !streq(q->spec->affinity[0], "label==~ssd") ||
                        has_label(chosen, "ssd"))
                return;
        for (size_t i = 0; i < s->n_nodes; i++)
                ASSERT_FALSE(has_label(&s->nodes[i], "ssd") && fits(s, &s->nodes[i], q));
}

/* Even: no node that fits had fewer in its zone, or as many there and fewer itself. */
static void check_spread(
                const SchedulerSnapshot *s, const SchedulerRequest *q, const SchedulerNode *chosen) {
        uint32_t chosen_zone = 0;

        if (q->spec->strategy != STRATEGY_HA || q->spec->stateful || q->spec->affinity)
                return;
        for (size_t i = 0; i < s->n_nodes; i++)
                if (streq(zone(&s->nodes[i]), zone(chosen)))
                        chosen_zone += s->nodes[i].placed;
        for (size_t i = 0; i < s->n_nodes; i++) {
                const SchedulerNode *n = &s->nodes[i];
                uint32_t n_zone = 0;

                if (!fits(s, n, q))
                        continue;
                for (size_t j = 0; j < s->n_nodes; j++)
                        if (streq(zone(&s->nodes[j]), zone(n)))
                                n_zone += s->nodes[j].placed;
                ASSERT_FALSE(n_zone < chosen_zone);
                ASSERT_FALSE(n_zone == chosen_zone && n->placed < chosen->placed);
        }
}

static unsigned n_placed, n_refused;

static void deploy(SchedulerSnapshot *s, const char *name, const ServiceSpec *spec, uint64_t seed,
                char **ret_nodes) {
        SchedulerRequest q = {
                .service_id = name, .stack = "null", .service = name, .spec = spec, .number = 1, .seed = seed
        };
        uint32_t wanted;

        for (size_t i = 0; i < s->n_nodes; i++)
                s->nodes[i].placed = 0;
        wanted = q.wanted = scheduler_wanted(s, &q);

        for (q.number = 1; q.number <= wanted; q.number++) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                size_t chosen = SIZE_MAX, again = SIZE_MAX;
                int r;

                r = scheduler_place(s, &q, &chosen, &error);
                ASSERT_EQ(scheduler_place(s, &q, &again, NULL), r); /* the same arguments, the same answer */
                ASSERT_EQ(chosen, again);
                if (r < 0) {
                        n_refused++;
                        ASSERT_EQ(error.code, K_UNSCHEDULABLE);
                        for (size_t i = 0; i < s->n_nodes; i++) {
                                ASSERT_FALSE(fits(s, &s->nodes[i], &q));
                                ASSERT_TRUE(strstr(error.message, s->nodes[i].name) ||
                                                strstr(error.message, " more: "));
                        }
                        ASSERT_OK(strv_extend((char ***) ret_nodes, "-"));
                        continue;
                }
                n_placed++;
                if (!fits(s, &s->nodes[chosen], &q))
                        fail_msg("%s-%u does not fit '%s'", name, q.number, s->nodes[chosen].name);
                check_wish(s, &q, &s->nodes[chosen]);
                check_spread(s, &q, &s->nodes[chosen]);
                ASSERT_OK(scheduler_assign(s, &q, chosen));
                ASSERT_OK(strv_extend((char ***) ret_nodes, s->nodes[chosen].name));
        }
}

static void test_scheduler_holds_on_random_grids(void **state) {
        random_state = 88172645463325252;

        for (unsigned g = 0; g < GRIDS; g++) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};

                make_grid(&s);
                for (unsigned i = 0, n = 1 + random_below(SERVICES_MAX); i < n; i++) {
                        _cleanup_strv_free_ char **first = NULL, **second = NULL, **third = NULL;
                        char name[] = { 's', (char) ('0' + i), '\0' };
                        ServiceSpec spec;
                        PortMapping port;

                        make_spec(&spec, &port);
                        deploy(&s, name, &spec, g, (char **) &first);
                        deploy(&s, name, &spec, g + 1, (char **) &second);
                        deploy(&s, name, &spec, g + 2, (char **) &third);

                        /* Nothing changed: everything stays, whatever the seed. What the first run had to put unevenly because of
                         * the order in which it went, the second may still correct. */
                        ASSERT_EQ(strv_length(second), strv_length(third));
                        for (size_t j = 0; j < strv_length(third); j++)
                                ASSERT_STREQ(third[j], second[j]);
                        if (!spec.affinity && spec.n_ports == 0 && spec.memory == 0)
                                for (size_t j = 0; j < strv_length(first); j++)
                                        ASSERT_STREQ(first[j], second[j]);
                        strv_free(spec.affinity);
                }
        }

        /* The grids were neither all empty nor all impossible. */
        ASSERT_TRUE(n_placed > 10000);
        ASSERT_TRUE(n_refused > 1000);
}

KONTENA_TESTS(cmocka_unit_test(test_scheduler_holds_on_random_grids))
