/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "affinity.h"
#include "file-util.h"
#include "scheduler.h"
#include "string-util.h"
#include "test.h"

#define GIB (UINT64_C(1) << 30)

/* A grid in a few words: nodes are described by these, instances are put on them afterwards. */
typedef struct NodeShape {
        const char *name;
        const char *labels; /* comma list */
        bool drained, offline;
        uint64_t offline_sec;
        double cpus;
        uint64_t total, available;
} NodeShape;

static void make_grid(SchedulerSnapshot *s, const NodeShape *shapes, size_t n) {
        s->nodes = new0(SchedulerNode, n);
        ASSERT_TRUE(s->nodes);
        for (size_t i = 0; i < n; i++) {
                SchedulerNode *node = &s->nodes[s->n_nodes++];

                node->id = strprintf("id-%s", shapes[i].name);
                node->name = strdup(shapes[i].name);
                node->number = (uint32_t) i + 1;
                if (shapes[i].labels)
                        ASSERT_OK(strv_split(shapes[i].labels, ",", &node->labels));
                node->active = !shapes[i].drained;
                node->connected = !shapes[i].offline;
                node->offline_usec = shapes[i].offline_sec * USEC_PER_SEC;
                node->cpus = shapes[i].cpus;
                node->memory_total = shapes[i].total;
                node->memory_available = shapes[i].available;
                node->memory_free = shapes[i].available;
        }
}

static SchedulerRequest make_request(const ServiceSpec *spec, const char *service, uint32_t number) {
        return (SchedulerRequest){ .service_id = service,
                .stack = "null",
                .service = service,
                .spec = spec,
                .number = number,
                .wanted = spec->count };
}

static void put(SchedulerSnapshot *s, const ServiceSpec *spec, const char *service, uint32_t number,
                size_t node) {
        SchedulerRequest q = make_request(spec, service, number);

        ASSERT_OK(scheduler_add(s, &q, node));
}

static void assert_place(const SchedulerSnapshot *s, const SchedulerRequest *q, const char *node) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        size_t i = SIZE_MAX;
        int r;

        r = scheduler_place(s, q, &i, &error);
        if (r < 0)
                fail_msg("%s", kerror_message(&error));
        ASSERT_STREQ(s->nodes[i].name, node);
}

static void assert_no_place(const SchedulerSnapshot *s, const SchedulerRequest *q, const char *sentence) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        size_t i = SIZE_MAX;

        ASSERT_ERROR(scheduler_place(s, q, &i, &error), ESRCH);
        ASSERT_EQ(error.code, K_UNSCHEDULABLE);
        ASSERT_STREQ(error.message, sentence);
        ASSERT_EQ(i, SIZE_MAX);
}

static PortMapping port_80 = { .node_port = 80, .container_port = 80 };

/* Trap 6. */
static void test_scheduler_explains_node_by_node(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3", .drained = true },
                { "n4", .offline = true, .offline_sec = 5 } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        char *affinity[] = { (char *) "label==az=b", NULL };
        ServiceSpec lb = { .count = 1, .ports = &port_80, .n_ports = 1 },
                    web = { .count = 3, .ports = &port_80, .n_ports = 1 };
        SchedulerRequest q = make_request(&web, "web", 3);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        ASSERT_OK(strv_extend(&s.nodes[0].labels, "az=b"));
        put(&s, &lb, "lb", 1, 0);
        web.affinity = affinity;
        assert_no_place(&s, &q,
                        "No node fits web-3: n1: port 80/tcp is taken by null/lb-1; n2: label 'az=b' is "
                        "missing; "
                        "n3: drained; n4: offline.");
}

