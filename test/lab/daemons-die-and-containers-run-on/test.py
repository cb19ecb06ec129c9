# SPDX-License-Identifier: LGPL-2.1-or-later
"""No daemon of ours is a container's parent or in a packet's path; a kill at any moment loses nothing."""

import threading

import pytest

from kontenalab import sanitizer
from kontenalab.grid import unique
from kontenalab.process import wait_until


@pytest.fixture(scope="module")
def service(grid):
    name = unique("steady")
    with grid.service(name, "busybox:1", "--instances=3", "--", "sh", "-c", "while :; do date; sleep 1; done"):
        yield name


def pids(grid, service):
    return [grid.main_pid(i) for i in grid.instances(service)]


@pytest.mark.parametrize("how", ["systemctl restart kontena-noded", "systemctl kill -s KILL kontena-noded", "systemctl stop kontena-noded; systemctl start kontena-noded"])
def test_node_daemon_ends_and_returns(grid, service, how):
    before = pids(grid, service)
    restarts = [i["restarts"] for i in grid.instances(service)]
    for host in grid.node_hosts():
        cursor = host.cursor()
        host.run(how)
        host.wait_journal("Connected to", "-u", "kontena-noded", since=cursor, timeout=60)
    for host in grid.node_hosts():
        grid.wait_node(host.name, "online")
    grid.wait_instances(service, ["running"] * 3)
    assert pids(grid, service) == before
    assert [i["restarts"] for i in grid.instances(service)] == restarts


def test_master_is_killed_and_returns(grid, service):
    before = pids(grid, service)
    grid.master.run("systemctl kill -s KILL kontenad")
    wait_until(lambda: grid.ctl("grid", "list", check=False).returncode == 0, 30, "the master's return", 0.2)
    for host in grid.node_hosts():
        grid.wait_node(host.name, "online", timeout=100)
    grid.wait_instances(service, ["running"] * 3)
    assert pids(grid, service) == before


def test_deploy_goes_on_after_the_master_was_killed_in_it(grid):
    name = unique("survivor")
    grid.ctl("service", "create", "--instances=6", name, "registry:5000/busybox:1", "--", "sleep", "infinity")
    try:
        # Killed as soon as the deploy is acknowledged: nothing of it may be lost.
        kill = "systemctl kill -s KILL kontenad && systemctl stop kontenad"  # it stays away until the units were counted
        grid.master.run(["sh", "-c", f"kontenactl -g {grid.name} service deploy --no-block {name} && {kill}"])
        begun = len(grid.units(name))
        grid.master.run("systemctl start kontenad")
        assert begun < 6, "the master was killed too late for this test to say anything"
        wait_until(lambda: grid.ctl("grid", "list", check=False).returncode == 0, 30, "the master's return", 0.2)
        grid.wait_instances(name, ["running"] * 6, timeout=150)
        wait_until(lambda: grid.json("deploy", "list", name)[0]["state"] != "ongoing", 30, "the end of the deploy", 0.2)
        deploys = grid.json("deploy", "list", name)
        assert [d["state"] for d in deploys] == ["success"]
    finally:
        grid.remove(name)


def test_container_that_dies_is_started_again_with_back_off(grid):
    """Also when the runtime has no time to forget it, which is what the container has for its end."""
    name = unique("crasher")
    with grid.service(name, "busybox:1", "--stop-timeout=0", "--", "sleep", "infinity"):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        address = instance["address"]
        for _ in range(2):
            pid = grid.main_pid(instance)
            host.run(["kill", "-KILL", str(pid)])
            wait_until(lambda: grid.main_pid(instance) not in (0, pid), 30, "the restart", 0.1)
        wait_until(lambda: grid.instance(name)["restarts"] >= 2, 30, "the master's count of restarts", 0.2)
        grid.wait_instances(name, ["running"])
        assert grid.instance(name)["address"] == address
        events = [e["message"] for e in grid.json("event", "list") if e["type"] == "service:instance_crash" and e["service"] == name]
        assert len(events) >= 2
        assert any("KILL" in e or "signal 9" in e for e in events), events


def test_crash_loop_is_repaired_by_a_new_deploy(grid):
    """Trap 8: a newer desired state does not wait for the back-off of the older."""
    name = unique("loop")
    try:
        grid.ctl("service", "create", name, "registry:5000/busybox:1", "--", "sh", "-c", "sleep 0.2; exit 3")
        failed = grid.deploy(name, check=False)
        assert failed.returncode != 0 and "exited with status 3" in failed.stdout + failed.stderr, failed
        wait_until(lambda: grid.instance(name)["restarts"] >= 3, 60, "a crash loop", 0.2)
        grid.ctl("service", "update", "--cmd=sleep", "--cmd=infinity", name)
        result = grid.deploy(name, timeout=60)
        assert result.returncode == 0
        assert grid.instance(name)["state"] == "running"
        events = [e["message"] for e in grid.json("event", "list") if e["type"] == "service:instance_crash" and e["service"] == name]
        assert any("3" in e for e in events), "the event names the exit status"
    finally:
        grid.remove(name)


def test_failed_unit_does_not_block_its_name(grid):
    """Trap 10: a transient unit that failed is collected, and the same instance starts under the same name."""
    name = unique("again")
    try:
        grid.ctl("service", "create", name, "registry:5000/busybox:1", "--", "/no/such/program")
        assert grid.deploy(name, check=False).returncode != 0
        grid.ctl("service", "update", "--cmd=sleep", "--cmd=infinity", name)
        grid.deploy(name)
        assert grid.instance(name)["state"] == "running"
    finally:
        grid.remove(name)


def test_stalled_master_is_noticed_and_left(grid):
    """Trap 2: the peer is there but does not answer: the channel is closed by force and made anew."""
    pid = grid.master.run("systemctl show -P MainPID kontenad").stdout.strip()
    host = grid.lab.host("node1")
    cursor = host.cursor()
    grid.master.run(["kill", "-STOP", pid])
    resume = threading.Timer(20, lambda: grid.master.run(["kill", "-CONT", pid]))
    resume.start()
    try:
        resume.join()
    finally:
        grid.master.run(["kill", "-CONT", pid], check=False)
    grid.wait_node("node1", "online", timeout=120)
    assert host.run("systemctl is-active kontena-noded").stdout.strip() == "active"
    del cursor


def resident_kib(host, unit):
    pid = host.run(["systemctl", "show", "-P", "MainPID", unit]).stdout.strip()
    status = host.run(["cat", f"/proc/{pid}/status"]).stdout
    return int(status.split("VmRSS:")[1].split()[0])


def test_daemons_are_small(grid):
    """What they take right after their start; that they do not grow with time the benchmarks show."""
    if sanitizer.environment(grid.lab.project):
        pytest.skip("a sanitizer's own memory is counted, too")
    for host in grid.node_hosts():
        host.run(["systemctl", "restart", "kontena-noded"])
        grid.wait_node(host.name, "online")
        assert resident_kib(host, "kontena-noded") < 6 * 1024
    grid.master.run(["systemctl", "restart", "kontenad"])
    wait_until(lambda: grid.ctl("node", "list", check=False).returncode == 0, 30, "the master", 0.2)
    assert resident_kib(grid.master, "kontenad") < 12 * 1024
