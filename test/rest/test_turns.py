# SPDX-License-Identifier: LGPL-2.1-or-later
"""Long lists: each row once, and meanwhile no turn of the master's loop that keeps others waiting."""

import json
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
from restlib import RestMaster, context, wait_for  # noqa: E402

SERVICES = 5  # with instances
PER_SERVICE = 1000
OTHERS = 500  # without
NODES = 60
SLOW_MS = 50
SLOW = re.compile(r"A turn of the event loop took (\d+) ms, (\d+) ms of them on the processor")
NOW = 1_700_000_000_000_000
T = TypeVar("T")


def copy_rows(db: sqlite3.Connection, table: str, row: dict[str, object], changes: Iterator[dict[str, object]]) -> None:
    keys = list(row)
    db.executemany(f"INSERT INTO {table} ({', '.join(keys)}) VALUES ({', '.join('?' * len(keys))})", ([{**row, **c}[k] for k in keys] for c in changes))


def fill(path: Path) -> None:
    """As after years: what is there once is there thousands of times."""
    with closing(sqlite3.connect(path)) as db, db:
        db.row_factory = sqlite3.Row
        node, service = (dict(db.execute(f"SELECT * FROM {t}").fetchone()) for t in ("nodes", "services"))
        grid = node["grid_id"]
        copy_rows(db, "nodes", node, ({"id": f"node{i:04}", "name": f"n{i}", "number": i, "token_hash": bytes([i]) * 32} for i in range(2, NODES + 1)))
        copy_rows(db, "services", service, ({"id": f"svc{i:05}", "name": f"s{i}", "created_at": NOW + i} for i in range(SERVICES + OTHERS)))
        instance: dict[str, object] = {"grid_id": grid, "desired": "running", "deploy_rev": 0, "service_rev": 1, "force": 0, "spec": service["spec"],
                                       "state": "running", "observed_deploy_rev": 1, "observed_service_rev": 1, "epoch": 1, "started_at": NOW,
                                       "status_at": NOW, "pid": 0, "exit_status": 0, "restarts": 0, "oom_kills": 0, "role": "current"}  # fmt: skip
        copy_rows(db, "instances", {"id": "", "service_id": "", "node_id": "", "number": 1, "created_at": 0, **instance},
                  ({"id": f"inst{s}{i:05}", "service_id": f"svc{s:05}", "node_id": f"node{i % (NODES - 1) + 2:04}", "number": i + 1,
                    "created_at": NOW + i * SERVICES + s} for s in range(SERVICES) for i in range(PER_SERVICE)))  # fmt: skip


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("turns"), environment={"KONTENA_LOG_LEVEL": "debug"}) as m:
        token = m.login()
        assert m.post("/v1/grids", {"name": "one"}, token=token).status == 201
        assert m.post("/v1/grids/one/nodes", {"name": "n1", "labels": []}, token=token).status == 201
        spec = {"name": "first", "image": "redis:4", "stateful": False, "env": [f"KEY{i}=value of it" for i in range(20)]}
        assert m.post("/v1/grids/one/services", spec, token=token).status == 201
        m.stop()
        fill(next((m.directory / "state").rglob("*.db")))
        m.start()
        yield m


def in_short_turns(m: RestMaster, ask: Callable[[], T]) -> T:
    """Its answer. A processor that others share is slow at times, so what takes too long does so each time."""
    tries = []
    for _ in range(5):
        m.get("/v1/ping")
        at, begun = m.log.stat().st_size, time.monotonic()
        answer = ask()
        took = time.monotonic() - begun
        m.get("/v1/ping")
        with m.log.open() as f:
            f.seek(at)
            tries.append([int(x[2]) for x in SLOW.finditer(f.read())])
        print(f"{took * 1000:.0f} ms, slow turns: {tries[-1]}")
        if not any(ms > SLOW_MS for ms in tries[-1]):
            return answer
    raise AssertionError(f"turns that took more than {SLOW_MS} ms of the processor, each time: {tries}")


PATHS = [("/v1/containers/one", "containers", "id", SERVICES * PER_SERVICE), ("/v1/grids/one/stats", "stats", None, SERVICES * PER_SERVICE),
         ("/v1/services/one/null/s3/containers", "containers", "id", PER_SERVICE), ("/v1/services/one/null/s3/instances", "instances", "id", PER_SERVICE),
         ("/v1/services/one/null/s3/stats", "stats", None, PER_SERVICE), ("/v1/grids/one/services", "services", "id", SERVICES + OTHERS + 1),
         ("/v1/grids/one/services?stack=null", "services", "id", SERVICES + OTHERS + 1), ("/v1/grids/one/nodes", "nodes", "id", NODES)]  # fmt: skip


