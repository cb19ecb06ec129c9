# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test images, made from Debian's packages and pushed with skopeo into the storage of the lab's registry.

Ordinary ones share a layer with busybox and its applets:

    busybox:1 busybox:2     sh, httpd, nc, wget, ping …; the second differs in VERSION
    redis:7                 user redis, volume /data, port 6379
    nginx:1                 port 80, errors on the inherited standard error
    nginx:official          opens /dev/stdout and /dev/stderr by name, as Docker's own image of nginx does, which
                            fails with ENXIO where these are sockets (as the journal's are)
    echo:1 echo:2           see test/lab/images/echo.c; port 8080
    system:1                an operating system: systemd, and hello.service on port 8000; see system.py
    big:1                   48 MB that do not compress

Those for tests of pulling:

    busybox:zstd busybox:docker busybox:multi   zstd layer, Docker's media types, an index with arm64 beside amd64
    tricky:1                whiteouts, an opaque directory, hard links, xattrs, odd modes and names
    devices:1               a device node and a fifo
    evil-dotdot:1 evil-absolute:1 evil-symlink:1 evil-hardlink:1   entries that lead out of the root
    corrupt:1               a byte of the layer is wrong in the registry's storage
    truncated:1             the layer is shorter there than its manifest says
    gone:1                  the layer is not there
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import console, packages
from .oci import Image, Layer, LayerWriter, busybox_links, digest, layer_of, write_layout
from .process import LabError, locked, run, tool_environment, wait_until
from .root import HostRoot
from .settings import cache_directory
from .system import system_layer
from .tree import HOST, bootstrap, remove

SOURCES = Path(__file__).resolve().parents[1] / "images"

_NAMESPACE = "kl-cache"
_STORAGE = "var/lib/docker-registry"
_REDIS, _WWW = 100, 33

_PASSWD = f"""\
root:x:0:0:root:/root:/bin/sh
www-data:x:{_WWW}:{_WWW}:www-data:/var/www:/bin/false
redis:x:{_REDIS}:{_REDIS}:redis:/data:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
_GROUP = f"root:x:0:\nwww-data:x:{_WWW}:\nredis:x:{_REDIS}:\napp:x:1000:\nextra:x:1001:app\nnogroup:x:65534:\n"

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_REGISTRY_CONFIG = f"""\
version: 0.1
storage: {{filesystem: {{rootdirectory: /{_STORAGE}}}}}
http: {{addr: 127.0.0.1:5000}}
"""


def registry_layer() -> Path:
    """A folder to put below a registry host's disk; its name tells what it was made from."""
    made_from = [Path(__file__), Path(__file__).with_name("oci.py"), Path(__file__).with_name("system.py"), *sorted(SOURCES.iterdir())]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in made_from)).hexdigest()[:12]
    return cache_directory() / "images" / key


def ensure() -> Path:
    layer = registry_layer()
    if layer.exists():
        return layer
    with locked(cache_directory() / "images.lock"):
        if not layer.exists():
            packages.ensure(["gcc", "libc6-dev"], "a compiler")
            with console.step("Making the test images", account="images"):
                work = layer.with_suffix(".partial")
                remove(work)
                work.mkdir(parents=True)
                try:
                    _fill_registry(work, _images(work))
                    (work / "registry" / "upper").rename(layer)
                finally:
                    remove(work)
    return layer


def _images(work: Path) -> list[Image]:
    base = _base_layer(work)
    echo = _echo_layer(work)
    busybox = {"Cmd": ["sh"], "Env": [_PATH, "VERSION=1"]}

    def made(name: str, *layers: Layer, **config: Any) -> Image:
        return Image(name, list(layers), {"Env": [_PATH], "Cmd": ["sleep", "infinity"], **config})

    nginx = _nginx_layer(work)
    nginx_config = {"ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    images = [
        made("busybox:1", base, **busybox),
        made("busybox:2", base, Cmd=["sh"], Env=[_PATH, "VERSION=2"], Labels={"version": "2"}),
        made("busybox:docker", base, **busybox),
        made("busybox:zstd", Layer(base.tar, "zstd"), **busybox),
        Image("busybox:multi", [base], {**busybox, "Labels": {"arch": "amd64"}},
              others=[Image("", [LayerWriter().add("wrong", data=b"arm64\n").layer()], {}, "arm64")]),
        made("redis:7", base, _redis_layer(work), User="redis", WorkingDir="/data", Volumes={"/data": {}},
             ExposedPorts={"6379/tcp": {}},
             Cmd=["redis-server", "--dir", "/data", "--appendonly", "yes", "--protected-mode", "no"]),
        made("nginx:1", base, nginx, **nginx_config, Cmd=["nginx", "-g", "error_log stderr; daemon off;"]),
        made("nginx:official", base, nginx, _official_nginx_layer(), **nginx_config, Cmd=["nginx", "-g", "daemon off;"]),
        made("big:1", base, LayerWriter().add("big", data=os.urandom(48 << 20)).layer()),
        Image("system:1", [system_layer(work)], {"Cmd": ["/sbin/init"]}),
        made("tricky:1", base, *_tricky_layers()),
        made("devices:1", base, LayerWriter().device("dev-mem", 1, 1).add("fifo", b"6").layer()),
        made("corrupt:1", base, LayerWriter().add("corrupt", data=os.urandom(100_000)).layer()),
        made("truncated:1", base, LayerWriter().add("truncated", data=os.urandom(100_000)).layer()),
        made("gone:1", base, LayerWriter().add("gone", data=os.urandom(100_000)).layer()),
    ]  # fmt: skip
    images += [
        made(f"echo:{version}", base, echo, ExposedPorts={"8080/tcp": {}}, Cmd=["/echo"],
             Env=[_PATH, f"ECHO_VERSION={version}"])
        for version in (1, 2)
    ]  # fmt: skip
    images += [made(f"evil-{name}:1", base, layer) for name, layer in _evil_layers().items()]
    return images


