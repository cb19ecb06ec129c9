/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "instance.h"
#include "test.h"

/* The state machine, with the machine around it played by this file: systemd, the registry, the network and the mounts. What it asks
 * for is written down in order; the test decides how it ends. */

/* systemd: one unit */
struct Unit {
        char *name;
        UnitState state;
        unit_changed_t changed;
        unit_done_t done;
        void *userdata;
};

typedef struct Fixture {
        char directory[32];
        char *state, *run, *volumes, *uids;
        InstanceHost host;
        Instance *i;
} Fixture;

extern unsigned n_changed; /* how often the host was told that STATUS shows something new */
extern char trail[4096];
extern char image_tag[2];
extern Instance *removed_instance;
extern Unit *the_unit;
extern uint32_t next_pid;
extern bool main_process_is_alive;
extern const char *prepare_error;
extern const char *failure_text;
extern const char *root_error; /* of a machine */
extern Runtime fake_machines;
extern char events[1024];
extern sd_event *the_event;
extern const char *last_operation;                 /* that systemd was asked for */
extern void (*side_effect_hook)(const char *what); /* before each; NULL: none */

bool pull_is_pending(void);

void unit_becomes(const char *active_state, uint32_t pid);
void unit_finishes(const char *active_state, const char *failure);
void container_dies(int code, int status, const char *result);
void hook_succeeds_once(const char *id); /* of those that run */
void hooks_finish(const char *failure);
void sweep_finishes(void);
void pull_finishes(const char *failure);
void open_fixture(Fixture *f);
void close_fixture(Fixture *f);
void settle(Fixture *f, uint64_t usec);
void want(Fixture *f, unsigned deploy_rev, unsigned service_rev, const char *more);
void run_first(Fixture *f);

#define ASSERT_TRAIL(expected)                                                                              \
        do {                                                                                                \
                ASSERT_STREQ(trail, expected);                                                              \
                trail[0] = '\0';                                                                            \
        } while (false)
