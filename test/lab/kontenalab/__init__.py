# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts with a real systemd, on a network of their own, for tests of Kontena.

From a shell (any developer may have labs of his own; they share caches, not addresses or state):

    ./lab --name mine boot                  boot master, node1..node3 and registry, without a grid
    ./lab --name mine boot master node1     only these two
    ./lab --name mine run node1 systemctl status kontena-noded
    ./lab --name mine run node1 'ip -br a; nft list ruleset'     one argument is a shell line
    ./lab --name mine shell node1
    ./lab --name mine push node1 build/kontena-noded /usr/libexec/kontena-noded
    ./lab --name mine install               build, and put the result on the running hosts
    ./lab --name mine --build-dir build install      the same from a build directory of your own
    ./lab --name mine kill node1            power loss; `start node1` brings it back with its disk
    ./lab --name mine logs node1
    ./lab --name mine down

`--no-build` (or KONTENA_LAB_NO_BUILD=1) boots hosts without the project. KONTENA_LAB_NAME stands for --name.

A test is a folder in test/lab whose name is a sentence, with a `test.py` in it:

    def test_node_comes_back(lab):
        node = lab.host("node1")
        cursor = node.cursor()
        node.kill()                          # power loss
        node.start(); node.wait_running()
        node.wait_journal("Connected to master", since=cursor)
        assert node.run("systemctl is-active kontena-noded").stdout.strip() == "active"

Fixtures: `lab` (the shared hosts, booted once in a session) and `extra_host` (a factory of hosts removed after
the test: `extra_host("node4")`, `extra_host("vm1", backend="qemu")`, `extra_host("node5", disk_mb=64)`).
Do not sleep: `wait_journal`, `wait_until`. A limit is what a quiet machine needs; it holds KONTENA_LAB_PATIENCE (6) times
longer, so that a slow machine is no failure. What a kernel lacks raises Unsupported, which skips the test.

`./lab test` runs two labs side by side (`--labs N`), and each takes the next folder that nobody has begun: a folder needs
nothing of another, and leaves the hosts and the grid as it found them.

Addresses: master 172.30.0.10, nodeN 172.30.0.10+N, vmN 172.30.0.100+N, registry 172.30.0.5; hosts `farN` are
behind a router, 172.31.0.10+N. 172.30.0.1 and 172.31.0.1 is the lab itself, and so is 198.51.100.1, which
plays the rest of the world; `lab.run()` runs a command there.
"""

from .host import Host, HostOptions
from .lab import DEFAULT_HOSTS, Lab
from .process import CommandError, Unsupported, wait_until

__all__ = ["CommandError", "DEFAULT_HOSTS", "Host", "HostOptions", "Lab", "Unsupported", "wait_until"]
