# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a node has: the processes of an instance, all that is known of one, and the images it keeps."""

import json
import secrets

import pytest
from kontenalab.grid import unique
from kontenalab.process import wait_until

SLEEP = ("--", "sh", "-c", "sleep 12345 & trap 'kill %1; exit 0' TERM; while :; do sleep 0.2; done")


@pytest.fixture(scope="module")
def web(grid):
    """A service with a secret and an environment, and what must not be seen of them."""
    name, vault, hidden = unique("shown"), unique("secret"), [secrets.token_hex(16) for _ in range(2)]
    grid.ctl("vault", "write", vault, input=hidden[0])
    options = [f"--secret={vault}:PASSWORD:env", f"--secret={vault}:pw:file", f"--env=SETTING={hidden[1]}", "--instances=2", "--affinity=node==node1"]
    try:
        with grid.service(name, "busybox:1", *options, *SLEEP):
            yield name, hidden
    finally:
        grid.ctl("vault", "remove", "--force", vault, check=False)


def test_processes_of_an_instance_and_of_a_service(grid, web):
    name, _ = web
    wait_until(lambda: any(r["command"] == "sleep 12345" for r in grid.json("top", f"{name}-1")), 10, "the second process", 0.1)
    wait_until(lambda: any(r["command"] == "sleep 12345" for r in grid.json("top", f"{name}-2")), 10, "that of the other", 0.1)
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


def images(grid, node, *words):
    """By the names of their repositories: deploys pull by digest."""
    return {r["references"][0].split("@")[0]: r for r in grid.json("image", *words, f"--node={node}") if r["references"]}


def blobs(node):
    return set(node.run("ls /var/lib/kontena/images/images /var/lib/kontena/images/layers").stdout.split())


def test_images_are_listed_and_those_unused_pruned(grid):
    """In use, stopped, a former revision, a removed service: what stays, and what goes."""
    node, name, other = grid.lab.host("node3"), unique("kept"), unique("gone")
    grid.ctl("image", "prune", "--all", "--force", "--node=node3")
    options = ("--stop-timeout=1", "--drain=0", "--affinity=node==node3")
    with grid.service(name, "busybox:1", *options, "--", "sleep", "infinity"):
        with grid.service(other, "redis:7", "--affinity=node==node3"):
            listed = images(grid, "node3", "list")
            assert listed["registry:5000/busybox"]["instances"] == 1 and listed["registry:5000/redis"]["instances"] == 1
            assert listed["registry:5000/redis"]["size"] > 100000 and listed["registry:5000/redis"]["used_at"] > 0
            table = grid.ctl("image", "list", "--node=node3").stdout
            assert "registry:5000/redis" in table and "@" not in table
            assert "registry:5000/redis" not in images(grid, "node3", "prune", "--all", "--force")
        grid.ctl("service", "update", "--image=registry:5000/echo:2", name)
        grid.deploy(name)
        grid.ctl("service", "stop", name)
        grid.wait_instances(name, ["stopped"])

        # busybox:1 is what the service would go back to, echo:2 that of a stopped instance; nothing needs redis:7.
        before = blobs(node)
        assert list(images(grid, "node3", "prune", "--dry-run")) == ["registry:5000/redis"]
        assert blobs(node) == before
        cursor = grid.master.cursor()
        assert list(images(grid, "node3", "prune", "--force")) == ["registry:5000/redis"]
        grid.master.wait_journal("'image.prune' was done for", since=cursor)
        assert len(blobs(node)) < len(before)
        assert list(images(grid, "node3", "prune", "--all", "--force")) == ["registry:5000/busybox"]
        assert "registry:5000/echo" in images(grid, "node3", "list")
        grid.ctl("service", "start", name)
        grid.wait_instances(name, ["running"])
    refused = grid.ctl("image", "prune", check=False)
    assert refused.returncode == 2 and "--force" in refused.stderr


def test_a_prune_at_any_moment_breaks_no_start(grid):
    """Services are made, updated and removed while another one prunes all the time."""
    node = grid.lab.host("node3")
    script = f"while :; do kontenactl -g {grid.name} image prune --all --force --node=node3 --json=short; done >/run/pruned 2>/run/refused"
    pruner = grid.master.popen(["sh", "-c", script], start_new_session=True)
    name = unique("pruned")
    try:
        for image in ("busybox:1", "echo:1", "busybox:1"):
            node.run("rm -f /var/lib/kontena/images/refs/*")
            with grid.service(name, image, "--stop-timeout=1", "--affinity=node==node3", *(SLEEP if "busybox" in image else ())):
                assert [i["state"] for i in grid.instances(name)] == ["running"]
    finally:
        grid.master.run("pkill -f '[w]hile :; do kontenactl'", check=False)
        pruner.wait(10)
    assert "registry:5000" in grid.master.read("/run/pruned"), "nothing was pruned meanwhile"
    assert set(grid.master.read("/run/refused").splitlines()) <= {
        "Node 'node3': An image is being pulled; try again when it is here."
    }


def test_who_does_not_answer_is_named(grid):
    grid.lab.host("node2").run("systemctl stop kontena-noded")
    grid.wait_node("node2", "offline")
    try:
        said = grid.ctl("image", "list")
        assert "node2: It is offline." in said.stderr and "node1" in said.stdout
        alone = grid.ctl("image", "list", "--node=node2", check=False)
        assert alone.returncode != 0 and "It is offline." in alone.stderr
    finally:
        grid.lab.host("node2").run("systemctl start kontena-noded")
        grid.wait_node("node2", "online")
