# SPDX-License-Identifier: LGPL-2.1-or-later
"""Login, tokens, users, roles and settings over REST: reference sections 3, 4 and 5."""

import urllib.parse
from collections.abc import Iterator

import pytest

from restlib import ADMIN_CODE, RestMaster

BEARER = {"id", "token_type", "access_token", "refresh_token", "access_token_last_four", "refresh_token_last_four", "expires_in", "scopes",
          "description", "user", "server"}  # fmt: skip
CODE = {"id", "grant_type", "code", "scopes", "description", "user", "server"}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("rest")) as m:
        yield m


@pytest.fixture(scope="module")
def admin(master: RestMaster) -> str:
    return master.login()


@pytest.fixture(scope="module")
def anna(master: RestMaster, admin: str) -> str:
    return master.new_user("anna@example.com")


def grant(master: RestMaster, **body: object) -> object:
    return master.post("/oauth2/token", body)


def test_the_first_code_works_once(master: RestMaster, admin: str) -> None:
    a = grant(master, grant_type="authorization_code", code=ADMIN_CODE, client_id="x", client_secret="y")
    assert (a.status, a.json) == (404, {"error": "invalid_request", "error_description": "authorization_code"})
    a = master.get("/v1/user", token=admin)
    assert a.status == 200 and a.headers["X-Kontena-Version"] == "1.6.4"
    assert a.json["email"] == "admin" and {"name": "master_admin", "description": "Master admin"} in a.json["roles"]
    assert set(a.json) == {"id", "email", "name", "roles"}


@pytest.mark.parametrize("body,status,error", [
    ({}, 400, {"error": "invalid_request"}),
    ({"grant_type": " ", "code": None}, 400, {"error": "invalid_request"}),
    ({"grant_type": "authorization_code"}, 400, {"error": "invalid_request", "error_description": "authorization_code"}),
    ({"grant_type": "refresh_token", "refresh_token": ""}, 400, {"error": "invalid_request", "error_description": "refresh_token"}),
    ({"grant_type": "refresh_token", "refresh_token": "00" * 64}, 404, {"error": "invalid_request", "error_description": "refresh_token"}),
    ({"grant_type": "password", "code": "x"}, 400, {"error": "unsupported_grant_type", "error_description": "grant_type"}),
])  # fmt: skip
def test_grants_that_are_none(master: RestMaster, admin: str, body: object, status: int, error: object) -> None:
    a = master.post("/oauth2/token", body)
    assert (a.status, a.json) == (status, error)


def test_errors_follow_what_is_accepted(master: RestMaster) -> None:
    for accept, content_type, body in (("application/x-www-form-urlencoded", "application/x-www-form-urlencoded", b"error=unsupported_grant_type&error_description=grant_type"),
                                       ("text/plain", "text/plain", b"error:unsupported_grant_type;error_description:grant_type")):  # fmt: skip
        a = master.request("POST", "/oauth2/token", raw=b"grant_type=x", Accept=accept, Content_Type="application/x-www-form-urlencoded")
        assert a.status == 400 and a.headers["Content-Type"].startswith(content_type) and a.body == body
    a = master.request("POST", "/oauth2/token?grant_type=<b>", Accept="text/html")
    assert a.status == 400 and a.headers["Content-Type"].startswith("text/html") and b"<b>" not in a.body
    assert "default-src 'none'" in a.headers["Content-Security-Policy"]


def test_a_code_is_exchanged_and_a_token_refreshed(master: RestMaster, admin: str) -> None:
    a = master.post("/oauth2/authorize", {"response_type": "code", "scope": "user, owner", "expires_in": "7200", "description": "mine"}, token=admin)
    assert a.status == 201 and set(a.json) == CODE and a.json["scopes"] == "user,owner" and a.json["grant_type"] == "authorization_code"
    t = grant(master, grant_type="authorization_code", code=a.json["code"])
    assert t.status == 201 and set(t.json) == BEARER and t.json["token_type"] == "bearer"
    assert len(t.json["access_token"]) == 64 and len(t.json["refresh_token"]) == 128 and 7000 < t.json["expires_in"] <= 7200
    assert t.json["scopes"] == "user,owner" and t.json["description"] == "mine" and t.json["user"]["email"] == "admin"
    assert set(t.json["user"]) == {"id", "email", "name"} and set(t.json["server"]) == {"name"}
    assert t.json["access_token_last_four"] == t.json["access_token"][-4:]
    assert t.headers["Cache-Control"] == "no-store"
    n = grant(master, grant_type="refresh_token", refresh_token=t.json["refresh_token"])
    assert n.status == 201 and n.json["refresh_token"] != t.json["refresh_token"] and n.json["expires_in"] <= 7200
    assert master.get("/v1/user", token=t.json["access_token"]).status == 403
    assert master.get("/v1/user", token=n.json["access_token"]).status == 200
    assert grant(master, grant_type="refresh_token", refresh_token=t.json["refresh_token"]).status == 404


