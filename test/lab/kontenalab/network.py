# SPDX-License-Identifier: LGPL-2.1-or-later
"""The underlay: bridges in a namespace of the lab's own, one link to each host.

    kl-LAB          bridges lan and far, one port for each host named as the host; also "the rest of the world"
                    and mgmt, by which the lab itself reaches virtual machines
    kl-LAB.HOST     the namespace of an nspawn host, whose end of the link is eth0
"""

import re
from collections.abc import Sequence
from pathlib import Path

from .process import LabError, Unsupported, run

PREFIXES = {"lan": "172.30.0", "far": "172.31.0"}
MANAGEMENT = "192.0.2"
WORLD = "198.51.100.1"

_FIXED = {"registry": 5, "master": 10}
_FAMILIES = {"node": ("lan", 10, 80), "vm": ("lan", 100, 80), "far": ("far", 10, 200)}


def place(host: str) -> tuple[str, str]:
    """The bridge and the address of a host; a function of the name alone, so that every /etc/hosts is complete."""
    if host in _FIXED:
        return "lan", f"{PREFIXES['lan']}.{_FIXED[host]}"
    match = re.fullmatch(r"([a-z]+)([0-9]+)", host)
    if match and match[1] in _FAMILIES:
        bridge, base, count = _FAMILIES[match[1]]
        if 1 <= int(match[2]) <= count:
            return bridge, f"{PREFIXES[bridge]}.{base + int(match[2])}"
    raise LabError(f"No host can be called '{host}': master, registry, node1…, vm1… or far1…")


def hosts_file(own: str) -> str:
    names = ["registry", "master"] + [f"{f}{n}" for f in _FAMILIES for n in range(1, 10)]
    names += [own] if own not in names else []
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "\n".join(lines + [f"{place(n)[1]} {n}" for n in names]) + "\n"


class Network:
    def __init__(self, lab: str):
        self.namespace = f"kl-{lab}"

    def host_namespace(self, host: str) -> str:
        return f"{self.namespace}.{host}"

    @staticmethod
    def exists(namespace: str) -> bool:
        return Path("/run/netns", namespace).exists()

    def up(self) -> None:
        if self.exists(self.namespace):
            return
        run(["ip", "netns", "add", self.namespace])
        lines = ["link set dev lo up", f"addr add {WORLD}/32 dev lo"]
        for bridge, prefix in (*PREFIXES.items(), ("mgmt", MANAGEMENT)):
            lines += [
                f"link add name {bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                f"addr add {prefix}.1/24 dev {bridge}",
                f"link set dev {bridge} up",
            ]
        self._ip(lines)
        self.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])

    def down(self) -> None:
        for path in sorted(Path("/run/netns").glob(f"{self.namespace}*"), reverse=True):
            if path.name == self.namespace or path.name.startswith(f"{self.namespace}."):
                run(["ip", "netns", "delete", path.name])

    def attach_namespace(self, host: str, mtu: int) -> Path:
        """A fresh namespace for a host with eth0 configured; whatever was in an older one is gone."""
        self.detach(host)
        bridge, address = place(host)
        inner = self.host_namespace(host)
        run(["ip", "netns", "add", inner])
        peer = f"eth0 mtu {mtu} address {mac(address)} netns {inner}"
        self._ip(
            [
                f"link add name {host} mtu {mtu} type veth peer name {peer}",
                f"link set dev {host} master {bridge}",
                f"link set dev {host} up",
            ]
        )
        gateway = f"{PREFIXES[bridge]}.1"
        self._ip(
            ["link set dev lo up", f"addr add {address}/24 dev eth0", "link set dev eth0 up", f"route add default via {gateway}"],
            inner,
        )
        return Path("/run/netns", inner)

    def attach_tap(self, host: str, mtu: int) -> None:
        self.detach(host)
        bridge, _ = place(host)
        self._ip(
            [
                f"tuntap add name {host} mode tap",
                f"link set dev {host} mtu {mtu} master {bridge}",
                f"link set dev {host} up",
                f"tuntap add name {host}.m mode tap",
                f"link set dev {host}.m master mgmt",
                f"link set dev {host}.m up",
            ]
        )

    def detach(self, host: str) -> None:
        if self.exists(self.host_namespace(host)):
            run(["ip", "netns", "delete", self.host_namespace(host)])
        for link in (host, f"{host}.m"):
            run(["ip", "-n", self.namespace, "link", "delete", "dev", link], check=False)

    def set_link(self, host: str, up: bool) -> None:
        """The cable: the host sees its carrier go."""
        self._ip([f"link set dev {host} {'up' if up else 'down'}"])

    def set_bridged(self, host: str, bridged: bool) -> None:
        """Somewhere on the way: packets vanish while the host's carrier stays."""
        self._ip([f"link set dev {host} master {place(host)[0]}" if bridged else f"link set dev {host} nomaster"])

    def block(self, first: str, second: str) -> None:
        """Let two hosts on the same bridge not hear each other, while both hear all others."""
        rules = "\n".join(
            f"add rule bridge lab pairs iifname {a} oifname {b} drop" for a, b in ((first, second), (second, first))
        )
        chain = "add table bridge lab\nadd chain bridge lab pairs { type filter hook forward priority 0; }\n"
        self.run(["nft", "-f", "-"], input=chain + rules)

    def unblock(self) -> None:
        self.run(["nft", "delete", "table", "bridge", "lab"], check=False)

    def shape(self, host: str, delay_ms: int | None, rate: str | None) -> None:
        """Slow what goes to and comes from a host; None and None ends it."""
        qdisc: list[str] = []
        if delay_ms is not None:
            qdisc = ["netem", "delay", f"{delay_ms}ms"] + (["rate", rate] if rate else [])
        elif rate is not None:
            qdisc = ["tbf", "rate", rate, "burst", "32kb", "latency", "400ms"]
        ends = [(self.namespace, host)]
        if self.exists(self.host_namespace(host)):
            ends.append((self.host_namespace(host), "eth0"))
        for namespace, link in ends:
            run(["tc", "-n", namespace, "qdisc", "delete", "dev", link, "root"], check=False)
            if qdisc:
                result = run(["tc", "-n", namespace, "qdisc", "add", "dev", link, "root", *qdisc], check=False)
                if result.returncode != 0:
                    self.shape(host, None, None)
                    raise Unsupported(f"This kernel has no {qdisc[0]} queue to slow a host: {result.stderr.strip()}")

    def run(self, argv: Sequence[str], **kwargs):
        """Run a program of the machine inside the lab's namespace."""
        return run(self.entering(argv), **kwargs)

    def entering(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *argv]

    def _ip(self, lines: Sequence[str], namespace: str | None = None) -> None:
        run(["ip", "-n", namespace or self.namespace, "-batch", "-"], input="\n".join(lines) + "\n", what="\n".join(lines))


def management_address(address: str) -> str:
    """Where the lab reaches a virtual machine, whatever is done to its other link."""
    return f"{MANAGEMENT}.{address.rpartition('.')[2]}"


def mac(address: str) -> str:
    return "02:4b:" + ":".join(f"{int(octet):02x}" for octet in address.split("."))
