# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images from a real registry over TLS, by kontena-pull in its unit, unpacked by a user that is not root."""

import time

import pytest
from kontenalab.build import Build
from kontenalab.process import wait_until

STORE = "/var/lib/kontena/test-images"  # a real file system: the host's root is an overlayfs, which takes no whiteouts
CA = "/etc/kontena/lab-ca.pem"


class Puller:
    def __init__(self, host):
        self.host = host
        built = Build().directory
        host.push(built / "src/kontena-noded/test-pull-driver", "/run/test-pull-driver")
        host.push(built / "src/kontena-pull/kontena-pull", "/usr/lib/kontena/kontena-pull")
        host.run("systemd-sysusers")

    def line(self, *images: str, store: str = STORE, ca: str = CA) -> list[str]:
        names = [image if "/" in image or image == "-" else f"registry:5000/{image}" for image in images]
        return ["/run/test-pull-driver", store, ca, *names]

    def pull(self, *images: str, **kwargs) -> str:
        return self.host.run(self.line(*images, **kwargs), check=False, timeout=60).stdout

    def layers(self, *images: str) -> list[str]:
        said = self.pull(*images)
        assert "\nimage sha256:" in said, said
        return [line.split()[1] for line in said.splitlines() if line.startswith("layer ")]

    def names(self, folder: str, store: str = STORE) -> list[str]:
        return self.host.run(["ls", f"{store}/{folder}"]).stdout.split()


@pytest.fixture
def puller(lab):
    made = Puller(lab.host("node1"))
    made.host.run(["rm", "-rf", STORE])
    yield made
    made.host.run(["rm", "-rf", STORE])


@pytest.mark.parametrize("image", ["busybox:1", "busybox:zstd", "busybox:docker", "busybox:multi", "nginx:1"])
def test_every_form_is_pulled(puller, image):
    assert puller.layers(image)
    assert puller.names("staging") == []


@pytest.mark.parametrize(
    "image, reason",
    [
        ("evil-dotdot:1", "unsafe path"),
        ("evil-symlink:1", "unsafe path"),
        ("evil-hardlink:1", "unsafe path"),
        ("corrupt:1", "is corrupt: its content has the digest sha256:"),
        ("truncated:1", "is corrupt: the registry has only"),
        ("gone:1", "does not have it"),
        ("nosuch:1", "has no such image"),
    ],
)
def test_what_is_wrong_is_refused_and_named(puller, image, reason):
    said = puller.pull(image)
    assert reason in said and image in said, said
    assert puller.names("images") == [] and puller.names("refs") == [] and puller.names("staging") == []
    # Nothing came out, wherever it tried to go.
    assert puller.host.run("ls -d /tmp/escaped* /escaped* /etc/escaped* 2>/dev/null", check=False).stdout == ""


def test_an_absolute_path_stays_inside(puller):
    puller.layers("evil-absolute:1")
    assert puller.host.run("ls -d /tmp/escaped* /escaped* /etc/escaped* 2>/dev/null", check=False).stdout == ""


def test_overlayfs_shows_what_docker_would(puller):
    layers = puller.layers("tricky:1")
    assert len(layers) == 3
    puller.host.run(
        f"mkdir -p /run/tricky && mount -t overlay tricky -o ro,userxattr,lowerdir={':'.join(layers)} /run/tricky"
    )
    try:
        seen = puller.host.run("cd /run/tricky/tricky && find . -maxdepth 2 -not -path './long*' -printf '%P %y %m %U\\n'").stdout
        found = {line.split()[0]: line.split()[1:] for line in seen.splitlines() if not line.startswith(" ")}
        assert "deleted" not in found
        assert "opaque/new" in found and "opaque/old" not in found
        assert found["becomes-file"][0] == "f" and found["becomes-directory"][0] == "d"
        assert found["app"] == ["f", "600", "1000"]
        assert found["kept"][1] == "1777"
        same = puller.host.run("cd /run/tricky/tricky && stat -c %i hard-1 hard-2 && cat hard-1 && cat hard-3").stdout.split()
        assert same[0] == same[1] and same[2] == same[3]
    finally:
        puller.host.run("umount /run/tricky")


def test_the_unit_sees_and_may_little(puller, lab):
    lab.host("registry").run("systemctl stop docker-registry")
    process = puller.host.popen(puller.line("busybox:1"))
    try:
        unit = wait_until(
            lambda: puller.host.run("systemctl list-units --no-legend --plain 'kontena-pull-*'").stdout.split()[:1],
            10, "unit of kontena-pull",
        )[0]  # fmt: skip
        pid = wait_until(
            lambda: puller.host.run(
                f"p=$(systemctl show -P MainPID {unit}); [ $p -gt 1 ] && grep -q kontena-pull /proc/$p/comm && echo $p", check=False
            ).stdout.strip(), 10, "kontena-pull",
        )  # fmt: skip
        status = puller.host.run(f"cat /proc/{pid}/status").stdout
        assert "Uid:\t0" not in status
        assert "CapEff:\t000000008000001b" in status and "CapBnd:\t000000008000001b" in status
        assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
        root = f"/proc/{pid}/root"
        assert puller.host.run(f"ls {root}/etc/shadow {root}/root {root}/home {root}/run/dbus", check=False).stdout == ""
        assert puller.host.run(f"ls {root}{STORE}").stdout.split() == ["images", "layers", "lock", "refs", "staging"]
        shown = puller.host.run(f"systemctl show {unit}").stdout
        assert "Slice=system-kontena.slice" in shown
        # Whoever started it goes; it does not stay.
        puller.host.run("pkill -9 -f ^/run/test-pull-driver")
        wait_until(
            lambda: not puller.host.run("systemctl list-units --no-legend --plain 'kontena-pull-*'").stdout.strip(),
            15, "end of the unit",
        )  # fmt: skip
    finally:
        lab.host("registry").run("systemctl start docker-registry")
        process.wait(30)


def test_a_killed_pull_leaves_nothing_that_looks_whole(puller):
    process = puller.host.popen(puller.line("big:1"))
    deadline = time.monotonic() + 30
    kills = 0
    while process.poll() is None and kills < 2 and time.monotonic() < deadline:
        # Also from the second start, which the first kill brings.
        kills += puller.host.run("pkill -9 -x kontena-pull", check=False).returncode == 0
    process.wait(60)
    for name in puller.names("layers"):
        assert puller.host.run(f"[ -e {STORE}/layers/{name}/big ] || [ -e {STORE}/layers/{name}/bin ]", check=False).returncode == 0
    layers = puller.layers("big:1")
    assert puller.host.run(f"du -sm {layers[0]}").stdout.split()[0] in ("48", "49")


def test_a_full_disk_is_said_and_left_clean(puller):
    for size, reason in (("20m", "has"), ("70m", "No space left on device")):
        puller.host.run(f"mkdir -p /run/small && mount -t tmpfs -o size={size} small /run/small")
        try:
            said = puller.pull("big:1", store="/run/small")
            assert "error io.kontena.Error.Unavailable" in said and reason in said, said
            assert puller.names("staging", "/run/small") == []
        finally:
            puller.host.run("umount /run/small")


def test_pulls_at_the_same_time_share_layers(puller):
    images = ("redis:7", "nginx:1", "echo:1", "busybox:1")
    processes = [puller.host.popen(puller.line(*images)) for _ in range(3)]
    for process in processes:
        assert process.wait(60) == 0
    # The one below all, and one of each.
    assert len(puller.names("layers")) == 4
    assert puller.names("staging") == []
    puller.pull("-")
    assert puller.names("layers") == [] and puller.names("images") == [] and puller.names("staging") == []
