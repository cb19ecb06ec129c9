# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each message id of the source has its explanation for `journalctl -x`, and is used."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IDS = dict(re.findall(r'#define (MESSAGE_\w+)\s+"MESSAGE_ID=([0-9a-f]{32})"', (ROOT / "src/shared/message-id.h").read_text()))


def test_ids_and_explanations_are_the_same_set():
    explained = re.findall(r"^-- ([0-9a-f]{32})$", (ROOT / "catalog/kontena.catalog").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(IDS.values())


def test_each_id_is_used():
    sources = "".join(p.read_text() for p in ROOT.glob("src/*/*.c"))
    assert [name for name in IDS if not re.search(rf"\b{name}\b", sources)] == []
