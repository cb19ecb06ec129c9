# SPDX-License-Identifier: LGPL-2.1-or-later
"""People on a real master: the first administrator's code, a login at an external provider, uids that are users, and the end of it all."""

import json
import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kontenalab.process import wait_until

PROVIDER = Path(__file__).resolve().parents[3] / "src/kontenad/test-provider.py"
SECRET = "s3cret/+ &=%"
PORT = 9500
RULE = """
polkit.addRule(function(action, subject) {
        if (action.id == "io.kontena.master1.manage-vault" && action.lookup("user") == "anna@example.org" &&
            action.lookup("roles").split(",").indexOf("grid_admin") >= 0)
                return polkit.Result.YES;
});
"""
ASK = """
import json, ssl, sys, urllib.error, urllib.request
path, token, body = sys.stdin.read().split("\\0")
r = urllib.request.Request("https://127.0.0.1:9292" + path, data=body.encode() or None, headers={"Content-Type": "application/json", "Accept": "application/json"})
if token:
    r.add_header("Authorization", "Bearer " + token)
try:
    with urllib.request.urlopen(r, context=ssl._create_unverified_context()) as a:
        print(json.dumps([a.status, a.read().decode()]))
except urllib.error.HTTPError as e:
    print(json.dumps([e.code, e.read().decode()]))
"""


def http(grid, path, token="", body=""):
    status, text = json.loads(grid.master.run(["python3", "-c", ASK], input=f"{path}\0{token}\0{body}").stdout)
    return status, json.loads(text) if text.strip() else None


def bus(grid, method, *words, user=None):
    """Of the master; the answer, or None when it is refused."""
    r = grid.master.run(
        ["busctl", "--system", "--json=short", "call", "io.kontena.Master1", "/io/kontena/Master1", "io.kontena.Master1.Manager", method, *words],
        user=user, check=False,
    )  # fmt: skip
    return json.loads(r.stdout)["data"] if r.returncode == 0 and r.stdout.strip() else None if r.returncode else True


def exchange(grid, code):
    answer = bus(grid, "ExchangeCode", "s", code)
    return answer and answer[0]["access_token"]["data"]


@pytest.fixture(scope="module")
def admin(grid):
    """A token of the first administrator; the code it came from."""
    code = json.loads(grid.ctl("--json=short", "master", "admin-code").stdout)["code"]
    return exchange(grid, code), code


@pytest.fixture(scope="module")
def provider(grid):
    grid.master.write("/root/provider.py", PROVIDER.read_text())
    grid.master.run(f"systemd-run --unit=provider --collect -q -p StandardOutput=null python3 /root/provider.py {PORT}")
    wait_until(lambda: grid.master.run(f"ss -ltn | grep -q :{PORT}", check=False).returncode == 0, 10, "the provider", 0.1)
    base = f"http://127.0.0.1:{PORT}"
    grid.ctl("config", "set", "server.root_url=https://master.example:9292", "oauth2.client_id=the-client", "oauth2.pkce=true",
             f"oauth2.authorize_endpoint={base}/authorize", f"oauth2.token_endpoint={base}/token", f"oauth2.userinfo_endpoint={base}/userinfo")  # fmt: skip
    grid.ctl("config", "set", "oauth2.client_secret", input=SECRET)
    yield base
    grid.master.run("systemctl stop provider; rm -f /etc/polkit-1/rules.d/50-anna.rules; systemctl restart polkit")
    for email in ("anna@example.org", "bert@example.org"):
        grid.ctl("user", "remove", "--force", email, check=False)
    grid.ctl("config", "unset", "oauth2.client_id", "oauth2.client_secret")


def begin(grid, invite=""):
    location = bus(grid, "BeginLogin", "ssu", "http://localhost:1234/cb", invite, "3600")[0]
    return {k: v[0] for k, v in parse_qs(urlsplit(location).query).items()}


