# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages say what the tables in the source say: settings with their defaults, keys, fields, properties, actions, errors, exit
statuses, variables. test_ctl_docs.py looks after the commands of kontenactl and the members on the bus."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from test_ctl_docs import page, tables  # noqa: F401 (a fixture)

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "man").glob("*.[1-9]"))
MASTER, NODE = "io.kontena.Master1", "io.kontena.Node1"


def sections(name: str) -> dict[str, str]:
    """Text of each section by its heading."""
    parts = re.split(r"^\.SH +(.*)$", page(name), flags=re.MULTILINE)
    return {heading.strip('"'): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def entries(text: str) -> list[tuple[str, str]]:
    """(term, description) of each tagged paragraph."""
    found = []
    for part in re.split(r"^\.TP.*\n", text, flags=re.MULTILINE)[1:]:
        term, _, rest = part.partition("\n")
        while rest.startswith(".TQ\n"):
            more, _, rest = rest[4:].partition("\n")
            term += ", " + more
        found.append((term, re.split(r"^\.S[HS]\b", rest, flags=re.MULTILINE)[0]))
    return found


def described(text: str) -> list[tuple[str, str]]:
    """As entries(); terms that share one description each have it."""
    found, waiting = [], []
    for term, description in entries(text):
        waiting.append(term)
        if description.strip():
            found += [(t, description) for t in waiting]
            waiting = []
    return found


def source(*names: str) -> str:
    return "".join((ROOT / "src" / n).read_text() for n in names)


def test_helpers_see_terms_and_sections():
    text = ".TP\nA\n.TP\nB\n.TQ\nC\nof both\n.SS next\n.TP\nD\n\n"
    assert entries(text) == [("A", ""), ("B, C", "of both\n"), ("D", "\n")]
    assert described(text) == [("A", "of both\n"), ("B, C", "of both\n")]
    assert "SEE ALSO" in sections("kontenad.8") and "SECTION MASTER" in sections("kontenad.conf.5")


SETTINGS = [("kontenad.conf", "kontenad/settings.c"), ("noded.conf", "kontena-noded/config.c")]


@pytest.mark.parametrize("name, file", SETTINGS)
def test_every_setting_has_its_default_in_its_page(name: str, file: str):
    settings = re.findall(r'\{ "([A-Z][a-z]+)[ *]*", "([A-Za-z]+)", (\w+)', source(file))
    pages = sections(f"{name}.5")
    sample = dict(re.findall(r"^#(\w+)=(.*)$", (ROOT / f"conf/{name}").read_text(), re.MULTILINE))
    assert len(settings) > 8
    for section, key, setter in settings:
        text = [d for t, d in described(pages[f"SECTION {section.upper()}"]) if re.search(rf"(^|[ ,]){key}=", t)]
        assert len(text) == 1, key
        assert re.search(r"[Dd]efault", text[0]), f"{key}= has no default"
        # Where the sample gives a value, the page gives the same. A file of passwords is better than a password.
        if key != "Password":
            assert key in sample, key
        if sample.get(key):
            below = sample[key].removeprefix("/var/lib/kontena/")
            assert re.search(rf"\b{re.escape(below)}\b", text[0]), (key, sample[key])
        if setter in ("conf_set_sec", "conf_set_size"):
            assert re.search(r"seconds|bytes", text[0]), f"{key}= has no unit"
    assert set(sample) <= {key for _, key, _ in settings}


@pytest.mark.parametrize("name, file", SETTINGS)
def test_pages_invent_no_setting(name: str, file: str):
    known = set(re.findall(r'\{ "[A-Z][a-z]+[ *]*", "([A-Za-z]+)", ', source(file)))
    for heading, text in sections(f"{name}.5").items():
        if heading.startswith("SECTION"):
            assert {k for t, _ in entries(text) for k in re.findall(r"(\w+)=", t)} <= known, heading


def test_every_key_of_the_master_is_in_its_page():
    text = " ".join(t for t, _ in entries(sections("kontenad.conf.5")["SETTINGS OF THE RUNNING MASTER"]))
    files = [p.relative_to(ROOT / "src") for p in (ROOT / "src/kontenad").glob("*.c") if not p.name.startswith("test-")]
    keys = set(re.findall(r'"((?:oauth2|server)\.[a-z0-9_]+)"', source(*map(str, files))))
    assert len(keys) > 15
    assert sorted(k for k in keys if not re.search(rf"(^|[ ,]){re.escape(k)}\b", text)) == []
    assert set(re.findall(r"\b(?:oauth2|server)\.[a-z0-9_]+", text)) <= keys


def test_every_field_of_a_service_is_in_kontena_7():
    fields = re.search(r"static const char \*const fields\[\] = \{(.*?)\};", source("shared/service-spec.c"), re.DOTALL)
    assert fields
    known = set(re.findall(r'"(\w+)"', fields[1]))
    assert len(known) > 40
    text = sections("kontena.7")
    terms = {f for t, _ in entries(text["SERVICES"]) for f in t.split(", ")}
    assert terms <= known
    # volumes_from is there to be refused; the page says so where it speaks of volumes.
    assert sorted(known - terms) == ["volumes_from"] and "volumes_from" in text["SERVICES"]


def test_every_property_of_units_is_in_the_manual():
    table = re.findall(r'^        \{ "([A-Z]\w+)", (?:NULL|"\w+"), KIND_', source("shared/unit-settings.c"), re.MULTILINE)
    assert len(table) > 25
    text = next(d for t, d in entries(page("kontenactl.1")) if t.startswith("--systemd="))
    assert sorted(p for p in table if not re.search(rf"\b{p}\b", text)) == []


@pytest.mark.parametrize("policy, name, section", [("io.kontena.master1", "kontenad.8", "ACCESS"), ("io.kontena.node1", "kontena-noded.8", "ACCESS")])
def test_every_action_is_in_the_manual(policy: str, name: str, section: str):
    actions = {a.get("id") for a in ET.parse(ROOT / f"polkit/{policy}.policy").getroot().findall("action")}
    assert actions
    listed = [t for t, _ in described(sections(name)[section])]
    assert sorted(listed) == sorted(a for a in actions if a)


@pytest.mark.parametrize("name", [MASTER, NODE])
def test_every_method_names_its_action_and_every_property_its_type(name: str):
    text = page(f"{name}.5")
    for interface in ET.parse(ROOT / f"dbus/{name}.xml").getroot().findall("interface"):
        for method in interface.findall("method"):
            description = next(d for t, d in described(text) if re.search(rf"(^|, ){method.get('name')}\b", t))
            action = [a.get("value", "") for a in method.findall("annotation") if a.get("name") == "io.kontena.Action"]
            if action and action[0]:
                assert re.search(rf"[Aa]ction (\S*\.)?{action[0].rsplit('.', 1)[1]}\b", description), method.get("name")
        for p in interface.findall("property"):
            n, t = p.get("name"), re.escape(p.get("type", ""))
            # "Name s" in a sentence, or "Name, Other (s)" as a term.
            assert re.search(rf"\b{n} {t}[,.:;]|\b{n}\b[\w, ]*\({t}\)", text), (interface.get("name"), n)


@pytest.mark.parametrize("name", [MASTER, NODE])
def test_pages_invent_no_member(name: str):
    tree = ET.parse(ROOT / f"dbus/{name}.xml")
    known = {e.get("name") for e in tree.iter() if e.tag in ("method", "signal", "property")}
    raw = (ROOT / "man" / f"{name}.5").read_text().split('.SH "SEE ALSO"')[0]
    bold = set(re.findall(r"\\fB([A-Z][A-Za-z]+)\\fR", raw))
    assert len(bold) > 10 and bold - known == set()


def test_every_error_is_in_the_page_of_the_bus_and_every_exit_status_in_that_of_the_command():
    table = re.findall(r'"(io\.kontena\.Error\.\w+)",\s*\d+,\s*(\d+)', source("shared/kerror.c"))
    assert len(table) > 25
    errors = [t for term, _ in entries(sections(f"{MASTER}.5")["ERRORS"]) for t in term.split(", ")]
    assert sorted(errors) == sorted(n.removeprefix("io.kontena.Error.") for n, _ in table)
    statuses = {t for t, _ in entries(sections("kontenactl.1")["EXIT STATUS"])}
    assert {s for _, s in table} <= statuses


PROGRAMS = {"kontenad": "kontenad.8", "kontena-noded": "kontena-noded.8", "kontenactl": "kontenactl.1", "kontena-bridge": "kontena-bridge.8",
            "kontena-channel": "kontena-channel.8"}  # fmt: skip
# systemd tells services by these where things are; it documents them.
OF_SYSTEMD = {"CREDENTIALS_DIRECTORY", "JOURNAL_STREAM"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_variable_is_in_the_manual(program: str):
    files = [p for p in (ROOT / "src" / program).glob("*.c") if not re.match(r"test-|fake-|.*-test-", p.name)]
    asked = {v for p in files for v in re.findall(r'(?:getenv|environment)\("([A-Za-z_]+)"', p.read_text())} - OF_SYSTEMD
    text = sections(PROGRAMS[program]).get("ENVIRONMENT", "")
    assert sorted(v for v in asked if not re.search(rf"\b{v}\b", text)) == []


def test_every_field_of_the_journal_is_in_the_manual():
    text = "".join(page(p.name) for p in PAGES)
    files = [p for p in ROOT.glob("src/*/*.[ch]") if not re.match(r"test-|fake-", p.name)]
    fields = {f for p in files for m in re.findall(r'"(KONTENA_[A-Z_]+)[="]|\b(KONTENA_[A-Z_]+)=%', p.read_text()) for f in m if f}
    assert len(fields) > 20
    assert sorted(f for f in fields if not re.search(rf"\b{f}\b", text)) == []


def test_every_option_says_whose_it_is(tables):  # noqa: F811
    """Among the options of commands that are not service create or update: the command, its family, or the command's own paragraph."""
    pages = sections("kontenactl.1")
    others, commands = described(pages["OPTIONS OF OTHER COMMANDS"]), described(pages["COMMANDS"])
    common = " ".join(t for t, _ in entries(pages["COMMON OPTIONS"]))
    shared = {"commands that deploy": {"no-block", "timeout"}, "the same": {"since"}}
    missing = []
    for o in tables[1]:
        command, option = o["command"].replace("master audit-log", "audit list"), f"--{o['name']}"
        if not command or command in ("service create", "service update") or len(o["name"]) < 2 or f"{option}=" in common:
            continue
        texts = [d for t, d in others if re.search(rf"(^|, ){option}(=|,|$| )", t)]
        own = [d for t, d in commands if re.match(rf"{command}( |$)", t)]
        if any(re.search(rf"\({command.split()[0]}\)|\b{command}\b", d) for d in texts) or any(option in d for d in own):
            continue
        if any(phrase in d and o["name"] in names for phrase, names in shared.items() for d in texts):
            continue
        missing.append(f"{command} {option}")
    assert not missing, "\n".join(missing)


def test_pages_have_their_sections():
    wanted = {
        "1": {"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"},
        "5": {"NAME", "DESCRIPTION", "EXAMPLE", "SEE ALSO"},
        "7": {"NAME", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO"},
        "8": {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"},
    }
    daemons = {"FILES", "SIGNALS", "ACCESS"}
    for p in PAGES:
        m = (wanted[p.suffix[1:]] | (daemons if p.name in ("kontenad.8", "kontena-noded.8") else set())) - set(sections(p.name))
        assert m == set(), p.name
        assert list(sections(p.name))[-1] == "SEE ALSO", p.name


def test_pages_are_installed_and_name_pages_that_exist():
    installed = set(re.findall(r"'([\w.-]+\.\d)'", (ROOT / "man/meson.build").read_text()))
    assert installed == {p.name for p in PAGES}
    for p in PAGES:
        text = page(p.name)
        ours = re.findall(r"\b((?:io\.kontena\.|kontena|noded)[\w.-]*)(?:\.I)? ?\((\d)\)", text)
        assert [f"{n}.{s}" for n, s in ours if f"{n}.{s}" not in installed] == [], p.name
        others = sections(p.name)["SEE ALSO"]
        assert f"{p.stem}({p.suffix[1:]})" not in others, p.name


def test_markup_is_right():
    """What a converter may have eaten: a brace, an asterisk; and the opinions of the two formatters."""
    for p in PAGES:
        text = p.read_text()
        assert not re.search(r"\\fI\\fR|\\fB\\fB", text), p.name
        assert page(p.name).count("{") == page(p.name).count("}"), p.name
        if shutil.which("mandoc"):
            r = subprocess.run(["mandoc", "-Tlint", "-Wwarning", p], capture_output=True, text=True)
            assert [line for line in r.stdout.splitlines() if "missing date" not in line] == []
        if shutil.which("groff"):
            r = subprocess.run(["groff", "-ww", "-z", "-man", "-Tutf8", p], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
            assert r.returncode == 0 and r.stderr == "", p.name
