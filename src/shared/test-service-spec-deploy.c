/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "service-spec-internal.h"
#include "test.h"

/* fields: what stands behind the image, with single quotes for double ones. */
static json_object *json(const char *fields) {
        _cleanup_free_ char *text = strprintf("{\"image\":\"a\"%s%s}", fields[0] ? "," : "", fields);
        json_object *o = NULL;

        for (char *p = text; *p; p++)
                if (*p == '\'')
                        *p = '"';
        ASSERT_OK(json_parse(text, strlen(text), 16 * 1024 * 1024, &o, NULL));
        return o;
}

static int parse(const char *fields, ServiceSpec **ret, KError *e) {
        _cleanup_json_ json_object *o = json(fields);

        return service_spec_parse(o, ret, e);
}

/* One group of fields, without what refuses those that no node carries out yet. */
static ServiceSpec *part(int (*parser)(json_object *o, ServiceSpec *s, KError *reterr), const char *fields) {
        _cleanup_json_ json_object *o = json(fields);
        _cleanup_kerror_ KError e = KERROR_NULL;
        ServiceSpec *s = new0(ServiceSpec, 1);

        ASSERT_TRUE(s);
        if (parser(o, s, &e) < 0)
                fail_msg("%s: %s", fields, kerror_message(&e));
        return s;
}

static ServiceSpec *spec(const char *fields) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        ServiceSpec *s = NULL;

        if (parse(fields, &s, &e) < 0)
                fail_msg("%s: %s", fields, kerror_message(&e));
        return s;
}

static void test_defaults_of_a_deploy(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = spec(""), *stateful = spec("'stateful':true"),
                                                  *host = spec("'net':'host'"),
                                                  *stop = spec("'deploy_order':'stop-first'");

        ASSERT_EQ(s->drain_sec, 5);
        ASSERT_EQ(s->pull, PULL_ALWAYS);
        ASSERT_EQ(s->runtime, RUNTIME_OCI);
        ASSERT_EQ(s->health_check.protocol, HEALTH_NONE);
        ASSERT_FALSE(s->notify);
        ASSERT_FALSE(s->job);
        ASSERT_EQ(s->n_hooks, 0);
        ASSERT_EQ(s->n_secrets, 0);
        ASSERT_TRUE(!s->systemd);

        ASSERT_TRUE(service_spec_start_first(s));
        ASSERT_FALSE(service_spec_start_first(stateful));
        ASSERT_FALSE(service_spec_start_first(host));
        ASSERT_FALSE(service_spec_start_first(stop));
        ASSERT_EQ(service_spec_on_failure(s), ON_FAILURE_ROLLBACK);
        ASSERT_EQ(service_spec_on_failure(stateful), ON_FAILURE_PAUSE);
}

static void test_everything_of_a_deploy(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = spec(
                        "'deploy_order':'start-first','on_failure':'continue','drain':0,'notify':false,"
                        "'pull':'missing','type':'service','retries':0,'schedule':null,'runtime':'oci'");
        _cleanup_(service_spec_freep)
                        ServiceSpec *stateful = spec("'stateful':true,'on_failure':'rollback'"),
                                    *notify = part(spec_parse_deploy, "'notify':true");

        ASSERT_EQ(s->deploy_order, DEPLOY_START_FIRST);
        ASSERT_EQ(service_spec_on_failure(s), ON_FAILURE_CONTINUE);
        ASSERT_EQ(service_spec_on_failure(stateful), ON_FAILURE_ROLLBACK);
        ASSERT_EQ(s->drain_sec, 0);
        ASSERT_FALSE(s->notify);
        ASSERT_TRUE(notify->notify);
        ASSERT_EQ(s->pull, PULL_MISSING);
}

static void test_machines_boot_or_run_a_command(void **state) {
        _cleanup_(service_spec_freep)
                        ServiceSpec *boots = spec("'runtime':'nspawn','stop_signal':'SIGRTMIN+3'"),
                                    *runs = spec("'runtime':'nspawn','cmd':['a'],'working_dir':'/',"
                                                 "'health_check':{'protocol':'exec','command':['a']}"),
                                    *container = spec("'runtime':'oci'");

        ASSERT_EQ(boots->runtime, RUNTIME_NSPAWN);
        ASSERT_TRUE(service_spec_boots(boots));
        ASSERT_FALSE(service_spec_boots(runs));
        ASSERT_FALSE(service_spec_boots(container));
        ASSERT_TRUE(service_spec_start_first(boots));
}

