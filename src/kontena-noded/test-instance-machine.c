/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-instance-machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "hooks.h"
#include "in-child.h"
#include "json-util.h"
#include "machine-root.h"
#include "rootfs.h"
#include "test.h"
#include "uid-range.h"

char trail[4096];
char image_tag[2] = "1";
Instance *removed_instance;

static void note(const char *format, ...) _printf_(1, 2);
void (*side_effect_hook)(const char *what);
static void note(const char *format, ...) {
        size_t n = strlen(trail);
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(trail + n, sizeof(trail) - n, format, ap);
        va_end(ap);
        if (side_effect_hook)
                side_effect_hook(trail + n);
        n = strlen(trail);
        (void) snprintf(trail + n, sizeof(trail) - n, " ");
}

/* systemd: one unit */
Unit *the_unit;
uint32_t next_pid;
const char *last_operation = "";

int unit_new(UnitManager *m, const char *name, unit_changed_t changed, void *userdata, Unit **ret) {
        Unit *u = new0(Unit, 1);

        u->name = strdup(name);
        u->changed = changed;
        u->userdata = userdata;
        u->state = (UnitState){
                .known = true, .active_state = (char *) "inactive", .sub_state = (char *) "dead"
        };
        if (the_unit)
                u->state = the_unit->state;
        the_unit = u;
        *ret = u;
        return 0;
}

Unit *unit_free(Unit *u) {
        if (!u)
                return NULL;
        if (the_unit == u)
                the_unit = NULL;
        free(u->name);
        free(u);
        return NULL;
}

sd_bus *unit_manager_bus(const UnitManager *m) {
        return NULL;
}
const char *unit_name(const Unit *u) {
        return u->name;
}
const UnitState *unit_state(const Unit *u) {
        return &u->state;
}
bool main_process_is_alive = true;
bool unit_main_process_is_alive(const Unit *u) {
        return main_process_is_alive;
}
bool unit_is_busy(const Unit *u) {
        return u->done;
}
bool unit_state_is_running(const UnitState *s) {
        return s->main_pid > 0 && streq(s->active_state, "active");
}
bool unit_state_is_gone(const UnitState *s) {
        return STR_IN_SET(s->active_state, "inactive", "failed");
}
bool unit_state_is_waiting(const UnitState *s) {
        return streq(s->active_state, "activating");
}

int unit_start(Unit *u, const UnitSetup *setup, uint64_t timeout_usec, unit_done_t done) {
        note("start");
        last_operation = "start";
        ASSERT_TRUE(!u->done && unit_state_is_gone(&u->state));
        u->done = done;
        return 0;
}
int unit_restart(Unit *u, uint64_t timeout_usec, unit_done_t done) {
        note("restart");
        last_operation = "restart";
        ASSERT_TRUE(!u->done);
        u->done = done;
        return 0;
}
void unit_reset_failed(Unit *u) {
        note("reset");
        unit_becomes("inactive", 0);
}
int unit_stop(Unit *u, uint64_t timeout_usec, unit_done_t done) {
        note("stop");
        last_operation = "stop";
        ASSERT_TRUE(!u->done);
        u->done = done;
        return 0;
}

void unit_cancel_start(Unit *u) {
        note("cancel");
        ASSERT_TRUE(u->done);
}

void unit_becomes(const char *active_state, uint32_t pid) {
        the_unit->state.active_state = (char *) active_state;
        the_unit->state.main_pid = pid;
}

sd_event *the_event;

static void loop_until_idle(void) {
        while (sd_event_run(the_event, 0) > 0)
                ;
}

void unit_finishes(const char *active_state, const char *failure) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Unit *u = the_unit;
        unit_done_t done = u->done;

        ASSERT_TRUE(done);
        u->done = NULL;
        unit_becomes(active_state, streq(active_state, "active") ? ++next_pid : 0);
        if (failure)
                (void) kerror_set(&e, K_RUNTIME, "%s", failure);
        done(u, failure ? &e : NULL, u->userdata);
        loop_until_idle();
}

void container_dies(int code, int status, const char *result) {
        the_unit->state.exec_main_code = code;
        the_unit->state.exec_main_status = status;
        the_unit->state.result = (char *) result;
        unit_becomes("activating", 0);
        the_unit->changed(the_unit, the_unit->userdata);
}

