# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where things are. Everything can be moved by the environment; nothing is read from a file."""

import os
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
RELEASE = "bookworm"
DEFAULT_LAB = "lab"

# Tools are Debian's, also where somebody has put another python or meson first in PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def lab_directory() -> Path:
    return Path(os.environ.get("KONTENA_LAB_DIR", "/var/lib/kontena-lab"))


def cache_directory() -> Path:
    return lab_directory() / "cache"


def lab_name() -> str:
    return check_name(os.environ.get("KONTENA_LAB_NAME", DEFAULT_LAB))


def check_name(name: str) -> str:
    """The name of a lab or host becomes part of paths, namespaces and links."""
    if not re.fullmatch(r"[a-z][a-z0-9]{0,9}", name) or name == "cache":
        raise ValueError(f"'{name}' cannot be a name here: a letter, then at most nine letters or digits")
    return name


def flag(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0", "no", "false")
