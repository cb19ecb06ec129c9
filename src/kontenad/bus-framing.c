/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-framing.h"

#include "kontena-limits.h"
#include "string-util.h"

#define SAID_MAX   16384U /* of the authentication, which asks for nothing here */
#define FIELDS_MAX 65536U /* of a message's head */

static int refuse(KError *reterr, KErrorCode code, const char *sentence) {
        (void) kerror_set(reterr, code, "%s", sentence);
        return -EBADMSG;
}

static bool is_begin(const BusFraming *f) {
        return f->head_size == 7 && memcmp(f->head, "BEGIN\r\n", 7) == 0;
}

/* Lines, of which only the one that is BEGIN matters; a longer one cannot be it. */
static int feed_line(BusFraming *f, uint8_t byte, KError *reterr) {
        if (f->said == 0 && byte != 0)
                return refuse(reterr, K_INVALID_ARGUMENT, "What came is not D-Bus.");
        if (f->said++ == 0)
                return 0;
        if (f->said > SAID_MAX)
                return refuse(reterr, K_LIMIT_EXCEEDED, "The client authenticates for too long.");
        if (byte != '\r' && byte != '\n' && (byte < 0x20 || byte > 0x7e))
                return refuse(reterr, K_INVALID_ARGUMENT, "What came is not D-Bus.");

        if (f->head_size < sizeof(f->head))
                f->head[f->head_size++] = byte;
        if (byte == '\n') {
                f->begun = is_begin(f);
                f->head_size = 0;
        }
        return 0;
}

static uint32_t read_u32(const uint8_t *p, bool big) {
        return big ? (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3]
                   : (uint32_t) p[3] << 24 | (uint32_t) p[2] << 16 | (uint32_t) p[1] << 8 | p[0];
}

static int read_head(BusFraming *f, KError *reterr) {
        uint64_t body, fields;

        if (f->head[0] != 'l' && f->head[0] != 'B')
                return refuse(reterr, K_INVALID_ARGUMENT, "What came is not a D-Bus message.");

        body = read_u32(f->head + 4, f->head[0] == 'B');
        fields = read_u32(f->head + 12, f->head[0] == 'B');
        if (fields > FIELDS_MAX || body > BUS_GUEST_MESSAGE_SIZE_MAX)
                return refuse(reterr, K_LIMIT_EXCEEDED, "A message is too large.");
        f->left = (fields + 7) / 8 * 8 + body;
        f->head_size = 0;
        return 0;
}

int bus_framing_feed(BusFraming *f, const void *data, size_t size, KError *reterr) {
        const uint8_t *p = data, *end = p + size;
        int r;

        while (p < end) {
                if (!f->begun) {
                        r = feed_line(f, *p++, reterr);
                        if (r < 0)
                                return r;
                } else if (f->left > 0) {
                        size_t n = (size_t) MIN(f->left, (uint64_t) (end - p));

                        f->left -= n;
                        p += n;
                } else {
                        size_t n = MIN(sizeof(f->head) - f->head_size, (size_t) (end - p));

                        memcpy(f->head + f->head_size, p, n);
                        f->head_size += n;
                        p += n;
                        if (f->head_size < sizeof(f->head))
                                break;
                        r = read_head(f, reterr);
                        if (r < 0)
                                return r;
                }
        }

        return 0;
}
