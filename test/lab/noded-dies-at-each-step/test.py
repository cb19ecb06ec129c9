# SPDX-License-Identifier: LGPL-2.1-or-later
"""The node's daemon is killed before each thing that it does to the machine while an instance is replaced (files, mounts, namespaces,
processes, messages to systemd and to the kernel's network): each time the deploy succeeds, one container serves, and nothing
of the others is left."""

import os
import threading
import time
from pathlib import Path

import pytest

from kontenalab.grid import unique
from kontenalab.process import run, wait_until

PRELOAD = "/usr/lib/kontena-die.so"
DROP_IN = "/run/systemd/system/kontena-noded.service.d/die.conf"
AT, COUNT = "/run/kontena-die", "/run/kontena-count"
NODES = ["node1", "node2", "node3"]
# Seconds; as many steps as fit, spread over all of them. For all of them: KONTENA_LAB_DEATHS=600.
ENOUGH = 20
BUDGET = float(os.environ.get("KONTENA_LAB_DEATHS", "20"))


@pytest.fixture(scope="module")
def services(grid, tmp_path_factory):
    """A service of one instance on each node, whose daemon counts its steps."""
    library = tmp_path_factory.mktemp("die") / "die.so"
    source = Path(__file__).with_name("die.c")
    run(["gcc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", str(library), str(source)])
    made = {}
    for number, name in enumerate(NODES):
        host = grid.lab.host(name)
        host.push(library, PRELOAD)
        host.run(f"mkdir -p {Path(DROP_IN).parent}")
        host.write(DROP_IN, f"[Service]\nEnvironment=LD_PRELOAD={PRELOAD}\nRestartSec=100ms\n")
        host.run("systemctl daemon-reload; systemctl restart kontena-noded")
        grid.wait_node(name, "online")
        made[name] = unique("mortal")
        grid.create(made[name], "echo:1", f"--affinity=node=={name}", "--pull=missing", "--drain=0",
                    "--wait-for-port=8080", f"--ports={18090 + number}:8080")  # fmt: skip
    yield made
    grid.remove(*made.values())
    for name in NODES:
        host = grid.lab.host(name)
        host.run(f"rm -f {DROP_IN} {PRELOAD} {AT} {COUNT}; systemctl daemon-reload; systemctl restart kontena-noded")
    for name in NODES:
        grid.wait_node(name, "online")


def left_overs(host):
    """How many instances there are to see: their directories, namespaces, mounts and units."""
    return host.run(
        "ls /var/lib/kontena/instances | wc -l; ls /run/netns | grep -c ^kt-; grep -c ' /run/kontena/instances/.*overlay' /proc/self/mounts;"
        "systemctl list-units --all --plain --no-legend 'kontena-*.*-*.service' | grep -c -v 'kontena-output'", check=False
    ).stdout.split()  # fmt: skip


def replace(grid, name, host, port, at):
    """Returns whether the daemon came to that step."""
    host.run(f"rm -f {COUNT}")
    host.write(AT, f"{at}\n")
    result = grid.deploy(name, "--force", check=False, timeout=100)
    assert result.returncode == 0, f"killed before step {at}: {result.stdout}{result.stderr}"
    reached = host.run(f"test -e {AT}", check=False).returncode != 0
    host.run(f"rm -f {AT}")
    wait_until(lambda: left_overs(host) == ["1", "1", "1", "1"], 20, f"one instance on {host.name} after step {at}, not {left_overs(host)}", 0.1)
    answer = grid.master.run(f"curl -sS -m 60 http://{host.address}:{port}/", check=False)
    assert answer.returncode == 0, f"killed before step {at}: {answer.stderr}"
    return reached


class Killer(threading.Thread):
    """Replaces one service again and again, with a death each time, until the steps or the time are used up."""

    def __init__(self, grid, node, name, port, steps, killed, deadline):
        super().__init__(daemon=True)
        self.grid, self.name_of_service, self.port, self.steps, self.deadline = grid, name, port, steps, deadline
        self.host = grid.lab.host(node)
        self.killed, self.error = killed, None

    def run(self):
        try:
            while self.steps and (time.monotonic() < self.deadline or len(self.killed) < ENOUGH):
                at = self.steps.pop(0)
                if replace(self.grid, self.name_of_service, self.host, self.port, at):
                    self.killed.append(at)
        except BaseException as e:
            self.error = e


def test_killed_before_each_step_of_a_replacement(grid, services):
    replace(grid, services["node1"], grid.lab.host("node1"), 18090, 0)
    total = int(wait_until(lambda: grid.lab.host("node1").read(COUNT).strip(), 10, "the number of steps", 0.1))
    # Spread evenly however far the time goes: every eighth, then those between.
    steps = sorted(range(1, total + 1), key=lambda n: (int(f"{n % 8:03b}"[::-1], 2), n))
    deadline = time.monotonic() + BUDGET
    killed = []
    killers = [Killer(grid, node, services[node], 18090 + i, steps, killed, deadline) for i, node in enumerate(NODES)]
    for killer in killers:
        killer.start()
    for killer in killers:
        killer.join()
    for killer in killers:
        if killer.error:
            raise killer.error
    print(f"\n{len(killed)} of {total} steps: killed before each, each ended right: {sorted(killed)}")
    assert len(killed) >= ENOUGH
