# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts as virtual machines: a kernel of their own, with every controller, WireGuard and netem, but slow.

A second link, eth1 on the bridge mgmt, carries the lab's ssh, so that commands still reach a host whose eth0 is cut.
"""

import json
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from . import pki
from .cgroup import Cgroup
from .host import Host
from .network import PREFIXES, mac, management_address
from .process import CommandError, LabError, run, tool_environment, wait_until
from .tree import TREES, remove

_DISK_MB = 6144

_KERNEL = (
    "root=/dev/vda rw rootfstype=ext4 console=ttyS0 net.ifnames=0 fsck.mode=skip quiet loglevel=4 "
    "systemd.show_status=1 random.trust_cpu=on mitigations=off"
)

_NETWORK_UNIT = """\
[Unit]
Description=Links of a lab host
DefaultDependencies=no
Wants=network-pre.target
BindsTo=sys-subsystem-net-devices-eth0.device sys-subsystem-net-devices-eth1.device
After=sys-subsystem-net-devices-eth0.device sys-subsystem-net-devices-eth1.device network-pre.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip link set lo up; \\
        ip link set eth0 mtu {mtu} up; ip addr replace {address}/24 dev eth0; ip route replace default via {gateway}; \\
        ip link set eth1 up; ip addr replace {management}/24 dev eth1'
