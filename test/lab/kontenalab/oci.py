# SPDX-License-Identifier: LGPL-2.1-or-later
"""OCI images written by hand, so that a test can have any layer it wants, also a wrong one."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .process import run

_EPOCH = 1700000000
_CREATED = "2023-11-14T22:13:20Z"

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

Owner = tuple[int, int]


@dataclass
class Layer:
    """A tar archive, and how it travels."""

    tar: bytes
    compression: str = "gzip"

    @property
    def diff_id(self) -> str:
        return digest(self.tar)

    @property
    def blob(self) -> bytes:
        if self.compression == "gzip":
            return gzip.compress(self.tar, 6, mtime=0)
        if self.compression == "zstd":
            return run(["zstd", "-q", "-c"], input=self.tar).raw
        return self.tar

    @property
    def media_type(self) -> str:
        return LAYER + (f"+{self.compression}" if self.compression else "")


@dataclass
class Image:
    """What is pushed under one tag. `config` holds Cmd, Env, ExposedPorts and the like."""

    name: str
    layers: list[Layer]
    config: dict[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"
    others: "list[Image]" = field(default_factory=list)     # for other architectures: makes it an index


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_of(root: Path, owners: dict[str, Owner] | None = None, compression: str = "gzip") -> Layer:
    """A folder as a layer; all is root's but what `owners` names."""
    known = owners or {}

    def adapt(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid, info.gid = known.get(info.name, (0, 0))
        info.uname = info.gname = ""
        info.mtime = _EPOCH
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, str(path.relative_to(root)), recursive=False, filter=adapt)
    return Layer(buffer.getvalue(), compression)


class LayerWriter:
    """A layer entry by entry, with names and types that no tar program would write."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._archive = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)

    def add(
        self,
        name: str,
        kind: bytes = tarfile.REGTYPE,
        *,
        data: bytes = b"",
        target: str = "",
        mode: int = 0o644,
        owner: Owner = (0, 0),
        xattrs: dict[str, str] | None = None,
        device: Owner = (0, 0),
    ) -> "LayerWriter":
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size, info.mtime = kind, target, len(data), _EPOCH
        info.mode = 0o755 if kind == tarfile.DIRTYPE and mode == 0o644 else mode
        info.uid, info.gid = owner
        info.devmajor, info.devminor = device
        info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
        self._archive.addfile(info, io.BytesIO(data) if data else None)
        return self

    def directory(self, name: str, **kwargs: Any) -> "LayerWriter":
        return self.add(name, tarfile.DIRTYPE, **kwargs)

    def symlink(self, name: str, target: str) -> "LayerWriter":
        return self.add(name, tarfile.SYMTYPE, target=target, mode=0o777)

    def hardlink(self, name: str, target: str) -> "LayerWriter":
        return self.add(name, tarfile.LNKTYPE, target=target)

    def device(self, name: str, major: int, minor: int) -> "LayerWriter":
        return self.add(name, tarfile.CHRTYPE, device=(major, minor), mode=0o666)

    def layer(self, compression: str = "gzip") -> Layer:
        self._archive.close()
        return Layer(self._buffer.getvalue(), compression)


def write_layout(directory: Path, image: Image) -> None:
    """An OCI image layout with the image (or the index of images) under the tag 'image'."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        name = digest(data)
        path = blobs / name.partition(":")[2]
        if not path.exists():
            path.write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data), **more}

    descriptor = _put_manifest(image, put)
    if image.others:
        entries = [_with_platform(descriptor, image)]
        entries += [_with_platform(_put_manifest(other, put), other) for other in image.others]
        descriptor = put(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), INDEX)
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": "image"}
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [descriptor]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _put_manifest(image: Image, put: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    layers = [put(layer.blob, layer.media_type) for layer in image.layers]
    config = {
        "architecture": image.architecture,
        "os": "linux",
        "created": _CREATED,
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
        "history": [{"created": _CREATED, "created_by": "kontena lab"} for _ in image.layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(_json(config), CONFIG),
        "layers": layers,
    }
    return put(_json(manifest), MANIFEST)


def _with_platform(descriptor: dict[str, Any], image: Image) -> dict[str, Any]:
    return {**descriptor, "platform": {"architecture": image.architecture, "os": "linux"}}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def busybox_links(root: Path) -> None:
    """Each applet of root/bin/busybox as a link beside it."""
    for applet in run([root / "bin/busybox", "--list"]).stdout.split():
        if not os.path.lexists(root / "bin" / applet):
            (root / "bin" / applet).symlink_to("busybox")
