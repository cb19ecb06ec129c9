# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real users on the master: without rights each changing method is refused; a rule for one grid opens that grid only."""

import pytest

from kontenalab.grid import Grid, unique
from kontenalab.process import wait_until

RULE = """
polkit.addRule(function(action, subject) {
        if (subject.user == "grace" && action.id.indexOf("io.kontena.master1.") == 0 && action.lookup("grid") == "%s")
                return polkit.Result.YES;
});
"""

CHANGES = [
    'CreateGrid sa{sv} {new} 0',
    'UpdateGrid sa{sv} {grid} 0',
    'RemoveGrid s {grid}',
    'GetGridToken sb {grid} false',
    'GetGridToken sb {grid} true',
    'CreateNode ssa{sv} {grid} nodex 0',
    'GetNodeToken ss {grid} node1',
    'ResetNodeToken ssb {grid} node1 false',
    'ClearNodeToken ss {grid} node1',
    'UpdateNode ssa{sv} {grid} node1 0',
    'RemoveNode ssb {grid} node1 true',
    'CreateService sssa{sv} {grid} null x 1 image s busybox',
    'UpdateService sssa{sv} {grid} null {service} 0',
    'RemoveService sss {grid} null {service}',
    'DeployService sssa{sv} {grid} null {service} 0',
    'ScaleService sssu {grid} null {service} 2',
    'RollbackService sssu {grid} null {service} 1',
    'MoveInstance sssus {grid} null {service} 1 node2',
    'StartService sss {grid} null {service}',
    'StopService sss {grid} null {service}',
    'RestartService sss {grid} null {service}',
    'InspectInstance sssu {grid} null {service} 1',
    'ListProcesses sssu {grid} null {service} 1',
    'OpenExec sssuasa{sv} {grid} null {service} 1 1 id 0',
    'RunJob sss {grid} null {service}',
    'CancelRun sssu {grid} null {service} 1',
    'OpenArchive sssussa{sv} {grid} null {service} 1 get /etc 0',
    'ExportVolume ssa{sv} {grid} x 0',
    'ImportVolume ssa{sv} {grid} x 0',
    'WriteSecret sssa{sv} {grid} x y 0',
    'ReadSecret ss {grid} x',
    'RemoveSecret ssb {grid} x true',
    'PruneImages sa{sv} {grid} 0',
    'AddRegistry ssssa{sv} {grid} registry.example user password 0',
    'RemoveRegistry ss {grid} registry.example',
    'CreateVolume ssa{sv} {grid} x 0',
    'RemoveVolume ss {grid} x',
    'CreateVolumeSnapshot sssa{sv} {grid} x y 0',
    'RestoreVolumeSnapshot sssa{sv} {grid} x y 0',
    'RemoveVolumeSnapshot sssa{sv} {grid} x y 0',
    'GetUser s admin',
    'ListUsers',
    'InviteUser sssas mallory@example.org "" "" 0',
    'RemoveUser s admin',
    'AddUserRole ss admin grid_admin',
    'RemoveUserRole ss admin grid_admin',
    'MapUser su admin 1000',
    'UnmapUser su admin 1000',
    'ListGridUsers s {grid}',
    'AddGridUser ss {grid} admin',
    'RemoveGridUser ss {grid} admin',
    'ListTokens s admin',
    'GetToken s x',
    'CreateToken asusss 1 user 0 "" admin bearer',
    'RemoveToken s x',
    'CreateAdminCode',
    'ListConfig s ""',
    'GetConfig s server.name',
    'SetConfig a{sv}b 0 false',
    'UnsetConfig s server.name',
    'ListAudit sa{sv} {grid} 0',
    'VerifyAudit a{sv} 0',
    'GetAuthority',
    'RotateAuthority b false',
    'AbortAuthorityRotation',
]


