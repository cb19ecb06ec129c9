/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "notify-socket.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

#define LITERAL(s) s, sizeof(s) - 1

static void test_messages(void **state) {
        static const struct {
                const char *text;
                size_t size;
                bool useful, ready;
                const char *status;
        } table[] = {
                { LITERAL("READY=1"), true, true, "" },
                { LITERAL("READY=1\n"), true, true, "" },
                { LITERAL("READY=1\0"), true, true, "" },
                { LITERAL("X=y\nSTATUS=half done\nREADY=1\n"), true, true, "half done" },
                { LITERAL("STATUS=half done"), true, false, "half done" },
                { LITERAL("STATUS=a\nSTATUS=b"), true, false, "b" },
                { LITERAL(""), false, false, "" },
                { LITERAL("\n\n\n"), false, false, "" },
                { LITERAL("READY=0"), false, false, "" },
                { LITERAL("READY=11"), false, false, "" },
                { LITERAL(" READY=1"), false, false, "" },
                { LITERAL("XREADY=1"), false, false, "" },
                { LITERAL("READY=1\0X=1"), false, false, "" },
                { LITERAL("STATUS="), false, false, "" },
                { LITERAL("STATUS=\x1b[2J"), false, false, "" },
                { LITERAL("STATUS=\xff\xfe"), false, false, "" },
                { LITERAL("MAINPID=1\nFDSTORE=1\nWATCHDOG=1\nSTOPPING=1"), false, false, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                NotifyMessage m = {};
                bool useful = notify_message_parse(table[i].text, table[i].size, &m);

                if (useful != table[i].useful || m.ready != table[i].ready ||
                                !streq(m.status, table[i].status))
                        fail_msg("row %zu: %i %i '%s'", i, useful, m.ready, m.status);
        }
}

static void test_status_is_cut_between_characters(void **state) {
        char text[8 + 2 * NOTIFY_STATUS_MAX] = "STATUS=x";
        NotifyMessage m = {};
        size_t n = 8;

        while (n + 2 <= sizeof(text)) {
                text[n++] = (char) 0xc3;
                text[n++] = (char) 0xa4;
        }
        ASSERT_TRUE(notify_message_parse(text, n, &m));
        ASSERT_EQ(strlen(m.status), NOTIFY_STATUS_MAX - 1);
        ASSERT_TRUE(string_is_printable(m.status));
}

static void test_sender_is_told_by_its_cgroup(void **state) {
        static const struct {
                const char *text;
                bool own;
        } table[] = {
                { "0::/kontena.slice/kontena-g.slice/a.service\n", true },
                { "0::/kontena.slice/kontena-g.slice/a.service/container/x", true },
                { "0::/../../a.service", true },
                { "3:cpu:/a.service\n0::/kontena.slice/a.service\n", true },
                { "3:cpu:/a.service\n0::/kontena.slice/b.service\n", false },
                { "0::/kontena.slice/b.service\n1:cpu:/a.service\n", false },
                { "0::/kontena.slice/a.service.b\n", false },
                { "0::/kontena.slice/xa.service\n", false },
                { "0::/\n", false },
                { "", false },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                if (notify_sender_is_of_unit(t->text, "a.service") != t->own)
                        fail_msg("%s", t->text);
}

typedef struct Fixture {
        char directory[32];
        char *path;
        sd_event *event;
        NotifySocket *socket;
        unsigned n, n_ready;
        pid_t sender;
        int client;
} Fixture;

static void on_message(NotifySocket *n, const NotifyMessage *m, pid_t sender, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->n_ready += m->ready;
        f->sender = sender;
}

static void connect_client(Fixture *f) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };

        safe_close(f->client);
        f->client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        ASSERT_TRUE(f->client >= 0);
        ASSERT_TRUE(snprintf(a.sun_path, sizeof(a.sun_path), "%s/" NOTIFY_NAME, f->path) <
                        (int) sizeof(a.sun_path));
        ASSERT_TRUE(connect(f->client, (struct sockaddr *) &a, sizeof(a)) >= 0);
}

static void open_fixture(Fixture *f) {
        int fd = -EBADF;

        *f = (Fixture){ .client = -EBADF };
        strncpy(f->directory, "/tmp/test-notify.XXXXXX", sizeof(f->directory));
        ASSERT_TRUE(mkdtemp(f->directory));
        /* Longer than an address can be. */
        f->path = strprintf("%s/%0100i", f->directory, 1);
        ASSERT_OK(sd_event_new(&f->event));
        ASSERT_OK(notify_socket_bind(f->path, &fd));
        ASSERT_OK(notify_socket_new(f->event, fd, on_message, f, &f->socket));
}

static void close_fixture(Fixture *f) {
        notify_socket_free(f->socket);
        safe_close(f->client);
        sd_event_unref(f->event);
        free(f->path);
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->directory));
}

static void settle(Fixture *f) {
        while (sd_event_run(f->event, 0) > 0)
                ;
}

static int say(Fixture *f, const char *text, size_t n) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        _cleanup_close_ int dir = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (f->client < 0)
                f->client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void) snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%i/" NOTIFY_NAME, dir);
        return sendto(f->client, text, n, 0, (struct sockaddr *) &a, sizeof(a)) < 0 ? -errno : 0;
}

