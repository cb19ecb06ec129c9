# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory, CPU and task limits are unit properties: they hold, daemon-reload does not undo them (trap 9), and a container
that eats memory is killed alone. Needs cgroup controllers, so a machine of its own (qemu)."""

import re

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until


@pytest.fixture(scope="module")
def vm(grid, lab):
    host = lab.boot(["vm1"], backend="qemu")[0]
    grid.join(host)
    grid.wait_node("vm1", "online", timeout=120)
    yield host
    host.run("systemctl stop kontena-noded", check=False)
    grid.wait_node("vm1", "offline", timeout=100)
    grid.ctl("node", "remove", "--force", "vm1", check=False)
    host.reset()


@pytest.fixture(autouse=True)
def right_clock(vm):
    """An emulated machine that gets few processors loses time, and a node whose clock is off is not let in."""
    vm.set_clock()


def test_limits_are_properties_and_survive_a_reload(grid, vm):
    name = unique("limited")
    with grid.service(name, "busybox:1", "--affinity=node==vm1", "--memory=32m", "--cpus=0.5", "--cpu-shares=512",
                      "--pids-limit=20", "--", "sleep", "infinity"):  # fmt: skip
        unit = grid.instance(name)["unit"]
        cgroup = "/sys/fs/cgroup" + vm.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip()

        def limits():
            return [vm.read(f"{cgroup}/{f}").strip() for f in ("memory.max", "cpu.max", "pids.max", "memory.swap.max")]

        expected = [str(32 << 20), "50000 100000", "20"]
        assert limits()[:3] == expected
        vm.run("systemctl daemon-reload")
        assert limits()[:3] == expected
        assert vm.run(["systemctl", "show", "-P", "MemoryMax", unit]).stdout.strip() == str(32 << 20)
        assert 1 < int(vm.read(f"{cgroup}/cpu.weight")) < 100


def test_memory_eater_is_killed_alone(grid, vm):
    quiet, name = unique("quiet"), unique("eater")
    with grid.service(quiet, "busybox:1", "--affinity=node==vm1", "--", "sleep", "infinity"):
        pid = grid.main_pid(grid.instance(quiet))
        with grid.service(name, "busybox:1", "--affinity=node==vm1", "--memory=16m", "--memory-swap=16m", "--", "sh", "-c",
                          "sleep 2; exec tail /dev/zero"):  # fmt: skip
            wait_until(lambda: grid.instance(name)["oom_kills"] >= 1, 60, "the kernel's kill", 0.3)
            messages = [e["message"] for e in grid.json("event", "list") if e["service"] == name]
            assert any("memory" in m.lower() for m in messages), messages
        assert grid.main_pid(grid.instance(quiet)) == pid
        assert vm.run("systemctl is-active kontena-noded").stdout.strip() == "active"


def test_fork_bomb_hurts_nobody_else(grid, vm):
    """Under a limit of processes: the service beside it answers, the node's daemon does its work, and a deploy ends the bomb."""
    quiet, name = unique("quiet"), unique("bomb")
    with grid.service(quiet, "echo:1", "--affinity=node==vm1", "--ports=18077:8080", "--wait-for-port=8080"):
        pid = grid.main_pid(grid.instance(quiet))
        with grid.service(name, "busybox:1", "--affinity=node==vm1", "--pids-limit=64", "--cpus=0.5", "--drain=0", "--", "sh", "-c",
                          "b() { b | b & }; trap '' TERM; while :; do b; sleep 0.1; done 2>/dev/null"):  # fmt: skip
            unit = grid.instance(name)["unit"]

            def state(file: str) -> str:
                """A shell that cannot fork ends, and the bomb is started anew: meanwhile the unit has no cgroup."""
                group = vm.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip()
                return vm.run(f"cat /sys/fs/cgroup{group}/{file}", check=False).stdout if group else ""

            cgroup = "/sys/fs/cgroup" + wait_until(
                lambda: vm.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip(), 60, "the unit's cgroup", 0.3)
            wait_until(lambda: re.search(r"max [1-9]", state("pids.events")), 60, "the limit to be reached", 0.3)
            assert int(state("pids.current") or 0) <= 64
            assert grid.master.run(f"curl -sS -m 120 http://{vm.address}:18077/", check=False).returncode == 0
            assert grid.main_pid(grid.instance(quiet)) == pid
            assert grid.nodes()["vm1"]["state"] == "online"
            grid.ctl("service", "update", "--cmd=sleep infinity", name)
            assert grid.deploy(name, timeout=120).returncode == 0
            wait_until(lambda: vm.run(f"test -e {cgroup}/cgroup.procs", check=False).returncode != 0
                       or int(vm.run(f"cat {cgroup}/pids.current", check=False).stdout or 0) < 8,
                       60, "the end of the bomb", 0.5)  # fmt: skip


