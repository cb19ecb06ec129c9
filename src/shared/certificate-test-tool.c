/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <time.h>

#include "certificate.h"
#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

/* certificate-test-tool DIRECTORY FROM TO NAME...: an authority and a server's certificate, valid from and to these many seconds from
 * now (negative: before), as chain.pem, server.key and ca.pem: for tests of what must be refused. */
int main(int argc, char *argv[]) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t ca_key = NULL, key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t ca = NULL, server = NULL;
        _cleanup_free_ char *ca_pem = NULL, *server_pem = NULL, *chain = NULL, *path = NULL,
                            *chain_path = NULL, *key_path = NULL;
        gnutls_datum_t key_pem = {};
        int64_t from, to;

        if (argc < 5 || safe_atoi64(argv[2], &from) < 0 || safe_atoi64(argv[3], &to) < 0)
                return 2;

        path = strjoin(argv[1], "/ca.pem");
        chain_path = strjoin(argv[1], "/chain.pem");
        key_path = strjoin(argv[1], "/server.key");
        if (certificate_key_new(&ca_key, NULL) < 0 || certificate_key_new(&key, NULL) < 0 ||
                        certificate_authority_new(ca_key, &ca, NULL) < 0 ||
                        certificate_server_new_full(key, ca, ca_key, argv + 4, time(NULL) + from,
                                        time(NULL) + to, &server, NULL) < 0 ||
                        certificate_export_pem(ca, &ca_pem) < 0 ||
                        certificate_export_pem(server, &server_pem) < 0 ||
                        gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem) < 0)
                return EXIT_FAILURE;
        chain = strjoin(server_pem, ca_pem);
        if (!chain || !path || !chain_path || !key_path ||
                        write_file_atomic(path, ca_pem, strlen(ca_pem), 0644) < 0 ||
                        write_file_atomic(chain_path, chain, strlen(chain), 0644) < 0 ||
                        write_file_atomic(key_path, key_pem.data, key_pem.size, 0600) < 0)
                return EXIT_FAILURE;
        gnutls_free(key_pem.data);
        return EXIT_SUCCESS;
}