static void test_scheduler_explains_equal_reasons_once(void **state) {
        static const NodeShape shapes[] = { { "a", .drained = true }, { "b", .drained = true },
                { "c", .offline = true }, { "d", .drained = true }, { "e", .drained = true },
                { "f", .drained = true }, { "g", .drained = true }, { "h", .drained = true },
                { "i", .drained = true }, { "j", .drained = true }, { "k", .drained = true } };
        _cleanup_snapshot_ SchedulerSnapshot s = {}, empty = {};
        ServiceSpec web = { .count = 1 };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        assert_no_place(&s, &q,
                        "No node fits web-1: a, b, d, e, f, g, h, i and 2 more: drained; c: offline.");
        assert_no_place(&empty, &q, "No node fits web-1: the grid has no nodes.");
}

static void test_scheduler_keeps_active_nodes(void **state) {
        static const NodeShape shapes[] = { { "n1", .drained = true }, { "n2", .offline = true }, { "n3" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 1 };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        assert_place(&s, &q, "n3");
}

static void test_scheduler_tolerates_offline_within_grace(void **state) {
        static const struct {
                Strategy strategy;
                uint64_t offline_sec;
                bool fits;
        } table[] = {
                { STRATEGY_HA, 119, true },
                { STRATEGY_HA, 120, false },
                { STRATEGY_DAEMON, 599, true },
                { STRATEGY_DAEMON, 600, false },
                { STRATEGY_RANDOM, 29, true },
                { STRATEGY_RANDOM, 30, false },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                NodeShape shape = { "n1", .offline = true, .offline_sec = t->offline_sec };
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                ServiceSpec web = { .count = 1, .strategy = t->strategy };
                SchedulerRequest q = make_request(&web, "web", 1);

                make_grid(&s, &shape, 1);
                assert_no_place(&s, &q, "No node fits web-1: n1: offline.");
                q.offline_grace = strategy_offline_grace(t->strategy);
                if (t->fits)
                        assert_place(&s, &q, "n1");
                else
                        assert_no_place(&s, &q, "No node fits web-1: n1: offline.");
        }
}

static void test_scheduler_keeps_new_stateful_from_ephemeral(void **state) {
        static const NodeShape shapes[] = { { "n1", "ephemeral" }, { "n2", "ephemeral=yes" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec db = { .count = 1, .stateful = true }, web = { .count = 1 };
        SchedulerRequest q = make_request(&db, "db", 1), q2 = make_request(&web, "web", 1);
        size_t i;

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        assert_no_place(&s, &q, "No node fits db-1: n1, n2: ephemeral, and the service is stateful.");
        ASSERT_OK(scheduler_place(&s, &q2, &i, NULL));
        put(&s, &db, "db", 1, 1); /* one that is there may stay */
        assert_place(&s, &q, "n2");
}

static void test_scheduler_pins_stateful(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" } };

        for (Strategy strategy = 0; strategy < _STRATEGY_MAX; strategy++) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                ServiceSpec db = { .count = 1, .stateful = true, .strategy = strategy };
                SchedulerRequest q = make_request(&db, "db", 1);

                make_grid(&s, shapes, ELEMENTSOF(shapes));
                put(&s, &db, "db", 1, 1);
                s.nodes[1].placed = 5; /* the strategy would go elsewhere */
                assert_place(&s, &q, "n2");
                s.nodes[1].connected = false;
                assert_no_place(&s, &q, "No node fits db-1: n1: the data is on 'n2'; n2: offline.");
        }
}

static void test_scheduler_affinity(void **state) {
        /* n1 runs web-1 of null, n2 runs db-1 of null, n3 nothing. The service asked for is null/app, instance 1. */
        static const NodeShape shapes[] = { { "n1", "az=a,ssd" }, { "n2", "az=b" }, { "n3", NULL } };
        static const struct {
                const char *rules, *node, *sentence;
        } table[] = {
                { "node==n2", "n2", NULL },
                { "node!=n1;node!=n2", "n3", NULL },
                { "node==/^n[23]$/;node!=n3", "n2", NULL },
                { "node==n%s", "n1", NULL },
                { "node==n9", NULL, "No node fits app-1: n1, n2, n3: name is not 'n9'." },
                { "node!=/n/", NULL, "No node fits app-1: n1, n2, n3: name is '/n/'." },
                { "label==ssd", "n1", NULL },
                { "label==az=b", "n2", NULL },
                { "label!=/^az=/", "n3", NULL },
                { "label!=az=a;node!=n3", "n2", NULL },
                { "label==az", NULL, "No node fits app-1: n1, n2, n3: label 'az' is missing." },
                { "service==web", "n1", NULL },
                { "service==null/db", "n2", NULL },
                { "service!=web;service!=db", "n3", NULL },
                { "service==shop/web", NULL,
                                "No node fits app-1: n1, n2, n3: does not run service 'shop/web'." },
                { "service==/^d/", "n2", NULL },
                { "container==db-1", "n2", NULL },
                { "container==web-%s", "n1", NULL },
                { "container==web-2", NULL,
                                "No node fits app-1: n1, n2, n3: does not have container 'web-2'." },
                { "container!=/-1$/", "n3", NULL },
                /* Soft: obeyed while something is left, else ignored */
                { "label==~ssd", "n1", NULL },
                { "label==~gpu;node==n3", "n3", NULL },
                { "node==n2;label==~ssd", "n2", NULL },
                { "label==~ssd;node!=n1;node!=n3", "n2",
                                NULL }, /* a wish whose nodes a later rule removes */
                { "label!=~az=a;label!=~az=b", "n3", NULL },
                { "label==az=a;node!=n1", NULL,
                                "No node fits app-1: n1: name is 'n1'; n2, n3: label 'az=a' is missing." },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                _cleanup_strv_free_ char **rules = NULL;
                ServiceSpec other = { .count = 1 }, app = { .count = 1 };
                SchedulerRequest q = make_request(&app, "app", 1);

                make_grid(&s, shapes, ELEMENTSOF(shapes));
                put(&s, &other, "web", 1, 0);
                put(&s, &other, "db", 1, 1);
                ASSERT_OK(strv_split(t->rules, ";", &rules));
                app.affinity = rules;
                if (t->node)
                        assert_place(&s, &q, t->node);
                else
                        assert_no_place(&s, &q, t->sentence);
        }
}

static void test_scheduler_affinity_of_grid_is_for_services_without(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        char *own[] = { (char *) "node==n1", NULL };
        ServiceSpec web = { .count = 1 };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        ASSERT_OK(strv_extend(&s.default_affinity, "node==n2"));
        assert_place(&s, &q, "n2");
        web.affinity = own;
        assert_place(&s, &q, "n1");
}

static void test_scheduler_affinity_with_unknown_key_is_an_error(void **state) {
        static const NodeShape shapes[] = { { "n1" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        char *rules[] = { (char *) "host==n1", NULL };
        ServiceSpec web = { .count = 1, .affinity = rules };
        SchedulerRequest q = make_request(&web, "web", 1);
        size_t i;

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        ASSERT_ERROR(scheduler_place(&s, &q, &i, &error), EINVAL);
        ASSERT_EQ(error.code, K_INVALID_ARGUMENT);
}

static void test_scheduler_instance_is_not_its_own_neighbour(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        char *rules[] = { (char *) "service!=web", NULL };
        ServiceSpec web = { .count = 2, .affinity = rules };
        SchedulerRequest q1 = make_request(&web, "web", 1), q2 = make_request(&web, "web", 2);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        put(&s, &web, "web", 1, 0);
        assert_place(&s, &q1, "n1");
        assert_place(&s, &q2, "n2");
}

static void test_scheduler_ports(void **state) {
        static const NodeShape shapes[] = { { "n1" } };
        static const struct {
                PortMapping taken, wanted;
                bool fits;
        } table[] = {
                { { .node_port = 80 }, { .node_port = 80 }, false },
                { { .node_port = 80 }, { .node_port = 81 }, true },
                { { .node_port = 53 }, { .node_port = 53, .protocol = TRANSPORT_UDP }, true },
                { { .node_port = 53, .protocol = TRANSPORT_UDP },
                                { .node_port = 53, .protocol = TRANSPORT_UDP }, false },
                { { .node_port = 80, .ip = (char *) "192.0.2.1" },
                                { .node_port = 80, .ip = (char *) "192.0.2.2" }, true },
                { { .node_port = 80, .ip = (char *) "192.0.2.1" },
                                { .node_port = 80, .ip = (char *) "192.0.2.1" }, false },
                { { .node_port = 80, .ip = (char *) "192.0.2.1" }, { .node_port = 80 }, false },
                { { .node_port = 80, .ip = (char *) "0.0.0.0" },
                                { .node_port = 80, .ip = (char *) "192.0.2.1" }, false },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                PortMapping taken = t->taken, wanted = t->wanted;
                ServiceSpec lb = { .count = 1, .ports = &taken, .n_ports = 1 },
                            web = { .count = 2, .ports = &wanted, .n_ports = 1 };
                SchedulerRequest q = make_request(&web, "web", 2);
                size_t i;

                make_grid(&s, shapes, ELEMENTSOF(shapes));
                put(&s, &lb, "lb", 1, 0);
                ASSERT_EQ(scheduler_place(&s, &q, &i, NULL) >= 0, t->fits);
        }
}

static void test_scheduler_ports_of_own_service_count_too(void **state) {
        static const NodeShape shapes[] = { { "n1" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 2, .ports = &port_80, .n_ports = 1 };
        SchedulerRequest q1 = make_request(&web, "web", 1), q2 = make_request(&web, "web", 2);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        put(&s, &web, "web", 1, 0);
        assert_place(&s, &q1, "n1"); /* but not this very instance's */
        assert_no_place(&s, &q2, "No node fits web-2: n1: port 80/tcp is taken by null/web-1.");
        web.host_network = true; /* publishes nothing */
        assert_place(&s, &q2, "n1");
}

static void give_volume(SchedulerSnapshot *s, size_t node, const char *name) {
        ASSERT_OK(strv_extend(&s->nodes[node].volumes, name));
}

static SchedulerVolume own_volume = { (char *) "web.data", (char *) "local", true },
                       shared_volume = { (char *) "data", (char *) "local", false },
                       other_driver = { (char *) "data", (char *) "nfs", false };

static void test_scheduler_own_volume_draws_its_instance(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3" } };
        static const struct {
                Strategy strategy;
                uint32_t number;
                bool drained, crowded, own;
                const char *expected; /* NULL: not there */
        } table[] = {
                { STRATEGY_HA, 2, false, false, true, "n2" },
                { STRATEGY_HA, 2, false, true, true, "n2" }, /* though it is spread unevenly */
                { STRATEGY_RANDOM, 2, false, false, true, "n2" },
                { STRATEGY_DAEMON, 2, false, false, true, "n2" },
                { STRATEGY_HA, 2, true, false, true, NULL }, /* a wish: runs elsewhere */
                { STRATEGY_RANDOM, 2, true, false, true, NULL },
                { STRATEGY_HA, 2, false, true, false, NULL }, /* spreading comes before a shared one */
                { STRATEGY_HA, 1, false, true, true, NULL },  /* another instance's */
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                for (uint64_t seed = 0; seed < 20; seed++) {
                        _cleanup_snapshot_ SchedulerSnapshot s = {};
                        SchedulerVolumes volumes = { t->own ? &own_volume : &shared_volume, 1 };
                        ServiceSpec web = { .count = 3, .strategy = t->strategy };
                        SchedulerRequest q = make_request(&web, "web", t->number);
                        size_t node;

                        make_grid(&s, shapes, ELEMENTSOF(shapes));
                        give_volume(&s, 1, t->own ? "web.data-2" : "data");
                        s.nodes[1].active = !t->drained;
                        s.nodes[1].placed = t->crowded;
                        q.volumes = &volumes;
                        q.seed = seed;
                        ASSERT_OK(scheduler_place(&s, &q, &node, NULL));
                        if (t->expected ? !streq(s.nodes[node].name, t->expected) : node == 1)
                                fail_msg("Row %zu: %s", (size_t) (t - table), s.nodes[node].name);
                }
}

static void test_scheduler_shared_volume_breaks_ties(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2", .total = GIB, .available = 1 }, { "n3" } };
        static const Strategy strategies[] = { STRATEGY_HA, STRATEGY_RANDOM };

        FOREACH_ARRAY(strategy, strategies, ELEMENTSOF(strategies)) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                SchedulerVolumes volumes = { &shared_volume, 1 };
                ServiceSpec web = { .count = 1, .strategy = *strategy };
                SchedulerRequest q = make_request(&web, "web", 1);

                make_grid(&s, shapes, ELEMENTSOF(shapes));
                give_volume(&s, 1, "data");
                q.volumes = &volumes;
                for (q.seed = 0; q.seed < 20; q.seed++)
                        assert_place(&s, &q, "n2"); /* also before free memory */
                put(&s, &web, "web", 1, 0);
                assert_place(&s, &q, "n1"); /* but it does not draw away what runs */
        }
}

static void test_scheduler_needs_the_volume_driver(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        SchedulerVolumes volumes = { &other_driver, 1 };
        ServiceSpec web = { .count = 1 };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        ASSERT_OK(strv_extend(&s.nodes[0].volume_drivers, "local"));
        q.volumes = &volumes;
        assert_no_place(&s, &q, "No node fits web-1: n1, n2, n3: has no volume driver 'nfs'.");
        ASSERT_OK(strv_extend(&s.nodes[2].volume_drivers, "nfs"));
        assert_place(&s, &q, "n3");
        volumes.items = &shared_volume; /* "local" is what a node has that has not reported */
        s.nodes[0].active = false;
        assert_place(&s, &q, "n2");
}

static void test_scheduler_check_node_asks_for_one(void **state) {
        static const NodeShape shapes[] = { { "n1", "az=a" }, { "n2", "az=b" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        char *rules[] = { (char *) "label==az=a", (char *) "label==~az=b", NULL };
        ServiceSpec web = { .count = 1, .affinity = rules };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        ASSERT_OK(scheduler_check_node(&s, &q, 0, &error)); /* wishes aside */
        ASSERT_ERROR(scheduler_check_node(&s, &q, 1, &error), ESRCH);
        ASSERT_STREQ(error.message, "label 'az=a' is missing");
}

static void test_scheduler_needs_the_runtime(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3" } };
        ServiceSpec machine = { .count = 1, .runtime = RUNTIME_NSPAWN }, container = { .count = 1 };
        SchedulerRequest m = make_request(&machine, "m", 1), c = make_request(&container, "c", 1);
        _cleanup_snapshot_ SchedulerSnapshot s = {};

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        assert_no_place(&s, &m,
                        "No node fits m-1: n1, n2, n3: does not run machines (systemd-nspawn is not "
                        "installed).");
        s.nodes[1].machines = true;
        assert_place(&s, &m, "n2");

        s.nodes[0].no_containers = s.nodes[1].no_containers = true;
        assert_place(&s, &c, "n3");
        s.nodes[2].no_containers = true;
        assert_no_place(&s, &c, "No node fits c-1: n1, n2, n3: has no runtime for containers.");
}

static void test_scheduler_cpus(void **state) {
        static const NodeShape shapes[] = { { "n1", .cpus = 2 }, { "n2", .cpus = 4 }, { "n3" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 1, .cpus = 2.5 };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        assert_place(&s, &q, "n2");
        web.cpus = 4;
        assert_place(&s, &q, "n2");
        web.cpus = 5;
        assert_no_place(&s, &q,
                        "No node fits web-1: n1: has 2 CPUs, 5 are asked for; n2: has 4 CPUs, 5 are asked "
                        "for; "
                        "n3: has not reported its CPUs yet.");
}

static void test_scheduler_memory(void **state) {
        static const struct {
                uint64_t memory, swap, sample, total, available;
                bool here;
                const char *sentence; /* NULL: fits */
        } table[] = {
                { 0, 0, 0, 1, 0, false, NULL }, /* nothing known: no check */
                { GIB, 0, 0, 2 * GIB, GIB, false, NULL },
                { GIB, 0, 0, GIB / 2, GIB / 2, false,
                                "No node fits web-1: n1: has 512 MiB of memory, 1024 MiB are needed." },
                { GIB, 0, 0, 2 * GIB, GIB / 2, false,
                                "No node fits web-1: n1: 512 MiB of memory are available, 1024 MiB are "
                                "needed." },
                { GIB, 0, 0, 2 * GIB, GIB / 2, true, NULL }, /* already here: always passes */
                { GIB, 0, 0, GIB / 2, 0, true, NULL },
                { GIB, 0, 0, 0, 0, false, NULL }, /* without statistics: kept */
                { 0, GIB, 0, GIB / 2, GIB / 2, false,
                                "No node fits web-1: n1: has 512 MiB of memory, 1024 MiB are needed." },
                { GIB / 4, GIB, 0, GIB / 2, GIB / 2, false, NULL }, /* memory comes before memory_swap */
                { 0, 0, GIB, 2 * GIB, GIB * 5 / 4, false, NULL },   /* 1.25 times the sample */
                { 0, 0, GIB, 2 * GIB, GIB * 5 / 4 - 1048576, false,
                                "No node fits web-1: n1: 1279 MiB of memory are available, 1280 MiB are "
                                "needed." },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                NodeShape shape = { "n1", .total = t->total, .available = t->available };
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                ServiceSpec web = { .count = 1, .memory = t->memory, .memory_swap = t->swap };
                SchedulerRequest q = make_request(&web, "web", 1);

                q.memory_sample = t->sample;
                make_grid(&s, &shape, 1);
                if (t->here)
                        put(&s, &web, "web", 1, 0);
                if (t->sentence)
                        assert_no_place(&s, &q, t->sentence);
                else
                        assert_place(&s, &q, "n1");
        }
}

/* Places instances 1..n one after another. */
static void place_all(SchedulerSnapshot *s, const ServiceSpec *spec, uint32_t n, uint64_t seed) {
        for (uint32_t i = 1; i <= n; i++) {
                SchedulerRequest q = make_request(spec, "web", i);
                size_t node;

                q.seed = seed;
                q.wanted = n;
                ASSERT_OK(scheduler_place(s, &q, &node, NULL));
                ASSERT_OK(scheduler_assign(s, &q, node));
        }
}

static void test_scheduler_ha_spreads_over_zones_then_nodes(void **state) {
        static const NodeShape shapes[] = { { "a1", "az=a" }, { "a2", "az=a" }, { "a3", "az=a" },
                { "b1", "az=b" } };

        for (uint64_t seed = 0; seed < 20; seed++) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                ServiceSpec web = { .count = 4 };

                make_grid(&s, shapes, ELEMENTSOF(shapes));
                place_all(&s, &web, 4, seed);
                ASSERT_EQ(s.nodes[3].placed, 2); /* as many in zone b as in zone a */
                for (size_t i = 0; i < 3; i++)
                        ASSERT_TRUE(s.nodes[i].placed <= 1);
        }
}

static void test_scheduler_ha_prefers_the_node_it_is_on_then_free_memory(void **state) {
        static const NodeShape shapes[] = { { "n1", .total = GIB, .available = GIB },
                { "n2", .total = GIB, .available = GIB / 10 },
                { "n3", .total = GIB, .available = GIB / 2 } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 1 };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        for (q.seed = 0; q.seed < 20; q.seed++)
                assert_place(&s, &q, "n1"); /* least memory used */
        put(&s, &web, "web", 1, 1);
        for (q.seed = 0; q.seed < 20; q.seed++)
                assert_place(&s, &q, "n2"); /* stays */
        s.nodes[1].placed = 1;
        for (q.seed = 0; q.seed < 20; q.seed++)
                assert_place(&s, &q, "n1"); /* but an even spread comes first */
}

static void test_scheduler_ha_breaks_ties_by_seed(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 1 };
        unsigned seen[3] = {};

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        for (uint64_t seed = 0; seed < 300; seed++) {
                SchedulerRequest q = make_request(&web, "web", 1);
                size_t node, again;

                q.seed = seed;
                ASSERT_OK(scheduler_place(&s, &q, &node, NULL));
                ASSERT_OK(scheduler_place(&s, &q, &again, NULL));
                ASSERT_EQ(node, again);
                seen[node]++;
        }
        for (size_t i = 0; i < 3; i++)
                ASSERT_TRUE(seen[i] > 50);
}

static void test_scheduler_daemon_runs_count_on_each_node(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3", .drained = true }, { "n4" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 2, .strategy = STRATEGY_DAEMON };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        ASSERT_EQ(scheduler_wanted(&s, &q), 6);
        place_all(&s, &web, 6, 1);
        ASSERT_EQ(s.nodes[0].placed, 2);
        ASSERT_EQ(s.nodes[1].placed, 2);
        ASSERT_EQ(s.nodes[2].placed, 0);
        ASSERT_EQ(s.nodes[3].placed, 2);
        ASSERT_EQ(s.nodes[0].instances[0].number, 1); /* by number of the node */
        ASSERT_EQ(s.nodes[3].instances[1].number, 6);

        /* A second run leaves each where it is. */
        for (size_t i = 0; i < s.n_nodes; i++)
                s.nodes[i].placed = 0;
        for (uint32_t i = 1; i <= 6; i++) {
                SchedulerRequest again = make_request(&web, "web", i);

                again.wanted = 6;
                assert_place(&s, &again, (const char *const[]){ "n1", "n2", "n4" }[(i - 1) % 3]);
        }
}

static void test_scheduler_daemon_counts_nodes_despite_its_own_ports(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec lb = { .count = 1, .strategy = STRATEGY_DAEMON, .ports = &port_80, .n_ports = 1 };
        SchedulerRequest q = make_request(&lb, "lb", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        put(&s, &lb, "lb", 1, 0);
        put(&s, &lb, "lb", 2, 1);
        ASSERT_EQ(scheduler_wanted(&s, &q), 2);
        s.nodes[1].active = false;
        ASSERT_EQ(scheduler_wanted(&s, &q), 1);
        lb.strategy = STRATEGY_HA;
        ASSERT_EQ(scheduler_wanted(&s, &q), 1); /* count */
}

/* Fewer wanted means that the surplus goes, with its data. */
static void test_scheduler_daemon_counts_nodes_with_data(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3" } };
        static const struct {
                bool stateful, drained, offline, has_data;
                uint32_t expected;
        } table[] = {
                { true, false, false, true, 3 },
                { true, true, false, true, 3 },
                { true, false, true, true, 3 },
                { true, false, true, false, 2 },
                { false, true, false, true, 2 },
                { false, false, true, true, 2 },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                ServiceSpec db = { .count = 1, .strategy = STRATEGY_DAEMON, .stateful = t->stateful };
                SchedulerRequest q = make_request(&db, "db", 1);

                make_grid(&s, shapes, ELEMENTSOF(shapes));
                s.nodes[1].active = !t->drained;
                s.nodes[1].connected = !t->offline;
                if (t->has_data)
                        put(&s, &db, "db", 2, 1);
                ASSERT_EQ(scheduler_wanted(&s, &q), t->expected);
        }
}

static void test_scheduler_random_stays_where_it_is(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" }, { "n3" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 1, .strategy = STRATEGY_RANDOM };
        SchedulerRequest q = make_request(&web, "web", 1);
        unsigned seen[3] = {};
        size_t node;

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        for (q.seed = 0; q.seed < 300; q.seed++) {
                ASSERT_OK(scheduler_place(&s, &q, &node, NULL));
                seen[node]++;
        }
        for (size_t i = 0; i < 3; i++)
                ASSERT_TRUE(seen[i] > 50);

        put(&s, &web, "web", 1, 1);
        s.nodes[1].placed = 9;
        for (q.seed = 0; q.seed < 20; q.seed++)
                assert_place(&s, &q, "n2");
}

static void test_scheduler_assign_moves(void **state) {
        static const NodeShape shapes[] = { { "n1" }, { "n2" } };
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        ServiceSpec web = { .count = 2, .ports = &port_80, .n_ports = 1 };
        SchedulerRequest q = make_request(&web, "web", 1);

        make_grid(&s, shapes, ELEMENTSOF(shapes));
        put(&s, &web, "web", 1, 0);
        put(&s, &web, "web", 2, 0);
        ASSERT_OK(scheduler_assign(&s, &q, 1));
        ASSERT_EQ(s.nodes[0].n_instances, 1);
        ASSERT_EQ(s.nodes[0].instances[0].number, 2);
        ASSERT_EQ(s.nodes[1].n_instances, 1);
        ASSERT_EQ(s.nodes[1].placed, 1);
        ASSERT_EQ(s.nodes[0].placed, 0);
}

KONTENA_TESTS(cmocka_unit_test(test_scheduler_explains_node_by_node),
                cmocka_unit_test(test_scheduler_explains_equal_reasons_once),
                cmocka_unit_test(test_scheduler_keeps_active_nodes),
                cmocka_unit_test(test_scheduler_tolerates_offline_within_grace),
                cmocka_unit_test(test_scheduler_keeps_new_stateful_from_ephemeral),
                cmocka_unit_test(test_scheduler_pins_stateful), cmocka_unit_test(test_scheduler_affinity),
                cmocka_unit_test(test_scheduler_affinity_of_grid_is_for_services_without),
                cmocka_unit_test(test_scheduler_affinity_with_unknown_key_is_an_error),
                cmocka_unit_test(test_scheduler_instance_is_not_its_own_neighbour),
                cmocka_unit_test(test_scheduler_ports),
                cmocka_unit_test(test_scheduler_ports_of_own_service_count_too),
                cmocka_unit_test(test_scheduler_own_volume_draws_its_instance),
                cmocka_unit_test(test_scheduler_shared_volume_breaks_ties),
                cmocka_unit_test(test_scheduler_needs_the_volume_driver),
                cmocka_unit_test(test_scheduler_check_node_asks_for_one),
                cmocka_unit_test(test_scheduler_needs_the_runtime), cmocka_unit_test(test_scheduler_cpus),
                cmocka_unit_test(test_scheduler_memory),
                cmocka_unit_test(test_scheduler_ha_spreads_over_zones_then_nodes),
                cmocka_unit_test(test_scheduler_ha_prefers_the_node_it_is_on_then_free_memory),
                cmocka_unit_test(test_scheduler_ha_breaks_ties_by_seed),
                cmocka_unit_test(test_scheduler_daemon_runs_count_on_each_node),
                cmocka_unit_test(test_scheduler_daemon_counts_nodes_despite_its_own_ports),
                cmocka_unit_test(test_scheduler_daemon_counts_nodes_with_data),
                cmocka_unit_test(test_scheduler_random_stays_where_it_is),
                cmocka_unit_test(test_scheduler_assign_moves))
