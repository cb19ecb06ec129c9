#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The node channel on loopback: what works, and what must be refused and how."""
import base64
import http.client
import http.server
import re
import shutil
import ssl
import sys
import unittest

from channel import *

NODE = BUILD / "src/kontena-noded/channel-test-node"
CERTIFICATE = BUILD / "src/shared/certificate-test-tool"


ROOM = int(os.environ.get("KONTENA_TEST_ROOM", "1"))     # memory: sanitizers need more


def letters(code):
    return "close" + "".join("abcdefghij"[int(d)] for d in str(code))


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="kontena-channel-")
        cls.server = cls.new_server("master")
        cls.node = Node(f"{cls.directory}/node", cls.server)

    @classmethod
    def tearDownClass(cls):
        cls.assertEqual(cls(), cls.server.stop(), 0)
        shutil.rmtree(cls.directory)

    @classmethod
    def new_server(cls, name, *names, env=None):
        os.makedirs(f"{cls.directory}/{name}", exist_ok=True)
        return Server(f"{cls.directory}/{name}", *names, env=env)

    def setUp(self):
        self.server.out.drain()
        self.server.out.lines.clear()

    def runTest(self):
        pass

    def connect(self, node=None, **kw):
        client = Client(node or self.node, kw.pop("url", self.server.url), **kw)
        self.addCleanup(lambda: client.process.poll() is None and client.process.kill())
        return client

    def certificate(self, name, start, end, *names):
        directory = f"{self.directory}/{name}"
        os.makedirs(directory)
        subprocess.run([CERTIFICATE, directory, str(start), str(end), *names], check=True)
        return directory, {"TEST_CERTIFICATE": f"{directory}/chain.pem", "TEST_PRIVATE_KEY": f"{directory}/server.key"}

    def assert_fails(self, pattern, phase, **kw):
        value = self.connect(**kw).closed(240)
        self.assertRegex(value["reason"], pattern)
        self.assertEqual((value["code"], value["phase"]), (0, phase), value)


