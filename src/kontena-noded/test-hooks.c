/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container-exec.h"
#include "file-util.h"
#include "json-util.h"
#include "rootfs.h"
#include "string-util.h"
#include "test.h"

/* The hooks of a stage one after the other, with the commands, mounts and images played by this file. */

static char trail[2048];

static void note(const char *format, ...) _printf_(1, 2);
static void note(const char *format, ...) {
        size_t n = strlen(trail);
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(trail + n, sizeof(trail) - n, format, ap);
        va_end(ap);
        n = strlen(trail);
        (void) snprintf(trail + n, sizeof(trail) - n, "\n");
}

static struct {
        container_command_done_t done;
        void *userdata;
        char *bundle;
} command;

int container_command_start(const ContainerCommandOptions *o, container_command_done_t done, void *userdata,
                ContainerCommand **ret, KError *reterr) {
        ASSERT_TRUE(!command.done && o->adopt && o->keep);
        note("%s %s %s %s %" PRIu64 "%s", o->unit, o->container_id, o->fresh ? "fresh" : o->argv[2],
                        o->log_fields[0], o->timeout_usec / USEC_PER_SEC, o->bind_unit ? " bound" : "");
        command.done = done;
        command.userdata = userdata;
        (void) free_and_strdup(&command.bundle, o->bundle);
        *ret = (ContainerCommand *) &command;
        return 0;
}
ContainerCommand *container_command_free(ContainerCommand *c) {
        if (c)
                command.done = NULL;
        return NULL;
}
void container_command_discard(UnitManager *units, const char *unit, const char *directory) {
        note("discard %s", unit);
}
int rootfs_mount(const Image *image, const char *data, const char *target, KError *reterr) {
        note("mount");
        ASSERT_OK(mkdir_p(target, 0755));
        return mkdir_p(data, 0755);
}
int rootfs_unmount(const char *target) {
        note("unmount");
        return 0;
}
static bool mounted;
int path_is_mount_point(const char *path) {
        return mounted;
}
Image *image_ref(Image *i) {
        return i;
}
Image *image_unref(Image *i) {
        return NULL;
}

static sd_event *event;

static void command_ends(const char *failure) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        container_command_done_t done = command.done;

        ASSERT_TRUE(done);
        command.done = NULL;
        if (failure)
                (void) kerror_set(&e, K_RUNTIME, "%s", failure);
        done((ContainerCommand *) &command, failure ? 1 : 0, failure ? &e : NULL, command.userdata);
}

static bool over;
static char *said;
static void on_done(HookRun *r, const KError *error, void *userdata) {
        note("done");
        over = true;
        said = error ? strdup(kerror_message(error)) : NULL;
}
static void on_remember(const char *id, void *userdata) {
        note("remember %s", id);
}

/* Until the next command runs or all is over. */
static void turn(void) {
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC;
                        !over && !command.done && now_monotonic() < end;)
                (void) sd_event_run(event, 100 * USEC_PER_MSEC);
        ASSERT_TRUE(over || command.done);
}

#define ASSERT_TRAIL(expected)                                                                              \
        do {                                                                                                \
                ASSERT_STREQ(trail, expected);                                                              \
                trail[0] = '\0';                                                                            \
        } while (false)

static const char config_text
                [] = "{\"process\":{\"args\":[\"nginx\"],\"env\":[\"A=1\"]},\"root\":{\"path\":\"/r\"},"
                     "\"mounts\":[{\"destination\":\"/dev/stdout\"},{\"destination\":\"/data\"},"
                     "{\"destination\":\"/dev/stderr\"}]}";

typedef struct Fixture {
        char directory[32];
        char *data, *run;
        ServiceSpec *spec;
        InstanceWant want;
        HookOptions options;
} Fixture;

