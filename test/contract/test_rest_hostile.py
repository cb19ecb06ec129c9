# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests that are meant to confuse or to fill the master, against its real port. What takes longer is in test/rest."""

import json
import re
import socket
import ssl
from collections.abc import Iterator

import pytest

from restlib import RestMaster, context


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("rest")) as m:
        yield m


def talk(master: RestMaster, data: bytes, plain: bool = True) -> bytes:
    """All that comes back until the master closes, or for long: who is to answer and to go on is asked to close."""
    s = socket.create_connection(("127.0.0.1", master.plain_port if plain else master.port), timeout=60)
    if not plain:
        s = context().wrap_socket(s)
    got = b""
    with s:
        try:
            s.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass  # refused before all was said: the answer is there
        try:
            s.settimeout(30)
            while more := s.recv(65536):
                got += more
        except (ConnectionError, TimeoutError, socket.timeout, ssl.SSLError):
            pass
    return got


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else 0


SMUGGLED = {
    "length twice": b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    "list of lengths": b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}",
    "signed length": b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "hex length": b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}",
    "empty length": b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n{}",
    "huge length": b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "bare LF": b"GET /v1/ping HTTP/1.1\nHost: x\n\n",
    "bare LF in head": b"GET /v1/ping HTTP/1.1\r\nHost: x\nX: GET /v1/auth\r\n\r\n",
    "bare CR": b"GET /v1/ping HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "folded": b"GET /v1/ping HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "space before colon": b"GET /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n",
    "space before name": b"GET /v1/ping HTTP/1.1\r\n Host: x\r\n\r\n",
    "no name": b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
    "NUL": b"GET /v1/ping HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "no host": b"GET /v1/ping HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v1/ping HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no version": b"GET /v1/ping\r\nHost: x\r\n\r\n",
    "words": b"GET /v1/ping x HTTP/1.1\r\nHost: x\r\n\r\n",
    "leading line": b"\r\n\r\nGET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "control in target": b"GET /v1/\x01ping HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_malformed_heads_are_refused(master: RestMaster, data: bytes) -> None:
    a = talk(master, data + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(a) == 400, a
    assert b"Connection: close" in a and a.count(b"HTTP/1.1 ") == 1, a


@pytest.mark.parametrize("data", [
    b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/auth HTTP/1.1\r\nHost: x\r\ntransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n",
])  # fmt: skip
def test_chunked_requests_are_refused(master: RestMaster, data: bytes) -> None:
    a = talk(master, data + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(a) == 411 and a.count(b"HTTP/1.1 ") == 1, a


def test_other_versions_are_refused(master: RestMaster) -> None:
    for head in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n"):
        assert status(talk(master, head)) == 505


def test_requests_behind_each_other_are_answered(master: RestMaster) -> None:
    one = b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n"
    body = b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    last = one.replace(b"Host: x", b"Host: x\r\nConnection: close")
    a = talk(master, one + body + last, plain=False)
    assert re.findall(rb"HTTP/1.1 (\d+)", a) == [b"200", b"403", b"200"]


def test_a_head_that_is_too_large(master: RestMaster) -> None:
    many = b"".join(b"X-%d: y\r\n" % i for i in range(200))
    assert status(talk(master, b"GET / HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n")) == 431
    assert status(talk(master, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100000 + b"\r\n\r\n")) in (413, 431)
    assert status(talk(master, b"GET /" + b"y" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")) in (414, 431)


def test_a_large_body_is_of_nobody(master: RestMaster) -> None:
    assert master.request("POST", "/v1/auth", raw=b" " * 17000).status == 413
    assert master.request("POST", "/v1/grids", raw=b" " * 17000).status == 403
    assert master.request("POST", "/v1/grids", raw=b" " * 5000000).status == 403
    assert master.get("/v1/ping").status == 200


@pytest.mark.parametrize("body", [b"{", b"[", b"nul", b'{"a":1}x', b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b"[" * 1000 + b"]" * 1000, b'{"a":' * 40 + b"1" + b"}" * 40,
                                  b"[]", b"1", b'"x"', b"\0", b"{}\0", b"Nope", b"{'a':1}", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":1,}',
                                  b'{"a":1/**/}', b'{"a":01}', b'{"a":"\n"}', b'{"a":"\\ud800"}', b'{"a\\u0000":1}', b'{"a":1,"a":2}',
                                  b'{"a":18446744073709551616}'])  # fmt: skip
def test_json_that_is_none(master: RestMaster, body: bytes) -> None:
    a = master.request("POST", "/v1/auth", raw=body, Content_Type="application/json")
    assert (a.status, a.json["error"]) == (400, "Invalid json")
    assert "JSON" in a.json["error_description"]


def test_json_that_is_none_says_why(master: RestMaster) -> None:
    a = master.request("POST", "/v1/auth", raw=b"{'a':1}", Content_Type="application/json")
    assert a.json["error_description"] == "JSON text is malformed at byte 1: the name of a field was expected, in double quotes."


def test_json_of_many_values(master: RestMaster) -> None:
    a = master.request("POST", "/v1/auth", raw=json.dumps([0] * 4000).encode())
    assert a.status in (400, 413)
    assert master.get("/v1/ping").status == 200


def test_tls_versions(master: RestMaster) -> None:
    for version, works in ((ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
        try:
            c = context(version)
            if not works:
                c.set_ciphers("ALL:@SECLEVEL=0")
            with c.wrap_socket(socket.create_connection(("127.0.0.1", master.port), timeout=60)) as s:
                s.sendall(b"GET /v1/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert works and s.recv(100).startswith(b"HTTP/1.1 200")
                assert "GCM" in s.cipher()[0] or "CHACHA20" in s.cipher()[0]  # type: ignore[index]
        except ssl.SSLError:
            assert not works


@pytest.mark.parametrize("cipher", ["AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA"])
def test_weak_ciphers_are_refused(master: RestMaster, cipher: str) -> None:
    c = context(ssl.TLSVersion.TLSv1_2)
    c.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError):
        c.wrap_socket(socket.create_connection(("127.0.0.1", master.port), timeout=60))


def test_the_node_channel_wants_tls_1_3(master: RestMaster) -> None:
    head = (b"GET /v1/nodes/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: kontena.node.1\r\n\r\n")  # fmt: skip
    for c in (None, context(ssl.TLSVersion.TLSv1_2)):
        with socket.create_connection(("127.0.0.1", master.port if c else master.plain_port), timeout=60) as raw:
            s = c.wrap_socket(raw) if c else raw
            s.sendall(head)
            a = s.recv(4096)
            assert a.startswith(b"HTTP/1.1 501") and b"TLS 1.3" in a, a
