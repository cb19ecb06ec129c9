# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command `./lab`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import console, packages
from .build import Build
from .host import HostOptions
from .lab import BACKENDS, DEFAULT_HOSTS, Lab, all_labs
from .process import LabError, tool_environment
from .settings import DEFAULT_LAB, REPOSITORY, flag, lab_directory
from .tree import TREES, remove


def main(arguments: Sequence[str] | None = None) -> int:
    top = parser()
    args, more = top.parse_known_args(arguments)
    args.more = more
    if more and args.function not in (do_bench, do_logs):
        top.error(f"unrecognized arguments: {' '.join(more)}")
    os.environ["KONTENA_LAB_NAME"] = args.name
    if args.build_dir:
        os.environ["KONTENA_LAB_BUILD_DIR"] = str(args.build_dir.absolute())
    if os.geteuid() != 0:
        console.warn("hosts are made of namespaces and mounts: run this as root")
        return 1
    try:
        return args.function(args, Lab(args.name)) or 0
    except (LabError, TimeoutError, ValueError) as error:
        console.warn(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="./lab",
        description="Hosts with a real systemd, on a network of their own, running Kontena.",
        epilog="Start with `./lab up` and do what it prints; `./lab test` runs every test there is.",
    )
    top.add_argument("--name", default=os.environ.get("KONTENA_LAB_NAME", DEFAULT_LAB), metavar="LAB",
                     help="which lab (KONTENA_LAB_NAME); any number may exist side by side")  # fmt: skip
    top.add_argument("--no-build", action="store_true", default=flag("KONTENA_LAB_NO_BUILD"),
                     help="take what was built last, or boot hosts without the project (KONTENA_LAB_NO_BUILD)")  # fmt: skip
    top.add_argument("--build-dir", type=Path, metavar="DIR",
                     help="a meson build directory of yours (KONTENA_LAB_BUILD_DIR)")  # fmt: skip
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(function, name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    def hosts(sub: argparse.ArgumentParser, nargs: str, text: str = "host") -> None:
        sub.add_argument("hosts", nargs=nargs, metavar="HOST", help=text)

    command(do_up, "up", "build, boot all hosts, make a grid of them and run the example on it")
    sub = command(do_test, "test", "run unit tests and lab tests; the last line is the count")
    sub.add_argument("pattern", nargs="?", metavar="PATTERN", help="only tests whose name matches (pytest -k)")
    sub.add_argument("--keep", action="store_true", help="leave the hosts running afterwards")
    sub.add_argument("--no-unit", action="store_true", help="without the unit tests")
    sub.add_argument("--labs", type=int, default=2, metavar="N", help="so many labs share the work when all is tested, by default 2")
    sub.add_argument("--minutes", type=float, metavar="N", help="begin no test on hosts after so long; what is left out is counted as skipped and said")
    sub = command(do_shell, "shell", "a login shell on a host")
    sub.add_argument("host", metavar="HOST")
    sub.add_argument("-u", "--user", default="root")
    sub = command(do_run, "run", "run a command on a host; a single argument is a line for its shell")
    sub.add_argument("-u", "--user", default="root")
    sub.add_argument("host", metavar="HOST")
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND…")
    command(do_status, "status", "the hosts of this lab, and the other labs on this machine")
    sub = command(do_logs, "logs", "the journal of a host, or of all; further options are journalctl's, as --lines=20")
    sub.add_argument("host", nargs="?", metavar="HOST")
    sub.add_argument("-f", "--follow", action="store_true")
    sub = command(do_down, "down", "end it and leave nothing: no process, mount, link, namespace or file")
    sub.add_argument("--all", action="store_true", help="every lab on this machine, and the cache")
    command(do_bench, "bench", "measure deploys against Docker Swarm (options of bench.py), or with --load [N] many nodes on one master (load.py)")

    sub = command(do_boot, "boot", "boot hosts only, without a grid")
    hosts(sub, "*", f"default: {' '.join(DEFAULT_HOSTS)}")
    sub.add_argument("--backend", choices=sorted(BACKENDS), default="nspawn")
    sub.add_argument("--tree", choices=sorted(TREES), default=HostOptions.tree)
    sub.add_argument("--mtu", type=int, default=HostOptions.mtu)
    sub.add_argument("--disk-mb", type=int, help="a small file system for /var/lib/kontena")
    sub.add_argument("--memory-mb", type=int, default=HostOptions.memory_mb, help="of a qemu host")
    command(do_install, "install", "build, and put the result on the running hosts")
    for name, text in (
        ("start", "switch a host on"),
        ("stop", "shut a host down in good order"),
        ("kill", "power loss: all of a host ends at once, its disk stays"),
        ("reset", "switch off and throw the disk away"),
        ("cut", "pull a host's cable"),
        ("heal", "put a host's cable back"),
    ):
        sub = command(do_power, name, text)
        sub.set_defaults(verb=name)
        hosts(sub, "+")
    sub = command(do_push, "push", "copy a file or folder to a host")
    sub.add_argument("host", metavar="HOST")
    sub.add_argument("source", type=Path)
    sub.add_argument("target")
    return top


def build_and_stage(args: argparse.Namespace, lab: Lab) -> Build:
    build = Build(args.build_dir)
    if args.no_build:
        if not lab.project.exists():
            console.warn("--no-build: hosts come up without the project")
        return build
    packages.ensure(packages.BUILD, "what the project is built with")
    build.compile()
    lab.install(build)
    return build


def do_boot(args: argparse.Namespace, lab: Lab) -> None:
    build_and_stage(args, lab)
    options = {"backend": args.backend, "mtu": args.mtu, "disk_mb": args.disk_mb, "memory_mb": args.memory_mb}
    if args.tree != HostOptions.tree:
        options["tree"] = args.tree
    lab.boot(args.hosts or DEFAULT_HOSTS, **options)


def do_install(args: argparse.Namespace, lab: Lab) -> None:
    args.no_build = False
    build_and_stage(args, lab)


def do_up(args: argparse.Namespace, lab: Lab) -> None:
    from . import example

    build_and_stage(args, lab)
    lab.boot()
    example.make_grid(lab)
    example.deploy(lab)
    console.print_times()
    console.say(example.what_to_try(lab))


def do_test(args: argparse.Namespace, lab: Lab) -> int:
    from .testrun import TestRun

    return TestRun(lab, args).run()


def do_shell(args: argparse.Namespace, lab: Lab) -> int:
    host = lab.host(args.host)
    env = {"TERM": os.environ.get("TERM", "dumb")}
    shell = ["bash", "-l"]
    return subprocess.call(host.command_line(shell, user=args.user, env=env, tty=sys.stdin.isatty()),
                           env=tool_environment())  # fmt: skip


def do_run(args: argparse.Namespace, lab: Lab) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise LabError("run: there is no command after the host")
    argv = lab.host(args.host).command_line(command[0] if len(command) == 1 else command, user=args.user)
    return subprocess.call(argv, env=tool_environment())


def do_power(args: argparse.Namespace, lab: Lab) -> None:
    for host in [lab.host(name) for name in args.hosts]:
        with console.step(f"{args.verb} {host.name}"):
            getattr(host, args.verb)()
            if args.verb == "start":
                host.wait_running()


def do_push(args: argparse.Namespace, lab: Lab) -> None:
    lab.host(args.host).push(args.source, args.target)


def do_status(args: argparse.Namespace, lab: Lab) -> None:
    hosts = lab.hosts
    if not hosts:
        console.say(f"The lab '{lab.name}' has no hosts. `./lab up` makes it.")
    else:
        console.say(f"{'HOST':10}{'BACKEND':9}{'TREE':8}{'ADDRESS':15}{'STATE':10}")
    for host in hosts.values():
        state = "off"
        if host.running:
            state = host.run(["systemctl", "is-system-running"], check=False).stdout.strip() or "starting"
        console.say(f"{host.name:10}{host.options.backend:9}{host.options.tree:8}{host.address:15}{state:10}")
    others = [name for name in all_labs() if name != lab.name]
    if others:
        console.say(f"Other labs here: {', '.join(others)}")


def do_logs(args: argparse.Namespace, lab: Lab) -> int:
    options = [*(["--follow"] if args.follow else []), *args.more]
    if args.host:
        return subprocess.call(lab.host(args.host).log_command(options), env=tool_environment())
    files = [f"--file={h.root.journal_directory()}/*/*.journal" for h in lab.hosts.values() if h.options.backend == "nspawn"]
    return subprocess.call(["journalctl", "--merge", *files, *options], env=tool_environment())


def do_down(args: argparse.Namespace, lab: Lab) -> None:
    for name in all_labs() if args.all else [lab.name]:
        with console.step(f"Removing the lab '{name}'"):
            Lab(name).down()
    if args.all:
        with console.step("Removing the cache"):
            remove(lab_directory())


def do_bench(args: argparse.Namespace, lab: Lab) -> int:
    """In a lab beside this one, so that nothing else runs on its hosts."""
    beside = Lab("bench")
    beside.down()
    build_and_stage(args, beside)
    load = any(a == "--load" or a.startswith("--load=") for a in args.more)
    bench = REPOSITORY / "test" / "bench" / ("load.py" if load else "bench.py")
    env = tool_environment({"KONTENA_LAB_NAME": beside.name})
    return subprocess.call(["/usr/bin/python3", bench, *args.more], env=env)