def call(grid, user, line, /, **names):
    words = line.format(**names).replace("sa{{sv}}", "sa{sv}").split() if "{{" in line else None
    if words is None:
        for key, value in names.items():
            line = line.replace("{" + key + "}", value)
        words = line.split()
    return grid.master.run(
        ["busctl", "--system", "call", "io.kontena.Master1", "/io/kontena/Master1", "io.kontena.Master1.Manager", *words],
        user=user, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def users(grid):
    grid.master.run("for u in mallory grace; do id $u >/dev/null 2>&1 || useradd -m $u; done")
    other = Grid(grid.lab, "other")
    grid.ctl("grid", "create", "other", "--subnet=10.90.0.0/16", "--supernet=10.88.0.0/13")
    grid.master.write("/etc/polkit-1/rules.d/50-grace.rules", RULE % grid.name)
    grid.master.run("systemctl restart polkit")
    yield other
    grid.master.run("rm /etc/polkit-1/rules.d/50-grace.rules; systemctl restart polkit")
    grid.ctl("grid", "remove", "--force", "other", check=False)


@pytest.fixture(scope="module")
def service(grid):
    name = unique("guarded")
    grid.ctl("service", "create", name, "registry:5000/busybox:1", "--", "sleep", "1000")
    yield name
    grid.remove(name)


@pytest.mark.parametrize("line", CHANGES, ids=[f"{n}-{c.split()[0]}" for n, c in enumerate(CHANGES)])
def test_user_without_rights_is_refused(grid, users, service, line):
    result = call(grid, "mallory", line, grid=grid.name, service=service, new="mallorys")
    assert result.returncode != 0
    assert "ccess denied" in result.stderr or "nteractive" in result.stderr or "AccessDenied" in result.stderr, result.stderr


def test_every_changing_method_is_in_this_list(grid):
    methods = grid.master.run(
        "busctl --system introspect io.kontena.Master1 /io/kontena/Master1 io.kontena.Master1.Manager"
        " | awk '$2 == \"method\" {print substr($1, 2)}'"
    ).stdout.split()
    reading = {m for m in methods if m.startswith(("List", "Get", "OpenLogs", "CloseLogs"))} - {"GetGridToken", "GetNodeToken", "ListProcesses", "ListAudit", "GetAuthority"}
    # Of no use without a stream, which OpenExec gives, and only to who opened it.
    reading |= {m for m in methods if "Stream" in m}
    # They take a secret, which is what guards them.
    reading |= {"ExchangeCode", "RefreshToken", "BeginLogin", "FinishLogin"}
    changes = {c.split()[0] for c in CHANGES}
    assert set(methods) - reading <= changes <= set(methods)


def test_rule_for_one_grid_opens_that_grid_only(grid, users, service):
    mine = call(grid, "grace", "UpdateNode ssa{sv} {grid} node1 1 labels as 1 touched=yes", grid=grid.name)
    assert mine.returncode == 0, mine.stderr
    grid.ctl("node", "update", "--availability=active", "node1")
    call(grid, "grace", "UpdateNode ssa{sv} {grid} node1 1 labels as 0", grid=grid.name)
    theirs = call(grid, "grace", "UpdateGrid sa{sv} other 1 trusted_subnets as 0")
    assert theirs.returncode != 0
    assert call(grid, "grace", "CreateGrid sa{sv} graces 0").returncode != 0
    assert grid.ctl("service", "deploy", "--no-block", service, user="grace", check=False).returncode == 0


def test_refusals_are_audited(grid, users, service):
    cursor = grid.master.cursor()
    call(grid, "mallory", "RemoveService sss {grid} null {service}", grid=grid.name, service=service)
    wait_until(lambda: grid.master.journal("KONTENA_AUDIT=1", since=cursor), 10, "the audit entry", 0.1)


ASK = r'''
import os, pty, select, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp("runuser", ["runuser", "-u", "heidi", "--", "kontenactl", *sys.argv[2:]])
said, answered, end = b"", False, time.monotonic() + 240
while time.monotonic() < end:
    if not select.select([fd], [], [], 1)[0]:
        continue
    try:
        piece = os.read(fd, 4096)
    except OSError:
        break
    said += piece
    if b"assword:" in said and not answered:
        answered = True
        # The agent asks first and then throws away what was typed before the terminal was silent.
        while termios.tcgetattr(fd)[3] & termios.ECHO and time.monotonic() < end:
            time.sleep(0.01)
        os.write(fd, b"\x03" if sys.argv[1] == "^C" else sys.argv[1].encode() + b"\n")
else:
    os.kill(pid, 9)
print(said.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
'''


@pytest.fixture(scope="module")
def heidi(grid):
    grid.master.run("id heidi >/dev/null 2>&1 || useradd -m -G sudo heidi; echo heidi:secret | chpasswd")
    grid.master.write("/root/ask.py", ASK)
    return lambda answer, *words: grid.master.run(
        ["python3", "/root/ask.py", answer, f"--grid={grid.name}", *words], check=False, timeout=60
    )


def test_user_on_a_terminal_is_asked_for_a_password(grid, heidi):
    asked = heidi("secret", "node", "label", "node1", "asked=yes")
    assert asked.returncode == 0, asked.stdout
    assert "change node node1 of grid" in asked.stdout
    assert "asked=yes" in grid.ctl("node", "label", "node1").stdout
    grid.ctl("node", "label", "node1", "asked-")


def test_giving_up_at_the_password_ends_the_command(grid, heidi, service):
    given_up = heidi("^C", "service", "scale", service, "2")
    assert given_up.returncode not in (0, -9), given_up.stdout
