# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lab: hosts, the network between them, and the project's files that they get."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import console, packages, pki, tree
from .build import Build
from .cgroup import Cgroup
from .host import Host, HostOptions
from .network import Network
from .nspawn import NspawnHost
from .process import LabError, Result, locked, run
from .qemu import QemuHost
from .registry import Registry
from .settings import cache_directory, check_name, lab_directory, lab_name

DEFAULT_HOSTS = ("master", "node1", "node2", "node3", "registry")
BACKENDS: dict[str, type[Host]] = {"nspawn": NspawnHost, "qemu": QemuHost}


class Lab:
    def __init__(self, name: str | None = None):
        self.name = check_name(name or lab_name())
        self.directory = lab_directory() / self.name
        self.project = self.directory / "project"
        self.network = Network(self.name)
        self.registry = Registry()

    @contextmanager
    def lock(self) -> Iterator[None]:
        with locked(lab_directory() / f".{self.name}.lock"):
            yield

    # Hosts

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts of this lab, on or off."""
        found = {}
        for description in sorted(self.directory.glob("hosts/*/host.json")):
            options = HostOptions(**json.loads(description.read_text()))
            name = description.parent.name
            found[name] = BACKENDS[options.backend](self, name, options)
        return found

    def host(self, name: str) -> Host:
        hosts = self.hosts
        if name not in hosts:
            known = ", ".join(hosts) or "none; `boot` or `up` makes them"
            raise LabError(f"The lab '{self.name}' has no host '{name}' (it has: {known})")
        return hosts[name]

    def add(self, name: str, **options: Any) -> Host:
        """A new host, not started."""
        if name in self.hosts:
            raise LabError(f"The lab '{self.name}' already has a host '{name}'")
        if options.get("backend") == "qemu":
            options.setdefault("tree", "vm")
        given = HostOptions(**options)
        return BACKENDS[given.backend](self, name, given)

    def boot(self, names: Sequence[str] = DEFAULT_HOSTS, **options: Any) -> list[Host]:
        """Make and start these hosts as far as they are not, and wait until they are up."""
        with self.lock():
            self.prepare()
            known = self.hosts
            hosts = [known.get(name) or self.add(name, **options) for name in names]
            self._ensure_images(hosts)
            with console.step(f"Starting {', '.join(names)}", account="hosts"):
                for host in hosts:
                    host.start()
                for host in hosts:
                    if host.wait_running() == "degraded":
                        failed = host.run("systemctl --failed --plain --no-legend", check=False).stdout
                        console.warn(f"{host.name} is up, but: {failed.strip()}")
        return hosts

    def recover(self) -> None:
        """Hosts that a test has cut off or switched off are up and connected again."""
        self.network.unblock()
        hosts = self.hosts.values()
        for host in hosts:
            if host.running:
                host.heal()
        stopped = [host for host in hosts if not host.running]
        for host in stopped:
            host.start()
        for host in stopped:
            host.wait_running()

    def prepare(self) -> None:
        """Packages, keys and network: what every host needs."""
        packages.ensure(packages.LAB, "the lab's tools")
        pki.ensure()
        _allow_many_watches()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.network.up()

    def _ensure_images(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            tree.TREES[host.options.tree].ensure()
        if any(host.name == "registry" and not host.created for host in hosts):
            self.registry.ensure()

    def machine_id(self, host: str) -> str:
        return uuid.uuid5(uuid.NAMESPACE_DNS, f"{host}.{self.name}.kontena-lab").hex

    # The project in the hosts

    def install(self, build: Build) -> bool:
        """Stage the built project for new hosts, and put it on running ones unless they have it already."""
        self.directory.mkdir(parents=True, exist_ok=True)
        staged = self.directory / "project.new"
        build.install_to(staged)
        changed = not self.project.exists() or _digest(staged) != _digest(self.project)
        if not changed:
            shutil.rmtree(staged)
            return False
        shutil.rmtree(self.project, ignore_errors=True)
        staged.rename(self.project)
        running = [h for h in self.hosts.values() if h.running and h.options.project]
        if running:
            with console.step(f"Installing on {', '.join(h.name for h in running)}", account="install"):
                archive = run(["tar", "-C", self.project, "--owner=0", "--group=0", "-cf", "-", "."]).raw
                for host in running:
                    host.install(archive)
        return True

    # The outside of the hosts

    def run(self, argv: Sequence[str], **kwargs: Any) -> Result:
        """Run a program of this machine where the lab's own addresses are, outside of every host."""
        return self.network.run(argv, **kwargs)

    def save_journals(self, target: Path) -> None:
        for host in self.hosts.values():
            try:
                host.save_journal(target)
                if host.console.exists():
                    shutil.copyfile(host.console, target / f"{host.name}.console")
            except (LabError, OSError) as error:
                console.warn(f"The journal of {host.name} could not be kept: {error}")

    def down(self) -> None:
        """Leave nothing: no process, mount, link, namespace, control group or file of this lab."""
        with self.lock():
            hosts = self.hosts
            for directory in self.directory.glob("hosts/*"):
                name = directory.name
                host = hosts.get(name) or NspawnHost(self, name, HostOptions())  # half made
                host.reset()
            Cgroup(self.name).remove()
            self.network.down()
            tree.remove(self.directory)
            try:
                Cgroup().path.rmdir()
            except OSError:
                pass  # other labs are running
        (lab_directory() / f".{self.name}.lock").unlink(missing_ok=True)


def _digest(directory: Path) -> str:
    """Of names, modes, link targets and contents."""
    total = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        total.update(f"{path.relative_to(directory)} {path.lstat().st_mode:o}\n".encode())
        if path.is_symlink():
            total.update(str(path.readlink()).encode())
        elif path.is_file():
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def all_labs() -> list[str]:
    base = lab_directory()
    return sorted(p.name for p in base.glob("*") if p.is_dir() and p != cache_directory())


def _allow_many_watches() -> None:
    """All hosts are one user to this kernel, and its usual 128 inotify instances are what three labs need."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    try:
        if int(limit.read_text()) < 1024:
            limit.write_text("1024\n")
    except OSError as error:
        console.warn(f"{limit} stays as it is: {error}")
