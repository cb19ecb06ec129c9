# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stateful instance goes to another node with all its data; whatever interrupts that, what was there before is intact and is what runs."""

import json
import re

import pytest
from kontenalab.grid import unique
from kontenalab.process import wait_until

VOLUMES = "/var/lib/kontena/volumes"
MEBIBYTES = 32
NODES = "--affinity=node==/^node[123]$/"  # not one that another test has added
# Writes a line as long as it runs: data that are copied while somebody writes would show as a gap.
COMMAND = ("--", "sh", "-c", "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i >> /data/log; sleep 0.1; done")


@pytest.fixture
def database(grid, volume):
    """A stateful service with a named volume and one without a name, and data in both."""
    name, data = unique("db"), volume()
    with grid.service(name, "busybox:1", "--stateful", NODES, f"--volume={data}:/data", "--volume=/plain", *COMMAND):
        grid.inside(
            grid.instance(name),
            f"dd if=/dev/urandom of=/data/big bs=1M count={MEBIBYTES} 2>/dev/null; echo plain > /plain/file;"
            "ln -s big /data/link; ln /data/big /data/hard; mkdir -m 700 /data/dir; chown 70:70 /data/dir; mkfifo /data/fifo",
            timeout=60,
        )
        yield name, data


def state(grid, name):
    """What must be equal before and after."""
    text = (
        "cd /data; md5sum big link; stat -c '%n %a %u %g %h %F' big link hard dir fifo; cat /plain/file; ls /plain /data;"
        "test $(stat -c %i big) = $(stat -c %i hard) && echo hard; wc -l < log > /dev/null"
    )
    return grid.inside(grid.instance(name), text, timeout=60).stdout


def other_node(grid, name):
    here = grid.instance(name)["node"]
    return next(n for n in ("node1", "node2", "node3") if n != here)


def has_volume(grid, node, name, data):
    return grid.lab.host(node).run(f"test -d {VOLUMES}/{name}.{data}-1", check=False).returncode == 0


def places(grid, data):
    """Nodes that have it, as far as the master knows."""
    return {p["node"] for p in grid.json("volume", "show", data)["instances"]}


def lines_are_whole(grid, name):
    """The log goes on with 1 at each start, and never has a gap in between."""
    numbers = [int(n) for n in grid.inside(grid.instance(name), "cat /data/log").stdout.split()]
    return all(b == a + 1 or b == 1 for a, b in zip(numbers, numbers[1:]))


def test_it_moves_there_and_back(grid, database):
    name, data = database
    before, here, there = state(grid, name), grid.instance(name)["node"], other_node(grid, name)
    for source, target in ((here, there), (there, here)):
        moved = grid.ctl("service", "move", f"{name}-1", target)
        assert f"runs on node '{target}' now" in moved.stdout + moved.stderr
        instance = grid.instance(name)
        assert (instance["node"], instance["state"]) == (target, "running")
        assert state(grid, name) == before, moved.stdout
        assert lines_are_whole(grid, name)
        assert len(grid.units(name)) == 1
        wait_until(lambda target=target: places(grid, data) == {target}, 20, "the old copy to go", 0.2)
        assert not has_volume(grid, source, name, data)
        assert has_volume(grid, target, name, data)
    # It is where it was put, whatever is deployed.
    grid.deploy(name, "--force")
    assert grid.instance(name)["node"] == here
    assert state(grid, name) == before


def test_what_makes_no_sense_is_refused(grid, database):
    name, _ = database
    here = grid.instance(name)["node"]
    for arguments, word in (
        ((f"{name}-1", here), "already"),
        ((f"{name}-7", other_node(grid, name)), "no instance 7"),
        ((f"{name}-1", "nowhere"), "nowhere"),
        ((name, other_node(grid, name)), f"{name}-1"),
    ):
        refused = grid.ctl("service", "move", *arguments, check=False)
        assert refused.returncode != 0 and word in refused.stderr, (arguments, refused.stderr)
    stateless = unique("web")
    with grid.service(stateless, "busybox:1", "--", "sleep", "infinity"):
        refused = grid.ctl("service", "move", f"{stateless}-1", other_node(grid, stateless), check=False)
        assert refused.returncode != 0 and "stateless" in refused.stderr


def test_snapshots_are_not_lost_by_a_move(grid, database):
    name, data = database
    before, here, there = state(grid, name), grid.instance(name)["node"], other_node(grid, name)
    grid.ctl("volume", "snapshot", data, "before")
    refused = grid.ctl("service", "move", f"{name}-1", there, check=False)
    assert refused.returncode != 0 and "1 snapshots" in refused.stderr
    assert_as_before(grid, name, data, before, here, there)
    assert "before" in grid.ctl("volume", "snapshots", data).stdout


def begin(grid, name, target):
    """A move that is copying, or, on a machine that looked away for a moment, over."""
    known = {d["id"] for d in grid.json("deploy", "list", name)}
    move = grid.popen("service", "move", f"{name}-1", target)

    def copying():
        latest = grid.json("deploy", "list", name)[0]
        steps = latest["instances"]
        return latest["id"] not in known and (move.poll() is not None or (steps and re.search("copied", steps[0]["progress"] or "")))

    wait_until(copying, 60, "the copy to begin", 0.02)
    return move


def assert_as_before(grid, name, data, before, here, there):
    wait_until(lambda: [i["state"] for i in grid.instances(name) if i["role"] == "current"] == ["running"], 60, "it to run again", 0.2)
    assert grid.instance(name)["node"] == here
    assert state(grid, name) == before
    assert lines_are_whole(grid, name)
    wait_until(lambda: not has_volume(grid, there, name, data), 30, "what was brought to go", 0.2)


def test_cancelled_in_the_middle(grid, database):
    name, data = database
    for _ in range(5):  # where the copy was over before it could be cancelled: once more
        before, here, there = state(grid, name), grid.instance(name)["node"], other_node(grid, name)
        move = begin(grid, name, there)
        grid.ctl("deploy", "cancel", grid.json("deploy", "list", name)[0]["id"], check=False)
        if move.wait(timeout=60) != 0:
            break
    assert move.returncode == 5
    assert_as_before(grid, name, data, before, here, there)


@pytest.mark.parametrize("victim", ["kontenad", "source", "target"])
def test_a_daemon_dies_in_the_middle(grid, database, victim):
    """Nothing is lost, and since it comes back, the move goes on to its end."""
    name, data = database
    before, here, there = state(grid, name), grid.instance(name)["node"], other_node(grid, name)
    begin(grid, name, there)
    if victim == "kontenad":
        grid.master.run("systemctl kill -s KILL kontenad")
    else:
        grid.lab.host(here if victim == "source" else there).run("systemctl kill -s KILL kontena-noded")

    def over():
        shown = grid.ctl("deploy", "list", "--json=short", name, check=False)  # kontenad may be on its way back
        return shown.returncode == 0 and json.loads(shown.stdout)[0]["state"] in ("success", "error")

    wait_until(over, 120, "the move to end", 0.3)
    assert grid.json("deploy", "list", name)[0]["state"] == "success"
    assert grid.instance(name)["node"] == there
    assert state(grid, name) == before
    assert lines_are_whole(grid, name)
