# SPDX-License-Identifier: LGPL-2.1-or-later
"""kontenactl as a whole, against a master of the tests' own on a bus of their own."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUILD = Path(os.environ.get("KONTENA_LAB_BUILD_DIR") or os.environ.get("KONTENA_BUILD_DIR") or "build")
KONTENACTL = BUILD / "src/kontenactl/kontenactl"
FAKE_MASTER = BUILD / "src/kontenactl/fake-master"

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="false"/>
<allow receive_sender="*"/></policy></busconfig>"""

GRID = {"name": "demo", "id": "g1", "nodes": 2, "nodes_online": 1, "services": 1, "subnet": "10.81.0.0/16", "trusted_subnets": ["192.0.2.0/24"]}
NODES = [
    {"name": "node1", "id": "n1", "state": "online", "availability": "active", "instances": 1, "memory_total": 4 << 30,
     "memory_available": 3 << 30, "labels": ["az=a"], "last_seen": 1764063000000000},
    {"name": "node2", "id": "n2", "state": "offline", "availability": "active", "instances": 0, "labels": ["az=b", "fast"]},
]  # fmt: skip
SERVICE = {"name": "web", "stack": "null", "grid": "demo", "image": "nginx:1", "state": "running", "count": 2, "running": 1,
           "ports": ["0.0.0.0:8080:80/tcp"], "problem": "1 instance fails: no such \x1b[31m image", "revision": 3}  # fmt: skip
INSTANCES = [
    {"number": 1, "name": "web-1", "node": "node1", "state": "running", "unit": "kontena-demo-null.web-1.service"},
    {"number": 2, "name": "web-2", "node": "node2", "state": "failed", "error": "no such image"},
]
DEPLOY = {"id": "d1", "grid": "demo", "stack": "null", "service": "web", "state": "ongoing", "revision": 3, "created_at": 5}
ANSWERS = {
    "ListGrids": ["aa{sv}", [GRID]],
    "GetGrid": ["a{sv}", GRID],
    "GetGridToken": ["s", "KT1-abc"],
    "GetNodeToken": ["s", "KT1-node"],
    "ResetNodeToken": ["s", "KT1-new"],
    "ListNodes": ["aa{sv}", NODES],
    "GetNode": ["a{sv}", NODES[1]],
    "ListServices": ["aa{sv}", [SERVICE]],
    "GetService": ["a{sv}", {**SERVICE, "spec": {"image": "nginx:1", "memory": 64 << 20}, "instances": INSTANCES}],
    "ListDeploys": ["aa{sv}", [DEPLOY]],
    "ListEvents": ["aa{sv}", [{"id": 7, "time": 10, "severity": "warning", "type": "service:instance_crash", "message": "It\x07 died.",
                              "service": "web", "stack": "null", "node": "node1", "instance": 1}]],
    "GetStatus": ["a{sv}", {"grid": GRID, "nodes": NODES, "services": [SERVICE], "problems": ["node2 is offline."]}],
    "CreateService": ["o", "/io/kontena/Master1/service/demo/null/web"],
}  # fmt: skip
PROPERTIES = {"/io/kontena/Master1": {"Version": ["s", "2.0.0"], "ListenURL": ["s", "wss://192.0.2.1:9292/v1/nodes/channel"], "ReadOnlyReason": ["s", ""]}}


def instances(*states: str) -> dict[str, Any]:
    """Of a deploy: "running", "starting pulling 43 %", "error no such image"."""
    rows = []
    for number, text in enumerate(states, 1):
        state, _, rest = text.partition(" ")
        progress, error = ("", rest) if state == "error" else (rest, "")
        rows.append([number, f"node{number}", state, progress, error])
    return {"State": "ongoing", "Instances": rows}


