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