/* The registry */
static struct {
        pull_done_t done;
        void *userdata;
} the_pull;

int pull_image(PullManager *m, const char *reference, const char *revision, pull_progress_t progress,
                pull_done_t done, void *userdata, Pull **ret, KError *reterr) {
        note("pull");
        the_pull.done = done;
        the_pull.userdata = userdata;
        *ret = (Pull *) &the_pull;
        return 0;
}
bool pull_is_pending(void) {
        return the_pull.done;
}
Pull *pull_cancel(Pull *p) {
        if (p) {
                note("cancel-pull");
                the_pull.done = NULL;
        }
        return NULL;
}
static Image *new_image(void) {
        Image *i = new0(Image, 1);

        i->n_ref = 1;
        i->digest = strjoin("sha256:", image_tag);
        i->reference = strdup("a:1");
        return i;
}
Image *image_ref(Image *i) {
        i->n_ref++;
        return i;
}
Image *image_unref(Image *i) {
        if (!i || --i->n_ref > 0)
                return NULL;
        free(i->digest);
        free(i->reference);
        free(i);
        return NULL;
}
int image_store_find(ImageStore *s, const char *reference, Image **ret) {
        note("find");
        *ret = new_image();
        return 1;
}
/* Network, mounts, runtime */
const char *network_resolver_address(Network *n) {
        return "10.81.0.1";
}
static struct FakeCall {
        sd_event_source *source;
        network_done_t done;
        void *userdata;
} the_call;

void pull_finishes(const char *failure) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        pull_done_t done = the_pull.done;
        Image *i;

        ASSERT_TRUE(done);
        the_pull.done = NULL;
        if (failure) {
                (void) kerror_set(&e, K_IMAGE, "%s", failure);
                done((Pull *) &the_pull, -EBADMSG, NULL, &e, the_pull.userdata);
                loop_until_idle();
                return;
        }
        i = new_image();
        done((Pull *) &the_pull, 0, i, NULL, the_pull.userdata);
        image_unref(i);
        loop_until_idle();
}

static int on_call(sd_event_source *s, void *userdata) {
        note("net+");
        the_call.source = sd_event_source_disable_unref(the_call.source);
        the_call.done(0, NULL, the_call.userdata);
        return 0;
}

int network_instance_add_start(Network *n, const char *id, const char *address, network_done_t done,
                void *userdata, NetworkCall **ret, KError *reterr) {
        ASSERT_TRUE(!the_call.source);
        the_call.done = done;
        the_call.userdata = userdata;
        ASSERT_OK(sd_event_add_defer(the_event, &the_call.source, on_call, NULL));
        *ret = (NetworkCall *) &the_call;
        return 0;
}
NetworkCall *network_call_cancel(NetworkCall *c) {
        if (c)
                the_call.source = sd_event_source_disable_unref(the_call.source);
        return NULL;
}
int network_instance_remove(Network *n, const char *id, KError *reterr) {
        note("net-");
        return 0;
}
int network_ports_set(Network *n, const char *id, const char *address, const NetworkPort *ports,
                size_t n_ports, KError *reterr) {
        if (n_ports > 0)
                note("ports");
        return 0;
}
int network_ports_check(Network *n, const NetworkPort *ports, size_t n_ports, KError *reterr) {
        note("check-ports");
        return 0;
}
int rootfs_mount(const Image *image, const char *data, const char *target, KError *reterr) {
        const char *last = strrchr(data, '/');
        _cleanup_free_ char *path = strjoin(target, "/stands-on");

        note("mount:%s", last + 1);
        ASSERT_OK(mkdir_p(target, 0755));
        /* What is mounted already is left as it is, as by the real one. */
        return access(path, F_OK) >= 0 ? 0
                                       : write_file_atomic(path, image->digest, strlen(image->digest), 0644);
}
int rootfs_unmount(const char *target) {
        _cleanup_free_ char *path = strjoin(target, "/stands-on");

        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}
int path_is_mount_point(const char *path) {
        return 0;
}

/* The root of a machine: a child makes it. */
const char *root_error;
static struct FakeRoot {
        sd_event_source *source;
        child_done_t done;
        void *userdata;
} the_root;

