/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The test image "echo": a small HTTP server on port 8080 that tells where it runs and does on request
 * what a test wants a container to do.
 *
 *   /            host name, version and environment
 *   /redis       increments "hits" on the host "redis" and shows the count
 *   /log?TEXT    writes TEXT to standard output, /err?TEXT to standard error
 *   /exit?N      ends the whole container with status N
 *   /eat?N       allocates and touches N megabytes, and keeps them
 *   /burn?N      uses a processor for N seconds
 *
 * Every request is written to standard output. SIGTERM ends it at once, unless IGNORE_TERM is set. */

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void on_term(int sig) {
        (void) sig;
        _exit(0);
}

static void redis_increment(FILE *out) {
        struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found = NULL;
        const char *host = getenv("REDIS_HOST") ?: "redis";
        char reply[128];
        ssize_t n = -1;
        int fd, r;

        r = getaddrinfo(host, "6379", &hints, &found);
        if (r != 0) {
                fprintf(out, "error: cannot resolve %s: %s\n", host, gai_strerror(r));
                return;
        }

        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
                struct timeval limit = { .tv_sec = 3 };

                (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
                (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
                if (connect(fd, found->ai_addr, found->ai_addrlen) == 0 && write(fd, "INCR hits\r\n", 11) == 11)
                        n = read(fd, reply, sizeof reply - 1);
        }

        if (n > 0) {
                reply[n] = 0;
                fprintf(out, "hits %s", reply + (reply[0] == ':'));
        } else
                fprintf(out, "error: cannot use redis at %s: %s\n", host, strerror(errno));

        if (fd >= 0)
                close(fd);
        freeaddrinfo(found);
}

static void answer(FILE *in, FILE *out) {
        char line[4096], path[2048] = "/", header[4096], hostname[256] = "";
        const char *argument;
        char *mark;

        if (!fgets(line, sizeof line, in) || sscanf(line, "%*s %2047s", path) != 1)
                return;
        while (fgets(header, sizeof header, in) && header[0] != '\r' && header[0] != '\n')
                ;

        printf("request %s\n", path);
        mark = strchr(path, '?');
        argument = mark ? mark + 1 : "";
        if (mark)
                *mark = 0;

        (void) gethostname(hostname, sizeof hostname - 1);
        fprintf(out, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n");

        if (strcmp(path, "/redis") == 0)
                redis_increment(out);
        else if (strcmp(path, "/log") == 0)
                printf("%s\n", argument);
        else if (strcmp(path, "/err") == 0)
                fprintf(stderr, "%s\n", argument);
        else if (strcmp(path, "/exit") == 0)
                _exit((int) strtol(argument, NULL, 10));
        else if (strcmp(path, "/eat") == 0) {
                size_t size = (size_t) strtoul(argument, NULL, 10) << 20;
                char *memory = malloc(size);

                if (memory)
                        memset(memory, 1, size);
                fprintf(out, "%s\n", memory ? "eaten" : "refused");
        } else if (strcmp(path, "/burn") == 0) {
                time_t end = time(NULL) + strtol(argument, NULL, 10);

                while (time(NULL) < end)
                        ;
        } else {
                fprintf(out, "hostname %s\nversion %s\npid %d\n", hostname, getenv("ECHO_VERSION") ?: "", (int) getpid());
                for (char **e = environ; *e; e++)
                        fprintf(out, "env %s\n", *e);
        }
}

int main(void) {
        struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT };
        const char *port = getenv("PORT") ?: "8080";
        int listener, one = 1, off = 0;

        setvbuf(stdout, NULL, _IOLBF, 0);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGTERM, getenv("IGNORE_TERM") ? SIG_IGN : on_term);
        signal(SIGINT, on_term);

        address.sin6_port = htons((uint16_t) strtoul(port, NULL, 10));
        listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener < 0) {
                struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = address.sin6_port };

                listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                (void) setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
                if (listener < 0 || bind(listener, (struct sockaddr *) &v4, sizeof v4) < 0)
                        goto fail;
        } else {
                (void) setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
                (void) setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
                if (bind(listener, (struct sockaddr *) &address, sizeof address) < 0)
                        goto fail;
        }
        if (listen(listener, 128) < 0)
                goto fail;

        printf("listening on port %s\n", port);
        for (;;) {
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                struct timeval limit = { .tv_sec = 5 };
                FILE *in, *out;

                if (fd < 0)
                        continue;
                (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
                in = fdopen(fd, "r");
                out = fdopen(dup(fd), "w");
                if (in && out)
                        answer(in, out);
                if (out)
                        fclose(out);
                if (in)
                        fclose(in);
        }

fail:
        fprintf(stderr, "cannot listen on port %s: %s\n", port, strerror(errno));
        return 1;
}
