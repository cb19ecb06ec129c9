# SPDX-License-Identifier: LGPL-2.1-or-later
"""What runs, over REST, as far as it needs no node: reference sections 7 to 9 and 11 to 14. The rest is in test/lab."""

import re
from collections.abc import Iterator

import pytest

from restlib import RestMaster

ISO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
SERVICE = {
    "id", "name", "image", "created_at", "updated_at", "stateful", "read_only", "instances", "strategy", "state", "revision", "stack_revision",
    "affinity", "user", "entrypoint", "log_driver", "pid", "stop_signal", "cmd", "net", "dns", "ports", "env", "secrets", "certificates", "memory",
    "memory_swap", "shm_size", "cpu_shares", "cpus", "volumes", "volumes_from", "cap_add", "cap_drop", "grid", "stack", "links", "log_opts",
    "deploy_opts", "instance_counts", "hooks", "stop_grace_period",
}  # fmt: skip
NODE = {
    "id", "node_id", "name", "node_number", "initial_member", "connected", "updated", "status", "availability", "created_at", "updated_at",
    "connected_at", "disconnected_at", "last_seen_at", "has_token", "os", "engine_root_dir", "driver", "kernel_version", "agent_version",
    "docker_version", "network_drivers", "volume_drivers", "labels", "mem_total", "mem_limit", "cpus", "public_ip", "private_ip", "overlay_ip",
    "peer_ips", "grid",
}  # fmt: skip
# As the reference lists them, but for logs with content, exec and what only a node can answer, which the lab asks for.
LISTED = {
    ("GET", "/v1/grids/:/nodes"), ("POST", "/v1/grids/:/nodes"), ("GET", "/v1/nodes/:/:"), ("PUT", "/v1/nodes/:/:"), ("DELETE", "/v1/nodes/:/:"),
    ("GET", "/v1/nodes/:/:/token"), ("PUT", "/v1/nodes/:/:/token"),
    ("DELETE", "/v1/nodes/:/:/token"), ("GET", "/v1/nodes/:/:/health"), ("GET", "/v1/nodes/:/:/stats"), ("GET", "/v1/nodes/:/:/metrics"), ("GET", "/v1/nodes/:"),
    ("PUT", "/v1/nodes/:"), ("GET", "/v1/grids/:/services"), ("POST", "/v1/grids/:/services"), ("GET", "/v1/services/:/:/:"),
    ("PUT", "/v1/services/:/:/:"), ("DELETE", "/v1/services/:/:/:"), ("POST", "/v1/services/:/:/:/deploy"),
    ("GET", "/v1/services/:/:/:/deploys/:"), ("POST", "/v1/services/:/:/:/scale"), ("POST", "/v1/services/:/:/:/start"),
    ("POST", "/v1/services/:/:/:/stop"), ("POST", "/v1/services/:/:/:/restart"), ("GET", "/v1/services/:/:/:/instances"),
    ("GET", "/v1/services/:/:/:/instances/:"), ("DELETE", "/v1/services/:/:/:/instances/:"), ("GET", "/v1/services/:/:/:/containers"),
    ("POST", "/v1/services/:/:/:/envs"), ("DELETE", "/v1/services/:/:/:/envs/:"), ("GET", "/v1/services/:/:/:/container_logs"),
    ("GET", "/v1/services/:/:/:/stats"), ("GET", "/v1/services/:/:/:/metrics"), ("GET", "/v1/grids/:/container_logs"),
    ("GET", "/v1/stacks/:/:/container_logs"), ("GET", "/v1/grids/:/stats"), ("GET", "/v1/grids/:/metrics"), ("GET", "/v1/containers/:"),
    ("GET", "/v1/containers/:/:/:"), ("GET", "/v1/containers/:/:/:/top"), ("GET", "/v1/containers/:/:/:/logs"),
    ("GET", "/v1/containers/:/:/:/inspect"), ("POST", "/v1/containers/:/:/:/exec"), ("GET", "/v1/containers/:/:/:/exec"),
    ("GET", "/v1/volumes/:"), ("POST", "/v1/volumes/:"), ("GET", "/v1/volumes/:/:"), ("DELETE", "/v1/volumes/:/:"),
    ("GET", "/v1/grids/:/secrets"), ("POST", "/v1/grids/:/secrets"), ("PUT", "/v1/grids/:/secrets/:"), ("GET", "/v1/secrets/:/:"),
    ("PUT", "/v1/secrets/:/:"), ("DELETE", "/v1/secrets/:/:"), ("GET", "/v1/grids/:/external_registries"),
    ("POST", "/v1/grids/:/external_registries"), ("GET", "/v1/external_registries/:/:"), ("DELETE", "/v1/external_registries/:/:"),
}  # fmt: skip


