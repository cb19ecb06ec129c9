#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The token server of the lab's third registry, as Docker's registry specification describes it.

Without credentials it grants pulling 'busybox' alone; the user of the lab may do everything; a wrong password is refused.
Tokens live for a minute, the shortest that clients must expect.
"""

import base64
import json
import ssl
import subprocess
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

FOLDER = Path("/etc/docker/registry")
LIFETIME = 60
PUBLIC = "busybox"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims: dict) -> str:
    lines = (FOLDER / "token.pem").read_text().splitlines()
    header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(line for line in lines if not line.startswith("-----"))]}
    message = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    sign = ["openssl", "dgst", "-sha256", "-sign", FOLDER / "token.key"]
    signature = subprocess.run(sign, input=message.encode(), stdout=subprocess.PIPE, check=True).stdout
    return f"{message}.{encoded(signature)}"


def granted(scope: str, user: str | None) -> dict | None:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    wanted = actions.split(",")
    if user is None:
        wanted = [action for action in wanted if action == "pull" and name == PUBLIC]
    return {"type": kind, "name": name, "actions": wanted} if wanted else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    account = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        given = self.headers.get("Authorization", "")
        user = None
        if given:
            expected = "Basic " + base64.b64encode(self.account.encode()).decode()
            if given != expected:
                self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong user or password"}]})
                return
            user = self.account.partition(":")[0]
        if url.path != "/token":
            self._answer(404, {})
            return
        scopes = [scope for text in query.get("scope", []) for scope in text.split()]
        now = int(time.time())
        token = signed({
            "iss": "lab", "sub": user or "", "aud": query.get("service", [""])[0], "jti": uuid.uuid4().hex,
            "iat": now, "nbf": now - 10, "exp": now + LIFETIME,
            "access": [grant for grant in (granted(scope, user) for scope in scopes) if grant],
        })  # fmt: skip
        self._answer(200, {"token": token, "expires_in": LIFETIME})

    def _answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    Handler.account = sys.argv[1]
    server = ThreadingHTTPServer(("", 5003), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "registry.pem", FOLDER / "registry.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
