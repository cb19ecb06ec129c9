/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "archive-serve.h"
#include "file-util.h"
#include "frame.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

/* As noded: a process, a socket, descriptors. */
typedef struct Place {
        char path[40];
        int fd, socket;
        pid_t pid;
        char *archive;
        size_t size;
        json_object *closed;
        bool ready;
} Place;

static void place_init(Place *p) {
        *p = (Place){ .path = "/var/tmp/test-archive-XXXXXX", .socket = -EBADF };
        assert_non_null(mkdtemp(p->path));
        p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(p->fd >= 0);
}

static int stop(Place *p) {
        int status;

        p->socket = safe_close(p->socket);
        assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
        assert_true(WIFEXITED(status));
        free(p->archive);
        p->archive = NULL;
        p->size = 0;
        json_object_put(p->closed);
        p->closed = NULL;
        p->ready = false;
        return WEXITSTATUS(status);
}

static void place_done(Place *p) {
        safe_close(p->fd);
        ASSERT_OK(rm_rf_at(AT_FDCWD, p->path));
}

static void put(int dir, const char *name, const char *text) {
        _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        ASSERT_OK(loop_write(fd, text, strlen(text)));
}

static void send_frame(Place *p, FrameType type, const void *data, size_t size) {
        uint8_t head[FRAME_HEAD_SIZE] = { (uint8_t) type };
        uint32_t le = htole32((uint32_t) size);

        memcpy(head + 1, &le, 4);
        ASSERT_OK(loop_write(p->socket, head, sizeof(head)));
        ASSERT_OK(loop_write(p->socket, data, size));
}

static void start(Place *p, const int *fds, size_t n, const char *config) {
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int) * 8)];
        } control = {};
        struct iovec iov = { .iov_base = (void *) (uintptr_t) "", .iov_len = 1 };
        struct msghdr m = { .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = CMSG_SPACE(sizeof(int) * n) };
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        p->pid = fork();
        assert_true(p->pid >= 0);
        if (p->pid == 0) {
                safe_close(pair[0]);
                _exit(archive_serve(pair[1]));
        }
        safe_close(pair[1]);
        p->socket = pair[0];
        control.header = (struct cmsghdr){
                .cmsg_len = CMSG_LEN(sizeof(int) * n), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
        };
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
        assert_int_equal(sendmsg(p->socket, &m, 0), 1);
        send_frame(p, FRAME_CONFIG, config, strlen(config));
}

/* Until the last frame. */
static void receive(Place *p) {
        for (;;) {
                uint8_t head[FRAME_HEAD_SIZE];
                char *data;
                uint32_t size;

                assert_int_equal(loop_read(p->socket, head, sizeof(head)), sizeof(head));
                memcpy(&size, head + 1, 4);
                size = le32toh(size);
                data = malloc(size + 1);
                assert_int_equal(loop_read(p->socket, data, size), size);
                if (head[0] == FRAME_STATUS)
                        p->ready = true;
                else if (head[0] == FRAME_BINARY) {
                        p->archive = realloc(p->archive, p->size + size);
                        memcpy(p->archive + p->size, data, size);
                        p->size += size;
                } else {
                        assert_int_equal(head[0], FRAME_CLOSED);
                        ASSERT_OK(json_parse(data, size, size, &p->closed, NULL));
                        free(data);
                        return;
                }
                free(data);
        }
}

static const char *error_of(Place *p) {
        json_object *error = NULL;
        const char *message = NULL;

        if (json_find_object(p->closed, "error", &error, NULL) > 0)
                ASSERT_OK(json_get_string(error, "message", &message, NULL));
        return message;
}

static void test_a_file_goes_out_and_in(void **state) {
        _cleanup_free_ char *archive = NULL, *text = NULL;
        size_t size;
        Place p;

        if (geteuid() != 0) /* in a container all belongs to root */
                skip();
        place_init(&p);
        put(p.fd, "f", "content");
        start(&p, &p.fd, 1, "{\"mode\":\"pack\",\"path\":\"/f\"}");
        receive(&p);
        assert_true(p.ready);
        assert_null(error_of(&p));
        archive = TAKE_PTR(p.archive);
        size = p.size;
        assert_int_equal(stop(&p), 0);

        assert_int_equal(unlinkat(p.fd, "f", 0), 0);
        start(&p, &p.fd, 1, "{\"mode\":\"unpack\",\"path\":\"/g\",\"name\":\"f\"}");
        for (size_t at = 0; at < size; at += 1000)
                send_frame(&p, FRAME_BINARY, archive + at, MIN(size - at, (size_t) 1000));
        send_frame(&p, FRAME_CLOSE, NULL, 0);
        receive(&p);
        assert_null(error_of(&p));
        assert_int_equal(stop(&p), 0);
        ASSERT_OK(read_file_at(p.fd, "g", 100, &text, NULL));
        ASSERT_STREQ(text, "content");
        place_done(&p);
}

static void test_what_is_not_there_is_told_before_anything_is_sent(void **state) {
        Place p;

        place_init(&p);
        start(&p, &p.fd, 1, "{\"mode\":\"pack\",\"path\":\"/none\"}");
        receive(&p);
        assert_false(p.ready);
        ASSERT_STREQ(error_of(&p), "There is no '/none'.");
        assert_int_equal(stop(&p), EXIT_FAILURE);
        start(&p, &p.fd, 1, "{\"mode\":\"unpack\",\"path\":\"/none/x\",\"name\":\"n\"}");
        receive(&p);
        assert_false(p.ready);
        assert_non_null(error_of(&p));
        assert_int_equal(stop(&p), EXIT_FAILURE);
        start(&p, &p.fd, 1, "{\"mode\":\"eat\"}");
        receive(&p);
        assert_non_null(error_of(&p));
        assert_int_equal(stop(&p), EXIT_FAILURE);
        place_done(&p);
}