static void test_health_check(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *
                        http = part(spec_parse_health_check, "'health_check':{'protocol':'http','port':80}"),
                       *tcp = part(spec_parse_health_check, "'health_check':{'protocol':'tcp','port':6379,'"
                                                            "timeout':1,'interval':1,"
                                                            "'initial_delay':0,'retries':3}"),
                       *exec = part(spec_parse_health_check,
                                       "'health_check':{'protocol':'exec','command':['/bin/ok','-"
                                       "x']}"),
                       *none = spec("'health_check':null");

        ASSERT_EQ(http->health_check.protocol, HEALTH_HTTP);
        ASSERT_STREQ(http->health_check.uri, "/");
        ASSERT_EQ(http->health_check.timeout_sec, 10);
        ASSERT_EQ(http->health_check.interval_sec, 60);
        ASSERT_EQ(http->health_check.initial_delay_sec, 10);
        ASSERT_EQ(http->health_check.retries, 1);

        ASSERT_EQ(tcp->health_check.protocol, HEALTH_TCP);
        ASSERT_EQ(tcp->health_check.port, 6379);
        ASSERT_EQ(tcp->health_check.timeout_sec, 1);
        ASSERT_EQ(tcp->health_check.interval_sec, 1);
        ASSERT_EQ(tcp->health_check.initial_delay_sec, 0);
        ASSERT_EQ(tcp->health_check.retries, 3);

        ASSERT_EQ(exec->health_check.protocol, HEALTH_EXEC);
        ASSERT_STREQ(exec->health_check.command[1], "-x");
        ASSERT_EQ(none->health_check.protocol, HEALTH_NONE);
}

static void test_hooks(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = part(spec_parse_hooks,
                        "'hooks':{'pre_stop':[{'name':'bye','cmd':'sync','timeout':5}],"
                        "'pre_start':[{'name':'migrate','cmd':'rake db','instances':'1, 3','oneshot':true},"
                        "{'name':'bye','cmd':'true','instances':'*'}]}");
        _cleanup_free_ char *id = hook_id(s->hooks), *last = hook_id(s->hooks + 2);

        ASSERT_EQ(s->n_hooks, 3);
        ASSERT_STREQ(id, "pre_start/migrate");
        ASSERT_STREQ(last, "pre_stop/bye");
        ASSERT_TRUE(s->hooks[0].oneshot);
        ASSERT_TRUE(hook_concerns(s->hooks, 1));
        ASSERT_FALSE(hook_concerns(s->hooks, 2));
        ASSERT_TRUE(hook_concerns(s->hooks, 3));
        ASSERT_TRUE(hook_concerns(s->hooks + 1, 2));
        ASSERT_STREQ(s->hooks[2].cmd, "sync");
        ASSERT_FALSE(s->hooks[2].oneshot);
        ASSERT_EQ(s->hooks[0].timeout_sec, 60);
        ASSERT_EQ(s->hooks[2].timeout_sec, 5);
        ASSERT_EQ(service_spec_hooks_sec(s), 125);
}

static void test_next_hook(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = part(spec_parse_hooks,
                        "'hooks':{'pre_start':[{'name':'a','cmd':'1','oneshot':true},"
                        "{'name':'b','cmd':'2','instances':'2'},{'name':'c','cmd':'3'}],"
                        "'pre_stop':[{'name':'a','cmd':'4'}]}");
        char *const done[] = { (char *) "pre_start/a", (char *) "pre_start/c", NULL };
        const Hook *h;

        h = service_spec_next_hook(s, HOOK_PRE_START, 1, NULL, NULL);
        ASSERT_STREQ(h->cmd, "1");
        h = service_spec_next_hook(s, HOOK_PRE_START, 1, NULL, h);
        ASSERT_STREQ(h->cmd, "3");
        ASSERT_TRUE(!service_spec_next_hook(s, HOOK_PRE_START, 1, NULL, h));
        /* "c" is not oneshot: that it was done once says nothing. */
        h = service_spec_next_hook(s, HOOK_PRE_START, 2, done, NULL);
        ASSERT_STREQ(h->cmd, "2");
        h = service_spec_next_hook(s, HOOK_PRE_START, 2, done, h);
        ASSERT_STREQ(h->cmd, "3");
        ASSERT_STREQ(service_spec_next_hook(s, HOOK_PRE_STOP, 1, done, NULL)->cmd, "4");
        ASSERT_TRUE(!service_spec_next_hook(s, HOOK_POST_START, 1, NULL, NULL));
}

