#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A little OAuth2 provider for tests, as strict as a real one. Prints its port; who logs in is said by the code, which tests put together:
USER.CHALLENGE, the PKCE challenge of the login request, "-" for none. The path chooses how it asks for secrets:

/token       JSON body with client_secret            /userinfo       bearer token
/basic/…     form body, basic authentication         /path/TOKEN     token in the path
/odd/WHAT    answers that are wrong in one way each
"""

import base64
import hashlib
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

CLIENT, SECRET, CALLBACK = "the-client", "s3cret/+ &=%", "https://master.example:9292/cb"
BASIC = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
USERS = {
    "anna": {"data": {"id": 77, "login": "anna", "email": "Anna@Example.org"}},
    "bert": {"id": "b-1", "username": "bert", "emails": ["bert@example.org"]},
    "thief": {"id": 666, "email": "anna@example.org"},
    "unverified": {"id": 667, "email": "anna@example.org", "email_verified": False},
    "admin": {"id": 1, "email": "admin"},
    "nobody": {"hello": "world"},
}
used: set[str] = set()
tokens: dict[str, str] = {}


class Provider(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, body: str, kind: str = "application/json", **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        kind = self.headers.get("Content-Type", "")
        basic = self.path.startswith("/basic/")
        if self.path.startswith("/odd/"):
            return self.odd(self.path.removeprefix("/odd/"))
        if basic:
            if kind != "application/x-www-form-urlencoded" or self.headers.get("Authorization") != BASIC:
                return self.answer(401, '{"error":"invalid_client"}')
            got = {k: v[0] for k, v in parse_qs(text, strict_parsing=True).items()}
            if "client_secret" in got:
                return self.answer(400, '{"error":"secret twice"}')
        else:
            if kind != "application/json" or self.headers.get("Authorization"):
                return self.answer(400, '{"error":"json wanted"}')
            got = json.loads(text)
            if got.get("client_secret") != SECRET:
                return self.answer(401, '{"error":"invalid_client"}')
        if got.get("client_id") != CLIENT or got.get("grant_type") != "authorization_code" or got.get("redirect_uri") != CALLBACK:
            return self.answer(400, '{"error":"invalid_request"}')

        code = got.get("code", "")
        user, _, challenge = code.partition(".")
        if user not in USERS or code in used:
            return self.answer(400, '{"error":"invalid_grant"}')
        used.add(code)
        verifier = got.get("code_verifier")
        if challenge == "-":
            if verifier is not None:
                return self.answer(400, '{"error":"no verifier wanted"}')
        elif base64.urlsafe_b64encode(hashlib.sha256((verifier or "").encode()).digest()).decode().rstrip("=") != challenge:
            return self.answer(400, '{"error":"invalid_grant"}')
        token = f"token-{len(tokens)}+/="
        tokens[token] = user
        if basic:
            return self.answer(200, f"access_token={token.replace('+', '%2B')}&token_type=bearer", "application/x-www-form-urlencoded")
        return self.answer(200, json.dumps({"access_token": token, "token_type": "bearer"}))

    def odd(self, what: str) -> None:
        match what:
            case "slow":
                time.sleep(5)
                self.answer(200, "{}")
            case "large":
                self.answer(200, json.dumps({"access_token": "x" * (1 << 20)}))
            case "redirect":
                self.answer(302, "", Location="/token")
            case "html":
                self.answer(200, "<html>", "text/html")
            case "deep":
                self.answer(200, "[" * 100000)
            case "number":
                self.answer(200, '{"access_token": 7}')
            case "line":
                self.answer(200, '{"access_token": "a\\r\\nX-Evil: 1"}')
            case "empty":
                self.answer(200, "")
            case _:
                self.answer(500, '{"error": "server_error"}')

    def do_GET(self) -> None:
        bearer = self.headers.get("Authorization", "")
        if self.path.startswith("/path/"):
            from urllib.parse import unquote

            token = unquote(self.path.removeprefix("/path/"))
            good = not bearer
        else:
            token, good = bearer.removeprefix("Bearer "), self.path == "/userinfo" and bearer.startswith("Bearer ")
        if not good or token not in tokens:
            return self.answer(401, '{"error":"invalid_token"}')
        return self.answer(200, json.dumps(USERS[tokens.pop(token)]))


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Provider)
os.write(1, f"{server.server_port}\n".encode())
os.close(1)  # whoever waits for the port reads to the end
server.serve_forever()