def _base_layer(work: Path) -> Layer:
    root = work / "base"
    bootstrap(root, ["busybox-static"], variant="extract")
    for name in ("usr", "var", "dev", "etc"):
        remove(root / name)
    busybox_links(root)
    for directory in ("root", "home/app", "proc", "sys", "dev", "run", "var/www", "usr/bin", "usr/sbin", "sbin", "lib"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    for name, text in {"passwd": _PASSWD, "group": _GROUP, "nsswitch.conf": "hosts: files dns\n"}.items():
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc" / name).write_text(text)
    return layer_of(root, {"home/app": (1000, 1000)})


def _echo_layer(work: Path) -> Layer:
    root = work / "echo"
    root.mkdir()
    run(["gcc", "-std=gnu17", "-O2", "-static", "-s", "-w", "-o", root / "echo", SOURCES / "echo.c"])
    return layer_of(root)


def _redis_layer(work: Path) -> Layer:
    root = _program(work, "redis-server", "usr/bin/redis-server", "usr/bin/redis-cli")
    (root / "data").mkdir()
    return layer_of(root, {"data": (_REDIS, _REDIS)})


def _nginx_layer(work: Path) -> Layer:
    root = _program(work, "nginx-light", "usr/sbin/nginx", "etc/nginx/mime.types")
    shutil.copyfile(SOURCES / "nginx.conf", root / "etc/nginx/nginx.conf")
    for directory in ("var/log/nginx", "var/lib/nginx", "usr/share/nginx/html"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "usr/share/nginx/html/index.html").write_text("<h1>nginx in Kontena</h1>\n")
    return layer_of(root)


def _official_nginx_layer() -> Layer:
    logging = b"error_log /var/log/nginx/error.log notice;\n"
    access = b"access_log /var/log/nginx/access.log;\n"
    return (
        LayerWriter()
        .symlink("var/log/nginx/access.log", "/dev/stdout").symlink("var/log/nginx/error.log", "/dev/stderr")
        .add("etc/nginx/main.d/log.conf", data=logging).add("etc/nginx/http.d/log.conf", data=access)
        .layer()
    )  # fmt: skip


def _program(work: Path, package: str, *files: str) -> Path:
    """A folder with these files of a package and the shared libraries they need, and nothing else."""
    whole, root = work / f"{package}.deb", work / package
    bootstrap(whole, [package], variant="extract")
    wanted = {f"/{name}" for name in files}
    for program in files:
        if os.access(whole / program, os.X_OK):
            listed = run(["chroot", whole, "/lib64/ld-linux-x86-64.so.2", "--list", f"/{program}"]).stdout
            wanted |= set(re.findall(r"(/\S+) \(0x", listed)) | {"/lib64/ld-linux-x86-64.so.2"}
    for name in sorted(wanted):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(whole / name.lstrip("/"), target)
    remove(whole)
    return root


def _tricky_layers() -> list[Layer]:
    first = (
        LayerWriter()
        .directory("tricky").directory("tricky/opaque").directory("tricky/kept", mode=0o1777)
        .add("tricky/deleted", data=b"must not be seen\n")
        .add("tricky/replaced", data=b"old\n")
        .add("tricky/opaque/old", data=b"must not be seen\n")
        .directory("tricky/becomes-file").add("tricky/becomes-file/inside", data=b"x\n")
        .add("tricky/becomes-directory", data=b"x\n")
        .add("tricky/hard-1", data=b"linked\n").hardlink("tricky/hard-2", "tricky/hard-1")
        .add("tricky/xattr", data=b"x\n", xattrs={"user.kontena": "lab"})
        .add("tricky/capable", data=b"#!/bin/sh\n", mode=0o755)
        .add("tricky/setuid", data=b"#!/bin/sh\n", mode=0o4755)
        .add("tricky/app", data=b"x\n", mode=0o600, owner=(1000, 1001))
        .add("tricky/naïve name ☃", data=b"x\n")
        .add("tricky/" + "long/" * 40 + "name", data=b"x\n")
        .symlink("tricky/dangling", "/does/not/exist")
        .directory("tricky/real").symlink("tricky/link", "real")
    )  # fmt: skip
    second = (
        LayerWriter()
        .add("tricky/.wh.deleted")
        .add("tricky/replaced", data=b"new\n")
        .add("tricky/opaque/.wh..wh..opq").add("tricky/opaque/new", data=b"seen\n")
        .add("tricky/.wh.becomes-file").add("tricky/becomes-file", data=b"file\n")
        .add("tricky/.wh.becomes-directory").directory("tricky/becomes-directory")
        .add("tricky/becomes-directory/inside", data=b"seen\n")
        .add("tricky/link/through", data=b"a parent that is a link inside the root\n")
        .hardlink("tricky/hard-3", "tricky/hard-1")
    )  # fmt: skip
    # A link to a file of a lower layer is not in its own archive: some tools write such.
    return [first.layer(), second.layer()]


def _evil_layers() -> dict[str, Layer]:
    out = b"escaped\n"
    return {
        "dotdot": LayerWriter().add("../../../../../../tmp/escaped-dotdot", data=out).layer(),
        "absolute": LayerWriter().add("/tmp/escaped-absolute", data=out).layer(),
        "symlink": LayerWriter().symlink("way", "/tmp").add("way/escaped-symlink", data=out).layer(),
        "hardlink": LayerWriter().hardlink("secret", "../../../../../../etc/shadow").layer(),
    }


def _fill_registry(work: Path, images: list[Image]) -> None:
    """Run Debian's registry out of the host tree, away from any network, and push everything into it."""
    root = HostRoot(work / "registry")
    root.mount([HOST.ensure()])
    run(["ip", "netns", "delete", _NAMESPACE], check=False)
    run(["ip", "netns", "add", _NAMESPACE])
    inside = ["nsenter", f"--net=/run/netns/{_NAMESPACE}"]
    run([*inside, "ip", "link", "set", "dev", "lo", "up"])
    root.write("tmp/registry.yml", _REGISTRY_CONFIG)
    with open(work / "registry.log", "wb") as log:
        server = subprocess.Popen(
            [*inside, "chroot", root.path, "docker-registry", "serve", "/tmp/registry.yml"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=tool_environment(),
        )  # fmt: skip
        try:
            probe = [*inside, "curl", "-fs", "http://127.0.0.1:5000/v2/"]
            wait_until(lambda: run(probe, check=False).returncode == 0, 20, "answer of docker-registry")
            for image in images:
                _push(inside, work / "layouts" / image.name.replace(":", "-"), image)
        finally:
            server.terminate()
            server.wait()
            (root.path / "tmp/registry.yml").unlink()
            root.unmount()
            run(["ip", "netns", "delete", _NAMESPACE])
    blobs = work / "registry/upper" / _STORAGE / "docker/registry/v2/blobs/sha256"
    by_name = {image.name.partition(":")[0]: image for image in images}
    for name in ("corrupt", "truncated", "gone"):
        blob = _blob(blobs, by_name[name].layers[-1])
        data = bytearray(blob.read_bytes())
        if name == "gone":
            blob.unlink()
        elif name == "truncated":
            blob.write_bytes(data[: len(data) // 2])
        else:
            data[len(data) // 2] ^= 0x01
            blob.write_bytes(data)


def _push(inside: list[str], layout: Path, image: Image) -> None:
    write_layout(layout, image)
    copy = [*inside, "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
    if image.others:
        copy.append("--all")
    if image.name.endswith(":docker"):
        copy.append("--format=v2s2")
    run([*copy, f"oci:{layout}:image", f"docker://127.0.0.1:5000/{image.name}"], what=f"push of {image.name}")
    shutil.rmtree(layout)


def _blob(blobs: Path, layer: Layer) -> Path:
    name = digest(layer.blob).partition(":")[2]
    path = blobs / name[:2] / name / "data"
    if not path.exists():
        raise LabError(f"The registry did not keep blob {name}")
    return path
