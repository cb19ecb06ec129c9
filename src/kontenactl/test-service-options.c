/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "port-option.h"
#include "service-options.h"
#include "service-spec.h"
#include "string-util.h"
#include "test.h"

static int spec_of(json_object **ret, KError *e, const char *const *words) {
        _cleanup_arguments_ Arguments a = {};
        int argc = 0, r;

        while (words[argc])
                argc++;
        r = arguments_parse(argc, (char **) words, &a, e);
        return r < 0 ? r : service_options_to_spec(&a, ret, e);
}
#define WORDS(...) ((const char *const[]){ "kontenactl", "service", __VA_ARGS__, NULL })

static void test_port_option(void **state) {
        static const struct {
                const char *text, *json;
        } good[] = {
                { "80", "[{\"ip\":\"0.0.0.0\",\"node_port\":80,\"container_port\":80,\"protocol\":\"tcp\"}"
                        "]" },
                { "8080:80", "[{\"ip\":\"0.0.0.0\",\"node_port\":8080,\"container_port\":80,\"protocol\":"
                             "\"tcp\"}]" },
                { "53:53/udp", "[{\"ip\":\"0.0.0.0\",\"node_port\":53,\"container_port\":53,\"protocol\":"
                               "\"udp\"}]" },
                { "80:80/sctp", "[{\"ip\":\"0.0.0.0\",\"node_port\":80,\"container_port\":80,\"protocol\":"
                                "\"sctp\"}]" },
                { "192.0.2.1:1:2/tcp", "[{\"ip\":\"192.0.2.1\",\"node_port\":1,\"container_port\":2,"
                                       "\"protocol\":\"tcp\"}]" },
                { "7-8:65534-65535/udp",
                                "[{\"ip\":\"0.0.0.0\",\"node_port\":7,\"container_port\":65534,\"protocol\":"
                                "\"udp\"},{\"ip\":\"0.0.0.0\",\"node_port\":8,\"container_port\":65535,"
                                "\"protocol\":\"udp\"}]" },
                { "7-7", "[{\"ip\":\"0.0.0.0\",\"node_port\":7,\"container_port\":7,\"protocol\":\"tcp\"}"
                         "]" },
        };
        static const char *const bad[] = { "", ":", "80:", ":80", "0:80", "80:65536", "80:80/dccp", "80:80/",
                "host:80:80", "1:2:3:4", "80 :80", "-80:80", "192.0.2.1:80", "8-7:8-7", "7-8:7", "7:7-8",
                "7-:7-", "7-8-9:7-8-9", "0-1:0-1", "7-8:65535-65536" };

        FOREACH_ARRAY(g, good, ELEMENTSOF(good)) {
                _cleanup_json_ json_object *l = json_object_new_array();

                ASSERT_OK(port_option_parse(g->text, l, NULL));
                ASSERT_STREQ(json_text(l), g->json);
        }
        FOREACH_ARRAY(b, bad, ELEMENTSOF(bad)) {
                _cleanup_json_ json_object *l = json_object_new_array();
                _cleanup_kerror_ KError e = KERROR_NULL;

                ASSERT_TRUE(port_option_parse(*b, l, &e) < 0);
                ASSERT_EQ(e.code, K_INVALID_ARGUMENT);
                ASSERT_EQ(json_object_array_length(l), 0);
        }
}