class Bus:
    def __init__(self, directory: Path):
        self.directory = directory
        self.calls_file = directory / "calls"
        self.masters: list[subprocess.Popen] = []
        config = directory / "bus.conf"
        config.write_text(BUS_CONFIG.format(path=directory / "bus"))
        self.daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
        )
        assert self.daemon.stdout.readline().startswith("unix:")
        self.env = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm", "TZ": "UTC",
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory / 'bus'}",
            **{k: v for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_"))},
        }  # fmt: skip

    def close(self) -> None:
        for process in [*self.masters, self.daemon]:
            process.kill()
            process.wait()
            process.stdout.close()

    def master(self, **given: Any) -> subprocess.Popen:
        """Start one; what is given replaces its answers, errors, steps and so on."""
        script = {"answers": ANSWERS, "properties": PROPERTIES, "errors": {}, "steps": [], **given}
        path = self.directory / f"master{len(self.masters)}.json"
        path.write_text(json.dumps(script))
        process = subprocess.Popen([FAKE_MASTER, path, self.calls_file], env=self.env, stdout=subprocess.PIPE, text=True)
        self.masters.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    def calls(self, member: str) -> list[list[Any]]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == member]

    def ctl(self, *args: str, input: str | None = None, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [KONTENACTL, *args], env={**self.env, **env}, input=input, capture_output=True, text=True, timeout=180
        )

    def popen(self, *args: str) -> subprocess.Popen:
        return subprocess.Popen([KONTENACTL, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    if not KONTENACTL.exists() or not FAKE_MASTER.exists():
        pytest.skip(f"no kontenactl built with tests in {BUILD}")
    bus = Bus(tmp_path)
    yield bus
    bus.close()


def read_line(process: subprocess.Popen, stream: str = "stdout") -> str:
    """Byte by byte: what a buffer holds back, select() does not see."""
    fd = getattr(process, stream).fileno()
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([fd], [], [], 120)[0], f"nothing was said after {line!r}"
        byte = os.read(fd, 1)
        if not byte:
            break
        line += byte
    return line.decode()


class Terminal:
    """kontenactl on a terminal of 80 columns."""

    def __init__(self, bus: Bus, *args: str, rows: int = 24, columns: int = 80, **env: str):
        self.output = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(KONTENACTL, [str(KONTENACTL), *args], {**bus.env, **env})

    def read_until(self, text: str, seconds: float = 120) -> str:
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f"no {text!r} in {self.output!r}"
            self._read()
        return self.output.decode()

    def _read(self) -> bool:
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # its end
            return False
        self.output += data
        return bool(data)

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self) -> int:
        while self._read():
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def text(self) -> str:
        return self.output.decode()


# Lists, JSON, names


def test_table_and_json_come_from_one_record(bus: Bus):
    bus.master()
    table = bus.ctl("node", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["NODE", "NUMBER", "STATE"]
    assert table[1].split()[0] == "node1" and "3G" in table[1] and "4G" in table[1]
    assert json.loads(bus.ctl("node", "list", "--json=short").stdout) == NODES
    assert "\n" in bus.ctl("node", "list", "--json=pretty").stdout.strip()
    assert bus.ctl("node", "list", "-j").stdout.count("\n") == 1


def test_quiet_prints_names_and_no_legend_no_heading(bus: Bus):
    bus.master()
    assert bus.ctl("node", "list", "-q").stdout == "node1\nnode2\n"
    assert "NODE" not in bus.ctl("node", "list", "--no-legend").stdout


def test_an_empty_list_says_what_to_do(bus: Bus):
    bus.master(answers={**ANSWERS, "ListServices": ["aa{sv}", []]})
    result = bus.ctl("service", "list")
    assert (result.returncode, result.stdout) == (0, "")
    assert "kontenactl service create" in result.stderr
    assert bus.ctl("service", "list", "--json=short").stdout == "[]\n"


def test_the_only_grid_is_the_default(bus: Bus):
    bus.master()
    bus.ctl("node", "list")
    bus.ctl("node", "list", "-g", "other")
    bus.ctl("node", "list", KONTENA_GRID="third")
    assert bus.calls("ListNodes") == [["demo"], ["other"], ["third"]]


def test_several_grids_must_be_chosen_from(bus: Bus):
    bus.master(answers={**ANSWERS, "ListGrids": ["aa{sv}", [GRID, {**GRID, "name": "b"}]]})
    result = bus.ctl("node", "list")
    assert result.returncode == 2
    assert result.stderr == "There are several grids (demo, b): say which with --grid or $KONTENA_GRID.\n"


def test_no_grid_says_how_to_make_one(bus: Bus):
    bus.master(answers={**ANSWERS, "ListGrids": ["aa{sv}", []]})
    result = bus.ctl("node", "list")
    assert result.returncode == 4 and "kontenactl grid create" in result.stderr


def test_names_of_services(bus: Bus):
    bus.master()
    for name in ("web", "shop/web", "other/shop/web"):
        assert bus.ctl("service", "stop", name).returncode == 0
    assert bus.calls("StopService") == [["demo", "null", "web"], ["demo", "shop", "web"], ["other", "shop", "web"]]


def test_control_characters_never_reach_the_terminal(bus: Bus):
    bus.master()
    for command in (["service", "list", "-l"], ["service", "show", "web"], ["status"], ["events"]):
        output = bus.ctl(*command).stdout
        assert "\x1b" not in output and "\x07" not in output, command
    assert r"no such \x1b[31m image" in bus.ctl("service", "show", "web").stdout


# Errors and exit codes


def test_no_master_says_so(bus: Bus):
    result = bus.ctl("service", "list")
    assert result.returncode == 8
    assert result.stderr.startswith("kontenad is not running on this machine; start it with: systemctl start kontenad")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name, status", [
    ("io.kontena.Error.NoSuchService", 4), ("io.kontena.Error.InUse", 5), ("io.kontena.Error.Unschedulable", 6),
    ("io.kontena.Error.AccessDenied", 7), ("io.kontena.Error.InvalidArgument", 2), ("io.kontena.Error.Internal", 1),
    ("org.freedesktop.DBus.Error.AccessDenied", 7),
])  # fmt: skip
def test_errors_of_the_master_are_sentences_and_exit_codes(bus: Bus, name: str, status: int):
    bus.master(errors={"StopService": [name, "The reason, whole."]})
    result = bus.ctl("service", "stop", "web")
    assert result.returncode == status
    assert "The reason, whole.\n" in result.stderr and result.stdout == ""


