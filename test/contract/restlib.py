# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real kontenad on a private bus, and an HTTP client that hides nothing: what tests of the REST face share."""

import http.client
import json
import os
import random
import resource
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("KONTENA_LAB_BUILD_DIR") or os.environ.get("KONTENA_BUILD_DIR") or "build")
KONTENAD = BUILD / "src/kontenad/kontenad"
ADMIN_CODE = "a1b2c3d4e5f6"
BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="false"/>
<allow receive_sender="*"/></policy></busconfig>"""


def wait_for(condition: Callable[[], object], explain: Callable[[], str] = lambda: "", timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, explain() or "it does not come"
        time.sleep(0.02)


def free_port() -> int:
    """One that the kernel gives to nobody who asks for any: between this and its use another program would get it now and then."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if version:
        c.minimum_version = c.maximum_version = version
    return c


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> object:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:500]!r}"


class RestMaster:
    """with RestMaster(tmp_path) as m: m.get("/v1/grids", token=...)"""

    def __init__(self, directory: Path, settings: str = "", environment: dict[str, str] | None = None):
        for program in ("dbus-daemon", "busctl"):
            if not shutil.which(program):
                pytest.skip(f"no {program}")
        if not KONTENAD.exists():
            pytest.skip(f"no {KONTENAD}")
        self.directory = directory
        self.port = free_port()
        self.plain_port = free_port()
        self.log = directory / "log"
        self.bus_address = f"unix:path={directory}/bus"
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus_address, "STATE_DIRECTORY": str(directory / "state"),
                            "CONFIGURATION_DIRECTORY": str(directory), "INITIAL_ADMIN_CODE": ADMIN_CODE, **(environment or {})}  # fmt: skip
        self.settings = f"[Master]\nListenAddress=127.0.0.1\nPort={self.port}\nHttpListen=127.0.0.1:{self.plain_port}\n{settings}\n"
        self.bus: subprocess.Popen[bytes] | None = None
        self.daemon: subprocess.Popen[bytes] | None = None
        self.admin_token = ""

    def __enter__(self) -> "RestMaster":
        (self.directory / "bus.conf").write_text(BUS_CONFIG.format(path=self.directory / "bus"))
        (self.directory / "kontenad.conf").write_text(self.settings)
        self.bus = subprocess.Popen(["dbus-daemon", f"--config-file={self.directory}/bus.conf", "--nofork", "--nopidfile"],
                                    stderr=subprocess.DEVNULL)  # fmt: skip
        wait_for(lambda: (self.directory / "bus").exists())
        self.start()
        return self

    def start(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with self.log.open("a") as log:
            self.daemon = subprocess.Popen([str(KONTENAD)], env=self.environment, stderr=log,
                                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)))  # fmt: skip
        wait_for(self.answers, lambda: self.log.read_text())

    def answers(self) -> bool:
        assert self.daemon and self.daemon.poll() is None, self.log.read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10):
                pass
        except OSError:
            return False
        return subprocess.run(["busctl", "--address", self.bus_address, "status", "io.kontena.Master1"], capture_output=True).returncode == 0

    def stop(self) -> None:
        if self.daemon:
            self.daemon.terminate()
            assert self.daemon.wait(120) == 0, self.log.read_text()
            self.daemon = None

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            if self.bus:
                self.bus.terminate()
                self.bus.wait(60)

    def connection(self, plain: bool = False, timeout: float = 120.0) -> http.client.HTTPConnection:
        if plain:
            return http.client.HTTPConnection("127.0.0.1", self.plain_port, timeout=timeout)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context())

    def request(self, method: str, path: str, body: object = None, token: str | None = None, plain: bool = False, raw: bytes | None = None,
                **headers: str) -> Answer:  # fmt: skip
        c = self.connection(plain)
        try:
            all_headers = {"Accept": "application/json", "User-Agent": "kontena-cli/1.6.4"}
            if token:
                all_headers["Authorization"] = f"Bearer {token}"
            data = raw
            if body is not None:
                data = json.dumps(body).encode()
                all_headers["Content-Type"] = "application/json"
            all_headers.update({k.replace("_", "-"): v for k, v in headers.items()})
            c.request(method, path, body=data, headers=all_headers)
            return Answer(c.getresponse())
        finally:
            c.close()

    def get(self, path: str, **k: object) -> Answer:
        return self.request("GET", path, **k)  # type: ignore[arg-type]

    def post(self, path: str, body: object = None, **k: object) -> Answer:
        return self.request("POST", path, {} if body is None else body, **k)  # type: ignore[arg-type]

    def put(self, path: str, body: object, **k: object) -> Answer:
        return self.request("PUT", path, body, **k)  # type: ignore[arg-type]

    def patch(self, path: str, body: object, **k: object) -> Answer:
        return self.request("PATCH", path, body, **k)  # type: ignore[arg-type]

    def delete(self, path: str, body: object = None, **k: object) -> Answer:
        return self.request("DELETE", path, body, **k)  # type: ignore[arg-type]

    def login(self) -> str:
        """The first administrator's token; the code works once."""
        if not self.admin_token:
            a = self.post("/oauth2/token", {"grant_type": "authorization_code", "code": ADMIN_CODE})
            assert a.status == 201, a
            self.admin_token = a.json["access_token"]  # type: ignore[index,call-overload]
        return self.admin_token

    def new_user(self, email: str) -> str:
        """A user who is invited on the bus, with a token made by the administrator."""
        r = subprocess.run(["busctl", "--address", self.bus_address, "call", "io.kontena.Master1", "/io/kontena/Master1", "io.kontena.Master1.Manager",
                            "InviteUser", "sssas", email, "", "", "0"], capture_output=True, text=True, timeout=120)  # fmt: skip
        assert r.returncode == 0, r.stderr + self.log.read_text()
        a = self.post("/oauth2/authorize", {"response_type": "token", "scope": "user", "user": email}, token=self.login())
        assert a.status == 201, a
        return a.json["access_token"]  # type: ignore[index,call-overload,no-any-return]
