# SPDX-License-Identifier: LGPL-2.1-or-later
"""`./lab test`: unit tests by meson, lab and contract tests by pytest, one count."""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Thread

from . import console, images, packages
from .build import Build, UnitTests, read_junit
from .lab import Lab
from .process import LabError, tool_environment
from .settings import REPOSITORY, lab_directory
from .tree import HOST, VM

_NOTHING = UnitTests(0, 0, 0, [], "")


class TestRun:
    """All tests of hosts wait more than they work, and so do many unit tests: two labs share the folders of test/lab between them, a folder
    to whichever is free, while unit and contract tests, which need no hosts, run beside them."""

    __test__ = False  # not a test itself, whatever its name

    def __init__(self, lab: Lab, args: argparse.Namespace):
        self.args = args
        self.build = Build(args.build_dir)
        self.labs = [lab]
        if not args.pattern and not args.keep and args.labs > 1:
            self.labs += [Lab(f"{lab.name[:7]}x{n}") for n in range(2, args.labs + 1)]
        self.journals = lab_directory() / "cache" / "failures" / f"{lab.name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
        self.running: list[subprocess.Popen] = []
        self.until = args.minutes and time.time() + args.minutes * 60

    def run(self) -> int:
        start = time.monotonic()
        results: list[UnitTests] = []
        broken: list[str] = []
        try:
            self._prepare()
            with tempfile.TemporaryDirectory() as scratch:
                self._all(Path(scratch), results, broken)
        except (LabError, TimeoutError) as error:
            broken.append(str(error))
        finally:
            for process in self.running:
                process.kill()
            if not self.args.keep:
                with console.step("Removing the hosts", account="down"):
                    for lab in self.labs:
                        lab.down()
        if self.journals.exists():
            console.say(f"The journals of all hosts are kept in {self.journals}")
            _drop_old(self.journals.parent)

        slowest = sorted((s for r in results for s in r.slowest), reverse=True)[:10]
        if slowest:
            console.say("Slowest tests:")
            for seconds, name in slowest:
                console.say(f"  {seconds:7.1f} s  {name}")
        console.print_times()
        console.say(f"  {time.monotonic() - start:7.1f} s  in all")
        if self.until and time.time() > self.until:
            console.say(f"It took more than {self.args.minutes:g} minutes; tests on hosts that had not begun by then are counted as skipped.")
        for error in broken:
            console.say(f"lab: {error}")
        passed = sum(r.passed for r in results)
        failed = sum(r.failed for r in results) + len(broken)
        skipped = sum(r.skipped for r in results)
        console.say(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
        return 1 if failed or not passed else 0

    def _prepare(self) -> None:
        packages.ensure(packages.BUILD, "what the project is built with")
        packages.ensure(packages.LAB, "the lab's tools")
        if not self.args.keep:
            for lab in self.labs:
                lab.down()  # what an interrupted run has left
        if not self.args.no_build:
            self.build.compile()
            for lab in self.labs:
                lab.install(self.build)
        if not self.args.pattern:  # else whatever a chosen test needs is made when it asks
            for tree in (HOST, VM):
                tree.ensure()
            images.ensure()

    def _all(self, scratch: Path, results: list[UnitTests], broken: list[str]) -> None:
        def stream(parts: Sequence[Callable[[], UnitTests]]) -> None:
            for part in parts:
                try:
                    results.append(part())
                except Exception as error:  # noqa: BLE001 - whatever it is, the run has failed by it
                    broken.append(str(error) or repr(error))

        hostless: list[Callable[[], UnitTests]] = [lambda: self._pytest(self.labs[0], "test/contract", scratch, "contract tests")]
        if not self.args.no_unit:
            hostless.insert(0, self._unit)
        streams = [hostless] + [[partial(self._pytest, lab, "test/lab", scratch, f"tests on the hosts of lab '{lab.name}'")] for lab in self.labs]
        if self.args.pattern:
            streams = [[part for parts in streams for part in parts]]  # a few, whose output somebody reads
        threads = [Thread(target=stream, args=(parts,), daemon=True) for parts in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _unit(self) -> UnitTests:
        with console.step("Unit tests", account="unit tests"):
            unit = self.build.unit_tests(self.args.pattern)
        if unit.failed:
            console.say(unit.report)
        console.say(f"  unit tests: {unit.passed} passed, {unit.failed} failed")
        return unit

    def _pytest(self, lab: Lab, folder: str, scratch: Path, account: str) -> UnitTests:
        """pytest boots the hosts by its `lab` fixture, and only if a test wants them."""
        if not (REPOSITORY / folder).is_dir():
            return _NOTHING
        report = scratch / f"{lab.name}-{Path(folder).name}.xml"
        argv = ["/usr/bin/python3", "-m", "pytest", "-c", "test/lab/pytest.ini", f"--rootdir={REPOSITORY}",
                "-q", "--tb=short", f"--junitxml={report}", folder]  # fmt: skip
        if self.args.pattern:
            argv += ["-k", self.args.pattern]
        claims = scratch / "claims"
        claims.mkdir(exist_ok=True)
        env = tool_environment({
            "KONTENA_LAB_NAME": lab.name,
            "KONTENA_LAB_KEEP_JOURNALS": str(self.journals / lab.name),
            "KONTENA_LAB_BUILD_DIR": str(self.build.directory),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            **({"KONTENA_LAB_UNTIL": f"{self.until:.0f}"} if self.until else {}),
            **({"KONTENA_LAB_CLAIMS": str(claims)} if len(self.labs) > 1 else {}),
        })  # fmt: skip
        start = time.monotonic()
        process = subprocess.Popen(argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env)
        self.running.append(process)
        assert process.stdout
        for line in process.stdout:
            console.say(line.rstrip("\n"))
        status = process.wait()
        console.add_time(account, time.monotonic() - start)
        if status == 5:  # nothing collected
            return _NOTHING
        if not report.exists():
            raise LabError(f"pytest of {folder} ended with status {status} and left no report")
        return read_junit(report)


def _drop_old(directory: Path, keep: int = 5) -> None:
    for old in sorted(directory.iterdir(), key=os.path.getmtime)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