static void test_port_ranges_are_bounded(void **state) {
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_TRUE(port_option_parse("1-65535:1-65535", l, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        ASSERT_EQ(json_object_array_length(l), 0);
        ASSERT_OK(port_option_parse("1-128:1-128", l, NULL));
        ASSERT_EQ(json_object_array_length(l), PORTS_MAX);
        ASSERT_TRUE(port_option_parse("60000", l, NULL) < 0);
}

static void test_env_file(void **state) {
        _cleanup_strv_free_ char **l = NULL, **no = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(setenv("KONTENA_TEST_ENV", "from outside", 1) < 0 ? -errno : 0);
        ASSERT_OK(unsetenv("KONTENA_TEST_UNSET") < 0 ? -errno : 0);
        ASSERT_OK(env_file_parse(
                        "# comment\n\nA=1\r\n  B=x y=z \n\tKONTENA_TEST_ENV\nKONTENA_TEST_UNSET\nEMPTY=", &l,
                        &e));
        ASSERT_EQ(strv_length(l), 4);
        ASSERT_STREQ(l[0], "A=1");
        ASSERT_STREQ(l[1], "B=x y=z ");
        ASSERT_STREQ(l[2], "KONTENA_TEST_ENV=from outside");
        ASSERT_STREQ(l[3], "EMPTY=");

        ASSERT_ERROR(env_file_parse("A=1\n=2\n", &no, &e), EINVAL);
        ASSERT_TRUE(startswith(kerror_message(&e), "line 2: "));
}

static void test_command_line_split(void **state) {
        static const struct {
                const char *line;
                const char *words[5];
        } good[] = {
                { "", {} },
                { "  a  b ", { "a", "b" } },
                { "sh -c 'echo \"hi\" $HOME'", { "sh", "-c", "echo \"hi\" $HOME" } },
                { "a\\ b \"c d\" ''", { "a b", "c d", "" } },
                { "\"a\\\"b\\n\"", { "a\"b\\n" } },
                { "x'y'\"z\"", { "xyz" } },
        };
        static const char *const bad[] = { "'a", "\"a", "a\\" };

        FOREACH_ARRAY(g, good, ELEMENTSOF(good)) {
                _cleanup_strv_free_ char **l = NULL;
                size_t n = 0;

                ASSERT_OK(command_line_split(g->line, &l, NULL));
                for (; g->words[n]; n++) {
                        ASSERT_TRUE(n < strv_length(l));
                        ASSERT_STREQ(l[n], g->words[n]);
                }
                ASSERT_EQ(strv_length(l), n);
        }
        FOREACH_ARRAY(b, bad, ELEMENTSOF(bad)) {
                char **l = NULL;

                ASSERT_ERROR(command_line_split(*b, &l, NULL), EINVAL);
                ASSERT_TRUE(!l);
        }
}

/* Every field of the spec can be asked for, and what is asked for passes the validation of both daemons. */
static void test_options_reach_every_field(void **state) {
        _cleanup_json_ json_object *spec = NULL;
        _cleanup_(service_spec_freep) ServiceSpec *parsed = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (spec_of(&spec, &e,
                            WORDS("create", "web", "nginx:1", "-i", "3", "--stateful",
                                            "--deploy-strategy=daemon", "-a", "node==n1", "-a",
                                            "label!=~az=b", "--deploy-min-health=0.5",
                                            "--deploy-wait-for-port=80", "--deploy-interval=1h",
                                            "--cmd=sh -c 'sleep 1'", "--entrypoint=/init -x", "-e", "A=1",
                                            "-e", "B=2", "-u", "www-data", "--working-dir=/srv",
                                            "--hostname=w", "-p", "8080:80", "-p", "53:53/udp",
                                            "--net=bridge", "--pid=host", "--privileged", "--read-only",
                                            "--cap-add=NET_ADMIN", "--cap-drop=CHOWN", "--device=/dev/null",
                                            "-v", "data:/data", "-v", "/etc:/host:ro", "--cpus=1.5", "-c",
                                            "512", "-m", "64m", "--memory-swap=128m", "--shm-size=16m",
                                            "--pids-limit=100", "--stop-signal=SIGINT", "--stop-timeout=30s",
                                            "--label=a=b", "-l", "db", "--deploy-order=stop-first",
                                            "--on-failure=continue", "--drain=1min", "--pull=never",
                                            "--runtime=oci", "--secret=db:DB_PASSWORD:env",
                                            "--secret=c:tls.pem:file", "--systemd=IOWeight=50",
                                            "--systemd=IOReadBandwidthMax=/dev/sda 1M")) < 0)
                fail_msg("%s", kerror_message(&e));
        ASSERT_OK(json_add_string(spec, "image", "nginx:1"));
        if (service_spec_parse(spec, &parsed, &e) < 0)
                fail_msg("%s", kerror_message(&e));

        ASSERT_EQ(parsed->count, 3);
        ASSERT_TRUE(parsed->stateful && parsed->host_pid && parsed->privileged && parsed->read_only);
        ASSERT_EQ(parsed->strategy, STRATEGY_DAEMON);
        ASSERT_EQ(strv_length(parsed->affinity), 2);
        ASSERT_EQ(parsed->wait_for_port, 80);
        ASSERT_EQ(parsed->interval_sec, 3600);
        ASSERT_EQ(strv_length(parsed->cmd), 3);
        ASSERT_STREQ(parsed->cmd[2], "sleep 1");
        ASSERT_EQ(strv_length(parsed->entrypoint), 2);
        ASSERT_EQ(strv_length(parsed->env), 2);
        ASSERT_STREQ(parsed->user, "www-data");
        ASSERT_STREQ(parsed->working_dir, "/srv");
        ASSERT_STREQ(parsed->hostname, "w");
        ASSERT_EQ(parsed->n_ports, 2);
        ASSERT_EQ(parsed->ports[1].protocol, TRANSPORT_UDP);
        ASSERT_EQ(strv_length(parsed->volumes), 2);
        ASSERT_EQ(parsed->memory, 64 << 20);
        ASSERT_EQ(parsed->memory_swap, 128 << 20);
        ASSERT_EQ(parsed->shm_size, 16 << 20);
        ASSERT_EQ(parsed->pids_limit, 100);
        ASSERT_EQ(parsed->cpu_shares, 512);
        ASSERT_EQ(parsed->stop_grace_sec, 30);
        ASSERT_STREQ(parsed->stop_signal, "SIGINT");
        ASSERT_EQ(strv_length(parsed->links), 1);
        ASSERT_EQ(strv_length(parsed->labels), 1);
        ASSERT_EQ(parsed->deploy_order, DEPLOY_STOP_FIRST);
        ASSERT_EQ(parsed->on_failure, ON_FAILURE_CONTINUE);
        ASSERT_EQ(parsed->drain_sec, 60);
        ASSERT_EQ(parsed->pull, PULL_NEVER);
        ASSERT_EQ(parsed->n_secrets, 2);
        ASSERT_EQ(parsed->secrets[1].type, SECRET_FILE);
        ASSERT_STREQ(parsed->systemd[0], "IOReadBandwidthMax=/dev/sda 1M");
        ASSERT_STREQ(parsed->systemd[1], "IOWeight=50");
}

static void test_hooks(void **state) {
        _cleanup_json_ json_object *spec = NULL;
        _cleanup_(service_spec_freep) ServiceSpec *parsed = NULL;

        ASSERT_OK(spec_of(&spec, NULL,
                        WORDS("update", "web", "--hook=pre_start,oneshot,timeout=9,1,3:migrate:rake db:up",
                                        "--hook=pre_stop:bye:sync", "--hook=pre_start:b:true")));
        ASSERT_STREQ(json_text(spec),
                        "{\"hooks\":{\"pre_start\":[{\"name\":\"migrate\",\"cmd\":\"rake db:up\","
                        "\"instances\":\"1,3\",\"oneshot\":true,\"timeout\":9},"
                        "{\"name\":\"b\",\"cmd\":\"true\"}],"
                        "\"pre_stop\":[{\"name\":\"bye\",\"cmd\":\"sync\"}]}}");
        ASSERT_OK(json_add_string(spec, "image", "nginx:1"));
        ASSERT_OK(service_spec_parse(spec, &parsed, NULL));
        ASSERT_EQ(parsed->n_hooks, 3);
}

static void test_job(void **state) {
        _cleanup_json_ json_object *spec = NULL, *undo = NULL;

        ASSERT_OK(spec_of(&spec, NULL,
                        WORDS("create", "web", "nginx", "--type=job", "--schedule=*:0/15", "--retries=2")));
        ASSERT_STREQ(json_text(spec), "{\"type\":\"job\",\"schedule\":\"*:0/15\",\"retries\":2}");
        ASSERT_OK(spec_of(&undo, NULL, WORDS("update", "web", "--schedule=")));
        ASSERT_STREQ(json_text(undo), "{\"schedule\":null}");
}

static void test_health_check_as_a_whole(void **state) {
        _cleanup_json_ json_object *http = NULL, *spec = NULL, *none = NULL, *half = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(spec_of(&spec, NULL,
                        WORDS("update", "web", "--health-check-protocol=exec",
                                        "--health-check-command=pg_isready -q")));
        ASSERT_STREQ(json_text(spec),
                        "{\"health_check\":{\"protocol\":\"exec\",\"command\":[\"pg_isready\",\"-q\"]}}");
        ASSERT_OK(spec_of(&http, NULL,
                        WORDS("update", "web", "--health-check-protocol=http", "--health-check-port=80",
                                        "--health-check-uri=/up", "--health-check-timeout=5s",
                                        "--health-check-interval=1min", "--health-check-initial-delay=0",
                                        "--health-check-retries=3")));
        ASSERT_STREQ(json_text(http),
                        "{\"health_check\":{\"protocol\":\"http\",\"port\":80,\"uri\":\"/up\",\"timeout\":5,"
                        "\"interval\":60,\"initial_delay\":0,\"retries\":3}}");
        ASSERT_OK(spec_of(&none, NULL, WORDS("update", "web", "--health-check-protocol=", "--no-notify")));
        ASSERT_STREQ(json_text(none), "{\"notify\":false,\"health_check\":null}");
        ASSERT_TRUE(spec_of(&half, &e, WORDS("update", "web", "--health-check-port=80")) < 0);
        ASSERT_STREQ(kerror_message(&e),
                        "--health-check-port needs --health-check-protocol: a check is given as a whole.");
}

static void test_update_sends_only_what_was_given(void **state) {
        _cleanup_json_ json_object *spec = NULL;

        ASSERT_OK(spec_of(&spec, NULL,
                        WORDS("update", "web", "--image=nginx:2", "--user=", "--env=", "--no-privileged")));
        ASSERT_STREQ(json_text(spec),
                        "{\"image\":\"nginx:2\",\"user\":null,\"privileged\":false,\"env\":[]}");
}

static void test_command_in_parts(void **state) {
        _cleanup_json_ json_object *spec = NULL;

        ASSERT_OK(spec_of(&spec, NULL,
                        WORDS("update", "web", "--cmd=sleep", "--cmd=infinity",
                                        "--entrypoint=/bin/env -i")));
        ASSERT_STREQ(json_text(spec),
                        "{\"cmd\":[\"sleep\",\"infinity\"],\"entrypoint\":[\"/bin/env\",\"-i\"]}");
}

static void test_command_behind_dashes(void **state) {
        _cleanup_json_ json_object *spec = NULL, *twice = NULL;

        ASSERT_OK(spec_of(&spec, NULL, WORDS("create", "web", "busybox", "--", "echo", "a b")));
        ASSERT_STREQ(json_text(spec), "{\"cmd\":[\"echo\",\"a b\"]}");
        ASSERT_ERROR(spec_of(&twice, NULL, WORDS("create", "web", "busybox", "--cmd=true", "--", "false")),
                        EINVAL);
}

static void test_bad_values_name_the_option(void **state) {
        static const struct {
                const char *option, *message;
        } table[] = {
                { "--memory=12x", "--memory=12x: a size is wanted, say 512m or 2g." },
                { "--memory=-1", "--memory=-1: a size is wanted, say 512m or 2g." },
                { "--instances=many", "--instances=many: a whole number is wanted." },
                { "--cpus=-1", "--cpus=-1: a number is wanted, say 0.5." },
                { "--stop-timeout=soon", "--stop-timeout=soon: a time is wanted, say 30s or 5min." },
                { "--stop-timeout=500ms", "--stop-timeout=500ms: whole seconds are wanted." },
                { "--ports=80:x",
                                "--ports=80:x: a port is [IP:]NODE:CONTAINER[/tcp|udp|sctp], say 8080:80 or "
                                "8000-8010:8000-8010/udp." },
                { "--env-file=/nonexistent",
                                "Cannot read the file '/nonexistent': No such file or directory" },
                { "--cmd='a", "--cmd: ''a' has an open quote." },
                { "--secret=db", "--secret=db: SECRET:NAME:env or SECRET:NAME:file is wanted." },
                { "--secret=db::env", "--secret=db::env: SECRET:NAME:env or SECRET:NAME:file is wanted." },
                { "--hook=pre_start:x",
                                "--hook=pre_start:x: STAGE[,oneshot][,timeout=SECONDS][,NUMBER...]:NAME:"
                                "COMMAND is wanted, STAGE pre_start, post_start or pre_stop." },
                { "--hook=,:x:y", "--hook=,:x:y: STAGE[,oneshot][,timeout=SECONDS][,NUMBER...]:NAME:COMMAND "
                                  "is wanted, STAGE pre_start, post_start or pre_stop." },
                { "--hook=pre_stop,timeout=1min:x:y",
                                "--hook=pre_stop,timeout=1min:x:y: '1min' is not a number of seconds." },
                { "--hook=pre_stop,timeout=0:x:y",
                                "--hook=pre_stop,timeout=0:x:y: '0' is not a number of seconds." },
                { "--systemd=CPUWeight",
                                "--systemd=CPUWeight: PROPERTY=VALUE is wanted, say CPUWeight=200." },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                json_object *spec = NULL;

                ASSERT_TRUE(spec_of(&spec, &e, WORDS("create", "web", "nginx", t->option)) < 0);
                ASSERT_STREQ(kerror_message(&e), t->message);
                ASSERT_TRUE(!spec);
        }
}

/* What is shown can be given again. */
static void test_parts_are_shown_as_they_are_given(void **state) {
        static const struct {
                const char *field, *option, *text;
        } table[] = {
                { "hooks", "--hook=pre_start,oneshot,1,3:migrate:rake db:migrate",
                                "pre_start,oneshot,1,3:migrate:rake db:migrate" },
                { "hooks", "--hook=pre_stop:bye:sync", "pre_stop:bye:sync" },
                { "hooks", "--hook=post_start,timeout=5,2:warm:curl localhost",
                                "post_start,timeout=5,2:warm:curl localhost" },
                { "secrets", "--secret=c:tls.pem:file", "c:tls.pem:file" },
                { "systemd", "--systemd=CPUWeight=200", "CPUWeight=200" },
                { "health_check", "--health-check-protocol=exec", "protocol=exec" },
                { "user", "--user=www", NULL },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_json_ json_object *spec = NULL;
                _cleanup_free_ char *text = NULL;

                ASSERT_OK(spec_of(&spec, NULL, WORDS("update", "web", t->option)));
                ASSERT_OK(service_part_to_text(t->field, json_object_object_get(spec, t->field), &text));
                ASSERT_STREQ(text, t->text);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_port_option), cmocka_unit_test(test_port_ranges_are_bounded),
                cmocka_unit_test(test_env_file), cmocka_unit_test(test_command_line_split),
                cmocka_unit_test(test_options_reach_every_field), cmocka_unit_test(test_hooks),
                cmocka_unit_test(test_job), cmocka_unit_test(test_health_check_as_a_whole),
                cmocka_unit_test(test_parts_are_shown_as_they_are_given),
                cmocka_unit_test(test_update_sends_only_what_was_given),
                cmocka_unit_test(test_command_in_parts), cmocka_unit_test(test_command_behind_dashes),
                cmocka_unit_test(test_bad_values_name_the_option))
