/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "reschedule-check.h"

#include "file-util.h"
#include "placement.h"
#include "string-util.h"

/* After a failed automatic deploy the next one waits, and twice as long after each further one. */
#define BACKOFF_FIRST_USEC (20 * USEC_PER_SEC)
#define BACKOFF_MAX_USEC   (600 * USEC_PER_SEC)

uint64_t reschedule_not_before(const DeployRowList *deploys) {
        uint64_t wait = BACKOFF_FIRST_USEC;
        size_t n = 0;

        for (; n < deploys->n && deploys->rows[n]->state == DEPLOY_ERROR; n++)
                if (n > 0)
                        wait = MIN(wait * 2, BACKOFF_MAX_USEC);

        return n > 0 ? deploys->rows[0]->finished_at + wait : 0;
}

/* Which nodes have instances, one flag for each node of the snapshot. What lies on a node that is not in it (any more)
 * does not count as placed. Returns how many instances are placed. */
static size_t nodes_in_use(SchedulerSnapshot *snapshot, const InstanceRowList *instances, bool *flags) {
        size_t n = 0;

        FOREACH_ARRAY(i, instances->rows, instances->n) {
                SchedulerNode *node;

                if ((*i)->desired == INSTANCE_TERMINATED || (*i)->role != INSTANCE_CURRENT)
                        continue;
                node = placement_find_node(snapshot, (*i)->node_id);
                if (!node)
                        continue;
                flags[node - snapshot->nodes] = true;
                n++;
        }
        return n;
}

static bool any_connected(const SchedulerSnapshot *s) {
        FOREACH_ARRAY(n, s->nodes, s->n_nodes)
                if (n->connected)
                        return true;
        return false;
}

static int describe_difference(
                const SchedulerSnapshot *s, const bool *used, const bool *chosen, char **ret) {
        for (size_t i = 0; i < s->n_nodes; i++) {
                const SchedulerNode *n = &s->nodes[i];

                if (used[i] == chosen[i])
                        continue;
                if (chosen[i])
                        *ret = strprintf("an instance belongs on node '%s'", n->name);
                else if (!n->active)
                        *ret = strprintf("node '%s' is drained", n->name);
                else if (!n->connected)
                        *ret = strprintf("node '%s' is offline", n->name);
                else
                        *ret = strprintf("no instance belongs on node '%s'", n->name);
                if (!*ret)
                        return -ENOMEM;
                if (!chosen[i]) /* what is wrong says more than where it should be */
                        return 1;
                for (size_t j = i + 1; j < s->n_nodes; j++)
                        if (used[j] && !chosen[j]) {
                                free(*ret);
                                return describe_difference(&(SchedulerSnapshot){ .nodes = s->nodes + j,
                                                                           .n_nodes = s->n_nodes - j },
                                                used + j, chosen + j, ret);
                        }
                return 1;
        }
        return 0;
}

/* Instances can be on the right nodes, each on a wrong one: rules may differ from number to number. */
static int find_misplaced(const SchedulerSnapshot *snapshot, const SchedulerRequest *request,
                const InstanceRowList *instances, char **ret) {
        SchedulerRequest q = *request;
        int r;

        FOREACH_ARRAY(i, instances->rows, instances->n) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                const SchedulerNode *node;
                size_t other;

                if ((*i)->desired == INSTANCE_TERMINATED || (*i)->role != INSTANCE_CURRENT ||
                                (*i)->number > q.wanted)
                        continue;
                node = placement_find_node((SchedulerSnapshot *) snapshot, (*i)->node_id);
                if (!node || !node->connected || !node->active)
                        continue; /* what is offline or drained is told as that */
                q.number = (*i)->number;
                r = scheduler_check_node(snapshot, &q, (size_t) (node - snapshot->nodes), &error);
                if (r >= 0)
                        continue;
                if (error.code != K_UNSCHEDULABLE)
                        return r;
                /* Only where there is a better place: else it stays, and the dry run says why. */
                if (scheduler_place(snapshot, &q, &other, NULL) < 0)
                        continue;
                *ret = strprintf("instance %u may not be on node '%s': %s", q.number, node->name,
                                kerror_message(&error));
                return *ret ? 1 : -ENOMEM;
        }
        return 0;
}

int reschedule_check_placement(SchedulerSnapshot *snapshot, const ServiceRow *service,
                const ServiceSpec *spec, const SchedulerVolumes *volumes, const InstanceRowList *instances,
                char **ret) {
        SchedulerRequest q = {
                .service_id = service->id,
                .stack = service->stack,
                .service = service->name,
                .spec = spec,
                .volumes = volumes,
                .number = 1,
                .seed = placement_seed(service->id, 0),
                .offline_grace = strategy_offline_grace(spec->strategy),
        };
        _cleanup_free_ bool *used = NULL, *chosen = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        size_t placed, node;
        int r;

        assert(snapshot);
        assert(service);
        assert(spec);
        assert(ret);

        /* Without any node the best is to wait. */
        if (!any_connected(snapshot))
                return 0;

        used = new0(bool, snapshot->n_nodes + 1);
        chosen = new0(bool, snapshot->n_nodes + 1);
        if (!used || !chosen)
                return -ENOMEM;
        placed = nodes_in_use(snapshot, instances, used);

        q.wanted = scheduler_wanted(snapshot, &q);
        r = find_misplaced(snapshot, &q, instances, ret);
        if (r != 0)
                return r;
        for (q.number = 1; q.number <= MAX(q.wanted, 1U); q.number++) {
                r = scheduler_place(snapshot, &q, &node, &error);
                if (r < 0) {
                        *ret = strdup(kerror_message(&error));
                        return *ret ? -ESRCH : -ENOMEM;
                }
                r = scheduler_assign(snapshot, &q, node);
                if (r < 0)
                        return r;
                chosen[node] = true;
        }

        r = describe_difference(snapshot, used, chosen, ret);
        if (r != 0)
                return r;
        if (placed == q.wanted)
                return 0;
        *ret = strprintf("%zu instances are placed, %u are wanted", placed, q.wanted);
        return *ret ? 1 : -ENOMEM;
}
