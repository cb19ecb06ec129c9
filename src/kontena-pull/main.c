/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <curl/curl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "log.h"
#include "pull-image.h"
#include "sandbox.h"

int main(int argc, char *argv[]) {
        if (argc > 1) {
                fprintf(stderr, "%s takes no arguments: it reads one request from standard input.\n",
                                argv[0]);
                return 2;
        }

        log_setup();
        /* Names in layers are UTF-8 whatever the machine speaks. */
        if (!setlocale(LC_CTYPE, "C.UTF-8"))
                log_warning("There is no locale C.UTF-8; some names in layers may be refused.");
        (void) signal(SIGPIPE, SIG_IGN);
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
                log_error("libcurl cannot be used.");
                return EXIT_FAILURE;
        }

        return pull_serve(STDIN_FILENO, STDOUT_FILENO, sandbox_enter);
}
