#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""From `deploy` to all instances running on one node, and what the daemons weigh: Kontena beside Docker Swarm.

Each has a host of its own, of the same kind, with manager and worker on that host, the image already there, an overlay
network, and `sleep infinity` in busybox. The rounds alternate, so that both meet the same noise; the one that is not
measured has nothing deployed.

Time counts from just before the command that asks for the service until the last container's process was started, by
the host's clock and each system's own record (the unit's ActiveEnterTimestamp, the container's StartedAt). Docker says
both in one command, `docker service create`; so our time takes in `kontenactl service create` and `… deploy`.

Memory is the sum of the resident sets of all daemons and helpers of either system: every process in its units and
those of its programs, wherever they run, but not the containers' own processes. What the rest of the host (systemd,
journald, the bus, …) grows by when the instances come is shown apart, for both.

A rolling deploy is measured the same way: every instance of a running service is replaced, since a variable of its
environment changes. Both start the new one first, two at a time; the time ends when the last new process was started.
They do not promise the same: where nothing else tells that a container is up, Kontena waits for a second whether it stays
before it takes the old one away and goes on. Swarm goes on, and takes the old one away, as soon as the process was started;
it watches for a second, but meanwhile it replaces the next ones. So Swarm is measured twice: as it is, and with the second in
between (--update-delay).

    ./lab bench                      10 and 50 instances, five rounds, medians and ratios
    ./lab bench --rolling            replace 10 instances, five rounds
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

# resident size in kB, program and control group of each process
_MEMORY = r"""
for p in /proc/[0-9]*; do
    rss=$(sed -n 's/^Rss: *\([0-9]*\).*/\1/p' $p/smaps_rollup 2>/dev/null)
    [ -n "$rss" ] && echo "$rss $(basename "$(readlink $p/exe)") $(sed -n 's/^0:://p' $p/cgroup)"
done
true
"""
_PAYLOAD = "busybox"
_OURSELVES = "lab.scope"    # the commands of this program


@dataclass
class Figures:
    system: str
    instances: int
    seconds: float
    daemons_kb: int             # resident, with nothing deployed
    deployed_kb: int            # resident, with all instances up
    rest_kb: int                # by how much the rest of the host has grown meanwhile
    processes: dict[str, int]   # resident by program, with all instances up

    @property
    def per_instance_kb(self) -> float:
        return (self.deployed_kb - self.daemons_kb) / self.instances


class Contender(ABC):
    name: str
    programs: tuple[str, ...]   # what belongs to it by name,
    units: tuple[str, ...]      # and by unit or slice

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

    # How a rolling deploy may go: seconds from one replacement to the next that are asked for.
    pauses: tuple[int, ...] = (0,)

    @abstractmethod
    def replace(self, version: str, pause: int) -> str:
        """The shell line that has all instances replaced, and does not wait."""

    @abstractmethod
    def remove(self) -> None:
        """Take the service away and wait until nothing of it is left."""

    def memory(self) -> tuple[dict[str, int], int]:
        """Resident by program of this system, and the sum of all else but the containers."""
        mine: dict[str, int] = {}
        rest = 0
        for line in self.host.run(_MEMORY).stdout.splitlines():
            rss, program, group = line.split(" ", 2)
            if program == _PAYLOAD or _OURSELVES in group:
                continue
            if program.startswith(self.programs) or any(u in group for u in self.units):
                mine[program] = mine.get(program, 0) + int(rss)
            else:
                rest += int(rss)
        return mine, rest

    def measure(self, count: int) -> Figures:
        before, rest_before = self.settled_memory()
        asked = float(self.host.run(f"date +%s.%N; {self.deploy(count)} >/dev/null", timeout=DEADLINE).stdout.split()[0])
        # Looking costs time as well: seldom.
        wait_until(lambda: len(self.started()) >= count, DEADLINE, f"{count} instances on {self.name}", 1)
        seconds = max(self.started()) - asked
        after, rest_after = self.settled_memory()
        self.remove()
        return Figures(
            self.name, count, round(seconds, 3), sum(before.values()), sum(after.values()), rest_after - rest_before, after
        )  # fmt: skip

    def roll(self, count: int, version: str, pause: int) -> float:
        """Seconds in which a service of so many running instances has new ones in place of all."""
        clock = f"date +%s.%N; {self.replace(version, pause)} >/dev/null"
        asked = float(self.host.run(clock, timeout=DEADLINE).stdout.split()[0])

        def new() -> list[float]:
            return [t for t in self.started() if t > asked]

        wait_until(lambda: len(new()) >= count, DEADLINE, f"{count} new instances on {self.name}", 1)
        return max(new()) - asked

    def settled_memory(self) -> tuple[dict[str, int], int]:
        """When two readings a second apart agree within two percent."""
        last = self.memory()

        def settled() -> bool:
            nonlocal last
            previous, last = last, self.memory()
            was = sum(previous[0].values())
            return abs(sum(last[0].values()) - was) <= 0.02 * was

        time.sleep(1)
        wait_until(settled, 30, f"memory of {self.name} to settle", 1)
        return last


