# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nodes without a trusted subnet speak WireGuard, here that of wireguard-go (these hosts share a kernel without); ways and keys change
while packets flow."""

import json
import re
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE

import pytest

from kontenalab.overlay import EVEN, ODD, VXLAN, Overlay
from kontenalab.process import wait_until

LOST_MAX = 3
PATTERN = "6b6f6e74656e612d706c61696e"  # "kontena-plain"


@pytest.fixture(scope="module")
def overlay(lab):
    hosts = [lab.boot([name])[0] for name in ("node4", "node5", "far1")]
    made = Overlay(hosts)
    made.start()
    made.wait_reached()
    yield made
    lab.network.unblock()
    for host in hosts:
        host.reset()


def finish(host, ping) -> tuple[int, int]:
    """A signal to what enters the host would not reach it."""
    host.run("pkill -INT -x ping", check=False)
    out = ping.communicate(timeout=30)[0]
    found = re.search(r"(\d+) packets transmitted, (\d+) received", out)
    return int(found[1]), int(found[2])


@contextmanager
def nothing_is_lost(overlay):
    """ping -i 0.01 each way between two pairs, and a TCP stream, for as long as the block takes."""
    a, b, c = overlay.nodes
    b.host.write("/root/sink.py", SINK)
    a.host.write("/root/source.py", SOURCE)
    sink = b.host.popen(b.inside("python3", "/root/sink.py", b.instance), stdout=PIPE, text=True)
    wait_until(lambda: "9000" in b.host.run(b.inside("ss", "-ltn")).stdout, 20, "a listener", 0.2)
    source = a.host.popen(a.inside("python3", "/root/source.py", b.instance), stdout=PIPE, text=True)
    pings = {"a to b": (a.host, a.ping(b)), "b to a": (b.host, b.ping(a)), "c to a": (c.host, c.ping(a))}
    try:
        yield
    finally:
        results = {name: finish(*ping) for name, ping in pings.items()}
        a.host.run("pkill -TERM -f /root/source.py", check=False)
        sent = int(source.communicate(timeout=60)[0])
        came = int(sink.communicate(timeout=60)[0])
    for name, (went, back) in results.items():
        assert went > 100, f"{name}: only {went} packets"
        assert went - back <= LOST_MAX, f"{name}: {went - back} of {went} packets were lost"
    assert sent == came > 0, f"{came} of {sent} bytes came, or not in order"


SOURCE = """
import signal, socket, sys, time
end = []
signal.signal(signal.SIGTERM, lambda *a: end.append(1))
s, n = socket.create_connection((sys.argv[1], 9000)), 0
while not end:
    s.sendall(n.to_bytes(8, "big") * 100)
    n += 1
    time.sleep(0.002)
s.shutdown(socket.SHUT_WR)
s.recv(1)
print(n * 800)
"""

SINK = """
import socket, sys
l = socket.create_server((sys.argv[1], 9000))
s, _ = l.accept()
n, rest = 0, b""
while data := s.recv(65536):
    rest += data
    while len(rest) >= 800:
        if rest[:800] != n.to_bytes(8, "big") * 100:
            sys.exit("out of order")
        n, rest = n + 1, rest[800:]
