# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every other test builds on: the lab does to a host what it says, on either backend."""

import re

import pytest

from kontenalab import CommandError, Host, Lab, wait_until


def reaches(host: Host, other: str, seconds: int = 20) -> bool:
    return host.run(["ping", "-c1", f"-W{seconds}", other], check=False).returncode == 0


def is_cut_from(host: Host, other: str) -> bool:
    return not reaches(host, other, 1)


@pytest.fixture(params=["nspawn", "qemu"])
def host(request, extra_host) -> Host:
    names = {"nspawn": "node9", "qemu": "vm9"}
    return extra_host(names[request.param], backend=request.param, disk_mb=64)


def test_each_host_reaches_each_other_by_name(lab: Lab):
    for name, one in lab.hosts.items():
        for other in lab.hosts:
            assert reaches(one, other), f"{name} does not reach {other}"


def test_host_does_what_the_lab_says(lab: Lab, host: Host):
    node = lab.host("node1")
    blob = bytes(range(256)) * 500
    assert host.run(["cat"], input=blob).raw == blob
    assert host.run("id -un; echo $HOME", user="nobody").stdout.split() == ["nobody", "/nonexistent"]
    with pytest.raises(CommandError) as refused:
        host.run("echo no >&2; exit 7")
    assert refused.value.result.returncode == 7 and "no" in str(refused.value)
    with pytest.raises(CommandError, match="no end after"):
        host.run(["sleep", "60"], timeout=0.1)

    assert int(host.run("df --output=size -m /var/lib/kontena | tail -1").stdout) < 64

    cursor = host.cursor()
    host.run(["logger", "a line of 42"])
    assert host.wait_journal(r"line of \d+", since=cursor)["SYSLOG_IDENTIFIER"] == "root"

    host.cut()
    assert is_cut_from(node, host.name)
    assert "NO-CARRIER" in host.run("ip link show eth0").stdout
    host.heal()
    wait_until(lambda: reaches(node, host.name, 1), 10, "connection after healing")
    host.cut(silent=True)
    assert is_cut_from(node, host.name)
    assert "NO-CARRIER" not in host.run("ip link show eth0").stdout
    host.heal()

    host.write("/var/lib/kontena/kept", "kept\n", 0o600)
    host.run(["sync"])
    boot = host.read("/proc/sys/kernel/random/boot_id")
    host.kill()
    assert not host.running and is_cut_from(node, host.name)
    host.start()
    assert host.wait_running() == "running"
    assert host.read("/proc/sys/kernel/random/boot_id") != boot
    assert host.run("stat -c %a /var/lib/kontena/kept; cat /var/lib/kontena/kept").stdout == "600\nkept\n"

    boot = host.read("/proc/sys/kernel/random/boot_id")
    host.reboot()
    assert host.read("/proc/sys/kernel/random/boot_id") != boot
    assert reaches(node, host.name)


def test_two_hosts_can_be_kept_apart(lab: Lab):
    one, two, other = (lab.host(name) for name in ("node1", "node2", "node3"))
    lab.network.block("node1", "node2")
    assert is_cut_from(one, "node2") and is_cut_from(two, "node1")
    assert reaches(one, "node3") and reaches(other, "node2")
    lab.network.unblock()
    wait_until(lambda: reaches(one, "node2", 1), 10, "connection after unblocking")


def test_far_host_is_behind_a_router(lab: Lab, extra_host):
    far = extra_host("far1")
    assert far.address.startswith("172.31.0.")
    assert reaches(far, "node1") and reaches(lab.host("node2"), "far1")


def test_slow_host(lab: Lab):
    node = lab.host("node3")
    try:
        node.slow(delay_ms=200)
        times = re.findall(r"time=([\d.]+)", lab.host("node1").run(["ping", "-c2", "node3"]).stdout)
        assert times and all(float(t) >= 200 for t in times), times
    finally:
        node.slow()


def test_registry_serves_the_images(lab: Lab):
    said = lab.host("node1").run(["curl", "-fsS", "https://registry:5000/v2/echo/tags/list"]).stdout
    assert '"1"' in said
    code = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    private = [*code, "https://registry:5001/v2/"]
    assert lab.host("node1").run(private).stdout == "401"
    assert lab.host("node1").run([*private, "-u", "lab:kontena"]).stdout == "200"


def test_token_registry_lets_everybody_have_busybox_and_the_user_all(lab: Lab):
    node = lab.host("node1")

    def status(image: str, account: str = "") -> str:
        scope = f"https://registry:5003/token?service=lab&scope=repository:{image}:pull"
        given = f"-u {account}" if account else ""
        accept = "-H 'Accept: application/vnd.oci.image.manifest.v1+json'"
        return node.run(
            f"t=$(curl -sS {given} '{scope}' | jq -r .token); curl -sS -o /dev/null -w '%{{http_code}}' {accept} "
            f"-H \"Authorization: Bearer $t\" https://registry:5002/v2/{image}/manifests/1"
        ).stdout

    assert status("busybox") == "200"
    assert status("echo") == "401"
    assert status("echo", "lab:kontena") == "200"
    assert status("echo", "lab:wrong") == "401"
