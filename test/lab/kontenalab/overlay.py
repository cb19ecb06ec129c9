# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network part of kontena-noded alone on some hosts (test-network-driver), with the test in the master's place: what nodes tell is
carried to the others, settings change when the test says so."""

import json
import re
from collections.abc import Callable, Sequence
from subprocess import PIPE
from typing import Any

from .build import Build
from .host import Host
from .process import Background, wait_until

GRID = "overlay"
VXLAN, ODD, EVEN = f"kt-vx-{GRID}", f"kt-wg-{GRID}", f"kt-wh-{GRID}"
_LOG, _DESIRED, _DRIVER, _UNIT = "/root/overlay.log", "/root/overlay.json", "/root/test-network-driver", "overlay-driver"


class OverlayNode:
    def __init__(self, host: Host, number: int):
        self.host, self.number = host, number
        self.id, self.block, self.instance = f"N{number}", f"10.81.{127 + number}.0/24", f"10.81.{127 + number}.5"
        self.public_address: str | None = None

    def start(self) -> None:
        self.host.run(["systemd-run", f"--unit={_UNIT}", "--collect", f"--property=StandardOutput=append:{_LOG}",
                       _DRIVER, _DESIRED])  # fmt: skip

    def stop(self) -> None:
        self.host.run(f"systemctl stop {_UNIT}", check=False)

    def said(self, word: str) -> Any:
        """What it told last: "report", "links", "measured"."""
        found = re.findall(rf"^{word} (.*)$", self.host.run(f"cat {_LOG}", check=False).stdout, re.MULTILINE)
        return json.loads(found[-1]) if found else None

    def events(self) -> list[str]:
        return re.findall(r"^event (.*)$", self.host.run(f"cat {_LOG}", check=False).stdout, re.MULTILINE)

    def keys(self) -> list[dict[str, Any]]:
        return (self.said("report") or {}).get("wireguard_keys", [])

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", f"kt-i{self.number}", *command]

    def device_to(self, other: "OverlayNode") -> str:
        found = re.search(r"\bdev (\S+)", self.host.run(f"ip route get {other.instance}", check=False).stdout)
        return found[1] if found else ""

    def reaches(self, other: "OverlayNode") -> bool:
        return self.host.run(self.inside("ping", "-c1", "-W1", other.instance), check=False).returncode == 0

    def ping(self, other: "OverlayNode") -> Background:
        return self.host.popen(self.inside("ping", "-q", "-i", "0.01", "-w", "600", other.instance), stdout=PIPE, text=True)

    def measure(self) -> dict[str, Any]:
        count = len(re.findall(r"^measured ", self.host.read(_LOG), re.MULTILINE))
        self.host.run(f"systemctl kill --kill-whom=main --signal=USR1 {_UNIT}")
        wait_until(lambda: len(re.findall(r"^measured ", self.host.read(_LOG), re.MULTILINE)) > count, 10, "a measurement", 0.1)
        return self.said("measured")


class Overlay:
    def __init__(self, hosts: Sequence[Host]):
        self.nodes = [OverlayNode(host, number) for number, host in enumerate(hosts, 1)]
        self.generation = 1
        self.link: Callable[[OverlayNode, OverlayNode], str] = lambda a, b: "vxlan"
        self.relays: dict[tuple[str, str], str] = {}
        for node in self.nodes:
            node.host.push(Build().directory / "src/kontena-noded/test-network-driver", _DRIVER)
            node.host.run("systemctl stop kontena-noded; mkdir -p -m 0700 /var/lib/kontena/node", check=False)

    @property
    def device(self) -> str:
        return ODD if self.generation % 2 else EVEN

    def _peer(self, node: OverlayNode, peer: OverlayNode) -> dict[str, Any]:
        return {"name": peer.host.name, "number": peer.number, "overlay_address": f"10.81.0.{peer.number}", "blocks": [peer.block],
                "private_address": peer.host.address, "public_address": peer.public_address, "mtu": 1500,
                "link": self.link(node, peer), "wireguard": peer.keys()}  # fmt: skip

    def write(self) -> None:
        for node in self.nodes:
            others = [n for n in self.nodes if n is not node]
            desired = {
                "node": {"name": node.host.name, "number": node.number, "overlay_address": f"10.81.0.{node.number}", "blocks": [node.block]},
                "grid": {"id": "overlay-grid", "name": GRID, "subnet": "10.81.0.0/16", "key_generation": self.generation},
                "peers": {n.id: self._peer(node, n) for n in others},
                "relays": {n.id: self.relays[node.id, n.id] for n in others if (node.id, n.id) in self.relays},
                "instances": {f"i{node.number}": {"address": node.instance}},
            }
            node.host.write(_DESIRED, json.dumps(desired))

    def start(self) -> None:
        self.write()
        for node in self.nodes:
            node.start()
        self.wait_keys(1)
        self.apply()

    def apply(self) -> None:
        self.write()
        for node in self.nodes:
            node.host.run(f"systemctl kill --kill-whom=main --signal=HUP {_UNIT}", check=False)  # it may be stopped

    def wait_keys(self, count: int) -> None:
        wait_until(lambda: all(len(n.keys()) == count for n in self.nodes), 90, f"{count} generations of keys on each node", 0.2)

    def switch(self, link: str) -> None:
        self.link = lambda a, b: link
        self.apply()

    def rotate(self) -> None:
        """As `kontenactl grid rotate-keys` does: the generation first, then each node's key to the others."""
        self.generation += 1
        self.apply()
        self.wait_keys(2)
        self.apply()

    def wait_device(self, device: str) -> None:
        wait_until(lambda: all(a.device_to(b) == device for a in self.nodes for b in self.nodes if a is not b), 60, device, 0.2)

    def wait_reached(self) -> None:
        wait_until(lambda: all(a.reaches(b) for a in self.nodes for b in self.nodes if a is not b), 60, "every instance from every other", 0.3)
