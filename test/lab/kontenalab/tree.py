# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian trees that hosts are made of: built by mmdebstrap, kept in the cache under a hash of what is in them."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import console
from .process import locked, run
from .settings import RELEASE, cache_directory

HOST_PACKAGES = """
    systemd systemd-sysv systemd-container systemd-journal-remote udev dbus dbus-user-session
    polkitd pkexec libpam-systemd libnss-systemd sudo openssh-server openssh-client ca-certificates openssl
    iproute2 nftables dnsmasq-base iputils-ping curl socat netcat-openbsd tcpdump conntrack ethtool
    crun runc wireguard-tools wireguard-go
    procps psmisc less kmod strace jq sqlite3 e2fsprogs bash-completion python3
    libcurl3-gnutls libgnutls30 libjson-c5 libseccomp2 libmnl0 libnftables1 libarchive13 libzstd1
    libmicrohttpd12 libwslay1 libsqlite3-0 libsodium23 libyaml-0-2
    docker-registry redis-tools
""".split()

# What a machine has but a test host only loses time or certainty by.
MASKED_UNITS = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
    fstrim.timer logrotate.timer motd-news.timer man-db.timer systemd-pstore.service
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount
    getty@tty1.service console-getty.service serial-getty@ttyS0.service systemd-networkd-wait-online.service
    systemd-timesyncd.service
""".split()

DISABLED_UNITS = ["docker-registry.service", "docker.service", "docker.socket", "containerd.service"]

FILES = {
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=500M\n",
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nPermitRootLogin prohibit-password\n",
    "etc/ssh/ssh_config.d/lab.conf": "Host *\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n",
    "etc/resolv.conf": "nameserver 172.30.0.5\noptions timeout:1 attempts:1\n",
    "etc/fstab": "",
}

_DPKG_OPTIONS = [
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
]


@dataclass(frozen=True)
class Tree:
    name: str
    packages: tuple[str, ...]
    masked: tuple[str, ...] = tuple(MASKED_UNITS)
    files: tuple[tuple[str, str], ...] = field(default=tuple(FILES.items()))

    @property
    def path(self) -> Path:
        content = json.dumps([RELEASE, sorted(self.packages), self.masked, self.files, _DPKG_OPTIONS, DISABLED_UNITS])
        return cache_directory() / "trees" / f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def ensure(self) -> Path:
        if self.path.exists():
            return self.path
        with locked(self.path.with_suffix(".lock")):
            if not self.path.exists():
                with console.step(f"Making the Debian tree '{self.name}' for hosts", account="trees"):
                    partial = self.path.with_suffix(".partial")
                    bootstrap(partial, self.packages)
                    self._adapt(partial)
                    partial.rename(self.path)
        return self.path

    def _adapt(self, root: Path) -> None:
        units = root / "etc/systemd/system"
        for unit in self.masked:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")
        for link in units.glob("*.wants/*"):
            if link.name in DISABLED_UNITS or link.name in self.masked:
                link.unlink()
        for name, text in self.files:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(text)
        (root / "etc/machine-id").write_text("")
        (root / "var/log/journal").mkdir(exist_ok=True)
        if (root / "etc/initramfs-tools").exists():
            run(["chroot", root, "update-initramfs", "-u", "-k", "all"])
        # A root login by su or runuser needs no password; a password prompt would only hang a test.
        run(["chroot", root, "passwd", "-q", "-d", "root"])


HOST = Tree("host", tuple(HOST_PACKAGES))
VM = Tree(
    "vm",
    (*HOST_PACKAGES, "linux-image-cloud-amd64", "initramfs-tools"),
    tuple(u for u in MASKED_UNITS if not u.endswith(".mount")),
    (
        *FILES.items(),
        # Only what finds the disk: a small initrd saves seconds of emulated unpacking.
        ("etc/initramfs-tools/conf.d/lab", "MODULES=list\nCOMPRESS=zstd\n"),
        ("etc/initramfs-tools/modules", "virtio_pci\nvirtio_blk\n"),
    ),
)
DOCKER = Tree("docker", (*HOST_PACKAGES, "docker.io", "iptables", "tini"))

TREES = {tree.name: tree for tree in (HOST, VM, DOCKER)}


def bootstrap(target: Path, packages: Sequence[str], *, variant: str = "minbase") -> None:
    """mmdebstrap with this machine's own sources and ways to reach them; neither stays in the tree."""
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    acquire = target.with_suffix(".apt.conf")
    acquire.write_text(run(["apt-config", "dump", "Acquire"]).stdout)
    options = [f"--aptopt={acquire}", '--aptopt=APT::Install-Recommends "false"']
    options += [f"--dpkgopt={option}" for option in _DPKG_OPTIONS]
    try:
        run(
            ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", f"--variant={variant}"]
            + [f"--include={','.join(packages)}", *options, RELEASE, target, *_sources()],
            timeout=1800,
            what=f"mmdebstrap of {target.name}",
        )
    finally:
        acquire.unlink()
    for name in ("sources.list", "sources.list.d", "apt.conf.d/99mmdebstrap", "auth.conf.d"):
        remove(target / "etc/apt" / name)


def _sources() -> list[Path]:
    """The machine's source lists, without those of other vendors."""
    found = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    found = [p for p in found if p.is_file() and p.suffix in (".list", ".sources")]
    return [p for p in found if RELEASE in p.read_text()]


def remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        if os.path.ismount(path):
            raise RuntimeError(f"{path} is still mounted")
        shutil.rmtree(path)