class Client:
    """One caller, who remembers what was asked."""

    asked: set[tuple[str, str]] = set()

    def __init__(self, master: RestMaster, token: str):
        self.master, self.token = master, token

    def __call__(self, method: str, path: str, body: object = None, **headers: str):  # type: ignore[no-untyped-def]
        a = self.master.request(method, "/v1/" + path, body, token=self.token, **headers)
        found = [e for e in LISTED if e[0] == method and re.fullmatch(e[1].replace(":", "[^/]+"), f"/v1/{path}".split("?")[0])]
        Client.asked.update(found)
        assert a.headers["Content-Type"] == "application/json", a
        return a

    def ok(self, method: str, path: str, body: object = None, status: int = 200):  # type: ignore[no-untyped-def]
        a = self(method, path, body)
        assert a.status == status, a
        return a.json

    def refused(self, method: str, path: str, body: object = None):  # type: ignore[no-untyped-def]
        a = self(method, path, body)
        assert a.status == 422, a
        return a.json["error"]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("rest")) as m:
        yield m


@pytest.fixture(scope="module")
def call(master: RestMaster) -> Client:
    client = Client(master, master.login())
    client.ok("POST", "grids", {"name": "one"}, 201)
    return client


@pytest.fixture(scope="module")
def stranger(master: RestMaster, call: Client) -> Client:
    return Client(master, master.new_user("nils@example.com"))


def make(call: Client, name: str, **more: object) -> dict[str, object]:
    return call.ok("POST", "grids/one/services", {"name": name, "image": "nginx:latest", "stateful": False, **more}, 201)


# Services


def test_a_service_is_made_shown_changed_and_removed(call: Client) -> None:
    s = make(call, "web", secrets=[], log_opts={}, privileged=False, read_only=False, container_count="2", env=["A=1"],
             ports=[{"ip": "0.0.0.0", "protocol": "tcp", "node_port": "8080", "container_port": "80"}])  # fmt: skip
    assert set(s) == SERVICE
    assert s["id"] == "one/null/web" and s["stack"] == {"id": "one/null", "name": "null"} and s["grid"] == {"id": "one"}
    assert s["state"] == "initialized" and s["revision"] == 1 and s["instances"] == 2 and s["strategy"] == "ha" and s["net"] == "bridge"
    assert s["ports"] == [{"ip": "0.0.0.0", "protocol": "tcp", "node_port": 8080, "container_port": 80}]
    assert s["deploy_opts"] == {"wait_for_port": None, "min_health": 0.8, "interval": None}
    assert s["instance_counts"] == {"total": 0, "running": 0} and s["stop_grace_period"] == 10
    assert s["dns"] == "web.one.kontena.local" and ISO.match(s["created_at"])
    assert call.ok("GET", "services/one/null/web") == s
    assert call.ok("GET", "grids/one/services")["services"] == [s] == call.ok("GET", "grids/one/services?stack=null")["services"]

    changed = call.ok("PUT", "services/one/null/web", {"env": ["A=", "B=2"], "image": None, "stop_grace_period": "1m30s",
                                                      "health_check": {"port": 80, "protocol": "http"}})  # fmt: skip
    assert changed["env"] == ["A=1", "B=2"] and changed["revision"] == 2 and changed["stop_grace_period"] == 90
    assert changed["health_check"] == {"protocol": "http", "uri": "/", "port": 80, "timeout": 10, "initial_delay": 10, "interval": 60}
    assert changed["health_status"] == {"healthy": 0, "unhealthy": 0, "total": 0}
    again = call.ok("PUT", "services/one/null/web", {"health_check": {"port": None, "protocol": None}})
    assert "health_check" not in again and "health_status" not in again
    assert call.ok("PUT", "services/one/null/web", {"env": ["A=1", "B=2"]})["revision"] == again["revision"]

    assert call.ok("DELETE", "services/one/null/web") == {}
    assert (call("GET", "services/one/null/web").status, call("GET", "services/one/null/web").json) == (404, {"error": "Not found"})


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"name": "Name is required", "image": "Image is required", "stateful": "Stateful is required"}),
        ({"name": None, "image": "", "stateful": "maybe"},
         {"name": "Name can't be nil", "image": "Image can't be blank", "stateful": "Stateful isn't a boolean"}),
        ({"name": "-x", "image": "a", "stateful": False}, {"name": "Name isn't in the right format"}),
        ({"strategy": "best"}, {"strategy": "Strategy isn't an option"}),
        ({"cmd": "ls"}, {"cmd": "Cmd isn't an array"}),
        ({"cpu_shares": 5000}, {"cpu_shares": "Cpu Shares is too big"}),
        ({"links": [{"name": "db", "alias": "db"}, {"name": "shop/x", "alias": "x"}]},
         {"links": ["Service db does not exist", "Service shop/x does not exist"]}),
        ({"secrets": [{"secret": "NO", "name": "N"}]}, {"secrets": ["Secret NO does not exist"]}),
        ({"secrets": [{"secret": "NO"}]}, {"secrets": [{"name": "Name is required"}]}),
        ({"certificates": [{"subject": "a.test", "name": "C"}]}, {"certificates": ["Certificate a.test does not exist"]}),
        ({"stateful": True, "volumes_from": ["x"]}, {"volumes_from": "Cannot combine stateful & volumes_from"}),
        ({"stop_grace_period": "soon"}, {"stop_grace_period": "Stop Grace Period isn't in the right format"}),
    ],
)  # fmt: skip
def test_what_a_service_is_refused_for(call: Client, body: dict[str, object], errors: dict[str, object]) -> None:
    whole = body if not body or "name" in body else {"name": "bad", "image": "a", "stateful": False, **body}
    assert call.refused("POST", "grids/one/services", whole) == errors


