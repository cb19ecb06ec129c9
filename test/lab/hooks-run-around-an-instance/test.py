# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hooks run before, in and after a container, in order and with their output in the journal; one that fails or hangs does what its
stage says; a oneshot runs once wherever the instance is; a node's daemon that is killed in one repeats nothing."""

import subprocess

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

MAIN = ("--", "/bin/sh", "-c", "trap exit TERM; echo main >>/data/log; sleep 100000 & wait")


@pytest.fixture
def hooked(grid):
    """hooked(hook..., node="node1", deploy=True) makes a service that writes to a directory of the host: its name."""
    made = []

    def make(*hooks, node="node1", deploy=True, options=()):
        name = unique("hooked")
        made.append(name)
        arguments = [f"--hook={h}" for h in hooks]
        arguments += [f"--volume=/srv/{name}:/data", f"--affinity=node=={node}", "--stop-timeout=1", "--drain=0s", *options]
        grid.ctl("service", "create", *arguments, name, "registry:5000/busybox:1", *MAIN)
        if deploy:
            grid.deploy(name)
        return name

    yield make
    grid.remove(*made)
    for host in grid.node_hosts():
        for name in made:
            host.run(["rm", "-rf", f"/srv/{name}"])


def log(host, name):
    return host.run(f"cat /srv/{name}/log 2>/dev/null", check=False).stdout.split()


def said(host, name, hook, lines=1):
    """So many lines or more: journald may have them a moment after the hook has ended."""
    def read():
        return [e["MESSAGE"] for e in host.journal(f"KONTENA_SERVICE={name}", f"KONTENA_HOOK={hook}", "_TRANSPORT=stdout")]
    wait_until(lambda: len(read()) >= lines, 10, f"{lines} lines of {hook}", 0.1)
    return read()


def said_now(host, name, hook):
    return [e["MESSAGE"] for e in host.journal(f"KONTENA_SERVICE={name}", f"KONTENA_HOOK={hook}", "_TRANSPORT=stdout")]


def hook_units(host, name):
    units = host.run("systemctl list-units --all --plain --no-legend --full 'kontena-hook@*'").stdout
    return [line for line in units.splitlines() if f"null/{name}-" in line]


def events(grid, name, severity):
    return [e["message"] for e in grid.json("event", "list") if e["service"] == name and e["severity"] == severity]


def test_order_and_the_journal(grid, lab, hooked):
    name = hooked(
        "pre_start:env:echo pre >>/data/log; touch /only-here; cat /etc/hostname; ip a | grep -o '10[.][0-9.]*'",
        "pre_start:again:ls /only-here; echo again >>/data/log; id -u >&2",
        "pre_start,2:other:echo never >>/data/log",
        "post_start:warm:echo post >>/data/log; cat /proc/1/cmdline | tr '\\0' ' '; ls /only-here",
        "pre_stop:bye:echo bye >>/data/log; echo farewell",
    )
    host = lab.host("node1")
    first = grid.instance(name)
    assert log(host, name) == ["pre", "again", "main", "post"]
    assert said(host, name, "pre_start/env", 2) == [f"{name}-1", first["address"]]  # its files and its network
    assert said(host, name, "pre_start/again", 2) == ["/only-here", "0"]  # one container for all of a start
    warm = said(host, name, "post_start/warm", 2)
    assert warm[0].startswith("/bin/sh -c trap exit") and "No such file" in warm[1], warm  # in the container, not in the thrown away one
    wait_until(lambda: first["address"] in grid.ctl("service", "logs", name).stdout, 10, "the hook's line at the master", 0.2)
    assert "farewell" not in grid.ctl("service", "logs", name).stdout

    # Start-first: the new one is up before the old one says farewell.
    grid.deploy(name, "--force")
    wait_until(lambda: len(log(host, name)) == 9, 20, "the farewell of the old one", 0.1)
    assert log(host, name)[4:] == ["pre", "again", "main", "post", "bye"]
    assert said(host, name, "pre_stop/bye") == ["farewell"]
    assert grid.instance(name)["id"] != first["id"]

    # A restart runs none; after a crash there are those of a start.
    grid.ctl("service", "restart", name)
    wait_until(lambda: log(host, name)[9:] == ["main"], 20, "the restart", 0.1)
    grid.wait_instances(name, ["running"])
    host.run(["kill", "-KILL", str(grid.main_pid(grid.instance(name)))])
    wait_until(lambda: log(host, name)[10:] == ["pre", "again", "main", "post"], 20, "hooks after the crash", 0.1)

    grid.ctl("service", "stop", name)
    wait_until(lambda: log(host, name)[14:] == ["bye"], 20, "the farewell", 0.1)
    wait_until(lambda: hook_units(host, name) == [], 20, "the end of its unit", 0.1)


