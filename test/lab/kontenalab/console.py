# SPDX-License-Identifier: LGPL-2.1-or-later
"""Progress on the terminal, and the account of where the time went."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_spent: dict[str, float] = {}


def say(text: str) -> None:
    print(text, flush=True)


def warn(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str, *, account: str | None = None) -> Iterator[None]:
    """One line: the title at once, then how long it took. The time is added to `account`."""
    live = sys.stdout.isatty()
    if live:
        print(f"  {title} …", end="", flush=True)
    start = time.monotonic()
    state = "failed"
    try:
        yield
        state = "done"
    finally:
        spent = time.monotonic() - start
        if account:
            _spent[account] = _spent.get(account, 0) + spent
        if live:
            print("\r\033[K", end="")
        print(f"  {title} " + (f"({spent:.1f} s)" if state == "done" else f"{state} after {spent:.1f} s"), flush=True)


def add_time(account: str, seconds: float) -> None:
    _spent[account] = _spent.get(account, 0) + seconds


def print_times() -> None:
    say("Where the time went:")
    for account, spent in sorted(_spent.items(), key=lambda item: -item[1]):
        say(f"  {spent:7.1f} s  {account}")