print(n * 800)
"""


def pattern_on_the_wire(overlay) -> int:
    """Packets of the underlay that show what an instance says to another."""
    a, b, _ = overlay.nodes
    device = a.host.run(f"ip -json route get {b.host.address} | jq -r '.[0].dev'").stdout.strip()
    dump = a.host.popen(["tcpdump", "--immediate-mode", "-U", "-ni", device, "-w", "/root/wire.pcap", "udp"])
    wait_until(lambda: a.host.run("test -s /root/wire.pcap", check=False).returncode == 0, 20, "the capture", 0.2)
    a.host.run(a.inside("ping", "-c5", "-i0.2", "-p", PATTERN, b.instance))
    a.host.run("sleep 1")  # what it has not read when it is ended is not in the file
    a.host.run("pkill -TERM -x tcpdump")
    dump.communicate(timeout=30)
    data = (a.host.run("od -An -v -tx1 /root/wire.pcap | tr -d ' \\n'; rm -f /root/wire.pcap").stdout).strip()
    return data.count(PATTERN)


def test_in_a_trusted_subnet_vxlan_is_spoken(overlay):
    overlay.wait_device(VXLAN)
    assert pattern_on_the_wire(overlay) > 0, "what the next test looks for would not be found"
    assert ODD not in overlay.nodes[0].host.run("ip -br link").stdout, "WireGuard where nobody needs it"


def test_to_wireguard_and_back_nothing_is_lost(overlay):
    with nothing_is_lost(overlay):
        overlay.switch("wireguard")
        overlay.wait_device(ODD)
    with nothing_is_lost(overlay):
        overlay.switch("vxlan")
        overlay.wait_device(VXLAN)
    assert all("lost" not in e for n in overlay.nodes for e in n.events())


def test_without_trust_the_wire_shows_nothing(overlay):
    overlay.switch("wireguard")
    overlay.wait_device(ODD)
    assert pattern_on_the_wire(overlay) == 0
    node = overlay.nodes[0]
    assert node.said("report")["wireguard"] in ("userspace", "kernel")
    links = node.measure()
    assert {p["path"] for p in links.values()} == {"wireguard"}
    assert all(p["state"] == "up" and p["handshake"] > 0 and p["loss"] == 0 and p["rtt_usec"] > 0 for p in links.values()), links
    # What does not fit is refused here, or cut by who sends it: what fits passes.
    node.host.run(node.inside("ping", "-c1", "-W5", "-M", "do", "-s", "1392", overlay.nodes[1].instance))
    wait_until(lambda: VXLAN not in node.host.run("ip -br link").stdout, 30, "the end of the VXLAN device", 0.5)


def test_new_keys_lose_nothing_and_old_ones_go(overlay):
    before = {n.id: n.keys()[0]["key"] for n in overlay.nodes}
    with nothing_is_lost(overlay):
        overlay.rotate()
        overlay.wait_device(EVEN)
    overlay.wait_keys(1)
    assert all(n.keys()[0]["key"] != before[n.id] and n.keys()[0]["generation"] == 2 for n in overlay.nodes)
    for n in overlay.nodes:
        wait_until(lambda n=n: ODD not in n.host.run("ip -br link").stdout, 60, "the end of the old device", 0.5)
        assert n.host.run("stat -c %a /var/lib/kontena/node/wireguard-keys").stdout.strip() == "600"
    overlay.apply()
    overlay.wait_reached()


def test_restarts_disturb_nothing_and_keep_keys(overlay):
    node, other = overlay.nodes[0], overlay.nodes[1]
    keys = node.keys()
    pids = node.host.run("pgrep -x wireguard-go", check=False).stdout
    with nothing_is_lost(overlay):
        node.stop()
        node.host.run("sleep 1")
        node.start()
        wait_until(lambda: len(re.findall("^ready", node.host.read("/root/overlay.log"), re.MULTILINE)) > 1, 30, "the driver", 0.2)
        node.host.run("sleep 3")
    assert node.host.run("pgrep -x wireguard-go", check=False).stdout == pids

    # The machine itself: as after a loss of power.
    node.host.kill()
    node.host.start()
    node.host.wait_running()
    node.host.run("systemctl stop kontena-noded", check=False)
    node.start()
    wait_until(lambda: node.reaches(other) and other.reaches(node), 60, "each other again", 0.3)
    assert node.keys() == keys


def test_a_program_that_dies_is_started_and_told_again(overlay):
    node, other = overlay.nodes[0], overlay.nodes[1]
    if node.said("report")["wireguard"] != "userspace":
        pytest.skip("the kernel has WireGuard")
    node.host.run("pkill -9 -x wireguard-go")
    wait_until(lambda: not node.reaches(other), 10, "the loss", 0.05)
    wait_until(lambda: node.reaches(other), 60, "each other again", 0.3)


def test_an_address_that_changes_is_followed(overlay):
    """The others are told of the new one while packets flow, and then of the old one."""
    node, other = overlay.nodes[0], overlay.nodes[1]
    old, new = other.host.address, "172.30.0.250"
    device = other.host.run("ip -json route get 172.30.0.1 | jq -r '.[0].dev'").stdout.strip()
    overlay.switch("wireguard")
    overlay.wait_device(overlay.device)
    try:
        with nothing_is_lost(overlay):
            other.host.run(f"ip address add {new}/24 dev {device}")
            other.host.address = new
            overlay.apply()
            other.host.run("sleep 2")
    finally:
        other.host.address = old
        overlay.apply()
        other.host.run(f"sleep 1; ip address delete {new}/24 dev {device}")
    wait_until(lambda: node.reaches(other) and other.reaches(node), 60, "each other", 0.3)


FORGE = """
import socket, struct, sys
target, vni, mac, source, destination = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3].replace(":", "")), sys.argv[4], sys.argv[5]
data = b"forged" * 4
udp = struct.pack("!HHHH", 7, 4444, 8 + len(data), 0) + data
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(destination))
s = sum(struct.unpack("!10H", ip))
s = (s & 0xffff) + (s >> 16)
s = (s & 0xffff) + (s >> 16)
ip = ip[:10] + struct.pack("!H", ~s & 0xffff) + ip[12:]
frame = mac + b"\\2\\0\\0\\0\\0\\1" + b"\\x08\\0" + ip + udp
packet = struct.pack("!II", 0x08000000, vni << 8) + frame
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5):
    u.sendto(packet, (target, 6784))