/* Two secrets under one name are joined, so that is no mistake. */
static void test_secrets(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = spec(
                        "'secrets':[{'secret':'db','name':'DB_PASSWORD'},{'secret':'cert','name':'tls.pem',"
                        "'type':'file'},{'secret':'key','name':'tls.pem','type':'file'}]");

        ASSERT_EQ(s->n_secrets, 3);
        ASSERT_EQ(s->secrets[0].type, SECRET_ENV);
        ASSERT_STREQ(s->secrets[0].name, "DB_PASSWORD");
        ASSERT_EQ(s->secrets[1].type, SECRET_FILE);
        ASSERT_STREQ(s->secrets[2].secret, "key");
}

static void test_unit_settings_are_sorted(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = spec("'systemd':{'IOWeight':'50','CPUWeight':200}");

        ASSERT_EQ(strv_length(s->systemd), 2);
        ASSERT_STREQ(s->systemd[0], "CPUWeight=200");
        ASSERT_STREQ(s->systemd[1], "IOWeight=50");
}

static void test_job(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = spec("'type':'job','count':3,'retries':100,"
                                                            "'schedule':'Mon..Fri 06:30 Europe/Helsinki',"
                                                            "'strategy':'daemon','drain':0"),
                                                  *by_hand = spec("'type':'job'");

        ASSERT_TRUE(s->job);
        ASSERT_EQ(s->retries, 100);
        ASSERT_STREQ(s->schedule, "Mon..Fri 06:30 Europe/Helsinki");
        ASSERT_TRUE(by_hand->job && !by_hand->schedule);
        ASSERT_EQ(by_hand->retries, 0);
        ASSERT_FALSE(service_spec_start_first(by_hand));
}

static void test_type_is_fixed(void **state) {
        _cleanup_json_ json_object *base = json_tokener_parse("{\"image\":\"a\",\"type\":\"job\"}"),
                                   *changes = json_tokener_parse("{\"type\":null}"), *after = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_TRUE(service_spec_update(base, changes, &after, &e) < 0);
        ASSERT_STREQ(kerror_message(&e), "'type' cannot change after a service was created.");
}

