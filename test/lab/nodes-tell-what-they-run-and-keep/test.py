# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a node has: the processes of an instance, all that is known of one, and the images it keeps."""

import json
import secrets

import pytest
from kontenalab.grid import unique

SLEEP = ("--", "sh", "-c", "sleep 12345 & trap 'kill %1; exit 0' TERM; while :; do sleep 0.2; done")


@pytest.fixture(scope="module")
def web(grid):
    """A service with a secret and an environment, and what must not be seen of them."""
    name, vault, hidden = unique("shown"), unique("secret"), [secrets.token_hex(16) for _ in range(2)]
    grid.ctl("vault", "write", vault, input=hidden[0])
    options = [f"--secret={vault}:PASSWORD:env", f"--secret={vault}:pw:file", f"--env=SETTING={hidden[1]}", "--instances=2"]
    try:
        with grid.service(name, "busybox:1", *options, *SLEEP):
            yield name, hidden
    finally:
        grid.ctl("vault", "remove", "--force", vault, check=False)


def test_processes_of_an_instance_and_of_a_service(grid, web):
    name, _ = web
    rows = grid.json("top", f"{name}-1")
    assert {r["instance"] for r in rows} == {f"{name}-1"}
    first = next(r for r in rows if r["command"].startswith("sh -c sleep 12345"))
    sleeper = next(r for r in rows if r["command"] == "sleep 12345")
    instance = grid.instance(name, 1)
    assert first["pid"] == grid.main_pid(instance) and sleeper["ppid"] == first["pid"]
    assert first["user"] == "root" and first["memory"] > 0 and first["started_at"] > 0

    assert {r["instance"] for r in grid.json("top", name)} == {f"{name}-1", f"{name}-2"}
    table = grid.ctl("top", name).stdout.splitlines()
    assert table[0].split() == ["INSTANCE", "PID", "PPID", "USER", "STATE", "CPU", "MEMORY", "STARTED", "COMMAND"]
    assert sum("sleep 12345" in line for line in table) >= 2

    assert "has no instance 9" in grid.ctl("top", f"{name}-9", check=False).stderr
    assert "No service" in grid.ctl("top", "nobody-1", check=False).stderr
    assert grid.ctl("top", check=False).returncode == 2


def test_all_that_is_known_of_an_instance_but_no_secret(grid, web):
    name, hidden = web
    text = grid.ctl("inspect", f"{name}-2").stdout
    for value in hidden:
        assert value not in text
    known, instance = json.loads(text), grid.instance(name, 2)
    assert known["want"]["id"] == instance["id"] and known["status"]["state"] == "running"
    assert known["unit"]["Id"] == instance["unit"] and known["unit"]["ActiveState"] == "active"
    assert {"PASSWORD", "SETTING", "PATH"} <= set(known["config"]["process"]["env"])
    assert known["want"]["spec"]["env"] == ["SETTING"] and "secrets" not in known["want"]
    assert known["record"]

    grid.master.run("id eve >/dev/null 2>&1 || useradd -m eve")
    assert grid.ctl("inspect", f"{name}-2", user="eve", check=False).returncode != 0
    assert grid.ctl("top", name, user="eve", check=False).returncode != 0


def test_what_does_not_run_says_so(grid, web):
    name, _ = web
    grid.ctl("service", "stop", name)
    grid.wait_instances(name, ["stopped", "stopped"])
    assert "no instance that runs" in grid.ctl("top", name, check=False).stderr
    assert "does not run" in grid.ctl("top", f"{name}-1", check=False).stderr
    assert json.loads(grid.ctl("inspect", f"{name}-1").stdout)["status"]["state"] == "stopped"
