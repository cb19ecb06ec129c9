# SPDX-License-Identifier: LGPL-2.1-or-later
"""Named volumes: who shares a directory, that data outlives deploys, daemons and hosts, that only what was asked to go goes, and that
a snapshot brings back what was, and that a master restored from a backup deletes nothing."""

import pytest
from kontenalab.grid import unique
from kontenalab.process import wait_until

VOLUMES = "/var/lib/kontena/volumes"
SLEEP = ("--", "sh", "-c", "trap 'exit 0' TERM; while :; do date +%s%N >> /data/log; sleep 0.2; done")


def show(grid, name):
    return grid.json("volume", "show", name)


def places(grid, name):
    return {(p["node"], p["name"]): p for p in show(grid, name)["instances"]}


def is_frozen(host, unit):
    """As the kernel has it: systemd 252 says now and then that a unit runs which it has just frozen."""
    group = host.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip()
    return "frozen 1" in host.read(f"/sys/fs/cgroup{group}/cgroup.events").splitlines()


def gone(grid, name):
    return grid.ctl("volume", "show", name, check=False).returncode == 4


def test_the_scope_says_who_shares_one(grid, volume):
    node = grid.lab.host("node1")
    own, shared, stack = volume(), volume("--scope=grid"), volume("--scope=stack")
    name = unique("scoped")
    options = ["-i", "2", "--affinity=node==node1", f"--volume={own}:/data", f"--volume={shared}:/shared", f"--volume={stack}:/stack"]
    with grid.service(name, "busybox:1", *options, *SLEEP):
        found = node.run(f"ls {VOLUMES}").stdout.split()
        assert {f"{name}.{own}-1", f"{name}.{own}-2", shared, stack} <= set(found)
        assert own not in found
        grid.inside(grid.instance(name, 1), "echo from-one > /shared/file; echo own > /data/file")
        assert grid.inside(grid.instance(name, 2), "cat /shared/file; ls /data").stdout.split() == ["from-one", "log"]
        wait_until(lambda: {p["state"] for p in places(grid, own).values()} == {"present"}, 20, "the node's word", 0.2)
        assert set(places(grid, own)) == {("node1", f"{name}.{own}-1"), ("node1", f"{name}.{own}-2")}
        assert show(grid, own)["services"] == [name]
        row = next(v for v in grid.json("volume", "list") if v["name"] == own)
        assert (row["scope"], row["places"], row["state"]) == ("instance", 2, "present")

        refused = grid.ctl("volume", "remove", "--force", own, check=False)
        assert refused.returncode == 5 and name in refused.stderr
    # The service is gone, its data is not.
    assert node.run(f"cat {VOLUMES}/{name}.{own}-1/file").stdout == "own\n"
    grid.ctl("volume", "remove", "--force", own)
    wait_until(lambda: gone(grid, own), 20, "removal", 0.2)
    assert node.run(f"ls {VOLUMES}").stdout.split().count(f"{name}.{own}-1") == 0
    assert node.run(f"cat {VOLUMES}/{shared}/file").stdout == "from-one\n", "it was not asked to go"


def test_what_was_not_made_cannot_be_used(grid):
    refused = grid.ctl("service", "create", "--volume=nothing:/data", unique("none"), "registry:5000/busybox:1", check=False)
    assert refused.returncode == 4 and "kontenactl volume create nothing" in refused.stderr
    for arguments, word in ((["--driver=flocker", "x"], "local"), (["--scope=galaxy", "x"], "scope"), (["--opt=a=b", "x"], "option"),
                            (["a/b"], "name"), (["--size=big", "x"], "size")):  # fmt: skip
        refused = grid.ctl("volume", "create", *arguments, check=False)
        assert refused.returncode != 0 and word in refused.stderr, arguments


def test_data_outlives_deploys_daemons_and_hosts(grid, volume):
    name, data = unique("lasting"), volume()
    with grid.service(name, "busybox:1", "--stateful", "--affinity=node==node1", f"--volume={data}:/data", *SLEEP):
        host = grid.host_of(grid.instance(name))
        path = f"{VOLUMES}/{name}.{data}-1"
        host.run(f"echo precious > {path}/file")

        def intact():
            return grid.inside(grid.instance(name), "cat /data/file").stdout == "precious\n"

        grid.deploy(name, "--force")
        assert intact()
        grid.ctl("service", "update", name, "--env=NEW=1")
        grid.deploy(name)
        assert intact()
        host.run("systemctl kill --signal=KILL kontena-noded")
        wait_until(lambda: host.run("systemctl is-active kontena-noded", check=False).stdout.strip() == "active", 20, "the daemon", 0.2)
        grid.wait_node(host.name, "online")
        assert intact()
        host.run("sync")
        host.kill()
        host.start()
        host.wait_running()
        grid.wait_node(host.name, "online")
        grid.wait_instances(name, ["running"])
        assert intact()


