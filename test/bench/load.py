#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thousand nodes on one master: what they cost it.

The master is a host of its own with nothing but kontenad. Beside it a host on which load-nodes holds simulated nodes: each has
its own key, TLS connection and WebSocket, joins with the grid's token, says hello, reports each minute, answers pings, and tells
its instances to run as soon as they are wanted. A grid has at most 254 nodes, so there are several. Each node has ten
instances: ten services with one instance on every node.

At each size: memory (what kontenad has resident over what it had with empty grids, for each node), CPU while nothing happens,
the time of calls over the bus while nothing happens, and then kontenad is restarted: how long until all nodes are back (from its
end until the last node.hello is answered; nodes come after a random time of at most a second, then two, and so on, as real ones
do), what CPU that took, and how long calls take until then. From kontenad's own account: the longest turn of its event loop, by the
clock and of the processor, once from the last restart to this one (nodes join, instances are deployed) and once while nodes come
back. The clock counts the disk, too, and the time in which other processes have the processor: the nodes run on the same machine.

    ./lab bench --load               100, 250, 500 and 1000 nodes
    ./lab bench --load 300           the same up to 300
    ./lab bench --load --nodes-per-grid 100      in ten grids instead of four

Figures are worth something with an optimised build: meson setup --buildtype=debugoptimized DIR, then ./lab --build-dir DIR bench --load.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from kontenalab import console  # noqa: E402
from kontenalab.build import Build  # noqa: E402
from kontenalab.grid import Grid  # noqa: E402
from kontenalab.host import Host  # noqa: E402
from kontenalab.lab import Lab  # noqa: E402
from kontenalab.process import wait_until  # noqa: E402

SIZES = (100, 250, 500, 1000)
SERVICES = 10
DEADLINE = 900
QUIET_SECONDS = 20
TARGETS = {"node_kb": 64, "back_seconds": 10, "median_ms": 5, "turn_ms": 50}


@dataclass
class Figures:
    nodes: int
    instances: int
    rss_kb: int
    node_kb: float              # with its ten instances
    cpu_percent: float          # of one core, nothing happens
    quiet: dict[str, Any]       # microseconds of calls
    back_seconds: float         # until all nodes are back
    back_cpu_seconds: float
    meanwhile: dict[str, Any]
    rss_back_kb: int            # of the fresh process
    turns: dict[str, int]       # of the old process, microseconds: joining, deploying, quiet
    turns_back: dict[str, int]  # of the fresh one


