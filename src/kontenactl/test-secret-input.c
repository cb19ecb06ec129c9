/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "secret-input.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

/* A process that asks for a secret on a terminal of its own. */
typedef struct Asking {
        int terminal;
        pid_t pid;
} Asking;

static void child(const char *slave, int ignored) {
        _cleanup_erase_ char *text = NULL;
        int fd;

        (void) setsid();
        fd = open(slave, O_RDWR);
        if (fd < 0 || ioctl(fd, TIOCSCTTY, 0) < 0 || dup2(fd, 0) < 0 || dup2(fd, 2) < 0)
                _exit(100);
        /* Whoever runs the tests may ignore some, as nohup does. */
        (void) signal(SIGHUP, SIG_DFL);
        (void) signal(SIGINT, SIG_DFL);
        (void) signal(SIGQUIT, SIG_DFL);
        if (ignored > 0)
                (void) signal(ignored, SIG_IGN);
        if (secret_input("Value: ", "value", 100, &text, NULL) < 0)
                _exit(101);
        _exit(streq(text, "hush") ? 0 : 102);
}

static void start(Asking *a, int ignored) {
        char seen[64] = "";
        size_t n = 0;

        a->terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        ASSERT_TRUE(a->terminal >= 0 && grantpt(a->terminal) >= 0 && unlockpt(a->terminal) >= 0);
        a->pid = fork();
        ASSERT_TRUE(a->pid >= 0);
        if (a->pid == 0)
                child(ptsname(a->terminal), ignored);
        while (!strstr(seen, "Value: ")) {
                ssize_t k = read(a->terminal, seen + n, sizeof(seen) - 1 - n);

                ASSERT_TRUE(k > 0 || errno == EIO); /* EIO: nobody has opened the other side yet */
                n += k > 0 ? (size_t) k : 0;
        }
}

static bool shows(const Asking *a) {
        struct termios t;

        ASSERT_TRUE(tcgetattr(a->terminal, &t) >= 0);
        return (t.c_lflag & ECHO) && (t.c_lflag & ISIG);
}

static int end(Asking *a) {
        int status;

        ASSERT_EQ(waitpid(a->pid, &status, 0), a->pid);
        ASSERT_TRUE(shows(a));
        safe_close(a->terminal);
        return status;
}

static void test_a_signal_leaves_the_terminal_as_it_was(void **state) {
        static const int signals[] = { SIGTERM, SIGHUP, SIGINT, SIGQUIT };

        FOREACH_ARRAY(s, signals, ELEMENTSOF(signals)) {
                Asking a;
                int status;

                start(&a, 0);
                ASSERT_FALSE(shows(&a));
                ASSERT_OK(loop_write(a.terminal, "hus", 3));
                ASSERT_EQ(kill(a.pid, *s), 0);
                status = end(&a);
                ASSERT_TRUE(WIFSIGNALED(status));
                ASSERT_EQ(WTERMSIG(status), *s);
        }
}

static void test_what_is_typed_is_taken(void **state) {
        Asking a;

        start(&a, 0);
        ASSERT_OK(loop_write(a.terminal, "hush\n", 5));
        ASSERT_EQ(end(&a), 0);
}

static void test_an_ignored_signal_does_not_interrupt(void **state) {
        Asking a;

        start(&a, SIGHUP);
        ASSERT_EQ(kill(a.pid, SIGHUP), 0);
        ASSERT_OK(loop_write(a.terminal, "hush\n", 5));
        ASSERT_EQ(end(&a), 0);
}

static void test_the_interrupt_key_ends_it(void **state) {
        int status;
        Asking a;

        start(&a, 0);
        ASSERT_OK(loop_write(a.terminal, "hu\003", 3));
        status = end(&a);
        ASSERT_TRUE(WIFEXITED(status));
        ASSERT_EQ(WEXITSTATUS(status), 101);
}

KONTENA_TESTS(cmocka_unit_test(test_a_signal_leaves_the_terminal_as_it_was),
                cmocka_unit_test(test_what_is_typed_is_taken),
                cmocka_unit_test(test_an_ignored_signal_does_not_interrupt),
                cmocka_unit_test(test_the_interrupt_key_ends_it))