static void open_fixture(Fixture *f, const char *hooks) {
        _cleanup_free_ char *config = NULL, *text = strprintf("{\"image\":\"a\",\"hooks\":%s}", hooks);
        _cleanup_json_ json_object *o = NULL;
        static char image;
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);

        *f = (Fixture){};
        strncpy(f->directory, "/tmp/test-hooks.XXXXXX", sizeof(f->directory));
        ASSERT_TRUE(mkdtemp(f->directory));
        f->data = strjoin(f->directory, "/data");
        f->run = strjoin(f->directory, "/run");
        ASSERT_OK(mkdir_p(f->data, 0700));
        ASSERT_OK(mkdir_p(f->run, 0700));
        config = strjoin(f->run, "/config.json");
        ASSERT_OK(write_file_atomic(config, config_text, strlen(config_text), 0600));
        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        ASSERT_OK(service_spec_parse(o, &f->spec, NULL));
        f->want = (InstanceWant){ .id = (char *) "abc",
                .number = 1,
                .grid = (char *) "g",
                .stack = (char *) "null",
                .service = (char *) "web",
                .spec = f->spec };
        ASSERT_OK(sd_event_new(&event));
        f->options = (HookOptions){ .event = event,
                .want = &f->want,
                .image = (Image *) (void *) &image,
                .image_name = "a",
                .start = "2-7",
                .container_id = "abc-2",
                .unit = "u.service",
                .directory = f->data,
                .run_directory = f->run };
        over = mounted = false;
        trail[0] = '\0';
}

static void close_fixture(Fixture *f) {
        (void) rm_rf_at(AT_FDCWD, f->directory);
        free(f->data);
        free(f->run);
        service_spec_free(f->spec);
        event = sd_event_unref(event);
        command.bundle = mfree(command.bundle);
        said = mfree(said);
}

static HookRun *start(Fixture *f, HookStage stage) {
        HookRun *r = NULL;

        ASSERT_OK(hooks_start(&f->options, stage, on_remember, on_done, NULL, &r, NULL));
        turn();
        return r;
}

static void test_pre_start_has_a_container_of_its_own(void **state) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        Fixture f;

        open_fixture(&f, "{\"pre_start\":[{\"name\":\"a\",\"cmd\":\"one\",\"oneshot\":true},"
                         "{\"name\":\"b\",\"cmd\":\"two\",\"timeout\":9}]}");
        (void) start(&f, HOOK_PRE_START);
        ASSERT_TRAIL("mount\nkontena-hook@abc-2-7-pre_start-a.service abc-2-a fresh "
                     "KONTENA_HOOK=pre_start/a 60\n");
        path = strjoin(command.bundle, "/config.json");
        ASSERT_OK(read_file(path, 65536, &text, NULL));
        ASSERT_TRUE(strstr(text, "\"args\":[\"/bin/sh\",\"-c\",\"one\"]"));
        command_ends(NULL);
        mounted = true;
        turn();
        ASSERT_TRAIL("remember pre_start/a\n"
                     "kontena-hook@abc-2-7-pre_start-b.service abc-2-b fresh KONTENA_HOOK=pre_start/b 9\n");
        command_ends(NULL);
        turn();
        /* What remembers them goes after the word was given. */
        ASSERT_TRAIL("unmount\ndone\ndiscard kontena-hook@abc-2-7-pre_start-a.service\n"
                     "discard kontena-hook@abc-2-7-pre_start-b.service\n");
        ASSERT_TRUE(!said && access(path, F_OK) < 0);
        close_fixture(&f);
}

static void test_first_failure_ends_it(void **state) {
        Fixture f;

        open_fixture(&f, "{\"post_start\":[{\"name\":\"a\",\"cmd\":\"one\",\"oneshot\":true},"
                         "{\"name\":\"b\",\"cmd\":\"two\"}]}");
        (void) start(&f, HOOK_POST_START);
        ASSERT_TRAIL("kontena-hook@abc-2-7-post_start-a.service abc-2 one KONTENA_HOOK=post_start/a 60 "
                     "bound\n");
        command_ends("exited with status 1: no such table");
        turn();
        ASSERT_TRAIL("done\ndiscard kontena-hook@abc-2-7-post_start-a.service\n");
        ASSERT_STREQ(said, "The post_start hook 'a' exited with status 1: no such table.");
        close_fixture(&f);
}