static void test_what_is_refused_and_why(void **state) {
        static const struct {
                const char *fields, *why;
                KErrorCode code;
        } table[] = {
                { "'deploy_order':'first'", "'deploy_order' must be", K_INVALID_ARGUMENT },
                { "'deploy_order':'start-first','stateful':true", "'stateful'", K_INVALID_ARGUMENT },
                { "'deploy_order':'start-first','net':'host'", "'net' host", K_INVALID_ARGUMENT },
                { "'on_failure':'stop'", "'on_failure' must be", K_INVALID_ARGUMENT },
                { "'drain':3601", "'drain' must be between 0 and 3600", K_INVALID_ARGUMENT },
                { "'notify':1", "notify", K_INVALID_ARGUMENT },
                { "'pull':'often'", "'pull' must be", K_INVALID_ARGUMENT },
                { "'type':'cron'", "'type' must be", K_INVALID_ARGUMENT },
                { "'retries':1", "'retries' is for 'type' job", K_INVALID_ARGUMENT },
                { "'retries':101", "between 0 and 100", K_INVALID_ARGUMENT },
                { "'schedule':'daily'", "'schedule' is for 'type' job", K_INVALID_ARGUMENT },
                { "'type':'job','stateful':true", "'stateful' cannot go with", K_INVALID_ARGUMENT },
                { "'type':'job','interval':5", "'interval' cannot go with", K_INVALID_ARGUMENT },
                { "'type':'job','wait_for_port':80", "'wait_for_port' cannot go with", K_INVALID_ARGUMENT },
                { "'type':'job','deploy_order':'stop-first'", "'deploy_order' cannot go with",
                                K_INVALID_ARGUMENT },
                { "'type':'job','on_failure':'pause'", "'on_failure' cannot go with", K_INVALID_ARGUMENT },
                { "'type':'job','schedule':'a\\u0001b'", "control characters", K_INVALID_ARGUMENT },
                { "'runtime':'nspawn','user':'www'", "'user' cannot be set with 'runtime' nspawn",
                                K_NOT_SUPPORTED },
                { "'runtime':'nspawn','pid':'host'", "'pid' cannot", K_NOT_SUPPORTED },
                { "'runtime':'nspawn','notify':true", "'notify' cannot", K_NOT_SUPPORTED },
                { "'runtime':'nspawn','hooks':{'pre_stop':[{'name':'a','cmd':'b'}]}", "'hooks' cannot",
                                K_NOT_SUPPORTED },
                { "'runtime':'nspawn','cap_add':['NET_ADMIN']", "'cap_add' cannot", K_NOT_SUPPORTED },
                { "'runtime':'nspawn','working_dir':'/'", "'working_dir' cannot", K_NOT_SUPPORTED },
                { "'runtime':'nspawn','env':['A=1','B=c\\nd']", "unlike 'B'", K_NOT_SUPPORTED },
                { "'runtime':'nspawn','volumes':['data://etc/./']", "'volumes' cannot have",
                                K_NOT_SUPPORTED },
                { "'runtime':'nspawn','volumes':['data:/etc']", "'volumes' cannot have '/etc'",
                                K_NOT_SUPPORTED },
                { "'runtime':'nspawn','volumes':['/a:/b:rshared']", "cannot propagate mounts",
                                K_NOT_SUPPORTED },
                { "'runtime':'kvm'", "must be oci or nspawn", K_INVALID_ARGUMENT },

                { "'health_check':{}", "'health_check': ", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'udp'}", "must be http, tcp or exec", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'http'}", "http needs 'port'", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'tcp','port':65536}", "'port' must be", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'tcp','port':1,'uri':'/'}", "only for the protocol http",
                                K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'http','port':1,'uri':'up'}", "begin with '/'",
                                K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'http','port':1,'uri':'/a b'}", "%XX", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'http','port':1,'uri':'/a\\r\\nX: y'}", "%XX",
                                K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'http','port':1,'command':['a']}",
                                "only for the protocol exec", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'exec'}", "needs 'command'", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'exec','command':[]}", "needs 'command'", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'exec','command':['a'],'port':1}", "not for the protocol exec",
                                K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'tcp','port':1,'timeout':61}",
                                "'interval' (60 s) cannot be below 'timeout' (61 s)", K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'tcp','port':1,'timeout':0}", "'timeout' must be",
                                K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'tcp','port':1,'retries':0}", "'retries' must be",
                                K_INVALID_ARGUMENT },
                { "'health_check':{'protocol':'tcp','port':1,'tries':1}", "no setting 'tries'",
                                K_INVALID_ARGUMENT },
                { "'net':'host','health_check':{'protocol':'tcp','port':1}", "'net' bridge",
                                K_INVALID_ARGUMENT },

                { "'hooks':{'start':[]}", "no setting 'start'", K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[1]}", "must be an object", K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'cmd':'a'}]}", "'hooks' of pre_start", K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a/b','cmd':'a'}]}", "name of a hook", K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a','cmd':''}]}", "'cmd' of hook 'a'", K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a','cmd':'b','instances':'0'}]}", "numbers from 1",
                                K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a','cmd':'b','instances':','}]}", "names 0 instances",
                                K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a','cmd':'b'},{'name':'a','cmd':'c'}]}",
                                "two hooks with the name 'a'", K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a','cmd':'b','timeout':0}]}",
                                "'timeout' of hook 'a' must be", K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a','cmd':'b','timeout':3601}]}", "1 to 3600 seconds",
                                K_INVALID_ARGUMENT },
                { "'hooks':{'pre_start':[{'name':'a','cmd':'b','timeout':'1m'}]}", "timeout",
                                K_INVALID_ARGUMENT },

                { "'secrets':['a']", "list of objects", K_INVALID_ARGUMENT },
                { "'secrets':[{'secret':'a'}]", "name", K_INVALID_ARGUMENT },
                { "'secrets':[{'secret':'a/b','name':'A'}]", "'secret' is not", K_INVALID_ARGUMENT },
                { "'secrets':[{'secret':'a','name':'A=B'}]", "not the name of a variable",
                                K_INVALID_ARGUMENT },
                { "'secrets':[{'secret':'a','name':'1A'}]", "not the name of a variable",
                                K_INVALID_ARGUMENT },
                { "'secrets':[{'secret':'a','name':'../A','type':'file'}]", "not the name of a file",
                                K_INVALID_ARGUMENT },
                { "'secrets':[{'secret':'a','name':'A','type':'fd'}]", "must be env or file",
                                K_INVALID_ARGUMENT },
                { "'secrets':[{'secret':'a','name':'A'},{'secret':'a','name':'A','type':'env'}]",
                                "given twice", K_INVALID_ARGUMENT },

                { "'systemd':{'ExecStart':'/bin/sh'}", "no property 'ExecStart', but: AllowedCPUs, ",
                                K_INVALID_ARGUMENT },
                { "'systemd':{'cpuweight':'1'}", "'CPUWeight' is meant", K_INVALID_ARGUMENT },
                { "'systemd':{'CPUWeight':'0'}",
                                "'CPUWeight' of 'systemd' is a whole number between 1 and 10000, not '0'",
                                K_INVALID_ARGUMENT },
                { "'systemd':{'CPUWeight':[]}", "must be a text or a whole number", K_INVALID_ARGUMENT },
                { "'systemd':{'CPUWeight':null}", "must be a text or a whole number", K_INVALID_ARGUMENT },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                ServiceSpec *s = NULL;

                if (parse(t->fields, &s, &e) >= 0)
                        fail_msg("accepted: %s", t->fields);
                ASSERT_TRUE(!s);
                if (e.code != t->code || !strstr(kerror_message(&e), t->why))
                        fail_msg("%s: '%s' does not say '%s'", t->fields, kerror_message(&e), t->why);
        }
}

