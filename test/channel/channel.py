# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both ends of the node channel on loopback: the real kontena-channel against the master's listener and sessions."""
import hashlib
import json
import os
import pathlib
import queue
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

CONFIG, TEXT, BINARY, CLOSE, STATUS, CLOSED = 1, 2, 3, 4, 5, 6
BUILD = pathlib.Path(os.environ["KONTENA_BUILD"])
SERVER = BUILD / "src/kontenad/channel-test-server"
CHANNEL = BUILD / "src/kontena-channel/kontena-channel"
SECRET = "abcdefgh" + "a" * 32
PATIENCE = float(os.environ.get("KONTENA_TEST_PATIENCE", "120"))


class Lines:
    """What a process prints, with waiting for a line that begins so."""

    def __init__(self, stream):
        self.lines, self.queue = [], queue.Queue()
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream):
        for line in stream:
            self.queue.put(line.rstrip("\n"))
        self.queue.put(None)

    def wait(self, start, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self.queue.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line '{start}' within {timeout} s; so far: {self.lines[-20:]}")
            if line is None:
                raise AssertionError(f"the process ended before '{start}'; it said: {self.lines[-20:]}")
            self.lines.append(line)
            if line.startswith(start):
                return line

    def drain(self):
        while not self.queue.empty():
            line = self.queue.get()
            if line is not None:
                self.lines.append(line)
        return self.lines


class Server:
    def __init__(self, state, *names, env=None):
        self.process = subprocess.Popen([SERVER, state, *names], stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.out = Lines(self.process.stdout)
        _, port, self.fingerprint = self.out.wait("ready").split()
        self.port = int(port)
        self.url = f"wss://127.0.0.1:{port}/v1/nodes/channel"

    def rss(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1])

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        self.signal(signal.SIGCONT)
        self.process.terminate()
        return self.process.wait(PATIENCE)


class Node:
    """A directory as a node has it after its join."""

    def __init__(self, directory, server, ca=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        subprocess.run([CHANNEL, "--make-key", self.directory], check=True)
        for link, name in (("key", "key.pem"), ("certificate", "certificate.pem"), ("ca", "ca.pem")):
            (self.directory / link).unlink(missing_ok=True)
            (self.directory / link).symlink_to(name)
        if ca is None:
            ca = subprocess.run([CHANNEL, "--fetch-ca", server.url, server.fingerprint], check=True, capture_output=True, text=True).stdout
        (self.directory / "ca.pem").write_text(ca)


class Client:
    """Plays kontena-noded for one kontena-channel."""

    def __init__(self, node, url, secret=SECRET, name="node", proxy=None, env=None, **headers):
        self.socket, theirs = socket.socketpair()
        self.process = subprocess.Popen([CHANNEL], stdin=theirs, stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        theirs.close()
        self.buffer, self.phases, self.alive = b"", [], 0
        self.ids = 0
        everything = {"Kontena-Node-Id": hashlib.md5(str(node.directory).encode()).hexdigest(), "Kontena-Node-Name": name,
                      "Kontena-Version": "2.0.0", "Kontena-Node-Labels": "a,b=c"}
        everything.update({k.replace("_", "-"): v for k, v in headers.items()})
        config = {"url": url, "secret": secret, "credentials": str(node.directory), "headers": everything}
        if proxy:
            config["proxy"] = proxy
        self.send(CONFIG, config)

    def send(self, kind, payload):
        data = payload if isinstance(payload, bytes) else (payload if isinstance(payload, str) else json.dumps(payload)).encode()
        self.socket.sendall(struct.pack("<BI", kind, len(data)) + data)

    def frame(self, timeout=PATIENCE):
        self.socket.settimeout(timeout)
        while True:
            if len(self.buffer) >= 5:
                kind, size = struct.unpack("<BI", self.buffer[:5])
                if len(self.buffer) >= 5 + size:
                    data, self.buffer = self.buffer[5:5 + size], self.buffer[5 + size:]
                    return kind, data
            try:
                more = self.socket.recv(1 << 20)
            except (TimeoutError, socket.timeout):
                raise AssertionError(f"no frame within {timeout} s; phases so far {self.phases}")
            if not more:
                return None, b""
            self.buffer += more

    def message(self, timeout=PATIENCE):
        """The next text, or the CLOSED record."""
        while True:
            kind, data = self.frame(timeout)
            if kind is None:
                return None
            value = json.loads(data)
            if kind == STATUS:
                if value["phase"] == "alive":
                    self.alive += 1
                else:
                    self.phases.append(value["phase"])
                    if value["phase"] == "open":
                        return value
                continue
            return value

    def open(self):
        value = self.message()
        assert value == {"phase": "open"}, value
        return self

    def closed(self, timeout=PATIENCE):
        while True:
            value = self.message(timeout)
            assert value is not None, "ended without a word"
            if "code" in value and "reason" in value:
                self.socket.close()
                assert self.process.wait(PATIENCE) == 0
                return value

    def call(self, method, **params):
        self.ids += 1
        self.send(TEXT, {"jsonrpc": "2.0", "id": self.ids, "method": method, "params": params})
        return self.ids

    def notify(self, method, **params):
        self.send(TEXT, {"jsonrpc": "2.0", "method": method, "params": params})

    def stop(self):
        self.socket.close()
        assert self.process.wait(PATIENCE) == 0
