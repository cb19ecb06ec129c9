# SPDX-License-Identifier: LGPL-2.1-or-later
"""What runs on nodes, by the API of the reference: deploys, containers, logs that follow, commands, as its client asks for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kontenalab.grid import Grid, unique
from kontenalab.process import wait_until

CLIENT = "/run/kontena-rest-client.py"
MANAGER = ["io.kontena.Master1", "/io/kontena/Master1", "io.kontena.Master1.Manager"]
LINE = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.3; done"


class Rest:
    def __init__(self, grid: Grid):
        self.grid = grid
        grid.master.push(Path(__file__).parent / "client.py", CLIENT)
        code = grid.master.run(["busctl", "call", *MANAGER, "CreateAdminCode"]).stdout.split()[1].strip(chr(34))
        answer = self.client("-", "request", "POST", "/oauth2/token", json.dumps({"grant_type": "authorization_code", "code": code}))
        self.token: str = json.loads(answer["body"])["access_token"]

    def client(self, token: str, *args: str) -> Any:
        return json.loads(self.grid.master.run(["python3", CLIENT, token, *args], timeout=60).stdout)

    def __call__(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        a = self.client(self.token, "request", method, f"/v1/{path}", *([] if body is None else [json.dumps(body)]))
        assert (a["status"], a["type"]) == (status, "application/json"), a
        return json.loads(a["body"]) if a["body"] else None

    def follow(self, path: str, count: int) -> list[Any]:
        a = self.client(self.token, "follow", f"/v1/{path}", str(count))
        assert a["status"] == 200, a
        return [json.loads(c) for c in a["chunks"]]

    def socket(self, path: str, *messages: object) -> Any:
        texts = [m if isinstance(m, str) else json.dumps(m) for m in messages]
        return self.client(self.token, "socket", f"/v1/{path}", *texts)


@pytest.fixture(scope="module")
def rest(grid: Grid) -> Rest:
    return Rest(grid)


@pytest.fixture(scope="module")
def service(rest: Rest) -> Iterator[str]:
    """Two instances, made and deployed as the reference's client does."""
    name = unique("rest")
    body = {"name": name, "image": "registry:5000/busybox:1", "stateful": False, "container_count": 2, "cmd": ["sh", "-c", LINE],
            "env": ["A=1"], "secrets": [], "log_opts": {}, "privileged": False, "read_only": False, "stop_grace_period": "1s"}  # fmt: skip
    rest("POST", "grids/lab/services", body, 201)
    deploy = rest("POST", f"services/lab/null/{name}/deploy", {})
    wait_deploy(rest, deploy)
    yield name
    rest("DELETE", f"services/lab/null/{name}")
    rest("GET", f"services/lab/null/{name}", status=404)


def wait_deploy(rest: Rest, deploy: dict[str, Any]) -> dict[str, Any]:
    def ended() -> Any:
        d = rest("GET", f"services/{deploy['service_id']}/deploys/{deploy['id']}")
        return d if d["finished_at"] else None

    d = wait_until(ended, 60, "end of the deploy", 0.5)
    assert d["state"] == "success" and d["reason"] is None, d
    assert [i["state"] for i in d["instance_deploys"]] == ["success"] * d["instance_count"]
    return d  # type: ignore[no-any-return]


def container(rest: Rest, service: str, number: int = 1) -> dict[str, Any]:
    (c,) = [c for c in rest("GET", f"services/lab/null/{service}/containers")["containers"] if c["instance_number"] == number]
    return c  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def command(rest: Rest, service: str) -> str:
    return f"containers/{container(rest, service)['id']}/exec"