def test_wrong_usage_is_one_line_and_status_2(bus: Bus):
    for args in (["service", "scale", "web"], ["service", "list", "--bogus"], ["servce"], ["status", "--json=yaml"]):
        result = bus.ctl(*args)
        assert result.returncode == 2 and result.stdout == ""
        assert result.stderr.count("\n") == 1, args


# Services


def test_create_sends_what_was_asked(bus: Bus):
    bus.master()
    result = bus.ctl("service", "create", "-p", "8080:80", "-e", "A=1", "-m", "64m", "web", "nginx:1", "--", "nginx", "-g", "daemon off;")
    assert result.returncode == 0
    (grid, stack, name, spec), = bus.calls("CreateService")  # fmt: skip
    assert (grid, stack, name) == ("demo", "null", "web")
    assert spec == {
        "image": "nginx:1", "memory": 64 << 20, "env": ["A=1"], "cmd": ["nginx", "-g", "daemon off;"],
        "ports": [{"ip": "0.0.0.0", "node_port": 8080, "container_port": 80, "protocol": "tcp"}],
    }  # fmt: skip


def test_update_resets_a_field_with_an_empty_value(bus: Bus):
    bus.master()
    assert bus.ctl("service", "update", "web", "--user=", "--ports=").returncode == 0
    assert bus.calls("UpdateService") == [["demo", "null", "web", {"user": None, "ports": None}]]


def test_remove_asks_on_a_terminal_and_wants_force_elsewhere(bus: Bus):
    bus.master()
    assert bus.ctl("service", "remove", "web", input="y\n").returncode == 2
    terminal = Terminal(bus, "service", "remove", "web")
    terminal.read_until("[y/N]")
    terminal.write("n\n")
    assert terminal.wait() == 5 and bus.calls("RemoveService") == []
    assert bus.ctl("service", "remove", "--force", "web").returncode == 0
    assert bus.calls("RemoveService") == [["demo", "null", "web"]]


def test_labels_are_edited_not_replaced(bus: Bus):
    bus.master()
    assert bus.ctl("node", "label", "node2").stdout == "az=b\nfast\n"
    assert bus.ctl("node", "label", "node2", "az=c", "fast-", "new").returncode == 0
    assert bus.calls("UpdateNode") == [["demo", "node2", {"labels": ["az=c", "new"]}]]


# Deploys


def test_deploy_says_each_change_and_the_end(bus: Bus):
    bus.master(steps=[
        {"after_ms": 10, "set": instances("starting pulling 3 %", "waiting")},
        {"after_ms": 10, "set": instances("starting pulling 43 %", "waiting")},
        {"after_ms": 10, "set": instances("running", "starting waiting for port 80")},
        {"after_ms": 10, "set": instances("running", "running")},
        {"after_ms": 10, "finish": ["success", ""]},
    ])  # fmt: skip
    result = bus.ctl("service", "deploy", "web")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:-1] == [
        "web-1 on node1: pulling 3 %", "web-1 on node1: running", "web-2 on node2: waiting for port 80", "web-2 on node2: running",
    ]  # fmt: skip
    assert lines[-1].startswith("'web' is deployed: 2 of 2 running (")


