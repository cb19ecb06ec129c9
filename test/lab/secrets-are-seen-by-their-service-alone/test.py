# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vault: what it keeps reaches the container that uses it, and no other place that can be looked at."""

import json
import secrets

import pytest
from kontenalab.grid import unique
from kontenalab.needle import look
from kontenalab.process import wait_until

SLEEP = ("--", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done")


def on_the_bus(grid, name: str) -> str:
    call = ["busctl", "--json=short", "call", "io.kontena.Master1", "/io/kontena/Master1"]
    said = grid.master.run([*call, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"]).stdout
    return said + grid.master.run([*call, "io.kontena.Master1.Manager", "GetService", "sss", grid.name, "null", name]).stdout


@pytest.fixture
def secret(grid):
    made = []

    def make(value: str) -> str:
        name = unique("secret")
        grid.ctl("vault", "write", name, input=value)
        made.append(name)
        return name

    yield make
    for name in made:
        grid.ctl("vault", "remove", "--force", name, check=False)


def test_the_search_finds_what_is_there(grid):
    node, needle = grid.lab.host("node1"), secrets.token_hex(16)
    assert look(node, needle) == []
    node.write("/var/lib/kontena/node/planted", f"x{needle}x")
    node.write("/run/systemd/transient/planted.service", f"[Service]\nEnvironment=A={needle}\n")
    node.run("logger < /var/lib/kontena/node/planted; journalctl --sync")
    try:
        assert {"journal", "units", "state"} <= set(look(node, needle))
    finally:
        node.run("rm -f /var/lib/kontena/node/planted /run/systemd/transient/planted.service")


def test_a_secret_reaches_its_service_alone(grid, secret):
    value = secrets.token_hex(16)
    password, name = secret(value), unique("guarded")
    options = [f"--secret={password}:PASSWORD:env", f"--secret={password}:password:file", "--user=1234:4321", "--affinity=node==node1"]
    with grid.service(name, "busybox:1", *options, *SLEEP):
        instance = grid.instance(name)
        assert grid.inside(instance, "cat /run/secrets/password").stdout == value
        assert grid.inside(instance, "stat -c '%a %u %g' /run/secrets/password").stdout.split() == ["400", "1234", "4321"]
        kind, flags = grid.inside(instance, "grep ' /run/secrets ' /proc/mounts").stdout.split()[2:4]
        assert kind == "ramfs" and flags.startswith("ro,")
        node = grid.host_of(instance)
        environment = node.run(f"tr '\\0' '\\n' < /proc/{grid.main_pid(instance)}/environ").stdout.split("\n")
        assert f"PASSWORD={value}" in environment and "CREDENTIALS_DIRECTORY=/run/secrets" in environment

        for host in [grid.master, *grid.node_hosts()]:
            host.run("journalctl --sync")
            assert look(host, value) == [], host.name
        assert value not in on_the_bus(grid, name)

        # Used: it stays. Read: that is told.
        assert grid.ctl("vault", "remove", password, check=False, input="").returncode != 0
        cursor = grid.master.cursor()
        assert grid.ctl("vault", "read", "--value", password).stdout.strip() == value
        grid.master.wait_journal("'vault.read' was done for", since=cursor)
        row = next(s for s in grid.json("vault", "list") if s["name"] == password)
        assert row["services"] == [name] and "value" not in row

        # Changed: the service has it by itself.
        changed = secrets.token_hex(16)
        grid.ctl("vault", "update", password, input=changed)
        wait_until(lambda: changed in grid.inside(grid.instance(name), "cat /run/secrets/password", check=False).stdout, 60,
                   "the new value", 0.5)  # fmt: skip
        # Stopped: nothing of it is left.
        grid.ctl("service", "stop", name)
        wait_until(lambda: not node.run("grep -s kontena/instances.*secrets /proc/mounts", check=False).stdout, 30, "the unmount", 0.2)
        config = node.run("cat /run/kontena/instances/*/*/config.json 2>/dev/null", check=False).stdout
        assert changed not in config
        grid.ctl("service", "start", name)
        wait_until(lambda: [i["state"] for i in grid.instances(name)] == ["running"], 60, "the start", 0.2)
        assert grid.inside(grid.instance(name), "cat /run/secrets/password").stdout == changed


def test_what_does_not_fit_leaves_the_old_one_running(grid, secret):
    small, large, name = secret("small"), secret("x" * 131072), unique("large")
    with grid.service(name, "busybox:1", f"--secret={small}:A:env", *SLEEP):
        pid = grid.main_pid(grid.instance(name))
        grid.ctl("service", "update", f"--secret={large}:A:env", name)
        failed = grid.deploy(name, check=False)
        assert failed.returncode != 0 and "at most 131071" in failed.stdout + failed.stderr
        assert grid.main_pid(grid.instance(name)) == pid


def test_what_is_not_there_cannot_be_used(grid):
    refused = grid.ctl("service", "create", "--secret=nothing:A:env", unique("none"), "registry:5000/busybox:1", check=False)
    assert refused.returncode == 4 and "kontenactl vault write nothing" in refused.stderr
    assert grid.ctl("vault", "update", "nothing", input="x", check=False).returncode == 4


def test_all_can_be_moved(grid, secret):
    name = secret("one\ntwo")
    everything = json.loads(grid.ctl("--json=short", "vault", "export").stdout)
    assert everything[name] == "one\ntwo"
    other = unique("imported")
    grid.ctl("vault", "import", "--force", input=json.dumps({other: "three", name: None}))
    assert grid.ctl("vault", "read", "--value", other).stdout == "three\n"
    assert grid.ctl("vault", "read", name, check=False).returncode == 4
    grid.ctl("vault", "remove", "--force", other)