def test_a_link_in_its_place_is_refused(grid, volume):
    node = grid.lab.host("node1")
    name, data = unique("trapped"), volume()
    path = f"{VOLUMES}/{name}.{data}-1"
    node.run(f"mkdir -p {VOLUMES} && ln -s /etc {path}")
    options = ["--affinity=node==node1", "--stop-timeout=1", f"--volume={data}:/data", name, "registry:5000/busybox:1", "--", "touch", "/data/owned"]
    grid.ctl("service", "create", *options)
    try:
        failed = grid.deploy(name, check=False)
        assert failed.returncode != 0 and f"{name}.{data}-1" in failed.stderr + failed.stdout
        assert node.run("ls /etc/owned", check=False).returncode != 0
        wait_until(lambda: [p["state"] for p in places(grid, data).values()] == ["error"], 20, "the error", 0.2)
    finally:
        grid.remove(name)
    grid.ctl("volume", "remove", "--force", data)
    wait_until(lambda: gone(grid, data), 20, "removal", 0.2)
    assert node.run(f"ls {path}", check=False).returncode != 0 and node.run("ls /etc/passwd").stdout


def test_a_snapshot_brings_back_what_was(grid, volume):
    name, data = unique("kept"), volume()
    with grid.service(name, "busybox:1", "--stateful", "--affinity=node==node1", f"--volume={data}:/data", *SLEEP):
        host = grid.host_of(grid.instance(name))
        unit = grid.instance(name)["unit"]
        path = f"{VOLUMES}/{name}.{data}-1"
        host.run(f"echo first > {path}/file; head -c 8000000 /dev/urandom > {path}/blob")
        grid.ctl("volume", "snapshot", data, "before")
        assert not is_frozen(host, unit), "thawed again"
        host.run(f"echo second > {path}/file; rm {path}/blob")

        rows = grid.json("volume", "snapshots", data)
        assert [(r["snapshot"], r["node"], r["number"]) for r in rows] == [("before", host.name, 1)]
        assert rows[0]["size"] > 8000000
        refused = grid.ctl("volume", "restore", "--force", data, "before", check=False)
        assert refused.returncode == 5 and "in use" in refused.stderr
        twice = grid.ctl("volume", "snapshot", data, "before", check=False)
        assert twice.returncode == 5 and "already" in twice.stderr

        grid.ctl("service", "stop", name)
        grid.wait_instances(name, ["stopped"])
        grid.ctl("volume", "restore", "--force", f"--node={host.name}", "--instance=1", data, "before")
        grid.ctl("service", "start", name)
        grid.wait_instances(name, ["running"])
        assert grid.inside(grid.instance(name), "cat /data/file; wc -c < /data/blob").stdout.split() == ["first", "8000000"]
        grid.ctl("volume", "remove-snapshot", data, "before")
        assert grid.json("volume", "snapshots", data) == []


def test_whom_a_dead_daemon_froze_is_thawed(grid, volume):
    name, data = unique("frozen"), volume()
    with grid.service(name, "busybox:1", "--stateful", "--affinity=node==node1", f"--volume={data}:/data", *SLEEP):
        host = grid.host_of(grid.instance(name))
        unit = grid.instance(name)["unit"]
        # As it is left behind by a daemon that was killed in the middle of a snapshot.
        host.run("systemctl kill --signal=STOP kontena-noded")
        host.write("/run/kontena/frozen", unit)
        host.run(["systemctl", "freeze", unit])
        assert is_frozen(host, unit)
        host.run("systemctl kill --signal=KILL kontena-noded")
        wait_until(lambda: not is_frozen(host, unit), 30, "thawing", 0.2)
        assert host.run("ls /run/kontena/frozen", check=False).returncode != 0
        grid.wait_node(host.name, "online")
        before = host.run(f"wc -l < {VOLUMES}/{name}.{data}-1/log").stdout
        wait_until(lambda: host.run(f"wc -l < {VOLUMES}/{name}.{data}-1/log").stdout != before, 10, "writes", 0.2)