def test_deploy_that_ends_before_its_answer_is_not_missed(bus: Bus):
    bus.master(early=True, steps=[{"set": instances("running")}, {"finish": ["success", ""]}])
    result = bus.ctl("service", "scale", "web", "1", "--timeout=120s")
    assert result.returncode == 0 and "1 of 1 running" in result.stdout
    assert bus.calls("ScaleService") == [["demo", "null", "web", 1]]


def test_failed_deploy_names_each_instance_with_its_reason(bus: Bus):
    reason = "No image 'nginx:9' in registry:5000: manifest unknown"
    bus.master(steps=[
        {"set": instances("running", f"error {reason}", "error disk full")},
        {"finish": ["error", f"One or more instances failed: web-2 on node2: {reason}"]},
    ])  # fmt: skip
    result = bus.ctl("service", "deploy", "web")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"web-2 on node2: failed: {reason}", "web-3 on node3: failed: disk full",
        "The deploy of 'web' failed: One or more instances failed.",
    ]  # fmt: skip


def test_on_a_terminal_failures_stay_when_the_drawing_goes(bus: Bus):
    bus.master(steps=[
        {"after_ms": 50, "set": instances("running", "error disk full")},
        {"after_ms": 50, "finish": ["error", "one or more instances failed"]},
    ])  # fmt: skip
    terminal = Terminal(bus, "service", "deploy", "web", NO_COLOR="1")
    assert terminal.wait() == 1
    last = terminal.text.split("\x1b[J")[-1].replace("\r", "")
    assert last == "  web-2 on node2: failed: disk full\nThe deploy of 'web' failed: one or more instances failed\n"


@pytest.mark.parametrize("state, word", [("superseded", "superseded by a newer one"), ("cancelled", "cancelled")])
def test_deploys_that_others_end(bus: Bus, state: str, word: str):
    bus.master(steps=[{"finish": [state, ""]}])
    result = bus.ctl("service", "deploy", "web")
    assert result.returncode == 5 and word in result.stderr


def test_interrupt_leaves_the_deploy_running_and_says_so(bus: Bus):
    bus.master(steps=[{"set": instances("starting pulling")}])
    process = bus.popen("service", "deploy", "web")
    assert read_line(process) == "web-1 on node1: pulling\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 130
    assert stderr == (
        "The deploy goes on. Follow it: kontenactl deploy show --follow d1; stop it: kontenactl deploy cancel d1\n"
    )
    assert bus.calls("Cancel") == []


def test_timeout_leaves_the_deploy_running(bus: Bus):
    bus.master(steps=[{"set": instances("starting")}])
    result = bus.ctl("service", "deploy", "web", "--timeout=200ms")
    assert result.returncode == 8 and "The deploy goes on." in result.stderr


def test_no_block_only_says_the_id(bus: Bus):
    bus.master()
    result = bus.ctl("service", "deploy", "web", "--no-wait")
    assert (result.returncode, result.stdout) == (0, "Deploy d1 of 'web' has begun.\n")


def test_a_restarted_master_is_waited_for(bus: Bus):
    first = bus.master(steps=[{"set": instances("starting pulling")}, {"after_ms": 50, "exit": True}])
    process = bus.popen("service", "deploy", "web")
    assert read_line(process) == "web-1 on node1: pulling\n"
    assert "The master is gone" in read_line(process, "stderr")
    first.wait(timeout=180)
    bus.master(deploy=instances("starting starting"), at_once=True,
               steps=[{"after_ms": 3000, "set": instances("running")}, {"finish": ["success", ""]}])  # fmt: skip
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    assert "The master is back." in stderr
    assert stdout.splitlines()[:2] == ["web-1 on node1: starting", "web-1 on node1: running"]


