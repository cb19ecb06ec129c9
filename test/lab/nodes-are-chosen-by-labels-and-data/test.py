# SPDX-License-Identifier: LGPL-2.1-or-later
"""Labels that change move what may not be where it is; an instance returns to its volume; a node does not go with data unless somebody
insists, and what goes is told."""

import json

from kontenalab.grid import unique
from kontenalab.process import wait_until


def nodes_of(grid, name):
    return {i["number"]: i["node"] for i in grid.instances(name) if i["state"] == "running"}


def test_labels_move_instances_by_their_number(grid):
    name = unique("slotted")
    try:
        grid.ctl("node", "label", "node1", "slot=1")
        grid.ctl("node", "label", "node2", "slot=2")
        with grid.service(name, "busybox:1", "--instances=2", "--affinity=label==slot=%s", "--drain=0", "--", "sleep", "infinity"):
            assert nodes_of(grid, name) == {1: "node1", 2: "node2"}
            # The same nodes, each for the other one.
            grid.ctl("node", "label", "node1", "slot=2")
            grid.ctl("node", "label", "node2", "slot=1")
            wait_until(lambda: nodes_of(grid, name) == {1: "node2", 2: "node1"}, 30, "the change of places", 0.3)
    finally:
        for node in ("node1", "node2"):
            grid.ctl("node", "label", node, "slot-")


def test_an_instance_returns_to_its_volume(grid, volume):
    name, data = unique("returns"), volume("--scope=instance")
    line = "echo $KONTENA_NODE_NAME >> /data/seen; exec sleep infinity"
    with grid.service(name, "busybox:1", "--affinity=node!=node3", f"--volume={data}:/data", "--drain=0", "--", "sh", "-c", line):
        home = nodes_of(grid, name)[1]
        other = "node2" if home == "node1" else "node1"
        try:
            grid.ctl("node", "update", "--availability=drain", home)
            wait_until(lambda: nodes_of(grid, name) == {1: other}, 30, "the move", 0.3)
            told = [e["message"] for e in grid.json("event", "list") if e["service"] == name and "empty volume" in e["message"]]
            assert len(told) == 1 and f"is on '{home}'" in told[0], told
            # Three nodes may have it; it goes where it has been.
            grid.ctl("node", "update", "--availability=active", home)
            grid.ctl("service", "update", "--affinity=node!=nobody", name)
            grid.deploy(name)
            assert nodes_of(grid, name) == {1: other}, "it stays where it is"
            grid.ctl("node", "update", "--availability=drain", other)
            wait_until(lambda: nodes_of(grid, name) == {1: home}, 30, "the way back", 0.3)
            assert grid.lab.host(home).run(f"cat /var/lib/kontena/volumes/{name}.{data}-1/seen").stdout.split() == [home] * 2
        finally:
            for node in (home, other):
                grid.ctl("node", "update", "--availability=active", node)


def test_a_node_with_data_goes_only_by_force(grid, extra_host, volume):
    host = extra_host("node6")
    grid.join(host)
    grid.wait_node("node6", "online")
    data, name = volume("--scope=grid"), unique("db")
    grid.create(name, "busybox:1", "--stateful", "--affinity=node==node6", f"--volume={data}:/data", "--", "sh", "-c",
                "echo precious > /data/file; exec sleep infinity")  # fmt: skip
    try:
        wait_until(lambda: any(p["state"] == "present" for p in grid.json("volume", "show", data)["instances"]), 20, "the volume's state", 0.2)
        host.kill()
        grid.wait_node("node6", "offline", timeout=100)
        refused = grid.ctl("node", "remove", "node6", check=False)
        assert refused.returncode == 5 and f"{name}-1" in refused.stderr and data in refused.stderr, refused.stderr
        assert "node6" in grid.nodes()
        gone = json.loads(grid.ctl("--json=short", "node", "remove", "--force", "node6").stdout)
        assert [(lost["kind"], lost["name"]) for lost in gone[0]["lost"]] == [("instance", f"{name}-1"), ("volume", data)]
        assert any(f"'node6' was removed, and with it the data of {name}-1 and the volume {data}" in e["message"]
                   for e in grid.json("event", "list"))  # fmt: skip
        # Nobody begins anew with empty data by himself.
        grid.ctl("service", "update", "--affinity=node==node1", name)
        failed = grid.deploy(name, check=False)
        assert failed.returncode != 0 and "--accept-data-loss" in failed.stdout + failed.stderr
        assert grid.deploy(name, "--accept-data-loss").returncode == 0
    finally:
        grid.ctl("node", "remove", "--force", "node6", check=False)
        grid.remove(name)
