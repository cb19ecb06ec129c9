# SPDX-License-Identifier: LGPL-2.1-or-later
"""An instance is up when it says so: by the answers to its health check or by READY=1. One that turns bad leaves the names, is
restarted and comes back; a new version that is never well is taken back while the old one serves on. Nothing of it minds that the
node's daemon is killed."""

from kontenalab.grid import unique
from kontenalab.process import wait_until

HTTPD = "exec httpd -f -p 8080 -h /www"
SERVE = f"mkdir -p /www; touch /www/up; {HTTPD}"
CHECK = ("--health-check-protocol=http", "--health-check-port=8080", "--health-check-uri=/up", "--health-check-timeout=1",
         "--health-check-interval=1")  # fmt: skip

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


def test_unhealthy_leaves_the_names_is_restarted_and_comes_back(grid):
    name = unique("well")
    with grid.service(name, "busybox:1", "--instances=2", *CHECK, "--health-check-initial-delay=30", "--", "sh", "-c", SERVE):
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
        wait_until(lambda: grid.instance(name, bad["number"])["restarts"] == 1, 15, "its restart", 0.1)
        wait_until(lambda: bad["address"] in resolve(grid, good, name), 20, "its name again", 0.1)
        back = grid.instance(name, bad["number"])
        assert back["started_at"] > bad["started_at"]
        assert (back["state"], back["health"], back["error"]) == ("running", "healthy", "")
        assert grid.instance(name, good["number"])["restarts"] == 0
        told = f"unhealthy: GET http://{bad['address']}:8080/up answered 404. It is restarted in 1 s."
        assert any(told in m for m in events(grid, name)), events(grid, name)

        # Who does not answer at all is unhealthy, too, and can be restarted as it is.
        grid.host_of(good).run(["systemctl", "freeze", good["unit"]])
        wait_until(lambda: grid.instance(name, good["number"])["restarts"] == 1, 20, "its restart", 0.1)
        grid.wait_instances(name, ["running"] * 2, timeout=20)
        assert any("/up: time-out after 1 s" in m for m in events(grid, name)), events(grid, name)


def test_slow_start_and_a_version_that_is_never_well(grid):
    name = unique("slow")
    slow = f"mkdir -p /www; sleep 1.5; {SERVE}"
    with grid.service(name, "busybox:1", *CHECK, "--health-check-initial-delay=30", "--", "sh", "-c", slow):
        serving = grid.instance(name)
        assert serving["restarts"] == 0 and serving["health"] == "healthy"
        revision = grid.service_json(name)["revision"]

        grid.ctl("service", "update", *CHECK, "--health-check-initial-delay=1", name, "--", "sh", "-c", f"mkdir -p /www; {HTTPD}")
        failed = grid.deploy(name, check=False)
        assert failed.returncode != 0
        assert "unhealthy" in failed.stderr and "/up answered 404" in failed.stderr, failed.stderr
        assert f"Going back to revision {revision}" in failed.stderr, failed.stderr
        wait_until(lambda: grid.json("deploy", "list", name)[0]["state"] == "success", 30, "the way back", 0.2)
        assert grid.instance(name)["id"] == serving["id"]
        assert grid.instance(name)["started_at"] == serving["started_at"]
        assert resolve(grid, serving, name).count(serving["address"]) >= 1


def test_tcp_and_a_crash_loop_that_is_seen(grid):
    name = unique("tcp")
    script = "[ ! -e /lost ] || { echo my data is lost; exit 4; }; httpd -p 8080; exec sleep infinity"
    tcp = ("--health-check-protocol=tcp", "--health-check-port=8080", "--health-check-interval=1", "--health-check-timeout=1")
    with grid.service(name, "busybox:1", *tcp, "--", "sh", "-c", script):
        instance = grid.instance(name)
        assert instance["health"] == "healthy"
        # The server goes, its container stays: nothing but the check can tell. After the restart it ends each time.
        grid.inside(instance, "touch /lost; killall httpd")
        wait_until(lambda: any("8080: Connection refused" in m for m in events(grid, name)), 10, "what the check saw", 0.1)
        wait_until(lambda: grid.instance(name)["restarts"] >= 2, 20, "restarts", 0.2)
        status = grid.ctl("status", check=False)
        assert status.returncode == 3
        line = next(li for li in status.stdout.splitlines() if f"'{name}'" in li)
        assert "restarted" in line and "exited with status 4" in line, status.stdout


def test_ready_is_waited_for(grid):
    name = unique("ready")
    script = (
        "systemd-notify JUNK=1 FDSTORE=1 MAINPID=1; systemd-notify STATUS='warming up';"
        "while [ ! -e /tmp/go ]; do sleep 0.1; done; systemd-notify --ready; exec sleep infinity"
    )
    grid.ctl("service", "create", "--notify", "--user=app", "--stop-timeout=1", *NODE_USR, name, "registry:5000/busybox:1", "--", "sh", "-c", script)  # fmt: skip
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
    held = host.run("systemctl show -P NFileDescriptorStore kontena-noded").stdout.strip()
    assert held == "0", held