def test_progress_is_redrawn_on_a_terminal(bus: Bus):
    bus.master(steps=[
        {"after_ms": 50, "set": instances("starting pulling 3 %", "waiting")},
        {"after_ms": 50, "set": instances("starting pulling 43 %", "waiting")},
        {"after_ms": 50, "set": instances("running", "running")},
        {"after_ms": 50, "finish": ["success", ""]},
    ])  # fmt: skip
    terminal = Terminal(bus, "service", "deploy", "web")
    assert terminal.wait() == 0
    assert "pulling 43 %" in terminal.text and "\x1b[3A\x1b[J" in terminal.text
    assert terminal.text.rstrip().splitlines()[-1].lstrip("\r").startswith("\x1b[3A\x1b[J'web' is deployed: 2 of 2 running")


def test_json_of_a_deploy_is_its_record(bus: Bus):
    bus.master(steps=[{"set": instances("running")}, {"finish": ["success", ""]}])
    result = bus.ctl("service", "deploy", "web", "--json=short")
    assert json.loads(result.stdout)["State"] == "success"


def test_deploy_show_and_cancel(bus: Bus):
    bus.master(errors={"Cancel": ["org.freedesktop.DBus.Error.UnknownObject", "Unknown object."]})
    assert "ongoing" in bus.ctl("deploy", "show", "d1").stdout
    missing = bus.ctl("deploy", "show", "d2")
    assert missing.returncode == 4 and missing.stderr == "There is no deploy 'd2'.\n"
    assert bus.ctl("deploy", "cancel", "d2").returncode == 4


# Logs and events

ENTRIES = [
    [1764063000000000, "node1", "web-1", "stdout", "hello"],
    [1764063001000000, "node2", "web-2", "stderr", "red \x1b[31m"],
    [0, "node3", "", "warning", "node3 cannot be reached."],
]


def test_logs_forms(bus: Bus):
    bus.master(steps=[{"logs": ENTRIES, "end": True}])
    result = bus.ctl("service", "logs", "web", "-n", "5", "-i", "2", "--since=@7")
    assert result.stdout.splitlines() == ["Nov 25 09:30:00 web-1@node1: hello", "Nov 25 09:30:01 web-2@node2: red \x1b[31m"]
    assert result.stderr == "node3: node3 cannot be reached.\n"
    assert bus.calls("OpenLogs") == [["demo", "null", "web", {"lines": 5, "follow": False, "instance": 2, "since": 7000000}]]


def test_logs_as_json_and_bare(bus: Bus):
    bus.master(early=True, steps=[{"logs": ENTRIES[:2], "end": True}])
    rows = [json.loads(line) for line in bus.ctl("service", "logs", "web", "-o", "json").stdout.splitlines()]
    assert rows[0] == {"time": 1764063000000000, "node": "node1", "instance": "web-1", "stream": "stdout", "message": "hello"}
    assert len(rows) == 2


def test_logs_are_escaped_on_a_terminal(bus: Bus):
    bus.master(steps=[{"logs": ENTRIES[:2], "end": True}])
    terminal = Terminal(bus, "service", "logs", "web", "--no-pager", NO_COLOR="1")
    assert terminal.wait() == 0
    assert r"red \x1b[31m" in terminal.text and "\x1b" not in terminal.text


def test_followed_logs_end_with_the_right_to_read(bus: Bus):
    bus.master(steps=[{"logs": [*ENTRIES[:1], [1764063001000000, "", "", "denied", "You are no longer a member of the grid."]], "end": True}])
    result = bus.ctl("service", "logs", "-f", "web")
    assert result.returncode == 7 and "You are no longer a member of the grid." in result.stderr, result
    assert len(result.stdout.splitlines()) == 1


def test_followed_logs_go_on_after_a_restart(bus: Bus):
    first = bus.master(steps=[{"logs": ENTRIES[:1], "end": False}, {"after_ms": 50, "exit": True}])
    process = bus.popen("service", "logs", "-f", "web")
    assert read_line(process).endswith("hello\n")
    assert "The master is gone" in read_line(process, "stderr")
    first.wait(timeout=180)
    bus.master(steps=[{"logs": ENTRIES[1:2], "end": True}])
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 0 and stdout.startswith("Nov 25 09:30:01 web-2@node2")
    assert bus.calls("OpenLogs")[1][3] == {"lines": 10000, "follow": True, "since": 1764063000000000, "after": {"node1": 1764063000000000}}


def test_logs_that_are_not_followed_end_with_the_master(bus: Bus):
    bus.master(steps=[{"logs": ENTRIES[:1], "end": False}, {"after_ms": 50, "exit": True}])
    result = bus.ctl("service", "logs", "web")
    assert result.returncode == 8 and result.stderr == "The master went away.\n"