[Install]
WantedBy=multi-user.target
"""

# An emulated machine beside busy ones may take minutes to find its links; giving up on them would leave it out of reach for good.
_MANAGER = "[Manager]\nDefaultDeviceTimeoutSec=infinity\n"

# What is loaded when it is used need not be loaded at every start: each of these costs a process, and so up to ten seconds.
_NOT_AT_START = "modprobe@.service"


class QemuHost(Host):
    @property
    def _machine(self) -> Cgroup:
        return Cgroup(self.lab.name, self.name, "machine")

    @property
    def running(self) -> bool:
        return self._machine.populated()

    @property
    def _monitor(self) -> Path:
        return self.directory / "qmp"

    @property
    def _disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def _data_disk(self) -> Path:
        return self.directory / "data.img"

    def _prepare(self) -> None:
        super()._prepare()
        gateway = f"{PREFIXES[self.bridge]}.1"
        unit = _NETWORK_UNIT.format(
            mtu=self.options.mtu, address=self.address, gateway=gateway, management=management_address(self.address)
        )
        self.root.write("lib/systemd/system/lab-network.service", unit)
        self.root.enable("lab-network.service")
        self.root.write("etc/systemd/system.conf.d/lab.conf", _MANAGER)
        self.root.mask(_NOT_AT_START)
        if self.options.disk_mb:
            self.root.write("etc/fstab", "/dev/vdb /var/lib/kontena ext4 defaults 0 2\n")
            self._make_disk(self._data_disk, self.options.disk_mb)
        self._make_disk(self._disk, _DISK_MB, self.root.path)
        self.root.unmount()
        for name in ("upper", "work"):
            remove(self.directory / name)

    @staticmethod
    def _make_disk(image: Path, megabytes: int, content: Path | None = None) -> None:
        image.unlink(missing_ok=True)
        run(["truncate", "-s", f"{megabytes}M", image])
        fill = ["-d", str(content)] if content else []
        run(["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", *fill, image])

    def _boot(self) -> None:
        self.lab.network.attach_tap(self.name, self.options.mtu)
        boot = TREES[self.options.tree].ensure() / "boot"
        kernel, initrd = next(boot.glob("vmlinuz-*")), next(boot.glob("initrd.img-*"))
        argv = [
            "qemu-system-x86_64", "-nographic", "-nodefaults", "-no-user-config",
            "-accel", _accelerator(), "-cpu", "max", "-smp", "2",
            "-m", str(self.options.memory_mb),
            "-kernel", str(kernel), "-initrd", str(initrd), "-append", _KERNEL,
            "-serial", f"file:{self.console}", "-qmp", f"unix:{self._monitor},server=on,wait=off", "-device", "virtio-rng-pci",
            "-drive", f"file={self._disk},if=virtio,format=raw,cache=writeback",
            *(["-drive", f"file={self._data_disk},if=virtio,format=raw"] if self.options.disk_mb else []),
            *self._link("eth0", self.name, self.address),
            *self._link("eth1", f"{self.name}.m", management_address(self.address)),
        ]  # fmt: skip
        with open(self.directory / "qemu.log", "ab") as log:
            process = subprocess.Popen(
                self._machine.entering(self.lab.network.entering(argv)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=tool_environment(), start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self.running or process.poll() is not None, 30, f"start of qemu for {self.name}")

    @staticmethod
    def _link(name: str, tap: str, address: str) -> list[str]:
        return ["-netdev", f"tap,id={name},ifname={tap},script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev={name},mac={mac(address)},romfile="]  # fmt: skip

    # Commands go over one ssh connection, as opening one takes a second in an emulated machine.

    def _ssh(self, *arguments: str) -> list[str]:
        options = {
            "ControlPath": self.directory / "ssh", "BatchMode": "yes", "ConnectTimeout": 5, "LogLevel": "ERROR",
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "ServerAliveInterval": 10,
            "ServerAliveCountMax": 6,
        }  # fmt: skip
        flags = [f"-o{key}={value}" for key, value in options.items()]
        target = f"root@{management_address(self.address)}"
        return self.lab.network.entering(["ssh", "-F", "none", "-i", str(pki.ssh_key()), *flags, *arguments, target])

    def _connect(self) -> None:
        if run(self._ssh("-O", "check"), check=False).returncode == 0:
            return
        argv = Cgroup(self.lab.name, self.name, "ssh").entering(self._ssh("-f", "-N", "-M"))

        def connected() -> bool:
            """It may be starting, or have no turn just now."""
            if not self.running:
                raise LabError(f"{self.name} is not running; see {self.console}")
            try:
                return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      env=tool_environment(), timeout=60).returncode == 0  # fmt: skip
            except subprocess.TimeoutExpired:
                return False

        wait_until(connected, 120, f"ssh to {self.name}", 0.1)

    def _entering(self, argv: list[str], env: Mapping[str, str], tty: bool) -> list[str]:
        self._connect()
        variables = [f"{key}={value}" for key, value in env.items()]
        return [*self._ssh(*(["-t"] if tty else [])), "--", shlex.join(["env", "-i", *variables, *argv])]

    def set_clock(self) -> None:
        """An emulated machine that gets few processors has a clock that is behind."""
        self.run(["true"])  # opening the connection takes its time
        self.run(["date", "--set", f"@{time.time():.3f}"])

    @contextmanager
    def right_clock(self) -> Iterator[None]:
        """What it loses while it waits for a processor is given back every second."""
        self.set_clock()
        done = threading.Event()

        def keep() -> None:
            while not done.wait(1):
                self.run(["date", "--set", f"@{time.time():.3f}"], check=False)

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def reboot(self, timeout: float = 180) -> None:
        """The machine's own reboot, by its firmware."""
        before = self.read("/proc/sys/kernel/random/boot_id")
        self.run(["systemctl", "reboot"], check=False)

        def changed() -> bool:
            self._disconnect()  # a connection to the kernel that was would be waited for
            try:
                return self.run(["cat", "/proc/sys/kernel/random/boot_id"], timeout=5).stdout != before
            except CommandError:
                return False

        wait_until(changed, timeout, f"reboot of {self.name}", 0.5)
        self.wait_running(timeout)

    def cut(self, *, silent: bool = False) -> None:
        if silent:
            super().cut(silent=True)
        else:
            self._set_carrier(False)

    def heal(self) -> None:
        super().heal()
        self._set_carrier(True)

    def _set_carrier(self, up: bool) -> None:
        """A link that is down on this machine's side would not be seen inside; qemu's own link state is."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(120)
            monitor.connect(str(self._monitor))
            replies = monitor.makefile()
            replies.readline()
            for execute, arguments in (("qmp_capabilities", {}), ("set_link", {"name": "eth0", "up": up})):
                monitor.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode())
                while "event" in (reply := json.loads(replies.readline())):
                    pass
                if "error" in reply:
                    raise LabError(f"{self.name}: {execute}: {reply['error']['desc']}")

    def slow(self, delay_ms: int | None = None, rate: str | None = None) -> None:
        """Its own kernel has netem also where this machine's has not; what it sends is slowed."""
        self.run("tc qdisc delete dev eth0 root", check=False)
        if delay_ms or rate:
            delay = ["delay", f"{delay_ms}ms"] if delay_ms else []
            limit = ["rate", rate] if rate else []
            self.run(["tc", "qdisc", "add", "dev", "eth0", "root", "netem", *delay, *limit])

    def _disconnect(self) -> None:
        Cgroup(self.lab.name, self.name, "ssh").kill()
        (self.directory / "ssh").unlink(missing_ok=True)

    def _release(self) -> None:
        self._disconnect()
        self.lab.network.detach(self.name)
        self.root.unmount()

    def save_journal(self, target: Path) -> None:
        if self.running:
            super().save_journal(target)
            return
        self.root.path.mkdir(exist_ok=True)
        run(["mount", "-o", "loop,ro,norecovery", self._disk, self.root.path])
        try:
            self._save_journal_files(self.root.path / "var/log/journal", target)
        finally:
            self.root.unmount()


def _accelerator() -> str:
    """/dev/kvm may be there and yet run no ordinary kernel, so ask the processor too."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "kvm" if Path("/dev/kvm").exists() and {"vmx", "svm"} & set(flags) else "tcg,thread=multi"
