# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images of registries that want a password or a token, with credentials and mirrors from noded.conf, as a service pulls them."""

import pytest

from kontenalab.grid import unique
from kontenalab.process import CommandError
from kontenalab.registry import PASSWORD, USER

CREDENTIALS = f"""\
[Registry registry:5001]
Username={USER}
PasswordFile=/etc/kontena/registry-password

[Registry registry:5002]
Username={USER}
PasswordFile=/etc/kontena/registry-password

[Registry nowhere.example]
Mirrors=registry:5000
"""


@pytest.fixture
def node(grid):
    host = grid.lab.host("node2")
    host.write("/etc/kontena/registry-password", PASSWORD + "\n", mode=0o600)
    yield host
    host.run("rm -f /etc/kontena/noded.conf.d/credentials.conf /etc/kontena/registry-password; systemctl reload kontena-noded")


def give_credentials(node):
    node.write("/etc/kontena/noded.conf.d/credentials.conf", CREDENTIALS)
    node.run("systemctl reload kontena-noded")


def run(grid, image, *command):
    with grid.service(unique("asked"), image, "--affinity=node==node2", *command) as name:
        return [i["state"] for i in grid.instances(name)]


IDLE = ("--stop-timeout=1", "--", "sleep", "infinity")


def test_without_credentials_the_refusal_is_told(grid, node):
    """An image that is on the machine would be used: none is known by name."""
    node.run("rm -f /var/lib/kontena/images/refs/*")
    with pytest.raises(CommandError, match="registry:5001"):
        run(grid, "registry:5001/echo:2")
    assert run(grid, "registry:5002/busybox:1", *IDLE) == ["running"], "a token for anybody"
    with pytest.raises(CommandError, match="registry:5002"):
        run(grid, "registry:5002/nginx:1")


def test_credentials_are_used_after_a_reload(grid, node):
    cursor = node.cursor()
    give_credentials(node)
    assert run(grid, "registry:5001/busybox:1", *IDLE) == ["running"]
    journal = node.run(["journalctl", "--no-pager", "-u", "kontena-noded", f"--after-cursor={cursor}"]).stdout
    assert "connection to the master" not in journal, "a reload is no reason to leave the master"
    assert run(grid, "registry:5002/redis:7") == ["running"]


def test_a_mirror_serves_for_its_registry(grid, node):
    give_credentials(node)
    assert run(grid, "nowhere.example/busybox:1", *IDLE) == ["running"]
