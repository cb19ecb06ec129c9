# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts that run a build with -Db_sanitize=…: what it needs there and the project's own files do not give it.

Nothing needs to be said: a build directory that has sanitizers is seen by what meson tells of it. What is found ends a program
by SIGABRT with a report in the journal, and the test it happened in fails (see conftest.py).
"""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .process import LabError, run
from .settings import TOOL_PATH

if TYPE_CHECKING:
    from .host import Host

_ADDED = "etc/kontena-lab"
_ENVIRONMENT = f"{_ADDED}/sanitizer.env"
_SUPPRESSIONS = f"{_ADDED}/lsan.supp"

# The programs as they are installed; the last of them are for other programs to start.
_PROGRAMS = ("usr/bin/kontenactl", "usr/lib/kontena/*")
_LIBRARIES = re.compile(r"lib(asan|ubsan|lsan|tsan|stdc\+\+|gcc_s)\.so\.")

_OPTIONS = {
    # Freed memory is kept back as long as in tests that run much longer, and small enough for workers with a limit.
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:quarantine_size_mb=32:malloc_context_size=20",
    "UBSAN_OPTIONS": "abort_on_error=1:halt_on_error=1:print_stacktrace=1",
    "LSAN_OPTIONS": f"suppressions=/{_SUPPRESSIONS}:print_suppressions=0",
}

# What libraries keep until the process ends, and is theirs.
_KEPT_BY_LIBRARIES = """\
leak:libgnutls.so
leak:libp11-kit.so
"""

# LeakSanitizer stops the process that it looks at by ptrace, and shadow memory counts as memory. All else of the sandboxes stays.
_DROP_IN = """\
[Service]
SystemCallFilter=ptrace
MemoryMax=infinity
TasksMax=infinity
TimeoutStopSec=60
"""
# Those with a dash at the end are workers of the node, whose names end in a number.
_UNITS = ("kontenad", "kontena-noded", "kontena-channel-", "kontena-pull-", "kontena-archive-")

_REPORT = "SUMMARY: [A-Za-z]*Sanitizer|: runtime error: "


def sanitizers(build: Path) -> str:
    """As meson names them: "address,undefined", or "" for none."""
    shown = run(["meson", "introspect", "--buildoptions", build]).stdout
    value = next((option["value"] for option in json.loads(shown) if option["name"] == "b_sanitize"), "none")
    return "" if value == "none" else value


def equip(project: Path) -> None:
    """Add to the project's files, staged there, what a sanitized build needs on a host."""
    for library in sorted(_libraries(project)):
        target = project / "usr/lib/x86_64-linux-gnu" / library.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, target)
    files = {
        _ENVIRONMENT: "".join(f"{name}={value}\n" for name, value in _OPTIONS.items()),
        _SUPPRESSIONS: _KEPT_BY_LIBRARIES,
        "etc/systemd/system.conf.d/sanitizer.conf": "[Manager]\n"
        + "".join(f'DefaultEnvironment="{name}={value}"\n' for name, value in _OPTIONS.items()),
    }
    files.update({f"etc/systemd/system/{unit}.service.d/sanitizer.conf": _DROP_IN for unit in _UNITS})
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def environment(project: Path) -> dict[str, str]:
    """For commands on a host that has these files; empty where the build has no sanitizer."""
    try:
        lines = (project / _ENVIRONMENT).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines)


def reports(host: "Host", since: float) -> list[str]:
    """What sanitizers have said on a host, also of programs whose end nobody is told of: the lines of each process that speaks."""
    since_then = f"--since=@{since:.0f}"
    find = ["journalctl", "--output=json", "--output-fields=_PID", since_then, f"--grep={_REPORT}", "--case-sensitive=yes"]
    found = host.run(find, check=False).stdout.splitlines()  # nothing found is a failure to it
    said = []
    for pid in dict.fromkeys(json.loads(line).get("_PID", "0") for line in found):
        lines = [str(e.get("MESSAGE")) for e in host.journal(f"_PID={pid}", options=[since_then])]
        first = next((i for i, line in enumerate(lines) if re.search("Sanitizer:|: runtime error: ", line)), 0)
        said.append("\n".join([f"{host.name}, process {pid}:", *lines[first : first + 40]]))
    return said


def _libraries(project: Path) -> set[Path]:
    """What the programs are linked with, of what a host does not have or has in another version than the compiler's."""
    found = set()
    for program in [path for pattern in _PROGRAMS for path in project.glob(pattern) if path.is_file()]:
        for line in run(["ldd", program], env={"PATH": TOOL_PATH}, check=False).stdout.splitlines():
            name, _, rest = line.strip().partition(" => ")
            if not _LIBRARIES.match(name):
                continue
            path = Path(rest.rpartition(" (")[0])
            if not path.is_file():
                raise LabError(f"{program.name} needs {name}, which is not found")
            found.add(path)
    return found
