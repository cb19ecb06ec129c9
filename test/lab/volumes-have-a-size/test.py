# SPDX-License-Identifier: LGPL-2.1-or-later
"""A volume holds no more than it was made for, where the file system counts; where it does not, that is said. Needs a kernel with quotas, so a
machine of its own (qemu)."""

import json

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

VOLUMES = "/var/lib/kontena/volumes"


@pytest.fixture
def vm(grid, lab):
    """A kernel of its own, whose ext4 has project quotas."""
    host = lab.boot(["vm1"], backend="qemu")[0]
    try:
        host.run(f"mkdir -p {VOLUMES} && truncate -s 64M /srv/volumes.img && mkfs.ext4 -q -O project,quota -E quotatype=prjquota "
                 f"/srv/volumes.img && mount -o loop,prjquota /srv/volumes.img {VOLUMES} && chmod 700 {VOLUMES}")  # fmt: skip
        grid.join(host)
        grid.wait_node("vm1", "online", timeout=120)
        yield host
    finally:  # also when it could not join: what is placed there by chance has little room
        host.run("systemctl stop kontena-noded", check=False)
        if "vm1" in grid.nodes():
            grid.wait_node("vm1", "offline", timeout=100)
            grid.ctl("node", "remove", "--force", "vm1", check=False)
        host.reset()


def test_a_size_needs_a_file_system_that_can(grid, volume):
    name, data = unique("sized"), volume("--size=1M")
    grid.ctl("service", "create", "--affinity=node==node1", "--stop-timeout=1", f"--volume={data}:/data", name,
             "registry:5000/busybox:1", "--", "sleep", "infinity")  # fmt: skip
    try:
        failed = grid.deploy(name, check=False)
        assert failed.returncode != 0 and "project quotas" in json.dumps(grid.instance(name)["error"])
    finally:
        grid.remove(name)


def test_a_size_holds_where_the_file_system_can(grid, vm, volume):
    name, data = unique("sized"), volume("--size=2M")
    write = "head -c 8000000 /dev/zero > /data/file 2>/dev/null; echo wrote-$(wc -c < /data/file) > /tmp/said; sleep infinity"
    with grid.service(name, "busybox:1", "--affinity=node==vm1", f"--volume={data}:/data", "--", "sh", "-c", write):
        wait_until(lambda: grid.inside(grid.instance(name), "cat /tmp/said", check=False).stdout.startswith("wrote-"), 60, "the end", 0.5)
        wrote = int(grid.inside(grid.instance(name), "cat /tmp/said").stdout.split("-")[1])
        assert 1_000_000 < wrote <= 2 << 20, wrote
        wait_until(lambda: any(p["used"] > 1_000_000 for p in grid.json("volume", "show", data)["instances"]), 90, "what is used", 0.5)
