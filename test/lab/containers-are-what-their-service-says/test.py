# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each setting of a service, seen from inside its container: identity, rights, devices, namespaces, files, volumes, how it stops."""

import secrets
import time

import pytest

from kontenalab import grid as names
from kontenalab.process import CommandError, wait_until

DEFAULT_CAPABILITIES = 0x00000000A80425FB
IDLE = "; exec sleep infinity"
# The journal remembers: a lab that is used again has lines of a service with the same name.
RUN = secrets.token_hex(2)


def unique(prefix):
    return names.unique(f"{prefix}-{RUN}-")


@pytest.fixture
def run(grid):
    """Runs a service of one instance on node1; the result is what its shell line printed, and stays until the test ends."""
    made = []

    def run(line, *options, image="busybox:1", name=None):
        name = name or unique("told")
        service = grid.service(name, image, "--affinity=node==node1", *options, "--", "sh", "-c", line + "; echo the-end" + IDLE)
        service.__enter__()
        made.append(service)
        wait_until(lambda: "the-end" in messages(grid, name), 20, f"the output of {name}", 0.2)
        run.name = name
        return messages(grid, name)

    yield run
    for service in reversed(made):
        service.__exit__(None, None, None)


def messages(grid, name):
    """By way of the master, without the time and the instance."""
    return [line.split(": ", 1)[1] for line in grid.ctl("service", "logs", name).stdout.splitlines() if ": " in line]


def capabilities(lines):
    return {key: int(value, 16) for key, value in (line.split() for line in lines if line.startswith("Cap"))}


def test_user_group_directory_and_names(grid, run):
    said = run("id -u; id -g; pwd; hostname; grep ^Cap /proc/self/status", "--user=1000:1001", "--working-dir=/tmp", "--hostname=other")
    assert said[:4] == ["1000", "1001", "/tmp", "other"]
    assert capabilities(said)["CapEff:"] == 0 and capabilities(said)["CapBnd:"] == DEFAULT_CAPABILITIES


def test_unknown_user_fails_and_a_better_deploy_repairs_it(grid):
    """On a root of its own, not on the one that the failed attempt had mounted already."""
    name = unique("nouser")
    line = "test -e /etc/nginx && echo nginx || echo busybox" + IDLE
    with pytest.raises(CommandError, match="no user 'ghost'"):
        grid.create(name, "nginx:1", "--affinity=node==node1", "--user=ghost", "--", "sh", "-c", line)
    grid.ctl("service", "update", name, "--user=0", "--image=registry:5000/busybox:1", "--stop-timeout=1")
    grid.deploy(name)
    wait_until(lambda: messages(grid, name), 20, "the output", 0.2)
    assert set(messages(grid, name)) == {"busybox"}
    grid.remove(name)


def test_entry_point_and_command(grid, run):
    assert run("echo $0 $1", "--entrypoint=/bin/busybox")[0].startswith("sh")


def test_environment_is_taken_literally(grid, run):
    said = run('echo "$A|$B"', "--env=A=%n %i $HOME ${PATH} \\x", '--env=B="quoted" \'too\'')
    assert said[0] == "%n %i $HOME ${PATH} \\x|\"quoted\" 'too'"


def test_capabilities_are_dropped_and_added(grid, run):
    caps = capabilities(run("grep ^Cap /proc/self/status", "--cap-drop=ALL", "--cap-add=NET_ADMIN"))
    assert caps["CapEff:"] == caps["CapBnd:"] == 1 << 12
    caps = capabilities(run("grep ^Cap /proc/self/status", "--cap-drop=CHOWN"))
    assert caps["CapEff:"] == DEFAULT_CAPABILITIES & ~1


def test_privileged_has_what_the_machine_has(grid, run):
    said = run("grep ^Cap /proc/self/status; grep ' /sys ' /proc/mounts; ls /dev | wc -l", "--privileged")
    host = grid.host_of(grid.instance(run.name))
    assert capabilities(said)["CapEff:"] == int(host.run("sed -n 's/^CapBnd://p' /proc/1/status").stdout, 16)
    assert any(" rw," in line for line in said if " /sys " in line)


def test_root_can_be_read_only(grid, run):
    said = run("touch /x 2>&1; touch /tmp/x 2>&1; echo >/dev/shm/x && echo shm", "--read-only")
    assert said[:3] == ["touch: /x: Read-only file system", "touch: /tmp/x: Read-only file system", "shm"]


def test_devices_are_those_that_were_given(grid, run):
    line = "ls -l /dev/fuse | cut -c1; : </dev/fuse && echo open; mknod /tmp/mem c 1 1 2>&1; cat /tmp/mem 2>&1 | head -c 60"
    said = run(line, "--device=/dev/fuse")
    assert said[:2] == ["c", "open"] and "ermitted" in said[2]
    assert "such" in run("ls /dev/fuse 2>&1")[0]