static void test_what_concerns_others_or_is_done_is_left_out(void **state) {
        char *const done[] = { (char *) "pre_stop/a", NULL };
        Fixture f;

        open_fixture(&f, "{\"pre_stop\":[{\"name\":\"a\",\"cmd\":\"one\",\"oneshot\":true},"
                         "{\"name\":\"b\",\"cmd\":\"two\",\"instances\":\"2\"},{\"name\":\"c\",\"cmd\":"
                         "\"three\"}]}");
        f.options.hooks_done = done;
        (void) start(&f, HOOK_PRE_STOP);
        ASSERT_TRAIL("kontena-hook@abc-2-7-pre_stop-c.service abc-2 three KONTENA_HOOK=pre_stop/c 60 "
                     "bound\n");
        command_ends(NULL);
        turn();
        ASSERT_TRAIL("done\ndiscard kontena-hook@abc-2-7-pre_stop-c.service\n");
        close_fixture(&f);
}

static void test_root_of_an_earlier_start_goes_first(void **state) {
        _cleanup_free_ char *old = NULL;
        Fixture f;

        open_fixture(&f, "{\"pre_start\":[{\"name\":\"a\",\"cmd\":\"one\"}]}");
        old = strjoin(f.data, "/hook/upper/left-over");
        ASSERT_OK(mkdir_p(old, 0755));
        (void) start(&f, HOOK_PRE_START);
        ASSERT_TRAIL("unmount\nmount\nkontena-hook@abc-2-7-pre_start-a.service abc-2-a fresh "
                     "KONTENA_HOOK=pre_start/a 60\n");
        ASSERT_TRUE(access(old, F_OK) < 0);
        command_ends(NULL);
        turn();
        close_fixture(&f);
}

static void test_left_alone(void **state) {
        HookRun *r;
        Fixture f;

        open_fixture(&f, "{\"pre_start\":[{\"name\":\"a\",\"cmd\":\"one\"}]}");
        r = start(&f, HOOK_PRE_START);
        trail[0] = '\0';
        r = hooks_free(r);
        ASSERT_TRAIL("");

        /* A daemon after us: the root is there, and is taken as it is. */
        mounted = true;
        (void) start(&f, HOOK_PRE_START);
        ASSERT_TRAIL("kontena-hook@abc-2-7-pre_start-a.service abc-2-a fresh KONTENA_HOOK=pre_start/a 60\n");
        command_ends(NULL);
        turn();
        close_fixture(&f);
}

static void test_unreadable_configuration(void **state) {
        _cleanup_free_ char *config = NULL;
        Fixture f;

        open_fixture(&f, "{\"pre_start\":[{\"name\":\"a\",\"cmd\":\"one\"}]}");
        config = strjoin(f.run, "/config.json");
        ASSERT_OK(unlink(config));
        (void) start(&f, HOOK_PRE_START);
        ASSERT_TRUE(over &&
                        strstr(said, "The pre_start hook 'a' cannot be run: Cannot read the container's"));
        close_fixture(&f);
}

static void test_config(void **state) {
        _cleanup_json_ json_object *config = NULL, *ours = NULL, *none = NULL;

        ASSERT_OK(json_parse(config_text, strlen(config_text), 65536, &config, NULL));
        ASSERT_OK(hooks_config(config, "/other", "a \"b\"", &ours, NULL));
        ASSERT_STREQ(json_text(json_object_object_get(ours, "mounts")), "[{\"destination\":\"/data\"}]");
        ASSERT_STREQ(json_text(json_object_object_get(ours, "root")), "{\"path\":\"/other\"}");
        ASSERT_STREQ(json_text(json_object_object_get(ours, "process")),
                        "{\"args\":[\"/bin/sh\",\"-c\",\"a \\\"b\\\"\"],\"env\":[\"A=1\"]}");
        ASSERT_TRUE(strstr(json_text(config), "nginx") && strstr(json_text(config), "/dev/stdout"));
        none = json_object_new_object();
        ASSERT_ERROR(hooks_config(none, "/other", "a", &ours, NULL), EINVAL);
}

KONTENA_TESTS(cmocka_unit_test(test_pre_start_has_a_container_of_its_own),
                cmocka_unit_test(test_first_failure_ends_it),
                cmocka_unit_test(test_what_concerns_others_or_is_done_is_left_out),
                cmocka_unit_test(test_root_of_an_earlier_start_goes_first),
                cmocka_unit_test(test_left_alone), cmocka_unit_test(test_unreadable_configuration),
                cmocka_unit_test(test_config))
