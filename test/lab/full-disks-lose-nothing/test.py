# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disk of the master or of a node fills up: a clear error, and recovery by itself."""

from kontenalab.grid import unique
from kontenalab.process import wait_until


def test_node_with_a_full_disk_says_so_and_recovers(grid, extra_host):
    host = extra_host("node5", disk_mb=64)
    grid.join(host)
    grid.wait_node("node5", "online")
    name = unique("heavy")
    try:
        host.run("head -c 61M /dev/zero > /var/lib/kontena/ballast", check=False)
        grid.ctl("service", "create", "--affinity=node==node5", name, "registry:5000/nginx:1")
        result = grid.deploy(name, check=False)
        assert result.returncode != 0
        assert "disk" in result.stderr, result.stderr
        host.run("rm /var/lib/kontena/ballast")
        grid.ctl("service", "update", "--cmd=sleep", "--cmd=infinity", "--image=registry:5000/busybox:1", name)
        assert grid.deploy(name).returncode == 0
    finally:
        grid.remove(name)
        host.run("systemctl stop kontena-noded", check=False)
        grid.wait_node("node5", "offline", timeout=100)
        grid.ctl("node", "remove", "--force", "node5", check=False)


def test_a_full_volume_stops_its_writer_alone(grid, extra_host, volume):
    """On the file system on which the daemon keeps its records as well: the writer is told by its system call, others run on, also over the
    death of the daemon, and a deploy says what is missing; with room again all goes on by itself."""
    host = extra_host("node5", disk_mb=64)
    grid.join(host)
    grid.wait_node("node5", "online")
    data, quiet, greedy = volume("--scope=grid"), unique("quiet"), unique("greedy")
    write = "cat /dev/zero > /data/all 2>/tmp/said; echo ended >> /tmp/said; exec sleep infinity"
    try:
        grid.create(quiet, "busybox:1", "--affinity=node==node5", "--drain=0", "--", "sleep", "infinity")
        pid = grid.main_pid(grid.instance(quiet))
        grid.create(greedy, "busybox:1", "--affinity=node==node5", f"--volume={data}:/data", "--", "sh", "-c", write)
        wait_until(lambda: host.run(f"test $(df --output=avail /var/lib/kontena/volumes/{data} | tail -1) -lt 64", check=False).returncode == 0,
                   30, "the disk to be full", 0.2)  # fmt: skip
        inside = grid.main_pid(grid.instance(greedy))
        wait_until(lambda: "No space left" in host.run(f"cat /proc/{inside}/root/tmp/said", check=False).stdout or
                   host.run(f"tr '\\0' ' ' < /proc/{inside}/cmdline", check=False).stdout.startswith("sleep"),
                   20, "the writer's error", 0.2)  # fmt: skip
        # What the file system keeps for root is the daemon's, and not the containers'.
        grid.ctl("service", "update", "--env=NEW=1", quiet)
        assert grid.deploy(quiet).returncode == 0
        pid = grid.main_pid(grid.instance(quiet))
        wait_until(lambda: len(grid.units(quiet)) == 1, 20, "the end of the old one", 0.2)

        # Long writes give up while there is room for short ones.
        host.run("mkdir /var/lib/kontena/ballast; cd /var/lib/kontena/ballast; cat /dev/zero > all; sync;"
                 "n=0; while mkdir $n; do n=$((n + 1)); done", check=False)  # fmt: skip
        cursor = host.cursor()
        host.run("systemctl kill -s KILL kontena-noded")
        host.wait_journal("Connected to", "-u", "kontena-noded", since=cursor, timeout=60)
        grid.wait_node("node5", "online")
        grid.wait_instances(quiet, ["running"])
        assert grid.main_pid(grid.instance(quiet)) == pid and grid.main_pid(grid.instance(greedy)) == inside
        grid.ctl("service", "update", "--env=NEW=2", quiet)
        failed = grid.deploy(quiet, check=False, timeout=40)
        said = failed.stdout + failed.stderr
        assert failed.returncode != 0 and ("space" in said or "disk" in said), said
        assert grid.main_pid(grid.instance(quiet)) == pid

        host.run(f"rm /var/lib/kontena/volumes/{data}/all; rm -r /var/lib/kontena/ballast")
        grid.ctl("service", "update", "--env=NEW=2", quiet)
        assert grid.deploy(quiet).returncode == 0
    finally:
        grid.remove(quiet, greedy)
        host.run("systemctl stop kontena-noded", check=False)
        grid.wait_node("node5", "offline", timeout=100)
        grid.ctl("node", "remove", "--force", "node5", check=False)


def test_master_with_a_full_disk_is_read_only(grid):
    """Trap 19."""
    before = [g["name"] for g in grid.json("grid", "list")]
    master = grid.master
    master.run("systemctl stop kontenad; mkdir -p /root/kontena-keep && cp -a /var/lib/kontena/. /root/kontena-keep/")
    master.run("mount -t tmpfs -o size=24m,mode=0700 tmpfs /var/lib/kontena && cp -a /root/kontena-keep/. /var/lib/kontena/"
               " && chown --reference=/root/kontena-keep /var/lib/kontena && systemctl start kontenad")  # fmt: skip
    try:
        wait_until(lambda: grid.ctl("grid", "list", check=False).returncode == 0, 30, "the master", 0.2)
        master.run("cat /dev/zero > /var/lib/kontena/ballast", check=False)
        result = None
        for _ in range(50):
            result = grid.ctl("grid", "create", unique("full"), check=False)
            if result.returncode != 0:
                break
        assert result is not None and result.returncode != 0
        assert "full" in result.stderr or "space" in result.stderr, result.stderr
        assert set(before) <= {g["name"] for g in grid.json("grid", "list")}, "reading goes on"
        master.run("rm /var/lib/kontena/ballast")
        name = unique("afterfull")
        wait_until(lambda: grid.ctl("grid", "create", name, check=False).returncode == 0, 30, "recovery by itself", 0.5)
    finally:
        master.run("systemctl stop kontenad; umount /var/lib/kontena; systemctl start kontenad")
        wait_until(lambda: grid.ctl("grid", "list", check=False).returncode == 0, 30, "the master", 0.2)
    for host in grid.node_hosts():
        grid.wait_node(host.name, "online", timeout=150)