def test_a_form_is_answered_by_a_form(master: RestMaster, admin: str) -> None:
    code = master.post("/oauth2/authorize", {"response_type": "code", "scope": "user"}, token=admin).json["code"]
    body = urllib.parse.urlencode({"grant_type": "authorization_code", "code": code, "state": "a b"}).encode()
    a = master.request("POST", "/oauth2/token", raw=body, Accept="*/*", Content_Type="application/x-www-form-urlencoded")
    assert a.status == 201 and a.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    fields = dict(urllib.parse.parse_qsl(a.body.decode()))
    assert fields["state"] == "a b" and fields["username"] == "admin" and len(fields["access_token"]) == 64


@pytest.mark.parametrize("body,status,error", [
    ({}, 400, "invalid_request"),
    ({"response_type": "id_token"}, 400, "unsupported_response_type"),
    ({"response_type": "token"}, 400, "invalid_scope"),
    ({"response_type": "token", "scope": "root"}, 400, "invalid_scope"),
    ({"response_type": "token", "scope": "user", "expires_in": "soon"}, 400, "invalid_request"),
    ({"response_type": "token", "scope": "user", "user": "nobody@example.com"}, 404, "not_found"),
    ({"response_type": "invite", "email": "x@example.com"}, 501, "server_error"),
])  # fmt: skip
def test_authorize_says_what_is_wrong(master: RestMaster, admin: str, body: object, status: int, error: str) -> None:
    a = master.post("/oauth2/authorize", body, token=admin)
    assert (a.status, a.json["error"]) == (status, error), a


def test_authorize_wants_a_token_that_may(master: RestMaster, anna: str) -> None:
    a = master.post("/oauth2/authorize", {"response_type": "token", "scope": "user"})
    assert (a.status, a.json["error"]) == (403, "access_denied")
    a = master.post("/oauth2/authorize", {"response_type": "token", "scope": "user", "user": "admin"}, token=anna)
    assert (a.status, a.json) == (403, {"error": "access_denied", "error_description": "You do not have the permission to create invites"})
    a = master.post("/oauth2/authorize", {"response_type": "invite", "email": "x@example.com"}, token=anna)
    assert (a.status, a.json["error"]) == (403, "access_denied")


def test_tokens_are_listed_shown_and_revoked(master: RestMaster, admin: str, anna: str) -> None:
    made = master.post("/oauth2/authorize", {"response_type": "token", "scope": "user", "expires_in": None}, token=anna).json
    assert made["expires_in"] is None and made["refresh_token"] is None
    tokens = master.get("/oauth2/tokens", token=anna).json["tokens"]
    assert {t["id"] for t in tokens} >= {made["id"]} and all(t.get("access_token") is None for t in tokens)
    for name in (made["id"], made["access_token"]):
        a = master.get(f"/oauth2/tokens/{name}", token=anna)
        assert a.status == 200 and a.json["id"] == made["id"] and a.json["access_token"] is None
    own = [t["id"] for t in master.get("/oauth2/tokens", token=admin).json["tokens"]][0]
    a = master.get(f"/oauth2/tokens/{own}", token=anna)
    assert (a.status, a.json) == (401, {"error": "Unauthorized"})
    assert master.delete(f"/oauth2/tokens/{own}", token=anna).status == 401
    assert master.get("/oauth2/tokens/nothing", token=anna).status == 404
    a = master.delete(f"/oauth2/tokens/{made['id']}", token=admin)
    assert (a.status, a.body) == (201, b"")
    assert master.get("/v1/user", token=made["access_token"]).status == 403
    assert master.delete(f"/oauth2/tokens/{made['id']}", token=admin).status == 404


def test_users_and_roles(master: RestMaster, admin: str, anna: str) -> None:
    a = master.get("/v1/users", token=admin)
    assert a.status == 200 and {"admin", "anna@example.com"} <= {u["email"] for u in a.json["users"]}
    a = master.get("/v1/users", token=anna)
    assert (a.status, a.json) == (403, {"error": "Operation not allowed"})
    roles = "/v1/users/anna@example.com/roles"
    a = master.post(roles, {"role": "user_admin"}, token=anna)
    assert (a.status, a.json) == (422, {"error": {"current_user": "Operation not allowed"}})
    a = master.post(roles, {"role": "user_admin"}, token=admin)
    assert a.status == 201 and [r["name"] for r in a.json["roles"]] == ["user_admin"]
    assert master.get("/v1/users", token=anna).status == 200
    a = master.delete(roles + "/user_admin", token=admin)
    assert a.status == 200 and a.json["roles"] == []
    a = master.post(roles, {"role": "emperor"}, token=admin)
    assert (a.status, a.json) == (422, {"error": {"role": "Role 'emperor' not found"}})
    assert master.post(roles, {}, token=admin).json == {"error": {"role": "Role is required"}}
    assert master.post("/v1/users/nobody@example.com/roles", {"role": "user_admin"}, token=admin).status == 404
    a = master.delete("/v1/users/admin/roles/master_admin", token=admin)
    assert (a.status, a.json) == (422, {"error": {"role": "Not allowed to remove last user from Master admin role"}})


