# SPDX-License-Identifier: LGPL-2.1-or-later
"""kontenactl exec: a command in a container, with its status, its bytes, a terminal, and nothing of it left behind."""

import hashlib
import json
import re
import subprocess
import time

import pytest

from kontenalab.grid import unique
from kontenalab.process import wait_until

MEGABYTES = 100
SLEEP = "sleep 98765"
TALK = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done"

# A person at a terminal: what is typed, what is waited for, and the window that changes its size.
TERMINAL = r"""
import fcntl, json, os, pty, select, struct, sys, termios, time

steps = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm-lab"
    os.execvp("kontenactl", ["kontenactl", "--no-ask-password", *sys.argv[2:]])
seen = b""
def size(rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
def until(text):
    global seen
    end = time.monotonic() + 120
    while text.encode() not in seen:
        if time.monotonic() > end or not select.select([fd], [], [], 120)[0]:
            sys.exit(f"no {text!r} in {seen!r}")
        seen += os.read(fd, 65536)
    seen = seen[seen.index(text.encode()) + len(text):]
size(31, 97)
for kind, value in steps:
    if kind == "size":
        size(*value)
    elif kind == "type":
        os.write(fd, value.encode())
    elif kind == "stop":
        os.kill(pid, value)
    else:
        until(value)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print("icanon" if termios.tcgetattr(fd)[3] & termios.ICANON else "raw", status)
"""


@pytest.fixture(scope="module")
def web(grid):
    """One instance on each node; (name of the first, its host)."""
    name = unique("shell")
    with grid.service(name, "busybox:1", "--deploy-strategy=daemon", "--env=OWN=here", "--", "sh", "-c", TALK):
        grid.master.write("/root/terminal.py", TERMINAL)
        first = grid.instance(name)
        yield f"{name}-1", grid.host_of(first)


def units(host):
    return host.run("systemctl list-units --all --plain --no-legend 'kontena-exec-*'").stdout.strip()


def nothing_is_left(host, argument):
    wait_until(lambda: not units(host) and host.run(f"pgrep -f '^{argument}$'", check=False).returncode == 1, 20, "an end of it all", 0.2)
    assert not host.run("ls -d /run/kontena/instances/*/*/exec-*", check=False).stdout