int rootfs_open_layers(char *const *layers, const char *place) {
        return -ENOENT;
}
int machine_root_make(void *machine_root, KError *reterr) {
        return -ENOSYS;
}
static int on_root(sd_event_source *s, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        the_root.source = sd_event_source_disable_unref(the_root.source);
        if (root_error)
                (void) kerror_set(&e, K_RUNTIME, "%s", root_error);
        the_root.done(root_error ? -EIO : 0, &e, the_root.userdata);
        return 0;
}
int child_call_start(sd_event *event, const char *name, in_child_t function, void *arg,
                uint64_t timeout_usec, child_done_t done, void *userdata, ChildCall **ret, KError *reterr) {
        const MachineRoot *m = arg;
        const char *last = strrchr(m->mapped.data, '/');

        ASSERT_TRUE(!the_root.source && function == machine_root_make);
        note("root:%s", last + 1);
        the_root.done = done;
        the_root.userdata = userdata;
        ASSERT_OK(sd_event_add_defer(event, &the_root.source, on_root, NULL));
        *ret = (ChildCall *) &the_root;
        return 0;
}
ChildCall *child_call_cancel(ChildCall *c) {
        if (c)
                the_root.source = sd_event_source_disable_unref(the_root.source);
        return NULL;
}

/* Hooks */
static struct {
        hook_remember_t remember;
        hooks_done_t done;
        hooks_swept_t swept;
        void *userdata;
} the_hooks;
static unsigned n_hook_roots_left; /* by pre_start hooks that were not waited for */

int hooks_start(const HookOptions *o, HookStage stage, hook_remember_t remember, hooks_done_t done,
                void *userdata, HookRun **ret, KError *reterr) {
        _cleanup_free_ char *known = o->hooks_done ? strv_join(o->hooks_done, ",") : strdup("");

        note("%s@%s%s%s", hook_stage_to_string(stage), o->start, isempty(known) ? "" : "!", known);
        ASSERT_TRUE(!the_hooks.done);
        ASSERT_TRUE((stage == HOOK_PRE_START) == (o->image != NULL));
        if (stage == HOOK_PRE_START) {
                if (n_hook_roots_left > 0)
                        note("in-a-dirty-root");
                n_hook_roots_left++;
        }
        the_hooks.remember = remember;
        the_hooks.done = done;
        the_hooks.userdata = userdata;
        *ret = (HookRun *) &the_hooks;
        return 0;
}

HookRun *hooks_free(HookRun *r) {
        if (r) {
                note("leave-hooks");
                the_hooks.done = NULL;
        }
        return NULL;
}

void hooks_unmount(const char *run_directory) {
        n_hook_roots_left = 0;
}

int hooks_sweep(UnitManager *units, const char *instance_id, const char *keep_start, HookStage keep_stage,
                hooks_swept_t done, void *userdata, HookSweep **ret) {
        note("sweep%s%s", (int) keep_stage >= 0 ? "-but-" : "",
                        (int) keep_stage >= 0 ? hook_stage_to_string(keep_stage) : "");
        ASSERT_TRUE(!the_hooks.swept);
        the_hooks.swept = done;
        the_hooks.userdata = userdata;
        *ret = (HookSweep *) &the_hooks;
        return 0;
}

HookSweep *hooks_sweep_free(HookSweep *s) {
        if (s)
                the_hooks.swept = NULL;
        return NULL;
}

void hook_succeeds_once(const char *id) {
        the_hooks.remember(id, the_hooks.userdata);
}

void hooks_finish(const char *failure) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        hooks_done_t done = the_hooks.done;

        ASSERT_TRUE(done);
        the_hooks.done = NULL;
        n_hook_roots_left = 0;
        if (failure)
                (void) kerror_set(&e, K_RUNTIME, "%s", failure);
        done((HookRun *) &the_hooks, failure ? &e : NULL, the_hooks.userdata);
        loop_until_idle();
}

void sweep_finishes(void) {
        hooks_swept_t swept = the_hooks.swept;

        ASSERT_TRUE(swept);
        the_hooks.swept = NULL;
        swept((HookSweep *) &the_hooks, the_hooks.userdata);
        loop_until_idle();
}

