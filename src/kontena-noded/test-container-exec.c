/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "container-exec.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

/* systemd: one unit, of which nothing is asked */
struct Unit {
        UnitState state;
        unit_changed_t changed;
        void *userdata;
};
static Unit *the_unit;
static UnitState next_state;

int unit_new(UnitManager *m, const char *name, unit_changed_t changed, void *userdata, Unit **ret) {
        Unit *u = new0(Unit, 1);

        ASSERT_TRUE(u);
        *u = (Unit){ .state = next_state, .changed = changed, .userdata = userdata };
        *ret = the_unit = u;
        return 0;
}
Unit *unit_free(Unit *u) {
        free(u);
        return NULL;
}
const UnitState *unit_state(const Unit *u) {
        return &u->state;
}
sd_bus *unit_manager_bus(const UnitManager *m) {
        return NULL;
}
int unit_stop(Unit *u, uint64_t timeout_usec, unit_done_t done) {
        return -ENOTCONN;
}
int unit_read(Unit *u) {
        return -ENOTCONN;
}
bool unit_state_is_gone(const UnitState *s) {
        return false;
}

static void test_last_line(void **state) {
        static const struct {
                const char *text, *line;
        } cases[] = {
                { "", NULL },
                { "\n \n\t\n", NULL },
                { "one", "one" },
                { "one\ntwo\n", "two" },
                { "one\ntwo\n\n  \r\n", "two" },
                { "\none\x1b[31m red", "one?[31m red" },
                { "a\tb\n", "a b" },
                { "\xff\n", "\xef\xbf\xbd" },
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_free_ char *line = container_command_last_line(c->text, strlen(c->text));

                if (c->line)
                        ASSERT_STREQ(line, c->line);
                else
                        ASSERT_TRUE(!line);
        }
}

static void test_long_last_line_is_cut(void **state) {
        char text[4096];
        _cleanup_free_ char *line = NULL;

        memset(text, 'x', sizeof(text));
        text[0] = '\n';
        line = container_command_last_line(text, sizeof(text));
        ASSERT_EQ(strlen(line), 512);
}

static void remove_directory(char **path) {
        (void) rm_rf_at(AT_FDCWD, *path);
}

static void test_command_lines_of_the_runtime(void **state) {
        static const char config[] = "{\"process\":{\"args\":[\"nginx\"],\"env\":[\"SECRET=x\"]}}";
        char bundle_template[] = "/tmp/test-container-exec.XXXXXX";
        _cleanup_(remove_directory) char *bundle = mkdtemp(bundle_template);
        _cleanup_strv_free_ char **exec = NULL, **run = NULL, **clean = NULL;
        _cleanup_free_ char *exec_text = NULL, *run_text = NULL, *clean_text = NULL, *config_path = NULL,
                            *process_path = NULL, *process = NULL, *expected = NULL;
        char *const argv[] = { (char *) "/bin/sh", (char *) "-c", (char *) "a b", NULL };
        _cleanup_(runtime_freep) Runtime *runtime = NULL;
        RuntimeCommand c = { .container_id = "id-1", .argv = argv };
        struct stat st;

        ASSERT_TRUE(bundle);
        c.bundle = c.directory = bundle;
        config_path = strjoin(bundle, "/config.json");
        process_path = strjoin(bundle, "/process.json");
        ASSERT_OK(runtime_oci_new("/bin/sh", &runtime, NULL)); /* any program: it is not run */

        ASSERT_ERROR(runtime->ops->exec(runtime, &c, &exec, NULL), ENOENT);
        ASSERT_OK(write_file_atomic(config_path, config, strlen(config), 0600));
        ASSERT_OK(runtime->ops->exec(runtime, &c, &exec, NULL));
        exec_text = strv_join(exec, " ");
        expected = strprintf("/bin/sh --log %s/runtime.log --log-format json exec --pid-file %s/pid "
                             "--process %s/process.json id-1",
                        bundle, bundle, bundle);
        ASSERT_STREQ(exec_text, expected);
        ASSERT_OK(read_file(process_path, 4096, &process, NULL));
        ASSERT_TRUE(strstr(process, "\"args\":[\"/bin/sh\",\"-c\",\"a b\"]"));
        ASSERT_TRUE(strstr(process, "SECRET=x") && !strstr(exec_text, "SECRET"));
        ASSERT_OK(stat(process_path, &st));
        ASSERT_EQ(st.st_mode & 0777, 0600);

        ASSERT_OK(runtime->ops->run(runtime, &c, &run, &clean));
        run_text = strv_join(run, " ");
        clean_text = strv_join(clean, " ");
        ASSERT_TRUE(strstr(run_text, " run --pid-file ") && strstr(run_text, " --bundle "));
        ASSERT_STREQ(clean_text, "/bin/sh delete --force id-1");
}