static void test_socket_is_for_every_user(void **state) {
        _cleanup_free_ char *path = NULL;
        struct stat st;
        Fixture f;

        open_fixture(&f);
        path = strjoin(f.path, "/" NOTIFY_NAME);
        ASSERT_TRUE(stat(path, &st) >= 0);
        ASSERT_EQ(st.st_mode & 07777, 0666);
        ASSERT_TRUE(stat(f.path, &st) >= 0);
        ASSERT_EQ(st.st_mode & 07777, 0755);
        close_fixture(&f);
}

static void test_words_wait_for_a_listener(void **state) {
        Fixture f;

        open_fixture(&f);
        ASSERT_OK(say(&f, LITERAL("READY=1")));
        settle(&f);
        ASSERT_EQ(f.n, 0);
        notify_socket_listen(f.socket);
        settle(&f);
        ASSERT_EQ(f.n_ready, 1);
        ASSERT_EQ(f.sender, getpid());

        /* And are forgotten when asked to. */
        ASSERT_OK(say(&f, LITERAL("READY=1")));
        notify_socket_flush(f.socket);
        notify_socket_listen(f.socket);
        settle(&f);
        ASSERT_EQ(f.n_ready, 1);
        close_fixture(&f);
}

static void test_socket_is_bound_again(void **state) {
        Fixture f;
        int fd = -EBADF;

        open_fixture(&f);
        f.socket = notify_socket_free(f.socket);
        ASSERT_EQ(say(&f, LITERAL("READY=1")), -ECONNREFUSED);
        ASSERT_OK(notify_socket_bind(f.path, &fd));
        ASSERT_OK(notify_socket_new(f.event, fd, on_message, &f, &f.socket));
        notify_socket_listen(f.socket);
        ASSERT_OK(say(&f, LITERAL("READY=1")));
        settle(&f);
        ASSERT_EQ(f.n_ready, 1);
        close_fixture(&f);
}

static void test_huge_words_are_not_read(void **state) {
        static char text[100 * 1024];
        Fixture f;

        memset(text, '\n', sizeof(text));
        memcpy(text, "READY=1\n", 8);
        open_fixture(&f);
        notify_socket_listen(f.socket);
        ASSERT_OK(say(&f, text, sizeof(text)));
        ASSERT_OK(say(&f, text, NOTIFY_MESSAGE_MAX + 1));
        settle(&f);
        ASSERT_EQ(f.n, 0);
        ASSERT_OK(say(&f, text, NOTIFY_MESSAGE_MAX));
        settle(&f);
        ASSERT_EQ(f.n_ready, 1);
        close_fixture(&f);
}

static unsigned count_descriptors(void) {
        _cleanup_(closedirp) DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(d))
                n++;
        return n;
}

static void test_descriptors_are_not_taken(void **state) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(3 * sizeof(int))];
        } control = {};
        struct iovec v = { .iov_base = (char *) "READY=1", .iov_len = 7 };
        struct msghdr h = {
                .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        unsigned before;
        Fixture f;

        open_fixture(&f);
        free(f.path);
        f.path = strjoin(f.directory, "/short");
        {
                int fd = -EBADF;

                notify_socket_free(f.socket);
                ASSERT_OK(notify_socket_bind(f.path, &fd));
                ASSERT_OK(notify_socket_new(f.event, fd, on_message, &f, &f.socket));
        }
        connect_client(&f);
        before = count_descriptors();
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(3 * sizeof(int));
        memcpy(CMSG_DATA(c), (int[]){ 0, 1, 2 }, 3 * sizeof(int));
        ASSERT_EQ(sendmsg(f.client, &h, 0), 7);
        notify_socket_listen(f.socket);
        settle(&f);
        ASSERT_EQ(f.n_ready, 1);
        ASSERT_EQ(count_descriptors(), before);
        close_fixture(&f);
}

static void test_flood_is_slowed_down(void **state) {
        uint64_t begun = now_monotonic();
        unsigned turns = 0, seconds;
        Fixture f;

        open_fixture(&f);
        notify_socket_listen(f.socket);
        while (now_monotonic() - begun < 1500 * USEC_PER_MSEC) {
                while (say(&f, LITERAL("STATUS=flood")) >= 0)
                        ;
                turns += sd_event_run(f.event, 50 * USEC_PER_MSEC) > 0;
        }
        ASSERT_TRUE(f.n >= NOTIFY_MESSAGES_PER_SECOND_MAX); /* but it is heard */
        seconds = (unsigned) ((now_monotonic() - begun) / USEC_PER_SEC);
        ASSERT_TRUE(f.n <= (2 + seconds) * NOTIFY_MESSAGES_PER_SECOND_MAX);
        ASSERT_TRUE(turns <= (2 + seconds) * NOTIFY_MESSAGES_PER_SECOND_MAX + 10);

        /* A flush ends although more is sent, and takes the pause back. */
        notify_socket_flush(f.socket);
        ASSERT_EQ(sd_event_run(f.event, 0), 0);
        close_fixture(&f);
}

KONTENA_TESTS(cmocka_unit_test(test_messages), cmocka_unit_test(test_status_is_cut_between_characters),
                cmocka_unit_test(test_sender_is_told_by_its_cgroup),
                cmocka_unit_test(test_socket_is_for_every_user),
                cmocka_unit_test(test_words_wait_for_a_listener),
                cmocka_unit_test(test_socket_is_bound_again), cmocka_unit_test(test_huge_words_are_not_read),
                cmocka_unit_test(test_descriptors_are_not_taken),
                cmocka_unit_test(test_flood_is_slowed_down))
