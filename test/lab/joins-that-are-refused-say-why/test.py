# SPDX-License-Identifier: LGPL-2.1-or-later
"""Wrong token, wrong authority, unknown grid, wrong clock: each a different sentence on the node, and an event on the master."""

import pytest

from kontenalab.process import wait_until


@pytest.fixture(scope="module")
def stranger(lab):
    host = lab.boot(["node6"])[0]
    yield host
    host.reset()


def refused(grid, stranger, token):
    stranger.run("systemctl stop kontena-noded; rm -rf /var/lib/kontena/node", check=False)
    result = grid.join(stranger, token, check=False)
    assert result.returncode != 0
    return result.stdout + result.stderr


def test_wrong_token(grid, stranger):
    token = grid.token()
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    said = refused(grid, stranger, wrong)
    assert "token" in said.lower(), said
    assert "token" in stranger.run("systemctl status kontena-noded", check=False).stdout.lower()
    wait_until(lambda: any("token" in e["message"].lower() for e in grid.json("event", "list")), 10, "the event", 0.2)


def test_wrong_authority(grid, stranger):
    _, fingerprint, secret = grid.token().split("-")
    said = refused(grid, stranger, f"KT1-{'0' * len(fingerprint)}-{secret}")
    assert "fingerprint" in said.lower() or "authority" in said.lower(), said


def test_unknown_grid(grid, stranger):
    _, fingerprint, secret = grid.token().split("-")
    said = refused(grid, stranger, f"KT1-{fingerprint}-{'a' * 8}{secret[8:]}")
    assert "grid" in said.lower(), said


def test_malformed_token(grid, stranger):
    assert "token" in refused(grid, stranger, "KT1-hello").lower()