def test_events_follow(bus: Bus):
    bus.master(steps=[
        {"after_ms": 50, "event": {"id": 7, "time": 10, "message": "was in the list"}},
        {"event": {"id": 8, "time": 11, "type": "node:offline", "node": "node2", "message": "Node went."}},
        {"event": {"id": 9, "time": 11, "type": "grid:update", "message": "Updated."}},
    ])  # fmt: skip
    process = bus.popen("events", "-f")
    lines = [read_line(process) for _ in range(3)]
    process.terminate()
    process.communicate()
    assert lines == [
        "Jan 01 00:00:00 service:instance_crash web-1@node1: It\\x07 died.\n", "Jan 01 00:00:00 node:offline @node2: Node went.\n",
        "Jan 01 00:00:00 grid:update: Updated.\n",
    ]  # fmt: skip


def test_events_from_now_on(bus: Bus):
    bus.master(steps=[{"after_ms": 50, "event": {"id": 8, "time": 11, "type": "node:offline", "message": "Node went."}}])
    process = bus.popen("events", "-f", "-n", "0")
    assert read_line(process) == "Jan 01 00:00:00 node:offline: Node went.\n"
    process.terminate()
    process.communicate()


# Tokens of nodes


def test_tokens_of_nodes(bus: Bus):
    bus.master()
    assert bus.ctl("node", "token", "node1").stdout == "KT1-node\n"
    assert bus.calls("GetNodeToken") == [["demo", "node1"]]
    result = bus.ctl("node", "reset-token", "node1")
    assert result.stdout == "KT1-new\n" and "kontenactl node join" in result.stderr
    assert bus.ctl("--json=short", "node", "reset-token", "--keep-connection", "node1").stdout.strip() == '{"token":"KT1-new"}'
    assert bus.calls("ResetNodeToken") == [["demo", "node1", True], ["demo", "node1", False]]
    assert bus.ctl("node", "clear-token", "node1").returncode == 0
    assert bus.calls("ClearNodeToken") == [["demo", "node1"]]


# Status


def test_status_shows_what_is_wrong(bus: Bus):
    bus.master()
    result = bus.ctl("status", LANG="C")
    assert result.returncode == 3
    assert result.stdout.splitlines()[:3] == ["* Master 2.0.0, https://192.0.2.1:9292", "", "* Grid demo, 1 problem"]
    assert "  o node2 offline      0 instances\n" in result.stdout
    assert "  x web running     1/2  nginx:1  0.0.0.0:8080:80/tcp\n" in result.stdout
    assert "  x node2 is offline.\n" in result.stdout


def test_status_of_a_drained_node_is_not_offline(bus: Bus):
    drained = {**NODES[0], "state": "drain", "availability": "drain"}
    bus.master(answers={**ANSWERS, "GetStatus": ["a{sv}", {"grid": GRID, "nodes": [drained], "services": [], "problems": []}]})
    output = bus.ctl("status", LANG="C").stdout
    assert "Nodes: 1 of 1 online" in output and "  * node1 drain        1 instance, 3G of 4G memory free\n" in output


def test_status_is_0_when_all_is_well(bus: Bus):
    well = {"grid": GRID, "nodes": NODES[:1], "services": [], "problems": []}
    bus.master(answers={**ANSWERS, "GetStatus": ["a{sv}", well]})
    result = bus.ctl("status")
    assert result.returncode == 0 and "all well" in result.stdout
    assert json.loads(bus.ctl("status", "--json=short").stdout)["grids"] == [well]


# Another machine


def fake_ssh(bus: Bus) -> dict[str, str]:
    """What sd-bus runs for --host; it writes down its arguments and its pid, and connects to the tests' bus."""
    folder = bus.directory / "bin"
    folder.mkdir()
    script = folder / "ssh"
    script.write_text(f"""#!/bin/sh
echo "$@" > {bus.directory}/ssh-arguments
echo $$ > {bus.directory}/ssh-pid
exec systemd-stdio-bridge --bus-path="$DBUS_SYSTEM_BUS_ADDRESS"
""")
    script.chmod(0o755)
    return {"PATH": f"{folder}:{bus.env['PATH']}"}


