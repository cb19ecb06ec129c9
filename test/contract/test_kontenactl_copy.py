# SPDX-License-Identifier: LGPL-2.1-or-later
"""What kontenactl refuses of archives before it asks anybody: no archive is shown on a terminal or typed on one."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("KONTENA_LAB_BUILD_DIR") or os.environ.get("KONTENA_BUILD_DIR") or "build")
KONTENACTL = BUILD / "src/kontenactl/kontenactl"


def ctl(*args: str, terminal: str = "") -> subprocess.CompletedProcess:
    if not KONTENACTL.exists():
        pytest.skip(f"no kontenactl in {BUILD}")
    master, slave = pty.openpty()
    try:
        return subprocess.run(
            [KONTENACTL, "--no-pager", "-g", "g", *args],
            stdin=slave if terminal == "in" else subprocess.DEVNULL,
            stdout=slave if terminal == "out" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"},
            timeout=120,
        )
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    "terminal, args",
    [
        ("out", ["cp", "web-1:/etc", "-"]),
        ("in", ["cp", "-", "web-1:/etc"]),
        ("out", ["volume", "export", "data"]),
        ("out", ["volume", "export", "data", "-"]),
        ("in", ["volume", "import", "--force", "data"]),
    ],
)
def test_an_archive_is_not_for_a_terminal(terminal, args):
    said = ctl(*args, terminal=terminal)
    assert said.returncode == 2 and said.stderr.startswith("An archive is not "), said


@pytest.mark.parametrize(
    "args, word",
    [
        (["/a", "./b"], "Neither side"),
        (["a", "b"], "Neither side"),
        (["web-1:/a", "web-2:/b"], "Between two instances"),
        (["./web-1:/a", "/web-1:/b"], "Neither side"),
        (["web-1:", "b"], "path is missing"),
    ],
)
def test_one_side_is_an_instance(args, word):
    said = ctl("cp", *args)
    assert said.returncode == 2 and word in said.stderr, said


def test_what_is_not_here_is_not_asked_for(tmp_path):
    said = ctl("volume", "import", "--force", "data", str(tmp_path / "none"))
    assert said.returncode != 0 and "none" in said.stderr and "nowhere" not in said.stderr