class Works(Base):
    def test_a_node_is_admitted_and_both_sides_call(self):
        c = self.connect(name="alpha").open()
        self.assertEqual([p for p in c.phases if p != "connecting"], ["resolving", "tls", "upgrade", "open"])
        self.server.out.wait("opened")
        self.assertTrue(any(re.search(rf"admit \S+ alpha secret={SECRET} version=2.0.0 labels=2", l) for l in self.server.out.lines))
        i = c.call("echo", text="\u00e9\u2603")
        self.assertEqual(c.message(), {"jsonrpc": "2.0", "id": i, "result": {"text": "\u00e9\u2603"}})
        c.notify("call", x=1)
        request = c.message()
        self.assertEqual((request["method"], request["params"]), ("echo", {"x": 1}))
        c.send(TEXT, {"jsonrpc": "2.0", "id": request["id"], "result": {"y": 2}})
        self.assertIn('{"y":2}', self.server.out.wait("answer"))
        c.call("no.such")
        self.assertEqual(c.message()["error"]["data"]["code"], "io.kontena.Error.NoSuchOperation")
        c.stop()
        self.assertRegex(self.server.out.wait("closed"), r" 1001 n=0")

    def test_a_call_that_the_node_does_not_answer_times_out_on_the_master(self):
        c = self.connect().open()
        c.notify("call")
        c.message()
        self.assertRegex(self.server.out.wait("answer"), "did not answer 'echo' in time")
        c.stop()
        self.server.out.wait("closed")

    def test_a_call_that_is_under_way_ends_with_the_connection(self):
        c = self.connect().open()
        c.notify("call")
        c.message()
        c.process.kill()
        start = time.monotonic()
        self.assertRegex(self.server.out.wait("answer"), "channel was closed")
        self.server.out.wait("closed")
        self.assertLess(time.monotonic() - start, 20, "a node that was killed is noticed at once, not by its silence")

    def test_large_messages_pass_and_larger_ones_do_not(self):
        c = self.connect().open()
        c.call("echo", text="x" * (16 * 1024 * 1024 - 200))
        self.assertEqual(len(c.message()["result"]["text"]), 16 * 1024 * 1024 - 200)
        c.socket.sendall(struct.pack("<BI", TEXT, 16 * 1024 * 1024 + 1))
        self.assertIsNone(c.message(), "the frame is refused by its head")
        self.server.out.wait("closed")

    def test_a_known_key_needs_no_secret(self):
        c = self.connect(secret=None).open()
        self.assertIn("secret=n/a", self.server.out.wait("admit"))
        c.stop()
        self.server.out.wait("closed")

    def test_ping_keeps_it_and_is_seen(self):
        c = self.connect().open()
        self.server.out.wait("seen", 240)
        kind, data = c.frame()
        self.assertEqual((kind, json.loads(data)), (STATUS, {"phase": "alive"}))
        c.stop()
        self.server.out.wait("closed")

    def http(self, server=None, certificate=False):
        context = ssl.create_default_context(cafile=str(self.node.directory / "ca.pem"))
        if certificate:
            context.load_cert_chain(self.node.directory / "certificate.pem", self.node.directory / "key.pem")
        return http.client.HTTPSConnection("127.0.0.1", (server or self.server).port, context=context, timeout=PATIENCE)

    def ask(self, connection, method, path, body=None, headers={}):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def test_http_is_served_beside_it(self):
        c = self.http()
        for _ in range(3):                       # on one connection
            self.assertEqual(self.ask(c, "GET", "/v1/ping"), (200, b"pong\n"))
        for method, path, status in (("GET", "/nothing", 404), ("GET", "/v1/nodes/channel", 426), ("POST", "/v1/ping", 405),
                                     ("GET", "/v1/a/x/b", 404), ("GET", "/v1/a/x/b/y/z", 404), ("GET", "/v1/broken", 500)):
            answer = self.ask(c, method, path, b"x" * 1000 if method == "POST" else None)
            self.assertEqual(answer[0], status, path)
            self.assertTrue(json.loads(answer[1])["error"])
        self.assertEqual(json.loads(self.ask(c, "GET", "/v1/a/x%20y/b/2?q=%C3%A9")[1]), {"a": "x y", "b": "2", "q": "\u00e9", "key": False})
        self.assertTrue(json.loads(self.ask(self.http(certificate=True), "GET", "/v1/a/1/b/2")[1])["key"])

    def test_http_bodies(self):
        c = self.http()
        for size in (0, 1, 16384, 16385, 4 * 1024 * 1024):
            body = os.urandom(size)
            self.assertEqual(self.ask(c, "POST", "/v1/echo", body), (200, body), size)
        self.assertEqual(self.ask(c, "POST", "/v1/echo", b"x" * (4 * 1024 * 1024 + 1))[0], 413)

    def test_http_answers_may_come_later(self):
        connections = [self.http() for _ in range(20)]
        for c in connections:
            c.request("GET", "/v1/later")
        for c in connections:
            self.assertEqual(c.getresponse().read(), b"later\n")
        # Who goes away before the answer harms nobody.
        c = self.http()
        c.request("GET", "/v1/later")
        c.close()
        time.sleep(0.3)
        self.assertEqual(self.ask(self.http(), "GET", "/v1/ping")[0], 200)

    def test_http_requests_are_answered_at_the_stop(self):
        server = self.new_server("stops-http")
        node = Node(f"{self.directory}/node-stops-http", server)
        context = ssl.create_default_context(cafile=str(node.directory / "ca.pem"))
        c = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=PATIENCE)
        c.request("GET", "/v1/forever")
        server.out.wait("forever")
        server.process.terminate()
        self.assertEqual(c.getresponse().status, 503)
        self.assertEqual(server.process.wait(PATIENCE), 0)

    def test_through_a_proxy(self):
        listener = socket.create_server(("127.0.0.1", 0))
        seen = []

        def copy(a, b):
            try:
                while data := a.recv(65536):
                    b.sendall(data)
            except OSError:
                pass
            b.close()

        def proxy():
            a, _ = listener.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += a.recv(4096)
            seen.append(head.split(b"\r\n")[0].decode())
            b = socket.create_connection(("127.0.0.1", self.server.port))
            a.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=copy, args=(b, a), daemon=True).start()
            copy(a, b)

        threading.Thread(target=proxy, daemon=True).start()
        c = self.connect(proxy=f"http://127.0.0.1:{listener.getsockname()[1]}").open()
        self.assertEqual(seen, [f"CONNECT 127.0.0.1:{self.server.port} HTTP/1.1"])
        c.call("echo", a=1)
        c.message()
        c.stop()
        self.server.out.wait("closed")
        listener.close()


