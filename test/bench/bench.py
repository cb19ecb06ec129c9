#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""From `deploy` to all instances running on one node, and what the daemons weigh: Kontena beside Docker Swarm.

Each runs alone on a host of its own, of the same kind, with manager and worker on that host, the image already
there, an overlay network, and `sleep infinity` in busybox. Time counts from just before the command that asks for
the service until the last container's process was started, by the host's clock and each system's own record. Memory is
the resident set of everything that is not a container's own process.

    ./lab bench                      10 and 50 instances, three rounds, medians and ratios
    ./lab bench --only swarm --counts 10 --rounds 1
"""

import argparse
import calendar
import json
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from kontenalab import CommandError, Host, Lab, wait_until  # noqa: E402
from kontenalab import console  # noqa: E402

IMAGE = "registry:5000/busybox:1"
DEADLINE = 600

# program and resident size in kB of each process
_MEMORY = r"""
for p in /proc/[0-9]*; do
    rss=$(sed -n 's/^Rss: *\([0-9]*\).*/\1/p' $p/smaps_rollup 2>/dev/null)
    [ -n "$rss" ] && echo "$(basename "$(readlink $p/exe)") $rss"
done
true
"""


@dataclass
class Figures:
    system: str
    instances: int
    seconds: float
    daemons_kb: int             # resident, with nothing deployed
    deployed_kb: int            # resident, with all instances up
    processes: dict[str, int]   # resident by program, with all instances up

    @property
    def per_instance_kb(self) -> float:
        return (self.deployed_kb - self.daemons_kb) / self.instances


class Contender(ABC):
    name: str
    programs: tuple[str, ...]

    def __init__(self, host: Host):
        self.host = host

    @abstractmethod
    def prepare(self) -> None:
        """Daemons up, image there, network made; nothing deployed."""

    @abstractmethod
    def deploy(self, count: int) -> str:
        """The shell line that asks for the service and does not wait."""

    @abstractmethod
    def started(self) -> list[float]:
        """When the process of each running instance was started, in seconds since the epoch."""

    @abstractmethod
    def remove(self) -> None:
        """Take the service away and wait until nothing of it is left."""

    def memory(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for line in self.host.run(_MEMORY).stdout.splitlines():
            program, _, rss = line.rpartition(" ")
            if program.startswith(self.programs):
                found[program] = found.get(program, 0) + int(rss)
        return found

    def measure(self, count: int) -> Figures:
        before = self.memory()
        asked = float(self.host.run(f"date +%s.%N; {self.deploy(count)} >/dev/null", timeout=DEADLINE).stdout.split()[0])
        wait_until(lambda: len(self.started()) >= count, DEADLINE, f"{count} instances on {self.name}", 0.2)
        seconds = max(self.started()) - asked
        after = self.settled_memory()
        self.remove()
        return Figures(self.name, count, round(seconds, 2), sum(before.values()), sum(after.values()), after)

    def settled_memory(self) -> dict[str, int]:
        """When two readings a second apart agree within two percent."""
        last = self.memory()

        def settled() -> bool:
            nonlocal last
            previous, last = last, self.memory()
            return abs(sum(last.values()) - sum(previous.values())) <= 0.02 * sum(previous.values())

        wait_until(settled, 30, f"memory of {self.name} to settle", 1)
        return last


class Kontena(Contender):
    name = "kontena"
    programs = ("kontena", "dnsmasq", "crun", "runc")

    def prepare(self) -> None:
        self.host.write("/etc/kontena/noded.conf.d/lab.conf", "[Images]\nRegistryCA=/etc/kontena/lab-ca.pem\n")
        self.host.run("kontenactl bootstrap --grid=bench", timeout=120)
        self.deploy_and_wait("warm", 1)
        self.remove("warm")

    def deploy_and_wait(self, service: str, count: int) -> None:
        self._ctl("service", "create", f"--instances={count}", service, IMAGE, "--", "sleep", "infinity")
        self._ctl("service", "deploy", service)

    def deploy(self, count: int) -> str:
        self._ctl("service", "create", f"--instances={count}", "bench", IMAGE, "--", "sleep", "infinity")
        return "kontenactl --no-pager service deploy --no-wait bench"

    def started(self) -> list[float]:
        shown = self.host.run(
            "systemctl show --property=ActiveState,ActiveEnterTimestamp --timestamp=us+utc 'kontena-bench-null.bench-*.service'"
        ).stdout
        times = []
        for block in shown.strip().split("\n\n"):
            fields = dict(line.partition("=")[::2] for line in block.splitlines())
            if fields.get("ActiveState") == "active":
                times.append(_parse_systemd_time(fields["ActiveEnterTimestamp"]))
        return times

    def remove(self, service: str = "bench") -> None:
        self._ctl("service", "remove", "--force", service)
        pattern = f"kontena-bench-null.{service}-*.service"
        listed = ["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern]
        wait_until(lambda: not self.host.run(listed).stdout.strip(), DEADLINE, f"removal of {service}", 0.2)

    def _ctl(self, *arguments: str) -> None:
        self.host.run(["kontenactl", "--no-pager", *arguments], timeout=DEADLINE, env={"KONTENA_GRID": "bench"})


class Swarm(Contender):
    name = "swarm"
    programs = ("dockerd", "containerd", "docker-proxy", "docker-init", "runc")

    def prepare(self) -> None:
        self.host.run("systemctl start docker", timeout=120)
        self.host.run(f"docker swarm init --advertise-addr {self.host.address}")
        self.host.run("docker network create --driver overlay bench", timeout=60)
        self.host.run(f"docker pull --quiet {IMAGE}", timeout=120)

    def deploy(self, count: int) -> str:
        return (
            f"docker service create --detach --quiet --no-resolve-image --name bench --network bench "
            f"--endpoint-mode dnsrr --replicas {count} {IMAGE} sleep infinity"
        )

    def started(self) -> list[float]:
        ids = self.host.run(["docker", "ps", "--quiet", "--filter", "label=com.docker.swarm.service.name=bench"]).stdout
        if not ids.split():
            return []
        try:
            shown = self.host.run(["docker", "inspect", "--format", "{{.State.Running}} {{.State.StartedAt}}", *ids.split()])
        except CommandError:  # one ended between the two commands
            return []
        rows = (line.split() for line in shown.stdout.splitlines())
        return [_parse_iso_time(when) for running, when in rows if running == "true"]

    def remove(self) -> None:
        self.host.run("docker service rm bench")
        wait_until(lambda: not self.host.run(["docker", "ps", "--quiet", "--all"]).stdout.strip(), DEADLINE,
                   "removal of the service", 0.5)  # fmt: skip


def _parse_iso_time(text: str) -> float:
    """2026-11-25T08:33:20.123456789Z"""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return _utc(whole, "%Y-%m-%dT%H:%M:%S") + float(f"0.{fraction or 0}")


def _parse_systemd_time(text: str) -> float:
    """Wed 2026-11-25 08:33:20.123456 UTC"""
    _, date, clock, _ = text.split()
    whole, _, fraction = clock.partition(".")
    return _utc(f"{date}T{whole}", "%Y-%m-%dT%H:%M:%S") + float(f"0.{fraction or 0}")


def _utc(text: str, form: str) -> float:
    return float(calendar.timegm(time.strptime(text, form)))


def measure_all(make: Callable[[], Contender], counts: list[int], rounds: int) -> list[Figures]:
    contender = make()
    with console.step(f"Preparing {contender.name}"):
        contender.prepare()
    found = []
    for count in counts:
        for number in range(rounds):
            with console.step(f"{contender.name}: {count} instances, round {number + 1}"):
                found.append(contender.measure(count))
            console.say(f"    {found[-1].seconds:.2f} s")
    return found


def median(figures: list[Figures], system: str, count: int) -> Figures | None:
    mine = [f for f in figures if f.system == system and f.instances == count]
    if not mine:
        return None
    middle = sorted(mine, key=lambda f: f.seconds)[len(mine) // 2]
    return Figures(
        system, count, statistics.median(f.seconds for f in mine), int(statistics.median(f.daemons_kb for f in mine)),
        int(statistics.median(f.deployed_kb for f in mine)), middle.processes,
    )  # fmt: skip


def report(figures: list[Figures], counts: list[int]) -> None:
    console.say("")
    console.say(f"{'':26}{'kontena':>12}{'swarm':>12}{'ratio':>9}")
    rows: list[tuple[str, str, Callable[[Figures], float]]] = [
        ("time, s", "{:.2f}", lambda f: f.seconds),
        ("daemons alone, MB", "{:.1f}", lambda f: f.daemons_kb / 1024),
        ("all with instances, MB", "{:.1f}", lambda f: f.deployed_kb / 1024),
        ("per instance, MB", "{:.2f}", lambda f: f.per_instance_kb / 1024),
    ]
    for count in counts:
        console.say(f"{count} instances")
        ours, theirs = (median(figures, system, count) for system in ("kontena", "swarm"))
        for title, form, value in rows:
            left = form.format(value(ours)) if ours else "-"
            right = form.format(value(theirs)) if theirs else "-"
            ratio = f"{value(theirs) / value(ours):.1f}" if ours and theirs and value(ours) > 0 else "-"
            console.say(f"  {title:24}{left:>12}{right:>12}{ratio:>9}")
        for one in filter(None, (ours, theirs)):
            parts = ", ".join(f"{name} {kb / 1024:.1f}" for name, kb in sorted(one.processes.items()))
            console.say(f"    {one.system}: {parts} MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["kontena", "swarm"])
    parser.add_argument("--json", type=Path, help="write every round's figures there")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running afterwards")
    args = parser.parse_args()

    lab = Lab()
    figures: list[Figures] = []
    contenders: dict[str, Callable[[], Contender]] = {
        "kontena": lambda: Kontena(lab.boot(["master"])[0]),
        "swarm": lambda: Swarm(lab.boot(["node1"], tree="docker", project=False)[0]),
    }
    try:
        lab.boot(["registry"])
        for name, make in contenders.items():
            if args.only in (None, name):
                figures += measure_all(make, args.counts, args.rounds)
                lab.host("master" if name == "kontena" else "node1").stop()  # the next one has the machine alone
    finally:
        if not args.keep:
            lab.down()
    if args.json:
        args.json.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    report(figures, args.counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
