# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nodes whose kernel has WireGuard (virtual machines) and one that has wireguard-go, in one grid."""

import pytest

from kontenalab.overlay import EVEN, ODD, Overlay
from kontenalab.process import wait_until


@pytest.fixture(scope="module")
def overlay(lab):
    hosts = [lab.boot([name], backend="qemu")[0] for name in ("vm1", "vm2")] + lab.boot(["node6"])
    made = Overlay(hosts)
    made.start()
    yield made
    for host in hosts:
        host.reset()


def test_all_reach_all(overlay):
    overlay.switch("wireguard")
    overlay.wait_device(ODD)
    overlay.wait_reached()
    assert [n.said("report")["wireguard"] for n in overlay.nodes] == ["kernel", "kernel", "userspace"]
    vm = overlay.nodes[0].host
    assert '"wireguard"' in vm.run(f"ip -json -d link show {ODD}").stdout
    assert not vm.run("pgrep -x wireguard-go", check=False).stdout
    links = overlay.nodes[0].measure()
    assert {(p["path"], p["state"], p["loss"]) for p in links.values()} == {("wireguard", "up", 0)}, links


def test_new_keys(overlay):
    overlay.rotate()
    overlay.wait_device(EVEN)
    overlay.wait_reached()
    overlay.wait_keys(1)
    for node in overlay.nodes:
        wait_until(lambda node=node: ODD not in node.host.run("ip -br link").stdout, 90, "the end of the old device", 0.5)
    overlay.wait_reached()


def test_what_others_change_is_restored(overlay):
    """A kernel device without its unit has nobody who keeps it but the daemon."""
    node, other = overlay.nodes[0], overlay.nodes[1]
    node.host.run(f"ip link delete {EVEN}")
    wait_until(lambda: node.reaches(other) and other.reaches(node), 60, "each other again", 0.3)
    assert any("restored" in e for e in node.events()), node.events()
