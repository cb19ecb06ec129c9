# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power loss, a cut cable, a reboot without a master: what runs where afterwards."""

from kontenalab.grid import unique
from kontenalab.process import wait_until


def test_node_without_a_master_starts_what_it_had(grid):
    """Trap 14."""
    name = unique("autark")
    with grid.service(name, "busybox:1", "--affinity=node==node2", "--", "sleep", "infinity"):
        instance = grid.instance(name)
        node = grid.lab.host("node2")
        grid.master.cut()
        try:
            node.kill()
            node.start()
            node.wait_running()
            wait_until(lambda: node.run(["systemctl", "is-active", instance["unit"]], check=False).stdout.strip() == "active",
                       60, "the instance without a master", 0.2)  # fmt: skip
        finally:
            grid.master.heal()
        grid.wait_node("node2", "online", timeout=150)
        grid.wait_instances(name, ["running"])
        assert grid.instance(name)["id"] == instance["id"]


def test_lost_node_is_replaced_and_yields_when_it_returns(grid):
    """Trap 4: after the partition one copy stays, the newer one; it is said in the log."""
    name = unique("mover")
    with grid.service(name, "busybox:1", "--deploy-strategy=random", "--", "sleep", "infinity"):
        old = grid.instance(name)
        node = grid.host_of(old)
        node.cut()
        try:
            grid.wait_node(node.name, "offline", timeout=100)
            # random has 30 s of grace
            wait_until(lambda: grid.instance(name)["node"] != node.name and grid.instance(name)["state"] == "running",
                       120, "the instance on another node", 0.5)  # fmt: skip
            assert node.run(["systemctl", "is-active", old["unit"]], check=False).stdout.strip() == "active"
        finally:
            node.heal()
        grid.wait_node(node.name, "online", timeout=150)
        wait_until(lambda: (node.name, old["unit"]) not in grid.units(name), 60, "the end of the older copy", 0.2)
        assert len(grid.units(name)) == 1
        assert grid.instance(name)["node"] != node.name


def test_cut_node_keeps_its_containers_inside_the_grace(grid):
    name = unique("patient")
    with grid.service(name, "busybox:1", "--affinity=node==node3", "--", "sleep", "infinity"):
        instance = grid.instance(name)
        pid = grid.main_pid(instance)
        node = grid.lab.host("node3")
        node.cut()
        try:
            grid.wait_node("node3", "offline", timeout=100)
        finally:
            node.heal()
        grid.wait_node("node3", "online", timeout=150)
        grid.wait_instances(name, ["running"])
        assert grid.main_pid(instance) == pid


def test_drained_node_gives_its_instances_away(grid):
    name = unique("drained")
    with grid.service(name, "busybox:1", "--instances=3", "--", "sleep", "infinity"):
        grid.ctl("node", "update", "--availability=drain", "node1")
        try:
            wait_until(lambda: all(i["node"] != "node1" and i["state"] == "running" for i in grid.instances(name)),
                       90, "node1 without instances", 0.5)  # fmt: skip
        finally:
            grid.ctl("node", "update", "--availability=active", "node1")
