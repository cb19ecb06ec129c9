# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd says about the units as they are installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("KONTENA_LAB_BUILD_DIR") or os.environ.get("KONTENA_BUILD_DIR") or "build")


def exposure(unit: Path) -> float:
    text = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)], capture_output=True, text=True).stdout
    m = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    assert m, text
    return float(m[1])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize(("unit", "most"), [("kontenad.service", 2.0)])
def test_exposure_is_small(unit: str, most: float):
    if not (BUILD / "units" / unit).exists():
        pytest.skip(f"{BUILD} is not a build directory")
    assert exposure(BUILD / "units" / unit) <= most


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_a_unit_without_a_sandbox_would_be_noticed(tmp_path: Path):
    (tmp_path / "open.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(tmp_path / "open.service") > 9.0


def test_restart_of_the_master_touches_nothing_else():
    """No unit is bound to it, so that it can be stopped, upgraded and killed."""
    root = Path(__file__).resolve().parents[2]
    for unit in root.glob("units/**/*"):
        if unit.is_file():
            assert not re.search(r"^(BindsTo|Requires|PartOf|Requisite)=.*kontenad?\.service", unit.read_text(), re.MULTILINE), unit


def test_no_core_of_who_holds_secrets():
    root = Path(__file__).resolve().parents[2]
    for unit in ("kontenad.service.in", "kontena-noded.service.in"):
        assert re.search(r"^LimitCORE=0$", (root / "units" / unit).read_text(), re.MULTILINE), unit
