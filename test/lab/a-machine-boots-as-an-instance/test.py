# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runtime nspawn: an image with an operating system boots in the instance's unit, with the overlay, volumes, logs and secrets."""

import json

import pytest
from kontenalab import CommandError
from kontenalab.grid import unique
from kontenalab.process import wait_until

SECRET = "fuenfzehn zeichen"


@pytest.fixture(scope="module")
def box(grid):
    """Two machines, on two nodes."""
    secret, name = unique("token"), unique("box")
    grid.ctl("vault", "write", secret, input=SECRET)
    options = ["--runtime=nspawn", "--instances=2", "--env=GREETING=it's \"you\" $HOME", "--wait-for-port=8000", "--memory=300m",
               f"--secret={secret}:token:file", f"--secret={secret}:TOKEN:env", "--volume=/data", "--pids-limit=200"]  # fmt: skip
    with grid.service(name, "system:1", *options):
        yield name
    grid.ctl("vault", "remove", "--force", secret)


def machine(instance) -> str:
    return instance["unit"].removesuffix(".service")


def leader(grid, instance) -> int:
    shown = grid.host_of(instance).run(["machinectl", "show", machine(instance), "--property=Leader", "--value"], check=False).stdout
    return int(shown.strip() or 0)


def inside(grid, instance, command: str) -> str:
    enter = ["nsenter", "-t", str(leader(grid, instance)), "-U", "-m", "-n", "-u", "-i", "-p", "-r", "-w", "/bin/sh", "-c", command]
    return grid.host_of(instance).run(enter).stdout


def says(grid, host, address: str) -> str:
    """What hello.service answers; it takes one connection at a time."""
    answer = lambda: host.run(f"nc -w 2 {address} 8000 < /dev/null", check=False).stdout  # noqa: E731
    return wait_until(answer, 20, f"an answer from {address}", 0.2)


def test_machine_is_in_its_unit_and_seen_by_machinectl(grid, box):
    for instance in grid.instances(box):
        host = grid.host_of(instance)
        shown = host.run(["machinectl", "show", machine(instance)]).stdout
        assert f"Unit={instance['unit']}\n" in shown and "Class=container\n" in shown
        assert instance["address"] in host.run(["machinectl", "status", "--no-pager", machine(instance)]).stdout
        limits = host.run(["systemctl", "show", "--property=MemoryMax,TasksMax,Delegate", instance["unit"]]).stdout
        assert sorted(limits.split()) == ["Delegate=yes", f"MemoryMax={300 << 20}", "TasksMax=200"]
        group = f"/kontena.slice/kontena-{grid.name}.slice/{instance['unit']}/payload/init.scope"
        assert group in host.run(f"cat /proc/{leader(grid, instance)}/cgroup").stdout
        assert inside(grid, instance, "systemctl is-system-running").strip() == "running"
        assert inside(grid, instance, "cat /proc/sys/kernel/hostname").strip() == f"{box}-{instance['number']}"


def test_machine_has_address_names_environment_and_credentials(grid, box):
    one, two = grid.instances(box)
    assert one["node"] != two["node"]
    expected = f"I am {box}-2, greeting it's \"you\" $HOME, token {len(SECRET)}\n"
    assert says(grid, grid.host_of(one), two["address"]) == expected
    # From the other machine, by name, across nodes.
    name = f"{box}-2.{grid.name}.kontena.local"
    answer = wait_until(lambda: inside(grid, one, f"nc.openbsd -w 2 {name} 8000 < /dev/null || true"), 20, name, 0.2)
    assert answer == expected
    environment = inside(grid, one, "tr '\\0' '\\n' < /proc/1/environ; cat /run/kontena/environment; cat /run/secrets/token")
    assert environment.count(SECRET) == 3 and f"KONTENA_SERVICE_NAME={box}" in environment
    host = grid.host_of(one)
    commands = host.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", check=False).stdout
    assert machine(one) in commands and "zeichen" not in commands and "greeting" not in commands
    assert "zeichen" not in host.run(["systemctl", "show", one["unit"]]).stdout


def test_root_of_a_machine_is_nobody_on_the_node(grid, box):
    instance = grid.instances(box)[0]
    host = grid.host_of(instance)
    mapped = inside(grid, instance, "cat /proc/self/uid_map").split()
    assert mapped[0] == "0" and int(mapped[1]) >= 1610612736 and mapped[2] == "65536"
    assert host.run(f"stat -c %u /proc/{leader(grid, instance)}").stdout.split() == [mapped[1]]
    inside(grid, instance, "echo kept > /data/file; mkdir /data/sub; chown 1000 /data/sub; echo x > /root/own")
    # On the disk it is root's, as everybody else's would be.
    volume = f"/var/lib/kontena/instances/{instance['id']}/gen-1/volumes/data"
    assert host.run(f"stat -c %u {volume}/file {volume}/sub").stdout.split() == ["0", "1000"]
    assert host.run(f"stat -c %u /var/lib/kontena/instances/{instance['id']}/gen-1/upper/root/own").stdout.strip() == "0"
    for forbidden in ("ip link set dev eth0 down", "mknod /tmp/sda b 8 0", "echo 1 > /proc/sys/kernel/panic", "date -s 2000-01-01"):
        with pytest.raises(CommandError):
            inside(grid, instance, forbidden)
    assert inside(grid, instance, "ip -br address show eth0").split()[1] == "UP"