def test_status_output_and_environment(grid, web):
    name, host = web
    result = grid.ctl("exec", "--env=GIVEN=too", name, "sh", "-c", "echo out $OWN $GIVEN; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "out here too\n", "err\n")
    assert grid.ctl("exec", name, "--", "sh", "-c", "kill -KILL $$", check=False).returncode == 128 + 9
    assert grid.ctl("exec", "-u", "1234:99", name, "id").stdout.startswith("uid=1234 gid=99")
    assert grid.ctl("exec", name, "cat", input="not for it").stdout == ""
    assert grid.ctl("exec", "-i", name, "cat", input="for it").stdout == "for it"
    cgroup = grid.ctl("exec", name, "cat", "/proc/self/cgroup").stdout
    assert cgroup  # in the container's own view
    nothing_is_left(host, "none")


def test_what_cannot_be_run_says_why(grid, web):
    name, _ = web
    missing = grid.ctl("exec", name, "nosuchprogram", check=False)
    assert missing.returncode == 1 and "nosuchprogram" in missing.stderr and "not found" in missing.stderr
    nobody = grid.ctl("exec", "--user=nosuchuser", name, "id", check=False)
    assert nobody.returncode != 0 and "nosuchuser" in nobody.stderr
    none = grid.ctl("exec", f"{name[:-2]}-99", "id", check=False)
    assert none.returncode == 4 and "no instance 99" in none.stderr


def test_every_byte_arrives_both_ways(grid, web):
    name, host = web
    grid.master.run(f"head -c {MEGABYTES << 20} /dev/urandom > /tmp/bytes")
    want = grid.master.run("sha256sum < /tmp/bytes").stdout
    started = time.monotonic()
    there_and_back = f"cat /tmp/bytes | kontenactl exec -i {name} cat | sha256sum"
    assert grid.master.run(there_and_back, timeout=120, env={"KONTENA_GRID": grid.name}).stdout == want
    print(f"{MEGABYTES} MB there and back: {MEGABYTES / (time.monotonic() - started):.0f} MB/s each way")
    grid.master.run("rm /tmp/bytes")

    # A reader that is in no hurry holds up the writer, not the daemons; one that goes ends it.
    slow = f"kontenactl exec {name} head -c 3000000 /dev/zero | (sleep 1; sha256sum)"
    zeros = hashlib.sha256(bytes(3000000)).hexdigest()
    assert grid.master.run(slow, env={"KONTENA_GRID": grid.name}).stdout.startswith(zeros)
    gone = grid.master.run(f"kontenactl exec {name} yes | head -2; echo ${{PIPESTATUS[0]}}", env={"KONTENA_GRID": grid.name})
    assert gone.stdout == "y\ny\n141\n" and not gone.stderr
    nothing_is_left(host, "yes")


def person(grid, *words, steps):
    out = grid.master.run(["python3", "/root/terminal.py", json.dumps(steps), "-g", grid.name, *words], timeout=120)
    return out.stdout.split()


def test_a_terminal_is_a_terminal(grid, web):
    name, host = web
    assert person(grid, "exec", "-it", name, "sh", steps=[
        ("type", "stty size; echo $TERM; tty\n"), ("see", "31 97"), ("see", "xterm-lab"), ("see", "/dev/pts/"),
        ("size", (50, 132)), ("type", "sleep 0.3; stty size\n"), ("see", "50 132"),
        ("type", f"sh -c 'echo begun; exec {SLEEP}3'\n"), ("see", "begun\r"), ("type", "\x03"), ("type", "echo status=$?\n"), ("see", "status=130"),
        ("type", "exit 9\n"),
    ]) == ["icanon", "9"]  # fmt: skip
    # Ended from outside, the terminal is as it was, and the command is gone.
    assert person(grid, "exec", "-it", name, "sh", "-c", f"echo ready; exec {SLEEP}4",
                  steps=[("see", "ready"), ("stop", 15)]) == ["icanon", "143"]  # fmt: skip
    nothing_is_left(host, f"{SLEEP}4")


def start(grid, name, argument, **kwargs):
    """A command that sleeps, and says so first."""
    process = grid.popen("exec", name, "sh", "-c", f"echo ready; exec {argument}",
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)  # fmt: skip
    assert process.stdout.readline() == b"ready\n"
    return process


def test_signals_go_to_the_command(grid, web):
    name, host = web
    script = "trap 'echo got it; exit 44' INT; echo ready; while :; do sleep 0.1; done"
    line = f"kontenactl exec {name} sh -c \"{script}\" >/tmp/signalled & p=$!; until grep -q ready /tmp/signalled; do sleep 0.1; done; kill -INT $p; wait $p; echo $?"
    status = grid.master.run(f"rm -f /tmp/signalled; set -m; {line}", env={"KONTENA_GRID": grid.name}).stdout
    assert (grid.master.read("/tmp/signalled"), status) == ("ready\ngot it\n", "44\n")
    nothing_is_left(host, "none")


@pytest.mark.parametrize("who", ["kontenactl", "noded", "master", "instance"])
def test_whoever_dies_takes_the_command_along(grid, web, who):
    name, host = web
    process = start(grid, name, f"{SLEEP}5")
    assert units(host)
    if who == "kontenactl":
        grid.master.run(f"pkill -KILL -f '^kontenactl.* exec {name}'")
    elif who == "noded":
        host.run("systemctl kill -s KILL kontena-noded")
    elif who == "master":
        grid.master.run("systemctl kill -s KILL kontenad")
    else:
        grid.ctl("service", "restart", name[:-2])
    status = process.wait(30)
    said = process.stderr.read().decode()
    assert status == {"kontenactl": status, "noded": 6, "master": 8, "instance": status}[who], said
    assert status != 0
    nothing_is_left(host, f"{SLEEP}5")
    wait_until(lambda: grid.ctl("grid", "list", check=False).returncode == 0, 30, "the master", 0.2)
    for node in ("node1", "node2", "node3"):
        grid.wait_node(node, "online")
    grid.wait_instances(name[:-2], ["running"] * 3)


def test_statuses_outlive_a_systemd_that_executes_itself_anew(grid, web):
    """What systemd would have told meanwhile is lost; it is asked again."""
    name, host = web
    gate = f"/tmp/{unique('gate')}"
    script = f"""for i in $(seq 12); do
        (timeout 300 kontenactl exec {name} sh -c "until [ -e {gate} ]; do sleep 0.1; done; sleep $((i / 4)); exit $((i + 100))" || echo $i $?) &
    done; wait"""
    commands = grid.master.popen(["env", f"KONTENA_GRID={grid.name}", "bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: len(units(host).splitlines()) == 12, 30, "12 commands", 0.1)
    pid = grid.main_pid(grid.instance(name[:-2]))  # systemd does not answer while it executes itself
    opening = ["nsenter", "-t", str(pid), "-m", "-r", "-w", "touch", gate]
    again = host.popen("until [ -e /run/reexecuted-enough ]; do systemctl daemon-reexec; done")
    try:
        host.run(opening)
        said = sorted([int(word) for word in line.split()] for line in commands.communicate(timeout=60)[0].splitlines())
    finally:
        host.run("touch /run/reexecuted-enough")
        again.wait(60)
        host.run("rm /run/reexecuted-enough")
        host.run(opening)
    assert said == [[i, i + 100] for i in range(1, 13)]
    nothing_is_left(host, SLEEP)


def test_nobody_runs_anything_unasked(grid, web):
    name, _ = web
    grid.master.run("id mallory >/dev/null 2>&1 || useradd -m mallory")
    refused = grid.ctl("exec", name, "id", check=False, user="mallory")
    assert refused.returncode == 7 and ("ccess denied" in refused.stderr or "nteractive" in refused.stderr)

    # Of one that was allowed the audit has the first word, and how it ended.
    cursor = grid.master.cursor()
    grid.ctl("exec", name, "sh", "-c", "exit 3 # hush-hush", check=False)
    wait_until(lambda: any("ended with status 3" in e["MESSAGE"] for e in grid.master.journal("KONTENA_AUDIT=1", since=cursor)),
               10, "the end in the audit", 0.2)  # fmt: skip
    kept = "cat /var/lib/kontena/master/kontena.db*; journalctl -b --no-pager -t kontenad"
    assert grid.master.run(f"({kept}) | grep -ac exec.open.end").stdout != "0\n"
    assert grid.master.run(f"({kept}) | grep -ac hush-hush", check=False).stdout == "0\n"


def test_streams_are_limited(grid, web):
    name, host = web
    line = f"for i in $(seq 22); do kontenactl exec {name} {SLEEP}6 >> /tmp/refused 2>&1 & done; wait"
    grid.master.run("rm -f /tmp/refused")
    all_of_them = grid.master.popen(["env", f"KONTENA_GRID={grid.name}", "bash", "-c", line], stdin=subprocess.DEVNULL)
    wait_until(lambda: len(units(host).splitlines()) == 16 and grid.master.read("/tmp/refused").count("\n") == 6, 30, "16 commands", 0.3)
    grid.master.run("pkill -f '^kontenactl exec'")
    all_of_them.wait(20)
    assert grid.master.read("/tmp/refused").count("At most 16 streams") == 6
    nothing_is_left(host, f"{SLEEP}6")


def test_attach_shows_what_comes(grid, web):
    name, _ = web
    attached = grid.popen("attach", "-n", "1", name, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    said = [attached.stdout.readline() for _ in range(8)]
    grid.master.run("pkill -f '^kontenactl.* attach -n 1'")
    attached.wait(30)
    numbers = [int(re.fullmatch(r"line (\d+)\n", line)[1]) for line in said]
    assert numbers == list(range(numbers[0], numbers[0] + 8))
    grid.wait_instances(name[:-2], ["running"] * 3)


def test_from_another_machine(grid, web):
    """Over ssh, where there is one."""
    name, _ = web
    node = grid.lab.host("node2")
    if node.run("ssh -o BatchMode=yes root@master true", check=False).returncode != 0:
        pytest.skip("no ssh between the lab's hosts")
    line = f"head -c 20000000 /dev/urandom > /tmp/far; sha256sum < /tmp/far; kontenactl -H root@master -g {grid.name} exec -i {name} sh -c 'cat; exit 5' < /tmp/far | sha256sum; echo ${{PIPESTATUS[0]}}"
    first, second, status = node.run(line, timeout=60).stdout.splitlines()
    assert first == second and status == "5"


def test_a_stopped_instance_runs_nothing(grid, web):
    name, _ = web
    grid.ctl("service", "stop", name[:-2])
    grid.wait_instances(name[:-2], ["stopped"] * 3)
    result = grid.ctl("exec", name, "id", check=False)
    assert result.returncode == 5 and "does not run" in result.stderr
