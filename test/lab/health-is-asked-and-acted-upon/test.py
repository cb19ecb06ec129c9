# SPDX-License-Identifier: LGPL-2.1-or-later
"""An instance is up when it says so: by the answers to its health check or by READY=1. One that turns bad leaves the names, is
restarted and comes back; a new version that is never well is taken back while the old one serves on. Nothing of it minds that the
node's daemon is killed."""

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

IMAGE = "registry:5000/busybox:1"
HTTPD = "exec httpd -f -p 8080 -h /www"
SERVE = f"mkdir -p /www; touch /www/up; {HTTPD}"
HTTP = ("--health-check-protocol=http", "--health-check-port=8080", "--health-check-uri=/up")

# A real client of the protocol: the node's own, with what it needs to run.
NODE_USR = ("--volume=/usr:/usr:ro", "--volume=/usr/lib:/lib:ro", "--volume=/usr/lib64:/lib64:ro")


def resolve(grid, client, name):
    return grid.inside(client, f"nslookup -type=a {name}.{grid.name}.kontena.local 2>/dev/null", check=False).stdout


def events(grid, name):
    return [e["message"] for e in grid.json("event", "list") if e["service"] == name]


def kill_daemon(grid, instance):
    host = grid.host_of(instance)
    before = host.run("systemctl show -P MainPID kontena-noded").stdout
    host.run("systemctl kill --signal=KILL kontena-noded")
    wait_until(lambda: host.run("systemctl show -P MainPID kontena-noded").stdout not in (before, "0\n"), 20, "a new daemon", 0.1)
    grid.wait_node(instance["node"], "online")


@pytest.fixture(scope="module")
def services(grid):
    """Each with a check of its own, deployed at the same time."""
    names = {kind: unique(kind) for kind in ("well", "slow", "tcp", "exec")}
    httpd = "[ ! -e /lost ] || { echo my data is lost; exit 4; }; httpd -p 8080; exec sleep infinity"
    check = "sh -c '[ ! -e /tmp/hang ] || sleep 60; echo \"$VERSION is lost\" >&2; [ -e /tmp/ok ]'"
    protocol, times = "--health-check-protocol", ("--health-check-interval=2", "--health-check-timeout=2", "--stop-timeout=1")
    create = ("service", "create", *times)
    grid.ctl(*create, *HTTP, "--health-check-initial-delay=30", "--instances=2", names["well"], IMAGE, "--", "sh", "-c", SERVE)
    grid.ctl(*create, *HTTP, "--health-check-initial-delay=30", names["slow"], IMAGE, "--", "sh", "-c", f"sleep 1.5; {SERVE}")
    grid.ctl(*create, f"{protocol}=tcp", "--health-check-port=8080", names["tcp"], IMAGE, "--", "sh", "-c", httpd)
    grid.ctl(*create, f"{protocol}=exec", f"--health-check-command={check}", "--user=app", names["exec"], IMAGE, "--",
             "sh", "-c", "touch /tmp/ok; exec sleep infinity")  # fmt: skip
    deploys = [grid.popen("service", "deploy", name) for name in names.values()]
    assert [p.wait(timeout=60) for p in deploys] == [0] * len(names)
    yield names
    grid.remove(*names.values())
    for host in grid.node_hosts():
        wait_until(lambda h=host: not h.run("systemctl list-units --all --plain --no-legend 'kontena-health-*'").stdout, 15, "the last check", 0.2)


def test_unhealthy_leaves_the_names_is_restarted_and_comes_back(grid, services):
    name = services["well"]
    bad, good = grid.instances(name)
    assert [i["health"] for i in (bad, good)] == ["healthy"] * 2
    both = resolve(grid, good, name)
    assert bad["address"] in both and good["address"] in both

    # A daemon that comes back asks anew, and touches neither the container nor its names.
    kill_daemon(grid, bad)
    assert bad["address"] in resolve(grid, good, name)
    wait_until(lambda: grid.instance(name, bad["number"])["health"] == "healthy", 10, "the first answer", 0.1)
    same = grid.instance(name, bad["number"])
    assert (same["started_at"], same["restarts"], same["state"]) == (bad["started_at"], 0, "running")

    # Without what is asked for; its start puts that back.
    grid.inside(bad, "rm /www/up")
    wait_until(lambda: bad["address"] not in resolve(grid, good, name), 15, "its name to go", 0.1)
    assert good["address"] in resolve(grid, good, name)
    # Who does not answer at all is unhealthy, too, and can be restarted as it is.
    grid.host_of(good).run(["systemctl", "freeze", good["unit"]])

    wait_until(lambda: [i["restarts"] for i in grid.instances(name)] == [1, 1], 30, "their restart", 0.1)
    back = grid.wait_instances(name, ["running"] * 2, timeout=20)
    assert all(i["started_at"] > bad["started_at"] for i in back)
    assert [(i["health"], i["error"]) for i in back] == [("healthy", "")] * 2
    wait_until(lambda: all(i["address"] in resolve(grid, back[0], name) for i in back), 5, "their names", 0.1)
    told = events(grid, name)
    assert any(f"unhealthy: GET http://{bad['address']}:8080/up answered 404. It is restarted in 1 s." in m for m in told), told
    assert any(f"GET http://{good['address']}:8080/up: time-out after 2 s" in m for m in told), told


