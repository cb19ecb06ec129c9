# SPDX-License-Identifier: LGPL-2.1-or-later
"""Credentials for registries are given to a grid once: its nodes use them from then on, and nobody sees them."""

import secrets

import pytest
from kontenalab.grid import unique
from kontenalab.needle import look
from kontenalab.process import wait_until
from kontenalab.registry import PASSWORD, USER

HTPASSWD = "/etc/docker/registry/htpasswd"
HASH = "import crypt, sys; print(crypt.crypt(sys.stdin.read(), crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))"
IDLE = ("--stop-timeout=1", "--", "sleep", "infinity")
TYPE = r"""
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp("kontenactl", ["kontenactl", "--grid=" + sys.argv[1], "registry", "add", "--username=typed", "typed.example"])
said = b""
while b"typed.example': " not in said:
    said += os.read(fd, 4096)
os.write(fd, (sys.argv[2] if sys.argv[2] == "\x03" else open("/run/typed").read()).encode())
try:
    while piece := os.read(fd, 4096):
        said += piece
except OSError:
    pass
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture
def registry(grid):
    """Sets the password of a user at the registry that asks for one."""
    host = grid.lab.host("registry")
    before = host.read(HTPASSWD)

    def allow(user: str, password: str) -> None:
        hashed = host.run(["python3", "-W", "ignore", "-c", HASH], input=password).stdout.strip()
        host.write(HTPASSWD, f"{user}:{hashed}\n")
        host.run(f"touch -d '+{secrets.randbelow(1000) + 1} seconds' {HTPASSWD}")  # it is read again when its time changes

    yield allow
    host.write(HTPASSWD, before)


@pytest.fixture(autouse=True)
def no_credentials(grid):
    yield
    for row in grid.json("registry", "list"):
        grid.ctl("registry", "remove", "--force", row["name"])


def add(grid, name, user, password, check=True):
    return grid.ctl("registry", "add", f"--username={user}", name, input=password, check=check)


def run(grid, image):
    """What comes of a new service: its state, and what was said."""
    name = unique("guarded")
    grid.ctl("service", "create", "--affinity=node==node2", name, image, *IDLE)
    try:
        said = grid.deploy(name, check=False)
        return [i["state"] for i in grid.instances(name)], said.stdout + said.stderr
    finally:
        grid.remove(name)


def test_a_grid_is_let_in_without_a_restart(grid, registry):
    node, user, password = grid.lab.host("node2"), unique("anna"), secrets.token_hex(16)
    daemon = node.run("systemctl show -P MainPID kontena-noded").stdout
    registry(user, password)

    assert "refuses it without a user and password" in run(grid, "registry:5001/busybox:1")[1]
    add(grid, "registry:5001", user, "wrong")
    assert f"registry 'registry:5001' does not know user '{user}' with this password" in run(grid, "registry:5001/busybox:1")[1]
    add(grid, "https://REGISTRY:5001/v2/", user, password)
    assert run(grid, "registry:5001/busybox:1")[0] == ["running"]
    assert [(r["name"], r["username"]) for r in grid.json("registry", "list")] == [("registry:5001", user)]

    # Changed there, changed here: the next pull has the new one.
    changed = secrets.token_hex(16)
    registry(user, changed)
    assert "does not know user" in run(grid, "registry:5001/echo:1")[1]
    add(grid, "registry:5001", user, changed)
    assert run(grid, "registry:5001/busybox:1")[0] == ["running"]

    # It is for that port alone, and gone when it is removed.
    assert "refuses it without a user and password" in run(grid, "registry:5002/redis:7")[1]
    grid.ctl("registry", "remove", "--force", "registry:5001")
    assert "refuses it without a user and password" in run(grid, "registry:5001/busybox:1")[1]
    assert node.run("systemctl show -P MainPID kontena-noded").stdout == daemon
    for host in [grid.master, node, grid.lab.host("registry")]:
        host.run("journalctl --sync")
    for host in [grid.master, node]:
        assert look(host, password) == [] and look(host, changed) == [], host.name


def test_a_token_is_asked_for_with_them(grid):
    add(grid, "registry:5002", USER, "wrong")
    assert f"registry 'registry:5002' does not know user '{USER}' with this password" in run(grid, "registry:5002/redis:7")[1]
    add(grid, "registry:5002", USER, PASSWORD)
    assert run(grid, "registry:5002/nginx:1")[0] == ["running"]


def test_nobody_sees_them_while_they_are_used(grid, registry):
    """In the middle of a pull: arguments, units, journal, desired.json, the store's pages."""
    node, user, password, name = grid.lab.host("node3"), unique("bob"), secrets.token_hex(16), unique("slow")
    registry(user, password)
    add(grid, "registry:5001", user, password)
    node.run("rm -f /var/lib/kontena/images/refs/* /var/lib/kontena/images/images/*; rm -rf /var/lib/kontena/images/layers/*")
    node.slow(rate="8mbit")
    try:
        grid.ctl("service", "create", "--affinity=node==node3", name, "registry:5001/nginx:1")
        deploy = grid.popen("service", "deploy", name)
        unit = "systemctl list-units --plain --no-legend --state=running 'kontena-pull-*' | cut -d' ' -f1"
        wait_until(lambda: grid.instances(name) and "pulling " in (grid.instances(name)[0]["progress"] or ""), 30, "the pull", 0.1)
        node.slow(rate="128kbit")  # it is not over before all was looked at, however long that takes
        running = node.run(unit).stdout.split()
        assert running
        for host in [grid.master, node]:
            assert look(host, password) == [], host.name
        assert password not in node.run("cat /proc/[0-9]*/environ", check=False).stdout
        told = node.run("cat /var/lib/kontena/node/desired.json").stdout
        assert user in told and "registry:5001" in told
        assert node.run(unit).stdout.split() == running, "the pull was over before it was looked at"
        objects = grid.master.run(
            "busctl call io.kontena.Master1 /io/kontena/Master1 org.freedesktop.DBus.ObjectManager GetManagedObjects"
            f"; busctl call io.kontena.Master1 /io/kontena/Master1 io.kontena.Master1.Manager ListRegistries s {grid.name}"
        ).stdout
        assert user in objects and password not in objects
        node.slow()
        assert deploy.wait(60) == 0
    finally:
        node.slow()
        grid.remove(name)


def test_a_password_is_typed_unseen(grid):
    password = secrets.token_hex(8)
    grid.master.write("/run/type.py", TYPE)
    grid.master.write("/run/typed", password + "\n", 0o600)
    said = grid.master.run(["python3", "/run/type.py", grid.name, "it"], timeout=30).stdout
    assert "Password of 'typed' for 'typed.example': " in said and password not in said
    assert [r["username"] for r in grid.json("registry", "list") if r["name"] == "typed.example"] == ["typed"]
    assert grid.master.run(["python3", "/run/type.py", grid.name, "\x03"], timeout=30, check=False).returncode != 0

    refused = add(grid, "registry", "x", "y", check=False)
    assert refused.returncode == 2 and "'registry' is not a registry's address" in refused.stderr
    assert add(grid, "registry.example", "x", "", check=False).returncode == 2
    assert grid.ctl("registry", "remove", "--force", "nothing.example", check=False).returncode == 4
