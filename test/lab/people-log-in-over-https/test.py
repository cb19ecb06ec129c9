# SPDX-License-Identifier: LGPL-2.1-or-later
"""kontenactl on a machine that is no node and has only the master's HTTPS port: a code, then every kind of command, then the end of it."""

import hashlib
import json
import subprocess

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

TALK = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done"


class Desk:
    """A user's shell on another machine, with a home of its own."""

    def __init__(self, host, home: str):
        self.host, self.home = host, home
        host.run(f"rm -rf {home}")

    def ctl(self, *args: str, check: bool = True, input: str | bytes | None = None, **env: str):
        return self.host.run(["kontenactl", "--no-pager", *args], check=check, input=input,
                             env={"XDG_CONFIG_HOME": self.home, "KONTENA_GRID": "lab", **env})

    def popen(self, *args: str, **kwargs):
        return self.host.popen(["env", f"XDG_CONFIG_HOME={self.home}", "KONTENA_GRID=lab", "kontenactl", "--no-pager", *args], **kwargs)


def bus(grid, method: str, *args: str):
    out = grid.master.run(["busctl", "--json=short", "call", "io.kontena.Master1", "/io/kontena/Master1", "io.kontena.Master1.Manager",
                           method, *args]).stdout
    return json.loads(out)["data"] if out.strip() else None


@pytest.fixture(scope="module")
def fingerprint(grid):
    return json.loads(grid.master.run("kontenactl --json=short master ca").stdout)["fingerprint"]


@pytest.fixture(scope="module")
def desk(grid, fingerprint):
    """Logged in as the first administrator. Nothing but HTTPS leads to the master."""
    host = grid.lab.host("registry")
    made = Desk(host, "/tmp/desk")
    address = host.run("getent ahostsv4 master").stdout.split()[0]
    host.run("nft -f -", input=f"""table inet desk {{ chain out {{ type filter hook output priority 0;
        ip daddr {address} tcp dport != 9292 reject with tcp reset
        ip daddr {address} meta l4proto != tcp drop
        }}
    }}
    """)
    assert host.run("echo > /dev/tcp/master/22", check=False).returncode != 0
    code = bus(grid, "CreateAdminCode")[0]
    made.ctl("login", f"--ca-fingerprint={fingerprint}", "--code=-", "https://master", input=code)
    # It was good for once.
    assert "code is wrong" in Desk(host, "/tmp/desk2").ctl(
        "login", f"--ca-fingerprint={fingerprint}", f"--code={code}", "https://master", check=False).stderr
    yield made
    host.run("nft delete table inet desk")


@pytest.fixture(scope="module")
def web(grid, desk):
    name = unique("far")
    desk.ctl("service", "create", "--instances=1", "--stop-timeout=1", name, "registry:5000/busybox:1", "--", "sh", "-c", TALK)
    desk.ctl("service", "deploy", name)
    yield name
    grid.remove(name)  # there is no login any more


def test_what_is_shown_is_what_the_master_shows(grid, desk):
    who = json.loads(desk.ctl("--json=short", "whoami").stdout)
    assert (who["context"], who["email"], who["roles"]) == ("master", "admin", ["master_admin"])
    assert desk.host.run("stat -c %a /tmp/desk/kontena /tmp/desk/kontena/contexts.json").stdout.split() == ["700", "600"]
    there = json.loads(desk.ctl("--json=short", "node", "list").stdout)
    assert [n["name"] for n in there] == [n["name"] for n in grid.json("node", "list")]
    assert "3 of 3 online" in desk.ctl("status", check=False).stdout


