# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every command and option of kontenactl is in the manual, in both completions and in --help; every member of the bus interfaces is
in their pages."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KONTENA_LAB_BUILD_DIR") or os.environ.get("KONTENA_BUILD_DIR") or "build")
KONTENACTL = BUILD / "src/kontenactl/kontenactl"


def page(name: str) -> str:
    """A manual page without its markup."""
    text = (ROOT / "man" / name).read_text()
    return re.sub(r"\\f[BIRP]", "", text).replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")


@pytest.fixture(scope="module")
def tables() -> tuple[dict[str, list[str]], list[dict[str, str]]]:
    if not KONTENACTL.exists():
        pytest.skip(f"no kontenactl in {BUILD}")
    output = subprocess.run([KONTENACTL, "__tables"], check=True, capture_output=True, text=True).stdout
    commands, options = {}, []
    for kind, first, *rest in (line.split("\t") for line in output.splitlines()):
        if kind == "command":
            commands[first] = rest
        else:
            options.append(dict(zip(("name", "letter", "argument", "complete", "alias"), rest, strict=True), command=first))
    assert len(commands) > 25 and len(options) > 60
    return commands, options


def test_every_command_is_in_the_manual(tables):
    text = page("kontenactl.1")
    # A command of its own begins a paragraph of the list.
    assert [c for c in tables[0] if not re.search(rf"^\.TP\n{c}( |$)", text, re.MULTILINE)] == []
    aliases = [f"{command.split()[0]} {alias}" for command, (alias, _) in tables[0].items() if alias]
    assert [a for a in aliases if not re.search(rf"\b{a}\b", text)] == []


def test_every_option_is_in_the_manual(tables):
    text = page("kontenactl.1")
    terms = " ".join(re.findall(r"^\.TP\n(.*)$", text, re.MULTILINE))
    for option in tables[1]:
        if len(option["name"]) > 1:
            assert f"--{option['name']}" + ("=" if option["argument"] else "") in terms, option
        if option["letter"] != "-":
            assert re.search(rf"(^| )-{option['letter']}(,| |$)", terms), option
        if option["alias"]:
            assert f"--{option['alias']}" in text, option


def test_the_manual_invents_no_option(tables):
    known = {o["name"] for o in tables[1]} | {o["alias"] for o in tables[1]}
    # Outside of examples, where other programs have options too.
    text = page("kontenactl.1").split(".SH EXAMPLES")[0]
    assert {name for name in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)} - known == set()


@pytest.mark.parametrize("file", ["kontenactl", "_kontenactl"])
def test_every_command_and_option_completes(tables, file: str):
    text = (ROOT / "completions" / file).read_text()
    for command in tables[0]:
        group, _, verb = command.rpartition(" ")
        line = re.search(rf"(\[{group}\]=|^ *{group} )'([^']*)'", text, re.MULTILINE) if group else re.search(r"(top=)'([^']*)'", text)
        assert line and verb in line.group(2).split(), command
    for option in tables[1]:
        if option["command"]:
            line = re.search(rf"(\[{option['command']}\]=|'{option['command']}' )'([^']*)'", text)
        else:
            line = re.search(r"(common=)'([^']*)'", text)
        words = line.group(2).split() if line else []
        if len(option["name"]) > 1:
            assert f"--{option['name']}" + ("=" if option["argument"] else "") in words, option
        if option["letter"] != "-":
            assert f"-{option['letter']}" in words, option
        if option["complete"]:
            value = re.search(rf"(\[--{option['name']}\]=|--{option['name']} )'([^']*)'", text)
            assert value, option
            if "|" in option["complete"]:
                assert value.group(2).split() == option["complete"].split("|"), option


@pytest.mark.parametrize("shell, file", [("bash", "kontenactl"), ("zsh", "_kontenactl")])
def test_completions_parse(shell: str, file: str):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", ROOT / "completions" / file], check=True)


def test_every_help_works(tables):
    commands = [c.split() for c in tables[0]] + [[c.split()[0]] for c in tables[0]] + [[]]
    for command in commands:
        result = subprocess.run([KONTENACTL, *command, "--help"], capture_output=True, text=True)
        assert result.returncode == 0 and not result.stderr, command
        assert result.stdout.startswith(" ".join(["kontenactl", *command, "[OPTIONS...]"])), command
        own = [o["name"] for o in tables[1] if o["command"] in (" ".join(command), "") and len(o["name"]) > 1]
        assert [o for o in own if f"--{o}" not in result.stdout] == [], command


@pytest.mark.parametrize("name", ["io.kontena.Master1", "io.kontena.Node1"])
def test_every_member_of_the_bus_is_in_its_page(name: str):
    text = page(f"{name}.5")
    tree = ET.parse(ROOT / "dbus" / f"{name}.xml")
    missing = []
    for member in tree.iter():
        if member.tag not in ("method", "signal", "property"):
            continue
        if not re.search(rf"\b{member.get('name')}\b", text):
            missing.append(member.get("name"))
        # Signatures as the page writes them; methods that share an entry share its signature.
        arguments = ", ".join(
            f"{a.get('direction', '')} {a.get('type')} {a.get('name')}".strip() for a in member.iter("arg")
        )
        if member.tag != "property" and f"({arguments})" not in text:
            missing.append(f"{member.get('name')}({arguments})")
    assert missing == []


def test_pages_are_well_formed():
    if not shutil.which("man"):
        pytest.skip("no man here")
    pages = sorted((ROOT / "man").glob("*.[1-9]"))
    assert len(pages) >= 8
    for path in pages:
        result = subprocess.run(["man", "--warnings", "-l", path], capture_output=True, text=True, env={**os.environ, "MANWIDTH": "80"})
        assert result.returncode == 0 and not result.stderr and len(result.stdout.splitlines()) > 15, path.name


@pytest.mark.parametrize("name, source", [("kontenad.conf", "src/kontenad/settings.c"), ("noded.conf", "src/kontena-noded/config.c")])
def test_every_setting_is_in_its_page(name: str, source: str):
    settings = re.findall(r'\{ "([A-Z][a-z]+)[ *]*", "([A-Za-z]+)", ', (ROOT / source).read_text())
    text = page(f"{name}.5")
    assert len(settings) > 4
    assert [key for _, key in settings if f"{key}=" not in text] == []
    assert [section for section, _ in settings if f"SECTION {section.upper()}" not in text] == []
