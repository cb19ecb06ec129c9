/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-deploy.h"

void make(Engine *e, unsigned n_nodes, const char *spec) {
        engine_start(e, /* tracked= */ false);
        add_grid(e, "g", "10.81.0.0/16");
        for (unsigned i = 1; i <= n_nodes; i++)
                add_node(e, "g", i);
        add_service(e, "g", "web", spec);
}

/* Lets deployer and nodes work until nothing more happens. Returns the most steps that were seen under way at once. */
size_t play(Engine *e, const char *deploy) {
        size_t most = 0;

        do {
                _cleanup_(deploy_row_freep) DeployRow *row = NULL;
                size_t n = 0;

                engine_settle(e);
                if (store_is_dead)
                        break;
                if (!deploy)
                        continue;
                row = get_deploy(e, deploy);
                FOREACH_ARRAY(s, row->steps, row->n_steps)
                        n += streq((*s)->state, "starting");
                most = MAX(most, n);
        } while (nodes_work(e, "g"));
        return most;
}

void assert_deploy(Engine *e, const char *id, DeployState state, const char *reason) {
        _cleanup_(deploy_row_freep) DeployRow *row = get_deploy(e, id);

        if (row->state != state)
                fail_msg("Deploy is %s (%s), not %s", deploy_state_to_string(row->state), strna(row->reason),
                                deploy_state_to_string(state));
        if (reason)
                ASSERT_STREQ(row->reason, reason);
        ASSERT_EQ(DEPLOY_STATE_IS_FINAL(state), row->finished_at != 0);
}

void assert_event(const char *part) {
        if (!event_log || !strstr(event_log, part))
                fail_msg("No event with '%s' in:\n%s", part, strempty(event_log));
}

/* Restarting the master looks at every time limit anew: they are counted from the store. */
void pass_time(Engine *e, uint64_t usec) {
        engine_stop(e);
        fake_now += usec;
        engine_start(e, false);
}

/* Every wanted instance once, on a node that exists, with an address of its own, running what the service says. */
void assert_consistent(Engine *e, uint32_t n, const char *image) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        uint32_t seen = 0;

        ASSERT_OK(store_get_service(e->m.store, "s-web", &service));
        ASSERT_OK(store_list_instances_of_service(e->m.store, "s-web", &rows));
        for (size_t i = 0; i < rows.n; i++) {
                const InstanceRow *row = rows.rows[i];

                if (row->desired == INSTANCE_TERMINATED)
                        continue;
                seen++;
                ASSERT_TRUE(row->number >= 1 && row->number <= n);
                ASSERT_EQ(row->desired, INSTANCE_RUNNING);
                ASSERT_TRUE(row->node_id && row->address);
                ASSERT_STREQ(row->state, "running");
                ASSERT_EQ(row->deploy_rev, service->deploy_rev);
                ASSERT_EQ(row->observed_deploy_rev, row->deploy_rev);
                ASSERT_EQ(row->service_rev, service->revision);
                ASSERT_STREQ(json_object_get_string(json_object_object_get(row->spec, "image")), image);
                for (size_t j = 0; j < i; j++) {
                        ASSERT_FALSE(streq_ptr(rows.rows[j]->address, row->address));
                        ASSERT_FALSE(rows.rows[j]->number == row->number &&
                                        rows.rows[j]->desired != INSTANCE_TERMINATED);
                }
        }
        ASSERT_EQ(seen, n);
}