def test_logs_of_the_machine_are_the_instances(grid, box):
    one = grid.instances(box)[0]
    host = grid.host_of(one)
    inside(grid, one, "systemd-run --quiet --unit=speaker echo a word from inside")
    entry = f"journalctl --output=json KONTENA_SERVICE={box} KONTENA_INSTANCE={one['number']} | grep 'a word from inside'"
    line = wait_until(lambda: host.run(entry, check=False).stdout, 20, "the machine's line in the node's journal", 0.2)
    assert json.loads(line.splitlines()[0])["_SYSTEMD_UNIT"] == one["unit"]
    inner = ["journalctl", "-M", machine(one), "-u", "speaker", "--no-pager"]
    wait_until(lambda: "a word from inside" in host.run(inner, check=False).stdout, 20, "the line in the machine's journal", 0.2)
    wait_until(lambda: "a word from inside" in grid.ctl("service", "logs", box).stdout, 20, "the line at the master", 0.2)
    assert "login:" not in grid.ctl("service", "logs", box).stdout


def test_reboot_from_inside_is_no_crash_and_kill_is_one(grid, box):
    one = grid.instances(box)[0]
    host, before, cursor = grid.host_of(one), leader(grid, one), grid.host_of(one).cursor()
    inside(grid, one, "kill -s RTMIN+5 1")  # reboot
    host.wait_journal("was restarted from inside", since=cursor)
    wait_until(lambda: leader(grid, one) not in (0, before), 30, "another machine", 0.2)
    assert inside(grid, one, "cat /data/file /root/own").split() == ["kept", "x"], "its disk stays"

    # Without the daemon: the machine runs on, and a new daemon takes it as it is.
    before = leader(grid, one)
    host.run("systemctl kill --signal=KILL kontena-noded")
    wait_until(lambda: grid.instance(box, one["number"])["state"] == "running" and grid.nodes()[one["node"]]["state"] == "online",
               30, "the daemon back", 0.2)  # fmt: skip
    assert leader(grid, one) == before

    cursor = host.cursor()
    host.run(f"kill -9 {before}")
    host.wait_journal("started again in", since=cursor)
    wait_until(lambda: leader(grid, one) not in (0, before), 40, "it comes back after a crash", 0.2)
    says(grid, host, one["address"])

    # Killed with nspawn itself, which then tells machined nothing: as the kernel does it for lack of memory.
    before = leader(grid, one)
    host.run(["systemctl", "kill", "--signal=KILL", one["unit"]])
    wait_until(lambda: leader(grid, one) not in (0, before), 40, "it comes back after the end of all of it", 0.2)
    says(grid, host, one["address"])


def test_stop_is_a_shutdown_and_leaves_nothing(grid):
    name = unique("stop")
    with grid.service(name, "system:1", "--runtime=nspawn"):
        one = grid.instance(name)
        host, cursor = grid.host_of(one), grid.host_of(one).cursor()
        base = host.run(f"stat -c %u /run/kontena/instances/{one['id']}/1/rootfs").stdout.strip()
        assert int(base) >= 1610612736
    host.wait_journal("Reached target poweroff.target", since=cursor)
    wait_until(lambda: machine(one) not in host.run("machinectl list --no-legend --no-pager").stdout, 20, "machined to forget it", 0.1)
    traces = "ls -l /run/kontena/uid-ranges; ls /run/kontena/instances /var/lib/kontena/instances; cat /proc/self/mountinfo"
    wait_until(lambda: one["id"] not in host.run(traces).stdout, 20, "the last of its files to go", 0.1)


def test_command_in_a_machine_image(grid):
    name = unique("cmd")
    script = "echo out of $FOO; id -u; trap 'echo stopping; exit 0' TERM; while :; do sleep 0.1; done"
    with grid.service(name, "system:1", "--runtime=nspawn", "--env=FOO=bar", "--working-dir=/usr", "--", "/bin/sh", "-c", script):
        one = grid.instance(name)
        host, cursor = grid.host_of(one), grid.host_of(one).cursor()
        host.wait_journal("^0$", f"KONTENA_SERVICE={name}", "_TRANSPORT=stdout")
        lines = host.run(f"journalctl -o cat KONTENA_SERVICE={name} _TRANSPORT=stdout").stdout
        assert lines.split("\n")[:2] == ["out of bar", "0"]
        grid.ctl("service", "stop", name)
        host.wait_journal("stopping", since=cursor)