/* Who sent it was killed; all bytes came, but not the word that they are all. */
static void test_a_socket_that_ends_is_no_end(void **state) {
        _cleanup_free_ char *archive = NULL;
        struct stat st;
        size_t size;
        Place p;

        place_init(&p);
        assert_int_equal(mkdirat(p.fd, "v", 0755), 0);
        put(p.fd, "f", "content");
        start(&p, &p.fd, 1, "{\"mode\":\"pack\",\"path\":\"/f\"}");
        receive(&p);
        archive = TAKE_PTR(p.archive);
        size = p.size;
        assert_int_equal(stop(&p), 0);

        start(&p, &p.fd, 1, "{\"mode\":\"unpack\",\"volume\":true,\"owner\":\"keep\"}");
        send_frame(&p, FRAME_BINARY, archive, size);
        assert_int_equal(shutdown(p.socket, SHUT_WR), 0);
        receive(&p);
        assert_true(strstr(error_of(&p), "cannot be read"));
        assert_int_equal(stop(&p), EXIT_FAILURE);

        /* Junk instead of a frame. */
        start(&p, &p.fd, 1, "{\"mode\":\"unpack\",\"volume\":true}");
        send_frame(&p, FRAME_TEXT, "x", 1);
        receive(&p);
        assert_non_null(error_of(&p));
        assert_int_equal(stop(&p), EXIT_FAILURE);
        assert_int_equal(fstatat(p.fd, "f", &st, 0), 0);
        place_done(&p);
}

/* The volume of an instance that does not run is not there, wherever it is in what is copied. */
static void test_volumes_below_are_left_alone(void **state) {
        _cleanup_close_ int data = -EBADF, app = -EBADF;
        _cleanup_free_ char *archive = NULL;
        struct stat st;
        size_t size;
        Place p;

        if (geteuid() != 0)
                skip();
        place_init(&p);
        assert_int_equal(mkdirat(p.fd, "app", 0755), 0);
        app = openat(p.fd, "app", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(mkdirat(app, "data", 0755), 0);
        data = openat(app, "data", O_PATH | O_CLOEXEC);
        put(app, "f", "content");
        assert_int_equal(mkdirat(app, "data/below", 0755), 0);
        put(app, "data/g", "hidden");

        /* Packed as it is, then without what is hidden. */
        start(&p, &p.fd, 1, "{\"mode\":\"pack\",\"path\":\"/app\"}");
        receive(&p);
        archive = TAKE_PTR(p.archive);
        size = p.size;
        assert_non_null(memmem(archive, size, "app/data/g", 10));
        assert_int_equal(stop(&p), 0);
        start(&p, (int[]){ p.fd, data }, 2, "{\"mode\":\"pack\",\"path\":\"/app\"}");
        receive(&p);
        assert_null(error_of(&p));
        assert_non_null(memmem(p.archive, p.size, "app/f", 5));
        assert_non_null(memmem(p.archive, p.size, "app/data/", 9)); /* where it is mounted */
        assert_null(memmem(p.archive, p.size, "app/data/g", 10));
        assert_null(memmem(p.archive, p.size, "below", 5));
        assert_int_equal(stop(&p), 0);

        assert_int_equal(unlinkat(app, "data/g", 0), 0);
        start(&p, (int[]){ p.fd, data }, 2, "{\"mode\":\"unpack\",\"path\":\"/\",\"name\":\"app\"}");
        send_frame(&p, FRAME_BINARY, archive, MIN(size, (size_t) 65536));
        send_frame(&p, FRAME_CLOSE, NULL, 0);
        receive(&p);
        assert_non_null(error_of(&p));
        assert_true(strstr(error_of(&p), "' is in a volume, which"));
        assert_int_equal(stop(&p), EXIT_FAILURE);
        assert_int_equal(fstatat(app, "data/g", &st, 0), -1);
        place_done(&p);
}

/* It writes nothing for a long time, and nobody waits for it any more. */
static void test_who_packs_holes_sees_that_nobody_reads(void **state) {
        char path[] = "/dev/shm/test-archive-XXXXXX";
        _cleanup_close_ int dir = -EBADF, fd = -EBADF;
        Place p = { .socket = -EBADF };

        assert_non_null(mkdtemp(path));
        dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fd = openat(dir, "huge", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(dir >= 0 && fd >= 0);
        if (ftruncate(fd, INT64_MAX) < 0) {
                ASSERT_OK(rm_rf_at(AT_FDCWD, path));
                skip();
        }
        start(&p, &dir, 1, "{\"mode\":\"pack\",\"path\":\"/\"}");
        (void) alarm(240);
        assert_int_equal(stop(&p), EXIT_FAILURE);
        (void) alarm(0);
        ASSERT_OK(rm_rf_at(AT_FDCWD, path));
}

KONTENA_TESTS(cmocka_unit_test(test_a_file_goes_out_and_in),
                cmocka_unit_test(test_what_is_not_there_is_told_before_anything_is_sent),
                cmocka_unit_test(test_a_socket_that_ends_is_no_end),
                cmocka_unit_test(test_volumes_below_are_left_alone),
                cmocka_unit_test(test_who_packs_holes_sees_that_nobody_reads))
