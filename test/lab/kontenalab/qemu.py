# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts as virtual machines."""

from collections.abc import Mapping

from .host import Host


class QemuHost(Host):
    def _boot(self) -> None:
        raise NotImplementedError

    def _entering(self, argv: list[str], env: Mapping[str, str], tty: bool) -> list[str]:
        raise NotImplementedError

    def _release(self) -> None:
        self.lab.network.detach(self.name)
        self.root.unmount()
