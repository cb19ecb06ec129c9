# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts as systemd-nspawn containers: native speed, the machine's kernel."""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .host import Host
from .process import LabError, run, tool_environment, wait_until

# Overlay file systems cannot stack on themselves: what containers put their roots on is a plain directory.
_PLAIN = {"kontena": "/var/lib/kontena", "docker": "/var/lib/docker"}

_NSPAWN_ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    # A host is to allow what a real machine allows; the filters under test are those of its own services.
    "SYSTEMD_SECCOMP": "0",
}

_started: list[subprocess.Popen] = []


class NspawnHost(Host):
    def _boot(self) -> None:
        self.root.mount(self._lowers())
        namespace = self.lab.network.attach_namespace(self.name, self.options.mtu)
        binds = [f"--bind={self._data(name)}:{target}" for name, target in _PLAIN.items()]
        argv = [
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
            f"--machine=kl-{self.lab.name}-{self.name}", f"--hostname={self.name}", f"--directory={self.root.path}",
            "--capability=all", f"--network-namespace-path={namespace}",
            "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=read-only",
            "--bind=/dev/net/tun", "--bind=/dev/fuse", *binds,
        ]  # fmt: skip
        _started[:] = [process for process in _started if process.poll() is None]
        with open(self.console, "ab") as log:
            process = subprocess.Popen(
                self.cgroup.entering(argv),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=tool_environment(_NSPAWN_ENVIRONMENT), start_new_session=True,
            )  # fmt: skip
        _started.append(process)
        wait_until(lambda: self.running or process.poll() is not None, 10, f"start of systemd-nspawn for {self.name}")

    def _data(self, name: str) -> Path:
        directory = self.directory / "data" / name
        directory.mkdir(parents=True, exist_ok=True)
        if name == "kontena" and self.options.disk_mb and not directory.is_mount():
            image = directory.with_suffix(".img")
            if not image.exists():
                run(["truncate", "-s", f"{self.options.disk_mb}M", image])
                run(["mkfs.ext4", "-q", "-m", "0", image])
            run(["mount", "-o", "loop", image, directory])
        return directory

    def _leader(self) -> int:
        """The host's PID 1, as this machine numbers it."""
        for group in ("payload/init.scope", "payload"):
            try:
                pids = (self.cgroup.path / group / "cgroup.procs").read_text().split()
            except OSError:
                continue
            for pid in pids:
                try:
                    status = Path("/proc", pid, "status").read_text()
                except OSError:
                    continue
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
                if len(numbers) == 2 and numbers[1] == "1":
                    return int(pid)
        return 0

    def _entering(self, argv: list[str], env: Mapping[str, str], tty: bool) -> list[str]:
        def leader() -> int:
            if not self.running:
                raise LabError(f"{self.name} is not running; see {self.console}")
            return self._leader()

        pid = wait_until(leader, 30, f"PID 1 of {self.name}")
        variables = [f"{key}={value}" for key, value in env.items()]
        if tty:
            argv = ["script", "--quiet", "--flush", "--return", "--command", shlex.join(argv), "/dev/null"]
        enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        # The command gets a group inside the host's: its systemd, and a power loss, see it as its own.
        return self.cgroup.entering([*enter, "env", "-i", *variables, *argv], "payload/lab.scope")

    def _release(self) -> None:
        self.lab.network.detach(self.name)
        self.root.unmount()
        data = self.directory / "data" / "kontena"
        if data.is_mount():
            run(["umount", data])

    def log_command(self, options: Sequence[str]) -> list[str]:
        """From its files, also when it is off."""
        return ["journalctl", f"--directory={self.root.journal_directory()}", *options]

    def save_journal(self, target: Path) -> None:
        self._save_journal_files(self.root.journal_directory(), target)
