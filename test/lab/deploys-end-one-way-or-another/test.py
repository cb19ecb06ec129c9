# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two deploys at once, a service that changes while it deploys, a very large one, and names that nobody should have: each
ends in a way that can be told, and nothing stays open (trap 5)."""

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

LARGE = 500


def states(grid, name):
    return [d["state"] for d in grid.json("deploy", "list", name)]


def environment(grid, instance):
    return grid.inside(instance, "cat /proc/1/environ").stdout.split("\0")


def test_two_deploys_at_once(grid):
    name = unique("twice")
    with grid.service(name, "busybox:1", "--instances=3", "--", "sleep", "infinity"):
        before = {i["number"]: i["deploy_rev"] for i in grid.instances(name)}
        both = [grid.popen("service", "deploy", "--force", name) for _ in range(2)]
        ends = sorted(p.wait(timeout=120) for p in both)
        assert ends[0] == 0, "neither deploy succeeded"
        # Either the second waited for nothing and took the first one's place, or the first was done by then.
        assert set(states(grid, name)) <= {"success", "superseded"}, states(grid, name)
        running = grid.wait_instances(name, ["running"] * 3)
        assert all(i["deploy_rev"] > before[i["number"]] for i in running)


def test_a_service_that_changes_while_it_deploys(grid):
    name = unique("moving")
    with grid.service(name, "busybox:1", "--instances=4", "--env=VERSION=one", "--", "sleep", "infinity"):
        grid.ctl("service", "update", "--env=VERSION=two", name)
        first = grid.popen("service", "deploy", name)
        grid.ctl("service", "update", "--env=VERSION=three", name)
        grid.deploy(name)
        first.wait(timeout=120)

        for instance in grid.wait_instances(name, ["running"] * 4):
            assert "VERSION=three" in environment(grid, instance)
        assert set(states(grid, name)) <= {"success", "superseded"}, states(grid, name)
        # What the last one said is what stands: nothing is left that the master would deploy by itself.
        revision = grid.service_json(name)["revision"]
        assert all(i["service_rev"] == revision for i in grid.instances(name))


def test_removed_while_it_deploys(grid):
    name = unique("removed")
    grid.create(name, "busybox:1", "--instances=2", "--", "sleep", "infinity")
    deploy = grid.popen("service", "deploy", "--force", name)
    grid.remove(name)
    # Over before, failed, gone before it was asked for, or cancelled by the removal: each is the truth, according to who was first.
    assert deploy.wait(timeout=60) in (0, 1, 4, 5)
    assert name not in [s["name"] for s in grid.json("service", "list")]
    wait_until(lambda: not grid.units(name), 60, "the last unit to go", 0.3)


def test_five_hundred_instances(grid):
    name = unique("many")
    with grid.service(name, "busybox:1", "--", "sleep", "infinity"):
        grid.ctl("service", "scale", name, str(LARGE), timeout=600)
        instances = grid.instances(name)
        assert len(instances) == LARGE
        assert {i["state"] for i in instances} == {"running"}
        addresses = {i["address"] for i in instances}
        assert len(addresses) == LARGE, "an address was given twice"
        on = {node: sum(i["node"] == node for i in instances) for node in {i["node"] for i in instances}}
        assert max(on.values()) - min(on.values()) <= 1, on
        grid.ctl("service", "scale", name, "1", timeout=600)
        wait_until(lambda: len(grid.units(name)) == 1, 180, "all but one to be removed", 1)


STRANGE = ["", " ", "-first", "with space", "slash/es/three", "dot.ted", "ümlaut", "semi;colon", "$(reboot)", "a\tb", "new\nline",
           "quote'", 'quote"', "%s%n", "../../etc", "x" * 64, "null\u200b", "*", "a=b", "name@host"]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE, ids=[f"name{i}" for i in range(len(STRANGE))])
def test_strange_names_are_refused_by_name(grid, name):
    before = [s["name"] for s in grid.json("service", "list")]
    result = grid.ctl("service", "create", "--", name, "registry:5000/busybox:1", check=False)
    assert result.returncode != 0
    assert result.stderr.strip() and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert [s["name"] for s in grid.json("service", "list")] == before