"""


def test_forged_vxlan_is_dropped(overlay, lab):
    """From a machine that is no node, and from a node with which WireGuard is spoken; not from one with which VXLAN is."""
    a, b, c = overlay.nodes
    overlay.link = lambda x, y: "vxlan" if {x, y} == {a, b} else "wireguard"
    overlay.apply()
    wait_until(lambda: a.device_to(b) == VXLAN and b.device_to(a) == VXLAN and a.device_to(c) == overlay.device, 60, "both kinds of links", 0.2)
    wait_until(lambda: c.host.address not in a.host.run("nft list set inet kontena peers").stdout, 30, "the end of VXLAN with c", 0.5)
    device = a.host.run(f"ip -json -d link show {VXLAN} | jq -r '.[0] | \"\\(.linkinfo.info_data.id) \\(.address)\"'").stdout.split()

    def arrives(sender) -> bool:
        a.host.write("/root/listen.py", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                     f"s.bind(('{a.instance}', 4444))\ns.settimeout(4)\nprint(s.recv(100))\n")  # fmt: skip
        listener = a.host.popen(a.inside("python3", "/root/listen.py"), stdout=PIPE, text=True, stderr=DEVNULL)
        wait_until(lambda: "4444" in a.host.run(a.inside("ss", "-lun")).stdout, 20, "a listener", 0.1)
        sender.write("/root/forge.py", FORGE)
        sender.run(["python3", "/root/forge.py", a.host.address, device[0], device[1], b.instance, a.instance])
        return "forged" in listener.communicate(timeout=30)[0]

    assert arrives(b.host), "what the others send would not be seen"
    assert not arrives(lab.host("master"))
    assert not arrives(c.host)


def test_who_cannot_be_reached_is_relayed(overlay, lab):
    a, b, c = overlay.nodes
    overlay.switch("wireguard")
    overlay.wait_device(overlay.device)
    overlay.wait_reached()
    lab.network.block(a.host.name, b.host.name)
    wait_until(lambda: not a.reaches(b), 20, "the cut", 0.2)
    overlay.relays = {(a.id, b.id): c.id, (b.id, a.id): c.id}
    overlay.apply()
    wait_until(lambda: a.reaches(b) and b.reaches(a), 30, "each other by the relay", 0.3)
    assert a.measure()[b.id]["path"] == "relay"
    # It stays so, and the way is looked for all the time: as soon as it is there, the master is told.
    handshake = a.measure()[b.id]["handshake"]
    lab.network.unblock()
    wait_until(lambda: a.measure()[b.id]["handshake"] > handshake, 60, "a direct handshake", 0.5)
    assert a.measure()[b.id]["state"] == "up" and a.reaches(b)
    overlay.relays = {}
    overlay.apply()
    wait_until(lambda: a.measure()[b.id]["path"] == "wireguard" and a.reaches(b), 30, "the direct way", 0.5)


def test_the_daemon_itself_in_its_sandbox(overlay):
    """It starts the unit, goes and comes while packets flow, stays small, and takes all of it away when the machine leaves."""
    a, b = overlay.nodes[0], overlay.nodes[1]
    a.stop()
    a.host.run("systemctl stop 'kontena-wireguard@*'; rm -f /var/lib/kontena/node/wireguard-keys", check=False)
    overlay.generation += 1
    overlay.apply()
    wait_until(lambda: any(k["generation"] == overlay.generation for k in b.keys()), 30, "keys of the others", 0.2)

    def desired() -> str:
        own = json.loads(a.host.read("/root/overlay.json")) | {"names": {}, "volumes": {}, "instances": {}}
        return json.dumps({"version": 1, "epoch": 1, "seq": 0, "desired": own})

    overlay.write()
    a.host.write("/var/lib/kontena/node/desired.json", desired(), mode=0o600)
    a.host.run("systemctl start kontena-noded")
    path = "/var/lib/kontena/node/wireguard-keys"
    wait_until(lambda: a.host.run(f"test -e {path}", check=False).returncode == 0, 30, "keys of the daemon", 0.2)
    key = a.host.run(f"awk '$1 == {overlay.generation} {{ print $2 }}' {path} | wg pubkey").stdout.strip()
    b_desired = json.loads(b.host.read("/root/overlay.json"))
    b_desired["peers"][a.id]["wireguard"] = [{"generation": overlay.generation, "port": 51821 - overlay.generation % 2, "key": key}]
    b.host.write("/root/overlay.json", json.dumps(b_desired))
    b.host.run("systemctl kill --kill-whom=main --signal=HUP overlay-driver")

    wait_until(lambda: a.host.run(f"ping -c1 -W1 -I 10.81.0.1 {b.instance}", check=False).returncode == 0, 60, "the instance", 0.3)
    ping = a.host.popen(["ping", "-q", "-i", "0.01", "-w", "600", "-I", "10.81.0.1", b.instance], stdout=PIPE, text=True)
    for command in ("systemctl restart kontena-noded", "systemctl kill --signal=KILL kontena-noded"):
        a.host.run(command)
        wait_until(lambda: a.host.run("systemctl is-active kontena-noded", check=False).stdout.strip() == "active", 30, "the daemon", 0.2)
        a.host.run("sleep 3")
    went, back = finish(a.host, ping)
    assert went > 200 and went - back <= LOST_MAX, f"{went - back} of {went}"
    resident = int(a.host.run("awk '/^VmRSS/ { print $2 }' /proc/$(systemctl show -P MainPID kontena-noded)/status").stdout)
    assert resident < 6144, f"{resident} kB"
    if "kt-w" in a.host.run("ip -json -d link show type tun", check=False).stdout:
        assert a.host.run(f"systemctl is-active kontena-wireguard@{overlay.device}").stdout.strip() == "active"

    a.host.run("kontenactl node leave --force")
    wait_until(lambda: "kt-" not in a.host.run("ip -br link").stdout, 30, "the end of all devices", 0.3)
    assert a.host.run(f"test -e {path}", check=False).returncode != 0
    assert a.host.run("ls /run/wireguard", check=False).stdout.strip() == ""
    assert not a.host.run("systemctl list-units --plain --no-legend 'kontena-wireguard@*'").stdout.strip()
    assert not a.host.run("nft list ruleset").stdout.strip()