@pytest.mark.parametrize("body", [{"net": "container:x"}, {"log_driver": "syslog"}, {"log_opts": {"a": "b"}}, {"env": ["=x"]}, {"memory": 5},
                                  {"affinity": ["near"]}, {"volumes": ["x"]}, {"volumes": ["nothere:/data"]}, {"stop_signal": "SIGNO"},
                                  {"health_check": {"port": 80, "protocol": "tcp", "interval": 1, "timeout": 9}}])  # fmt: skip
def test_the_field_is_named_that_is_wrong(call: Client, body: dict[str, object]) -> None:
    e = call.refused("POST", "grids/one/services", {"name": "bad", "image": "a", "stateful": False, **body})
    assert list(e) == list(body), e


def test_a_name_is_taken_once_and_links_hold_a_service(call: Client) -> None:
    make(call, "db")
    assert call.refused("POST", "grids/one/services", {"name": "db", "image": "a", "stateful": False}) == {"name": "is already taken"}
    s = make(call, "front", links=[{"name": "db", "alias": "db"}])
    assert s["links"] == [{"id": "one/null/db", "alias": "db", "name": "db"}]
    assert list(call.refused("DELETE", "services/one/null/db")) == ["service"]
    call.ok("PUT", "services/one/null/front", {"links": []})
    call.ok("DELETE", "services/one/null/db")
    call.ok("DELETE", "services/one/null/front")


def test_deploys_and_actions_without_a_node(call: Client) -> None:
    make(call, "idle")
    d = call.ok("POST", "services/one/null/idle/deploy", {"force": True})
    assert set(d) == {"id", "service_id", "created_at", "queued_at", "started_at", "finished_at", "state", "reason", "instance_count",
                      "instance_deploys"}  # fmt: skip
    assert d["service_id"] == "one/null/idle" and d["state"] in ("created", "ongoing", "error")
    again = call.ok("GET", f"services/one/null/idle/deploys/{d['id']}")
    assert again["id"] == d["id"]
    make(call, "other")
    assert call("GET", f"services/one/null/other/deploys/{d['id']}").status == 404
    assert call("GET", "services/one/null/idle/deploys/none").status == 404
    assert call.ok("POST", "services/one/null/idle/scale", {"instances": 2})["service_id"] == "one/null/idle"
    assert call.refused("POST", "services/one/null/idle/scale", {}) == {"instances": "Instances is required"}
    for action in ("start", "stop", "restart"):
        assert list(call.refused("POST", f"services/one/null/other/{action}")) == [action]
    assert call.ok("GET", "services/one/null/idle/instances") == {"instances": []}
    assert call("GET", "services/one/null/idle/instances/none").status == 404
    assert call("DELETE", "services/one/null/idle/instances/none").status == 404
    assert call.ok("GET", "services/one/null/idle/containers") == {"containers": []}
    for name in ("idle", "other"):
        call.ok("DELETE", f"services/one/null/{name}")