const char *prepare_error;
static int prepare(Runtime *rt, const RuntimeContainer *c, KError *reterr) {
        if (prepare_error)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s", prepare_error);
        note("prepare");
        return 0;
}
static int setup(Runtime *rt, const RuntimeContainer *c, UnitSetup *s, KError *reterr) {
        return 0;
}
const char *failure_text;
static char *failure(Runtime *rt, const char *directory) {
        return failure_text ? strdup(failure_text) : NULL;
}
static const RuntimeOps ops = { .kind = "fake", .prepare = prepare, .setup = setup, .failure = failure };
static Runtime runtime = { .ops = &ops, .name = (char *) "fake" };

static int prepare_machine(Runtime *rt, const RuntimeContainer *c, KError *reterr) {
        _cleanup_free_ char *path = strjoin(c->directory, "/environment");

        note("prepare-machine");
        ASSERT_OK(mkdir_p(c->directory, 0700));
        ASSERT_OK(write_file_atomic(path, "", 0, 0400));
        ASSERT_TRUE(c->uid_base >= UID_RANGE_FIRST);
        return 0;
}
static const RuntimeOps machine_ops = {
        .kind = "fake", .prepare = prepare_machine, .setup = setup, .failure = failure
};
Runtime fake_machines = { .ops = &machine_ops, .name = (char *) "fake-machines" };

char events[1024];
unsigned n_changed;

static void on_changed(Instance *i, void *userdata) {
        n_changed++;
}
static void on_event(Instance *i, const InstanceEvent *e, void *userdata) {
        size_t n = strlen(events);

        (void) snprintf(events + n, sizeof(events) - n, "%s %s: %s\n", e->severity, e->type, e->message);
}
static void on_removed(Instance *i, void *userdata) {
        removed_instance = i;
}

void open_fixture(Fixture *f) {
        *f = (Fixture){};
        strncpy(f->directory, "/tmp/test-instance.XXXXXX", sizeof(f->directory));
        ASSERT_TRUE(mkdtemp(f->directory));
        f->state = strjoin(f->directory, "/state");
        f->run = strjoin(f->directory, "/run");
        f->volumes = strjoin(f->directory, "/volumes");
        f->uids = strjoin(f->directory, "/uids");
        f->host = (InstanceHost){ .runtime = &runtime,
                .uid_directory = f->uids,
                .node_name = "n",
                .state_directory = f->state,
                .run_directory = f->run,
                .volumes_directory = f->volumes,
                .changed = on_changed,
                .event_happened = on_event,
                .removed = on_removed };
        ASSERT_OK(sd_event_new(&f->host.event));
        the_event = f->host.event;
        the_call.source = NULL;
        memset(&the_hooks, 0, sizeof(the_hooks));
        ASSERT_OK(instance_new(&f->host, "abc", &f->i));
        trail[0] = '\0';
        image_tag[0] = '1';
        prepare_error = failure_text = root_error = NULL;
        removed_instance = NULL;
        main_process_is_alive = true;
        n_hook_roots_left = 0;
        events[0] = '\0';
        the_pull.done = NULL;
}

void close_fixture(Fixture *f) {
        instance_free(f->i);
        sd_event_unref(f->host.event);
        free(f->state);
        free(f->run);
        free(f->volumes);
        free(f->uids);
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->directory));
}

/* Lets the loop do what it can do now. */
void settle(Fixture *f, uint64_t usec) {
        while (sd_event_run(f->host.event, usec) > 0)
                ;
}

void want(Fixture *f, unsigned deploy_rev, unsigned service_rev, const char *more) {
        _cleanup_free_ char *text = strprintf("{\"number\":1,\"grid\":\"g01\",\"stack\":\"null\","
                                              "\"service\":\"web\",\"service_id\":\"i\","
                                              "\"desired\":\"running\",\"deploy_rev\":%u,\"service_rev\":%u,"
                                              "\"address\":\"10.81.128.5\","
                                              "\"spec\":{\"image\":\"a:1\"}%s}",
                        deploy_rev, service_rev, more);
        /* json-c's own parser, to which the last of two fields of one name counts: more may be other than what is above. */
        _cleanup_json_ json_object *o = json_tokener_parse(text);

        ASSERT_TRUE(o);
        ASSERT_OK(instance_set_want(f->i, o));
        settle(f, 0);
}

void run_first(Fixture *f) {
        want(f, 1, 1, "");
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        settle(f, 0);
        ASSERT_EQ(instance_state_of(f->i), INSTANCE_RUNNING);
        trail[0] = '\0';
}
