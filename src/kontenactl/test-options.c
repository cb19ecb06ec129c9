/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"
#include "string-util.h"
#include "test.h"

static int parse(Arguments *a, KError *e, const char *line) {
        static char buffer[512];
        static char *argv[64];
        int argc = 0;

        /* Words of argv live as long as the arguments. */
        (void) snprintf(buffer, sizeof(buffer), "kontenactl %s", line);
        for (char *p = buffer; p && argc < 63;) {
                argv[argc++] = p;
                p = strchr(p, ' ');
                if (p)
                        *p++ = '\0';
        }
        argv[argc] = NULL;
        return arguments_parse(argc, argv, a, e);
}

/* "audit" is "audit list"; another of its commands is still its own. */
static void test_arguments_group_by_itself(void **state) {
        static const char *const lines[] = { "audit", "audit --json=short", "audit --since=-1h",
                "audit -f -n 3", "-g demo audit", "audit list" };
        _cleanup_arguments_ Arguments other = {}, none = {};

        FOREACH_ARRAY(l, lines, ELEMENTSOF(lines)) {
                _cleanup_arguments_ Arguments a = {};

                ASSERT_OK(parse(&a, NULL, *l));
                ASSERT_STREQ(a.command->group, "audit");
                ASSERT_STREQ(a.command->name, "list");
        }
        ASSERT_OK(parse(&other, NULL, "audit --json=short verify"));
        ASSERT_STREQ(other.command->name, "verify");
        ASSERT_TRUE(parse(&none, NULL, "service") < 0);
        ASSERT_TRUE(parse(&none, NULL, "audit --anchor=x") < 0);
}

static void test_arguments_options_stand_anywhere(void **state) {
        static const char *const lines[] = {
                "-g demo service scale web 3 --timeout=5s",
                "service -g demo scale --timeout 5s web 3",
                "service scale web --grid=demo 3 --timeout=5s",
                "service scale web 3 -gdemo --timeout=5s",
                "service scale --timeout=5s -g demo -- web 3",
        };

        FOREACH_ARRAY(l, lines, ELEMENTSOF(lines)) {
                _cleanup_arguments_ Arguments a = {};
                _cleanup_kerror_ KError e = KERROR_NULL;

                ASSERT_OK(parse(&a, &e, *l));
                ASSERT_STREQ(a.command->group, "service");
                ASSERT_STREQ(a.command->name, "scale");
                ASSERT_EQ(a.n_args, 2);
                ASSERT_STREQ(arguments_arg(&a, 0), "web");
                ASSERT_STREQ(arguments_arg(&a, 1), "3");
                ASSERT_STREQ(arguments_get(&a, "grid"), "demo");
                ASSERT_STREQ(arguments_get(&a, "timeout"), "5s");
        }
}

static void test_arguments_letters_of_a_command_win(void **state) {
        _cleanup_arguments_ Arguments create = {}, list = {};
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(parse(&create, &e, "service create web nginx -l db -ql cache"));
        ASSERT_STREQ(arguments_get(&create, "link"), "cache");
        ASSERT_TRUE(arguments_has(&create, "quiet"));
        ASSERT_FALSE(arguments_has(&create, "full"));
        ASSERT_OK(parse(&list, &e, "service ls -lq"));
        ASSERT_TRUE(arguments_has(&list, "full"));
        ASSERT_STREQ(list.command->name, "list");
}

static void test_arguments_rest_is_the_command_of_the_container(void **state) {
        _cleanup_arguments_ Arguments a = {};
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(parse(&a, &e, "service create web busybox -e A=1 -- sh -c true --help"));
        ASSERT_EQ(a.n_args, 2);
        ASSERT_EQ(strv_length(a.rest), 4);
        ASSERT_STREQ(a.rest[3], "--help");
        ASSERT_FALSE(a.help);
}

static void test_arguments_behind_an_instance_are_the_commands(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Arguments a = {};

        ASSERT_OK(parse(&a, &e, "exec -it --user=app web-1 ls -la --help"));
        ASSERT_EQ(a.n_args, 1);
        ASSERT_EQ(a.n_given, 3);
        ASSERT_FALSE(a.help);
        ASSERT_EQ(strv_length(a.rest), 3);
        ASSERT_STREQ(a.rest[1], "-la");
        arguments_done(&a);
        a = (Arguments){};
        ASSERT_OK(parse(&a, &e, "exec web-1 -- sh -- -c"));
        ASSERT_EQ(strv_length(a.rest), 3);
        ASSERT_STREQ(a.rest[0], "sh");
        arguments_done(&a);
        a = (Arguments){};
        ASSERT_OK(parse(&a, &e, "exec web-1"));
        ASSERT_TRUE(!a.rest || !a.rest[0]);
        arguments_done(&a);
        a = (Arguments){};
        ASSERT_ERROR(parse(&a, &e, "exec -it"), EINVAL);
}