class Kontena(Contender):
    name = "kontena"
    programs = ("kontena", "dnsmasq", "crun", "runc", "systemd-journal-remote")
    units = ("kontena",)

    def prepare(self) -> None:
        self.host.write("/etc/kontena/noded.conf.d/lab.conf", "[Images]\nRegistryCA=/etc/kontena/lab-ca.pem\n")
        self.host.run("kontenactl bootstrap --grid=bench", timeout=120)
        self.deploy_and_wait("warm", 1)
        self.remove("warm")

    def deploy_and_wait(self, service: str, count: int) -> None:
        self._ctl("service", "create", "--stop-timeout=1", f"--instances={count}", service, IMAGE, "--", "sleep", "infinity")
        self._ctl("service", "deploy", service)

    def deploy(self, count: int) -> str:
        return (
            f"export KONTENA_GRID=bench; "
            f"kontenactl service create --stop-timeout=1 --instances={count} bench {IMAGE} -- sleep infinity && "
            f"kontenactl service deploy --no-wait bench"
        )

    def replace(self, version: str, pause: int) -> str:
        return (
            f"export KONTENA_GRID=bench; kontenactl service update --env VERSION={version} bench && "
            f"kontenactl service deploy --no-wait bench"
        )

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
    pauses = (0, 1)
    programs = ("dockerd", "containerd", "docker-proxy", "docker-init", "runc", "crun")
    units = ("docker", "containerd")

    def prepare(self) -> None:
        self.host.run("systemctl start docker", timeout=120)
        self.host.run("docker swarm leave --force", check=False)  # of an earlier run with --keep
        self.host.run(f"docker swarm init --advertise-addr {self.host.address}")
        self.host.run("docker network create --driver overlay bench", timeout=60)
        self.host.run(f"docker pull --quiet {IMAGE}", timeout=120)

    def deploy(self, count: int) -> str:
        return (
            f"docker service create --detach --quiet --no-resolve-image --stop-grace-period 1s --name bench --network bench "
            f"--endpoint-mode dnsrr --replicas {count} {IMAGE} sleep infinity"
        )

    def replace(self, version: str, pause: int) -> str:
        return (
            f"docker service update --detach --quiet --no-resolve-image --env-add VERSION={version} "
            f"--update-order start-first --update-parallelism 2 --update-delay {pause}s --update-monitor 1s bench"
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


def measure_all(contenders: list[Contender], counts: list[int], rounds: int) -> list[Figures]:
    for contender in contenders:
        with console.step(f"Preparing {contender.name}"):
            contender.prepare()
    found = []
    for count in counts:
        for number in range(rounds):
            for contender in contenders:
                with console.step(f"{contender.name}: {count} instances, round {number + 1} of {rounds}"):
                    found.append(contender.measure(count))
                console.say(f"    {found[-1].seconds:.2f} s")
    return found


def measure_rolling(contenders: list[Contender], count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, by system and pause. The rounds alternate; both services run all the time."""
    ways = [(c, pause, f"{c.name}, {pause} s between" if pause else c.name) for c in contenders for pause in c.pauses]
    found: dict[str, list[float]] = {name: [] for _, _, name in ways}
    for contender in contenders:
        with console.step(f"{contender.name}: {count} instances to be replaced"):
            contender.prepare()
            contender.host.run(f"{contender.deploy(count)} >/dev/null", timeout=DEADLINE)
            wait_until(lambda: len(contender.started()) >= count, DEADLINE, f"{count} instances", 1)
    for number in range(rounds):
        for contender, pause, name in ways:
            with console.step(f"{name}: rolling deploy {number + 1} of {rounds}"):
                found[name].append(contender.roll(count, f"{number + 1}.{pause}", pause))
            console.say(f"    {found[name][-1]:.2f} s")
    return found


def report_rolling(found: dict[str, list[float]], count: int) -> None:
    console.say("")
    console.say(f"From the request to the last of {count} instances replaced, one node. Median and each round, seconds.")
    for system, times in found.items():
        console.say(f"  {system:22}{statistics.median(times):8.2f}    {', '.join(f'{t:.2f}' for t in sorted(times))}")
    if "kontena" in found:
        for system in found:
            if system != "kontena":
                ratio = statistics.median(found[system]) / statistics.median(found["kontena"])
                console.say(f"  {system} takes {ratio:.1f} times as long as kontena")


def median(figures: list[Figures], system: str, count: int) -> Figures | None:
    mine = [f for f in figures if f.system == system and f.instances == count]
    if not mine:
        return None
    middle = sorted(mine, key=lambda f: f.seconds)[len(mine) // 2]
    return Figures(
        system, count, statistics.median(f.seconds for f in mine), int(statistics.median(f.daemons_kb for f in mine)),
        int(statistics.median(f.deployed_kb for f in mine)), int(statistics.median(f.rest_kb for f in mine)),
        middle.processes,
    )  # fmt: skip


def report(figures: list[Figures], counts: list[int]) -> None:
    console.say("")
    console.say("From the request to all instances running, one node; resident memory. Medians; ratio: swarm to kontena.")
    console.say(f"{'':26}{'kontena':>12}{'swarm':>12}{'ratio':>9}")
    rows: list[tuple[str, str, Callable[[Figures], float]]] = [
        ("time, s", "{:.2f}", lambda f: f.seconds),
        ("daemons alone, MB", "{:.1f}", lambda f: f.daemons_kb / 1024),
        ("all with instances, MB", "{:.1f}", lambda f: f.deployed_kb / 1024),
        ("per instance, MB", "{:.3f}", lambda f: f.per_instance_kb / 1024),
        ("rest of the host grew, MB", "{:.1f}", lambda f: f.rest_kb / 1024),
    ]
    for count in counts:
        console.say(f"{count} instances")
        ours, theirs = (median(figures, system, count) for system in ("kontena", "swarm"))
        for system in ("kontena", "swarm"):
            times = sorted(f.seconds for f in figures if f.system == system and f.instances == count)
            if times:
                console.say(f"  {system}, each round: {', '.join(f'{t:.2f}' for t in times)} s")
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rolling", action="store_true", help="replace running instances, the first of --counts")
    parser.add_argument("--only", choices=["kontena", "swarm"])
    parser.add_argument("--json", type=Path, help="write every round's figures there")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running afterwards")
    args = parser.parse_args()

    lab = Lab()
    try:
        lab.boot(["registry"])
        contenders: list[Contender] = []
        if args.only in (None, "kontena"):
            contenders.append(Kontena(lab.boot(["master"])[0]))
        if args.only in (None, "swarm"):
            contenders.append(Swarm(lab.boot(["node1"], tree="docker", project=False)[0]))
        if args.rolling:
            rolled = measure_rolling(contenders, args.counts[0], args.rounds)
        else:
            figures = measure_all(contenders, args.counts, args.rounds)
    finally:
        if not args.keep:
            lab.down()
    if args.rolling:
        if args.json:
            args.json.write_text(json.dumps(rolled, indent=1) + "\n")
        report_rolling(rolled, args.counts[0])
        return 0
    if args.json:
        args.json.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    report(figures, args.counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
