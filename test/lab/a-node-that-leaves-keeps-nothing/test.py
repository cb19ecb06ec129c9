# SPDX-License-Identifier: LGPL-2.1-or-later
"""`kontenactl node leave`: units, roots, namespaces, devices, routes, firewall table, names and images go; named volumes, and data of stateful instances, when asked."""

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

STUBBORN = ("--", "sh", "-c", "touch /data/here; trap : TERM; while :; do sleep 1; done")


@pytest.fixture
def node(grid, extra_host):
    host = extra_host("node6")
    grid.join(host)
    grid.wait_node("node6", "online")
    yield host
    grid.ctl("node", "remove", "--force", "node6", check=False)


@pytest.fixture
def service(request, grid, node):
    """One that does not heed its stop signal: two seconds, or what the test says."""
    name = unique("leaving")
    if "kept" not in [v["name"] for v in grid.json("volume", "list")]:
        grid.ctl("volume", "create", "--scope=grid", "kept")
    options = ["--affinity=node==node6", "--ports=8099:80", "--volume=kept:/data", f"--stop-timeout={getattr(request, 'param', 2)}"]
    with grid.service(name, "busybox:1", *options, *STUBBORN):
        yield name


def everything_of_the_grid(host):
    """What a reader of these commands would call a remainder."""
    commands = {
        "device": "ip -o link | grep -o 'kt[-0-9a-f][^:@]*'",
        "route": "ip route show proto 75 table all",
        "table": "nft list tables | grep kontena",
        "namespace": "ls /run/netns",
        "mount": "grep -E ' /run/(kontena|netns/kt-)' /proc/self/mounts | grep overlay",
        "root": "ls /var/lib/kontena/instances /run/kontena/instances | grep -v :",
        "image": "ls /var/lib/kontena/images/layers /var/lib/kontena/images/images /var/lib/kontena/images/staging | grep -v :",
        "key": "ls /var/lib/kontena/node",
        "unit": "systemctl list-units --all --no-legend --plain 'kontena-*' | grep -v ^kontena-noded",
    }
    found = {what: host.run(command, check=False).stdout.split() for what, command in commands.items()}
    return {what: words for what, words in found.items() if words}


def test_leaving_by_force_leaves_nothing_but_volumes(node, service):
    assert set(everything_of_the_grid(node)) == {"device", "route", "table", "namespace", "mount", "root", "image", "key", "unit"}
    refused = node.run(["kontenactl", "node", "leave"], check=False)
    assert refused.returncode == 5 and "--force" in refused.stderr

    node.run(["kontenactl", "node", "leave", "--force"], timeout=90)
    wait_until(lambda: not everything_of_the_grid(node), 10, "nothing", 0.2)
    assert node.run("systemctl is-enabled kontena-noded", check=False).stdout.strip() == "disabled"
    assert node.run("ls /var/lib/kontena/volumes/kept").stdout.split() == ["here"]
    assert node.run("ls /var/lib/kontena/node", check=False).stdout == ""


def test_volumes_go_when_asked(node, service):
    node.run(["kontenactl", "node", "leave", "--force", "--volumes"], timeout=90)
    assert node.run("ls -A /var/lib/kontena/volumes").stdout == ""


def test_data_of_stateful_instances_stay_like_volumes(grid, node):
    name, instances = unique("lasting"), "/var/lib/kontena/instances"
    with grid.service(name, "busybox:1", "--stateful", "--volume=/own", "--affinity=node==node6", "--", "sh", "-c", "echo precious > /own/file; sleep 999"):
        wait_until(lambda: node.run(f"cat {instances}/*/volumes/*/file", check=False).stdout == "precious\n", 10, "data", 0.2)
        id = grid.instance(name)["id"]
        node.run(["kontenactl", "node", "leave", "--force"], timeout=90)
        wait_until(lambda: not everything_of_the_grid(node), 10, "nothing", 0.2)
        assert node.run(f"cat {instances}/.kept/{id}/volumes/*/file").stdout == "precious\n"
        assert name in node.run(f"cat {instances}/.kept/{id}/about.json").stdout
        node.run(["kontenactl", "node", "leave", "--force", "--volumes"], timeout=90)
        assert node.run(f"ls -A {instances}").stdout == ""
        grid.ctl("node", "remove", "--force", "node6")


@pytest.mark.parametrize("service", [10], indirect=True)
def test_a_daemon_that_is_killed_meanwhile_goes_on(node, service):
    seen = "grep -q -m1 'This machine leaves its grid, 1 instance ends.' < <(journalctl --boot --follow --no-tail --output=cat -u kontena-noded)"
    killer = node.popen(f"{seen}; systemctl kill --signal=KILL kontena-noded")
    leaving = node.popen(["kontenactl", "node", "leave", "--force"])
    killer.wait(20)
    leaving.communicate(timeout=60)
    assert leaving.returncode != 0, "it could not know"
    node.wait_journal("Going on to leave the grid", timeout=20)
    node.wait_journal("nothing of it is left here but named volumes", timeout=40)
    wait_until(lambda: not everything_of_the_grid(node), 10, "nothing", 0.2)


def test_it_can_join_again(grid, node, service):
    node.run(["kontenactl", "node", "leave", "--force"], timeout=90)
    grid.ctl("node", "remove", "--force", "node6")
    node.run(["kontenactl", "node", "join", "https://master:9292", grid.token()], timeout=90)
    grid.wait_node("node6", "online")
    wait_until(lambda: [i["state"] for i in grid.instances(service)] == ["running"], 90, "the service", 0.5)


def test_nobody_but_root_can_make_it_leave_or_reload(node, service):
    for method in (("Leave", "bb", "true", "true"), ("Reload",)):
        call = ["busctl", "call", "io.kontena.Node1", "/io/kontena/Node1", "io.kontena.Node1", *method]
        refused = node.run(call, user="nobody", check=False)
        assert refused.returncode != 0 and "uthenti" in refused.stderr + refused.stdout
    state = ["busctl", "get-property", "io.kontena.Node1", "/io/kontena/Node1", "io.kontena.Node1", "ChannelState"]
    assert node.run(state, user="nobody").stdout.strip() == 's "ready"'
    assert node.run("systemctl is-active kontena-noded").stdout.strip() == "active"
