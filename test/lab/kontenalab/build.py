# SPDX-License-Identifier: LGPL-2.1-or-later
"""Building the project, and its files as they are to be installed."""

import hashlib
import json
import os
import re
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
        return run(["meson", *arguments], cwd=REPOSITORY, check=check, timeout=3600, what=f"meson {arguments[0]}")

    def compile(self) -> None:
        if not (REPOSITORY / "meson.build").exists():
            raise LabError("There is no meson.build yet; --no-build boots hosts without the project")
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.directory.with_suffix(".lock")), console.step("Building the project", account="build"):
            if not (self.directory / "build.ninja").exists():
                shutil.rmtree(self.directory, ignore_errors=True)
                self._meson("setup", *_SETUP, self.directory)
            result = self._meson("compile", "-C", self.directory, check=False)
            if result.returncode != 0:
                raise LabError(f"The project does not build:\n{_errors(result.stdout + result.stderr)}")

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
        report = self.directory / "meson-logs" / "testlog.json"
        report.unlink(missing_ok=True)
        # Many of them wait for a time to pass. What a test may take is said for a machine that has nothing else to do.
        together = ["--num-processes", str(2 * (os.cpu_count() or 1)), "--timeout-multiplier", "10"]
        result = self._meson("test", "-C", self.directory, "--no-rebuild", "--print-errorlogs", *together, *names, check=False)
        if not report.exists():
            if "No tests defined" in result.stdout + result.stderr:
                return UnitTests(0, 0, 0, [], "")
            raise LabError(f"meson test left no report:\n{result.stdout}{result.stderr}")
        return read_meson_log(report, result.stdout)


def _errors(output: str, limit: int = 60) -> str:
    """What a person wants to see of a failed build."""
    lines = output.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("FAILED:") or " ERROR: " in line), 0)
    return "\n".join(line for line in lines[first:][:limit] if not line.startswith(("cc ", "clang ", "[")))


def read_meson_log(report: Path, output: str) -> UnitTests:
    """Counts the tests inside each program where it says their number, as cmocka does; else the program is one."""
    total = UnitTests(0, 0, 0, [], output)
    for line in report.read_text().splitlines():
        entry = json.loads(line)
        said = (entry.get("stdout") or "") + (entry.get("stderr") or "")
        counts = {
            word: sum(int(n) for n in re.findall(rf"\[ *{word} *\] (\d+) test\(s\)", said))
            for word in ("PASSED", "FAILED", "SKIPPED")
        }
        good = entry["result"] in ("OK", "EXPECTEDFAIL")
        if entry["result"] == "SKIP" and not counts["SKIPPED"]:
            counts["SKIPPED"] = 1
        elif good and not any(counts.values()):
            counts["PASSED"] = 1
        elif not good and entry["result"] != "SKIP" and not counts["FAILED"]:
            counts["FAILED"] = 1
        total.passed += counts["PASSED"]
        total.failed += counts["FAILED"]
        total.skipped += counts["SKIPPED"]
        total.slowest.append((float(entry.get("duration") or 0), entry["name"]))
    total.slowest = sorted(total.slowest, reverse=True)[:10]
    return total


def read_junit(report: Path) -> UnitTests:
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
    return UnitTests(passed, failed, skipped, sorted(times, reverse=True)[:10], "")
