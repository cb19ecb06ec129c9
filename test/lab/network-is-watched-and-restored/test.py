# SPDX-License-Identifier: LGPL-2.1-or-later
"""Traps 13, 15 and 18: others change what is ours, or a grid does not fit a machine."""

import json

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until


@pytest.fixture(scope="module")
def pair(grid):
    name = unique("pair")
    with grid.service(name, "busybox:1", "--deploy-strategy=daemon", "--ports=8060:80", "--", "sh", "-c",
                      "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www"):  # fmt: skip
        yield grid.instances(name)


def reaches(grid, pair):
    return grid.inside(pair[0], f"ping -c1 -W1 {pair[1]['address']}", check=False).returncode == 0


def vxlan(host):
    links = json.loads(host.run("ip -json -d link").stdout)
    return next(x for x in links if x.get("linkinfo", {}).get("info_kind") == "vxlan")


def test_hardware_address_is_derived_and_set_again(grid, pair):
    host = grid.host_of(pair[0])
    device = vxlan(host)
    assert device["address"].startswith("02:")
    host.run(f"ip link set {device['ifname']} address 02:00:00:00:00:99")
    wait_until(lambda: vxlan(host)["address"] == device["address"], 5, "the derived address", 0.1)
    wait_until(lambda: reaches(grid, pair), 10, "traffic", 0.2)


def test_deleted_device_is_made_again(grid, pair):
    host = grid.host_of(pair[0])
    host.run(f"ip link del {vxlan(host)['ifname']}")
    wait_until(lambda: reaches(grid, pair), 10, "traffic after the device was deleted", 0.2)


def test_flushed_rules_are_restored(grid, pair):
    host = grid.host_of(pair[0])
    grid.master.run(["curl", "-sS", "--max-time", "60", "--retry", "5", "--retry-connrefused", f"http://{host.address}:8060/"])
    host.run("nft flush ruleset")
    wait_until(lambda: grid.master.run(["curl", "-sS", "--max-time", "2", f"http://{host.address}:8060/"],
               check=False).returncode == 0, 10, "the published port", 0.2)  # fmt: skip


def test_vxlan_is_taken_from_peers_only(grid, pair):
    rules = grid.host_of(pair[0]).run("nft list ruleset").stdout
    peers = {grid.lab.host(n).address for n in ("node1", "node2", "node3")} - {grid.host_of(pair[0]).address}
    assert all(p in rules for p in peers)
    assert grid.master.address not in rules


def test_route_that_collides_refuses_the_join(grid, extra_host):
    host = extra_host("node4")
    host.run("ip link add other7 type bridge && ip link set other7 up && ip route add 10.81.4.0/24 dev other7")
    result = grid.join(host, check=False)
    host.run("systemctl stop kontena-noded")
    grid.ctl("node", "remove", "--force", "node4", check=False)
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert "10.81.4.0/24" in said, said
