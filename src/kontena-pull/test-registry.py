#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A registry for test-pull-image: well-behaved repositories, and one for each way to misbehave.

test-registry.py [CERTIFICATE KEY] listens on two ports of the loopback, prints both, and ends with its standard input.
The second is another host as far as credentials go; what arrives there and should not is answered with 400.
"""

import base64
import gzip
import hashlib
import io
import json
import re
import ssl
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
USER, PASSWORD, TOKEN = "user", "s:ecret", "a-token"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

blobs: dict[str, bytes] = {}
manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
counts: dict[str, int] = {}
lock = threading.Lock()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob(data: bytes) -> dict:
    blobs[digest(data)] = data
    return {"digest": digest(data), "size": len(data), "mediaType": "application/octet-stream"}


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def image(repository: str, contents: list[bytes], tag: str = "1", architecture: str = "amd64", diff_ids=None, **change) -> dict:
    config = {
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin", "A=b=c"], "Entrypoint": ["/e"], "Cmd": ["x", "y"], "User": "app", "WorkingDir": "/w",
                   "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT",
                   "Labels": {"l": "v"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(layer) for layer in contents]},
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": OCI, "config": blob(json.dumps(config).encode()),
        "layers": [blob(gzip.compress(layer, mtime=0)) for layer in contents],
    } | change  # fmt: skip
    return put(repository, tag, OCI, manifest)


def put(repository: str, tag: str, media: str, manifest: dict) -> dict:
    data = json.dumps(manifest).encode()
    manifests[repository, tag] = manifests[repository, digest(data)] = media, data
    return {"digest": digest(data), "size": len(data), "mediaType": media}


def fill() -> None:
    noise = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(40_000))
    first, second = tar({"a": b"first", "d/x": noise}), tar({"b": b"second"})
    for name in ("plain", "token", "basic", "redirect", "flaky", "busy", "wrongtype", "slow"):
        image(name, [first, second])
    for name in ("resume", "norange", "stall"):
        image(name, [tar({f"{name}": noise})])
    image("whole", [tar({"stall": noise})])
    image("twice", [first, second, first])
    image("many", [tar({f"f{i}": b""}) for i in range(128)])
    image("wrongdiff", [second], diff_ids=[digest(first)])
    image("fewer", [first], diff_ids=[digest(first), digest(second)])
    image("bomb", [tar({"zeros": bytes(4 * 1024 * 1024)})])
    image("evil", [tar({"../../evil": b"x"})])
    image("arm", [second], architecture="arm64")
    image("corrupt", [tar({"corrupt": noise})])
    image("short", [tar({"short": noise})])
    image("longer", [tar({"longer": noise})])
    image("foreign", [second], layers=[blob(second) | {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}])
    image("sha512", [second], layers=[{"digest": "sha512:" + "0" * 128, "size": 5}])
    image("mismatch", [second])
    manifests["mismatch", "sha256:" + "0" * 64] = manifests["mismatch", "1"]
    put("huge", "1", OCI, {"schemaVersion": 2, "filler": "x" * (4 * 1024 * 1024)})
    put("old", "1", "application/vnd.docker.distribution.manifest.v1+prettyjws", {"schemaVersion": 1, "fsLayers": []})
    amd, arm = image("multi", [second], tag="amd"), image("multi", [first], tag="arm", architecture="arm64")
    put("multi", "1", INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {**amd, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**arm, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {**amd, "platform": {"os": "linux", "architecture": "amd64"}}]})  # fmt: skip
    put("onlyarm", "1", INDEX, {"schemaVersion": 2, "manifests": [
        {**arm, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]})  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, message: str, **headers: str) -> None:
        self.answer(status, json.dumps({"errors": [{"code": "X", "message": message}]}).encode(), **headers)

    def count(self, what: str) -> int:
        with lock:
            counts[what] = counts.get(what, 0) + 1
            return counts[what]

    @property
    def base(self) -> str:
        return f"{'https' if secure else 'http'}://127.0.0.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        authorization = self.headers.get("Authorization")
        if path == "/token":
            if authorization != BASIC or "service=the%20service" not in query or "repository%3Atoken%3Apull" not in query:
                return self.refuse(401, "wrong password")
            return self.answer(200, json.dumps({"token": TOKEN}).encode())
        if self.server.server_port == ports[1]:
            return self.elsewhere(path, authorization)
        match = re.fullmatch(r"/v2/(\w+)/(manifests|blobs)/(\S+)", path)
        if not match:
            return self.refuse(404, "no such page")
        repository, kind, what = match.groups()
        wanted = {"token": f"Bearer {TOKEN}", "basic": BASIC, "redirect": BASIC}.get(repository)
        if wanted and authorization != wanted:
            challenge = 'Basic realm="x"'
            if repository == "token":
                challenge = f'Bearer realm="{self.base}:{ports[1]}/token",service="the service"'
            return self.refuse(401, "authentication required", WWW_Authenticate=challenge)
        if kind == "manifests":
            return self.manifest(repository, what)
        return self.blob(repository, what)

    def elsewhere(self, path: str, authorization: str | None) -> None:
        """Where blobs are kept by others: credentials have no business here."""
        data = blobs.get(path.removeprefix("/store/"))
        if authorization or data is None:
            return self.refuse(400, "credentials came along")
        self.answer(200, data)

    def manifest(self, repository: str, what: str) -> None:
        n = self.count(f"manifest {repository}")
        if repository == "flaky" and n <= 2:
            return self.refuse(503, "back in a moment")
        if repository == "busy" and n <= 1:
            return self.refuse(429, "too many", Retry_After="1")
        if (repository, what) not in manifests:
            return self.refuse(404, "manifest unknown")
        media, data = manifests[repository, what]
        if repository == "wrongtype":
            media = "text/plain; charset=utf-8"
        self.answer(200, data, Content_Type=media, Docker_Content_Digest=digest(data))

    def blob(self, repository: str, what: str) -> None:
        data = blobs.get(what)
        if data is None:
            return self.refuse(404, "blob unknown")
        if len(data) < 10_000:
            return self.answer(200, data)
        n = self.count(f"blob {repository}")
        if repository == "redirect":
            return self.answer(307, Location=f"{self.base}:{ports[1]}/store/{what}")
        if repository == "corrupt":
            data = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
        elif repository == "short":
            data = data[: len(data) // 2]
        elif repository == "longer":
            data += b"x"
        elif repository == "slow":
            time.sleep(1)
        elif repository == "whole" or (repository == "stall" and n > 2):
            return self.ranges(repository, data)
        elif repository == "stall":
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:1000])
            self.wfile.flush()
            return time.sleep(20)
        elif repository in ("resume", "norange"):
            return self.broken(repository, data, n)
        self.answer(200, data)

    def ranges(self, repository: str, data: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match:
            start = int(match[1])
            return self.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        if repository == "stall":
            return self.refuse(503, "only for those who have a part of it")
        self.answer(200, data)

    def broken(self, repository: str, data: bytes, n: int) -> None:
        """Half of it and then nothing more. Only who asks for the other half, or asks norange again, gets all."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and repository == "resume":
            start = int(match[1])
            if start > 0:
                return self.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        if repository == "norange" and n > 1:
            return self.answer(200, data)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True


secure = len(sys.argv) > 2
servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
ports = [server.server_port for server in servers]
fill()
for server in servers:
    server.daemon_threads = True
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(*ports, flush=True)
sys.stdin.read()
