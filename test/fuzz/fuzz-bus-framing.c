/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/socket.h>
#include <unistd.h>

#include "bus-framing.h"
#include "bus-pump.h"
#include "file-util.h"
#include "kontena-limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a guest sends to the master: bytes of a bus, cut into messages as the first byte says, and between them numbers. */

static size_t sent;

static int on_send(bool binary, const void *data, size_t size, void *userdata) {
        sent += binary ? size : 0;
        return 0;
}

static void on_ended(int r, void *userdata) {
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const BusPumpHandler handler = { .send = on_send, .ended = on_ended };
        BusFraming whole = {}, parts = {};
        sd_event *event = NULL;
        BusPump *pump = NULL;
        char sink[65536] = "";
        size_t portion;
        int fds[2], r = 0, k = 0;

        if (size < 2)
                return 0;
        portion = data[0] + 1U;
        data++;
        size--;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                return 0;
        if (sd_event_new(&event) < 0 || bus_pump_new_consume(event, fds[0], &handler, NULL, &pump) < 0)
                abort();
        (void) !write(fds[1], sink, data[0]);
        (void) sd_event_run(event, 0);

        k = bus_framing_feed(&whole, data, size, NULL);
        for (size_t i = 0; i < size && r >= 0; i += portion) {
                size_t n = MIN(portion, size - i);

                r = bus_framing_feed(&parts, data + i, n, NULL);
                /* The same in any portions. */
                if (r >= 0 && bus_pump_receive(pump, true, (const char *) data + i, n, NULL) < 0)
                        break;
                (void) bus_pump_receive(pump, false, (const char *) data + i, n, NULL);
                (void) !read(fds[1], sink, sizeof(sink));
                (void) sd_event_run(event, 0);
        }
        if ((k < 0) != (r < 0) && size < BUS_PUMP_WINDOW)
                abort();
        if (k >= 0 && r >= 0 && (whole.left != parts.left || whole.begun != parts.begun))
                abort();

        bus_pump_free(pump);
        safe_close(fds[1]);
        sd_event_unref(event);
        return 0;
}
