# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules of the style that a machine can check."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KONTENA_LAB_BUILD_DIR") or os.environ.get("KONTENA_BUILD_DIR") or "build")
SOURCES = sorted(p for p in ROOT.glob("src/*/*.[ch]"))
FORBIDDEN = ("sprintf", "vsprintf", "strcpy", "strcat", "atoi", "atol", "strtok", "system", "popen", "alloca", "dup", "exit", "gets")


def code(path: Path) -> str:
    """Without comments and string literals; lines stay where they were."""

    def blank(m: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", m[0])

    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, path.read_text(), flags=re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_forbidden_functions_are_not_called():
    call = re.compile(r"(?<![\w.>])(" + "|".join(FORBIDDEN) + r")\s*\(")
    found = [f"{name(p)}:{code(p)[: m.start()].count(chr(10)) + 1}: {m[1]}" for p in SOURCES for m in call.finditer(code(p))]
    assert found == []


def test_checker_of_forbidden_functions_sees_them(tmp_path: Path):
    (tmp_path / "x.c").write_text('void f(void) {\n        exit(1);\n        log("exit(2)"); /* exit(3) */\n        _exit(4); p->exit(5);\n}\n')
    assert re.findall(r"(?<![\w.>])(exit)\s*\(", code(tmp_path / "x.c")) == ["exit"]


def test_function_bodies_have_no_conditional_compilation():
    found = []
    for p in SOURCES:
        depth = 0
        for number, line in enumerate(code(p).splitlines(), 1):
            if depth > 0 and re.match(r"\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b", line):
                found.append(f"{name(p)}:{number}")
            depth += line.count("{") - line.count("}")
    assert found == []


def test_files_can_be_read_whole():
    most = {True: 1000, False: 800}  # of a test, of a module
    assert [f"{name(p)}: {n}" for p in SOURCES if (n := len(p.read_text().splitlines())) > most[p.name.startswith("test-")]] == []


def test_each_file_has_its_licence():
    files = SOURCES + [p for d in ("units", "dbus", "polkit") for p in ROOT.glob(f"{d}/*") if p.is_file() and p.name != "meson.build"]
    assert [name(p) for p in files if "SPDX-License-Identifier: LGPL-2.1-or-later" not in p.read_text()] == []


def test_layers_are_kept():
    """basic includes nothing of ours, shared nothing but basic, and operations know no bus and no HTTP."""
    basic = {p.name for p in ROOT.glob("src/basic/*.h")}
    shared = {p.name for p in ROOT.glob("src/shared/*.h")}
    found = []
    for p in SOURCES:
        ours = set(re.findall(r'^#include "([^"]+)"', p.read_text(), re.MULTILINE))
        if p.parent.name == "basic":
            found += [f"{name(p)}: {i}" for i in ours - basic]
        elif p.parent.name == "shared":
            found += [f"{name(p)}: {i}" for i in ours - basic - shared]
        elif p.parent.name == "kontenad" and re.match(r"(op-|operation|audit|events|render|store|caller)", p.name):
            found += [f"{name(p)}: {i}" for i in ours if re.match(r"(bus-|polkit|listener)", i)]
            found += [f"{name(p)}: sd-bus" for _ in re.findall(r"systemd/sd-bus\.h", p.read_text()) if p.name != "master.h"]
    assert found == []


def formatting_errors(files: list[Path]) -> list[str]:
    r = subprocess.run(["clang-format", "--dry-run", "-Werror", "--style=file", *map(str, files)], capture_output=True, text=True)
    found = re.findall(r"^(.*?:\d+):\d+: error: ", r.stderr, re.MULTILINE)
    return found or ([f"clang-format: {r.stderr.strip() or r.returncode}"] if r.returncode else [])


def test_form_is_that_of_clang_format(tmp_path: Path):
    """Versions differ in what they make of one style; that of Debian 12 decides."""
    if not shutil.which("clang-format"):
        pytest.skip("no clang-format")
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=True).stdout
    if " version 14." not in version:
        pytest.skip(f"not clang-format 14: {version.strip()}")
    assert formatting_errors(SOURCES + sorted(ROOT.glob("test/*/*.[ch]"))) == []
    shutil.copy(ROOT / ".clang-format", tmp_path)
    (tmp_path / "x.c").write_text("int  f(void);\n")
    assert len(formatting_errors([tmp_path / "x.c"])) == 1


def header_error(header: Path) -> str:
    flags = subprocess.run(["pkg-config", "--cflags", "libsystemd", "json-c", "gnutls", "libnftables", "libmnl", "sqlite3", "libmicrohttpd"],
                           capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    config = BUILD / "config.h"
    includes = [f"-I{header.parent}", f"-I{ROOT / 'src/basic'}", f"-I{ROOT / 'src/shared'}"]
    r = subprocess.run(
        ["cc", "-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-include", str(config),
         *includes, *flags, "-x", "c", "-"],
        input=f'#include "{header.name}"\n#include "{header.name}"\n', capture_output=True, text=True)  # fmt: skip
    return f"{name(header)}: {r.stderr.splitlines()[0] if r.stderr else r.returncode}" if r.returncode else ""


def test_each_header_compiles_alone():
    if not (BUILD / "config.h").exists() or not shutil.which("cc"):
        pytest.skip(f"no compiler, or {BUILD} is not a build directory")
    with ThreadPoolExecutor(2) as pool:
        errors = [e for e in pool.map(header_error, [p for p in SOURCES if p.suffix == ".h"]) if e]
    assert errors == []