def test_an_offline_node_removes_when_it_is_back(grid, volume):
    node = grid.lab.host("node2")
    name, data = unique("away"), volume("--scope=grid")
    with grid.service(name, "busybox:1", "--affinity=node==node2", f"--volume={data}:/data", *SLEEP):
        pass
    node.run("systemctl stop kontena-noded")
    grid.wait_node("node2", "offline", timeout=100)
    said = grid.ctl("volume", "remove", "--force", data)
    assert "node2" in said.stdout + said.stderr
    assert show(grid, data)["state"] == "removing"
    node.run("systemctl start kontena-noded")
    wait_until(lambda: gone(grid, data), 40, "removal", 0.2)
    assert node.run(f"ls {VOLUMES}/{data}", check=False).returncode != 0


MASTER = "/var/lib/kontena/master"
KEPT = "/var/lib/kontena/instances/.kept"


@pytest.fixture
def stores(grid):
    """The master's store: swap("before") puts the copy in place that was made at the beginning, swap("after") the one that it took the place of."""
    master = grid.master

    def swap(to):
        away = {"before": "after", "after": "before"}[to]
        if master.run(f"test -d {MASTER}.{to}", check=False).returncode != 0:
            return  # it is in place
        master.run(f"systemctl stop kontenad && mv {MASTER} {MASTER}.{away} && mv {MASTER}.{to} {MASTER} && systemctl start kontenad", timeout=60)
        for name in ("node1", "node2", "node3"):
            grid.wait_node(name, "online")

    master.run(f"systemctl stop kontenad && cp -a {MASTER} {MASTER}.before; systemctl start kontenad", timeout=60)
    yield swap
    swap("after")
    master.run(f"rm -r {MASTER}.before")


def test_a_master_from_a_backup_costs_no_data(grid, stores):
    """It does not know what was made since the backup. What it does not name ends, but nobody has said that its data may go."""
    name, node = unique("younger"), grid.lab.host("node1")

    def problems():
        return [p for p in next(g for g in grid.json("status")["grids"] if g["grid"]["name"] == grid.name)["problems"] if id in p]

    def said():
        return node.run(["journalctl", "-o", "cat", "MESSAGE_ID=202416b2034048e0936f7a50727b3919", f"KONTENA_INSTANCE_ID={id}"]).stdout.splitlines()

    with grid.service(name, "busybox:1", "--stateful", "--volume=/data", "--affinity=node==node1", *SLEEP):
        id = grid.instance(name)["id"]
        grid.inside(grid.instance(name), "echo precious > /data/file")

        try:
            stores("before")
            wait_until(lambda: not grid.units(name), 40, "the end of the instance", 0.2)
            wait_until(lambda: node.run(f"cat {KEPT}/{id}/volumes/*/file", check=False).stdout == "precious\n", 20, "its data", 0.2)
            wait_until(problems, 20, "word of the node", 0.2)
            assert name in problems()[0] and [k for k in grid.json("node", "show", "node1")["kept"] if id in k and name in k]
            wait_until(lambda: node.run(f"ls /var/lib/kontena/instances/{id}", check=False).returncode != 0, 20, "the rest", 0.2)
            wait_until(said, 20, "its word in the journal", 0.2)
            assert len(said()) == 1 and f"{KEPT}/{id}" in said()[0]
            killed = node.cursor()
            node.run("systemctl kill --signal=KILL kontena-noded")
            node.wait_journal("Connected to", since=killed, timeout=30)
            grid.wait_node("node1", "online")
            assert node.run(f"cat {KEPT}/{id}/volumes/*/file").stdout == "precious\n" and len(said()) == 1
        finally:
            stores("after")
        grid.wait_instances(name, ["running"])
        assert grid.instance(name)["id"] == id and grid.inside(grid.instance(name), "cat /data/file").stdout == "precious\n"
        assert node.run(f"ls {KEPT}/{id}", check=False).returncode != 0
    # What somebody removes goes.
    wait_until(lambda: node.run(f"ls -d /var/lib/kontena/instances/{id} {KEPT}/{id}", check=False).stdout == "", 20, "removal", 0.2)
