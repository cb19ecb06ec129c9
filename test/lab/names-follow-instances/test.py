# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trap 11: a name answers while its instance runs, and no second longer."""

import time

from kontenalab.grid import unique
from kontenalab.process import wait_until


def resolve(grid, client, name):
    answer = grid.inside(client, f"nslookup {name}.{grid.name}.kontena.local 2>/dev/null", check=False)
    return answer.stdout if answer.returncode == 0 else ""


def test_names_change_within_a_second_both_ways(grid):
    name, client_name = unique("named"), unique("client")
    with grid.service(client_name, "busybox:1", "--affinity=node==node1", "--", "sleep", "infinity"):
        client = grid.instance(client_name)
        with grid.service(name, "busybox:1", "--affinity=node==node2", "--", "sleep", "infinity"):
            instance = grid.instance(name)
            came, went = [], []
            for attempt in range(5):  # the best of some: a busy machine adds to it, and never takes away
                if attempt:
                    grid.ctl("service", "start", name)
                    grid.wait_instances(name, ["running"])
                started = time.monotonic()
                wait_until(lambda: instance["address"] in resolve(grid, client, name), 5, "the name", 0.05)
                came.append(time.monotonic() - started)
                grid.ctl("service", "stop", name)
                wait_until(lambda: grid.instance(name)["state"] == "stopped", 30, "the stop", 0.05)
                stopped = time.monotonic()
                wait_until(lambda: instance["address"] not in resolve(grid, client, name), 5, "no name", 0.05)
                went.append(time.monotonic() - stopped)
                if attempt and min(came) < 1.5 and min(went) < 1.5:
                    break
            assert min(came) < 1.5 and min(went) < 1.5, (came, went)


def test_name_server_survives_the_daemon(grid):
    name = unique("stays")
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--", "sleep", "infinity"):
        instance = grid.instance(name)
        host = grid.lab.host("node1")
        wait_until(lambda: instance["address"] in resolve(grid, instance, name), 10, "its name", 0.2)
        host.run("systemctl stop kontena-noded")
        try:
            assert instance["address"] in resolve(grid, instance, name)
        finally:
            host.run("systemctl start kontena-noded")
        grid.wait_node("node1", "online")
