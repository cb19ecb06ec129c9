# SPDX-License-Identifier: LGPL-2.1-or-later
"""`./lab test`: unit tests by meson, lab and contract tests by pytest, one count."""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

from . import console, images, packages
from .build import Build, UnitTests, read_junit
from .lab import Lab
from .process import LabError, tool_environment
from .settings import REPOSITORY, lab_directory
from .tree import HOST, VM

_NOTHING = UnitTests(0, 0, 0, [], "")


class TestRun:
    __test__ = False  # not a test itself, whatever its name

    def __init__(self, lab: Lab, args: argparse.Namespace):
        self.lab = lab
        self.args = args
        self.build = Build(args.build_dir)

    def run(self) -> int:
        start = time.monotonic()
        unit = lab = _NOTHING
        broken: LabError | None = None
        try:
            self._prepare()
            if not self.args.no_unit:
                unit = self._unit()
            lab = self._lab()
        except (LabError, TimeoutError) as error:
            broken = LabError(str(error))
        finally:
            if not self.args.keep:
                with console.step("Removing the hosts", account="down"):
                    self.lab.down()

        slowest = sorted(unit.slowest + lab.slowest, reverse=True)[:10]
        if slowest:
            console.say("Slowest tests:")
            for seconds, name in slowest:
                console.say(f"  {seconds:7.1f} s  {name}")
        console.print_times()
        console.say(f"  {time.monotonic() - start:7.1f} s  in all")
        if broken:
            console.say(f"lab: {broken}")
        passed = unit.passed + lab.passed
        failed = unit.failed + lab.failed + (1 if broken else 0)
        skipped = unit.skipped + lab.skipped
        console.say(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
        return 1 if failed or not passed else 0

    def _prepare(self) -> None:
        packages.ensure(packages.BUILD, "what the project is built with")
        packages.ensure(packages.LAB, "the lab's tools")
        if not self.args.keep:
            self.lab.down()  # what an interrupted run has left
        if not self.args.no_build:
            self.build.compile()
            self.lab.install(self.build)
        if not self.args.pattern:  # else whatever a chosen test needs is made when it asks
            for tree in (HOST, VM):
                tree.ensure()
            images.ensure()

    def _unit(self) -> UnitTests:
        with console.step("Unit tests", account="unit tests"):
            unit = self.build.unit_tests(self.args.pattern)
        if unit.failed:
            console.say(unit.report)
        console.say(f"  unit tests: {unit.passed} passed, {unit.failed} failed")
        return unit

    def _lab(self) -> UnitTests:
        """pytest boots the hosts by its `lab` fixture, and only if a test wants them."""
        folders = [name for name in ("test/lab", "test/contract") if (REPOSITORY / name).is_dir()]
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        journals = lab_directory() / "cache" / "failures" / f"{self.lab.name}-{stamp}"
        with tempfile.TemporaryDirectory() as scratch:
            report = Path(scratch, "lab.xml")
            argv = ["/usr/bin/python3", "-m", "pytest", "-c", "test/lab/pytest.ini", f"--rootdir={REPOSITORY}",
                    "-q", "--tb=short", f"--junitxml={report}", *folders]  # fmt: skip
            if self.args.pattern:
                argv += ["-k", self.args.pattern]
            env = tool_environment({
                "KONTENA_LAB_NAME": self.lab.name,
                "KONTENA_LAB_KEEP_JOURNALS": str(journals),
                "KONTENA_LAB_BUILD_DIR": str(self.build.directory),
                "PYTHONDONTWRITEBYTECODE": "1",
            })  # fmt: skip
            start = time.monotonic()
            status = subprocess.call(argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, env=env)
            console.add_time("lab and contract tests, with starting hosts", time.monotonic() - start)
            if status == 5:  # nothing collected
                return _NOTHING
            if not report.exists():
                raise LabError(f"pytest ended with status {status} and left no report")
            result = read_junit(report)
        if journals.exists():
            console.say(f"The journals of all hosts are kept in {journals}")
            _drop_old(journals.parent)
        return result


def _drop_old(directory: Path, keep: int = 5) -> None:
    for old in sorted(directory.iterdir(), key=os.path.getmtime)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