class Refusals(Base):
    def test_each_code_arrives_with_its_sentence(self):
        for code in (4000, 4001, 4002, 4003, 4004, 4006, 4007, 4008, 4010, 4020, 4040):
            value = self.connect(secret=letters(code)).closed()
            self.assertEqual((value["code"], value["reason"], value["phase"]), (code, f"Refused with code {code}.", "open"))
        self.assertFalse(any(l.startswith(("opened", "closed")) for l in self.server.out.drain()))

    def test_codes_of_a_session(self):
        for code in (4030, 4031, 4040, 4050):
            c = self.connect().open()
            c.notify("close", code=code)
            self.assertEqual(c.closed()["code"], code)
            self.assertRegex(self.server.out.wait("closed"), rf" {code} n=0 As you wish")

    def test_malformed_introductions(self):
        for headers in ({"Kontena_Node_Id": "x"}, {"Kontena_Node_Name": ""}, {"Kontena_Version": ""}, {"Kontena_Time": "now"},
                        {"Authorization": "Basic eA=="}, {"Kontena_Node_Labels": ",".join("abc" for _ in range(100))}):
            secret = None if "Authorization" in headers else SECRET
            value = self.connect(secret=secret, **headers).closed()
            self.assertEqual(value["code"], 4000, headers)

    def test_malformed_messages_close_with_4050(self):
        for text in ("{", "[]", "null", '{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","id":0,"method":"echo"}',
                     '{"jsonrpc":"2.0","method":"break"}', "[" * 100):
            c = self.connect().open()
            c.send(TEXT, text)
            self.assertEqual(c.closed()["code"], 4050, text)
            self.server.out.wait("closed")
        c = self.connect().open()
        c.send(BINARY, b"\0\1")
        self.assertEqual(c.closed()["code"], 4050)
        self.server.out.wait("closed")
        c = self.connect().open()
        c.send(TEXT, b"\xff\xfe")                # not UTF-8: the WebSocket's own error
        self.assertEqual(c.closed()["code"], 1007)
        self.server.out.wait("closed")

    def test_wrong_authority(self):
        other = self.new_server("other")
        node = Node(f"{self.directory}/node-other", other)
        self.assert_fails(rf"another authority \(fingerprint {self.server.fingerprint}\), not of the one that this machine trusts "
                          rf"\({other.fingerprint}\)", "tls", node=node)
        other.stop()

    def test_the_systems_authorities_are_not_trusted(self):
        """Also when libcurl's default list would have the master's CA."""
        other = self.new_server("other-system")
        node = Node(f"{self.directory}/node-system", other)
        self.assert_fails("another authority", "tls", node=node,
                          env={"CURL_CA_BUNDLE": str(self.node.directory / "ca.pem"), "SSL_CERT_FILE": str(self.node.directory / "ca.pem")})
        other.stop()

    def test_fetching_the_authority_wants_the_fingerprint(self):
        p = subprocess.run([CHANNEL, "--fetch-ca", self.server.url, "0" * 64], capture_output=True, text=True)
        self.assertNotEqual(p.returncode, 0)
        self.assertEqual(p.stdout, "")
        self.assertRegex(p.stderr, rf"another authority \(fingerprint {self.server.fingerprint}\)")

    def test_expired_and_not_yet_valid_and_wrong_name(self):
        for name, start, end, names, pattern in (
                ("expired", -86400, -3600, ["127.0.0.1"], r"expired at \d{4}-\d\d-\d\d .* UTC, and this machine's clock says .* UTC"),
                ("future", 3600, 86400, ["127.0.0.1"], r"valid only from .* UTC, but this machine's clock says .* UTC: the clock may be"),
                ("name", -3600, 86400, ["other.example", "192.0.2.1"], r"not for the name '127.0.0.1' but for: other.example, 192.0.2.1")):
            with self.subTest(name):
                directory, env = self.certificate(name, start, end, *names)
                server = self.new_server(f"master-{name}", env=env)
                node = Node(f"{self.directory}/node-{name}", server, ca=pathlib.Path(f"{directory}/ca.pem").read_text())
                self.assert_fails(pattern, "tls", node=node, url=server.url)
                # The join says the same.
                p = subprocess.run([CHANNEL, "--fetch-ca", server.url, server.fingerprint], capture_output=True, text=True)
                self.assertNotEqual(p.returncode, 0)
                self.assertRegex(p.stderr, pattern)
                server.stop()

    def test_a_configured_certificate_is_used(self):
        directory, env = self.certificate("configured", -3600, 86400, "127.0.0.1")
        server = self.new_server("master-configured", env=env)
        node = Node(f"{self.directory}/node-configured", server)
        self.assertEqual((node.directory / "ca.pem").read_text(), pathlib.Path(f"{directory}/ca.pem").read_text())
        self.connect(node=node, url=server.url).open().stop()
        server.stop()

    def test_nobody_there(self):
        nobody = socket.socket()
        nobody.bind(("127.0.0.1", 0))        # kept, so that no other program listens there meanwhile
        self.addCleanup(nobody.close)
        port = nobody.getsockname()[1]
        self.assert_fails(rf"master at 127.0.0.1:{port} refuses the connection", "connecting", url=f"wss://127.0.0.1:{port}/")
        self.assert_fails("name 'no-such-host.invalid' cannot be resolved", "resolving", url="wss://no-such-host.invalid:1/")
        self.assert_fails(r"proxy at .* refuses the connection", "connecting", proxy=f"http://127.0.0.1:{port}")

    def test_what_listens_does_not_answer(self):
        silent = socket.create_server(("127.0.0.1", 0))
        self.assert_fails("within 20 s in the TLS handshake", "tls", url=f"wss://127.0.0.1:{silent.getsockname()[1]}/")
        silent.close()

    def test_what_listens_speaks_no_tls(self):
        plain = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        self.assert_fails("TLS handshake with the master .* failed", "tls", url=f"wss://127.0.0.1:{plain.server_port}/")
        plain.shutdown()

    def fake_master(self, answer, version=ssl.TLSVersion.TLSv1_3):
        """Speaks TLS with a certificate of the node's authority, then says what it is told."""
        directory = f"{self.directory}/fake-{len(os.listdir(self.directory))}"
        directory, _ = self.certificate(os.path.basename(directory), -3600, 86400, "127.0.0.1")
        node = Node(f"{directory}/node", None, ca=pathlib.Path(f"{directory}/ca.pem").read_text())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{directory}/chain.pem", f"{directory}/server.key")
        context.maximum_version = version
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as s:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += s.recv(4096)
                    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)[1]
                    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                    s.sendall(answer.replace(b"ACCEPT", accept))
                    while s.recv(4096):
                        pass
            except OSError:
                pass
            listener.close()

        threading.Thread(target=serve, daemon=True).start()
        return {"node": node, "url": f"wss://127.0.0.1:{listener.getsockname()[1]}/v1/nodes/channel"}

    GOOD = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n"
            b"Sec-WebSocket-Protocol: kontena.node.1\r\n\r\n")

    def test_old_tls(self):
        self.assert_fails("TLS handshake with the master .* failed", "tls", **self.fake_master(self.GOOD, ssl.TLSVersion.TLSv1_2))

    def test_answers_that_are_no_upgrade(self):
        for answer, pattern in (
                (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status 404"),
                (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP status 401"),
                (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not a web server"),
                (self.GOOD.replace(b"ACCEPT", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "not that of a WebSocket server"),
                (self.GOOD.replace(b"Upgrade: websocket\r\n", b""), "not that of a WebSocket server"),
                (self.GOOD.replace(b"node.1", b"node.9"), "does not speak 'kontena.node.1'"),
                (self.GOOD.replace(b"Upgrade: web", b"Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: web"), "extension"),
                (b"HTTP/1.1 101 X\r\n" + b"X: y\r\n" * 3000, "larger than 8192"),
                (b"HTTP/1.1 101 X\r\nbroken\r\n\r\n", "malformed")):
            with self.subTest(answer[:40]):
                self.assert_fails(pattern, "upgrade", **self.fake_master(answer))

    def test_frames_that_are_against_the_protocol(self):
        for frame, code in ((b"\x81\x80abcd", 1002),                       # masked by the server
                            (b"\xf1\x00", 1002),                           # reserved bits
                            (b"\x81\x02\xff\xff", 1007),                   # not UTF-8
                            (b"\x82\x7f" + struct.pack(">Q", 1 << 40) + b"xx", 1009),   # a terabyte is announced
                            (b"\x89\x7e\x00\x80" + b"x" * 128, 1002)):     # a large ping
            with self.subTest(frame[:4]):
                c = self.connect(**self.fake_master(self.GOOD + frame))
                value = c.closed()
                self.assertNotEqual(value["code"], 0)
                self.assertIn(value["code"], (code, 1006), value)


class Master(Base):
    """What peers do to the master's end."""

    def raw(self, certificate=True, head=None, key="AAAAAAAAAAAAAAAAAAAAAA=="):
        context = ssl.create_default_context(cafile=str(self.node.directory / "ca.pem"))
        if certificate:
            context.load_cert_chain(self.node.directory / "certificate.pem", self.node.directory / "key.pem")
        s = context.wrap_socket(socket.create_connection(("127.0.0.1", self.server.port)), server_hostname="127.0.0.1")
        s.settimeout(PATIENCE)
        s.sendall(head if head is not None else (
            f"GET /v1/nodes/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: kontena.node.1\r\nKontena-Node-Id: {'0' * 32}\r\nKontena-Node-Name: raw\r\n"
            "Kontena-Version: 2.0.0\r\n\r\n").encode())
        return s

    def status(self, s):
        data = b""
        while b"\r\n\r\n" not in data:
            more = s.recv(4096)
            if not more:
                break
            data += more
        return int(data.split()[1]) if data else None

    def closed(self, s):
        data = b""
        try:
            while more := s.recv(65536):
                data += more
        except (ssl.SSLError, ConnectionError):
            pass
        return data

    def test_without_a_certificate(self):
        self.assertEqual(self.status(self.raw(certificate=False)), 401)

    def test_someone_elses_certificate_without_its_key(self):
        """The handshake must prove that the peer owns the key: a certificate is public."""
        other = Node(f"{self.directory}/thief", self.server)
        thief = BUILD / "src/kontenad/channel-test-thief"
        for key, pattern in ((self.node, "^accepted"), (other, "^(?!accepted).")):
            p = subprocess.run([thief, str(self.server.port), self.node.directory / "certificate.pem", key.directory / "key.pem"],
                               capture_output=True, text=True, check=True)
            self.assertRegex(p.stdout, pattern)

    def test_upgrades_that_are_refused(self):
        for old, new, status in (("Upgrade: websocket", "Upgrade: h2c", 426), ("Version: 13", "Version: 8", 400),
                                 ("kontena.node.1", "kontena.node.2", 400), ("AAAAAAAAAAAAAAAAAAAAAA==", "short", 400),
                                 ("GET", "POST", 405), ("Host: x\r\n", "", 400)):
            head = (f"GET /v1/nodes/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: kontena.node.1\r\n\r\n").replace(old, new)
            with self.subTest(new):
                self.assertEqual(self.status(self.raw(head=head.encode())), status)

    def test_a_head_that_is_too_large(self):
        s = self.raw(head=b"")
        try:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100000)
        except OSError:
            pass                                 # it may be cut before all was said
        try:
            self.assertIn(self.status(s), (431, 413, 400, None))
        except OSError:
            pass

    def test_a_body_that_is_too_large(self):
        s = self.raw(head=b"POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        try:
            for _ in range(1000):
                s.sendall(b"x" * 100000)
        except OSError:
            pass
        self.assertLess(self.server.rss(), 30000 * ROOM)

    def test_frames_that_are_against_the_protocol(self):
        mask = b"\0\0\0\0"
        for frame, code in ((b"\x81\x00", 1002),                                           # not masked
                            (b"\xf1\x80" + mask, 1002),                                    # reserved bits
                            (b"\x81\x82" + mask + b"\xff\xff", 1007),                      # not UTF-8
                            (b"\x81\xff" + struct.pack(">Q", 16 * 1024 * 1024 + 1) + mask + b"xxxx", 1009),
                            (b"\x80\x80" + mask, 1002),                                    # continues nothing
                            (b"\x89\xfe\x01\x00" + mask + b"x" * 256, 1002),               # a large ping
                            (b"\x88\x81" + mask + b"x", 1002)):                            # a close of one byte
            with self.subTest(frame[:2]):
                s = self.raw()
                self.assertEqual(self.status(s), 101)
                s.sendall(frame)
                end = self.closed(s)
                if len(end) >= 4:
                    self.assertEqual(end[0], 0x88)
                    self.assertEqual(struct.unpack(">H", end[2:4])[0], code)
                self.server.out.wait("closed")

    def test_garbage_instead_of_tls(self):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\x16\x03\x01\xff\xff" + b"\0" * 1000, b""):
            s = socket.create_connection(("127.0.0.1", self.server.port))
            s.settimeout(PATIENCE)
            s.sendall(garbage)
            try:
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.closed(s)
            s.close()
        self.connect().open().stop()
        self.server.out.wait("closed")

    def test_a_fragmented_message_and_pings_between(self):
        s = self.raw()
        self.status(s)
        mask = b"\0\0\0\0"
        text = b'{"jsonrpc":"2.0","id":1,"method":"echo","params":{}}'
        s.sendall(b"\x01" + bytes([0x80 | 10]) + mask + text[:10])
        s.sendall(b"\x89\x82" + mask + b"hi")
        pong = b""
        while len(pong) < 4:
            pong += s.recv(4 - len(pong))
        self.assertEqual(pong, b"\x8a\x02hi")
        s.sendall(b"\x80" + bytes([0x80 | len(text) - 10]) + mask + text[10:])
        answer = b""
        while not answer.endswith(b"}"):
            answer += s.recv(4096)
        self.assertIn(b'"result":{}', answer)
        s.close()
        self.server.out.wait("closed")

    def test_a_flood_of_pings_that_is_not_read(self):
        s = self.raw()
        self.status(s)
        s.settimeout(5)
        try:
            for _ in range(2000):
                s.sendall(b"\x89\x80\0\0\0\0" * 5000)
        except OSError:
            pass
        self.assertLess(self.server.rss(), 60000 * ROOM)
        s.close()
        self.server.out.wait("closed")

    def test_a_newer_connection_replaces_the_older(self):
        """Trap 1: the end of the older one says nothing about the node, in whatever order they come."""
        for order in ("old answers", "old is stopped"):
            with self.subTest(order):
                old = self.connect().open()
                first = self.server.out.wait("opened").split()
                old.notify("call")
                old.message()
                if order == "old is stopped":
                    old.process.send_signal(signal.SIGSTOP)
                new = self.connect().open()
                self.assertRegex(self.server.out.wait("answer"), "replaced by a newer")
                second = self.server.out.wait("opened").split()
                self.assertEqual(first[1], second[1])
                self.assertEqual(second[3], "n=1")
                if order == "old answers":
                    self.assertEqual(old.closed()["code"], 4041)
                else:
                    time.sleep(5.5)              # until the close of the old one is forced
                    old.process.send_signal(signal.SIGCONT)
                    old.closed()
                new.call("echo", still="here")
                self.assertEqual(new.message()["result"], {"still": "here"})
                self.assertFalse([l for l in self.server.out.drain() if l.startswith("closed") and l.split()[2] == first[2]])
                new.stop()
                self.assertEqual(self.server.out.wait("closed").split()[2], second[2])

    def test_a_slow_reader_never_grows_the_master(self):
        c = self.connect().open()
        c.notify("flood", count=100, size=1024 * 1024)
        self.assertRegex(self.server.out.wait("flood"), "No buffer space")
        self.assertLess(self.server.rss(), 100000 * ROOM)
        self.assertRegex(self.server.out.wait("closed"), " 4050 n=0 The node does not read")
        c.process.kill()

    def test_a_node_that_reads_gets_all_of_it(self):
        c = self.connect().open()
        c.notify("flood", count=30, size=1024 * 1024)
        for _ in range(30):
            self.assertEqual(len(c.message()["params"]["data"]), 1024 * 1024)
        c.stop()
        self.server.out.wait("closed")

    def test_silent_connections_make_room(self):
        """More than may wait to say who they are: they are cut, and a node still comes in."""
        silent = [socket.create_connection(("127.0.0.1", self.server.port)) for _ in range(100)]
        deadline = time.monotonic() + PATIENCE
        while (value := (c := self.connect()).message()) != {"phase": "open"}:
            self.assertIn(value["phase"], ("tls", "upgrade"), value)     # it was slow, too, and comes again
            self.assertLess(time.monotonic(), deadline)
        c.stop()
        self.server.out.wait("closed")
        for s in silent:
            s.close()

    def test_two_hundred_at_once(self):
        nodes = [Node(f"{self.directory}/many-{i}", self.server, ca=(self.node.directory / "ca.pem").read_text()) for i in range(200)]
        fds, rss = self.server.fds(), self.server.rss()
        start = time.monotonic()
        clients = [self.connect(node=n) for n in nodes]
        again = 0
        for i, node in enumerate(nodes):
            value = clients[i].message()
            # On a slow machine handshakes take longer than one may wait while others queue; a node then comes again.
            while value["phase"] == "upgrade" and time.monotonic() < start + PATIENCE * ROOM:
                again += 1
                clients[i] = self.connect(node=node)
                value = clients[i].message()
            self.assertEqual(value, {"phase": "open"})
        took = time.monotonic() - start
        for _ in nodes:
            self.server.out.wait("opened")
        for c in clients:
            c.call("echo", a=1)
        for c in clients:
            c.message()
        print(f"200 nodes in {took:.1f} s, {again} came again, {(self.server.rss() - rss) / 200:.1f} kB and "
              f"{(self.server.fds() - fds) / 200:.1f} descriptors each on the master; kontena-channel: {rss_of(clients[0].process.pid)}",
              file=sys.stderr)
        for c in clients:
            c.stop()
        for _ in nodes:
            self.server.out.wait("closed")
        deadline = time.monotonic() + PATIENCE
        while self.server.fds() > fds and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertLessEqual(self.server.fds(), fds, "descriptors are left")

    def test_stop_says_so(self):
        server = self.new_server("stops")
        node = Node(f"{self.directory}/node-stops", server)
        c = self.connect(node=node, url=server.url).open()
        server.process.terminate()
        self.assertEqual(c.closed()["code"], 1001)
        self.assertEqual(server.process.wait(PATIENCE), 0)


def rss_of(pid):
    values = dict(l.split(":", 1) for l in open(f"/proc/{pid}/status") if l.startswith(("VmRSS", "RssAnon")))
    return ", ".join(f"{k} {v.strip()}" for k, v in values.items())


class Daemon(Base):
    """channel.c of the node daemon with the real kontena-channel."""

    def daemon(self, secret=SECRET, url=None):
        (self.node.directory / "join.conf").write_text(f"[Join]\nURL={url or self.server.url}\n" + (f"Secret={secret}\n" if secret else ""))
        p = subprocess.Popen([NODE, self.node.directory, CHANNEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        p.out = Lines(p.stdout)
        p.say = lambda line: (p.stdin.write(line + "\n"), p.stdin.flush())
        self.addCleanup(lambda: p.poll() is None and p.kill())
        return p

    def test_it_connects_and_erases_the_secret(self):
        p = self.daemon()
        p.out.wait("state open")
        self.assertIn(SECRET, (self.node.directory / "join.conf").read_text())
        p.say("hello")
        p.out.wait("state ready")
        self.assertEqual((self.node.directory / "join.conf").read_text().count("Secret"), 0)
        self.server.out.wait("opened")
        p.say("never")
        self.assertIn("did not answer 'never' in time", p.out.wait("never"))
        p.say("long")
        p.say("stop")
        self.assertIn("connection to the master has ended", p.out.wait("never"))
        p.out.wait("state idle")
        self.server.out.wait("closed")
        p.say("start")
        p.out.wait("state open")
        p.say("quit")
        self.assertEqual(p.wait(PATIENCE), 0)
        self.server.out.wait("closed")

    def test_it_comes_back_after_a_loss(self):
        p = self.daemon()
        child = int(p.out.wait("child").split()[1])
        p.out.wait("state open")
        p.say("long")
        os.kill(child, signal.SIGKILL)
        p.out.wait("never The connection")
        self.assertIn("died (9)", p.out.wait("state waiting"))
        p.out.wait("state open")
        p.say("quit")
        self.assertEqual(p.wait(PATIENCE), 0)
        self.assertEqual(len([l for l in p.out.drain() if l.startswith("never")]), 1, "a call ends once")

    def test_a_refusal_is_told_and_waits_long(self):
        p = self.daemon(secret=letters(4001) + "aaaa" + "b" * 27)
        line = p.out.wait("state waiting")
        self.assertRegex(line, r"The master refuses this node: Refused with code 4001. It will be asked again in \d+ s.")
        self.assertGreaterEqual(int(re.search(r"in (\d+) s", line)[1]), 45)

    def test_nobody_there(self):
        p = self.daemon(url="wss://127.0.0.1:1/v1/nodes/channel")
        self.assertRegex(p.out.wait("state waiting"), r"refuses the connection: kontenad may not run there. Trying again in [01] s.")

    def test_not_joined(self):
        (self.node.directory / "join.conf").unlink(missing_ok=True)
        p = subprocess.Popen([NODE, self.node.directory, CHANNEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertRegex(Lines(p.stdout).wait("node"), "node [0-9a-f]{32}")
        p.communicate("quit\n")
        self.assertEqual(p.returncode, 0)

    def test_join_writes_what_the_daemon_needs(self):
        directory = f"{self.directory}/joined"
        token = f"KT1-{self.server.fingerprint}-{SECRET}"
        subprocess.run([CHANNEL, "--join", directory, f"127.0.0.1:{self.server.port}"], input=token, text=True, check=True)
        self.assertEqual(sorted(os.listdir(directory)), ["ca.pem", "certificate.pem", "join.conf", "key.pem"])
        self.assertEqual(os.stat(f"{directory}/key.pem").st_mode & 0o777, 0o600)
        key = pathlib.Path(f"{directory}/key.pem").read_bytes()
        subprocess.run([CHANNEL, "--join", directory, f"127.0.0.1:{self.server.port}"], input=token, text=True, check=True)
        self.assertEqual(pathlib.Path(f"{directory}/key.pem").read_bytes(), key, "a second join keeps the key")


class Stopped(Base):
    """Peers that are there and do nothing: found out by ping and by silence."""

    def test_stopped_peers(self):
        other = self.new_server("other-stopped")
        node = Node(f"{self.directory}/node-stopped", other)
        client = self.connect().open()               # will be stopped itself
        waiting = self.connect(node=node, url=other.url).open()      # its master will be stopped
        client.process.send_signal(signal.SIGSTOP)
        other.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        self.assertRegex(self.server.out.wait("closed", 300), " 4030 n=0 No answer to a ping")
        self.assertLess(time.monotonic() - start, 70, "by the ping, before it could be by the silence")
        value = waiting.closed(400)
        self.assertEqual((value["code"], value["reason"]), (4030, "Nothing was heard from the master for 75 s."))
        client.process.kill()
        other.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