def test_the_environment_entry_by_entry(call: Client) -> None:
    make(call, "vars", env=["A=1", "B="])
    assert call.ok("POST", "services/one/null/vars/envs", {"env": "C= x "}) == {}
    assert call.ok("GET", "services/one/null/vars")["env"] == ["A=1", "B=", "C= x "]
    assert call.ok("POST", "services/one/null/vars/envs", {"env": "A=2"}) == {}
    assert call.ok("DELETE", "services/one/null/vars/envs/B") == call.ok("DELETE", "services/one/null/vars/envs/B") == {}
    assert call.ok("GET", "services/one/null/vars")["env"] == ["C= x ", "A=2"]
    a = call("POST", "services/one/null/vars/envs", {"env": "=1"})
    assert (a.status, a.json) == (422, {"env": "Env isn't in the right format"}), "nothing is around the map here"
    assert call("POST", "services/one/null/vars/envs", {}).json == {"env": "Env is required"}
    call.ok("DELETE", "services/one/null/vars")


def test_logs_and_figures_of_what_does_not_run(call: Client) -> None:
    make(call, "quiet")
    for path in ("services/one/null/quiet/container_logs", "grids/one/container_logs?services=quiet&nodes=a&containers=b&limit=5",
                 "stacks/one/null/container_logs?search=x"):  # fmt: skip
        assert call.ok("GET", path) == {"logs": []}
    assert (call("GET", "stacks/one/none/container_logs").status, call("GET", "stacks/one/none/container_logs").json) == (404, {})
    assert list(call.refused("GET", "grids/one/container_logs?from=x")) == ["from"]
    assert list(call.refused("GET", "grids/one/container_logs?since=yesterday")) == ["since"]
    for what in ("services/one/null/quiet", "grids/one"):
        assert call.ok("GET", f"{what}/stats") == {"stats": []}
        m = call.ok("GET", f"{what}/metrics?to=2017-08-01T12:00:00Z")
        assert m == {"from": "2017-08-01T11:00:00.000Z", "to": "2017-08-01T12:00:00.000Z", "stats": []}
    call.ok("DELETE", "services/one/null/quiet")


def test_containers_that_are_not_there(call: Client) -> None:
    assert call.ok("GET", "containers/one") == call.ok("GET", "containers/one?all=1") == {"containers": []}
    for path in ("", "/top", "/inspect", "/logs"):
        assert call("GET", f"containers/one/n1/web-1{path}").status == 404
    a = call("POST", "containers/one/n1/web-1/exec", {"cmd": ["ls"]})
    assert (a.status, a.body) == (404, b"")
    assert call.refused("POST", "containers/one/n1/web-1/exec", {}) == {"cmd": "Cmd is required"}
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert call("GET", "containers/one/n1/web-1/exec", **upgrade).status == 404


# Nodes


