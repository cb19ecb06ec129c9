# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was secret in a request or an answer is not left behind in the memory of the master, where a core dump, or swap, would have it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from restlib import RestMaster, wait_for


@pytest.fixture
def master(tmp_path: Path) -> Iterator[RestMaster]:
    with RestMaster(tmp_path) as m:
        yield m


def find(pid: int, what: dict[str, str]) -> list[str]:
    """Which of them are in memory that can be written."""
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not m:
                continue
            try:
                memory.seek(int(m[1], 16))
                data = memory.read(int(m[2], 16) - int(m[1], 16))
            except OSError:  # gone meanwhile, or of a device
                continue
            found |= {name for name, value in what.items() if value.encode() in data}
    return sorted(found)


def test_secrets_are_erased(master: RestMaster) -> None:
    assert master.daemon
    try:
        assert find(master.daemon.pid, {"here": f"STATE_DIRECTORY={master.directory}"}) == ["here"]
    except PermissionError:
        pytest.skip("The memory of another process cannot be read here.")

    secrets = {"session": master.login(), "value": "a-value-of-the-vault-8Jw2", "value later": "what-it-is-later-5Kd9"}
    token = secrets["session"]
    assert master.post("/v1/grids", {"name": "memory"}, token=token).status == 201
    assert master.post("/v1/grids/memory/secrets", {"name": "S", "value": secrets["value"]}, token=token).status == 201
    assert master.get("/v1/secrets/memory/S", token=token).json["value"] == secrets["value"]
    assert master.put("/v1/secrets/memory/S", {"name": "S", "value": secrets["value later"]}, token=token).status == 200
    assert master.patch("/v1/config", {"oauth2.client_secret": "of-a-provider-3Qm7"}, token=token).status == 201
    secrets["config"] = "of-a-provider-3Qm7"
    a = master.post("/oauth2/authorize", {"response_type": "token", "scope": "user", "expires_in": 7200}, token=token).json
    b = master.post("/oauth2/token", {"grant_type": "refresh_token", "refresh_token": a["refresh_token"]}).json
    secrets |= {"token": a["access_token"], "refresh token": a["refresh_token"], "token 2": b["access_token"], "refresh token 2": b["refresh_token"]}
    c = master.post("/oauth2/authorize", {"response_type": "code", "scope": "user"}, token=token).json
    secrets["code"] = c["code"]
    assert master.post("/oauth2/token", {"grant_type": "authorization_code", "code": c["code"]}).status == 201

    # Asked on: what libraries keep of the last connection is that of this one then.
    wait_for(lambda: master.get("/v1/ping").status == 200 and not find(master.daemon.pid, secrets), lambda: f"still there: {find(master.daemon.pid, secrets)}")
