/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "conf-parser.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"

typedef struct Settings {
        char *name, *path;
        char **list;
        bool on;
        uint32_t number;
        uint16_t port;
        uint64_t size, time;
        int level;
        char *registries; /* "section key=value;" */
} Settings;

static int set_registry(const ConfSource *where, const char *value, void *field) {
        char **to = field,
             *more = strprintf("%s%s %s=%s;", strempty(*to), where->section, where->key, value);

        free(*to);
        *to = more;
        return *to ? 0 : -ENOMEM;
}

static const ConfItem items[] = {
        { "Main", "Name", conf_set_string, offsetof(Settings, name) },
        { "Main", "Path", conf_set_path, offsetof(Settings, path) },
        { "Main", "List", conf_set_strv, offsetof(Settings, list) },
        { "Main", "On", conf_set_bool, offsetof(Settings, on) },
        { "Main", "Number", conf_set_u32, offsetof(Settings, number) },
        { "Main", "Port", conf_set_port, offsetof(Settings, port) },
        { "Main", "Size", conf_set_size, offsetof(Settings, size) },
        { "Main", "Time", conf_set_sec, offsetof(Settings, time) },
        { "Main", "LogLevel", conf_set_log_level, offsetof(Settings, level) },
        { "Registry *", "User", set_registry, offsetof(Settings, registries) },
};

typedef struct Bench {
        char *directory, *etc, *lib;
        Settings s;
        unsigned warnings;
        char last[512];
} Bench;

static int setup(void **state) {
        char template[] = "/tmp/kontena-conf-XXXXXX";
        Bench *b = new0(Bench, 1);

        b->directory = strdup(mkdtemp(template));
        b->etc = strjoin(b->directory, "/etc");
        b->lib = strjoin(b->directory, "/lib");
        *state = b;
        return 0;
}

static void forget(Bench *b) {
        free(b->s.name);
        free(b->s.path);
        strv_free(b->s.list);
        free(b->s.registries);
        b->s = (Settings){};
        b->warnings = 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        forget(b);
        ASSERT_OK(rm_rf_at(AT_FDCWD, b->directory));
        free(b->directory);
        free(b->etc);
        free(b->lib);
        free(b);
        return 0;
}

static void put(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = strjoin(directory, "/", name), *parent = strdup(path);

        *strrchr(parent, '/') = '\0';
        ASSERT_OK(mkdir_p(parent, 0755));
        ASSERT_OK(write_file_atomic(path, text, strlen(text), 0644));
}

static void on_warning(const ConfSource *where, int r, const char *message, void *userdata) {
        Bench *b = userdata;

        b->warnings++;
        snprintf(b->last, sizeof(b->last), "%u:%s:%s", where->line, strempty(where->key), message);
}

static int load(Bench *b) {
        const char *const directories[] = { b->etc, b->lib, NULL };

        forget(b);
        return conf_read(directories, "x.conf", items, ELEMENTSOF(items), &b->s, on_warning, b);
}

static void test_values_of_all_kinds(void **state) {
        Bench *b = *state;

        put(b->etc, "x.conf",
                        "# comment\n"
                        "; another\n"
                        "[Main]\r\n"
                        "Name =  two words  \n"
                        "Path=/a/b\n"
                        "List=a b\n"
                        "List=c\\\n"
                        "# between\n"
                        "  d\n"
                        "On=yes\n"
                        "Number=42\n"
                        "Port=9292\n"
                        "Size=64M\n"
                        "Time=1min 30s\n"
                        "LogLevel=debug\n"
                        "[Registry reg:5000]\n"
                        "User=me\n"
                        "[X-Other]\n"
                        "Anything=1\n");
        ASSERT_OK(load(b));
        ASSERT_EQ(b->warnings, 0);
        ASSERT_STREQ(b->s.name, "two words");
        ASSERT_STREQ(b->s.path, "/a/b");
        ASSERT_EQ(strv_length(b->s.list), 4);
        ASSERT_STREQ(b->s.list[3], "d");
        ASSERT_TRUE(b->s.on);
        ASSERT_EQ(b->s.number, 42);
        ASSERT_EQ(b->s.port, 9292);
        ASSERT_EQ(b->s.size, 64 * 1024 * 1024);
        ASSERT_EQ(b->s.time, 90 * USEC_PER_SEC);
        ASSERT_EQ(b->s.level, LOG_DEBUG);
        ASSERT_STREQ(b->s.registries, "Registry reg:5000 User=me;");
}

