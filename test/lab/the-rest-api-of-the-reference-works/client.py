# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs on the master's host: one request to its REST face over TLS, what came as JSON on stdout.

client.py TOKEN request METHOD PATH [BODY]
client.py TOKEN follow PATH COUNT          so many chunks of an answer without end, as they were sent
client.py TOKEN leave PATH BODY            a POST whose answer is not waited for
client.py TOKEN socket PATH MESSAGE...     each message, and how the WebSocket was closed; a MESSAGE "@SECONDS" waits
"""

import base64
import http.client
import json
import os
import socket
import ssl
import struct
import sys
import time


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    return c


def request(token, method, path, body=None):
    c = http.client.HTTPSConnection("127.0.0.1", 9292, context=context(), timeout=240)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": "application/json"}
    c.request(method, path, body, headers)
    r = c.getresponse()
    return {"status": r.status, "type": r.headers["Content-Type"], "body": r.read().decode()}


def connect(token, path, *headers):
    s = context().wrap_socket(socket.create_connection(("127.0.0.1", 9292), timeout=240))
    lines = [f"GET {path} HTTP/1.1", "Host: master", f"Authorization: Bearer {token}", *headers, "", ""]
    s.sendall("\r\n".join(lines).encode())
    f = s.makefile("rb")
    status = int(f.readline().split()[1])
    while f.readline().strip():
        pass
    return s, f, status


def follow(token, path, count):
    s, f, status = connect(token, path)
    chunks = []
    while len(chunks) < int(count):
        size = int(f.readline(), 16)
        chunk = f.read(size).decode()
        f.readline()
        if chunk.strip():
            chunks.append(chunk)
    return {"status": status, "chunks": chunks}


def leave(token, path, body):
    s = context().wrap_socket(socket.create_connection(("127.0.0.1", 9292), timeout=240))
    lines = [f"POST {path} HTTP/1.1", "Host: master", f"Authorization: Bearer {token}", f"Content-Length: {len(body)}", "", body]
    s.sendall("\r\n".join(lines).encode())
    time.sleep(1)
    s.close()


def send(s, opcode, data):
    mask = os.urandom(4)
    n = len(data)
    head = bytes([0x80 | opcode]) + (bytes([0x80 | n]) if n < 126 else bytes([0x80 | 126]) + struct.pack("!H", n))
    s.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))


def frame(f):
    head = f.read(2)
    if len(head) < 2:
        return None, b""
    n = head[1] & 0x7F
    if n == 126:
        (n,) = struct.unpack("!H", f.read(2))
    elif n == 127:
        (n,) = struct.unpack("!Q", f.read(8))
    return head[0] & 0x0F, f.read(n)


def websocket(token, path, *messages):
    key = base64.b64encode(os.urandom(16)).decode()
    s, f, status = connect(token, path, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    if status != 101:
        return {"status": status}
    for m in messages:
        if m.startswith("@"):
            time.sleep(float(m[1:]))
        else:
            send(s, 1, m.encode())
    got = []
    while True:
        opcode, data = frame(f)
        if opcode == 1:
            got.append(json.loads(data))
        elif opcode == 9:
            send(s, 10, data)
        elif opcode == 8:
            return {"status": status, "messages": got, "code": struct.unpack("!H", data[:2])[0], "reason": data[2:].decode()}
        elif opcode is None:
            return {"status": status, "messages": got, "code": 1006, "reason": ""}


if __name__ == "__main__":
    what = {"request": request, "follow": follow, "leave": leave, "socket": websocket}[sys.argv[2]]
    print(json.dumps(what(sys.argv[1], *sys.argv[3:])))
