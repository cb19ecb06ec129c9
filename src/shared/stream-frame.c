/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream-frame.h"

#include <signal.h>

#include "string-util.h"

int stream_frame_parse(const void *message, size_t size, StreamFrame *ret) {
        const uint8_t *p = message;

        assert(ret);

        if (size < 1)
                return -EBADMSG;
        if (p[0] != STREAM_FRAME_KIND)
                return 0;
        if (size < STREAM_FRAME_HEAD_SIZE || size - STREAM_FRAME_HEAD_SIZE > STREAM_DATA_MAX ||
                        p[5] >= STREAM_CHANNELS)
                return -EBADMSG;

        *ret = (StreamFrame){
                .stream = (uint32_t) p[1] | (uint32_t) p[2] << 8 | (uint32_t) p[3] << 16 |
                          (uint32_t) p[4] << 24,
                .channel = p[5],
                .data = p + STREAM_FRAME_HEAD_SIZE,
                .size = size - STREAM_FRAME_HEAD_SIZE,
        };
        return 1;
}

void stream_frame_head(uint8_t ret[static STREAM_FRAME_HEAD_SIZE], uint32_t stream, unsigned channel) {
        assert(channel < STREAM_CHANNELS);

        ret[0] = STREAM_FRAME_KIND;
        ret[1] = (uint8_t) stream;
        ret[2] = (uint8_t) (stream >> 8);
        ret[3] = (uint8_t) (stream >> 16);
        ret[4] = (uint8_t) (stream >> 24);
        ret[5] = (uint8_t) channel;
}

static const struct {
        const char *name;
        int number;
} signals[] = {
        { "HUP", SIGHUP },
        { "INT", SIGINT },
        { "QUIT", SIGQUIT },
        { "KILL", SIGKILL },
        { "USR1", SIGUSR1 },
        { "USR2", SIGUSR2 },
        { "TERM", SIGTERM },
        { "CONT", SIGCONT },
        { "STOP", SIGSTOP },
        { "TSTP", SIGTSTP },
        { "WINCH", SIGWINCH },
};

int stream_signal_from_name(const char *name) {
        FOREACH_ARRAY(s, signals, ELEMENTSOF(signals))
                if (streq(s->name, name))
                        return s->number;
        return 0;
}

const char *stream_signal_to_name(int number) {
        FOREACH_ARRAY(s, signals, ELEMENTSOF(signals))
                if (s->number == number)
                        return s->name;
        return NULL;
}