def finish(grid, user, query):
    answer = bus(grid, "FinishLogin", "ss", f"{user}.{query['code_challenge']}", query["state"])
    return answer and parse_qs(urlsplit(answer[0]).query)["code"][0]


@pytest.fixture(scope="module")
def anna(grid, provider):
    invite = json.loads(grid.ctl("--json=short", "user", "invite", "anna@example.org", "--role=grid_admin").stdout)["invite_code"]
    query = begin(grid, invite)
    grid.master.run("systemctl kill -s KILL kontenad; systemctl restart kontenad")  # what began goes on
    code = finish(grid, "anna", query)
    assert code and finish(grid, "anna", query) is None
    return exchange(grid, code)


def test_first_administrators_code_serves_once(grid, admin):
    token, code = admin
    assert token and exchange(grid, code) is None
    status, user = http(grid, "/v1/user", token)
    assert status == 200 and user["email"] == "admin" and user["roles"][0]["name"] == "master_admin"


def test_code_is_for_who_may(grid):
    grid.master.run("id mallory >/dev/null 2>&1 || useradd -m mallory")
    assert bus(grid, "CreateAdminCode", user="mallory") is None


def test_login_at_the_provider(grid, anna):
    status, user = http(grid, "/v1/user", anna)
    assert status == 200 and user["email"] == "anna@example.org" and user["name"] == "anna"
    assert bus(grid, "FinishLogin", "ss", "bert.x", "0" * 64) is None  # a state of nobody's
    assert finish(grid, "bert", begin(grid)) is None  # whom nobody has invited


def test_only_ones_own_grids_are_there(grid, anna):
    assert http(grid, "/v1/grids", anna) == (200, {"grids": []})
    assert http(grid, f"/v1/grids/{grid.name}", anna)[0] in (403, 404)
    grid.ctl("grid", "add-user", "anna@example.org")
    status, answer = http(grid, "/v1/grids", anna)
    assert status == 200 and [g["name"] for g in answer["grids"]] == [grid.name]


def test_uid_that_is_a_user(grid, anna):
    grid.master.run("id anna >/dev/null 2>&1 || useradd -m anna")
    grid.master.write("/etc/polkit-1/rules.d/50-anna.rules", RULE)
    grid.master.run("systemctl restart polkit")
    assert grid.ctl("vault", "list", user="anna", check=False).returncode != 0
    grid.ctl("user", "map", "anna@example.org", "anna")
    assert grid.ctl("vault", "list", user="anna", check=False).returncode == 0
    assert json.loads(grid.ctl("--json=short", "user", "show", user="anna").stdout)["email"] == "anna@example.org"
    assert grid.ctl("user", "list", user="anna", check=False).returncode != 0  # the rule is for the vault
    refused = grid.json("audit", "list", "--grid=", "--refused", "--operation=user.list")[-1]
    assert refused["user"] == "anna@example.org"


def test_removed_user_is_out_at_once(grid, anna):
    token = json.loads(grid.ctl("--json=short", "token", "create", "--user=anna@example.org").stdout)["access_token"]
    assert http(grid, "/v1/user", token)[0] == 200
    grid.ctl("user", "remove", "--force", "anna@example.org")
    for t in (token, anna):
        assert http(grid, "/v1/user", t)[0] == 403
    assert grid.ctl("vault", "list", user="anna", check=False).returncode != 0


def test_last_administrator_stays(grid, admin):
    assert grid.ctl("user", "remove", "--force", "admin", check=False).returncode == 5


def test_nothing_secret_is_left_lying_about(grid, admin, anna):
    secrets = " ".join(f"-e {shlex.quote(s)}" for s in (*admin, anna, SECRET))
    everything = "journalctl -o export; cat /var/lib/kontena/master/kontena.db*; systemctl show kontenad; kontenactl audit list --grid= --json=short"
    assert grid.master.run(f"({everything}) | grep -a -c -F {secrets}", check=False).stdout.strip() == "0"
    assert grid.master.run(f"({everything}) | grep -a -q -F anna@example.org", check=False).returncode == 0  # it would be found