def test_deploy_of_a_machine_is_start_first_and_checked_from_inside(grid):
    name = unique("roll")
    check = ["--health-check-protocol=exec", "--health-check-command=systemctl is-active hello.service", "--health-check-interval=5s",
             "--health-check-timeout=5s"]  # fmt: skip
    with grid.service(name, "system:1", "--runtime=nspawn", "--drain=1s", *check):
        one = grid.instance(name)
        assert one["health"] == "healthy"
        grid.ctl("service", "update", "--env=GREETING=second", name)
        grid.deploy(name)
        two = grid.instance(name)
        assert machine(two) == f"{machine(one)}.b" and two["state"] == "running", "beside the first, so under another name"
        assert "second" in says(grid, grid.host_of(two), two["address"])


def test_only_nodes_with_nspawn_get_machines(grid):
    name = unique("none")
    node3 = grid.lab.host("node3")
    node3.run("mv /usr/bin/systemd-nspawn /usr/bin/systemd-nspawn.away; systemctl restart kontena-noded")
    try:
        def known() -> bool:
            grid.ctl("service", "create", "--runtime=nspawn", "--affinity=node==node3", name, "registry:5000/system:1")
            shown = grid.deploy(name, check=False)
            grid.ctl("service", "remove", "--force", name)
            return shown.returncode != 0 and "node3: does not run machines" in shown.stdout + shown.stderr

        wait_until(known, 30, "the scheduler knows", 0.5)
    finally:
        node3.run("mv /usr/bin/systemd-nspawn.away /usr/bin/systemd-nspawn; systemctl restart kontena-noded")
        grid.wait_node("node3", "online")


def test_what_has_no_meaning_is_refused_by_name(grid):
    for option, field in (("--user=app", "user"), ("--cap-add=NET_ADMIN", "cap_add"), ("--pid=host", "pid")):
        shown = grid.ctl("service", "create", "--runtime=nspawn", option, unique("no"), "registry:5000/system:1", check=False)
        assert shown.returncode != 0 and f"'{field}' cannot be set with 'runtime' nspawn" in shown.stderr


def test_commands_run_in_a_machine(grid, box):
    one = grid.instances(box)[0]
    name = f"{box}-{one['number']}"
    exec_ = lambda *words, **more: grid.ctl("exec", "-i", name, "--", *words, **more)  # noqa: E731
    assert exec_("cat", "/proc/1/comm").stdout == "systemd\n"
    # As the machine's root, with its environment, below its limits of rights, and binary-safe.
    shown = exec_("sh", "-c", "id -u; echo $GREETING; cat /proc/self/uid_map; grep Seccomp: /proc/self/status; cat; echo oops >&2; exit 7",
                  input="in\0put", check=False)  # fmt: skip
    lines = shown.stdout.splitlines()
    assert (shown.returncode, shown.stderr, lines[:2]) == (7, "oops\n", ["0", "it's \"you\" $HOME"])
    assert lines[2].split()[0] == "0" and int(lines[2].split()[1]) >= 1610612736
    assert lines[3].split() == ["Seccomp:", "2"] and lines[4] == "in\0put"
    assert exec_("sh", "-c", "echo by name > /dev/stdout").stdout == "by name\n"
    assert exec_("systemctl", "is-active", "hello.service").stdout == "active\n"
    for forbidden in (("mknod", "/tmp/sda", "b", "8", "0"), ("chroot", "/proc/1/root/../../..", "ls", "/var/lib/kontena")):
        assert exec_(*forbidden, check=False).returncode != 0
    missing = exec_("/no/such/program", check=False)
    assert missing.returncode != 0 and "No such file or directory" in missing.stderr
    tty = grid.ctl("exec", "-t", name, "--", "sh", "-c", "tty; stty size", input="", check=False)
    assert "/dev/pts/" in tty.stdout, tty.stdout + tty.stderr


def test_files_go_into_a_machine_and_out_of_it(grid, box):
    """Its users are its own; those of the copy are what they are in it."""
    instance = grid.instance(box)
    grid.master.run("rm -rf /root/mt /root/mo; mkdir -p /root/mt/d; echo one > /root/mt/f; echo two > /root/mt/d/g; chown 1000:33 /root/mt/d/g;"
                    " chmod 4750 /root/mt/d/g; ln -s /etc/hostname /root/mt/l")  # fmt: skip
    for place in ("/root/mt", "/data/mt"):
        grid.ctl("cp", "-a", "/root/mt", f"{box}-1:{place}")
        assert inside(grid, instance, f"stat -c '%u:%g %a' {place}/d/g {place}/f; cat {place}/d/g") == "1000:33 4750\n0:0 644\ntwo\n"
        grid.ctl("cp", "-a", f"{box}-1:{place}", "/root/mo")
        assert grid.master.run("cd /root/mt && find . -printf '%p %y %m %U:%G %T@ %l\n' | sort > /root/a; cd /root/mo && find . -printf"
                               " '%p %y %m %U:%G %T@ %l\n' | sort | diff /root/a - && rm -rf /root/mo").stdout == ""  # fmt: skip
    grid.ctl("cp", "/root/mt/d/g", f"{box}-1:/srv")
    assert inside(grid, instance, "stat -c '%u:%g' /srv/g") == "0:0\n"
