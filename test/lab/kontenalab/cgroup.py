# SPDX-License-Identifier: LGPL-2.1-or-later
"""One control group for each host: what a host runs can be counted and killed as a whole, without pids."""

import functools
import os
from pathlib import Path

from .process import LabError, wait_until


@functools.cache
def unified_root() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            return Path(fields.split()[4])
    raise LabError("No unified control group hierarchy is mounted on this machine")


class Cgroup:
    def __init__(self, *parts: str):
        self.path = unified_root().joinpath("kontena-lab", *parts)

    def create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # Hosts get whatever controllers this machine has in the unified hierarchy.
        node = unified_root()
        for part in self.path.relative_to(node).parts:
            for controller in (node / "cgroup.controllers").read_text().split():
                try:
                    (node / "cgroup.subtree_control").write_text(f"+{controller}")
                except OSError:
                    pass
            node /= part

    def entering(self, argv: list[str], sub: str = "") -> list[str]:
        """The command line that runs argv in this group, or in the group `sub` of it."""
        procs = self.path / sub / "cgroup.procs"
        return ["sh", "-c", f'mkdir -p {procs.parent}; echo $$ > {procs}; exec "$@"', "sh", *argv]

    def populated(self) -> bool:
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except OSError:
            return False

    def kill(self) -> None:
        if self.populated():
            (self.path / "cgroup.kill").write_text("1")
            wait_until(lambda: not self.populated(), 30, f"end of all processes in {self.path}", 0.01)

    def remove(self) -> None:
        self.kill()
        if self.path.exists():
            for directory, _, _ in os.walk(self.path, topdown=False):
                wait_until(functools.partial(_rmdir, directory), 10, f"removal of {directory}", 0.02)


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
