# SPDX-License-Identifier: LGPL-2.1-or-later
"""Grids, their members, events and audit over REST: reference sections 6, 7.3 and 7.4."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from restlib import RestMaster

ISO = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
GRID = {"id", "name", "token", "initial_size", "stats", "default_affinity", "trusted_subnets", "node_count", "service_count", "container_count",
        "user_count", "subnet", "supernet"}  # fmt: skip


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("rest")) as m:
        m.login()
        yield m


@pytest.fixture(scope="module")
def admin(master: RestMaster) -> str:
    return master.login()


@pytest.fixture(scope="module")
def people(master: RestMaster, admin: str) -> dict[str, str]:
    """Tokens of users: a member of grid one, the same as grid_admin, one of no grid, a user_admin that is a member."""
    assert master.post("/v1/grids", {"name": "one"}, token=admin).status == 201
    assert master.post("/v1/grids", {"name": "two", "subnet": "10.82.0.0/16", "supernet": "10.82.0.0/16"}, token=admin).status == 201
    tokens = {}
    for name, grid, role in (("anna", "one", None), ("greta", "one", "grid_admin"), ("nils", None, None), ("uwe", "one", "user_admin")):
        tokens[name] = master.new_user(f"{name}@example.com")
        if grid:
            assert master.post(f"/v1/grids/{grid}/users", {"email": f"{name}@example.com"}, token=admin).status == 201
        if role:
            assert master.post(f"/v1/users/{name}@example.com/roles", {"role": role}, token=admin).status == 201
    return tokens


def test_a_grid_is_made_shown_changed_and_removed(master: RestMaster, admin: str) -> None:
    a = master.post("/v1/grids", {"name": "made", "initial_size": "3", "subnet": "10.83.0.0/16", "supernet": None,
                                  "trusted_subnets": ["192.168.0.0/24"], "unknown": 1}, token=admin)  # fmt: skip
    assert a.status == 201, a
    assert set(a.json) == GRID and a.json["id"] == a.json["name"] == "made"
    assert a.json["initial_size"] == 3 and a.json["trusted_subnets"] == ["192.168.0.0/24"] and a.json["default_affinity"] == []
    assert a.json["stats"] == {"statsd": None} and a.json["node_count"] == a.json["service_count"] == a.json["container_count"] == 0
    assert len(a.json["token"]) > 20
    assert master.get("/v1/grids/made", token=admin).json == a.json
    b = master.put("/v1/grids/made", {"trusted_subnets": [], "default_affinity": ["label==a"]}, token=admin)
    assert b.status == 200 and b.json["trusted_subnets"] == [] and b.json["default_affinity"] == ["label==a"]
    assert "made" in [g["id"] for g in master.get("/v1/grids", token=admin).json["grids"]]
    assert master.delete("/v1/grids/made", token=admin).json == {}
    assert (master.get("/v1/grids/made", token=admin).status, master.get("/v1/grids/made", token=admin).json) == (404, {"error": "Not found"})


def test_a_list_of_grids_is_one_row_of_the_audit(master: RestMaster, admin: str, people: dict[str, str]) -> None:
    def rows() -> list[dict[str, object]]:
        words = ["busctl", "--address", master.bus_address, "--json=short", "call", "io.kontena.Master1", "/io/kontena/Master1",
                 "io.kontena.Master1.Manager", "ListAudit", "sa{sv}", "", "2", "operation", "s", "grid", "limit", "t", "500"]  # fmt: skip
        r = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert r.returncode == 0, r.stderr
        return [row for row in json.loads(r.stdout)["data"][0] if row["operation"]["data"].startswith("grid.token")]

    seen = {name: {g["name"]: g["token"] for g in master.get("/v1/grids", token=token).json["grids"]} for name, token in people.items()}
    assert seen["anna"] == {"one": None} and seen["nils"] == {} and list(seen["greta"]) == ["one"] and seen["greta"]["one"]
    before = len(rows())
    everything = {g["name"]: g["token"] for g in master.get("/v1/grids", token=admin).json["grids"]}
    assert {"one", "two"} <= set(everything) and all(everything.values()) and everything["one"] == seen["greta"]["one"]
    after = rows()
    assert len(after) == before + 1
    text = [json.dumps(r) for r in after if r["operation"]["data"] == "grid.tokens"]  # type: ignore[index]
    assert all(f'"{name}"' in text[-1] for name in everything) and "greta" in text[-2] and '"two"' not in text[-2]
    assert not any("anna@" in t or "nils@" in t for t in text)
    assert not any(str(token) in t for t in text for token in everything.values())


def test_a_grid_without_a_name_gets_one(master: RestMaster, admin: str) -> None:
    a = master.post("/v1/grids", {"name": None, "subnet": "10.84.0.0/16"}, token=admin)
    assert a.status == 201 and len(a.json["name"]) >= 3
    assert master.delete(f"/v1/grids/{a.json['name']}", token=admin).status == 200


@pytest.mark.parametrize("body,error", [
    ({"name": "ab"}, {"name": "Name is too short"}),
    ({"name": ""}, {"name": "Name can't be blank"}),
    ({"name": "a b c"}, {"name": "Name isn't in the right format"}),
    ({"name": "new", "initial_size": 8}, {"initial_size": "Initial Size is too big"}),
    ({"name": "new", "initial_size": 0}, {"initial_size": "Initial Size is too small"}),
    ({"name": "new", "initial_size": "x"}, {"initial_size": "Initial Size isn't an integer"}),
    ({"name": "new", "trusted_subnets": "x"}, {"trusted_subnets": "Trusted Subnets isn't an array"}),
    ({"name": "new", "trusted_subnets": ["x"]}, {"trusted_subnets": "Invalid trusted_subnet x"}),
    ({"name": "new", "trusted_subnets": [[]]}, {"trusted_subnets": ["Trusted Subnets[0] isn't a string"]}),
    ({"name": "new", "stats": {"statsd": {"server": "a"}}}, {"stats": {"statsd": {"port": "Port is required"}}}),
    ({"name": "new", "stats": []}, {"stats": "Stats isn't a hash"}),
    ({"name": "new", "logs": {"forwarder": "x"}}, {"logs": {"forwarder": "Forwarder isn't an option"}}),
    ({"name": "one"}, {"grid": "Grid with name one already exists"}),
])  # fmt: skip
def test_what_is_wrong_with_a_grid_is_said_by_field(master: RestMaster, admin: str, people: dict[str, str], body: object, error: object) -> None:
    a = master.post("/v1/grids", body, token=admin)
    assert (a.status, a.json) == (422, {"error": error})


def test_bad_networks_are_said_by_field(master: RestMaster, admin: str) -> None:
    for field in ("subnet", "supernet"):
        a = master.post("/v1/grids", {"name": "new", field: "nonsense"}, token=admin)
        assert a.status == 422 and list(a.json["error"]) == [field], a


def test_what_this_master_does_not_have_is_refused(master: RestMaster, admin: str) -> None:
    for body in ({"stats": {"statsd": {"server": "s", "port": 1}}}, {"logs": {"forwarder": "fluentd", "opts": {"fluentd-address": "x"}}},
                 {"token": "mine"}):  # fmt: skip
        a = master.post("/v1/grids", {"name": "new", **body}, token=admin)
        assert a.status == 422 and list(a.json["error"]) == list(body), a
    assert master.put("/v1/grids/one", {"logs": {"forwarder": "none"}}, token=admin).status == 200


def test_members_see_their_grids_only(master: RestMaster, people: dict[str, str]) -> None:
    assert [g["id"] for g in master.get("/v1/grids", token=people["anna"]).json["grids"]] == ["one"]
    assert master.get("/v1/grids", token=people["nils"]).json == {"grids": []}
    assert master.get("/v1/grids/one", token=people["anna"]).status == 200
    assert (master.get("/v1/grids/two", token=people["anna"]).json) == {"error": "Access denied"}
    assert master.get("/v1/grids/two", token=people["anna"]).status == 403
    assert master.get("/v1/grids/three", token=people["anna"]).status == 404


def test_the_token_is_for_administrators(master: RestMaster, people: dict[str, str]) -> None:
    assert master.get("/v1/grids/one", token=people["anna"]).json["token"] is None
    assert master.get("/v1/grids/one", token=people["greta"]).json["token"]


def test_who_may_change_a_grid(master: RestMaster, people: dict[str, str]) -> None:
    change = {"default_affinity": []}
    assert master.put("/v1/grids/one", change, token=people["greta"]).status == 200
    a = master.put("/v1/grids/one", change, token=people["anna"])
    assert (a.status, a.json) == (422, {"error": {"user": "Operation not allowed"}})
    assert master.put("/v1/grids/two", change, token=people["greta"]).status == 403
    for path, method in (("/v1/grids", "POST"), ("/v1/grids/one", "DELETE")):
        a = master.request(method, path, {"name": "new"}, token=people["greta"])
        assert (a.status, a.json) == (422, {"error": {"user": "Operation not allowed"}})


def test_members_are_added_and_removed(master: RestMaster, admin: str, people: dict[str, str]) -> None:
    users = "/v1/grids/one/users"
    a = master.get(users, token=people["anna"])
    assert a.status == 200 and "anna@example.com" in [u["email"] for u in a.json["users"]]
    assert all(set(u) == {"id", "email", "name", "roles"} for u in a.json["users"])
    for who in ("greta", "uwe"):
        a = master.post(users, {"email": "nils@example.com"}, token=people[who])
        assert a.status == 201 and "nils@example.com" in [u["email"] for u in a.json["users"]]
        a = master.delete(f"{users}/nils@example.com", token=people[who])
        assert a.status == 200 and "nils@example.com" not in [u["email"] for u in a.json["users"]]
    a = master.post(users, {"email": "nils@example.com"}, token=people["anna"])
    assert (a.status, a.json) == (422, {"error": {"grid": "Operation not allowed"}})
    a = master.post(users, {"email": "nobody@example.com"}, token=admin)
    assert (a.status, a.json) == (404, {"error": "User not found"})
    assert master.post(users, {}, token=admin).json == {"error": {"email": "Email is required"}}
    assert master.delete(f"{users}/nobody@example.com", token=admin).status == 404
    assert master.get(users, token=people["nils"]).status == 403
    last = master.get("/v1/grids/two/users", token=admin).json["users"]
    assert [u["email"] for u in last] == ["admin"]
    a = master.delete("/v1/grids/two/users/admin", token=admin)
    assert (a.status, a.json) == (422, {"error": {"grid": "Cannot remove last user"}})


def test_events_of_a_grid(master: RestMaster, admin: str, people: dict[str, str]) -> None:
    a = master.get("/v1/grids/one/event_logs", token=people["anna"])
    assert a.status == 200
    e = a.json["logs"][0]
    assert set(e) == {"created_at", "severity", "type", "message", "meta", "relationships"}
    assert e["type"] == "grid:create" and e["severity"] == 1 and e["meta"] is None
    assert e["relationships"] == [{"id": "one", "type": "grid"}]
    assert len(master.get("/v1/grids/one/event_logs?limit=1", token=admin).json["logs"]) == 1
    assert master.get("/v1/grids/one/event_logs?since=2999-01-01", token=admin).json == {"logs": []}
    assert master.get("/v1/grids/one/event_logs?nodes=none", token=admin).json == {"logs": []}
    assert master.get("/v1/grids/two/event_logs", token=people["anna"]).status == 403
    assert master.get("/v1/services/one/null/web/event_logs", token=admin).status == 404
    a = master.get("/v1/stacks/one/shop/event_logs", token=admin)
    assert (a.status, a.json) == (404, {})  # no service, no stack


def chunks(c: object) -> Iterator[bytes]:
    """One HTTP chunk after another: what http.client hides."""
    fp = c.fp  # type: ignore[attr-defined]
    while size := int(fp.readline(), 16):
        yield fp.read(size)
        assert fp.readline() == b"\r\n"


def test_followed_events_come_one_in_a_chunk(master: RestMaster, admin: str, people: dict[str, str]) -> None:
    c = master.connection()
    c.request("GET", "/v1/grids/one/event_logs?follow=1&limit=1", headers={"Authorization": f"Bearer {people['anna']}"})
    r = c.getresponse()
    assert r.status == 200 and r.headers["Transfer-Encoding"] == "chunked" and r.headers["Content-Type"] == "application/json"
    stream = chunks(r)
    assert json.loads(next(stream))["type"]
    for name in ("x1", "x2"):
        a = master.post("/v1/grids/one/services", {"name": name, "image": "redis", "stateful": False}, token=admin)
        if a.status == 404:
            pytest.skip("services are not served yet")
        assert a.status == 201, a
    seen = [json.loads(next(stream)) for _ in range(2)]
    assert ["one/null/x1", "one/null/x2"] == [rel["id"] for e in seen for rel in e["relationships"] if rel["type"] == "service"]
    c.close()


def leaves_the_grid(master: RestMaster, admin: str, token: str, email: str) -> int:
    return master.delete(f"/v1/grids/brief/users/{email}", token=admin).status


def is_removed(master: RestMaster, admin: str, token: str, email: str) -> int:
    return master.delete(f"/v1/users/{email}", token=admin).status


def token_is_revoked(master: RestMaster, admin: str, token: str, email: str) -> int:
    return master.delete(f"/oauth2/tokens/{token}", token=token).status


@pytest.fixture(scope="module")
def brief(master: RestMaster, admin: str) -> None:
    assert master.post("/v1/grids", {"name": "brief", "subnet": "10.85.0.0/16"}, token=admin).status == 201
    service = {"name": "quiet", "image": "redis", "stateful": False}
    assert master.post("/v1/grids/brief/services", service, token=admin).status == 201


@pytest.mark.parametrize("path", ["grids/brief/event_logs", "grids/brief/container_logs", "services/brief/null/quiet/container_logs"])
@pytest.mark.parametrize("loss", [leaves_the_grid, is_removed, token_is_revoked])
def test_a_stream_ends_with_the_right_to_read(master: RestMaster, admin: str, brief: None, path: str, loss: Callable[..., int]) -> None:
    email = f"{loss.__name__}-{hash(path) % 100000}@example.com"
    token = master.new_user(email)
    assert master.post("/v1/grids/brief/users", {"email": email}, token=admin).status == 201
    c = master.connection()
    c.request("GET", f"/v1/{path}?follow=1", headers={"Authorization": f"Bearer {token}"})
    r = c.getresponse()
    assert r.status == 200
    start = time.monotonic()
    assert loss(master, admin, token, email) in (200, 201)
    r.read()
    assert time.monotonic() - start < 60


def test_audit(master: RestMaster, admin: str, people: dict[str, str]) -> None:
    a = master.get("/v1/audit_logs?limit=3000", token=admin)
    assert a.status == 200
    keys = {"time", "grid", "grid_id", "service", "resource_type", "resource_name", "resource_id", "event_name", "event_status", "source_ip", "user_agent", "user_identity"}  # fmt: skip
    assert all(set(row) == keys for row in a.json["logs"])
    made = [row for row in a.json["logs"] if row["event_name"] == "create" and row["resource_name"] == "one" and row["event_status"] == "success"]
    assert len(made) == 1 and made[0]["resource_type"] == "Grid" and made[0]["grid"] == "one" and made[0]["event_status"] == "success"
    assert made[0]["source_ip"] == "127.0.0.1" and made[0]["user_agent"] == "kontena-cli/1.6.4" and made[0]["user_identity"]["email"] == "admin"
    assert any(row["event_name"] == "assign user" for row in a.json["logs"])
    times = [row["time"] for row in a.json["logs"]]
    assert times == sorted(times)
    assert len(master.get("/v1/audit_logs?limit=2", token=admin).json["logs"]) == 2
    assert master.get("/v1/audit_logs", token=people["anna"]).status == 403
    assert all(row["grid"] == "one" for row in master.get("/v1/grids/one/audit_log", token=people["anna"]).json["logs"])
    assert master.get("/v1/grids/two/audit_log", token=people["anna"]).status == 403


@pytest.mark.parametrize("path", ["/v1/grids/one/stacks", "/v1/grids/one/certificates", "/v1/grids/one/domain_authorizations", "/v1/etcd/one/a//b"])
def test_what_comes_later_says_so(master: RestMaster, admin: str, people: dict[str, str], path: str) -> None:
    a = master.get(path, token=admin)
    assert a.status == 501 and a.json["error"].endswith(".")
    assert master.get(path).status == 403