def test_a_node_is_made_shown_changed_and_removed(call: Client) -> None:
    n = call.ok("POST", "grids/one/nodes", {"name": "n1", "labels": ["region=eu"]}, 201)
    assert set(n) == NODE and n["id"] == "one/n1" and n["status"] == "created" and n["node_id"] is None and n["labels"] == ["region=eu"]
    assert n["node_number"] == 1 and n["initial_member"] is True and n["overlay_ip"] == "10.81.0.1" and n["has_token"] is True
    assert call.ok("GET", "nodes/one/n1") == n and call.ok("GET", "grids/one/nodes") == {"nodes": [n]}
    assert call.refused("POST", "grids/one/nodes", {"name": "n1"}) == {"name": "Node with name n1 already exists"}
    assert call.refused("POST", "grids/one/nodes", {"name": "n2", "token": "short"}) == {"token": "Token is too short"}
    changed = call.ok("PUT", "nodes/one/n1", {"labels": [], "availability": "drain"})
    assert changed["labels"] == [] and changed["availability"] == "drain"
    assert call.refused("PUT", "nodes/one/n1", {"availability": "gone"}) == {"availability": "Availability isn't an option"}
    assert call.refused("GET", "nodes/one/n1/health") == {"connection": "Websocket is not connected"}
    assert call.ok("GET", "nodes/one/n1/stats") == {"stats": []} and call.ok("GET", "nodes/one/n1/metrics")["stats"] == []
    assert call.ok("DELETE", "nodes/one/n1") == {}
    assert call("GET", "nodes/one/n1").status == call("GET", "nodes/one/AAAA:BBBB").status == 404
    assert call("GET", "nodes/AAAA").status == call("PUT", "nodes/AAAA", {}).status == 404


def test_a_nodes_token(call: Client) -> None:
    call.ok("POST", "grids/one/nodes", {"name": "n2"}, 201)
    t = call.ok("GET", "nodes/one/n2/token")
    assert t["id"] == "one/n2" and t["token"].startswith("KT1-") and call.ok("GET", "nodes/one/n2/token") == t
    other = call.ok("PUT", "nodes/one/n2/token", {"token": None, "reset_connection": True})
    assert other["id"] == "one/n2" and other["token"] != t["token"] and call.ok("GET", "nodes/one/n2/token") == other
    assert list(call.refused("PUT", "nodes/one/n2/token", {"token": "x" * 20})) == ["token"]
    assert call.refused("PUT", "nodes/one/n2/token", {"token": "x"}) == {"token": "Token is too short"}
    assert call.ok("DELETE", "nodes/one/n2/token", {"reset_connection": True}) == {}
    assert call.ok("GET", "nodes/one/n2")["has_token"] is False
    a = call("GET", "nodes/one/n2/token")
    assert (a.status, a.json) == (404, {"error": "Host node does not have a node token"})
    call.ok("DELETE", "nodes/one/n2")


# Volumes, secrets, registries


def test_a_volume(call: Client) -> None:
    body = {"name": "data", "scope": "instance", "driver": "local"}
    v = call.ok("POST", "volumes/one", body, 201)
    assert set(v) == {"id", "name", "created_at", "updated_at", "scope", "driver", "driver_opts", "instances", "services"}
    assert v["id"] == "one/data" and v["driver_opts"] == {} and v["instances"] == v["services"] == []
    assert call.ok("GET", "volumes/one/data") == v and call.ok("GET", "volumes/one") == {"volumes": [v]}
    assert call.refused("POST", "volumes/one", body) == {"name": "Volume with given name already exists"}
    assert call.refused("POST", "volumes/one", {**body, "name": "x", "scope": "node"}) == {"scope": "Scope isn't an option"}
    assert call.refused("POST", "volumes/one", {**body, "name": "x", "driver": "a:1"}) == {"driver": "Driver version tag cannot be used"}
    assert list(call.refused("POST", "volumes/one", {**body, "name": "x", "driver": "nfs"})) == ["driver"]
    assert list(call.refused("POST", "volumes/one", {**body, "name": "x", "driver_opts": {"a": "b"}})) == ["driver_opts"]
    make(call, "user", volumes=["data:/data"])
    assert call.ok("GET", "volumes/one/data")["services"] == [{"id": "one/null/user"}]
    assert call.refused("DELETE", "volumes/one/data") == {"data": "Volume still in use in services [user]"}
    call.ok("DELETE", "services/one/null/user")
    assert call.ok("DELETE", "volumes/one/data") == {}
    a = call("GET", "volumes/one/data")
    assert (a.status, a.json) == (404, {"error": "Volume data not found"})


