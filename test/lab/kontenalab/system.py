# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small operating system as a layer: systemd and what it depends on, out of the tree that hosts are made of.

Nothing is fetched or installed for it: the files are those that dpkg lists for these packages.
"""

import re
import shutil
from pathlib import Path

from .oci import Layer, layer_of
from .process import run
from .tree import HOST

PACKAGES = ["systemd-sysv", "dbus", "iproute2", "base-files", "bash", "dash", "coreutils", "grep", "sed", "login", "netcat-openbsd", "procps"]

# What is too large for what it is worth.
_LEFT_OUT = re.compile(r"/usr/share/(doc|man|locale|info|perl|zoneinfo|bash-completion|i18n)/|/usr/lib/x86_64-linux-gnu/(gconv|perl)/|/boot/")

# Made at installation, and so on nobody's list.
_MADE = ["bin/sh", "etc/passwd", "etc/group", "etc/shadow", "etc/nsswitch.conf", "etc/ld.so.cache"]

_HELLO_UNIT = """\
[Unit]
Description=Answers on port 8000 with what it was given
[Service]
EnvironmentFile=-/run/kontena/environment
LoadCredential=token
SetCredential=token:none
ExecStart=/usr/local/bin/hello
Restart=always
"""

_HELLO = """\
#!/bin/sh
echo "hello is up"
while :; do
    read -r token < "$CREDENTIALS_DIRECTORY/token"
    echo "I am $(cat /proc/sys/kernel/hostname), greeting $GREETING, token ${#token}" | nc.openbsd -l -N 8000
done
"""


def system_layer(work: Path) -> Layer:
    host, root = HOST.ensure(), work / "system"
    root.mkdir()
    for link in ("bin", "sbin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
        (root / "usr" / link).mkdir(parents=True, exist_ok=True)
    for name in sorted(_files(host) | {f"/{name}" for name in _MADE}):
        source, target = host / name.lstrip("/"), root / name.lstrip("/")
        if _LEFT_OUT.match(name + "/") or (target.exists() and not target.is_file()):
            continue
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        elif source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copystat(source, target)
    for name in ("dev", "proc", "sys", "run", "tmp", "root", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    _configure(root)
    return layer_of(root, compression="zstd")


def _configure(root: Path) -> None:
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").write_text("not-what-the-service-says\n")
    (root / "etc/fstab").write_text("")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    units = root / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True, exist_ok=True)
    (units / "hello.service").write_text(_HELLO_UNIT)
    program = root / "usr/local/bin/hello"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(_HELLO)
    program.chmod(0o755)
    (units / "multi-user.target.wants/hello.service").symlink_to("../hello.service")


def _files(host: Path) -> set[str]:
    """What the packages and those they need have installed."""
    needs: dict[str, list[str]] = {}
    for entry in (host / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", entry, re.MULTILINE))
        if "Package" in fields:
            alternatives = f"{fields.get('Depends', '')},{fields.get('Pre-Depends', '')}".split(",")
            needs[fields["Package"]] = [re.split(r"[ :(|]", a.strip())[0] for a in alternatives if a.strip()]
    wanted, waiting = set(), list(PACKAGES)
    while waiting:
        package = waiting.pop()
        if package in needs and package not in wanted:
            wanted.add(package)
            waiting += needs[package]
    listed = run(["dpkg-query", f"--admindir={host}/var/lib/dpkg", "--listfiles", *sorted(wanted)]).stdout
    return {line for line in listed.splitlines() if line.startswith("/") and line != "/."}