def test_instances_and_containers_are_shown(rest: Rest, service: str) -> None:
    s = rest("GET", f"services/lab/null/{service}")
    assert s["state"] == "running" and s["instance_counts"] == {"total": 2, "running": 2}
    instances = rest("GET", f"services/lab/null/{service}/instances")["instances"]
    assert [i["state"] for i in instances] == ["running", "running"] and all(i["rev"] == i["deploy_rev"] for i in instances)
    assert rest("GET", f"services/lab/null/{service}/instances/{instances[0]['id']}") == instances[0]

    def twice(path: str, other: str) -> bool:
        """Measured values change between two answers now and then."""
        return bool(rest("GET", path) == rest("GET", other))

    c = container(rest, service)
    node = rest("GET", f"nodes/lab/{c['node']['name']}")
    assert c["id"] == f"lab/{node['name']}/{service}-1" and c["status"] == "running" and c["state"]["running"] and c["state"]["pid"] > 0
    assert c["node"]["id"] == node["node_id"] and c["service_id"] == f"lab/null/{service}" and c["env"] == ["A=1"]
    assert rest("GET", f"containers/{c['id']}") == c and c["id"] in [x["id"] for x in rest("GET", "containers/lab")["containers"]]
    wait_until(lambda: twice(f"nodes/lab/{node['name']}", f"nodes/lab/{node['node_id']}"), 10, "the same by the engine's id", 0.2)
    assert node["status"] == "online" and node["resource_usage"]["filesystem"][0]["name"] == node["engine_root_dir"]
    health = rest("GET", f"nodes/lab/{node['name']}/health")
    assert health["connected"] and health["etcd_health"]["health"]
    assert any("sleep" in p["CMD"] or "sh" in p["CMD"] for p in rest("GET", f"containers/{c['id']}/top"))
    assert rest("GET", f"containers/{c['id']}/inspect")["want"]["service"] == service
    wait_until(lambda: f"{service}-1" in [s["container_id"] for s in rest("GET", f"nodes/lab/{node['name']}/stats")["stats"]], 60, "statistics", 0.5)


def test_logs_come_in_order_and_go_on_where_they_were(rest: Rest, service: str) -> None:
    def logs(query: str = "", path: str = f"services/lab/null/{service}/container_logs") -> Any:
        return rest("GET", f"{path}?{query}")["logs"]

    wait_until(lambda: len(logs("limit=6")) == 6, 20, "six lines", 0.3)
    items = logs("limit=6")
    assert [i["created_at"] for i in items] == sorted(i["created_at"] for i in items)
    assert {i["name"] for i in items} == {f"{service}-1", f"{service}-2"}
    assert all(i["service"]["id"] == f"lab/null/{service}" and i["type"] == "stdout" and i["data"].startswith("line ") for i in items)
    assert {i["name"] for i in logs("limit=4&instance=2")} == {f"{service}-2"}

    def goes_on() -> bool:
        """What a node says late takes its place by its time, also between two questions."""
        before = logs("limit=6")
        return [i["id"] for i in logs(f"limit=2&from={before[2]['id']}")] == [i["id"] for i in before[3:5]]

    wait_until(goes_on, 10, "the next two", 0.1)
    assert [i["data"] for i in logs("limit=1&search=LINE%201")][0].startswith("line 1")
    assert len(logs(f"limit=5&services={service}", "grids/lab/container_logs")) == 5
    assert {i["name"] for i in logs(f"containers={service}-1", "grids/lab/container_logs")} == {f"{service}-1"}
    assert logs("services=nobody", "grids/lab/container_logs") == []
    assert len(logs("limit=3", f"containers/{container(rest, service)['id']}/logs")) == 3
    assert len(logs("limit=2", "stacks/lab/null/container_logs")) == 2


def test_a_followed_log_has_one_item_in_each_chunk(rest: Rest, service: str) -> None:
    items = rest.follow(f"services/lab/null/{service}/container_logs?follow=1&limit=3&instance=1", 8)
    numbers = [int(i["data"].split()[1]) for i in items]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "none is lost, none comes twice"
    grid = {i["name"] for i in rest.follow(f"grids/lab/container_logs?follow=1&limit=1&services={service}", 20)}
    assert {f"{service}-1", f"{service}-2"} == grid


def test_a_command_runs_to_its_end(rest: Rest, command: str) -> None:
    path = command
    out, err, status = rest("POST", path, {"cmd": ["sh", "-c", "echo $A; echo no >&2; exit 3"]})
    assert ("".join(out), "".join(err), status) == ("1\n", "no\n", 3)
    assert rest("POST", path, {"cmd": ["cat"]}) == [[], [], 0], "it has no input"


