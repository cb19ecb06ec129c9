# SPDX-License-Identifier: LGPL-2.1-or-later
"""Building the project, and its files as they are to be installed."""

import hashlib
import os
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from . import console
from .process import LabError, locked, run
from .settings import REPOSITORY, cache_directory

_SETUP = ["--prefix=/usr", "--sysconfdir=/etc", "--localstatedir=/var", "-Dwerror=true"]


@dataclass
class UnitTests:
    passed: int
    failed: int
    skipped: int
    slowest: list[tuple[float, str]]
    report: str


class Build:
    def __init__(self, directory: Path | None = None):
        given = directory or os.environ.get("KONTENA_LAB_BUILD_DIR")
        key = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
        self.directory = Path(given).absolute() if given else cache_directory() / "build" / key

    def _meson(self, *arguments: str | Path, check: bool = True):
        return run(["meson", *arguments], cwd=REPOSITORY, check=check, timeout=1800, what=f"meson {arguments[0]}")

    def compile(self) -> None:
        if not (REPOSITORY / "meson.build").exists():
            raise LabError("There is no meson.build yet; --no-build boots hosts without the project")
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.directory.with_suffix(".lock")), console.step("Building the project", account="build"):
            if not (self.directory / "build.ninja").exists():
                shutil.rmtree(self.directory, ignore_errors=True)
                self._meson("setup", *_SETUP, self.directory)
            self._meson("compile", "-C", self.directory)

    def install_to(self, destination: Path) -> None:
        """`meson install` with a destination of its own, which is emptied first."""
        shutil.rmtree(destination, ignore_errors=True)
        with locked(self.directory.with_suffix(".lock")):
            self._meson("install", "-C", self.directory, "--no-rebuild", "--quiet", "--destdir", destination)
        # Debian's systemd.pc still says /lib, which is a link to usr/lib on every host.
        for name in ("bin", "sbin", "lib", "lib64"):
            if (destination / name).exists():
                (destination / "usr" / name).mkdir(parents=True, exist_ok=True)
                run(["cp", "-a", f"{destination / name}/.", destination / "usr" / name])
                shutil.rmtree(destination / name)

    def unit_tests(self, pattern: str | None) -> UnitTests:
        names = []
        if pattern:
            words = [word for word in pattern.split() if word not in ("and", "or", "not")]
            listed = self._meson("test", "-C", self.directory, "--no-rebuild", "--list", check=False).stdout
            names = [n.split(" / ")[-1] for n in listed.splitlines() if any(word in n for word in words)]
            if not names:
                return UnitTests(0, 0, 0, [], "")
        report = self.directory / "meson-logs" / "testlog.junit.xml"
        report.unlink(missing_ok=True)
        result = self._meson("test", "-C", self.directory, "--no-rebuild", "--print-errorlogs", *names, check=False)
        if not report.exists():
            if "No tests defined" in result.stdout + result.stderr:
                return UnitTests(0, 0, 0, [], "")
            raise LabError(f"meson test left no report:\n{result.stdout}{result.stderr}")
        return read_junit(report, result.stdout)


def read_junit(report: Path, output: str = "") -> UnitTests:
    passed = failed = skipped = 0
    times: list[tuple[float, str]] = []
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        times.append((float(case.get("time") or 0), name))
    return UnitTests(passed, failed, skipped, sorted(times, reverse=True)[:10], output)