TRY_DEVICES = """
while :; do
        rm -f /tmp/mem
        if mknod /tmp/mem c 1 1 2>/dev/null && head -c1 /tmp/mem >/dev/null 2>&1; then echo memory opened; else echo memory denied; fi
        if head -c1 /dev/vda >/dev/null 2>&1; then echo listed read; else echo listed denied; fi
        if (: >> /dev/vda) 2>/dev/null; then echo listed opened for writing; fi
        sleep 0.3
done
"""


def test_device_rules_survive_a_reload(grid, vm):
    name = unique("device")
    with grid.service(name, "busybox:1", "--affinity=node==vm1", "--device=/dev/vda:/dev/vda:r", "--", "sh", "-c", TRY_DEVICES):
        for _ in range(2):
            cursor = vm.cursor()
            vm.wait_journal("^memory denied$", f"KONTENA_SERVICE={name}", since=cursor)
            vm.wait_journal("^listed read$", f"KONTENA_SERVICE={name}", since=cursor)
            vm.run("systemctl daemon-reload")
        said = {e["MESSAGE"] for e in vm.journal(f"KONTENA_SERVICE={name}", "_TRANSPORT=stdout")}
        assert said == {"memory denied", "listed read"}


def test_reboot_brings_instances_back(grid, vm):
    name = unique("reborn")
    with grid.service(name, "busybox:1", "--affinity=node==vm1", "--stateful", "--volume=/data", "--", "sh", "-c",
                      "date >> /data/starts; sync; exec sleep infinity"):  # fmt: skip
        instance = grid.instance(name)
        vm.kill()
        vm.start()
        vm.wait_running(timeout=240)
        vm.set_clock()
        grid.wait_node("vm1", "online", timeout=150)
        grid.wait_instances(name, ["running"], timeout=90)
        assert grid.instance(name)["address"] == instance["address"]
        wait_until(lambda: len(grid.inside(grid.instance(name), "cat /data/starts").stdout.splitlines()) == 2,
                   30, "the data of before", 0.5)  # fmt: skip


def test_a_clock_that_jumps_disturbs_nothing(grid, vm):
    """There and back again by an hour: connected it stays, what runs runs on, waiting takes as long as it should."""
    vm.run("systemctl stop systemd-timesyncd", check=False)
    name = unique("clock")
    with grid.service(name, "busybox:1", "--affinity=node==vm1", "--", "sleep", "infinity"):
        connected = grid.nodes()["vm1"]["connected_at"]
        for step in ("+1 hour", "-1 hour"):
            pid = grid.main_pid(grid.instance(name))
            vm.run(f"date -s '{step}'")
            assert grid.main_pid(grid.instance(name)) == pid
            vm.run(f"kill -9 {pid}")
            wait_until(lambda: grid.main_pid(grid.instance(name)) not in (0, pid), 40, "the container to come back", 0.3)
            grid.wait_instances(name, ["running"], timeout=40)
            grid.deploy(name, "--force", timeout=90)
        assert grid.nodes()["vm1"]["state"] == "online"
        assert grid.nodes()["vm1"]["connected_at"] == connected


def test_wrong_clock_is_named_on_both_sides(grid, vm):
    vm.run("systemctl stop systemd-timesyncd", check=False)
    vm.run("date -s '+1 hour' && systemctl restart kontena-noded")
    try:
        wait_until(lambda: "clock" in vm.run("systemctl status kontena-noded", check=False).stdout, 60, "the status", 0.5)
        wait_until(lambda: any("clock" in e["message"] for e in grid.json("event", "list")), 10, "the event", 0.5)
    finally:
        vm.set_clock()
        vm.run("systemctl restart kontena-noded")
    grid.wait_node("vm1", "online", timeout=150)