def test_a_version_that_is_never_well_is_taken_back(grid, services):
    name = services["slow"]
    serving = grid.instance(name)
    assert serving["restarts"] == 0 and serving["health"] == "healthy"
    revision = grid.service_json(name)["revision"]

    worse = (*HTTP, "--health-check-interval=1", "--health-check-timeout=1", "--health-check-initial-delay=1")
    grid.ctl("service", "update", *worse, name, "--", "sh", "-c", f"mkdir -p /www; {HTTPD}")
    failed = grid.deploy(name, check=False)
    assert failed.returncode != 0
    assert "unhealthy" in failed.stderr and "/up answered 404" in failed.stderr, failed.stderr
    assert f"Going back to revision {revision}" in failed.stderr, failed.stderr
    wait_until(lambda: grid.json("deploy", "list", name)[0]["state"] == "success", 30, "the way back", 0.2)
    assert grid.instance(name)["id"] == serving["id"]
    assert grid.instance(name)["started_at"] == serving["started_at"]
    assert serving["address"] in resolve(grid, serving, name)


def test_tcp_a_command_and_a_crash_loop_that_is_seen(grid, services):
    tcp, command = services["tcp"], services["exec"]
    server, asked = grid.instance(tcp), grid.instance(command)
    assert (server["health"], asked["health"]) == ("healthy", "healthy")

    # The server goes, its container stays: nothing but the check can tell. After the restart it ends each time.
    grid.inside(server, "touch /lost; killall httpd")
    grid.inside(asked, "rm /tmp/ok")
    wait_until(lambda: any("8080: Connection refused" in m for m in events(grid, tcp)), 10, "what the check saw", 0.1)
    wait_until(lambda: grid.instance(command)["restarts"] == 1, 15, "the restart", 0.1)
    assert any("exited with status 1: 1 is lost." in m for m in events(grid, command)), events(grid, command)
    grid.wait_instances(command, ["running"], timeout=15)
    # Nor does one that hangs stay; and a daemon that is killed meanwhile leaves nobody behind who is asked for ever.
    grid.inside(grid.instance(command), "touch /tmp/hang")
    wait_until(lambda: any("did not end within 2 s" in m for m in events(grid, command)), 15, "the hang", 0.1)
    grid.host_of(asked).run("systemctl kill --signal=KILL kontena-noded")

    wait_until(lambda: grid.instance(tcp)["restarts"] >= 2, 20, "restarts", 0.2)
    status = grid.ctl("status", check=False)
    assert status.returncode == 3
    line = next(li for li in status.stdout.splitlines() if f"'{tcp}'" in li)
    assert "restarted" in line and "exited with status 4" in line, status.stdout


def test_ready_is_waited_for(grid):
    name = unique("ready")
    script = (
        "systemd-notify JUNK=1 FDSTORE=1 MAINPID=1; systemd-notify STATUS='warming up';"
        "while [ ! -e /tmp/go ]; do sleep 0.1; done; systemd-notify --ready; exec sleep infinity"
    )
    grid.ctl("service", "create", "--notify", "--user=app", "--stop-timeout=1", *NODE_USR, name, IMAGE, "--", "sh", "-c", script)  # fmt: skip
    try:
        deploy = grid.popen("service", "deploy", name)
        said = "waiting for READY=1: warming up"
        wait_until(lambda: [i["progress"] for i in grid.instances(name)] == [said], 20, "what it says", 0.1)
        instance = grid.instance(name)
        assert instance["state"] == "starting"
        assert instance["address"] not in resolve(grid, instance, name)

        # Who is in the container without being of it does not speak for it.
        grid.inside(instance, "NOTIFY_SOCKET=/run/kontena/notify systemd-notify --ready", check=False)
        # A daemon that is killed waits on; what is said while none is there is heard by the next.
        host, cursor = grid.host_of(instance), grid.host_of(instance).cursor()
        kill_daemon(grid, instance)
        assert grid.instance(name)["state"] == "starting" and grid.instance(name)["progress"].startswith("waiting for READY=1")
        host.run("systemctl kill --signal=KILL kontena-noded")
        grid.inside(instance, "touch /tmp/go")
        assert deploy.wait(timeout=30) == 0
        running = grid.wait_instances(name, ["running"])[0]
        assert running["started_at"] == instance["started_at"] and running["restarts"] == 0
        assert instance["address"] in resolve(grid, running, name)
        grid.wait_node(instance["node"], "online")
        guessed = [e for e in host.journal(options=[f"--after-cursor={cursor}"]) if "taken as said" in str(e.get("MESSAGE"))]
        assert not guessed
    finally:
        grid.remove(name)
    held = "systemctl show -P NFileDescriptorStore kontena-noded"
    wait_until(lambda: host.run(held).stdout.strip() == "0", 10, "the last descriptor to be given back", 0.1)
