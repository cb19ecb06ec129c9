# SPDX-License-Identifier: LGPL-2.1-or-later
"""Properties of systemd units in a service's settings: on the unit, in the container, after a reload, and refused with a reason."""

import pytest

from kontenalab import grid as names
from kontenalab.process import CommandError

SETTINGS = ["CPUWeight=200", "IOWeight=50", "MemoryHigh=64M", "MemoryMax=128M", "AllowedCPUs=0", "LimitNOFILE=100:200", "Nice=5", "OOMScoreAdjust=100", "ManagedOOMPreference=avoid"]
SHOWN = {
    "CPUWeight": "200",
    "IOWeight": "50",
    "MemoryHigh": str(64 << 20),
    "MemoryMax": str(128 << 20),
    "AllowedCPUs": "0",
    "LimitNOFILE": "200",
    "LimitNOFILESoft": "100",
    "Nice": "5",
    "OOMScoreAdjust": "100",
    "ManagedOOMPreference": "avoid",
    "TasksMax": "77",
}


def shown(node, unit):
    lines = node.run(["systemctl", "show", "-p", ",".join(SHOWN), unit]).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_properties_reach_the_unit_and_the_container_and_outlive_a_reload(grid):
    name = names.unique("settings")
    options = [f"--systemd={s}" for s in SETTINGS]
    line = "ulimit -n; nice; cat /proc/self/oom_score_adj; echo the-end; exec sleep infinity"
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--memory=32m", "--pids-limit=77", *options, "--", "sh", "-c", line):
        node = grid.lab.host("node1")
        unit = node.run(["systemctl", "list-units", "--plain", "--no-legend", f"kontena-*{name}-1*.service"]).stdout.split()[0]
        assert shown(node, unit) == SHOWN
        node.run("systemctl daemon-reload")
        assert shown(node, unit) == SHOWN

        pid = node.run(["systemctl", "show", "-p", "MainPID", "--value", unit]).stdout.strip()
        limits = node.run(["cat", f"/proc/{pid}/limits"]).stdout
        assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["100", "200"]]
        assert node.run(["cat", f"/proc/{pid}/oom_score_adj"]).stdout.strip() == "100"
        assert node.run(["ps", "-o", "ni=", "-p", pid]).stdout.strip() == "5"
        assert "CPUWeight=200" in grid.ctl("service", "show", name).stdout


@pytest.mark.parametrize(
    "setting, why",
    [
        ("CPUWeight=0", "'CPUWeight' of 'systemd' is a whole number between 1 and 10000, not '0'"),
        ("ExecStartPre=/bin/true", "no property 'ExecStartPre'"),
        ("cpuweight=1", "'CPUWeight' is meant"),
    ],
)
def test_the_master_refuses_what_no_unit_takes(grid, setting, why):
    with pytest.raises(CommandError, match=why):
        grid.ctl("service", "create", f"--systemd={setting}", names.unique("refused"), "busybox:1")
