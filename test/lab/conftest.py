# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of lab tests; how to write one is said in kontenalab/__init__.py."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kontenalab import Host, Lab, Unsupported, sanitizer  # noqa: E402
from kontenalab.grid import Grid, unique  # noqa: E402

_IN_LAB = Path(__file__).resolve().parent
_KEEP = os.environ.get("KONTENA_LAB_KEEP_JOURNALS")
_failed: list[str] = []


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The shared hosts, booted once. They stay for the next run; `./lab test` and `./lab down` remove them."""
    if os.geteuid() != 0:
        pytest.skip("lab tests make hosts, which needs root")
    shared = Lab()
    shared.boot()
    yield shared
    if _failed and _KEEP:
        shared.save_journals(Path(_KEEP))


@pytest.fixture(scope="session")
def grid(lab: Lab) -> Grid:
    """The grid of node1 to node3 that most tests use."""
    shared = Grid(lab)
    shared.make()
    return shared


@pytest.fixture(autouse=True)
def _hosts_as_they_were(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that took hosts down or cut them: up and connected again for the next."""
    yield
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").recover()


# Ends of a unit's main process, as systemd tells them; of those the ones that only a fault of ours brings about.
_PROCESS_EXIT = "MESSAGE_ID=98e322203f7a4ed290d09fe03c09fe15"
_FAULTS = {signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}
_OURS = re.compile(r"(kontenad|kontena-(noded|channel|pull|archive|enter|bridge)([-@].*)?)\.service")


def _faults(host: Host, since: float) -> list[str]:
    if not host.running:
        return []
    ended = host.journal(_PROCESS_EXIT, options=[f"--since=@{since:.0f}"])
    said = sanitizer.reports(host, since) if sanitizer.environment(host.lab.project) else []
    return said + [
        f"{host.name}: {e['MESSAGE']}"
        for e in ended
        if e.get("EXIT_CODE") in ("killed", "dumped") and int(e.get("EXIT_STATUS", 0)) in _FAULTS and _OURS.fullmatch(e.get("UNIT", ""))
    ]


@pytest.fixture(autouse=True, scope="module")
def _no_program_of_ours_faults(lab: Lab) -> Iterator[None]:
    """A daemon that crashes is started again by systemd, and most tests would never know."""
    since = time.time()
    yield
    with ThreadPoolExecutor() as pool:
        found = [f for faults in pool.map(lambda host: _faults(host, since), list(lab.hosts.values())) for f in faults]
    assert not found, "\n".join(found)


@pytest.fixture
def extra_host(lab: Lab) -> Iterator[Callable[..., Host]]:
    """A factory of hosts for one test alone: extra_host("node4", disk_mb=64) is up when it returns."""
    made: list[Host] = []

    def make(name: str, **options) -> Host:
        if name in lab.hosts:
            lab.host(name).reset()
        host = lab.boot([name], **options)[0]
        made.append(host)
        return host

    yield make
    for host in made:
        if _failed and _KEEP:
            host.save_journal(Path(_KEEP))
        host.reset()


@pytest.fixture
def volume(grid: Grid) -> Iterator[Callable[..., str]]:
    """Makes volumes that are gone after the test: volume("--scope=grid") is the name."""
    made: list[str] = []

    def make(*options: str) -> str:
        name = unique("vol")
        grid.ctl("volume", "create", *options, name)
        made.append(name)
        return name

    yield make
    for name in made:
        grid.ctl("volume", "remove", "--force", name, check=False)


# Those that take longest are begun first, so that no lab is left alone with one at the end. Virtual machines work hard: one at a time.
_FIRST = ("qemu", "deploys-end-one-way-or-another", "nodes-vanish-and-come-back", "a-node-that-leaves-keeps-nothing", "deploys-keep-serving")
_QEMU = {"limits-hold-on-a-kernel-of-its-own", "the-lab-cuts-and-kills-hosts", "volumes-have-a-size"}


def _claimed(items: list[pytest.Item], claims: Path) -> Iterator[list[pytest.Item]]:
    """The tests of one folder after the other that no other lab has begun."""
    folders: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = item.path.parent.name
        folders.setdefault("qemu" if name in _QEMU else name, []).append(item)
    order = [name for name in _FIRST if name in folders] + [name for name in folders if name not in _FIRST]
    for name in order:
        try:
            (claims / name).mkdir()
        except FileExistsError:
            continue
        yield folders[name]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A run that ends in its time and names what it left out says more than one that is cut off."""
    until = os.environ.get("KONTENA_LAB_UNTIL")
    if until and time.time() > float(until):
        pytest.skip("the time of this run was over before it could begin")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """As pytest's own loop; but when `./lab test` runs several labs, it gives each the folders that it comes to first."""
    claims = os.environ.get("KONTENA_LAB_CLAIMS")
    if not claims or session.testsfailed or session.config.option.collectonly:
        return None
    labs = _claimed([i for i in session.items if _IN_LAB in i.path.parents], Path(claims))
    folder = next(labs, None)
    while folder:
        following = None
        for number, item in enumerate(folder, 1):
            if number == len(folder):
                following = next(labs, None)  # known before the last test ends, whose fixtures stay for the next
            after = folder[number] if number < len(folder) else following[0] if following else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.shouldfail or session.shouldstop:
                raise session.Failed(session.shouldfail) if session.shouldfail else session.Interrupted(session.shouldstop)
        folder = following
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """What the machine cannot do is a skip that says what was missing."""
    outcome = yield
    report = outcome.get_result()
    if call.excinfo and call.excinfo.errisinstance(Unsupported) and report.failed:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {call.excinfo.value}")
    elif report.failed:
        _failed.append(item.nodeid)
