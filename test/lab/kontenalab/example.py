# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `./lab up` leaves running: a grid of three nodes with a web server, a database and something that uses both."""

from . import console
from .grid import Grid
from .lab import Lab
from .process import wait_until

WEB_PORT = 8080
ECHO_PORT = 8081

# (name, image, options of `kontenactl service create`)
SERVICES: list[tuple[str, str, list[str]]] = [
    ("redis", "redis:7", ["--stateful", "--volumes=/data", "--wait-for-port=6379"]),
    ("web", "nginx:1", ["--instances=3", f"--ports={WEB_PORT}:80", "--wait-for-port=80"]),
    ("echo", "echo:1", ["--instances=2", f"--ports={ECHO_PORT}:8080", "--wait-for-port=8080", "--env=WEB=http://web/"]),
]


def make_grid(lab: Lab) -> None:
    with console.step("Making a grid of node1, node2 and node3", account="grid"):
        Grid(lab).make()


def deploy(lab: Lab) -> None:
    grid = Grid(lab)
    present = {service["name"] for service in grid.json("service", "list")}
    for name, image, options in SERVICES:
        if name not in present:
            with console.step(f"Deploying {name} ({image})", account="example"):
                grid.create(name, image, *options)
    node = lab.host("node1")
    with console.step("Asking echo for redis, and redis for a number", account="example"):
        url = f"http://{grid.host_of(grid.instance('echo')).name}:{ECHO_PORT}/redis"
        wait_until(lambda: node.run(["curl", "-s", "-m", "5", url], check=False).stdout.startswith("hits"), 20,
                   f"answer of {url}")  # fmt: skip


def what_to_try(lab: Lab) -> str:
    grid = Grid(lab)
    command = "./lab" if lab.name == "lab" else f"./lab --name {lab.name}"
    echo = grid.instance("echo")
    redis = grid.instance("redis")
    host, unit = echo["node"], echo["unit"]
    lines = [
        ("run master kontenactl status", "grid, nodes, services, and what is wrong"),
        ("run master kontenactl service list", ""),
        (f"run master curl -s http://node1:{WEB_PORT}/", "nginx, on whichever node you ask"),
        (f"run master curl -s http://{host}:{ECHO_PORT}/redis", "echo finds redis by name, over the overlay"),
        (f"run {host} systemctl status --no-pager {unit}", "a container is a unit"),
        (f"run {host} journalctl --no-pager KONTENA_SERVICE=echo", "its output is in the journal"),
        (f"run {host} systemd-cgls --no-pager --unit kontena.slice", "the grid's slice"),
        ("run master busctl tree io.kontena.Master1", "everything is an object"),
        ("run master kontenactl service scale echo 3", "watch it"),
        (f"kill {redis['node']}", "power loss of the node that has redis; then: start"),
        (f"start {redis['node']}", "its data is still there"),
        ("shell node1", "look around"),
        ("down", "leaves nothing"),
    ]
    width = max(len(line) for line, _ in lines) + len(command) + 3
    tries = [f"    {f'{command} {line}':{width}} {note}".rstrip() for line, note in lines]
    return "\n".join(["", "The grid is up. Try:", *tries])
