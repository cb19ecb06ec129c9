# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files go into and out of instances and whole volumes in and out of the grid, as they are, and a volume is never half of anything: not when
the archive is cut or hostile, the disk full, or a daemon killed."""

import time
from contextlib import contextmanager

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

VOLUMES = "/var/lib/kontena/volumes"
SLEEP = ("--", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done")

# All that is to be kept of a tree, one line for each thing; of a file with several names the first in order.
LIST = r"""cd "$1" && find . -printf '%P\t%y\t%m\t%U:%G\t%T@\t%l\n' | grep -v -P '^\t' | LC_ALL=C sort
find . -type f -exec sha256sum {} + | LC_ALL=C sort -k2
find . -type f -links +1 -printf '%P %n\n' | LC_ALL=C sort"""

TREE = r"""set -e; mkdir -p "$1/deep/er" "$1/locked" "$1/sticky"; cd "$1"; umask 022
head -c 300000 /dev/urandom > blob; printf 'x' > 'new
line'; printf 'y' > 'b\303\244r'; printf z > "$(printf 'latin-\344')"; : > empty
truncate -s 40M sparse; printf middle | dd of=sparse bs=1 seek=20000000 conv=notrunc 2>/dev/null
ln blob deep/hard; ln -s ../blob deep/link; ln -s /etc/passwd away; ln -s nowhere dangling
printf 'own' > deep/er/owned; chown 1234:4321 deep/er/owned; chown -h 77:88 dangling; chmod 4711 deep/er/owned
touch -d '2001-02-03 04:05:06.123456789' blob; touch -h -d '1999-01-01 00:00:01.5' deep/link; touch -d '2010-10-10 10:10:10.1' empty
chmod 1777 sticky; chmod 0 locked; touch -d '2005-05-05 05:05:05.05' deep deep/er ."""


def listing(host, path):
    return host.run(["sh", "-c", LIST, "sh", path]).stdout


@contextmanager
def took(what, size):
    start = time.monotonic()
    yield
    print(f"{what}: {size / 1e6 / (time.monotonic() - start):.0f} MB/s")


@pytest.fixture(scope="module")
def box(grid):
    """A service with a volume, and its instance on node1: grid.ctl can name it box.name-1."""
    name, data = unique("box"), unique("vol")
    grid.ctl("volume", "create", data)
    with grid.service(name, "busybox:1", "--affinity=node==node1", f"--volume={data}:/data", *SLEEP):
        grid.inside(grid.instance(name), "mkdir -p /srv; ln -s /etc /srv/link; ln -s .. /srv/up; echo here > /srv/file")
        yield name
    grid.ctl("volume", "remove", "--force", data, check=False)


@pytest.fixture
def stopped(grid, volume):
    """A volume with old data in it whose service is stopped: (its name, its directory on the node, the node)."""

    def make(node="node1"):
        name, data = unique("db"), volume()
        grid.ctl("service", "create", f"--affinity=node=={node}", "--stop-timeout=1", f"--volume={data}:/data", name, "registry:5000/busybox:1", *SLEEP)
        made.append(name)
        grid.deploy(name)
        host = grid.lab.host(node)
        path = f"{VOLUMES}/{name}.{data}-1"
        host.run(["sh", "-c", f"echo old > {path}/old; chmod 0700 {path}; chown 999:999 {path}"])
        grid.ctl("service", "stop", name)
        grid.wait_instances(name, ["stopped"])
        return data, path, host

    made = []
    yield make
    for name in made:
        grid.remove(name)


def assert_old(host, path):
    """Nothing but what was there, and nothing half beside it."""
    assert host.run(["sh", "-c", f"ls -A {path}; cat {path}/old"]).stdout == "old\nold\n"
    wait_until(lambda: "import" not in host.run(f"ls {VOLUMES}/.work", check=False).stdout, 20, "what was unpacked to go", 0.1)


def test_a_tree_goes_in_and_out_as_it_is(grid, box):
    master = grid.master
    master.run(["sh", "-c", "rm -rf /root/in /root/out; " + TREE, "sh", "/root/in"])
    expected = listing(master, "/root/in")
    assert expected.count("\n") > 20
    for place in ("/srv/tree", "/data/tree"):  # the second is a volume's
        grid.ctl("cp", "-a", "/root/in", f"{box}-1:{place}")
        grid.ctl("cp", "-a", f"{box}-1:{place}", "/root/out")
        assert listing(master, "/root/out") == expected, place
        assert int(master.run("du -sk /root/out").stdout.split()[0]) < 2000, "holes are still holes"
        master.run("rm -rf /root/out")
    # Without --archive it is root's there and whose command it is here.
    grid.ctl("cp", "/root/in/deep/er", f"{box}-1:/srv")
    assert grid.inside(grid.instance(box), "stat -c '%u:%g %a' /srv/er/owned").stdout == "0:0 4711\n"
    grid.ctl("cp", f"{box}-1:/srv/er/owned", "/root/owned")
    assert master.run("stat -c '%u:%g %a' /root/owned").stdout == "0:0 711\n"


def test_large_files_are_quick(grid, box):
    size = 24_000_000
    grid.master.run(f"head -c {size} /dev/urandom > /root/large")
    with took("cp into an instance", size):
        grid.ctl("cp", "/root/large", f"{box}-1:/data/large")
    with took("cp out of an instance", size):
        grid.ctl("cp", f"{box}-1:/data/large", "/root/back")
    assert grid.master.run("cmp /root/large /root/back; echo $?").stdout == "0\n"
    grid.inside(grid.instance(box), "rm /data/large")
    grid.master.run("rm /root/large /root/back")


def test_a_path_says_where_a_copy_goes(grid, box):
    def inside(command):
        return grid.inside(grid.instance(box), command).stdout

    master = grid.master
    master.run("rm -rf /root/d; mkdir -p /root/d/sub; echo one > /root/d/f; ln -s f /root/d/l; echo two > /root/d/sub/g")
    grid.ctl("cp", "/root/d/f", f"{box}-1:/srv")
    assert inside("cat /srv/f") == "one\n"
    grid.ctl("cp", "/root/d/f", f"{box}-1:/srv/named")
    assert inside("cat /srv/named") == "one\n"
    grid.ctl("cp", "/root/d/.", f"{box}-1:/srv/new")
    assert inside("cat /srv/new/sub/g; readlink /srv/new/l") == "two\nf\n"
    grid.ctl("cp", "/root/d", f"{box}:/srv/new/")
    assert inside("cat /srv/new/d/f") == "one\n"
    grid.ctl("cp", "-L", f"{box}-1:/srv/new/l", "/root/d/followed")
    assert master.run("cat /root/d/followed; stat -c %F /root/d/followed").stdout == "one\nregular file\n"
    master.run(f"kontenactl -g {grid.name} cp {box}-1:/srv/new - | tar -x -C /root/d")
    assert master.run("cat /root/d/new/sub/g").stdout == "two\n"
    master.run(f"tar -c -C /root/d sub | kontenactl -g {grid.name} cp - {box}-1:/tmp")
    assert inside("cat /tmp/sub/g") == "two\n"

    for source, target, status, word in (
        (f"{box}-1:/nothing", "/root", 2, "There is no '/nothing'"),
        ("/root/d/f", f"{box}-1:/none/f", 2, "There is no '/none/'"),
        ("/root/d/f", f"{box}-1:/srv/none/", 2, "not a directory"),
        ("/root/d", f"{box}-1:/srv/file", 5, "is not a directory and is not replaced"),
        ("/root/d/f", f"{box}-1:/srv/new/d/f/x", 2, "is not a directory"),
        (f"{box}-1:/srv/file", "/root/none/x", 2, "There is no '/root/none/'"),
        (f"{box}-1:/proc/cmdline", "/root", 1, "of the kernel"),
        ("/root/d/f", f"{box}-1:/proc/sys/kernel/core_pattern", 1, "of the kernel"),
        (f"{box}-9:/srv", "/root", 4, "9"),
        ("/root/a", "/root/b", 2, "INSTANCE:PATH"),
    ):
        refused = grid.ctl("cp", source, target, check=False)
        assert word in refused.stderr and refused.returncode != 0, (source, target, refused)
    assert inside("cat /srv/file") == "here\n"
    assert ".kontena" not in inside("ls -A /srv /srv/new /srv/new/d")


def test_nothing_leads_out_of_an_instance(grid, box):
    node, master = grid.lab.host("node1"), grid.master
    seen = "ls -la --full-time /etc; ls -A /"
    before = node.run(seen).stdout
    master.run("echo mine > /root/mine")
    # A link of the instance leads somewhere in the instance.
    grid.ctl("cp", "/root/mine", f"{box}-1:/srv/link/mine")
    assert grid.inside(grid.instance(box), "cat /etc/mine").stdout == "mine\n"
    grid.ctl("cp", "/root/mine", f"{box}-1:/srv/up/up/up/../../../../mine", check=False)
    grid.ctl("cp", "-L", f"{box}-1:/srv/link/passwd", "/root/theirs", check=False)
    # Archives that try.
    master.run("""rm -rf /root/h; mkdir /root/h; cd /root/h; mkdir d; echo bad > d/evil; ln -s /etc l