static void test_arguments_repeated_options_add_up(void **state) {
        _cleanup_arguments_ Arguments a = {};
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_strv_free_ char **l = NULL;

        ASSERT_OK(parse(&a, &e, "service create web nginx -p 80:80 --ports=81:81 -p82:82"));
        ASSERT_OK(arguments_get_all(&a, "ports", &l, &e));
        ASSERT_EQ(strv_length(l), 3);
        ASSERT_STREQ(l[0], "80:80");
        ASSERT_STREQ(l[2], "82:82");
}

static void test_arguments_old_spellings_work(void **state) {
        _cleanup_arguments_ Arguments a = {};
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(parse(&a, &e, "service create web nginx --wait-for-port=80 --min-health=0.5"));
        ASSERT_STREQ(arguments_get(&a, "deploy-wait-for-port"), "80");
        ASSERT_STREQ(arguments_get(&a, "deploy-min-health"), "0.5");
}

static void test_arguments_wrong_usage_is_one_specific_line(void **state) {
        static const struct {
                const char *line, *message;
        } table[] = {
                { "deploy", "kontenactl deploy needs one of: list, show, cancel" },
                { "gird list", "kontenactl has no command 'gird'; did you mean 'grid'?" },
                { "zzzzzz", "kontenactl has no command 'zzzzzz'; see kontenactl --help." },
                { "service scael web 3",
                                "kontenactl service has no command 'scael'; did you mean 'scale'?" },
                { "service scale", "kontenactl service scale: SERVICE is missing; usage: kontenactl service "
                                   "scale SERVICE COUNT" },
                { "service scale web", "kontenactl service scale: COUNT is missing; usage: kontenactl "
                                       "service scale SERVICE COUNT" },
                { "service scale web 3 4", "kontenactl service scale: '4' is too much; usage: kontenactl "
                                           "service scale SERVICE COUNT" },
                { "status now", "kontenactl status: 'now' is too much; usage: kontenactl status" },
                { "service create web", "kontenactl service create: IMAGE is missing; usage: kontenactl "
                                        "service create NAME IMAGE [-- "
                                        "COMMAND...]" },
                { "service list --jsno=off",
                                "kontenactl service list has no option --jsno; did you mean --json?" },
                { "service list --zzzzzzz", "kontenactl service list has no option --zzzzzzz; see "
                                            "kontenactl service list --help." },
                { "service list -Z", "kontenactl service list has no option -Z; see kontenactl service list "
                                     "--help." },
                { "service list --json", "kontenactl service list: --json needs a value: --json=MODE" },
                { "service list -g", "kontenactl service list: -g needs a value: -g GRID" },
                { "service list --quiet=yes", "kontenactl service list: --quiet takes no value." },
                { "node label", "kontenactl node label: NODE is missing; usage: kontenactl node label NODE "
                                "[LABEL|KEY-]..." },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_arguments_ Arguments a = {};
                _cleanup_kerror_ KError e = KERROR_NULL;

                ASSERT_TRUE(parse(&a, &e, t->line) < 0);
                ASSERT_STREQ(kerror_message(&e), t->message);
                ASSERT_EQ(kerror_exit_status(e.code), 2);
                ASSERT_TRUE(!strchr(kerror_message(&e), '\n'));
        }
}

static void test_arguments_help_wins_over_missing_ones(void **state) {
        _cleanup_arguments_ Arguments a = {};
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(parse(&a, &e, "service scale --help"));
        ASSERT_TRUE(a.help);
}

static void test_command_tables_are_sound(void **state) {
        FOREACH_COMMAND(c) {
                ASSERT_TRUE(c->run);
                ASSERT_TRUE(!isempty(c->help));
                ASSERT_TRUE(c->args_min <= c->args_max);

                /* No letter and no name twice within one command. */
                for (size_t i = 0; i < OPTION_TABLES_MAX; i++)
                        for (const OptionDef *o = c->options[i]; o && o->name; o++) {
                                unsigned letters = 0, names = 0;

                                for (size_t k = 0; k < OPTION_TABLES_MAX; k++)
                                        for (const OptionDef *p = c->options[k]; p && p->name; p++) {
                                                letters += o->letter && p->letter == o->letter;
                                                names += streq(p->name, o->name) ||
                                                         streq_ptr(p->alias, o->name);
                                        }
                                ASSERT_TRUE(letters <= 1);
                                ASSERT_EQ(names, 1);
                        }
        }
}

KONTENA_TESTS(cmocka_unit_test(test_arguments_group_by_itself),
                cmocka_unit_test(test_arguments_options_stand_anywhere),
                cmocka_unit_test(test_arguments_letters_of_a_command_win),
                cmocka_unit_test(test_arguments_rest_is_the_command_of_the_container),
                cmocka_unit_test(test_arguments_behind_an_instance_are_the_commands),
                cmocka_unit_test(test_arguments_repeated_options_add_up),
                cmocka_unit_test(test_arguments_old_spellings_work),
                cmocka_unit_test(test_arguments_wrong_usage_is_one_specific_line),
                cmocka_unit_test(test_arguments_help_wins_over_missing_ones),
                cmocka_unit_test(test_command_tables_are_sound))
