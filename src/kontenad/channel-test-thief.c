/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <sys/socket.h>

#include "file-util.h"
#include "parse-util.h"

/* channel-test-thief PORT CERTIFICATE KEY: shows a certificate in the handshake and signs with a key that need not be its own, which other
 * programs refuse to do. Prints "accepted" when the server lets it speak, else the alert. */
int main(int argc, char *argv[]) {
        _cleanup_close_ int fd = -EBADF;
        gnutls_certificate_credentials_t credentials;
        gnutls_session_t session;
        struct sockaddr_in a = { .sin_family = AF_INET };
        char buffer[64];
        uint16_t port;
        ssize_t n;

        if (argc != 4 || parse_port(argv[1], &port) < 0)
                return 2;
        a.sin_port = htons(port);
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

        if (gnutls_certificate_allocate_credentials(&credentials) < 0)
                return EXIT_FAILURE;
        gnutls_certificate_set_flags(credentials, GNUTLS_CERTIFICATE_SKIP_KEY_CERT_MATCH);
        if (gnutls_certificate_set_x509_key_file(credentials, argv[2], argv[3], GNUTLS_X509_FMT_PEM) < 0 ||
                        gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT) < 0 ||
                        gnutls_set_default_priority(session) < 0 ||
                        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials) < 0)
                return EXIT_FAILURE;

        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                return EXIT_FAILURE;
        gnutls_transport_set_int(session, fd);
        n = gnutls_handshake(session);
        if (n >= 0)
                n = gnutls_record_send(session, "GET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n", 34);
        if (n >= 0)
                n = gnutls_record_recv(session, buffer, sizeof(buffer));
        if (n > 0)
                (void) puts("accepted");
        else
                (void) puts(n == GNUTLS_E_FATAL_ALERT_RECEIVED
                                                ? gnutls_alert_get_name(gnutls_alert_get(session))
                                                : gnutls_strerror((int) n));

        gnutls_deinit(session);
        gnutls_certificate_free_credentials(credentials);
        return EXIT_SUCCESS;
}
