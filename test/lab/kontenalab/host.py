# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a test can do with a host, whichever way it is made."""

import dataclasses
import json
import re
import select
import shlex
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import pki
from .cgroup import Cgroup
from .network import hosts_file, place
from .process import PATIENCE, Background, CommandError, LabError, Result, run, tool_environment, wait_until
from .root import HostRoot
from .settings import SYSTEM_PATH
from .tree import TREES, remove

if TYPE_CHECKING:
    from .lab import Lab

Command = str | Sequence[str]

_ENVIRONMENT = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": "/root", "USER": "root", "LOGNAME": "root"}

_KEPT = (("log", "short-precise"), ("export", "export"))

# Another user without a login: no session, so that polkit sees a caller that is neither local nor active.
_AS_USER = (
    'HOME="$(getent passwd "$0" | cut -d: -f6)"; export HOME; '
    'exec setpriv --reuid="$0" --regid="$(id -g "$0")" --init-groups -- "$@"'
)


def _after(cursor: str | None) -> list[str]:
    """journalctl 252 takes the first match behind --after-cursor for the cursor itself and drops it: go by its time."""
    if not cursor:
        return []
    usec = int(re.search(r"(?:^|;)t=([0-9a-f]+)", cursor).group(1), 16)  # type: ignore[union-attr]
    return [f"--since=@{usec // 1_000_000}.{usec % 1_000_000:06d}"]


@dataclass(frozen=True)
class HostOptions:
    """How a host is made. Kept beside its disk, so that every later command finds the same host."""

    backend: str = "nspawn"
    tree: str = "host"
    mtu: int = 1500
    disk_mb: int | None = None      # size of a file system of its own for /var/lib/kontena
    memory_mb: int = 1024           # qemu only
    project: bool = True            # install the project into it