def test_another_machine_by_ssh(bus: Bus):
    bus.master()
    result = bus.ctl("-H", "root@far", "node", "list", "-q", **fake_ssh(bus))
    assert result.stdout == "node1\nnode2\n", result.stderr
    assert "root@far" in (bus.directory / "ssh-arguments").read_text().split()


def test_no_master_on_another_machine(bus: Bus):
    result = bus.ctl("--host=far", "node", "list", **fake_ssh(bus))
    assert result.returncode == 8
    assert result.stderr == "kontenad is not running on 'far'; there: systemctl start kontenad\n"


def test_a_lost_connection_ends_the_following_not_the_deploy(bus: Bus):
    bus.master(steps=[{"set": instances("starting pulling")}])
    bus.env.update(fake_ssh(bus))
    process = bus.popen("-H", "far", "service", "deploy", "web")
    assert read_line(process) == "web-1 on node1: pulling\n"
    os.kill(int((bus.directory / "ssh-pid").read_text()), signal.SIGKILL)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 8
    assert "The deploy goes on." in stderr and "The connection to far was lost." in stderr


def test_what_changes_this_machine_is_not_done_for_another(bus: Bus):
    for command in (["bootstrap"], ["node", "join", "master", "-"], ["node", "leave"]):
        result = bus.ctl("-H", "far", *command, input="")
        assert result.returncode == 2 and "machine itself" in result.stderr, command


# The terminal


def test_colours_only_where_wanted(bus: Bus):
    bus.master()
    assert "\x1b[" not in bus.ctl("service", "list").stdout
    assert "\x1b[" in bus.ctl("service", "list", SYSTEMD_COLORS="1").stdout
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"SYSTEMD_COLORS": "0"}):
        terminal = Terminal(bus, "service", "list", "--no-pager", **env)
        assert terminal.wait() == 0 and "\x1b[" not in terminal.text, env


def test_lines_are_cut_to_the_terminal_unless_full(bus: Bus):
    long = {**SERVICE, "image": "registry.example.com/" + "a" * 100, "problem": ""}
    bus.master(answers={**ANSWERS, "ListServices": ["aa{sv}", [long]]})
    terminal = Terminal(bus, "service", "list", "--no-pager", NO_COLOR="1")
    assert terminal.wait() == 0
    assert all(len(line) <= 80 for line in terminal.text.splitlines()) and "…" in terminal.text
    full = Terminal(bus, "service", "list", "--no-pager", "--full", NO_COLOR="1")
    assert full.wait() == 0 and "a" * 100 in full.text


def test_completion_asks_the_bus_and_is_silent_without_it(bus: Bus):
    result = bus.ctl("__complete", "service")
    assert (result.stdout, result.stderr) == ("", "")
    bus.master()
    assert bus.ctl("__complete", "service").stdout == "web\n"
    assert bus.ctl("__complete", "node").stdout == "node1\nnode2\n"
    assert bus.ctl("__complete", "deploy").stdout == "d1\n"


def test_what_a_node_says_of_an_archive_drives_no_terminal(bus):
    pieces = [b"clear \x1b[2J\r\x00", b"\xc3", b"\xa4 \xe2\x80", b"\xae\xc2", b"\x9b31m\xff\n", b"\xe6\x97"]
    steps = [{"data": [1, list(b"\x1b\x00tar")]}]
    for piece in pieces:
        steps += [{"data": [2, list(piece)]}]
    total = 5 + sum(map(len, pieces))
    bus.master(steps=[*steps, {"credited": total}, {"ended": 0}])
    said = bus.ctl("-g", "demo", "volume", "export", "data")
    assert said.returncode == 0 and said.stdout == "\x1b\x00tar", said
    assert said.stderr == "clear \\x1b[2J\\x0d\\x00ä \\u202e\\x9b31m\\xff\n\\xe6\\x97", said
    assert sum(call[1] for call in bus.calls("CreditStream")) == total


def test_much_that_a_node_says_is_given_back(bus):
    escapes = [{"data": [2, [27] * 4096]}, {"credited": 0}] * 200
    for n in range(200):
        escapes[2 * n + 1] = {"credited": max(0, (n - 60) * 4096)}
    bus.master(steps=[*escapes, {"credited": 200 * 4096}, {"ended": 3}])
    said = bus.ctl("-g", "demo", "volume", "export", "data")
    assert said.returncode == 3 and said.stderr == "\\x1b" * 4096 * 200, (said.returncode, len(said.stderr))
