# SPDX-License-Identifier: LGPL-2.1-or-later
"""Test images."""

from pathlib import Path

from .settings import cache_directory


def registry_layer() -> Path:
    return cache_directory() / "images" / "none"