def test_commands_logs_and_events(grid, desk, web):
    result = desk.ctl("exec", f"{web}-1", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")

    data = bytes(range(256)) * 4096 * 8
    shown = desk.ctl("exec", "-i", f"{web}-1", "--", "sh", "-c", "tee /tmp/x | sha256sum", input=data).stdout
    assert shown.split()[0] == hashlib.sha256(data).hexdigest()
    assert desk.ctl("exec", f"{web}-1", "cat", "/tmp/x").raw == data

    follow = desk.popen("service", "logs", "-f", "-n", "1", web, stdout=subprocess.PIPE, text=True)
    events = desk.popen("--json=short", "events", "-f", "-n", "1", stdout=subprocess.PIPE, text=True)
    try:
        assert events.stdout.readline()  # now it follows
        lines = [follow.stdout.readline() for _ in range(4)]
        assert all("line" in l for l in lines), lines
        desk.ctl("service", "scale", web, "2")
        assert next(line for line in events.stdout if web in line)
    finally:
        for p in follow, events:
            p.terminate()
            p.wait(10)
    # Who went away is not served on.
    wait_until(lambda: "kontena-exec" not in grid.node_hosts()[0].run("systemctl list-units --plain --no-legend 'kontena-exec-*'").stdout,
               10, "no command left", 0.2)


def test_what_is_followed_outlives_the_master(grid, desk, web):
    """The connection ends with the master. Each line and each event is shown once all the same."""
    logs = desk.popen("service", "logs", "-f", "-n", "1", "--output=json", web, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    events = desk.popen("--json=short", "events", "-f", "-n", "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    numbers: dict[str, list[int]] = {}

    def read_until(enough) -> None:
        while not enough():
            line = json.loads(logs.stdout.readline())
            numbers.setdefault(line["instance"], []).append(int(line["message"].split()[1]))

    try:
        assert events.stdout.readline()
        read_until(lambda: any(len(seen) >= 5 for seen in numbers.values()))
        for kill in ("systemctl kill -s KILL kontenad", "systemctl restart kontenad"):
            before = {name: len(seen) for name, seen in numbers.items()}
            grid.master.run(kill)
            wait_until(lambda: grid.ctl("grid", "list", check=False).returncode == 0, 60, "the master is back", 0.5)
            read_until(lambda: all(len(numbers[name]) >= n + 30 for name, n in before.items()))
        for name, seen in numbers.items():
            assert seen == list(range(seen[0], seen[0] + len(seen))), f"{name}: {seen}"

        mark = unique("mark")
        desk.ctl("service", "create", mark, "registry:5000/busybox:1")
        grid.remove(mark)
        seen = []
        for line in events.stdout:
            seen.append(json.loads(line))
            if mark in line and "remove" in seen[-1]["type"]:
                break
        ids = [event["id"] for event in seen]
        assert ids == sorted(set(ids)), ids
    finally:
        desk.host.run("pkill -TERM -x kontenactl", check=False)  # what popen() returns is outside, and its end is not theirs
        for p in (logs, events):
            p.wait(60)
    for p in (logs, events):
        said = p.stderr.read()
        assert said.count("Trying to connect again") == said.count("The master is back") == 2, said


def test_another_authority_is_refused(desk, fingerprint):
    other = "0" * 64
    path = f"{desk.home}/kontena/contexts.json"
    before = desk.host.read(path)
    refused = desk.ctl("login", f"--ca-fingerprint={other}", "--code=x", "https://master", check=False)
    assert refused.returncode != 0 and fingerprint in refused.stderr and other in refused.stderr
    # As it looks when the master has another one than the context knows.
    desk.host.write(path, before.replace(fingerprint, other), 0o600)
    refused = desk.ctl("login", "--code=x", "https://master", check=False)
    assert refused.returncode != 0 and fingerprint in refused.stderr and other in refused.stderr and "--ca-fingerprint=" in refused.stderr
    desk.host.write(path, before, 0o600)
    # Nobody is there to be asked.
    unknown = Desk(desk.host, "/tmp/desk3").ctl("login", "--code=x", "https://master", check=False)
    assert unknown.returncode != 0 and fingerprint in unknown.stderr


def test_contexts_and_environment(desk, fingerprint):
    assert desk.ctl("--context=local", "grid", "list", check=False).returncode != 0
    assert "no context" in desk.ctl("--context=nowhere", "grid", "list", check=False).stderr
    token = json.loads(desk.host.read(f"{desk.home}/kontena/contexts.json"))["contexts"][0]["token"]
    bare = Desk(desk.host, "/tmp/desk4")
    env = {"KONTENA_URL": "https://master", "KONTENA_TOKEN": token, "KONTENA_CA_FINGERPRINT": fingerprint}
    assert "lab" in bare.ctl("grid", "list", **env).stdout
    wrong = bare.ctl("grid", "list", check=False, **{**env, "KONTENA_TOKEN": "f" * 64})
    assert wrong.returncode != 0 and "token" in wrong.stderr
    desk.host.run(f"chmod 644 {desk.home}/kontena/contexts.json")
    assert "chmod 600" in desk.ctl("grid", "list", check=False).stderr
    desk.host.run(f"chmod 600 {desk.home}/kontena/contexts.json")


def test_a_member_sees_one_grid_and_stays_logged_in(grid, desk, web, fingerprint):
    email, other, stays = f"{unique('bob')}@example.org", unique("other"), f"{unique('ann')}@example.org"
    for who, name in ((email, "Bob"), (stays, "Ann")):  # the last member of a grid cannot be taken away
        bus(grid, "InviteUser", "sssas", who, name, "", "0")
        bus(grid, "AddGridUser", "ss", grid.name, who)
    grid.ctl("grid", "create", other)
    try:
        code = bus(grid, "CreateToken", "asusss", "1", "user", "3600", "", email, "code")[0]["code"]["data"]
        bob = Desk(desk.host, "/tmp/desk-bob")
        bob.ctl("login", f"--ca-fingerprint={fingerprint}", "--name=mine", f"--code={code}", "https://master")
        assert [g["name"] for g in json.loads(bob.ctl("--json=short", "grid", "list").stdout)] == [grid.name]
        assert other in desk.ctl("grid", "list").stdout
        assert bob.ctl("grid", "show", other, check=False).returncode == 7
        assert bob.ctl("grid", "remove", "--force", grid.name, check=False).returncode == 7
        assert bob.ctl("exec", f"{web}-1", "echo", "hello").stdout == "hello\n"

        # The token's time is over: a new one is fetched, once, whoever is first.
        path = f"{bob.home}/kontena/contexts.json"
        before = json.loads(bob.host.read(path))
        context = before["contexts"][0]
        bob.host.write(path, json.dumps({**before, "contexts": [{**context, "expires_at": 1}]}), 0o600)
        both = [bob.popen("grid", "list", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
        for p in both:
            assert p.wait(20) == 0, p.stdout.read()
        after = json.loads(bob.host.read(path))["contexts"][0]
        assert after["token"] != context["token"] and after["expires_at"] > context["expires_at"] - 3600
        old = bob.ctl("grid", "list", check=False, KONTENA_TOKEN=context["token"])
        assert old.returncode == 7 and "login" in old.stderr

        # Who is no member any more sees nothing of it, at once; nor does what was begun go on.
        running = [bob.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                   for words in (("exec", f"{web}-1", "sh", "-c", "echo began; exec sleep 1000"), ("service", "logs", "-f", "-n", "1", web))]  # fmt: skip
        assert running[0].stdout.readline() == "began\n" and "line" in running[1].stdout.readline()
        bus(grid, "RemoveGridUser", "ss", grid.name, email)
        for p in running:
            try:
                _, said = p.communicate(timeout=30)
            finally:
                p.kill()
            assert "a member of the grid" in said, (p.args, said)
        assert [p.returncode for p in running] == [7, 7]
        assert "sleep 1000" not in grid.inside(grid.instance(web), "ps").stdout
        assert json.loads(bob.ctl("--json=short", "grid", "list").stdout) == []
    finally:
        grid.ctl("grid", "remove", "--force", other)
        bus(grid, "RemoveUser", "s", email)
        bus(grid, "RemoveUser", "s", stays)
    assert bob.ctl("grid", "list", check=False).returncode == 7


def test_zz_after_the_logout_nothing_works(grid, desk):
    """And what goes on, ends."""
    token = json.loads(desk.host.read(f"{desk.home}/kontena/contexts.json"))["contexts"][0]["token"]
    follow = desk.popen("events", "-f", "-n", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "9292" in desk.host.run("ss -tnp state established | grep kontena-bridge", check=False).stdout, 10, "a tunnel", 0.1)
        desk.ctl("logout")
        assert follow.wait(15) != 0
        assert "Invalid token" in follow.stderr.read()
    finally:
        follow.kill()
    refused = desk.ctl("grid", "list", check=False)
    assert refused.returncode == 7 and "Not logged in" in refused.stderr
    assert desk.ctl("grid", "list", check=False, KONTENA_TOKEN=token).returncode == 7