class Host(ABC):
    """One machine. What is on its disk stays over kill() and start(); reset() gives it a new one."""

    def __init__(self, lab: "Lab", name: str, options: HostOptions):
        self.lab = lab
        self.name = name
        self.options = options
        self.bridge, self.address = place(name)
        self.directory = lab.directory / "hosts" / name
        self.console = self.directory / "console.log"
        self.root = HostRoot(self.directory)
        self.cgroup = Cgroup(lab.name, name)

    def __repr__(self) -> str:
        return f"<{self.options.backend} host {self.name}>"

    # What a backend does its own way

    @abstractmethod
    def _boot(self) -> None:
        """Start it from the prepared root; do not wait."""

    @abstractmethod
    def _entering(self, argv: list[str], env: Mapping[str, str], tty: bool) -> list[str]:
        """The command line on this machine that runs argv inside the host."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what a host that is off still holds on this machine."""

    # Power

    @property
    def running(self) -> bool:
        return self.cgroup.populated()

    @property
    def created(self) -> bool:
        return (self.directory / "host.json").exists()

    def start(self) -> None:
        """Switch on. wait_running() says when it is up."""
        if self.running:
            return
        self._release()
        if not self.created:
            self.root.mount(self._lowers())
            self._prepare()
            (self.directory / "host.json").write_text(json.dumps(dataclasses.asdict(self.options)) + "\n")
        self.cgroup.create()
        self._boot()

    def wait_running(self, timeout: float = 120) -> str:
        """Until systemd has started everything. Returns "running", or "degraded" when a unit has failed."""
        deadline = time.monotonic() + timeout * PATIENCE

        def state() -> str | None:
            if not self.running:
                raise LabError(f"{self.name} has gone off while it was starting; see {self.console}")
            left = max(deadline - time.monotonic(), 1)
            try:
                said = self.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=left).stdout.strip()
            except CommandError:
                return None
            return said if said in ("running", "degraded") else None

        return wait_until(state, timeout, f"start of {self.name} (see {self.console})", 0.1)

    def kill(self) -> None:
        """Power loss: everything that runs in it ends at once, the disk stays as it is."""
        self.cgroup.kill()
        self._release()

    def stop(self, timeout: float = 90) -> None:
        """Shut down in good order."""
        if not self.running:
            return
        self.run(["systemctl", "poweroff"], check=False)
        wait_until(lambda: not self.running, timeout, f"shutdown of {self.name}")
        self._release()

    def reboot(self, timeout: float = 180) -> None:
        self.stop(timeout)
        self.start()
        self.wait_running(timeout)

    def reset(self) -> None:
        """Switch off and throw the disk away: the next start is a new machine with the same name."""
        self.kill()
        self.root.unmount()
        self.cgroup.remove()
        remove(self.directory)

    # Network

    def cut(self, *, silent: bool = False) -> None:
        """Pull the cable; `silent` breaks the path further on, where the host cannot see it."""
        if silent:
            self.lab.network.set_bridged(self.name, False)
        else:
            self.lab.network.set_link(self.name, False)

    def heal(self) -> None:
        self.lab.network.set_bridged(self.name, True)
        self.lab.network.set_link(self.name, True)

    def slow(self, delay_ms: int | None = None, rate: str | None = None) -> None:
        """Delay each packet, or limit the rate ("1mbit"). Without arguments: back to full speed."""
        self.lab.network.shape(self.name, delay_ms, rate)

    # Commands

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        input: str | bytes | None = None,
        user: str | None = None,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a list of arguments, or a string by bash. Output is captured."""
        argv = self.command_line(command, user=user, env=env)
        shown = command if isinstance(command, str) else shlex.join(command)
        return run(argv, check=check, input=input, timeout=timeout * PATIENCE, what=f"{self.name}: {shown}")

    def popen(self, command: Command, *, user: str | None = None, **kwargs: Any) -> Background:
        """A command that goes on; the caller ends it."""
        return Background(self.command_line(command, user=user), env=tool_environment(), **kwargs)

    def command_line(
        self, command: Command, *, user: str | None = None, env: Mapping[str, str] | None = None, tty: bool = False
    ) -> list[str]:
        if not self.running:
            raise LabError(f"{self.name} is not running")
        argv = ["bash", "-c", command] if isinstance(command, str) else list(command)
        variables = {**_ENVIRONMENT, **(env or {})}
        if user and user != "root":
            variables.update(USER=user, LOGNAME=user)
            argv = ["sh", "-c", _AS_USER, user, *argv]
        return self._entering(argv, variables, tty)

    def set_clock(self) -> None:
        """To the lab's time. A host that is a container has this machine's clock."""

    @contextmanager
    def right_clock(self) -> Iterator[None]:
        """The lab's time for the length of a `with`."""
        yield

    # Files

    def push(self, source: Path | str, target: str) -> None:
        """Copy a file or a folder from this machine to that exact path, replacing what is in use safely."""
        source = Path(source)
        parent, name = str(Path(target).parent), Path(target).name
        archive = run(["tar", "-C", source.parent, "--transform", f"s,^{re.escape(source.name)},{name},SH",
                       "-cf", "-", source.name]).raw  # fmt: skip
        script = 'mkdir -p "$1" && tar -C "$1" --no-same-owner -xf -'
        if not source.is_dir():
            script = (
                'mkdir -p "$1" && new=$(mktemp -d "$1/.push.XXXXXX") && tar -C "$new" --no-same-owner -xf - '
                '&& mv -fT "$new/$2" "$1/$2" && rmdir "$new"'
            )
        self.run(["sh", "-c", script, "sh", parent, name], input=archive)

    def pull(self, source: str, target: Path | str) -> None:
        target = Path(target)
        archive = self.run(["tar", "-C", str(Path(source).parent), "-cf", "-", Path(source).name]).raw
        target.parent.mkdir(parents=True, exist_ok=True)
        run(["tar", "-C", target.parent, "--transform", f"s,^{re.escape(Path(source).name)},{target.name},SH",
             "-xf", "-"], input=archive)  # fmt: skip

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Whole or not at all: somebody on the host may be waiting for it, and take it at once."""
        parent, name = str(Path(path).parent), Path(path).name
        script = 'mkdir -p "$1" && new=$(mktemp "$1/.$2.XXXXXX") && cat > "$new" && chmod "$3" "$new" && mv -fT "$new" "$1/$2"'
        self.run(["sh", "-c", script, "sh", parent, name, f"{mode:o}"], input=text)

    def read(self, path: str) -> str:
        return self.run(["cat", path]).stdout

    # Journal

    def journal(self, *matches: str, since: str | None = None, options: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Entries as journalctl's JSON gives them; matches are "FIELD=value" or options such as "-u", "x"."""
        out = self.run(["journalctl", "--no-pager", "--output=json", "--all", *_after(since), *options, *matches]).stdout
        entries = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return [e for e in entries if e["__CURSOR"] != since]

    def cursor(self) -> str:
        """The end of the journal now, for `since` of a later question."""
        self.run(["journalctl", "--sync"], check=False)
        shown = self.run(["journalctl", "--no-pager", "-n", "1", "--output=json"]).stdout
        return json.loads(shown.splitlines()[-1])["__CURSOR"]

    def wait_journal(
        self, pattern: str, *matches: str, since: str | None = None, timeout: float = 30
    ) -> dict[str, Any]:
        """The first entry whose message matches the regular expression; after `since`, else from this boot's start."""
        timeout *= PATIENCE
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            # journalctl --follow was seen to show an entry only when the next one came, a minute later: look anew now and then.
            if entry := self._follow_journal(pattern, matches, since, min(left, 10)):
                return entry
        raise TimeoutError(f"{self.name}: no journal line '{pattern}' within {timeout:g} s")

    def _follow_journal(self, pattern: str, matches: Sequence[str], since: str | None, seconds: float) -> dict[str, Any] | None:
        start = [*_after(since), "--no-tail"] if since else ["--boot", "--no-tail"]
        regex = re.compile(pattern)
        follow = self.popen(
            ["journalctl", "--follow", "--output=json", "--all", *start, *matches],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + seconds
        buffer, said = b"", ""
        try:
            assert follow.stdout
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([follow.stdout], [], [], left)[0]:
                    break
                data = follow.stdout.read1(65536)  # type: ignore[attr-defined]
                if not data:
                    raise LabError(f"{self.name}: the journal ended while waiting for '{pattern}': {buffer.decode(errors='replace')}{said}")
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    if not line.startswith(b"{"):
                        said = line.decode(errors="replace")
                        continue
                    entry = json.loads(line)
                    if entry["__CURSOR"] == since:
                        continue
                    message = entry.get("MESSAGE") or ""
                    if isinstance(message, list):
                        message = bytes(message).decode(errors="replace")
                    if regex.search(message):
                        return entry
        finally:
            follow.kill()
            follow.wait()
            assert follow.stdout
            follow.stdout.close()
        return None

    def log_command(self, options: Sequence[str]) -> list[str]:
        """The command line on this machine that shows the journal to a person."""
        return self.command_line(["journalctl", *options])

    def save_journal(self, target: Path) -> None:
        """Keep what a person needs after a failure, as text and in journald's export format."""
        target.mkdir(parents=True, exist_ok=True)
        for suffix, output in _KEPT:
            shown = self.run(["journalctl", "--no-pager", f"--output={output}"], check=False)
            (target / f"{self.name}.{suffix}").write_bytes(shown.raw)

    def _save_journal_files(self, directory: Path, target: Path) -> None:
        """The same from the files of a host that may be off."""
        target.mkdir(parents=True, exist_ok=True)
        for suffix, output in _KEPT:
            shown = run(["journalctl", f"--directory={directory}", "--no-pager", f"--output={output}"], check=False)
            (target / f"{self.name}.{suffix}").write_bytes(shown.raw)

    # The project

    def install(self, archive: bytes) -> None:
        """Put the project's files on a running host and let its services take them."""
        self.run(["tar", "-C", "/", "-xf", "-"], input=archive)
        self.run(
            "systemd-sysusers; systemd-tmpfiles --create --exclude-prefix=/dev 2>/dev/null; systemctl daemon-reload;"
            "systemctl reload dbus; systemctl try-restart polkit kontenad.service kontena-noded.service",
            check=False,
        )

    # Making one

    def _lowers(self) -> list[Path]:
        tree = TREES[self.options.tree].ensure()
        return [*self.lab.registry.layers(), tree] if self.name == "registry" else [tree]

    def _prepare(self) -> None:
        """What makes this host different from every other one made of its tree."""
        root = self.root
        root.write("etc/hostname", f"{self.name}\n")
        root.write("etc/hosts", hosts_file(self.name))
        root.write("etc/machine-id", f"{self.lab.machine_id(self.name)}\n", 0o444)
        root.write("etc/default/docker-registry", "")
        root.write("root/.ssh/authorized_keys", pki.ssh_key().with_suffix(".pub").read_text(), 0o600)
        root.copy(pki.ssh_key(), "root/.ssh/id_ed25519", 0o600)
        root.copy(pki.authority(), "etc/kontena/lab-ca.pem")
        root.copy(pki.authority(), "usr/local/share/ca-certificates/kontena-lab.crt")
        run(["chroot", root.path, "update-ca-certificates"])
        if self.name == "registry":
            self.lab.registry.prepare(root)
        if self.options.project and self.lab.project.exists():
            root.copy_tree(self.lab.project)
            run(["systemd-sysusers", f"--root={root.path}"])
