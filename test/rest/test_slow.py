# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that send a little at a time hold their place no longer than the limits say, and hinder nobody meanwhile."""

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
from restlib import RestMaster, context  # noqa: E402

HEAD, BODY = 15, 60
PING = b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n"
SLACK = 40  # a busy machine is late; without a limit it would be ten minutes


def drip(s: socket.socket, data: bytes) -> None:
    """A byte a second, until the other end is gone."""
    s.settimeout(0.01)
    for i in range(len(data)):
        s.sendall(data[i : i + 1])
        until = time.monotonic() + 1
        while time.monotonic() < until:
            try:
                if s.recv(4096) == b"":
                    return
            except TimeoutError:
                time.sleep(0.05)
    raise AssertionError("it was never cut")


def slow_head(m: RestMaster) -> None:
    drip(socket.create_connection(("127.0.0.1", m.plain_port)), b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100)


def slow_head_in_tls(m: RestMaster) -> None:
    drip(context().wrap_socket(socket.create_connection(("127.0.0.1", m.port))), b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100)


def slow_second_head(m: RestMaster) -> None:
    s = socket.create_connection(("127.0.0.1", m.plain_port))
    s.sendall(PING)
    assert s.recv(4096).startswith(b"HTTP/1.1 200")
    drip(s, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100)


def slow_handshake(m: RestMaster) -> None:
    drip(socket.create_connection(("127.0.0.1", m.port)), b"\x16\x03\x01\x02\x00\x01" + b"\0" * 100)


def nothing(m: RestMaster) -> None:
    """The kernel keeps it for some seconds before we see it."""
    s = socket.create_connection(("127.0.0.1", m.port), timeout=HEAD + 4 + SLACK)
    assert s.recv(1) == b""


def handshake_only(m: RestMaster) -> None:
    s = context().wrap_socket(socket.create_connection(("127.0.0.1", m.port), timeout=HEAD + SLACK))
    try:
        assert s.recv(1) == b""
    except ConnectionResetError:
        pass


def slow_body(m: RestMaster) -> None:
    s = socket.create_connection(("127.0.0.1", m.plain_port))
    s.sendall(b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    drip(s, b" " * 999)


KINDS: list[tuple[Callable[[RestMaster], None], int]] = [(slow_head, HEAD), (slow_head_in_tls, HEAD), (slow_second_head, HEAD),
                                                         (slow_handshake, HEAD), (nothing, HEAD + 4), (handshake_only, HEAD), (slow_body, BODY)]  # fmt: skip


def test_slow_clients_are_cut_in_time(tmp_path: Path) -> None:
    took: dict[str, float | str] = {}
    answers = []

    with RestMaster(tmp_path) as m:

        def run(kind: Callable[[RestMaster], None]) -> None:
            start = time.monotonic()
            try:
                kind(m)
                took[kind.__name__] = time.monotonic() - start
            except (ConnectionResetError, BrokenPipeError):
                took[kind.__name__] = time.monotonic() - start
            except Exception as e:  # noqa: BLE001
                took[kind.__name__] = repr(e)

        threads = [threading.Thread(target=run, args=(kind,)) for kind, _ in KINDS]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            start = time.monotonic()
            assert m.get("/v1/ping").status == 200
            answers.append(time.monotonic() - start)
            time.sleep(0.5)

    print({k: v for k, v in took.items()}, f"slowest answer meanwhile {max(answers) * 1000:.0f} ms")
    for kind, limit in KINDS:
        t = took[kind.__name__]
        assert isinstance(t, float) and limit - 2 <= t <= limit + SLACK, (kind.__name__, t)
    assert sorted(answers)[len(answers) // 2] < 1


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