def test_set_user_id_works_although_the_daemon_may_not(grid, run):
    """NoNewPrivileges= is the daemon's own: PID 1 starts the containers."""
    said = run("grep NoNewPrivs /proc/self/status; grep ' / ' /proc/mounts")
    assert said[0].split() == ["NoNewPrivs:", "0"] and "nosuid" not in said[1]
    host = grid.host_of(grid.instance(run.name))
    daemon = host.run("systemctl show -P MainPID kontena-noded").stdout.strip()
    assert host.run(f"grep NoNewPrivs /proc/{daemon}/status").stdout.split() == ["NoNewPrivs:", "1"]


def test_namespaces_of_the_host(grid, run):
    said = run("hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/pid", "--net=host", "--pid=host")
    host = grid.host_of(grid.instance(run.name))
    assert said[0] == "node1"
    assert said[1:3] == host.run("readlink /proc/1/ns/net /proc/1/ns/pid").stdout.split()


def test_files_of_the_container(grid, run):
    said = run("cat /etc/hosts /etc/resolv.conf /etc/hostname; echo 10.9.9.9 added >> /etc/hosts; tail -n1 /etc/hosts")
    instance = grid.instance(run.name)
    assert f"{instance['address']} {run.name}-1.{grid.name}.kontena.local {run.name}-1" in said
    assert f"search {grid.name}.kontena.local kontena.local" in said and f"{run.name}-1" in said
    assert "10.9.9.9 added" in said
    # What a container writes there must not fill the machine's /run, on which systemd stands.
    host = grid.host_of(instance)
    assert host.run(f"stat -f -c %T /proc/{grid.main_pid(instance)}/root/etc/hosts").stdout != host.run("stat -f -c %T /run").stdout


def test_mounts_of_the_host_and_volumes(grid, run):
    host = grid.lab.host("node1")
    host.run("mkdir -p /srv/given && echo hello > /srv/given/file")
    volume = unique("shared")
    grid.ctl("volume", "create", "--scope=grid", volume)
    line = "cat /mnt/file; touch /mnt/x 2>&1; touch /data/kept; cp /bin/busybox /data/busybox; chmod 4755 /data/busybox"
    said = run(line, "--volume=/srv/given:/mnt:ro", f"--volume={volume}:/data")
    assert said[:2] == ["hello", "touch: /mnt/x: Read-only file system"]
    assert host.run(f"ls /var/lib/kontena/volumes/{volume}").stdout.split() == ["busybox", "kept"]
    reach = host.run(f"/var/lib/kontena/volumes/{volume}/busybox id", user="nobody", check=False)
    assert reach.returncode != 0 and "ermission" in reach.stderr, "a local user runs what a container made set-user-ID"


def test_stateful_data_outlives_every_kind_of_deploy(grid, run):
    line = "date +%s%N >> /data/starts; wc -l < /data/starts"
    assert run(line, "--stateful", "--volume=/data")[0] == "1"
    first = grid.main_pid(grid.instance(run.name))
    grid.deploy(run.name, "--force")
    wait_until(lambda: "2" in messages(grid, run.name), 20, "the second start", 0.2)
    grid.ctl("service", "update", run.name, "--env=NEW=1")
    grid.deploy(run.name)
    wait_until(lambda: "3" in messages(grid, run.name), 20, "the third start", 0.2)
    assert grid.main_pid(grid.instance(run.name)) != first


def test_stateless_data_does_not(grid, run):
    assert run("date >> /data/starts; wc -l < /data/starts", "--volume=/data")[0] == "1"
    grid.deploy(run.name, "--force")
    wait_until(lambda: messages(grid, run.name).count("the-end") == 2, 20, "the second start", 0.2)
    assert messages(grid, run.name).count("1") == 2


def test_stop_signal_and_grace(grid):
    name = unique("stops")
    line = "trap 'echo interrupted; exit 0' INT; trap 'echo terminated' TERM; echo ready; while :; do sleep 0.1; done"
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--stop-signal=SIGINT", "--stop-timeout=60", "--", "sh", "-c", line):
        wait_until(lambda: "ready" in messages(grid, name), 20, "the output", 0.2)
        grid.ctl("service", "stop", name)
        wait_until(lambda: "interrupted" in messages(grid, name), 10, "the signal", 0.1)
        grid.wait_instances(name, ["stopped"])
        assert "terminated" not in messages(grid, name)

    name = unique("stubborn")
    line = "trap 'echo not yet' TERM; echo ready; while :; do sleep 0.1; done"
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--stop-timeout=2", "--", "sh", "-c", line):
        wait_until(lambda: "ready" in messages(grid, name), 20, "the output", 0.2)
        instance = grid.instance(name)
        host, pid = grid.host_of(instance), grid.main_pid(instance)
        assert host.run(["systemctl", "show", "-P", "TimeoutStopUSec", instance["unit"]]).stdout.strip() == "2s"
        start = time.monotonic()
        grid.ctl("service", "stop", name)
        wait_until(lambda: host.run(f"test -e /proc/{pid}", check=False).returncode != 0, 10, "its end", 0.1)
        assert time.monotonic() - start > 1.5
        wait_until(lambda: "not yet" in messages(grid, name), 20, "its answer to the signal", 0.1)
