# SPDX-License-Identifier: LGPL-2.1-or-later
"""Thousands of connections that ask for nothing: the master keeps answering others."""

import resource
import socket
import ssl
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
from restlib import RestMaster, context, wait_for  # noqa: E402

PING = b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n"
ADDRESSES = 6
OF_EACH = 1000
LIMIT = 4096


@pytest.fixture(autouse=True)
def many_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 20000:
        pytest.skip(f"only {hard} descriptors can be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, hard))


def connect(address: str, port: int) -> socket.socket:
    s = socket.socket()
    s.bind((address, 0))
    s.settimeout(120)
    s.connect(("127.0.0.1", port))
    return s


def pings(m: RestMaster, n: int = 20) -> list[float]:
    took = []
    for _ in range(n):
        start = time.monotonic()
        assert m.get("/v1/ping").status == 200
        took.append(time.monotonic() - start)
    return sorted(took)


def test_connections_that_say_nothing(tmp_path: Path) -> None:
    with RestMaster(tmp_path) as m:
        crowd = []
        for i in range(1200):  # more than the kernel's queue has room for
            s = socket.socket()
            s.bind((f"127.0.1.{i % ADDRESSES + 1}", 0))
            s.setblocking(False)
            try:
                s.connect(("127.0.0.1", m.port))
            except BlockingIOError:
                pass
            crowd.append(s)
        took = pings(m, 5)
        print(f"with {len(crowd)} mute connections: {took[0] * 1000:.0f} to {took[-1] * 1000:.0f} ms")
        assert took[-1] < 60
        for s in crowd:
            s.close()


def test_handshakes_alone(tmp_path: Path) -> None:
    with RestMaster(tmp_path) as m:
        crowd = []
        c = context()
        for i in range(300):
            s = c.wrap_socket(connect(f"127.0.1.{i % ADDRESSES + 1}", m.port), do_handshake_on_connect=False)
            s.setblocking(False)
            try:
                s.do_handshake()
            except ssl.SSLWantReadError:
                pass
            crowd.append(s)
        took = pings(m, 5)
        print(f"with {len(crowd)} that shook hands: {took[0] * 1000:.0f} to {took[-1] * 1000:.0f} ms")
        assert took[-1] < 60


def test_idle_connections_make_room(tmp_path: Path) -> None:
    with RestMaster(tmp_path) as m:
        before = pings(m)
        begun = time.monotonic()
        crowd = []
        for address in range(ADDRESSES):
            for _ in range(OF_EACH):
                s = connect(f"127.0.1.{address + 1}", m.plain_port)
                s.sendall(PING)
                assert s.recv(4096).startswith(b"HTTP/1.1 200")
                crowd.append(s)
        mine = m.connection()
        mine.request("GET", "/v1/ping")
        assert mine.getresponse().read()
        during = pings(m)
        print(f"{ADDRESSES * OF_EACH} came: median {before[10] * 1000:.1f} ms before, {during[10] * 1000:.1f} ms, at most {during[-1] * 1000:.0f} ms during")
        assert during[10] < max(20 * before[10], 0.5) and during[-1] < 60

        kept = 0
        for s in crowd:
            s.setblocking(False)
            try:
                kept += s.recv(1) != b""
            except BlockingIOError:
                kept += 1
            except ConnectionResetError:
                pass
        assert 0 < kept <= LIMIT, kept
        if time.monotonic() - begun < 45:  # else the first have been idle for too long anyway
            assert LIMIT - 200 <= kept, kept
        mine.request("GET", "/v1/ping")  # of an address with few: it was not taken from
        assert mine.getresponse().status == 200
        for s in crowd:
            s.close()
        assert m.daemon
        fds = Path(f"/proc/{m.daemon.pid}/fd")
        wait_for(lambda: len(list(fds.iterdir())) < 100, lambda: f"{len(list(fds.iterdir()))} descriptors stay", 400)


def test_one_address_has_its_share(tmp_path: Path) -> None:
    with RestMaster(tmp_path) as m:
        crowd = []
        for _ in range(1024):
            s = connect("127.0.1.1", m.plain_port)
            s.sendall(PING)
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
            crowd.append(s)
        s = connect("127.0.1.1", m.plain_port)
        try:
            s.sendall(PING)
            assert s.recv(4096) == b""
        except ConnectionResetError:
            pass
        assert m.get("/v1/ping").status == 200


def test_streams_of_one_address_are_bounded(tmp_path: Path) -> None:
    with RestMaster(tmp_path) as m:
        token = m.login()
        assert m.post("/v1/grids", {"name": "one"}, token=token).status == 201
        head = f"GET /v1/grids/one/event_logs?follow=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        crowd = []
        for i in range(257):
            s = connect("127.0.1.1", m.plain_port)
            s.sendall(head)
            got = s.recv(4096)
            assert got.startswith(b"HTTP/1.1 200" if i < 256 else b"HTTP/1.1 503"), (i, got)
            crowd.append(s)
        took = pings(m)
        print(f"with 256 streams: median {took[10] * 1000:.1f} ms, at most {took[-1] * 1000:.0f} ms")
        assert took[10] < 0.5
        for s in crowd:
            s.close()
        wait_for(lambda: m.request("GET", "/v1/grids", token=token).status == 200)


def test_logins_are_limited_by_address(tmp_path: Path) -> None:
    """Localhost is free of it, so ask by another address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        try:
            u.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address")
        mine = u.getsockname()[0]
    with RestMaster(tmp_path, settings="ListenAddress=") as m:
        seen = []
        for i in range(62):
            path = ("/oauth2/token", "/authenticate", "/oauth2/authorize", "/cb")[i % 4]
            with context().wrap_socket(socket.create_connection((mine, m.port), timeout=120)) as s:
                s.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
                got = b""
                while more := s.recv(4096):
                    got += more
                seen.append(got)
        assert not any(a.startswith(b"HTTP/1.1 429") for a in seen[:60])
        assert all(a.startswith(b"HTTP/1.1 429") and a.endswith(b'{"error":"too_many_requests"}') and b"X-Kontena-Version" not in a for a in seen[60:]), seen[60:]
        with context().wrap_socket(socket.create_connection((mine, m.port), timeout=120)) as s:
            s.sendall(b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
        assert m.post("/oauth2/token", {}).status == 400  # from localhost


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