def test_a_secret(call: Client) -> None:
    s = call.ok("POST", "grids/one/secrets", {"name": "PW", "value": " a\tb\nc\x01d "}, 201)
    assert set(s) == {"id", "name", "created_at", "value", "services"} and s["id"] == "one/PW" and s["value"] == "a\tb\nc d"
    assert call.ok("GET", "secrets/one/PW") == s
    (listed,) = call.ok("GET", "grids/one/secrets")["secrets"]
    assert set(listed) == {"id", "name", "created_at", "updated_at", "services"}
    assert call.refused("POST", "grids/one/secrets", {"name": "PW", "value": "x"}) == {"name": "is already taken"}
    assert call.refused("POST", "grids/one/secrets", {"name": "X", "value": " "}) == {"value": "Value can't be blank"}
    make(call, "user", secrets=[{"secret": "PW", "name": "PW", "type": None}])
    assert call.ok("PUT", "secrets/one/PW", {"value": "new"})["services"] == [{"id": "one/null/user", "name": "user"}]
    assert call.ok("GET", "services/one/null/user")["revision"] == 2
    assert call.ok("PUT", "grids/one/secrets/PW", {"value": "new"})["value"] == "new"
    assert call.ok("GET", "services/one/null/user")["revision"] == 2, "the same value is no change"
    a = call("PUT", "secrets/one/NEW", {"value": "x"})
    assert (a.status, a.body) == (404, b"")
    assert call.ok("PUT", "secrets/one/NEW", {"value": "x", "name": "NEW", "upsert": True}, 201)["id"] == "one/NEW"
    assert call("DELETE", "secrets/one/PW").status == 404, "it is in use"
    call.ok("DELETE", "services/one/null/user")
    assert call.ok("DELETE", "secrets/one/PW") == call.ok("DELETE", "secrets/one/NEW") == {}
    assert call("GET", "secrets/one/PW").status == 404


def test_a_registry(call: Client) -> None:
    body = {"url": "https://registry.test:5000/", "username": "me", "password": "pw", "email": None}
    r = call.ok("POST", "grids/one/external_registries", body, 201)
    assert r == {"id": "one/registry.test:5000", "name": "registry.test:5000", "url": "https://registry.test:5000", "username": "me",
                 "email": None}  # fmt: skip
    assert call.ok("GET", "external_registries/one/registry.test:5000") == r
    assert call.ok("GET", "grids/one/external_registries") == {"external_registries": [r]}
    assert call.refused("POST", "grids/one/external_registries", body) == {"name": "is already taken"}
    assert call.refused("POST", "grids/one/external_registries", {**body, "url": "ftp://x"}) == {"url": "Url isn't in the right format"}
    assert list(call.refused("POST", "grids/one/external_registries", {**body, "username": "a:b", "url": "https://b.test"})) == ["username"]
    a = call("DELETE", "external_registries/one/registry.test:5000")
    assert (a.status, a.body) == (200, b"")
    assert call("DELETE", "external_registries/one/nope").status == 404  # no name of a registry at all
    assert call("GET", "external_registries/one/registry.test:5000").status == 404


# Who may


def test_a_stranger_sees_nothing_of_it(stranger: Client, call: Client) -> None:
    """404 for a grid that is not there, 403 for one that is: in this order, on every path."""
    for method, pattern in sorted(LISTED):
        if pattern == "/v1/nodes/:":
            continue
        path = pattern.removeprefix("/v1/")
        body = {"env": "A=1"} if path.endswith("envs") else {"name": "x", "image": "a", "stateful": False, "scope": "grid", "driver": "local", "value": "x", "url": "https://a.test",
                "username": "u", "password": "p", "instances": 1, "cmd": ["ls"]} if method in ("POST", "PUT") else None  # fmt: skip
        if path.startswith("containers/:/:/:"):
            path = path.replace(":/:/:", ":/n1/web-1")
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
                   "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="} if method == "GET" and path.endswith("exec") else {}  # fmt: skip
        denied = stranger(method, path.replace(":", "one", 1).replace(":", "x"), body, **headers)
        if path.startswith("services/") and "deploys" in path:
            assert denied.status in (403, 404), (method, path, denied)
            continue
        assert (denied.status, denied.json) == (403, {"error": "Access denied"}), (method, path, denied)
        nowhere = stranger(method, path.replace(":", "nowhere", 1).replace(":", "x"), body, **headers)
        assert (nowhere.status, nowhere.json) == (404, {"error": "Not found"}), (method, path, nowhere)


def test_every_listed_endpoint_was_asked(capsys: pytest.CaptureFixture[str], call: Client) -> None:
    with capsys.disabled():
        print(f"\nendpoints of what runs: {len(Client.asked)} covered of {len(LISTED)} listed")
    assert not LISTED - Client.asked