def test_failing_pre_start_leaves_the_old_one(grid, lab, hooked):
    name = hooked("pre_start:migrate:echo one >>/data/log")
    host = lab.host("node1")
    pid = grid.main_pid(grid.instance(name))
    grid.ctl("service", "update", "--hook=pre_start:migrate:echo two >>/data/log; echo no such table; exit 3", name)
    failed = grid.deploy(name, check=False)
    assert failed.returncode == 1
    assert "The pre_start hook 'migrate' exited with status 3: no such table" in failed.stdout + failed.stderr
    assert grid.main_pid(grid.instance(name)) == pid and log(host, name) == ["one", "main", "two"]
    assert "pre_start:migrate:echo one" in grid.ctl("service", "show", name).stdout  # rolled back


def test_oneshot_runs_once_for_each_number(grid, lab, hooked):
    hook = "pre_start,oneshot:seed:echo seeding; [ -e /data/ready ] || { touch /data/ready; exit 1; }"
    name = hooked(hook, deploy=False)
    hosts = [lab.host("node1"), lab.host("node2")]

    def runs():
        for h in hosts:
            h.run("journalctl --sync")
        return [len(said_now(h, name, "pre_start/seed")) for h in hosts]

    assert grid.deploy(name, check=False).returncode == 1
    grid.deploy(name, "--force")
    assert runs() == [2, 0]  # one that has failed does not count
    grid.deploy(name, "--force")
    first = grid.instance(name)
    grid.ctl("service", "update", "--affinity=node==node2", name)
    grid.deploy(name)
    assert grid.instance(name)["node"] == "node2" and grid.instance(name)["id"] != first["id"]
    assert runs() == [2, 0]
    # A number that there was none of yet has it still to do.
    hosts[1].run(["touch", f"/srv/{name}/ready"])
    grid.ctl("service", "scale", name, "2")
    assert runs() == [2, 1]


