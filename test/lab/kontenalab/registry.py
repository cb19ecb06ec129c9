# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's docker-registry on the host 'registry', three times over the same images, all by https.

    5000    open to all
    5001    asks for USER and PASSWORD (basic authentication)
    5002    asks for a token of the server on 5003: anybody may pull busybox, USER may pull everything

Its storage comes from the cache of test images as one more layer below the host's disk, so that each lab may
damage its own copy.
"""

from pathlib import Path

from . import images, pki
from .root import HostRoot

_SOURCES = Path(__file__).resolve().parents[1] / "registry"

USER, PASSWORD = "lab", "kontena"

_STORAGE = "/var/lib/docker-registry"

_CONFIG = """\
version: 0.1
log: {{level: info}}
storage:
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
  filesystem: {{rootdirectory: {storage}}}
http:
  addr: :{port}
  tls: {{certificate: /etc/docker/registry/registry.pem, key: /etc/docker/registry/registry.key}}
"""

_AUTH = """\
auth:
  htpasswd: {realm: lab, path: /etc/docker/registry/htpasswd}
"""

# bcrypt of PASSWORD
_HTPASSWD = f"{USER}:$2b$05$kontenalabkontenalabkOPAIxlV5h1RyUX7n65y0KFWnHiv1O.oK\n"

_TOKEN = """\
auth:
  token:
    realm: https://registry:5003/token
    service: lab
    issuer: lab
    rootcertbundle: /etc/docker/registry/token.pem
"""

_UNIT = """\
[Unit]
Description={description}
[Service]
ExecStart={command}
[Install]
WantedBy=multi-user.target
"""

# Names that are in no grid: what the nodes' resolvers forward to.
_DNS = (
    "/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --addn-hosts=/etc/hosts "
    "--address=/world.example/198.51.100.1 --local-ttl=1 --user=root --pid-file="
)

_SERVE = "/usr/bin/docker-registry serve /etc/docker/registry"

# unit, what it is, command
_SERVICES = (
    ("lab-password-registry.service", "Registry that asks for a password", f"{_SERVE}/password.yml"),
    ("lab-token-registry.service", "Registry that asks for a token", f"{_SERVE}/token.yml"),
    ("lab-token-server.service", "Server of tokens", f"/usr/bin/python3 /usr/local/bin/token-server {USER}:{PASSWORD}"),
    ("lab-dns.service", "Name server of the lab", _DNS),
)


class Registry:
    def ensure(self) -> None:
        """Have the test images in the cache."""

        images.ensure()

    def layers(self) -> list[Path]:
        return [images.ensure()]

    def prepare(self, root: HostRoot) -> None:
        crt, key = pki.certificate("registry", "172.30.0.5")
        folder = "etc/docker/registry"
        root.copy(crt, f"{folder}/registry.pem")
        root.copy(key, f"{folder}/registry.key")
        for port, name, auth in ((5000, "config", ""), (5001, "password", _AUTH), (5002, "token", _TOKEN)):
            root.write(f"{folder}/{name}.yml", _CONFIG.format(storage=_STORAGE, port=port) + auth)
        root.write(f"{folder}/htpasswd", _HTPASSWD)
        crt, key = pki.token_certificate()
        root.copy(crt, f"{folder}/token.pem")
        root.copy(key, f"{folder}/token.key", 0o600)
        root.copy(_SOURCES / "token-server.py", "usr/local/bin/token-server", 0o755)
        # What is below the host's disk belongs to root.
        root.write("etc/systemd/system/docker-registry.service.d/lab.conf", "[Service]\nUser=root\n")
        root.enable("docker-registry.service")
        for unit, description, command in _SERVICES:
            root.write(f"lib/systemd/system/{unit}", _UNIT.format(description=description, command=command))
            root.enable(unit)