@pytest.mark.parametrize(("path", "key", "unique", "n"), PATHS)
def test_long_lists(master: RestMaster, path: str, key: str, unique: str | None, n: int) -> None:
    token = master.login()
    a = in_short_turns(master, lambda: master.get(path, token=token))
    assert a.status == 200, a
    rows = a.json[key]  # type: ignore[index,call-overload]
    assert len(rows) == n
    if unique:
        assert len({r[unique] for r in rows}) == n


def test_lists_in_order(master: RestMaster) -> None:
    token = master.login()
    times = [c["created_at"] for c in master.get("/v1/containers/one", token=token).json["containers"]]  # type: ignore[index,call-overload]
    assert times == sorted(times)
    times = [s["created_at"] for s in master.get("/v1/grids/one/services", token=token).json["services"]]  # type: ignore[index,call-overload]
    assert times == sorted(times, reverse=True)
    numbers = [i["instance_number"] for i in master.get("/v1/services/one/null/s3/instances", token=token).json["instances"]]  # type: ignore[index,call-overload]
    assert numbers == list(range(1, PER_SERVICE + 1))
    names = [n["name"] for n in master.get("/v1/grids/one/nodes", token=token).json["nodes"]]  # type: ignore[index,call-overload]
    assert names == sorted(names)
    assert len(master.get("/v1/grids/one/stats?limit=7", token=token).json["stats"]) == 7  # type: ignore[index,call-overload]
    assert len(master.get("/v1/nodes/one/n7/stats", token=token).json["stats"]) == SERVICES * len(range(5, PER_SERVICE, NODES - 1))  # type: ignore[index,call-overload]
    assert master.get("/v1/grids/one/services?stack=none", token=token).status == 404


def call_bus(m: RestMaster, interface: str, member: str, *arguments: str) -> list[Any]:
    call = ["busctl", "--address", m.bus_address, "--json=short", "call", "io.kontena.Master1", "/io/kontena/Master1", interface, member, *arguments]
    run = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)["data"]


@pytest.mark.parametrize(("member", "arguments", "n"), [("ListNodes", ("s", "one"), NODES), ("ListServices", ("s", "one"), SERVICES + OTHERS + 1),
                                                         ("ListInstances", ("sss", "one", "null", "s3"), PER_SERVICE)])  # fmt: skip
def test_lists_over_the_bus(master: RestMaster, member: str, arguments: tuple[str, ...], n: int) -> None:
    rows = in_short_turns(master, lambda: call_bus(master, "io.kontena.Master1.Manager", member, *arguments)[0])
    assert len(rows) == n


def test_objects_of_the_bus(master: RestMaster) -> None:
    """Each once. libsystemd builds this answer in one call, so no bound of the turn is asserted: see doc/debugging.md."""
    objects = call_bus(master, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]
    kinds = Counter(path.split("/")[4] for path in objects)
    assert kinds["instance"] == SERVICES * PER_SERVICE
    assert kinds["node"] == NODES
    assert kinds["grid"] == 1
    assert "io.kontena.Master1.Service" in objects["/io/kontena/Master1/service/one/null/s3"]


def test_others_are_answered_meanwhile(master: RestMaster) -> None:
    """And what is removed while a list is put together leaves the others, once each."""
    token = master.login()
    answers: list[set[str]] = []

    def ask() -> None:
        a = master.get("/v1/grids/one/services", token=token)
        rows = [s["name"] for s in a.json["services"]]  # type: ignore[index,call-overload]
        assert len(set(rows)) == len(rows)
        answers.append(set(rows))

    everything = {s["name"] for s in master.get("/v1/grids/one/services", token=token).json["services"]}  # type: ignore[index,call-overload]
    asking = [threading.Thread(target=ask) for _ in range(6)]
    for t in asking:
        t.start()
    gone, took = set(), []
    for i in range(SERVICES + OTHERS - 1, SERVICES + OTHERS - 40, -1):
        begun = time.monotonic()
        assert master.delete(f"/v1/services/one/null/s{i}", token=token).status == 200
        took.append(time.monotonic() - begun)
        gone.add(f"s{i}")
    for t in asking:
        t.join(120)
    print(f"removing one took {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms")
    assert len(answers) == len(asking)
    for a in answers:
        assert everything - gone <= a <= everything


def test_client_that_leaves(master: RestMaster) -> None:
    token = master.login()

    def leave() -> None:
        for _ in range(20):
            s = context().wrap_socket(socket.create_connection(("127.0.0.1", master.port), timeout=60))
            s.sendall(f"GET /v1/containers/one HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            time.sleep(0.01)
            s.close()

    in_short_turns(master, leave)
    assert master.daemon
    fds = Path(f"/proc/{master.daemon.pid}/fd")
    wait_for(lambda: len(list(fds.iterdir())) < 60, lambda: f"{len(list(fds.iterdir()))} descriptors stay")
    assert master.get("/v1/ping").status == 200


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