static void test_odd_lines_are_warned_about_and_ignored(void **state) {
        static const struct {
                const char *text, *warning;
        } table[] = {
                { "[Main]\nColour=red\nName=x\n", "2:Colour:Unknown setting, ignored" },
                { "[Main]\nPort=0\nName=x\n", "2:Port:Invalid value, ignored" },
                { "[Main]\nPath=relative\nName=x\n", "2:Path:Invalid value, ignored" },
                { "[Main]\nnonsense\nName=x\n", "2::Not a Key=value line, ignored" },
                { "[Main]\n=x\nName=x\n", "2::Not a Key=value line, ignored" },
                { "[Main]\nName=\xff\xfe\nName=x\n", "2::Not valid UTF-8, ignored" },
                { "Name=y\n[Main]\nName=x\n", "1:Name:Setting outside of a section, ignored" },
                { "[Other]\nName=y\n[Main]\nName=x\n", "1::Unknown section, ignored" },
                { "[Broken\nName=y\n[Main]\nName=x\n", NULL },
        };
        Bench *b = *state;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                put(b->etc, "x.conf", t->text);
                ASSERT_OK(load(b));
                ASSERT_TRUE(b->warnings >= 1);
                if (t->warning)
                        ASSERT_STREQ(b->last, t->warning);
                ASSERT_STREQ(b->s.name, "x");
                ASSERT_EQ(b->s.port, 0);
        }
}

static void test_drop_ins_in_order(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *link = NULL;

        put(b->lib, "x.conf", "[Main]\nName=lib\nNumber=7\n");
        put(b->etc, "x.conf", "[Main]\nName=etc\nList=a\n");
        put(b->lib, "x.conf.d/10-a.conf", "[Main]\nName=ten\nPort=10\n");
        put(b->etc, "x.conf.d/20-b.conf", "[Main]\nName=twenty\nList=\nList=z\n");
        put(b->lib, "x.conf.d/20-b.conf", "[Main]\nName=hidden\nPort=99\n");
        put(b->lib, "x.conf.d/30-c.conf", "[Main]\nName=masked\n");
        put(b->etc, "x.conf.d/40-d.conf.bak", "[Main]\nName=backup\n");
        link = strjoin(b->etc, "/x.conf.d/30-c.conf");
        ASSERT_EQ(symlink("/dev/null", link), 0);

        ASSERT_OK(load(b));
        ASSERT_EQ(b->warnings, 0);
        ASSERT_STREQ(b->s.name, "twenty");
        ASSERT_EQ(b->s.number, 0); /* lib/x.conf is hidden by etc/x.conf */
        ASSERT_EQ(b->s.port, 10);
        ASSERT_EQ(strv_length(b->s.list), 1); /* reset, then z */
        ASSERT_STREQ(b->s.list[0], "z");
}

static void test_nothing_is_fine_and_too_much_is_not(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *big = calloc(1, CONF_FILE_SIZE_MAX + 2), *list = calloc(1, 4096);

        ASSERT_OK(load(b));

        memset(big, '#', CONF_FILE_SIZE_MAX + 1);
        put(b->etc, "x.conf", big);
        ASSERT_ERROR(load(b), EFBIG);

        snprintf(list, 4096, "[Main]\nList=");
        for (unsigned i = 0; i < LIST_ENTRIES_MAX + 1; i++)
                snprintf(list + strlen(list), 4096 - strlen(list), "e%u ", i);
        put(b->etc, "x.conf", list);
        ASSERT_OK(load(b));
        ASSERT_EQ(b->warnings, 1);
        ASSERT_EQ(strv_length(b->s.list), LIST_ENTRIES_MAX);
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_values_of_all_kinds, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_odd_lines_are_warned_about_and_ignored, setup, teardown),
                cmocka_unit_test_setup_teardown(test_drop_ins_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_is_fine_and_too_much_is_not, setup, teardown))