class Batch:
    """One load-nodes: nodes of one grid. Its output is read by a thread."""

    def __init__(self, host: Host, grid: Grid, name: str, count: int, log: Path):
        self.count = count
        self.states: list[dict[str, int]] = []
        self.log = log.open("ab")
        self.process = host.popen(
            ["/run/load-nodes", grid.master.address, "9292", name, str(count)], stdin=-1, stdout=-1, stderr=self.log
        )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(grid.token().encode() + b"\n")
        self.process.stdin.close()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.states.append(json.loads(line))

    @property
    def state(self) -> dict[str, int]:
        if self.process.poll() is not None:
            raise RuntimeError(f"load-nodes ended with {self.process.returncode}; see {self.log.name}")
        return self.states[-1] if self.states else {"ready": 0, "running": 0, "time": 0}

    def back_since(self, usec: int) -> int:
        """When all of it were there again; 0: not yet."""
        later = [s for s in list(self.states) if s["time"] > usec]
        return later[-1]["time"] if later and later[-1]["ready"] == self.count else 0

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Bench:
    def __init__(self, lab: Lab, log: Path, nodes_per_grid: int):
        self.lab = lab
        self.nodes_per_grid = nodes_per_grid
        self.log = log
        self.master, self.host = lab.boot(["master", "node1"])
        programs = Build().directory / "test" / "bench"
        self.master.push(programs / "load-api", "/run/load-api")
        self.host.push(programs / "load-nodes", "/run/load-nodes")
        self.grids: list[Grid] = []
        self.batches: list[Batch] = []
        self.empty_kb = 0

    @property
    def nodes(self) -> int:
        return sum(b.count for b in self.batches)

    def make_grids(self, nodes: int) -> None:
        self.master.run("systemctl enable --now kontenad.service")
        for number in range(-(-nodes // self.nodes_per_grid)):
            grid = Grid(self.lab, f"load{number + 1}")
            grid.ctl("grid", "create", grid.name, f"--subnet=10.{81 + number}.0.0/16")
            for service in range(SERVICES):
                grid.ctl("service", "create", "--strategy=daemon", f"s{service}", "registry:5000/busybox", "--", "sleep", "infinity")
            self.grids.append(grid)
        time.sleep(2)
        self.empty_kb = self.rss()

    def grow(self, nodes: int) -> None:
        touched: list[Grid] = []
        while self.nodes < nodes:
            grid = self.grids[self.nodes // self.nodes_per_grid]
            count = min(nodes - self.nodes, self.nodes_per_grid - self.nodes % self.nodes_per_grid)
            self.batches.append(Batch(self.host, grid, f"n{len(self.batches)}", count, self.log))
            touched.append(grid)
            # The next ones join when these are there: the machine that simulates is not what is measured.
            wait_until(lambda: self.total("ready") == self.nodes, DEADLINE, f"{self.nodes} nodes ready", 0.2)
        for grid in touched:
            for service in range(SERVICES):
                grid.ctl("service", "deploy", "--no-wait", f"s{service}")
        wanted = self.nodes * SERVICES
        wait_until(lambda: self.total("running") == wanted, DEADLINE, f"{wanted} instances", 0.5)
        for grid in touched:
            wait_until(lambda: self.deployed(grid), DEADLINE, f"deploys of {grid.name}", 1)

    def deployed(self, grid: Grid) -> bool:
        return all(s.get("state") == "running" for s in grid.json("service", "list"))

    def total(self, key: str) -> int:
        return sum(b.state[key] for b in self.batches)

    # The master

    def rss(self) -> int:
        shown = self.master.run('grep VmRSS "/proc/$(systemctl show -P MainPID kontenad)/status"').stdout
        return int(shown.split()[1])

    def cpu(self) -> float:
        shown = self.master.run('cat "/proc/$(systemctl show -P MainPID kontenad)/stat"; getconf CLK_TCK').stdout.split("\n")
        fields = shown[0].rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / int(shown[1])

    def calls(self, seconds: float) -> dict[str, Any]:
        run = self.master.run(["/run/load-api", self.grids[0].name, "s0", str(int(seconds * 1000))], timeout=seconds + 60)
        return json.loads(run.stdout)

    def calls_until(self) -> subprocess.Popen:
        """Calls that end when its standard input does."""
        return self.master.popen(["/run/load-api", self.grids[0].name, "s0", "0"], stdin=-1, stdout=-1)

    def turns(self) -> dict[str, int]:
        shown = self.master.run(["busctl", "get-property", "io.kontena.Master1", "/io/kontena/Master1", "io.kontena.Master1.Manager",
                                 "LongestTurnUSec", "LongestTurnCPUUSec", "SlowTurns"]).stdout  # fmt: skip
        longest, cpu, slow = (int(line.split()[1]) for line in shown.splitlines())
        return {"longest": longest, "cpu": cpu, "slow": slow}

    def measure(self) -> Figures:
        time.sleep(5)  # events and rows that are still being written
        rss = self.rss()
        before = self.cpu()
        time.sleep(QUIET_SECONDS)
        cpu = (self.cpu() - before) / QUIET_SECONDS * 100
        quiet = self.calls(5)

        turns = self.turns()

        ended = int(float(self.master.run("systemctl stop kontenad; date +%s.%N; systemctl start kontenad").stdout) * 1e6)
        calls = self.calls_until()
        wait_until(lambda: all(b.back_since(ended) for b in self.batches), DEADLINE, "all nodes back", 0.05)
        meanwhile, _ = calls.communicate(b"", timeout=60)
        spent = self.cpu()
        back = max(b.back_since(ended) for b in self.batches)
        time.sleep(5)  # what is put off until all are back
        return Figures(
            self.nodes, self.total("running"), rss, round((rss - self.empty_kb) / self.nodes, 1), round(cpu, 2), quiet,
            round((back - ended) / 1e6, 2), spent, json.loads(meanwhile), self.rss(), turns, self.turns(),
        )  # fmt: skip


def report(figures: list[Figures], empty_kb: int, build_type: str) -> None:
    console.say("")
    console.say(f"Built as {build_type}{' (not optimised: slower than what is installed)' if build_type == 'debug' else ''}.")
    console.say(f"kontenad alone, grids without nodes: {empty_kb} kB resident. Calls: median/p99/worst. Turns: by the clock/of the processor.")
    console.say("All times in ms but where it says s.")
    heads = ("nodes", "inst.", "RSS MB", "kB/node", "CPU %", "List quiet", "Get quiet", "back s", "CPU s", "List meanwhile", "Get meanwhile",
             "turn busy", "turn back")  # fmt: skip
    def times(calls: dict[str, Any], name: str) -> str:
        c = calls.get(name)
        return "/".join(f"{c[k] / 1000:.1f}" for k in ("median", "p99", "max")) if c else "-"

    def turn(t: dict[str, int]) -> str:
        return f"{t['longest'] / 1000:.0f}/{t['cpu'] / 1000:.0f}"

    rows = [heads, *((str(f.nodes), str(f.instances), f"{f.rss_kb / 1024:.1f}", f"{f.node_kb:.1f}", f"{f.cpu_percent:.2f}",
                 times(f.quiet, "ListServices"), times(f.quiet, "GetService"), f"{f.back_seconds:.2f}", f"{f.back_cpu_seconds:.2f}",
                 times(f.meanwhile, "ListServices"), times(f.meanwhile, "GetService"), turn(f.turns), turn(f.turns_back)) for f in figures)]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(heads))]
    for row in rows:
        console.say("".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))
    first, last = figures[0], figures[-1]
    if first is not last:
        console.say(f"From {first.nodes} to {last.nodes} nodes ({last.nodes / first.nodes:.1f} times as many):")
        for name, a, b in (
            ("memory of nodes", first.rss_kb - empty_kb, last.rss_kb - empty_kb),
            ("CPU when quiet", first.cpu_percent, last.cpu_percent),
            ("time until all are back", first.back_seconds, last.back_seconds),
            ("CPU for that", first.back_cpu_seconds, last.back_cpu_seconds),
        ):
            console.say(f"  {name:26}{b / a:8.1f} times" if a > 0 else f"  {name:26}       -")

    def worst(key: str) -> float:
        return max((last.meanwhile[c][key] for c in last.meanwhile), default=0) / 1000

    for name, value, unit, aim, beside in (
        ("memory of a node", last.node_kb, "kB", TARGETS["node_kb"], ""),
        ("all back", last.back_seconds, "s", TARGETS["back_seconds"], ""),
        ("median answer meanwhile", worst("median"), "ms", TARGETS["median_ms"], f", the worst {worst('max'):.1f} ms"),
        ("longest turn, nodes back", last.turns_back["cpu"] / 1000, "ms", TARGETS["turn_ms"],
         f" of the processor, {last.turns_back['longest'] / 1000:.0f} ms by the clock, {last.turns_back['slow']} turns over 50 ms"),
        ("longest turn, deploys", last.turns["cpu"] / 1000, "ms", TARGETS["turn_ms"],
         f" of the processor, {last.turns['longest'] / 1000:.0f} ms by the clock, {last.turns['slow']} turns over 50 ms"),
    ):  # fmt: skip
        console.say(f"  {name:26}{value:8.1f} {unit}, aim {aim} {unit}: {'met' if value < aim else 'MISSED'}{beside}")


