# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a container writes to /dev/stdout and /dev/stderr by name goes to the journal by systemd alone: no daemon of ours is
needed for it, whoever the container runs as, and nothing is left when the container goes."""

import secrets

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

LINES = 3000
TEXT = "x" * 60  # 2 * 3000 lines of more than 60 characters: many times what a pipe holds

# A round of lines for each file that appears, by descriptors that were opened by name.
WRITER = f"""
n=0
while :; do
    until [ -e /tmp/go$n ]; do sleep 0.1; done
    exec 3>/dev/stdout 4>/dev/stderr
    i=0
    while [ $i -lt {LINES} ]; do
        echo "out $n $i {TEXT}" >&3
        echo "err $n $i {TEXT}" >&4
        i=$((i+1))
    done
    exec 3>&- 4>&-
    echo "round $n is written"
    n=$((n+1))
done
"""


def fresh(prefix):
    """A name that is in no host's journal yet, from an earlier run of these tests."""
    return unique(f"{prefix}-{secrets.token_hex(3)}-")


def expected(rounds):
    return {f"{stream} {n} {i} {TEXT}" for stream in ("out", "err") for n in rounds for i in range(LINES)}


def output_units(host, instance):
    return host.run(f"systemctl list-units --all --plain --no-legend 'kontena-output@{instance['id']}-*'").stdout


def go(grid, instance, n):
    host = grid.host_of(instance)
    grid.inside(instance, f"touch /tmp/go{n}")
    host.wait_journal(f"^round {n} is written$", "-u", instance["unit"], timeout=60)


def by_name(host, name, count):
    """The lines that were written by name, once all are there."""
    def read():
        return [e for e in host.journal(f"KONTENA_SERVICE={name}", "_TRANSPORT=stdout") if e["MESSAGE"][:4] in ("out ", "err ")]  # fmt: skip
    wait_until(lambda: len(read()) >= count, 30, f"{count} lines of {name} in the journal", 0.5)
    return read()


@pytest.fixture
def no_daemon(grid):
    """Stops the node's daemon and the master for a while."""
    stopped = []

    def stop(host):
        stopped.append(host)
        host.run("systemctl stop kontena-noded")
        grid.master.run("systemctl stop kontenad")

    def start():
        if not stopped:
            return
        grid.master.run("systemctl start kontenad")
        while stopped:
            host = stopped.pop()
            host.run("systemctl start kontena-noded")
            grid.wait_node(host.name, "online", timeout=100)

    stop.over = start
    yield stop
    start()


@pytest.mark.parametrize("user", ["root", "1234:1234"])
def test_lines_come_while_the_daemons_are_stopped(grid, no_daemon, user):
    name = fresh("byname")
    with grid.service(name, "busybox:1", f"--user={user}", "--", "sh", "-c", WRITER):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        pid = grid.main_pid(instance)
        no_daemon(host)
        go(grid, instance, 0)
        entries = by_name(host, name, 2 * LINES)
        no_daemon.over()
        go(grid, instance, 1)
        host.run("systemctl kill -s KILL kontena-noded")
        go(grid, instance, 2)
        entries = by_name(host, name, 6 * LINES)

        assert grid.main_pid(instance) == pid, "the container was disturbed"
        assert len(entries) == 6 * LINES, "each line once"
        assert {e["MESSAGE"] for e in entries} == expected(range(3))
        last = {stream: [e["MESSAGE"] for e in entries if e["MESSAGE"].startswith(stream)][-1] for stream in ("out", "err")}
        assert all(line.split()[1:3] == ["2", str(LINES - 1)] for line in last.values()), "in order"
        for field, value in {
            "KONTENA_GRID": grid.name, "KONTENA_STACK": "null", "KONTENA_INSTANCE": "1", "KONTENA_INSTANCE_ID": instance["id"],
            "SYSLOG_IDENTIFIER": f"{name}-1", "PRIORITY": "6", "OBJECT_SYSTEMD_UNIT": instance["unit"], "_CAP_EFFECTIVE": "0",
        }.items():  # fmt: skip
            assert {e[field] for e in entries} == {value}, field

        grid.wait_node(host.name, "online", timeout=60)
        shown = grid.ctl("service", "logs", "-n", "10000", "--output=cat", name).stdout.splitlines()
        assert sorted(line for line in shown if line.split()[1:2] == ["2"] and TEXT in line) == sorted(expected([2]))
        found = host.run(["journalctl", "--no-pager", "-o", "cat", "-u", instance["unit"]]).stdout.splitlines()
        assert expected([2]) < set(found), "by the unit of the instance"


