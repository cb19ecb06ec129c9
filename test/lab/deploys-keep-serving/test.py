# SPDX-License-Identifier: LGPL-2.1-or-later
"""A service that is asked all the time, through a published port and by its name from another container, while it is deployed
again and again: no request fails. A version that does not start is taken back by itself, and the command says so."""

import threading
import time

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

DEPLOYS = 10
SERVE = "mkdir -p /www; echo $VERSION > /www/index.html; exec httpd -f -p 8080 -h /www"

# Asks by name, a fresh look-up for each request, until told to stop; then says how many there were and how many failed. (The
# static busybox resolves names in nslookup alone.)
ASK = """
n=0; bad=0
while [ ! -e /tmp/stop ]; do
        address=$(nslookup -type=a NAME.DOMAIN | sed -n 's/^Address: \\([0-9.]*\\)$/\\1/p' | head -n 1)
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 30 "$address" 8080 | grep -q '200 OK' || bad=$((bad + 1))
        n=$((n + 1))
done
echo "$n requests, $bad failed" > /tmp/result
exec sleep infinity
"""


class Requests(threading.Thread):
    """Asks through the published port of one node until stopped; each request is a connection of its own."""

    def __init__(self, grid, url):
        super().__init__(daemon=True)
        self.grid, self.url = grid, url
        self.stopping = threading.Event()
        self.result = ""

    def run(self):
        script = (
            "import sys, urllib.request, os\n"
            "n = bad = 0\n"
            "seen = []\n"
            "while not os.path.exists('/tmp/stop-asking'):\n"
            "    try:\n"
            "        seen.append(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode().strip())\n"
            "    except Exception as e:\n"
            "        bad += 1; print(repr(e), file=sys.stderr)\n"
            "    n += 1\n"
            "print(n, bad, *sorted(set(seen)))\n"
        )
        self.result = self.grid.master.run(["python3", "-c", script, self.url], timeout=600)

    def stop(self):
        self.grid.master.run("touch /tmp/stop-asking")
        self.join(300)
        self.grid.master.run("rm -f /tmp/stop-asking")
        n, bad, *versions = self.result.stdout.split()
        return int(n), int(bad), set(versions)


def deploy_version(grid, name, version):
    grid.ctl("service", "update", f"--env=VERSION={version}", name)
    return grid.deploy(name, timeout=120)


@pytest.fixture(scope="module")
def web(grid):
    name = unique("web")
    grid.create(name, "busybox:1", "--instances=2", "--affinity=node!=node3", "--ports=18080:8080", "--env=VERSION=v0",
                "--deploy-wait-for-port=8080", "--drain=2", "--", "sh", "-c", SERVE)  # fmt: skip
    yield name
    grid.remove(name)


def test_no_request_fails_in_ten_rolling_deploys(grid, web):
    client = unique("client")
    ask = ASK.replace("NAME", web).replace("DOMAIN", f"{grid.name}.kontena.local")
    with grid.service(client, "busybox:1", "--affinity=node==node3", "--", "sh", "-c", ask):
        node = grid.lab.host(grid.instance(web)["node"])
        requests = Requests(grid, f"http://{node.address}:18080/")
        requests.start()
        ids = {i["id"] for i in grid.instances(web)}
        begun = time.monotonic()
        for number in range(1, DEPLOYS + 1):
            deploy_version(grid, web, f"v{number}")
        seconds = time.monotonic() - begun
        total, failed, versions = requests.stop()
        asking = grid.instance(client)
        grid.inside(asking, "touch /tmp/stop")
        wait_until(lambda: grid.inside(asking, "cat /tmp/result", check=False).stdout, 30, "the client's count", 0.2)
        by_name = grid.inside(asking, "cat /tmp/result").stdout.strip()

        print(f"{DEPLOYS} deploys in {seconds:.1f} s: {total} requests through the port, {failed} failed; by name {by_name}")
        assert failed == 0, requests.result.stderr
        assert by_name.endswith(" 0 failed"), by_name
        assert int(by_name.split()[0]) > DEPLOYS and total > DEPLOYS
        assert {f"v{DEPLOYS}", "v1"} <= versions
        assert not ids & {i["id"] for i in grid.instances(web)}, "not every instance was replaced"
    wait_until(lambda: len(grid.units(web)) == 2, 30, "what was replaced to be gone", 0.3)


def test_a_version_that_does_not_start_is_taken_back(grid, web):
    before = {i["number"]: (i["id"], i["started_at"]) for i in grid.instances(web)}
    revision = grid.service_json(web)["revision"]
    requests = Requests(grid, f"http://{grid.lab.host(grid.instance(web)['node']).address}:18080/")
    requests.start()
    grid.ctl("service", "update", web, "--", "sh", "-c", "echo cannot find my configuration; exit 3")
    failed = grid.deploy(web, check=False, timeout=120)
    assert failed.returncode != 0
    assert "cannot find my configuration" in failed.stderr, failed.stderr
    assert f"Going back to revision {revision}" in failed.stderr, failed.stderr

    wait_until(lambda: grid.json("deploy", "list", web)[0]["state"] == "success", 60, "the way back", 0.2)
    total, bad, _ = requests.stop()
    assert total > 0 and bad == 0, requests.result.stderr
    latest = grid.json("deploy", "list", web)[0]
    assert latest["kind"] == "rollback"
    assert grid.service_json(web)["revision"] == revision
    # What served all the time was not touched.
    assert {i["number"]: (i["id"], i["started_at"]) for i in grid.instances(web)} == before
    grid.wait_instances(web, ["running"] * 2)


def test_history_diff_and_rollback_by_hand(grid, web):
    now = grid.service_json(web)["revision"]
    history = grid.json("service", "history", web)
    assert history[0]["revision"] > now  # the one that was taken back is remembered
    current = next(r for r in history if r["current"])
    assert current["revision"] == now and current["good"]

    first = min(r["revision"] for r in history if r["good"])
    shown = grid.ctl("service", "diff", web, str(first), str(now)).stdout
    assert "- env: VERSION=v0" in shown and f"+ env: VERSION=v{DEPLOYS}" in shown, shown
    grid.ctl("service", "rollback", web, str(first), timeout=120)
    url = f"http://{grid.lab.host(grid.instance(web)['node']).address}:18080/"
    wait_until(lambda: grid.master.run(["curl", "-s", url], check=False).stdout.strip() == "v0", 20, "version 0", 0.2)
    assert grid.service_json(web)["revision"] == first
    refused = grid.ctl("service", "rollback", web, str(first), check=False)
    assert refused.returncode != 0 and "has now" in refused.stderr
    refused = grid.ctl("service", "rollback", web, "4000", check=False)
    assert refused.returncode != 0 and "There is no revision 4000" in refused.stderr


def test_all_instances_run_one_image(grid, web):
    digests = {i["image_digest"] for i in grid.instances(web)}
    assert len(digests) == 1
    deploy = grid.json("deploy", "list", web)[0]
    assert deploy["image_digest"].startswith("sha256:")
