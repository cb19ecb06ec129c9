/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive-serve.h"
#include "log.h"

int main(int argc, char *argv[]) {
        if (argc > 1) {
                fprintf(stderr, "%s takes no arguments: it reads one request from standard input.\n",
                                argv[0]);
                return 2;
        }

        log_setup();
        (void) umask(0);
        /* Whoever stops us closes the socket, too: what is half is put away then. */
        (void) signal(SIGTERM, SIG_IGN);
        return archive_serve(STDIN_FILENO);
}
