/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-reference.h"

#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size), *first = NULL, *second = NULL,
                            *registry = NULL;
        _cleanup_image_reference_ ImageReference a = {}, b = {};

        /* The name of a registry is found again in the images of it. */
        if (text && registry_name_parse(text, &registry, NULL) >= 0) {
                _cleanup_image_reference_ ImageReference c = {};
                _cleanup_free_ char *image = strjoin(registry, "/web");

                assert(image && image_reference_parse(image, &c, NULL) >= 0);
                assert(streq(c.registry, registry));
        }
        if (!text || image_reference_parse(text, &a, NULL) < 0)
                return 0;

        /* It becomes part of a URL, and its normal form is a fixed point. */
        assert(a.tag || a.digest);
        assert(!strstr(a.repository, "..") && a.repository[0] != '/');
        first = image_reference_normalized(&a);
        assert(first && strspn(first, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./"
                                      ":@[]") == strlen(first));
        if (image_reference_parse(first, &b, NULL) < 0) {
                assert(strlen(first) > 512); /* "docker.io/library/" made it too long */
                return 0;
        }
        second = image_reference_normalized(&b);
        assert(second && streq(first, second));
        return 0;
}
