# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two grids of one master, alike in everything that has a name: what one has, does or says is not there for the other."""

from collections.abc import Iterator

import pytest

from kontenalab.grid import Grid, unique
from kontenalab.process import wait_until

ANSWER = "while :; do echo from-{0} | nc -l -p 8080; done"


@pytest.fixture
def other(grid, extra_host) -> Iterator[Grid]:
    second = Grid(grid.lab, unique("other"))
    extra_host("node4")
    grid.ctl("grid", "create", second.name, "--trusted-subnet=172.30.0.0/24")
    second.make(["node4"])
    yield second
    second.ctl("node", "remove", "--force", "node4")
    second.ctl("grid", "remove", "--force", second.name)


def check_that_a_node_belongs_to_one_grid(grid, other):
    """A token of another grid moves nothing, and who tries is told where the machine is."""
    said = grid.lab.host("node4").run(["kontenactl", "node", "join", "https://master:9292", grid.token()]).stdout
    assert "kontenactl node leave" in said and f"node 'node4' of grid '{other.name}'" in said, said
    assert "node4" in other.nodes() and "node4" not in grid.nodes()
    # Neither is a node that was made for one grid to be had in the other.
    assert grid.ctl("node", "show", "node4", check=False).returncode != 0
    assert other.ctl("node", "update", "--availability=drain", "node1", check=False).returncode != 0
    assert grid.nodes()["node1"]["state"] == "online"


def test_equal_names_and_equal_addresses(grid, other):
    name, client, secret = unique("twin"), unique("client"), unique("secret")
    both = [(grid, "node1"), (other, "node4")]
    try:
        for g, node in both:
            g.ctl("vault", "write", secret, input=f"value-of-{g.name}")
            g.create(name, "busybox:1", f"--affinity=node=={node}", "--deploy-wait-for-port=8080", f"--secret={secret}:S:env",
                     "--", "sh", "-c", ANSWER.format(g.name))  # fmt: skip
            g.create(client, "busybox:1", f"--affinity=node=={node}", "--", "sh", "-c", f"echo line-of-{g.name}; exec sleep 1000")

        # Both grids have the same subnet, and both of their nodes the number that a first node gets.
        show = [g.json("grid", "show", g.name) for g, _ in both]
        assert show[0]["subnet"] == show[1]["subnet"]
        for g, _ in both:
            only = g.instance(name)["address"]
            asked = g.ctl("exec", f"{client}-1", "--", "nslookup", f"{name}.{g.name}.kontena.local").stdout
            assert only in asked, asked
            said = wait_until(lambda g=g: g.ctl("exec", f"{client}-1", "--", "nc", name, "8080", check=False).stdout, 10, "an answer", 0.2)
            assert said == f"from-{g.name}\n"
            assert g.ctl("exec", f"{name}-1", "--", "sh", "-c", "echo $S").stdout == f"value-of-{g.name}\n"
            assert g.ctl("vault", "read", "--value", secret).stdout.strip() == f"value-of-{g.name}"
            wait_until(lambda g=g: f"line-of-{g.name}" in g.ctl("service", "logs", client).stdout, 10, "the line", 0.2)
        for mine, its in ((grid, other), (other, grid)):
            # Names of the other grid lead nowhere, and nothing of it is in lists, logs and events.
            foreign = mine.ctl("exec", f"{client}-1", "--", "nslookup", f"{name}.{its.name}.kontena.local", check=False)
            assert its.instance(name)["address"] not in foreign.stdout.split("Name:")[-1] or foreign.returncode != 0, foreign
            assert f"line-of-{its.name}" not in mine.ctl("service", "logs", client).stdout
            assert set(mine.nodes()).isdisjoint(its.nodes())
            assert all(e["grid"] == mine.name for e in mine.json("event", "list"))

        # What is done to one is not done to the other.
        pid = grid.main_pid(grid.instance(name))
        other.ctl("service", "remove", "--force", name)
        other.ctl("service", "remove", "--force", client)
        other.ctl("vault", "remove", "--force", secret)
        wait_until(lambda: not other.json("service", "list"), 30, "the end of the other's services", 0.2)
        assert grid.main_pid(grid.instance(name)) == pid
        assert grid.ctl("vault", "read", "--value", secret).stdout.strip() == f"value-of-{grid.name}"
        said = wait_until(lambda: grid.ctl("exec", f"{client}-1", "--", "nc", name, "8080", check=False).stdout, 10, "an answer", 0.2)
        assert said == f"from-{grid.name}\n"
    finally:
        for g, _ in both:
            g.remove(name, client)
            g.ctl("vault", "remove", "--force", secret, check=False)
    check_that_a_node_belongs_to_one_grid(grid, other)
