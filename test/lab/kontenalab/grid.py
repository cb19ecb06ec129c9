# SPDX-License-Identifier: LGPL-2.1-or-later
"""A grid in the lab: what an administrator does with kontenactl, for `./lab up` and for the tests."""

import itertools
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .host import Host
from .lab import Lab
from .process import CommandError, Result, wait_until

TRUSTED = "172.30.0.0/24"
NODE_CONF = """\
# Written by the lab: its registry has a certificate of the lab's own authority.
[Images]
RegistryCA=/etc/kontena/lab-ca.pem
"""

_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """A name that no other test has, nor one of an earlier run whose journal entries are still there."""
    return f"{prefix}{os.getpid() % 1000}x{next(_numbers)}"


class Grid:
    def __init__(self, lab: Lab, name: str = "lab"):
        self.lab = lab
        self.name = name

    @property
    def master(self) -> Host:
        return self.lab.host("master")

    def ctl(self, *args: str, check: bool = True, user: str | None = None, timeout: float = 120, input: str | None = None) -> Result:
        return self.master.run(
            ["kontenactl", "--no-pager", "--no-ask-password", *args],
            check=check, user=user, timeout=timeout, input=input, env={"KONTENA_GRID": self.name},
        )  # fmt: skip

    def json(self, *args: str) -> Any:
        return json.loads(self.ctl("--json=short", *args).stdout)

    def popen(self, *args: str, **kwargs: Any) -> subprocess.Popen:
        return self.master.popen(["env", f"KONTENA_GRID={self.name}", "kontenactl", "--no-pager", *args], **kwargs)

    # Making it

    def make(self, nodes: Sequence[str] = ("node1", "node2", "node3")) -> None:
        self.master.run("systemctl enable --now kontenad.service")
        if self.name not in [g["name"] for g in self.json("grid", "list")]:
            self.ctl("grid", "create", self.name, f"--trusted-subnet={TRUSTED}")
        for name in nodes:
            self.join(self.lab.host(name))
        for name in nodes:
            self.wait_node(name, "online")

    def token(self) -> str:
        return self.ctl("grid", "token", self.name).stdout.strip()

    def join(self, host: Host, token: str | None = None, check: bool = True) -> Result:
        host.write("/etc/kontena/noded.conf.d/lab.conf", NODE_CONF)
        if host.run("systemctl is-active kontena-noded", check=False).returncode == 0:
            return host.run("true")
        with host.right_clock():  # a node whose clock is off is refused
            return host.run(["kontenactl", "node", "join", "https://master:9292", token or self.token()], check=check, timeout=90)

    # Nodes

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {n["name"]: n for n in self.json("node", "list")}

    def wait_node(self, name: str, state: str, timeout: float = 60) -> None:
        wait_until(lambda: self.nodes().get(name, {}).get("state") == state, timeout, f"node {name} {state}", 0.2)

    # Services

    def create(self, name: str, image: str, *options: str) -> None:
        """Make and deploy; options are kontenactl's, the command of the container after "--". A shell that is process 1 does
        not heed SIGTERM, so a second is all that busybox gets unless the test says otherwise."""
        image = image if "/" in image else f"registry:5000/{image}"
        command = list(options[options.index("--"):]) if "--" in options else []
        before = list(options[: options.index("--")]) if "--" in options else list(options)
        if "busybox" in image and not any(o.startswith("--stop-timeout") for o in before):
            before.append("--stop-timeout=1")
        self.ctl("service", "create", *before, name, image, *command)
        self.deploy(name)

    def deploy(self, name: str, *options: str, check: bool = True, timeout: float = 180) -> Result:
        return self.ctl("service", "deploy", *options, name, check=check, timeout=timeout)

    def remove(self, *names: str) -> None:
        for name in names:
            self.ctl("service", "remove", "--force", name, check=False)
        wait_until(lambda: not any(self.units(n) for n in names), 60, f"removal of {', '.join(names)}", 0.2)

    @contextmanager
    def service(self, name: str, image: str, *options: str) -> Iterator[str]:
        """A service for the length of a `with`."""
        try:
            self.create(name, image, *options)
            yield name
        finally:
            self.remove(name)

    def service_json(self, name: str) -> dict[str, Any]:
        return self.json("service", "show", name)

    def instances(self, name: str) -> list[dict[str, Any]]:
        """Those that are wanted; what an old node still has to remove is left out."""
        wanted = [i for i in self.service_json(name)["instances"] if i["desired"] != "terminated"]
        return sorted(wanted, key=lambda i: i["number"])

    def instance(self, name: str, number: int = 1) -> dict[str, Any]:
        return next(i for i in self.instances(name) if i["number"] == number)

    def wait_instances(self, name: str, states: Sequence[str], timeout: float = 60) -> list[dict[str, Any]]:
        """Until exactly these states, one for each instance in order of their numbers."""
        wait_until(lambda: [i["state"] for i in self.instances(name)] == list(states), timeout,
                   f"{name} {', '.join(states)}", 0.2)  # fmt: skip
        return self.instances(name)

    # The machines behind them

    def units(self, service: str, stack: str = "null") -> list[tuple[str, str]]:
        """(host, unit) of every loaded unit of a service, wherever it is."""
        found = []
        for host in self.node_hosts():
            listed = host.run(
                f"systemctl list-units --all --plain --no-legend 'kontena-{self.name}-{stack}.{service}-*.service'",
                check=False,
            ).stdout
            found += [(host.name, line.split()[0]) for line in listed.splitlines() if line.strip()]
        return found

    def node_hosts(self) -> list[Host]:
        return [h for h in self.lab.hosts.values() if h.running and h.name.startswith(("node", "vm"))]

    def host_of(self, instance: dict[str, Any]) -> Host:
        return self.lab.host(instance["node"])

    def main_pid(self, instance: dict[str, Any]) -> int:
        return int(self.host_of(instance).run(
            ["systemctl", "show", "-P", "MainPID", instance["unit"]]).stdout)  # fmt: skip

    def inside(self, instance: dict[str, Any], command: str, check: bool = True, timeout: float = 30) -> Result:
        """Run a shell line in a container, from the node, as `kontenactl exec` will do."""
        pid = self.main_pid(instance)
        return self.host_of(instance).run(
            ["nsenter", "-t", str(pid), "-m", "-n", "-u", "-i", "-p", "-r", "-w", "/bin/sh", "-c", command],
            check=check, timeout=timeout,
        )  # fmt: skip


__all__ = ["CommandError", "Grid", "unique"]
