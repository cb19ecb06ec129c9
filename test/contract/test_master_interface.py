# SPDX-License-Identifier: LGPL-2.1-or-later
"""The XML in dbus/ is the contract of the master: what the running daemon shows, the table of operations, the polkit actions
and the manual say the same."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from restlib import free_port

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KONTENA_LAB_BUILD_DIR") or os.environ.get("KONTENA_BUILD_DIR") or "build")
KONTENAD = BUILD / "src/kontenad/kontenad"
CONTRACT = ET.parse(ROOT / "dbus/io.kontena.Master1.xml").getroot()
POLICY = ET.parse(ROOT / "polkit/io.kontena.master1.policy").getroot()
ACTION = "io.kontena.Action"
EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"
BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="false"/>
<allow receive_sender="*"/></policy></busconfig>"""


class Master:
    def __init__(self, directory: Path):
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/bus", "STATE_DIRECTORY": str(directory / "state")}
        self.log = directory / "log"

    def call(self, path: str, interface: str, member: str, *arguments: str) -> str:
        r = subprocess.run(["busctl", "--address", self.environment["DBUS_SYSTEM_BUS_ADDRESS"], "call", "io.kontena.Master1", path, interface, member,
                            *arguments], capture_output=True, text=True, timeout=180)  # fmt: skip
        assert r.returncode == 0, r.stderr + self.log.read_text()
        return r.stdout

    def manager(self, member: str, *arguments: str) -> str:
        return self.call("/io/kontena/Master1", "io.kontena.Master1.Manager", member, *arguments)

    def introspect(self, path: str) -> ET.Element:
        text = self.call(path, "org.freedesktop.DBus.Introspectable", "Introspect")
        return ET.fromstring(text[text.index("<node") : text.rindex(">") + 1].replace('\\"', '"').replace("\\n", "\n"))


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    for program in ("dbus-daemon", "busctl"):
        if not shutil.which(program):
            pytest.skip(f"no {program}")
    if not KONTENAD.exists():
        pytest.skip(f"no {KONTENAD}")
    directory = tmp_path_factory.mktemp("master")
    config = directory / "bus.conf"
    config.write_text(BUS_CONFIG.format(path=directory / "bus"))
    m = Master(directory)
    bus = subprocess.Popen(["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (directory / "bus").exists())
        port = free_port()
        (directory / "kontenad.conf").write_text(f"[Master]\nListenAddress=127.0.0.1\nPort={port}\n")
        with m.log.open("w") as log:
            daemon = subprocess.Popen([str(KONTENAD)], env={**m.environment, "CONFIGURATION_DIRECTORY": str(directory)}, stderr=log)
        try:
            wait_for(lambda: subprocess.run(["busctl", "--address", m.environment["DBUS_SYSTEM_BUS_ADDRESS"], "status", "io.kontena.Master1"],
                                            capture_output=True).returncode == 0, lambda: m.log.read_text())  # fmt: skip
            yield m
        finally:
            daemon.terminate()
            assert daemon.wait(120) == 0, m.log.read_text()
    finally:
        bus.terminate()
        bus.wait(60)


def wait_for(condition, explain=lambda: "") -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


def annotations(e: ET.Element, names: tuple[str, ...]) -> dict[str, str]:
    return {a.get("name"): a.get("value") for a in e.findall("annotation") if a.get("name") in names}


def shape(interface: ET.Element) -> dict[str, object]:
    members: dict[str, object] = {}
    for e in interface:
        if e.tag in ("method", "signal"):
            members[f"{e.tag} {e.get('name')}"] = [
                (a.get("name"), a.get("type"), a.get("direction") or ("out" if e.tag == "signal" else "in")) for a in e.findall("arg")
            ]
        elif e.tag == "property":
            members[f"property {e.get('name')}"] = (e.get("type"), e.get("access"), annotations(e, (EMITS,)).get(EMITS, "true"))
    return members


def test_the_daemon_shows_what_the_contract_says(master: Master):
    master.manager("CreateGrid", "sa{sv}", "home", "0")
    master.manager("CreateNode", "ssa{sv}", "home", "n1", "0")
    master.manager("CreateService", "sssa{sv}", "home", "null", "web", "1", "image", "s", "nginx")
    deploy = master.manager("DeployService", "sssa{sv}", "home", "null", "web", "0").split('"')[1]
    seen: dict[str, dict[str, object]] = {}
    for path in ("/io/kontena/Master1", "/io/kontena/Master1/grid/home", "/io/kontena/Master1/node/home/n1",
                 "/io/kontena/Master1/service/home/null/web", deploy):  # fmt: skip
        for i in master.introspect(path).findall("interface"):
            if i.get("name", "").startswith("io.kontena."):
                seen[i.get("name", "")] = shape(i)

    contract = {i.get("name", ""): shape(i) for i in CONTRACT.findall("interface")}
    assert set(contract) - set(seen) == {"io.kontena.Master1.Instance"}  # there is none without a node
    for name, members in seen.items():
        assert members == contract[name], name


def test_objects_are_listed_with_their_properties(master: Master):
    text = master.call("/io/kontena/Master1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    for path in ("/io/kontena/Master1/grid/home", "/io/kontena/Master1/node/home/n1", "/io/kontena/Master1/service/home/null/web"):
        assert f'"{path}"' in text


@pytest.fixture
def signals(master: Master) -> Iterator[list[tuple[str, str, list[object]]]]:
    """(path, member, arguments) of each signal of the master, as they come."""
    seen: list[tuple[str, str, list[object]]] = []
    monitor = subprocess.Popen(["busctl", "--address", master.environment["DBUS_SYSTEM_BUS_ADDRESS"], "--json=short", "monitor", "io.kontena.Master1"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip

    def read() -> None:
        assert monitor.stdout is not None
        for line in monitor.stdout:
            m = json.loads(line)
            if m["type"] == "signal" and m["path"].startswith("/io/kontena"):
                seen.append((m["path"], m["member"], m["payload"]["data"]))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert monitor.stderr is not None
    monitor.stderr.readline()  # "Monitoring bus message stream."
    try:
        yield seen
    finally:
        monitor.terminate()
        monitor.wait(10)
        reader.join(10)


def test_coming_changing_and_going_is_announced(master: Master, signals: list[tuple[str, str, list[object]]]):
    service = "/io/kontena/Master1/service/fair/null/stand"
    master.manager("CreateGrid", "sa{sv}", "fair", "0")
    master.manager("CreateNode", "ssa{sv}", "fair", "n1", "0")
    master.manager("CreateService", "sssa{sv}", "fair", "null", "stand", "1", "image", "s", "nginx")
    master.manager("UpdateNode", "ssa{sv}", "fair", "n1", "1", "availability", "s", "drain")
    master.manager("UpdateService", "sssa{sv}", "fair", "null", "stand", "1", "image", "s", "nginx:2")
    deploy = master.manager("DeployService", "sssa{sv}", "fair", "null", "stand", "0").split('"')[1]
    wait_for(lambda: any(p == deploy and m == "Finished" for p, m, _ in signals), lambda: str(signals))
    second = master.manager("DeployService", "sssa{sv}", "fair", "null", "stand", "0").split('"')[1]
    wait_for(lambda: any(p == second and m == "Finished" for p, m, _ in signals), lambda: str(signals))
    master.manager("RemoveService", "sss", "fair", "null", "stand")
    master.manager("RemoveNode", "ssb", "fair", "n1", "false")
    master.manager("RemoveGrid", "s", "fair")

    def gone(path: str) -> bool:
        return any(m == "InterfacesRemoved" and a[0] == path for _, m, a in signals)

    wait_for(lambda: gone("/io/kontena/Master1/grid/fair"), lambda: str(signals))
    added = {str(a[0]): a[1] for _, m, a in signals if m == "InterfacesAdded"}
    assert {"/io/kontena/Master1/grid/fair", "/io/kontena/Master1/node/fair/n1", service, deploy, second} <= set(added)
    assert added[service]["io.kontena.Master1.Service"]["Image"]["data"] == "nginx"  # type: ignore[index]
    changed = [(p, a[1]) for p, m, a in signals if m == "PropertiesChanged"]
    assert any(p.endswith("/node/fair/n1") and v["Availability"]["data"] == "drain" for p, v in changed)  # type: ignore[index]
    assert any(p == service and v.get("Image", {}).get("data") == "nginx:2" for p, v in changed)  # type: ignore[attr-defined]
    counts = [v for p, v in changed if p == service and "Deploying" in v]  # type: ignore[operator]
    assert counts and counts[-1]["Deploying"]["data"] is False  # type: ignore[index]
    finished = [(p, a) for p, m, a in signals if m == "Finished"]
    assert [p for p, _ in finished] == [deploy, second]  # once each
    assert finished[0][1][0] == "error" and "No node fits" in str(finished[0][1][1])
    assert gone(deploy) and gone(second) and gone(service) and gone("/io/kontena/Master1/node/fair/n1")
    assert any(m == "Event" and a[0] == "fair" and a[1]["type"]["data"] == "service:create" for _, m, a in signals)  # type: ignore[index]


def test_a_ping_is_no_change(master: Master, signals: list[tuple[str, str, list[object]]]):
    """What was not announced did not change: an update that says what is so already is silent for the node."""
    master.manager("CreateGrid", "sa{sv}", "calm", "0")
    master.manager("CreateNode", "ssa{sv}", "calm", "n1", "0")
    master.manager("UpdateNode", "ssa{sv}", "calm", "n1", "1", "availability", "s", "active")
    master.manager("UpdateNode", "ssa{sv}", "calm", "n1", "1", "labels", "as", "1", "az=a")
    wait_for(lambda: any(m == "PropertiesChanged" and p.endswith("/calm/n1") for p, m, _ in signals))
    assert [a[1]["Labels"]["data"] for p, m, a in signals if m == "PropertiesChanged" and p.endswith("/calm/n1")] == [["az=a"]]  # type: ignore[index]


def test_bad_requests_are_refused_by_name(master: Master):
    def error(*words: str) -> str:
        r = subprocess.run(["gdbus", "call", "--address", master.environment["DBUS_SYSTEM_BUS_ADDRESS"], "--dest", "io.kontena.Master1",
                            "--object-path", "/io/kontena/Master1", "--method", *words], capture_output=True, text=True)  # fmt: skip
        return r.stderr

    if not shutil.which("gdbus"):
        pytest.skip("no gdbus")
    assert "io.kontena.Error.NoSuchGrid" in error("io.kontena.Master1.Manager.GetGrid", "nowhere")
    assert "io.kontena.Error.InvalidArgument" in error("io.kontena.Master1.Manager.CreateGrid", "x", "{}")
    assert "io.kontena.Error.InvalidArgument" in error("io.kontena.Master1.Manager.CreateGrid", "good", "{'colour': <'red'>}")


def operations() -> dict[str, str]:
    """Method to action, out of the tables."""
    table: dict[str, str] = {}
    for p in ROOT.glob("src/kontenad/op-*.c"):
        text = p.read_text()
        for entry in re.findall(r"\{\s*(?:/\*.*?\*/\s*)?\.name = \"[^\"]+\",.*?\.perform = \w+", text, re.DOTALL):
            method = re.search(r"\.method = \"(\w+)\"", entry)
            action = re.search(r"\.action = (\"([^\"]+)\"|MANAGE)", entry)
            name = re.search(r"\.name = \"([^\"]+)\"", entry)
            value = "" if not action else action[2] or "io.kontena.master1.manage-services"
            table[method[1] if method else name[1]] = value  # type: ignore[index]
    return table


def test_each_operation_has_the_action_that_the_contract_names():
    table = operations()
    manager = CONTRACT.find("interface[@name='io.kontena.Master1.Manager']")
    assert manager is not None
    contract = {m.get("name"): annotations(m, (ACTION,)).get(ACTION, "") for m in manager.findall("method")}
    assert len(contract) > 25
    assert {m: a for m, a in table.items() if "." not in m} == contract
    cancel = CONTRACT.find("interface[@name='io.kontena.Master1.Deploy']/method[@name='Cancel']")
    assert cancel is not None and annotations(cancel, (ACTION,))[ACTION] == table["deploy.cancel"]


def test_each_action_exists_and_is_used():
    actions = {a.get("id") for a in POLICY.findall("action")}
    own = set(re.findall(r'\.own_action = "([^"]+)"', "".join(p.read_text() for p in ROOT.glob("src/kontenad/op-*.c"))))
    assert actions == {a for a in operations().values() if a} | own


def test_changing_asks_for_a_password_and_details_can_be_given():
    for a in POLICY.findall("action"):
        owner = {x.get("key"): x.text for x in a.findall("annotate")}
        assert owner["org.freedesktop.policykit.owner"] == "unix-user:kontena", "polkit refuses details from whoever is not an owner"
        if a.get("id") != "io.kontena.master1.read":
            defaults = a.find("defaults")
            assert defaults is not None
            assert all((e.text or "").startswith("auth_admin") for e in defaults), a.get("id")


def test_the_manual_names_each_member():
    page = re.sub(r"\\f[BIR]", "", (ROOT / "man/io.kontena.Master1.5").read_text())
    names = {e.get("name", "") for i in CONTRACT.findall("interface") for e in i if e.tag in ("method", "signal", "property")}
    assert [n for n in sorted(names) if not re.search(rf"\b{n}\b", page)] == []