#define STATE(active, sub, ...)                                                                             \
        ((UnitState){ .known = true,                                                                        \
                        .load_state = (char *) "loaded",                                                    \
                        .active_state = (char *) active,                                                    \
                        .sub_state = (char *) sub,                                                          \
                        ##__VA_ARGS__ })

typedef struct Ended {
        unsigned n;
        int status;
        KErrorCode code;
} Ended;

static void on_ended(ContainerCommand *c, int status, const KError *error, void *userdata) {
        Ended *e = userdata;

        e->n++;
        e->status = status;
        e->code = error ? error->code : K_OK;
}

/* Who is to blame: the container, for which it is restarted, or ourselves. */
static void test_blame(void **state) {
        static const char want_text[] =
                        "{\"number\":1,\"grid\":\"g01\",\"stack\":\"null\",\"service\":\"web\","
                        "\"service_id\":\"i\",\"desired\":\"running\",\"deploy_rev\":1,\"service_rev\":1,"
                        "\"address\":\"10.81.128.5\",\"spec\":{\"image\":\"a:1\"}}";
        static char *const argv[] = { (char *) "true", NULL };
        const struct {
                UnitState then;
                bool fresh, begun; /* it is started anew, without a configuration; the runtime has begun it */
                KErrorCode code;
                int status;
        } cases[] = {
                { STATE("active", "exited", .exec_main_code = CLD_EXITED), false, true, K_OK, 0 },
                { STATE("failed", "failed", .result = (char *) "timeout", .exec_main_code = CLD_KILLED,
                                  .exec_main_status = SIGKILL),
                                false, true, K_RUNTIME, 137 },
                { STATE("active", "exited", .exec_main_code = CLD_EXITED, .exec_main_status = 3), false,
                                true, K_RUNTIME, 3 },
                { STATE("active", "exited", .exec_main_code = CLD_EXITED, .exec_main_status = 203), false,
                                true, K_RUNTIME, 203 },
                /* No such program in the container: the runtime says so. */
                { STATE("active", "exited", .exec_main_code = CLD_EXITED, .exec_main_status = 1), false,
                                false, K_RUNTIME, -1 },
                /* systemd could not even run the runtime. */
                { STATE("failed", "failed", .exec_main_code = CLD_EXITED, .exec_main_status = 203), false,
                                false, K_UNAVAILABLE, -1 },
                { STATE("failed", "failed", .result = (char *) "resources"), false, false, K_UNAVAILABLE,
                                -1 },
                { STATE("inactive", "dead", .exec_main_code = CLD_KILLED), false, true, K_UNAVAILABLE, -1 },
                { STATE("inactive", "dead"), true, false, K_UNAVAILABLE, -1 },
        };
        char template[] = "/tmp/test-container-exec.XXXXXX";
        _cleanup_(remove_directory) char *directory = mkdtemp(template);
        _cleanup_(instance_want_freep) InstanceWant *want = NULL;
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(runtime_freep) Runtime *runtime = NULL;
        _cleanup_free_ char *pid = NULL, *own = NULL;
        _cleanup_json_ json_object *o = NULL;

        ASSERT_TRUE(directory);
        own = strjoin(directory, "/own");
        pid = strjoin(own, "/pid");
        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(runtime_oci_new("/bin/sh", &runtime, NULL));
        ASSERT_OK(json_parse(want_text, strlen(want_text), 65536, &o, NULL));
        ASSERT_OK(instance_want_parse("abc", o, &want, NULL));

        FOREACH_ARRAY(t, cases, ELEMENTSOF(cases)) {
                ContainerCommand *c = NULL;
                Ended ended = {};

                (void) unlink(pid);
                ASSERT_OK(mkdir_p(own, 0700));
                if (t->begun)
                        ASSERT_OK(write_file_atomic(pid, "1", 1, 0600));
                next_state = t->fresh ? t->then : STATE("active", "running");
                ASSERT_OK(container_command_start(
                                &(ContainerCommandOptions){
                                                .event = event,
                                                .runtime = runtime,
                                                .want = want,
                                                .image = "a:1",
                                                .unit = "kontena-health-abc.service",
                                                .description = "test",
                                                .container_id = "abc-1",
                                                .bundle = directory,
                                                .directory = own,
                                                .argv = argv,
                                                .capture = true,
                                                .adopt = true,
                                                .timeout_usec = USEC_PER_SEC,
                                },
                                on_ended, &ended, &c, NULL));
                the_unit->changed(the_unit, the_unit->userdata);
                if (!t->fresh) {
                        ASSERT_EQ(ended.n, 0);
                        the_unit->state = t->then;
                        the_unit->changed(the_unit, the_unit->userdata);
                }
                ASSERT_EQ(ended.n, 1);
                ASSERT_EQ(ended.code, t->code);
                ASSERT_EQ(ended.status, t->status);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_blame), cmocka_unit_test(test_last_line),
                cmocka_unit_test(test_long_last_line_is_cut),
                cmocka_unit_test(test_command_lines_of_the_runtime))
