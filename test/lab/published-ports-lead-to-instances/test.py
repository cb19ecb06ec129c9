# SPDX-License-Identifier: LGPL-2.1-or-later
"""Published ports: each protocol, ranges, one address, and from a container back to its own machine."""

import struct
import subprocess

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

SERVE = """
for p in 8082 8083; do nc -ll -p $p -e echo port $p & done
exec nc -ll -p 8081 -e echo port 8081
"""


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sctp_init(source: int, destination: int) -> bytes:
    """An association's first packet."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x1234, 65536, 1, 1, 1)
    head = struct.pack("!HHI", source, destination, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def says(grid, host, port, word, address=None):
    answer = grid.master.run(f"nc -w 2 {address or host.address} {port} </dev/null", check=False)
    return word in answer.stdout


@pytest.fixture(scope="module")
def server(grid):
    name = unique("ports")
    ports = ["--ports=18081-18083:8081-8083", "--ports=15300:5300/udp", "--ports=15400:5400/sctp"]
    with grid.service(name, "busybox:1", "--affinity=node==node1", *ports, "--", "sh", "-c", SERVE):
        yield grid.instance(name)


def test_a_range_is_published_port_by_port(grid, server):
    host = grid.host_of(server)
    for offset in range(3):
        wait_until(lambda: says(grid, host, 18081 + offset, f"port {8081 + offset}"), 20, f"port {18081 + offset}", 0.2)
    shown = grid.service_json(server["service"])["ports"]
    assert "0.0.0.0:18082:8082/tcp" in shown, shown


def test_udp_is_answered(grid, server):
    host = grid.host_of(server)
    echo = host.popen(["ip", "netns", "exec", f"kt-{server['id']}", "socat", "UDP4-RECVFROM:5300,fork", "EXEC:cat"])
    ask = f"echo hello | nc -u -w 1 {host.address} 15300"
    try:
        wait_until(lambda: "hello" in grid.master.run(ask, check=False).stdout, 20, "an echo by UDP", 0.2)
    finally:
        echo.terminate()
        echo.wait()


def test_sctp_arrives_with_the_port_of_the_container(grid, server):
    host = grid.host_of(server)
    packet = sctp_init(40000, 15400)
    capture = host.popen(["timeout", "60", "ip", "netns", "exec", f"kt-{server['id']}", "tcpdump", "-nn", "-l", "-c1", "-i", "eth0", "sctp"],
                         stdout=subprocess.PIPE, text=True)  # fmt: skip
    send = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132);"
        f"s.sendto(bytes.fromhex('{packet.hex()}'), ('{host.address}', 0))"
    )

    def arrived() -> bool:
        grid.master.run(["python3", "-c", send])
        return capture.poll() is not None

    wait_until(arrived, 50, "the packet in the container", 0.5)
    seen = capture.communicate()[0]
    assert f"{server['address']}.5400: sctp" in seen, seen


def test_a_container_reaches_its_own_published_port(grid, server):
    host = grid.host_of(server)
    ask = f"nc -w 2 {host.address} 18081 </dev/null"
    wait_until(lambda: "port 8081" in grid.inside(server, ask, check=False).stdout, 20, "the way out and back in", 0.2)


def test_one_address_alone(grid):
    """127.0.0.1 is published to the machine itself, and to nobody else."""
    name = unique("local")
    with grid.service(name, "busybox:1", "--affinity=node==node2", "--ports=127.0.0.1:18090:8081", "--", "sh", "-c", SERVE):
        host = grid.host_of(grid.instance(name))
        own = "nc -w 2 127.0.0.1 18090 </dev/null"
        wait_until(lambda: "port 8081" in host.run(own, check=False).stdout, 20, "the port on loopback", 0.2)
        assert not says(grid, host, 18090, "port")


def test_a_port_in_use_by_protocol_is_told_when_scheduling(grid, server):
    name = unique("second")
    with grid.service(name, "busybox:1", "--affinity=node==node1", "--ports=18081:1/udp", "--", "sleep", "infinity"):
        assert grid.instance(name)["state"] == "running"  # UDP is another port
    grid.ctl("service", "create", "--affinity=node==node1", "--ports=15400:1/sctp", name, "registry:5000/busybox:1", "--", "sleep", "9")
    try:
        result = grid.deploy(name, check=False)
        assert result.returncode != 0
        assert "port 15400/sctp is taken" in result.stdout + result.stderr, result
    finally:
        grid.remove(name)