static void test_too_many_hooks_and_secrets_are_refused(void **state) {
        _cleanup_free_ char *hooks = strdup(""), *secrets = strdup(""), *h = NULL, *s = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL, f = KERROR_NULL;
        ServiceSpec *parsed = NULL;

        for (unsigned i = 0; i <= HOOKS_MAX; i++) {
                _cleanup_free_ char *before = TAKE_PTR(hooks);

                hooks = strprintf("%s%s{'name':'h%u','cmd':'a'}", before, i > 0 ? "," : "", i);
        }
        h = strprintf("'hooks':{'post_start':[%s]}", hooks);
        ASSERT_TRUE(parse(h, &parsed, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);

        for (unsigned i = 0; i <= LIST_ENTRIES_MAX; i++) {
                _cleanup_free_ char *before = TAKE_PTR(secrets);

                secrets = strprintf("%s%s{'secret':'s%u','name':'A'}", before, i > 0 ? "," : "", i);
        }
        s = strprintf("'secrets':[%s]", secrets);
        ASSERT_TRUE(parse(s, &parsed, &f) < 0);
        ASSERT_EQ(f.code, K_LIMIT_EXCEEDED);
}

KONTENA_TESTS(cmocka_unit_test(test_defaults_of_a_deploy), cmocka_unit_test(test_everything_of_a_deploy),
                cmocka_unit_test(test_machines_boot_or_run_a_command), cmocka_unit_test(test_health_check),
                cmocka_unit_test(test_hooks), cmocka_unit_test(test_next_hook),
                cmocka_unit_test(test_secrets), cmocka_unit_test(test_unit_settings_are_sorted),
                cmocka_unit_test(test_job), cmocka_unit_test(test_type_is_fixed),
                cmocka_unit_test(test_what_is_refused_and_why),
                cmocka_unit_test(test_too_many_hooks_and_secrets_are_refused))
