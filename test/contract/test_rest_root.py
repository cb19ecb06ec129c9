# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the API serves to anybody, what each answer has, and how tokens are refused: reference sections 1, 2 and 3.1."""

import base64
import hashlib
import re
from collections.abc import Iterator

import pytest

from restlib import RestMaster


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("rest")) as m:
        yield m


def test_root_names_the_master(master: RestMaster) -> None:
    a = master.get("/")
    assert a.status == 200 and a.json == {"name": "Kontena Master", "tagline": "The Container Platform", "version": "1.6.4"}
    assert a.headers["X-Kontena-Version"] == "1.6.4"


def test_ping(master: RestMaster) -> None:
    a = master.get("/v1/ping")
    assert (a.status, a.json) == (200, {"message": "pong"})


def test_code_page_runs_its_own_script_only(master: RestMaster) -> None:
    a = master.get("/code")
    assert a.status == 200 and a.headers["Content-Type"].startswith("text/html")
    scripts = re.findall(rb"<script>(.*?)</script>", a.body, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0]).digest()).decode()
    policy = a.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


def test_password_login_is_refused(master: RestMaster) -> None:
    a = master.post("/v1/auth", {"username": "admin", "password": "x"})
    assert a.status == 403 and isinstance(a.json, str)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nobodys"}, {"Authorization": "bearer x"}, {"Authorization": "Basic eDp5"},
                                     {"Authorization": "Bearer  x"}, {"Authorization": "Bearer " + "x" * 2000}])  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/grids", "/v1/user", "/nothing/here", "/v1/openapi.jso"])
def test_no_or_an_unknown_token(master: RestMaster, path: str, headers: dict[str, str]) -> None:
    a = master.get(path, **headers)
    assert (a.status, a.json) == (403, {"error": "invalid_token", "error_description": "Invalid token"})
    assert a.headers["WWW-Authenticate"] == 'Bearer realm="kontena_master", error="invalid_token", error_description="Invalid token"'
    assert a.headers["Content-Type"] == "application/json"
    assert "X-Kontena-Version" not in a.headers


def test_every_answer_has_the_security_headers(master: RestMaster) -> None:
    for plain in (False, True):
        for path in ("/", "/v1/ping", "/code", "/v1/grids", "/nothing"):
            a = master.get(path, plain=plain)
            assert a.headers["X-Content-Type-Options"] == "nosniff"
            assert a.headers["Cache-Control"] == "no-store"
            assert a.headers["X-Frame-Options"] == "DENY"
            assert ("Strict-Transport-Security" in a.headers) == (not plain)


@pytest.mark.parametrize("path", ["/v1/ping?a=%ff", "/v1/ping?a=%00", "/v1/ping?a=%2"])
def test_a_query_that_is_no_text(master: RestMaster, path: str) -> None:
    assert master.get(path).status == 400
