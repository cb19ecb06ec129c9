# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file system of a host: a cached tree below, what this host has changed above."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .process import run


class HostRoot:
    def __init__(self, directory: Path):
        self.path = directory / "root"
        self._upper = directory / "upper"
        self._work = directory / "work"

    @property
    def mounted(self) -> bool:
        return os.path.ismount(self.path)

    def mount(self, lowers: Sequence[Path]) -> None:
        if self.mounted:
            return
        for directory in (self.path, self._upper, self._work):
            directory.mkdir(parents=True, exist_ok=True)
        lower = ":".join(str(path) for path in lowers)
        options = f"lowerdir={lower},upperdir={self._upper},workdir={self._work}"
        run(["mount", "-t", "overlay", "-o", options, "kontena-lab", self.path])

    def unmount(self) -> None:
        if self.mounted:
            # A process that died a moment ago may still be giving back what it had open.
            if run(["umount", self.path], check=False).returncode != 0:
                run(["umount", "--lazy", self.path])

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def enable(self, unit: str, target: str = "multi-user.target") -> None:
        link = self.path / f"etc/systemd/system/{target}.wants/{unit}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"/lib/systemd/system/{unit}")

    def mask(self, unit: str) -> None:
        link = self.path / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")

    def copy_tree(self, source: Path) -> None:
        run(["cp", "-a", "--remove-destination", f"{source}/.", self.path])

    def journal_directory(self) -> Path:
        return (self.path if self.mounted else self._upper) / "var/log/journal"

    def copy(self, source: Path, name: str, mode: int = 0o644) -> None:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(mode)
