/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "test.h"

/* A bus that is connected to nobody: messages can be made, sealed and read. */
static sd_bus *fake_bus(void) {
        sd_bus *bus;
        int fds[2];

        ASSERT_TRUE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) >= 0);
        ASSERT_OK(sd_bus_new(&bus));
        ASSERT_OK(sd_bus_set_fd(bus, fds[0], fds[0]));
        ASSERT_OK(sd_bus_start(bus));
        return bus;
}

/* What is asked of systemd beside the instance's unit, as text; dependencies: what goes into that one. */
static char *dump(bool with_output, bool dependencies) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(unit_setup_done) UnitSetup s = UNIT_SETUP_NULL;
        _cleanup_(sd_bus_unrefp) sd_bus *bus = fake_bus();
        char *text = NULL;
        size_t size;
        FILE *f;

        s.description = strdup("Instance");
        s.slice = strdup("kontena-g.slice");
        s.identifier = strdup("web-2");
        ASSERT_OK(strv_extend(&s.log_fields, "KONTENA_SERVICE=web"));
        if (with_output)
                ASSERT_OK(output_setup("abc-7", "/run/i/abc/7", &s));

        ASSERT_OK(sd_bus_message_new_method_call(bus, &m, "a.b", "/", "a.b", "C"));
        if (dependencies) {
                ASSERT_OK(sd_bus_message_open_container(m, 'a', "(sv)"));
                ASSERT_OK(output_append_dependencies(&s, m));
                ASSERT_OK(sd_bus_message_close_container(m));
        } else
                ASSERT_OK(output_append_units(&s, "kontena-g-null.web-2.service", m));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        f = open_memstream(&text, &size);
        ASSERT_OK(sd_bus_message_dump(m, f, SD_BUS_MESSAGE_DUMP_SUBTREE_ONLY));
        fclose(f);
        return text;
}

static void test_socket_and_reader_are_asked_for(void **state) {
        _cleanup_free_ char *text = dump(true, false);
        char *reader = strstr(text, "\"kontena-output@abc-7.service\""),
             *socket = strstr(text, "\"kontena-output@abc-7.socket\"");

        ASSERT_TRUE(socket && reader && socket < reader);
        ASSERT_TRUE(strstr(reader, "\"/run/i/abc/7/output\"")); /* opened to read only: it has an end */
        ASSERT_TRUE(strstr(reader, "\"LogExtraFields\"") && strstr(reader, "\"NoNewPrivileges\""));
        ASSERT_TRUE(strstr(reader, "\"web-2\""));

        *reader = '\0';
        ASSERT_TRUE(strstr(socket, "\"FIFO\"") && strstr(socket, "\"/run/i/abc/7/output\""));
        ASSERT_TRUE(strstr(socket,
                        "\"StopWhenUnneeded\"")); /* goes with the instance, whatever happens to us */
}

static void test_instance_wants_its_socket_first(void **state) {
        _cleanup_free_ char *text = dump(true, true);

        ASSERT_TRUE(strstr(text, "\"Wants\"") && strstr(text, "\"After\""));
        ASSERT_TRUE(strstr(text, "\"kontena-output@abc-7.socket\""));
        ASSERT_TRUE(!strstr(text, "\"Requires\"")); /* without it the container works as well */
}

static void test_none_is_asked_for(void **state) {
        _cleanup_free_ char *units = dump(false, false), *dependencies = dump(false, true);

        ASSERT_TRUE(!strstr(units, "STRING") && !strstr(dependencies, "STRING"));
}

/* systemd takes one that is there only if it has the very mode. */
static void test_fifo_is_writable_by_all_whatever_the_umask(void **state) {
        char directory[] = "/tmp/test-output.XXXXXX";
        _cleanup_free_ char *path = NULL;
        struct stat st;
        mode_t old;

        ASSERT_TRUE(mkdtemp(directory));
        path = strjoin(directory, "/" OUTPUT_FIFO);
        old = umask(0077);
        ASSERT_OK(output_make(directory));
        ASSERT_OK(output_make(directory)); /* again, for the next start of the same container */
        (void) umask(old);
        ASSERT_TRUE(stat(path, &st) >= 0);
        ASSERT_TRUE(S_ISFIFO(st.st_mode));
        ASSERT_EQ(st.st_mode & 0777, 0622);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
        ASSERT_ERROR(output_make(directory), ENOENT);
}

KONTENA_TESTS(cmocka_unit_test(test_socket_and_reader_are_asked_for),
                cmocka_unit_test(test_instance_wants_its_socket_first),
                cmocka_unit_test(test_none_is_asked_for),
                cmocka_unit_test(test_fifo_is_writable_by_all_whatever_the_umask))