def build_type() -> str:
    options = Build().directory / "meson-info" / "intro-buildoptions.json"
    return next((o["value"] for o in json.loads(options.read_text()) if o["name"] == "buildtype"), "unknown")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=int, nargs="?", const=1000, default=1000, metavar="N")
    parser.add_argument("--nodes-per-grid", type=int, default=250, metavar="N", help="at most 254")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running afterwards")
    args = parser.parse_args()
    if args.load < 1 or not 1 <= args.nodes_per_grid <= 254 or args.load > 14 * args.nodes_per_grid:
        parser.error("at least one node, at most 254 in a grid and 14 grids")
    sizes = [*(s for s in SIZES if s < args.load), args.load]

    lab = Lab()
    figures: list[Figures] = []
    bench = None
    try:
        bench = Bench(lab, lab.directory / "load-nodes.log", args.nodes_per_grid)
        with console.step("Grids and services"):
            bench.make_grids(args.load)
        for size in sizes:
            with console.step(f"{size} nodes, {size * SERVICES} instances"):
                bench.grow(size)
            with console.step("Measuring"):
                figures.append(bench.measure())
            if args.json:
                args.json.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    finally:
        if bench:
            for batch in bench.batches:
                batch.end()
        if not args.keep:
            lab.down()
    report(figures, bench.empty_kb, build_type())
    return 0


if __name__ == "__main__":
    sys.exit(main())