tar -c -f dotdot.tar -P --transform 's,^d/evil,../../../../../etc/evil,' d/evil
tar -c -f link.tar l; tar -r -f link.tar --transform 's,^d,l,' d/evil; head -c 3000 dotdot.tar > cut.tar; echo junk > junk.tar""")
    for archive, word in (("dotdot", "unsafe"), ("link", "leads through something that is not a directory"), ("junk", "archive"), ("cut", "")):
        said = master.run(f"kontenactl -g {grid.name} cp - {box}-1:/srv < /root/h/{archive}.tar", check=False)
        assert said.returncode != 0 and word in said.stderr, (archive, said)
    assert node.run(seen).stdout == before


def test_of_a_stopped_instance_it_is_the_root_alone(grid, stopped):
    data, _, _ = stopped()
    name = grid.json("volume", "show", data)["services"][0]
    grid.master.run("echo later > /root/later")
    grid.ctl("cp", "/root/later", f"{name}-1:/etc/later")
    for arguments in ((f"{name}-1:/data/old", "/root"), ("/root/later", f"{name}-1:/data")):
        refused = grid.ctl("cp", *arguments, check=False)
        assert refused.returncode == 5 and "volume" in refused.stderr, refused
    grid.ctl("cp", f"{name}-1:/", "/root/root")
    assert grid.master.run("cat /root/root/etc/later; ls -A /root/root/data /root/root/proc").stdout == "later\n/root/root/data:\n\n/root/root/proc:\n"
    grid.ctl("service", "start", name)
    grid.wait_instances(name, ["running"])
    assert grid.inside(grid.instance(name), "cat /etc/later /data/old").stdout == "later\nold\n"


def test_a_volume_goes_out_and_comes_back(grid, stopped):
    data, path, host = stopped()
    host.run(["sh", "-c", TREE + "; mkfifo -m 620 fifo; mknod -m 600 null c 1 3", "sh", path])
    expected = listing(host, path)
    own = host.run(f"stat -c '%a %U %G %y' {path}").stdout
    grid.ctl("volume", "snapshot", data, "then")
    grid.ctl("volume", "export", data, "/root/data.tar")
    grid.master.run(f"kontenactl -g {grid.name} volume export {data} --snapshot=then > /root/then.tar")
    assert grid.master.run("tar -t -f /root/data.tar | sort | sha256sum; tar -t -f /root/then.tar | sort | sha256sum").stdout.split()[0::2] != []

    for archive in ("data", "then"):
        host.run(["sh", "-c", f"find {path} -mindepth 1 -delete; echo other > {path}/other"])
        grid.ctl("volume", "import", "--force", data, f"/root/{archive}.tar")
        assert listing(host, path) == expected, archive
        assert host.run(f"stat -c '%a %U %G %y' {path}").stdout == own
    assert host.run(f"stat -c '%F %t:%T' {path}/null").stdout == "character special file 1:3\n"

    size = 24_000_000
    host.run(f"find {path} -mindepth 1 -delete; head -c {size} /dev/urandom > {path}/large")
    with took("volume export", size):
        grid.ctl("volume", "export", data, "/root/data.tar")
    with took("volume import", size):
        grid.ctl("volume", "import", "--force", data, "/root/data.tar")
    grid.master.run("rm /root/data.tar /root/then.tar")


def test_a_volume_in_use_is_not_replaced(grid, box):
    data = grid.service_json(box)["spec"]["volumes"][0].split(":")[0]
    grid.ctl("volume", "export", data, "/root/used.tar")
    refused = grid.ctl("volume", "import", "--force", data, "/root/used.tar", check=False)
    assert refused.returncode == 5 and "in use" in refused.stderr
    refused = grid.ctl("volume", "import", data, "/root/used.tar", check=False)
    assert refused.returncode == 2 and "--force" in refused.stderr


def test_half_an_archive_is_no_volume(grid, stopped):
    data, path, host = stopped()
    master = grid.master
    master.run("rm -rf /root/v; mkdir /root/v; for i in $(seq 40); do head -c 100000 /dev/zero > /root/v/$i; done; tar -c -f /root/v.tar -C /root/v .")
    size = int(master.run("stat -c %s /root/v.tar").stdout)
    for cut in (0, 2048, size // 2, size - 10240):
        master.run(f"head -c {cut} /root/v.tar > /root/cut.tar")
        refused = grid.ctl("volume", "import", "--force", data, "/root/cut.tar", check=False)
        assert refused.returncode != 0 and "archive" in refused.stderr, (cut, refused)
        assert_old(host, path)
    # Who sends it is killed.
    half = f"((head -c {size // 2} /root/v.tar; sleep 600) | kontenactl -g {grid.name} volume import --force {data}) > /root/said 2>&1 &"
    master.run(half)
    wait_until(lambda: host.run(f"ls {VOLUMES}/.work/import-* | wc -l", check=False).stdout.strip() not in ("", "0"), 20, "half of it", 0.05)
    master.run("pkill -KILL -f 'volume import'")
    assert_old(host, path)
    # And so is who takes it, in the middle; it has the old data when it is back.
    master.run(half)
    wait_until(lambda: host.run(f"ls {VOLUMES}/.work/import-* | wc -l", check=False).stdout.strip() not in ("", "0"), 20, "half of it", 0.05)
    host.run("systemctl kill --signal=KILL kontena-noded")
    wait_until(lambda: host.run("systemctl is-active kontena-noded", check=False).stdout.strip() == "active", 20, "the daemon", 0.1)
    grid.wait_node(host.name, "online")
    assert_old(host, path)
    wait_until(lambda: "kontena-archive" not in host.run("systemctl list-units 'kontena-archive*' --no-legend").stdout, 20, "its helper's end", 0.1)
    grid.ctl("volume", "import", "--force", data, "/root/v.tar")
    assert host.run(f"ls {path} | wc -l").stdout == "40\n"


def test_a_full_disk_loses_nothing(grid, stopped):
    node = grid.lab.host("node3")
    node.run(f"mkdir -p {VOLUMES}; mount -t tmpfs -o size=8M,mode=0700 tmpfs {VOLUMES}")
    try:
        data, path, host = stopped("node3")
        grid.master.run("head -c 20000000 /dev/zero > /root/zero; tar -c -f /root/large.tar -C /root zero")
        refused = grid.ctl("volume", "import", "--force", data, "/root/large.tar", check=False)
        assert refused.returncode != 0 and "zero" in refused.stderr and "No space left" in refused.stderr, refused
        assert_old(host, path)
        assert int(host.run(f"df --output=used -k {VOLUMES} | tail -n 1").stdout) < 1000, "what was unpacked is gone"
    finally:
        node.run(f"umount -l {VOLUMES}", check=False)