def test_hook_that_hangs(grid, lab, hooked):
    host = lab.host("node1")
    stuck = hooked("pre_start,timeout=4:stuck:trap '' TERM; echo begun; while :; do sleep 7654; done", deploy=False)
    failing = grid.popen("service", "deploy", stuck, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    removed = hooked("pre_start:long:echo begun >>/data/log; exec sleep 7654", deploy=False)
    cancelled = grid.popen("service", "deploy", removed, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    slow = hooked("post_start,timeout=1:slow:sleep 7654", "pre_stop,timeout=1:never:sleep 7654")

    def warned(text):
        return any(text in e for e in events(grid, slow, "warning"))

    wait_until(lambda: warned("The post_start hook 'slow' did not end within 1 s"), 10, "the warning", 0.1)
    grid.ctl("service", "stop", slow)

    # The removal of a service does not wait for a hook.
    wait_until(lambda: log(host, removed) == ["begun"], 20, "the long hook", 0.1)
    id = grid.instance(removed)["id"]
    grid.ctl("service", "remove", "--force", removed)
    wait_until(lambda: id not in host.run("ls /run/kontena/instances /var/lib/kontena/instances").stdout, 20, "its end", 0.1)
    assert id not in host.read("/proc/mounts")
    assert cancelled.wait(30) != 0

    assert "The pre_start hook 'stuck' did not end within 4 s: begun" in failing.communicate(timeout=30)[1]
    assert failing.returncode == 1
    grid.remove(stuck)
    wait_until(lambda: warned("The pre_stop hook 'never' did not end within 1 s"), 20, "the warning", 0.2)
    wait_until(lambda: not grid.units(slow), 20, "the stop", 0.1)
    wait_until(lambda: host.run("pgrep -f '[s]leep 7654'", check=False).stdout == "", 20, "the end of what hangs", 0.1)
    wait_until(lambda: [hook_units(host, name) for name in (stuck, removed, slow)] == [[], [], []], 20, "the end of their units", 0.1)


def test_a_stop_throws_the_root_of_a_hook_away(grid, lab, hooked):
    hook = "[ ! -e /dirty ] || echo dirty >>/data/log; touch /dirty; echo begun >>/data/log; until [ -e /data/go ]; do sleep 0.1; done"
    name, host = hooked(f"pre_start:half:{hook}", deploy=False), lab.host("node1")
    deploy = grid.popen("service", "deploy", name, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until(lambda: log(host, name) == ["begun"], 20, "the hook", 0.05)
    grid.ctl("service", "stop", name)
    assert deploy.wait(30) != 0
    grid.wait_instances(name, ["stopped"])
    host.run(["touch", f"/srv/{name}/go"])
    grid.ctl("service", "start", name)
    grid.wait_instances(name, ["running"])
    assert log(host, name) == ["begun", "begun", "main"]


def test_daemon_is_killed_in_each_hook(grid, lab, hooked):
    """Every hook waits for its file; the daemon is killed meanwhile, and what had been done is not done again."""
    def wait(word):
        return f"echo {word} >>/data/log; until [ -e /data/go-{word} ]; do sleep 0.1; done; echo {word}-end >>/data/log"

    name = hooked(
        "pre_start:first:echo first >>/data/log",
        f"pre_start,oneshot:pre:{wait('pre')}",
        "post_start:second:echo second >>/data/log",
        f"post_start:post:{wait('post')}",
        "pre_stop:third:echo third >>/data/log",
        f"pre_stop:bye:{wait('bye')}",
        deploy=False,
    )
    host = lab.host("node1")
    deploy = grid.popen("service", "deploy", name)

    def kill_in(word):
        wait_until(lambda: log(host, name)[-1:] == [word], 20, f"{word} begins", 0.05)
        cursor = host.cursor()
        host.run("systemctl kill -s KILL kontena-noded")
        host.wait_journal("Connected to", "-u", "kontena-noded", since=cursor, timeout=60)
        assert log(host, name)[-1:] == [word]
        host.run(["touch", f"/srv/{name}/go-{word}"])
        wait_until(lambda: f"{word}-end" in log(host, name), 20, f"{word} ends", 0.05)

    kill_in("pre")
    kill_in("post")
    assert deploy.wait(60) == 0
    # Killed just after all is over, too: nothing of a start is done twice.
    host.run("systemctl kill -s KILL kontena-noded")
    instance = grid.instance(name)
    grid.ctl("service", "remove", "--force", name)
    kill_in("bye")
    wait_until(lambda: not grid.units(name), 30, "the removal", 0.1)
    assert log(host, name) == ["first", "pre", "pre-end", "main", "second", "post", "post-end", "third", "bye", "bye-end"]
    left = f"ls -d /run/kontena/instances/{instance['id']} /var/lib/kontena/instances/{instance['id']} /run/crun/{instance['id']}*"
    wait_until(lambda: host.run(left, check=False).stdout == "", 20, "the last files", 0.1)
    wait_until(lambda: hook_units(host, name) == [] and instance["id"] not in host.read("/proc/mounts"), 20, "the last unit and mount", 0.1)
