# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who asked for what is in the audit, refusals too; what another program does to the database is said by `audit verify`."""

import json
import subprocess

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

DATABASE = "/var/lib/kontena/master/kontena.db"


@pytest.fixture(scope="module")
def mallory(grid):
    grid.master.run("id mallory >/dev/null 2>&1 || useradd -m mallory")
    return "mallory"


@pytest.fixture(scope="module")
def service(grid):
    name = unique("audited")
    grid.ctl("service", "create", "--env=PASSWORD=topsecret", name, "registry:5000/busybox:1", "--", "sleep", "1000")
    yield name
    grid.remove(name)


def rows(grid, *options):
    return grid.json("audit", "list", *options)


def verify(grid, *options):
    return json.loads(grid.ctl("--json=short", "audit", "verify", *options, check=False).stdout)


def test_what_was_done_and_what_was_refused_is_there(grid, service, mallory):
    cursor = grid.master.cursor()
    assert grid.ctl("service", "remove", "--force", service, user=mallory, check=False).returncode != 0
    made = [r for r in rows(grid, "--operation=service.create") if r["parameters"]["name"] == service][0]
    assert (made["uid"], made["grid"], made["status"], made["caller"]) == (0, grid.name, "success", "dbus")
    assert made["duration"] > 0
    assert "topsecret" not in json.dumps(made) and "PASSWORD" in json.dumps(made)

    refused = rows(grid, "--refused", f"--user={mallory}", "--operation=service")[-1]
    assert refused["operation"] == "service.remove" and refused["parameters"]["service"] == service
    assert refused["error"] and refused["status"] == "denied"
    denied = lambda: grid.master.journal("KONTENA_AUDIT=1", "KONTENA_STATUS=denied", since=cursor)
    (entry,) = wait_until(denied, 10, "the entry", 0.1)
    assert entry["KONTENA_OPERATION"] == "service.remove" and entry["KONTENA_CALLER_UID"] == str(refused["uid"])
    assert entry["KONTENA_AUDIT_ANCHOR"].split(":")[1] == str(refused["id"])
    assert f"uid {refused['uid']}" in entry["MESSAGE"]


def test_the_audit_is_not_for_everybody(grid, mallory):
    assert grid.ctl("audit", "list", user=mallory, check=False).returncode != 0
    assert grid.ctl("audit", "verify", user=mallory, check=False).returncode != 0
    assert {r["operation"] for r in rows(grid, "--grid=", "--refused", f"--user={mallory}")} >= {"audit.list", "audit.verify"}


def test_the_login_session_is_named(grid):
    grid.master.run(
        "systemd-run --quiet --wait --pipe -p PAMName=login -p User=root"
        f" kontenactl --grid={grid.name} node label node2 audited=yes"
    )
    row = rows(grid, "--operation=node.update")[-1]
    grid.ctl("node", "label", "node2", "audited-")
    assert row["session"] and row["unit"] == f"session-{row['session']}.scope", row


def test_follow_goes_on_over_a_restart(grid):
    follower = grid.popen("--json=short", "audit", "list", "--follow", "--lines=1", "--operation=node", stdout=subprocess.PIPE)
    try:
        assert json.loads(follower.stdout.readline())["operation"].startswith("node.")
        grid.ctl("node", "label", "node1", "followed=yes")
        assert "followed=yes" in follower.stdout.readline().decode()
        grid.master.run("systemctl restart kontenad")
        grid.ctl("node", "label", "node1", "followed-")
        assert json.loads(follower.stdout.readline())["operation"] == "node.update"
    finally:
        follower.kill()
        follower.wait()


def test_changes_by_others_are_seen(grid):
    whole = verify(grid, "--no-journal")
    assert whole["ok"], whole
    # An earlier run in these hosts has put back an old database, which the journal does not forget.
    known = verify(grid)
    assert known["anchors"] > 0
    last = known["last"]
    grid.master.run(f"systemctl stop kontenad; cp -a {DATABASE} /root/audit.db; test ! -s {DATABASE}-wal")

    def change(sql):
        grid.master.run(f"systemctl stop kontenad; rm -f {DATABASE}-*; cat /root/audit.db > {DATABASE}")
        program = f"import sqlite3; d = sqlite3.connect('{DATABASE}'); d.executescript(\"{sql}\"); d.close()"
        grid.master.run(["python3", "-c", program])
        grid.master.run(f"chown kontena: {DATABASE}*; systemctl start kontenad")
        return verify(grid, "--no-journal")

    try:
        changed = change(f"UPDATE audit SET record = record || ' ' WHERE id = {last - 3}")
        assert [(b["kind"], b["id"]) for b in changed["breaks"]] == [("changed", last - 3)], changed
        said = grid.ctl("audit", "verify", check=False)
        assert said.returncode == 1 and f"Row {last - 3} was changed" in said.stdout
        removed = change(f"DELETE FROM audit WHERE id IN ({last - 3}, {last - 2})")
        assert [(b["kind"], b["id"]) for b in removed["breaks"]] == [("removed", last - 1)], removed
        cut = change(f"DELETE FROM audit WHERE id > {last - 2}")
        assert ("cut", last - 2) in [(b["kind"], b["id"]) for b in cut["breaks"]], cut

        # All of it, with the marks: whole in itself, but the journal knows better.
        gone = change("DELETE FROM audit; DELETE FROM key_values WHERE key LIKE 'audit-%'; DELETE FROM sqlite_sequence")
        assert gone["ok"], gone
        assert verify(grid)["broken"] > known["broken"]
    finally:
        # The journal has anchors now of rows that this chain does not have.
        grid.master.run(f"systemctl stop kontenad; rm -f {DATABASE}-*; cat /root/audit.db > {DATABASE}")
        grid.master.run("systemctl start kontenad; rm /root/audit.db")
    assert verify(grid, "--no-journal", f"--anchor={known['head']}")["ok"]
    for name in ("node1", "node2", "node3"):
        grid.wait_node(name, "online")
