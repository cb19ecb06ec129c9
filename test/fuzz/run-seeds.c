/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target once over every file of a directory of seeds. */
#include <dirent.h>
#include <stdio.h>

#include "file-util.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char *argv[]) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        unsigned n = 0;

        if (argc != 2 || !(d = opendir(argv[1]))) {
                fprintf(stderr, "Usage: %s DIRECTORY\n", argv[0]);
                return 2;
        }

        while ((de = readdir(d))) {
                _cleanup_free_ char *data = NULL;
                size_t size;

                if (de->d_name[0] == '.')
                        continue;
                if (read_file_at(dirfd(d), de->d_name, 64 * 1024 * 1024, &data, &size) < 0) {
                        fprintf(stderr, "Cannot read seed '%s'.\n", de->d_name);
                        return 1;
                }
                /* A copy of exact size, so that ASan sees one byte too far. */
                _cleanup_free_ uint8_t *exact = malloc(size > 0 ? size : 1);
                if (!exact)
                        return 1;
                memcpy(exact, data, size);
                (void) LLVMFuzzerTestOneInput(exact, size);
                n++;
        }

        printf("%u seeds\n", n);
        return n > 0 ? 0 : 1;
}
