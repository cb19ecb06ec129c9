# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main job: a service asked for on the master runs as units of the nodes, is found by name, and logs to their journals."""

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until


@pytest.fixture(scope="module")
def web(grid):
    name = unique("web")
    with grid.service(name, "nginx:1", "--instances=3", "--ports=8081:80", "--wait-for-port=80"):
        yield name


@pytest.fixture(scope="module")
def shell(grid):
    name = unique("shell")
    with grid.service(name, "busybox:1", "--instances=2", "--", "sleep", "infinity"):
        yield name


def test_instances_spread_over_the_nodes(grid, web):
    instances = grid.instances(web)
    assert [i["number"] for i in instances] == [1, 2, 3]
    assert {i["node"] for i in instances} == {"node1", "node2", "node3"}
    assert all(i["state"] == "running" for i in instances)


def test_unit_has_the_containers_processes_and_no_other(grid, web):
    instance = grid.instance(web)
    host = grid.host_of(instance)
    status = host.run(["systemctl", "status", "--no-pager", "--full", instance["unit"]]).stdout
    assert "Active: active (running)" in status
    assert "nginx: master process" in status
    pids = host.run(
        f"find /sys/fs/cgroup/kontena.slice -path '*/{instance['unit']}/*' -name cgroup.procs -exec cat {{}} +"
        f"; cat /sys/fs/cgroup/kontena.slice/*/{instance['unit']}/cgroup.procs"
    ).stdout.split()
    names = {host.read(f"/proc/{p}/comm").strip() for p in pids}
    assert names == {"nginx"}, "something of ours or of the runtime stayed in the unit"
    assert int(host.run(["ps", "-o", "ppid=", "-p", str(grid.main_pid(instance))]).stdout) == 1


def test_slice_of_the_grid_is_shown(grid, web):
    host = grid.host_of(grid.instance(web))
    tree = host.run("systemd-cgls --no-pager kontena.slice", check=False)
    shown = tree.stdout or host.run("systemd-cgls --no-pager").stdout
    assert f"kontena-{grid.name}.slice" in shown
    assert grid.instance(web)["unit"] in shown


def test_published_port_answers_on_every_node_and_from_outside(grid, web):
    for instance in grid.instances(web):
        host = grid.host_of(instance)
        for address in ("localhost", host.address):
            assert "nginx" in host.run(["curl", "-sS", "--max-time", "60", f"http://{address}:8081/"]).stdout
        assert grid.master.run(["curl", "-sS", "--max-time", "60", "-o/dev/null", f"http://{host.address}:8081/"])


def test_names_resolve_in_containers_to_the_instances(grid, web, shell):
    addresses = {i["address"] for i in grid.instances(web)}
    for instance in grid.instances(shell):
        for name in (web, f"{web}.{grid.name}.kontena.local", f"{web}.kontena.local"):
            answer = grid.inside(instance, f"nslookup {name} 2>&1", check=False).stdout
            if "." in name:
                assert all(a in answer for a in addresses), answer
        one = grid.inside(instance, f"nslookup {web}-2.{grid.name}.kontena.local 2>&1", check=False).stdout
        assert grid.instance(web, 2)["address"] in one
        assert grid.inside(instance, f"wget -qO- http://{web}/").stdout, "by the short name and the search list"


def test_overlay_reaches_every_instance_from_every_node(grid, web, shell):
    for client in grid.instances(shell):
        for server in grid.instances(web):
            grid.inside(client, f"ping -c1 -W25 {server['address']}")
            big = f"ping -c1 -W25 -s 1392 {server['address']}"      # 1392 + 28 = 1420: what every kind of link takes
            grid.inside(client, big)


def test_other_names_are_not_invented(grid, shell):
    answer = grid.inside(grid.instance(shell), f"nslookup nobody.{grid.name}.kontena.local 2>&1", check=False)
    assert answer.returncode != 0 or "NXDOMAIN" in answer.stdout


def test_output_is_in_the_journal_with_its_fields(grid):
    name = unique("talker")
    script = "echo to-stdout; echo to-stderr >&2; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; sleep infinity"
    with grid.service(name, "busybox:1", "--", "sh", "-c", script):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        host.wait_journal("^line 499$", f"KONTENA_SERVICE={name}")
        host.wait_journal("^to-stderr$", f"KONTENA_SERVICE={name}")
        entries = host.journal(f"KONTENA_SERVICE={name}", "_TRANSPORT=stdout")
        # Exactly what it wrote: nothing dropped by a rate limit, nothing added.
        assert [e["MESSAGE"] for e in entries if e["MESSAGE"] != "to-stderr"] == ["to-stdout"] + [f"line {n}" for n in range(500)]
        entry = entries[-1]
        assert entry["KONTENA_GRID"] == grid.name
        assert entry["KONTENA_STACK"] == "null"
        assert entry["KONTENA_INSTANCE"] == "1"
        assert entry["KONTENA_IMAGE"].endswith("/busybox:1")
        assert entry["_SYSTEMD_UNIT"] == instance["unit"]

        def shown():
            lines = grid.ctl("service", "logs", "-n", "1000", "--output=cat", name).stdout.splitlines()
            return [line for line in lines if line.startswith("line ")]

        wait_until(lambda: len(shown()) >= 500, 20, "the lines at the master", 0.2)
        assert shown() == [f"line {n}" for n in range(500)]


def test_environment_of_the_reference(grid):
    name = unique("env")
    with grid.service(name, "busybox:1", "--env=A=1 2", "--", "sh", "-c", "env; hostname; sleep infinity"):
        instance = grid.instance(name)
        env = dict(
            line.split("=", 1)
            for line in grid.inside(instance, "tr '\\0' '\\n' < /proc/1/environ").stdout.splitlines()
            if "=" in line
        )
        assert env["A"] == "1 2"
        assert env["KONTENA_SERVICE_NAME"] == name
        assert env["KONTENA_GRID_NAME"] == env["KONTENA_PLATFORM_NAME"] == grid.name
        assert env["KONTENA_STACK_NAME"] == "null"
        assert env["KONTENA_NODE_NAME"] == instance["node"]
        assert env["KONTENA_SERVICE_INSTANCE_NUMBER"] == "1"
        assert env["KONTENA_SERVICE_ID"]
        assert grid.inside(instance, "hostname").stdout.strip() == f"{name}-1"


def test_removal_leaves_nothing(grid):
    name = unique("gone")
    with grid.service(name, "busybox:1", "--ports=8099:80", "--", "sleep", "infinity"):
        instance = grid.instance(name)
        host = grid.host_of(instance)
        assert instance["id"] in host.run("mount; ls /run/netns").stdout
        assert "8099" in host.run("nft list ruleset").stdout
    wait_until(lambda: instance["id"] not in host.run("mount; ls /run/netns; ls /var/lib/kontena/instances").stdout,
               30, "traces of the instance are gone", 0.2)  # fmt: skip
    wait_until(lambda: "8099" not in host.run("nft list ruleset").stdout, 30, "its port to go", 0.2)
    units = "systemctl list-units --all --failed; ls /sys/fs/cgroup/kontena.slice/*"
    wait_until(lambda: name not in host.run(units, check=False).stdout, 30, "its unit to go", 0.2)
