# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands about people and settings: what they ask of the master, and that what is secret stands on no command line."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from test_kontenactl import ANSWERS, Bus, bus  # noqa: E402, F401

USER = {"id": "u1", "email": "anna@example.org", "name": "Anna", "roles": ["grid_admin"], "grids": ["demo"], "uids": ["1000"], "invited": False, "created_at": 5}
TOKEN = {"id": "t1", "kind": "bearer", "scopes": ["user"], "access_token": "f00d", "access_token_last_four": "f00d", "expires_at": 0, "created_at": 5,
         "user": {"email": "anna@example.org"}}  # fmt: skip
MORE = {
    **ANSWERS,
    "ListUsers": ["aa{sv}", [USER]], "GetUser": ["a{sv}", USER], "MapUser": ["a{sv}", USER], "UnmapUser": ["a{sv}", USER], "ListGridUsers": ["aa{sv}", [USER]],
    "AddGridUser": ["aa{sv}", [USER]], "InviteUser": ["a{sv}", {"email": "anna@example.org", "invite_code": "c0de", "invite_expires_at": 5}],
    "ListTokens": ["aa{sv}", [{**TOKEN, "access_token": ""}]], "CreateToken": ["a{sv}", TOKEN],
    "ListConfig": ["a{sv}", {"oauth2.client_secret": "hush", "server.name": "m1"}], "GetConfig": ["s", "m1"],
}  # fmt: skip


def test_users(bus: Bus):  # noqa: F811
    bus.master(answers=MORE)
    assert "anna@example.org" in bus.ctl("user", "list").stdout
    assert "grid_admin" in bus.ctl("user", "show").stdout and bus.calls("GetUser") == [[""]]
    assert "c0de" in bus.ctl("user", "invite", "anna@example.org", "--role=grid_admin", "--role=user_admin").stdout
    assert bus.calls("InviteUser") == [["anna@example.org", "", "", ["grid_admin", "user_admin"]]]
    assert bus.ctl("user", "map", "anna@example.org", "root").returncode == 0
    assert bus.ctl("user", "map", "--remove", "anna@example.org", "77").returncode == 0
    assert bus.calls("MapUser") == [["anna@example.org", 0]] and bus.calls("UnmapUser") == [["anna@example.org", 77]]
    assert bus.ctl("user", "map", "anna@example.org", "no-such-user-here").returncode == 2
    assert bus.ctl("user", "remove", "anna@example.org", input="y\n").returncode == 2  # nobody to ask
    assert bus.calls("RemoveUser") == []
    assert bus.ctl("grid", "add-user", "anna@example.org").returncode == 0
    assert bus.calls("AddGridUser") == [["demo", "anna@example.org"]]


def test_tokens(bus: Bus):  # noqa: F811
    bus.master(answers=MORE)
    result = bus.ctl("token", "create", "--scope=user,owner", "--expires-in=2h", "--description=ci", "--value")
    assert result.stdout == "f00d\n"
    assert bus.calls("CreateToken") == [[["user", "owner"], 7200, "ci", "", "bearer"]]
    assert bus.ctl("token", "create", "--expires-in=soon").returncode == 2
    shown = bus.ctl("token", "list").stdout
    assert "never" in shown and "…f00d" in shown


def test_secrets_stand_on_no_command_line(bus: Bus):  # noqa: F811
    bus.master(answers=MORE)
    refused = bus.ctl("config", "set", "oauth2.client_secret=hush")
    assert refused.returncode == 2 and "standard input" in refused.stderr and bus.calls("SetConfig") == []
    assert bus.ctl("config", "set", "server.name=m1", "oauth2.client_secret", input="hush\n").returncode == 0
    assert bus.calls("SetConfig") == [[{"server.name": "m1", "oauth2.client_secret": "hush"}, False]]
    assert bus.ctl("config", "set", "a_secret", "b_secret", input="x").returncode == 2  # which of them?


def test_settings_are_shown_and_moved(bus: Bus):  # noqa: F811
    bus.master(answers=MORE)
    assert "hush" not in bus.ctl("config", "list").stdout
    assert "hush" in bus.ctl("config", "list", "--secrets").stdout
    exported = bus.ctl("config", "export", "--json=short").stdout
    assert json.loads(exported) == {"oauth2.client_secret": "hush", "server.name": "m1"}
    assert bus.ctl("config", "import", "--replace", input=exported).returncode == 2  # without --force nobody has agreed
    assert bus.ctl("config", "import", "--replace", "--force", "-", input=exported).returncode == 0
    assert bus.ctl("config", "import", "-", input='{"server.name": null}').returncode == 0
    assert bus.calls("SetConfig") == [[json.loads(exported), True], [{"server.name": None}, False]]
    assert bus.ctl("config", "import", "-", input="[1]").returncode == 2
