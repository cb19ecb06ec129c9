# SPDX-License-Identifier: LGPL-2.1-or-later
"""kontenactl master ca: nodes follow without interruption, one that is away is waited for, and the death of the master changes nothing."""

import json
import time

from kontenalab.grid import unique
from kontenalab.process import wait_until


def authority(grid):
    return json.loads(grid.ctl("--json=short", "master", "ca").stdout)


def trusted_on(host):
    pem = host.run(["cat", "/var/lib/kontena/node/ca.pem"]).stdout
    return pem.count("BEGIN CERTIFICATE")


def test_nodes_follow(grid):
    before = authority(grid)
    token = grid.token()
    assert before["own"] and not before["nodes"] and before["fingerprint"] in token
    name = unique("untouched")
    with grid.service(name, "busybox:1", "--affinity=node==node2", "--", "sleep", "infinity"):
        instance = grid.instance(name)
        pid = grid.main_pid(instance)
        away = grid.lab.host("node3")
        away.run(["systemctl", "stop", "kontena-noded"])
        try:
            grid.wait_node("node3", "offline")

            # One is away: nothing is done behind its back, and it is named.
            said = grid.ctl("master", "ca", "rotate", "--timeout=8s", check=False)
            assert said.returncode != 0 and "node3 (offline)" in said.stderr and "node1" not in said.stderr, said
            status = authority(grid)
            assert status["fingerprint"] == before["fingerprint"] and status["next_fingerprint"]
            assert trusted_on(grid.lab.host("node1")) == 2 and trusted_on(away) == 1

            # The master dies, is back with what it had begun, and nodes come back to it.
            grid.master.run(["systemctl", "kill", "-s", "KILL", "kontenad"])
            wait_until(lambda: grid.ctl("node", "list", check=False).returncode == 0, 30, "the master", 0.2)
            wait_until(lambda: grid.nodes()["node1"]["state"] == "online", 60, "the node", 0.2)
            assert authority(grid)["next_fingerprint"] == status["next_fingerprint"]
        finally:
            away.run(["systemctl", "start", "kontena-noded"])

        # It follows, and the master goes on by itself.
        wait_until(lambda: authority(grid)["fingerprint"] == status["next_fingerprint"], 60, "the next authority", 0.2)
        for host in grid.node_hosts():
            wait_until(lambda host=host: trusted_on(host) == 1, 20, "the end of the old authority", 0.1)
        wait_until(lambda: not authority(grid)["nodes"], 10, "their word for it", 0.1)
        after = authority(grid)
        assert not after.get("next_fingerprint")

        # Nobody was disturbed, and everybody can come again.
        assert grid.main_pid(instance) == pid
        for host in grid.node_hosts():
            host.run(["systemctl", "restart", "kontena-noded"])
        for host in grid.node_hosts():
            grid.wait_node(host.name, "online")
        assert grid.main_pid(instance) == pid

    assert after["fingerprint"] in grid.token()
    old = grid.lab.host("node1").run(["/usr/lib/kontena/kontena-channel", "--fetch-ca", "https://master:9292", before["fingerprint"]], check=False)
    assert old.returncode != 0 and "another authority" in old.stderr, old


def test_a_rotation_with_everybody_there_takes_no_time_and_can_be_given_up(grid):
    connected = {n: v["connected_at"] for n, v in grid.nodes().items()}
    begun = time.monotonic()
    grid.ctl("master", "ca", "rotate")
    assert time.monotonic() - begun < 50, "it waited for somebody"
    assert {n: v["connected_at"] for n, v in grid.nodes().items()} == connected, "no connection was cut"

    away = grid.lab.host("node3")
    away.run(["systemctl", "stop", "kontena-noded"])
    try:
        grid.wait_node("node3", "offline")
        now = authority(grid)["fingerprint"]
        grid.ctl("master", "ca", "rotate", "--no-block")
        grid.ctl("master", "ca", "abort")
        assert authority(grid)["fingerprint"] == now
        wait_until(lambda: trusted_on(grid.lab.host("node1")) == 1, 10, "one authority", 0.1)
        assert grid.ctl("master", "ca", "abort", check=False).returncode != 0
    finally:
        away.run(["systemctl", "start", "kontena-noded"])
    grid.wait_node("node3", "online")
