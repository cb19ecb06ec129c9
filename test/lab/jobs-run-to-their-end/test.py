# SPDX-License-Identifier: LGPL-2.1-or-later
"""A job runs to its end and its result is kept; a schedule makes one run at each of its points, whoever is killed meanwhile; what is
interrupted is never silently run again."""

import collections
from contextlib import contextmanager

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

IMAGE = "registry:5000/busybox:1"


@contextmanager
def job(grid, *options, command):
    name = unique("job")
    grid.ctl("service", "create", "--type=job", "--stop-timeout=1", *options, name, IMAGE, "--", "sh", "-c", command)
    try:
        yield name
    finally:
        grid.remove(name)


def runs(grid, name):
    return grid.json("job", "show", name)["runs"]


def last(grid, name):
    return runs(grid, name)[0]


def lines(grid, name):
    """How often containers of each run have said "here"."""
    said = collections.Counter()
    for host in grid.node_hosts():
        host.run("journalctl --sync")
        for entry in host.journal(f"KONTENA_SERVICE={name}", "_TRANSPORT=stdout"):
            said[entry["KONTENA_RUN"]] += entry["MESSAGE"] == "here"
    return said


def test_result_and_retries_are_told(grid):
    with job(grid, "--retries=1", command="echo here; echo and there; exit 3") as name:
        ended = grid.ctl("job", "run", "--wait", name, check=False)
        assert ended.returncode == 3
        assert f"Run 1 of '{name}' has failed" in ended.stderr and "exited with status 3" in ended.stderr
        assert "here\nand there" in ended.stdout
        run = last(grid, name)
        assert (run["state"], run["attempts"], run["exit_status"], run["trigger"]) == ("failed", 2, 3, "manual")
        assert run["log_tail"] == "here\nand there" and run["finished_at"] > run["started_at"] > 0
        assert lines(grid, name) == {run["id"]: 2}
        wait_until(lambda: not grid.units(name), 30, "the units to go", 0.2)
        assert "1 failed" in grid.ctl("status", check=False).stdout

        grid.ctl("service", "update", "--cmd=true", name)
        assert grid.ctl("job", "run", "--wait", name).returncode == 0
        assert last(grid, name)["exit_status"] == 0
        assert [r["number"] for r in runs(grid, name)] == [2, 1]
        wait_until(lambda: not grid.units(name) and not grid.instances(name), 30, "the last instance to go", 0.2)
        wait_until(lambda: grid.ctl("job", "logs", "--output=cat", name, "1").stdout == "here\nand there\n" * 2, 20, "all lines at the master", 0.2)
        assert grid.ctl("job", "logs", "--output=cat", name).stdout == ""

        grid.ctl("service", "update", "--retries=0", name, "--", "sh", "-c", "echo one; sleep 1; echo two; exit 4")
        followed = grid.ctl("job", "run", "--follow", name, check=False)
        assert followed.returncode == 4 and [x.split(": ", 1)[1] for x in followed.stdout.splitlines()] == ["one", "two"]

        refused = grid.ctl("service", "deploy", name, check=False)
        assert refused.returncode == 5 and f"kontenactl job run {name}" in refused.stderr


def test_each_point_runs_once_though_daemons_are_killed(grid):
    with job(grid, "--schedule=*:*:0/2", "--instances=2", command="echo here") as name:
        wait_until(lambda: len(runs(grid, name)) >= 1, 20, "a run", 0.1)
        for _ in range(2):
            before = len(runs(grid, name))
            grid.master.run("systemctl kill -s KILL kontenad")
            for host in grid.node_hosts()[:2]:
                host.run("systemctl kill -s KILL kontena-noded")
            wait_until(lambda: grid.ctl("grid", "list", check=False).returncode == 0, 30, "the master's return", 0.1)
            wait_until(lambda: len(runs(grid, name)) > before, 20, "one more run", 0.1)
        wait_until(lambda: sum(r["state"] == "succeeded" for r in runs(grid, name)) >= 3, 30, "three that nobody was killed in", 0.2)
        grid.ctl("service", "update", "--schedule=", name)
        wait_until(lambda: last(grid, name)["finished_at"] > 0, 30, "the last run's end", 0.1)

        all_runs = runs(grid, name)
        points = [r["scheduled_at"] for r in all_runs]
        assert len(set(points)) == len(points) and all(p % 2_000_000 == 0 for p in points)
        # With no retries a container is started once for each; one whose daemon was killed between its promise and the start is lost.
        said = lines(grid, name)
        for run in all_runs:
            assert run["attempts"] == 2
            if run["state"] == "succeeded":
                assert said[run["id"]] == 2, run
            else:
                assert "lost" in run["reason"] and said[run["id"]] < 2, run
        count = len(all_runs)
        assert grid.json("job", "list")[0]["next_run_at"] == 0 and len(runs(grid, name)) == count


def test_what_a_reboot_interrupts_has_failed(grid):
    with job(grid, "--retries=1", command="echo here; sleep 1000") as name:
        grid.ctl("job", "run", name)
        wait_until(lambda: sum(lines(grid, name).values()) == 1, 20, "the first attempt", 0.1)
        instance = grid.instances(name)[0]
        assert grid.host_of(instance).run(["systemctl", "show", "-P", "Restart", instance["unit"]]).stdout.strip() == "no"
        pid = grid.main_pid(instance)
        grid.host_of(instance).run("systemctl kill -s KILL kontena-noded")
        assert grid.main_pid(instance) == pid, "it does not mind its daemon"

        host = grid.host_of(instance)
        host.kill()
        host.start()
        wait_until(lambda: last(grid, name)["attempts"] == 2, 60, "the second attempt", 0.2)
        wait_until(lambda: sum(lines(grid, name).values()) == 2, 30, "its container", 0.2)
        events = [e["message"] for e in grid.json("event", "list", f"--service={name}")]
        assert any("lost: the machine was restarted; it is tried again, attempt 2 of 2" in m for m in events), events

        second = grid.ctl("job", "run", name, check=False)
        assert second.returncode == 5 and "Run 1" in second.stderr
        grid.ctl("job", "cancel", name)
        assert last(grid, name)["state"] == "cancelled"
        wait_until(lambda: not grid.units(name), 30, "the unit to go", 0.2)
        assert sum(lines(grid, name).values()) == 2


@pytest.mark.parametrize("schedule, says", [("whenever", "Failed to parse calendar specification 'whenever'"), ("2001-01-01", "no time from now on")])
def test_schedule_is_what_systemd_takes(grid, schedule, says):
    name = unique("bad")
    refused = grid.ctl("service", "create", "--type=job", f"--schedule={schedule}", name, IMAGE, check=False)
    assert refused.returncode == 2 and says in refused.stderr
    with job(grid, "--schedule=Mon 03:00", command="true") as good:
        shown = grid.json("job", "show", good)
        assert shown["schedule"] == "Mon 03:00"
        wait_until(lambda: grid.json("job", "show", good)["next_run_at"] > 0, 10, "the next point", 0.1)
        refused = grid.ctl("service", "update", f"--schedule={schedule}", good, check=False)
        assert refused.returncode == 2 and says in refused.stderr
        assert grid.json("job", "show", good)["schedule"] == "Mon 03:00"
