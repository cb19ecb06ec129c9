# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running programs, waiting with a deadline, and locks between processes."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .settings import TOOL_PATH

T = TypeVar("T")

# Every limit of a wait is given as a quiet machine needs it, and holds so many times longer: a limit costs nothing when things work.
PATIENCE = float(os.environ.get("KONTENA_LAB_PATIENCE", "6"))


class LabError(Exception):
    """The lab cannot do what was asked; the message is for a person."""


class Unsupported(LabError):
    """This kernel or machine lacks something; tests that need it are skipped with this message."""


class CommandError(LabError):
    """A command failed; carries what it wrote."""

    def __init__(self, result: "Result", what: str):
        self.result = result
        said = "\n".join(text.rstrip() for text in (result.stdout, result.stderr) if text.strip())
        super().__init__(f"{what}: exit status {result.returncode}" + (f"\n{said}" if said else ""))


class Result:
    """What a finished command left: text by default, `raw` for bytes."""

    def __init__(self, argv: Sequence[str], returncode: int, raw: bytes, raw_stderr: bytes):
        self.argv = list(argv)
        self.returncode = returncode
        self.raw = raw
        self.raw_stderr = raw_stderr

    @property
    def stdout(self) -> str:
        return self.raw.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.raw_stderr.decode(errors="replace")

    def __repr__(self) -> str:
        return f"Result({self.argv!r}, {self.returncode}, {self.stdout!r}, {self.stderr!r})"


def tool_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYENV", "PYTHON"))}
    env.update(PATH=TOOL_PATH, LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive")
    env.update(extra or {})
    return env


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    input: str | bytes | None = None,
    timeout: float | None = 600,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    what: str | None = None,
) -> Result:
    """Run a program of the machine with its output captured; on timeout its whole process group is killed."""
    args = [str(a) for a in argv]
    what = what or " ".join(args)
    process = subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=tool_environment(env),
        cwd=cwd,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(input.encode() if isinstance(input, str) else input, timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        result = Result(args, -signal.SIGKILL, *_what_is_left(process))
        raise CommandError(result, f"{what}: no end after {timeout:g} s") from None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    result = Result(args, process.returncode, out, err)
    if check and result.returncode != 0:
        raise CommandError(result, what)
    return result


class Background(subprocess.Popen):
    """A command that goes on; limits of waiting for its end hold PATIENCE times longer."""

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(timeout and timeout * PATIENCE)

    def communicate(self, input=None, timeout: float | None = None):
        return super().communicate(input, timeout and timeout * PATIENCE)


def _what_is_left(process: subprocess.Popen) -> tuple[bytes, bytes]:
    """Output of a killed process; somebody it gave its descriptors to, as ssh does, may keep the pipes open."""
    try:
        return process.communicate(timeout=1)
    except subprocess.TimeoutExpired as expired:
        return expired.stdout or b"", expired.stderr or b""


def wait_until(condition: Callable[[], T | None], timeout: float = 30, what: str = "condition", interval: float = 0.05) -> T:
    """Call until it returns something true, which is returned; says what was missing when time, and PATIENCE, is over."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process; used so that two labs make the same cache entry once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
