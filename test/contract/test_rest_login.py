# SPDX-License-Identifier: LGPL-2.1-or-later
"""Login with a browser at an external provider, over REST: reference section 3.6. The provider is the one of test-login."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from restlib import RestMaster

PROVIDER = Path(__file__).resolve().parents[2] / "src/kontenad/test-provider.py"
HOME = "http://localhost:41234/cb"


@pytest.fixture(scope="module")
def provider() -> Iterator[int]:
    p = subprocess.Popen([sys.executable, str(PROVIDER)], stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout
        yield int(p.stdout.readline())
    finally:
        p.terminate()
        p.wait(10)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("rest")) as m:
        m.login()
        yield m


@pytest.fixture(scope="module")
def configured(master: RestMaster, provider: int) -> RestMaster:
    base = f"http://127.0.0.1:{provider}"
    values = {"server.root_url": "https://master.example:9292", "server.name": "our master", "oauth2.client_id": "the-client",
              "oauth2.client_secret": "s3cret/+ &=%", "oauth2.authorize_endpoint": f"{base}/authorize", "oauth2.token_endpoint": f"{base}/token",
              "oauth2.userinfo_endpoint": f"{base}/userinfo", "oauth2.userinfo_scope": "user:email", "oauth2.pkce": "true"}  # fmt: skip
    assert master.patch("/v1/config", values, token=master.login()).status == 201
    return master


def test_without_a_provider(master: RestMaster) -> None:
    a = master.get(f"/authenticate?redirect_uri={HOME}")
    assert (a.status, a.json) == (501, {"error": "server_error", "error_description": "Authentication provider not configured"})


def begin(m: RestMaster, query: str, token: str | None = None) -> dict[str, str]:
    a = m.get(f"/authenticate?{query}", token=token)
    assert a.status == 302 and a.body == b"", a
    location = urlsplit(a.headers["Location"])
    assert location.path == "/authorize"
    return {k: v[0] for k, v in parse_qs(location.query, strict_parsing=True).items()}


def invite(m: RestMaster, email: str) -> str:
    a = m.post("/oauth2/authorize", {"response_type": "invite", "email": email, "username": "x"}, token=m.login())
    assert a.status == 201 and set(a.json) == {"email", "invite_code", "link"} and a.json["email"] == email
    assert re.fullmatch(r"[0-9a-f]{12}", a.json["invite_code"])
    assert a.json["link"] == f"https://127.0.0.1:{m.port}/j/{a.json['invite_code']}"
    return a.json["invite_code"]


def test_an_invited_user_logs_in(configured: RestMaster) -> None:
    m = configured
    q = begin(m, f"redirect_uri={HOME}&invite_code={invite(m, 'anna@example.org')}&expires_in=7200")
    assert q["response_type"] == "code" and q["client_id"] == "the-client" and q["scope"] == "user:email"
    assert q["redirect_uri"] == "https://master.example:9292/cb" and q["code_challenge_method"] == "S256" and len(q["state"]) == 64
    path = f"/cb?code=anna.{q['code_challenge']}&state={q['state']}"
    a = m.get(path)
    assert a.status == 302 and a.headers["Location"].startswith(HOME + "?"), a
    back = dict(parse_qsl(urlsplit(a.headers["Location"]).query))
    assert back["server_name"] == "our master"
    t = m.post("/oauth2/token", {"grant_type": "authorization_code", "code": back["code"]})
    assert t.status == 201 and 7000 < t.json["expires_in"] <= 7200 and t.json["user"]["email"] == "anna@example.org"
    assert m.get("/v1/user", token=t.json["access_token"]).json["email"] == "anna@example.org"
    a = m.get(path)  # a state serves once
    assert (a.status, a.json) == (400, "invalid_request")


def test_a_known_user_logs_in_to_the_page(configured: RestMaster) -> None:
    q = begin(configured, "redirect_uri=/code")
    a = configured.get(f"/cb?code=anna.{q['code_challenge']}&state={q['state']}")
    assert a.status == 302 and a.headers["Location"].startswith("/code#") and "code=" in a.headers["Location"]


@pytest.mark.parametrize("who,status,said", [("bert", 403, "Access denied"), ("admin", 403, "Access denied"), ("nobody", 403, "Access denied")])
def test_strangers_do_not(configured: RestMaster, who: str, status: int, said: str) -> None:
    q = begin(configured, f"redirect_uri={HOME}")
    a = configured.get(f"/cb?code={who}.{q['code_challenge']}&state={q['state']}")
    assert a.status in (status, 400) and (a.status == 400 or a.json == said), a
    assert "Location" not in a.headers


def test_what_the_provider_does_not_take(configured: RestMaster) -> None:
    q = begin(configured, f"redirect_uri={HOME}")
    a = configured.get(f"/cb?code=anna.wrong&state={q['state']}")
    assert a.status == 400 and a.json.startswith("Authentication failed"), a


@pytest.mark.parametrize("query,status,error", [
    ("", 400, "invalid_request"),
    ("redirect_uri=", 400, "invalid_request"),
    ("redirect_uri=https://evil.example/cb", 400, "invalid_request"),
    ("redirect_uri=http://localhost.evil.example/", 400, "invalid_request"),
    ("redirect_uri=http://localhost@evil.example/", 400, "invalid_request"),
    ("redirect_uri=//evil.example/code", 400, "invalid_request"),
    (f"redirect_uri={HOME}&expires_in=soon", 400, "invalid_request"),
    (f"redirect_uri={HOME}&invite_code=000000000000", 403, "access_denied"),
])  # fmt: skip
def test_logins_that_do_not_begin(configured: RestMaster, query: str, status: int, error: str) -> None:
    a = configured.get(f"/authenticate?{query}")
    assert (a.status, a.json["error"]) == (status, error), a


def test_callbacks_that_are_none(configured: RestMaster) -> None:
    a = configured.get("/cb?error=access_denied&error_description=%3Cscript%3E")
    assert a.status == 502 and isinstance(a.json, str) and "script" not in a.json
    for query in ("", "code=x", "state=x", "code=x&state=" + "0" * 64, "code=x&state=" + "0" * 4000):
        a = configured.get(f"/cb?{query}")
        assert (a.status, a.json) == (400, "invalid_request"), a


def test_a_browser_gets_pages(configured: RestMaster) -> None:
    """What a person reads when a login ends badly; programs get what they got above."""
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    q = begin(configured, f"redirect_uri={HOME}")
    for path, status, title in (
        (f"/authenticate?redirect_uri={HOME}&invite_code=000000000000", 403, "The login cannot begin"),
        ("/authenticate?redirect_uri=https://evil.example/cb", 400, "The login cannot begin"),
        (f"/cb?code=bert.{q['code_challenge']}&state={q['state']}", 403, "This account has no access"),
        (f"/cb?code=bert.{q['code_challenge']}&state={q['state']}", 400, "This login is over"),
        ("/cb?error=access_denied&error_description=%3Cscript%3E", 502, "The provider has refused the login"),
        (f"/cb?code=anna.wrong&state={begin(configured, f'redirect_uri={HOME}')['state']}", 400, "The login has failed"),
    ):  # fmt: skip
        a = configured.get(path, **browser)
        page = a.body.decode()
        assert a.status == status and a.headers["Content-Type"].startswith("text/html"), (path, a)
        assert f"<h1>{title}</h1>" in page and "the terminal" in page or "administrator" in page, (path, page)
        assert "script" not in page and "default-src 'none'" in a.headers["Content-Security-Policy"]