def test_users_are_removed_with_their_tokens(master: RestMaster, admin: str, anna: str) -> None:
    token = master.new_user("brief@example.com")
    a = master.delete("/v1/users/brief@example.com", token=anna)
    assert (a.status, a.json) == (400, {"error": {"user": "Operation not allowed"}})
    a = master.delete("/v1/users/admin", token=admin)
    assert (a.status, a.json) == (400, {"error": {"user": "Cannot remove itself"}})
    assert master.get("/v1/user", token=token).status == 200
    a = master.delete("/v1/users/brief%40example.com", token=admin)
    assert (a.status, a.json) == (200, {})
    assert master.get("/v1/user", token=token).status == 403
    assert master.delete("/v1/users/brief@example.com", token=admin).status == 404


def test_settings(master: RestMaster, admin: str, anna: str) -> None:
    for method, path in (("GET", "/v1/config"), ("PATCH", "/v1/config"), ("PUT", "/v1/config"), ("DELETE", "/v1/config"),
                         ("GET", "/v1/config/server.name"), ("DELETE", "/v1/config/server.name")):  # fmt: skip
        a = master.request(method, path, {}, token=anna)
        assert (a.status, a.json) == (403, {"error": "access_denied"}), (method, path)
    a = master.patch("/v1/config", {"server.name": "our master", "oauth2.client_secret": "s3cret", "x.number": 1, "x.gone": None}, token=admin)
    assert (a.status, a.json) == (201, {})
    a = master.get("/v1/config", token=admin)
    assert a.status == 200 and list(a.json) == sorted(a.json)
    assert a.json["server.name"] == "our master" and a.json["oauth2.client_secret"] == "s3cret" and a.json["x.number"] == "1" and "x.gone" not in a.json
    assert list(master.get("/v1/config?filter=x.*", token=admin).json) == ["x.number"]
    assert list(master.get("/v1/config?filter=number", token=admin).json) == ["x.number"]
    assert master.get("/v1/config/server.name", token=admin).json == {"server.name": "our master"}
    a = master.get("/v1/config/x.gone", token=admin)
    assert (a.status, a.json) == (404, "Not found")
    t = master.post("/oauth2/authorize", {"response_type": "token", "scope": "user"}, token=admin)
    assert t.json["server"] == {"name": "our master"}
    for _ in range(2):
        assert master.delete("/v1/config/x.number", token=admin).status == 201
    assert master.put("/v1/config", {"only": "this"}, token=admin).status == 201
    assert master.get("/v1/config", token=admin).json == {"only": "this"}
    assert (master.delete("/v1/config", token=admin).status, master.get("/v1/config", token=admin).json) == (201, {})


def test_logins_are_limited_by_account(master: RestMaster, admin: str) -> None:
    """By address they are not from here: localhost is free of that, as in the reference."""
    token = master.new_user("busy@example.com")
    seen = [master.post("/oauth2/authorize", {"response_type": "x"}, token=token).status for _ in range(62)]
    assert seen[:60] == [400] * 60 and seen[60:] == [429, 429]
    assert master.post("/oauth2/authorize", {"response_type": "x"}, token=master.new_user("calm@example.com")).status == 400
    assert master.get("/v1/user", token=token).status == 200


def test_a_proxy_of_this_machine_says_whom_it_speaks_for(master: RestMaster, admin: str) -> None:
    def ask(address: str, plain: bool = True) -> int:
        return master.request("POST", "/oauth2/token", {}, plain=plain, X_Forwarded_For=address).status

    assert [ask("10.0.0.1, 198.51.100.7") for _ in range(62)][59:] == [400, 429, 429]
    assert ask("198.51.100.7, 198.51.100.8") == 400  # the last one counts
    assert ask("198.51.100.7", plain=False) == 400  # only on the plain port
    assert ask("nonsense") == 400
    assert ask("::FFFF:c633:6407") == 429  # 198.51.100.7 as a proxy on IPv6 says it
    assert ask("::ffff:198.51.100.10") == 400  # and that is another
    master.request("POST", "/v1/grids", {"name": "proxied"}, token=admin, plain=True, X_Forwarded_For="198.51.100.9")
    rows = master.get("/v1/audit_logs", token=admin).json["logs"]
    assert {r["source_ip"] for r in rows if r["resource_name"] == "proxied"} == {"198.51.100.9"}


def test_secrets_are_not_in_the_log(master: RestMaster, admin: str) -> None:
    log = master.log.read_text()
    assert admin not in log and ADMIN_CODE not in log and "s3cret" not in log