def test_a_command_runs_over_a_websocket(rest: Rest, command: str) -> None:
    path = command

    def text(a: Any, stream: str) -> str:
        return "".join(m["chunk"] for m in a["messages"] if m.get("stream") == stream)

    a = rest.socket(path, {"cmd": ["sh", "-c", "echo out; echo err >&2; exit 4"]})
    assert (text(a, "stdout"), text(a, "stderr"), a["messages"][-1], a["code"]) == ("out\n", "err\n", {"exit": 4}, 1000)
    a = rest.socket(f"{path}?shell=true", {"cmd": ["echo", "$A", "|", "tr", "1", "x"]})
    assert text(a, "stdout") == "x\n"
    a = rest.socket(f"{path}?interactive=true", {"cmd": ["cat"]}, {"stdin": "grün "}, {"stdin": "€\n"}, {"stdin": None})
    assert (text(a, "stdout"), a["messages"][-1]) == ("grün €\n", {"exit": 0})
    a = rest.socket(f"{path}?interactive=true&tty=true", {"cmd": ["sh", "-c", "until stty size 2>/dev/null | grep -q '31 93'; do sleep 0.1; done; stty size"]},
                    {"tty_size": {"width": 93, "height": 31}})  # fmt: skip
    assert text(a, "stdout").strip() == "31 93"
    # Read late: what waits is not lost when the command has ended.
    a = rest.socket(path, {"cmd": ["sh", "-c", "dd if=/dev/zero bs=64k count=80 2>/dev/null | tr '\\000' x"]}, "@1")
    assert (len(text(a, "stdout")), a["messages"][-1], a["code"]) == (80 * 65536, {"exit": 0}, 1000)
    a = rest.socket(path, {"cmd": ["nothing-of-this-name"]})
    assert a["messages"][-1].keys() & {"exit", "error"}


def test_a_command_ends_when_its_client_leaves(rest: Rest, grid: Grid, command: str) -> None:
    rest.client(rest.token, "leave", f"/v1/{command}", json.dumps({"cmd": ["sleep", "54321"]}))
    node = grid.lab.host(command.split("/")[2])
    wait_until(lambda: node.run("pgrep -f '[s]leep 54321'", check=False).returncode == 1, 10, "end of the command", 0.3)


@pytest.mark.parametrize(
    ("query", "messages", "kind"),
    [
        ("", ["{"], "JSON::ParserError"),
        ("", [{"stdin": "x"}], "RuntimeError"),
        ("", [{"cmd": ["sleep", "9"]}, {"cmd": ["ls"]}], "RuntimeError"),
        ("", [{"cmd": ["sleep", "9"]}, {"stdin": "x"}], "RuntimeError"),
        ("?tty=true", [{"cmd": ["sleep", "9"]}, {"tty_size": {"width": -1, "height": 2}}], "ArgumentError"),
        ("", [{"cmd": "ls"}], "ArgumentError"),
        ("", [{"nothing": 1}], "ArgumentError"),
    ],
)
def test_who_breaks_the_rules_is_cut_off(rest: Rest, command: str, query: str, messages: list[object], kind: str) -> None:
    a = rest.socket(f"{command}{query}", *messages)
    assert a["code"] == 4000 and a["reason"].startswith(kind), a


def test_scaled_stopped_started(rest: Rest, grid: Grid, service: str) -> None:
    wait_deploy(rest, rest("POST", f"services/lab/null/{service}/scale", {"instances": 1}))
    assert rest("GET", f"services/lab/null/{service}")["revision"] == 1
    rest("POST", f"services/lab/null/{service}/stop", {})
    grid.wait_instances(service, ["stopped"])
    assert rest("GET", f"services/lab/null/{service}")["state"] == "stopped"
    assert container(rest, service)["status"] == "stopped" and rest("GET", f"containers/{container(rest, service)['id']}")["status"] == "stopped"
    rest("POST", f"services/lab/null/{service}/start", {})
    grid.wait_instances(service, ["running"])
    rest("POST", f"services/lab/null/{service}/restart", {})