def test_fifo_survives_a_crash_of_the_container(grid):
    name = fresh("byname")
    with grid.service(name, "busybox:1", "--", "sh", "-c", "echo life of $$ > /dev/stdout; sleep infinity"):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        host.wait_journal("^life of ", f"KONTENA_SERVICE={name}")
        before, pid = output_units(host, instance), grid.main_pid(instance)
        reader = host.run(f"systemctl show -P MainPID 'kontena-output@{instance['id']}-*.service'").stdout
        host.run(["kill", "-KILL", str(pid)])
        wait_until(lambda: len(host.journal(f"KONTENA_SERVICE={name}", "_COMM=cat")) == 2, 30, "the second life's line", 0.2)
        assert output_units(host, instance) == before
        assert host.run(f"systemctl show -P MainPID 'kontena-output@{instance['id']}-*.service'").stdout == reader != ""


def test_reader_that_is_killed_comes_back(grid):
    name = fresh("byname")
    with grid.service(name, "busybox:1", "--", "sh", "-c", WRITER):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        go(grid, instance, 0)
        by_name(host, name, 2 * LINES)
        host.run(f"systemctl kill -s KILL 'kontena-output@{instance['id']}-*.service'")
        go(grid, instance, 1)
        assert {e["MESSAGE"] for e in by_name(host, name, 4 * LINES)} == expected(range(2))


@pytest.mark.parametrize("end", ["removal", "shutdown"])
def test_last_words_are_not_lost(grid, end):
    name = fresh("byname")
    script = (
        f"trap 'i=0; while [ $i -lt 500 ]; do echo \"out 0 $i {TEXT}\" >&3; i=$((i+1)); done; exit' TERM;"
        "exec 3>/dev/stdout; echo ready >&3; while :; do sleep 0.1; done"
    )
    with grid.service(name, "busybox:1", "--stop-timeout=20", "--", "sh", "-c", script):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        host.wait_journal("^ready$", f"KONTENA_SERVICE={name}")
        if end == "shutdown":
            host.stop()
            host.start()
            host.wait_running()
    assert [e["MESSAGE"] for e in by_name(host, name, 500)][:500] == [f"out 0 {i} {TEXT}" for i in range(500)]


def test_new_container_has_a_fifo_of_its_own_and_the_old_one_goes(grid):
    name = fresh("byname")
    with grid.service(name, "busybox:1", "--env=WORD=first", "--", "sh", "-c", "echo $WORD > /dev/stdout; sleep infinity"):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        host.wait_journal("^first$", f"KONTENA_SERVICE={name}", "KONTENA_DEPLOY=1")
        grid.ctl("service", "update", "--env=WORD=second", name)
        grid.deploy(name)
        host.wait_journal("^second$", f"KONTENA_SERVICE={name}", "KONTENA_DEPLOY=2")
        wait_until(lambda: len(output_units(host, instance).splitlines()) == 2, 10, "one socket and its service", 0.2)


def test_official_nginx_logs_its_accesses(grid):
    name = fresh("nginx")
    # The configuration of the lab's other nginx, below this one, says that accesses are not logged.
    script = "sed -i '/access_log off/d' /etc/nginx/nginx.conf; exec nginx -g 'daemon off;'"
    with grid.service(name, "nginx:official", "--wait-for-port=80", "--", "sh", "-c", script):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        host.run(["curl", "-sS", "--max-time", "60", "-o", "/dev/null", f"http://{instance['address']}/?asked-by-the-test"])
        host.wait_journal(r"GET /\?asked-by-the-test", f"KONTENA_SERVICE={name}")
        wait_until(lambda: "asked-by-the-test" in grid.ctl("service", "logs", name).stdout, 10, "the line at the master", 0.5)


def test_power_loss_makes_it_anew(grid):
    name = fresh("byname")
    with grid.service(name, "busybox:1", "--", "sh", "-c", "echo alive > /dev/stderr; sleep infinity"):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        host.wait_journal("^alive$", f"KONTENA_SERVICE={name}")
        host.kill()
        host.start()
        host.wait_running()
        host.wait_journal("^alive$", f"KONTENA_SERVICE={name}", "-b", timeout=60)


def test_removal_leaves_nothing(grid):
    name = fresh("gone")
    with grid.service(name, "busybox:1", "--", "sh", "-c", "echo here > /dev/stdout; sleep infinity"):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        host.wait_journal("^here$", f"KONTENA_SERVICE={name}")
        assert instance["id"] in output_units(host, instance)
    traces = f"systemctl list-units --all 'kontena-output@{instance['id']}*'; find /run/kontena /run/systemd/transient"
    wait_until(lambda: instance["id"] not in host.run(traces).stdout, 30, "traces of the output are gone", 0.2)
