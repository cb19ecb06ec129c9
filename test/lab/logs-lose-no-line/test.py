# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trap 16 and 17: no rate limit drops lines silently, a view survives what journald does, and a dead node does not hold it up."""

import re
import subprocess
import time

from kontenalab.grid import unique
from kontenalab.process import wait_until

BURST = 30000           # three times what journald lets an ordinary unit write in 30 s


def test_burst_is_whole(grid):
    name = unique("burst")
    # One process writes it all: journald 252 loses the first line of another process after a burst, in any unit.
    script = f"i=0; while [ $i -lt {BURST} ]; do echo $i; i=$((i+1)); done; echo done; exec sleep infinity"
    with grid.service(name, "busybox:1", "--", "sh", "-c", script):
        host = grid.host_of(grid.instance(name))
        last = f"journalctl --quiet --output=cat --lines=1 KONTENA_SERVICE={name} _TRANSPORT=stdout"
        wait_until(lambda: host.run(last).stdout.strip() == "done", 90, "the last line", 0.5)
        lines = host.run(f"journalctl -o cat KONTENA_SERVICE={name} _TRANSPORT=stdout | grep -c '^[0-9]'", timeout=120)
        assert int(lines.stdout) == BURST
        assert "Suppressed" not in host.run("journalctl --boot --output=cat -u systemd-journald").stdout


def test_followed_view_survives_rotation_and_a_restart_of_journald(grid):
    name = unique("counter")
    script = "i=0; while :; do echo n=$i; i=$((i+1)); sleep 0.1; done"
    with grid.service(name, "busybox:1", "--", "sh", "-c", script):
        host = grid.host_of(grid.instance(name))
        view = grid.master.popen(f"exec kontenactl -g {grid.name} service logs -f -n 1 --output=cat {name} > /run/view 2>&1", stdin=subprocess.DEVNULL)

        def numbers():
            return [int(n) for n in re.findall(r"^n=(\d+)\n", grid.master.run("cat /run/view", check=False).stdout, re.MULTILINE)]

        for command in ("true", "journalctl --rotate", "systemctl restart systemd-journald", "journalctl --rotate --vacuum-files=1"):
            host.run(command)
            seen = len(numbers())
            wait_until(lambda seen=seen: len(numbers()) >= seen + 8, 20, f"more lines after {command}", 0.1)
        grid.master.run("pkill -f 'service logs -f -n 1 --output=ca[t]'")
        view.wait(20)
        found = numbers()
        assert found == list(range(found[0], found[0] + len(found))), "a gap or a line twice"


def test_view_does_not_wait_for_a_dead_node(grid):
    name = unique("half")
    with grid.service(name, "busybox:1", "--instances=3", "--", "sh", "-c", "echo here; exec sleep infinity"):
        node = grid.lab.host("node2")
        node.cut()
        try:
            grid.wait_node("node2", "offline", timeout=100)
            took = []
            for _ in range(3):  # the best of them: who waits for a dead node does so each time
                started = time.monotonic()
                shown = grid.ctl("service", "logs", name, timeout=30)
                took.append(time.monotonic() - started)
            assert min(took) < 6, took
            assert shown.stdout.count("here") == 2
            assert "node2" in shown.stderr, "the part that is missing is named"
        finally:
            node.heal()
        wait_until(lambda: grid.nodes()["node2"]["state"] == "online", 100, "node2 online", 0.2)
