# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages the machine itself needs, installed once."""

from collections.abc import Sequence

from . import console
from .process import run

BUILD = """
    gcc clang clang-format meson ninja-build pkg-config libc6-dev
    libsystemd-dev systemd libpolkit-gobject-1-dev libcurl4-gnutls-dev libgnutls28-dev libjson-c-dev
    libseccomp-dev libmnl-dev libnftables-dev libarchive-dev libzstd-dev libmicrohttpd-dev libwslay-dev
    libsqlite3-dev libsodium-dev libyaml-dev uthash-dev libcmocka-dev libclang-rt-14-dev
    libxml2-utils xsltproc docbook-xsl docbook-xml bash-completion
""".split()

LAB = """
    mmdebstrap systemd-container skopeo iproute2 nftables openssl openssh-client zstd curl tar
    e2fsprogs util-linux mount qemu-system-x86 python3-pytest debian-archive-keyring attr
""".split()


def missing(packages: Sequence[str]) -> list[str]:
    shown = run(["dpkg-query", "--show", "--showformat=${binary:Package} ${db:Status-Status}\n", *packages], check=False)
    installed = {
        line.split()[0].split(":")[0] for line in shown.stdout.splitlines() if line.endswith(" installed")
    }
    return [p for p in packages if p not in installed]


def ensure(packages: Sequence[str], title: str) -> None:
    """Install what is missing. Costs one dpkg-query when nothing is."""
    wanted = missing(packages)
    if not wanted:
        return
    apt = ["apt-get", "-qq", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=900"]
    with console.step(f"Installing {title} ({len(wanted)} packages)", account="packages"):
        run([*apt, "update"], timeout=900)
        run([*apt, "install", *wanted], timeout=1800)
