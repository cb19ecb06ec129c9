# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys of the lab: a certificate authority for its registry, and an ssh key that opens every host."""

from pathlib import Path

from .process import locked, run
from .settings import cache_directory

_DAYS = "3650"


def directory() -> Path:
    return cache_directory() / "pki"


def authority() -> Path:
    return directory() / "ca.pem"


def ssh_key() -> Path:
    return directory() / "id_ed25519"


def ensure() -> None:
    with locked(cache_directory() / "pki.lock"):
        if not authority().exists():
            directory().mkdir(parents=True, exist_ok=True, mode=0o700)
            _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", "/CN=Kontena lab", "-days", _DAYS, "-keyout", "ca.key", "-out", "ca.pem",
                     "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
        if not ssh_key().exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kontena-lab", "-f", ssh_key()])
        certificate("registry", "172.30.0.5")


def certificate(name: str, address: str) -> tuple[Path, Path]:
    """Certificate and key of a server of the lab, made when it is first asked for."""
    crt, key = directory() / f"{name}.pem", directory() / f"{name}.key"
    if not crt.exists():
        extensions = directory() / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name},DNS:localhost,IP:{address},IP:127.0.0.1\n"
                              "extendedKeyUsage=serverAuth\n")  # fmt: skip
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", f"/CN={name}", "-keyout", key.name, "-out", f"{name}.csr")  # fmt: skip
        _openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-days", _DAYS, "-extfile", extensions.name, "-out", crt.name)  # fmt: skip
    return crt, key


def token_certificate() -> tuple[Path, Path]:
    """What the token server signs with; the registry trusts exactly this."""
    crt, key = directory() / "token.pem", directory() / "token.key"
    with locked(cache_directory() / "pki.lock"):
        if not crt.exists():
            _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Kontena lab tokens",
                     "-days", _DAYS, "-keyout", key.name, "-out", crt.name)  # fmt: skip
    return crt, key


def _openssl(*arguments: str) -> None:
    run(["openssl", *arguments], cwd=directory())
