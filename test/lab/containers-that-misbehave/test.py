# SPDX-License-Identifier: LGPL-2.1-or-later
"""What containers, other programs of the machine and registries do that they should not: told in words, and what runs runs on."""

import json
import subprocess
import textwrap

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

LISTEN = "exec httpd -f -p 8080"


def messages(grid, service, kind):
    return [e["message"] for e in grid.json("event", "list") if e["service"] == service and e["type"] == kind]


def test_one_that_ignores_its_stop_signal_is_killed_and_told(grid):
    """By a deploy that replaces it: the new one serves, the old one ends after its grace."""
    name = unique("deaf")
    line = "trap '' TERM; echo ready; while :; do sleep 1; done"
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--stop-timeout=2", "--drain=0", "--", "sh", "-c", line):
        old = grid.instance(name)
        host, pid = grid.host_of(old), grid.main_pid(old)
        grid.ctl("service", "update", "--env=NEW=1", name)
        assert grid.deploy(name).returncode == 0
        wait_until(lambda: host.run(f"test -e /proc/{pid}", check=False).returncode != 0, 10, "the end of the old one", 0.1)
        wait_until(lambda: messages(grid, name, "service:stop_instance"), 10, "the event", 0.2)
        assert "did not heed its stop signal" in messages(grid, name, "service:stop_instance")[0]
        assert grid.instance(name)["state"] == "running"
        wait_until(lambda: len(grid.units(name)) == 1, 10, "one unit", 0.1)


def test_one_that_heeds_it_is_not_told(grid):
    name = unique("hearing")
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--stop-timeout=60", "--", "sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"):
        grid.lab.host("node1").wait_journal("^ready$", f"KONTENA_SERVICE={name}")
        grid.ctl("service", "stop", name)
        grid.wait_instances(name, ["stopped"])
        assert not messages(grid, name, "service:stop_instance")


def test_a_port_that_another_program_holds(grid):
    """The program goes on to be heard, the deploy names the port, and what ran before runs on; when the port is free the deploy works."""
    host, name = grid.lab.host("node1"), unique("late")
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--drain=0", "--", "sleep", "infinity"):
        before = grid.main_pid(grid.instance(name))
        program = host.popen(["python3", "-m", "http.server", "8079"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: grid.master.run(f"curl -s -o /dev/null http://{host.address}:8079/", check=False).returncode == 0,
                       20, "the other program", 0.1)  # fmt: skip
            grid.ctl("service", "update", "--ports=8079:8080", name)
            failed = grid.deploy(name, check=False)
            said = failed.stdout + failed.stderr
            assert failed.returncode != 0 and "8079/tcp" in said and "in use on this machine" in said, said
            assert grid.main_pid(grid.instance(name)) == before
            assert grid.master.run(f"curl -s -o /dev/null http://{host.address}:8079/", check=False).returncode == 0
        finally:
            host.run("fuser -k 8079/tcp || pkill -f 'http.server 8079'", check=False)
            program.wait(timeout=20)
        grid.ctl("service", "update", "--ports=8079:8080", name)
        assert grid.deploy(name).returncode == 0
        assert grid.main_pid(grid.instance(name)) != before


# On the registry: an image like another, but for a label, so that no machine has it; later its manifest goes.
MAKE = textwrap.dedent("""\
    import hashlib, json, ssl, sys, urllib.request
    context = ssl._create_unverified_context()
    base, name = "https://registry:5000/v2", sys.argv[1]
    kind = "application/vnd.oci.image.manifest.v1+json"
    def ask(path, method="GET", data=None, **headers):
        url = path if path.startswith("https:") else base + path
        request = urllib.request.Request(url, data=data, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
        return urllib.request.urlopen(request, context=context)
    def put(data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        where = ask(f"/{name}/blobs/uploads/", "POST", b"").headers["Location"]
        ask(where + ("&" if "?" in where else "?") + "digest=" + digest, "PUT", data, Content_Type="application/octet-stream")
        return digest
    if len(sys.argv) > 2:
        ask(f"/{name}/manifests/{sys.argv[2]}", "DELETE")
        sys.exit()
    manifest = json.load(ask("/busybox/manifests/1", Accept=kind))
    config = json.load(ask(f"/busybox/blobs/{manifest['config']['digest']}"))
    config["config"].setdefault("Labels", {})["only"] = name
    text = json.dumps(config).encode()
    manifest["config"] |= {"digest": put(text), "size": len(text)}
    for layer in manifest["layers"]:
        ask(f"/{name}/blobs/uploads/?mount={layer['digest']}&from=busybox", "POST", b"")
    print(ask(f"/{name}/manifests/1", "PUT", json.dumps(manifest).encode(), Content_Type=kind).headers["Docker-Content-Digest"])
""")


def test_an_image_that_goes_between_two_instances(grid):
    """One digest for all; the second instance cannot have it: named, and nothing that runs is touched."""
    name, image = unique("halfway"), unique("passing")
    digest = grid.master.run(["python3", "-c", MAKE, image]).stdout.strip()
    with grid.service(name, "busybox:1", "--instances=2", "--affinity=node!=node3", "--on-failure=pause", "--wait-for-port=8080", "--drain=0",
                      "--", "sh", "-c", LISTEN):  # fmt: skip
        before = {i["number"]: grid.main_pid(i) for i in grid.instances(name)}
        # The first one is up when it is told to: until then the second is not begun.
        units = set(grid.units(name))
        grid.ctl("service", "update", f"--image=registry:5000/{image}:1", f"--cmd=sh -c 'until [ -e /tmp/go ]; do sleep 0.1; done; {LISTEN}'", name)
        deploy = grid.popen("service", "deploy", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_until(lambda: len(grid.units(name)) == 3, 20, "the start of the first", 0.1)
        grid.master.run(["python3", "-c", MAKE, image, digest])
        ((node, unit),) = set(grid.units(name)) - units
        new = {"node": node, "unit": unit}
        wait_until(lambda: grid.main_pid(new), 20, "the first", 0.1)
        grid.inside(new, "touch /tmp/go")
        said = deploy.communicate(timeout=60)[0]
        assert deploy.returncode != 0 and image in said and digest in said, said
        now = {i["number"]: i for i in grid.instances(name)}
        changed = [n for n in now if grid.main_pid(now[n]) != before[n]]
        assert len(changed) == 1, "one has the new image, the other runs on as it was"
        assert all(i["state"] == "running" for i in now.values()), json.dumps(now)
        assert now[changed[0]]["image_digest"] == digest


@pytest.mark.parametrize("status", [3])
def test_one_that_ends_at_once_is_shown_with_its_last_words(grid, status):
    name = unique("brief")
    grid.ctl("service", "create", "--affinity=node==node1", name, "registry:5000/busybox:1", "--", "sh", "-c", f"echo famous-last; exit {status}")
    try:
        failed = grid.deploy(name, check=False)
        said = failed.stdout + failed.stderr
        assert failed.returncode != 0 and f"exited with status {status}" in said and "famous-last" in said, said
    finally:
        grid.remove(name)
