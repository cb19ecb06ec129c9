# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's docker-registry on the host 'registry': https on 5000, and on 5001 the same with a password.

Its storage comes from the cache of test images as one more layer below the host's disk, so that each lab may
damage its own copy.
"""

from pathlib import Path

from . import images, pki
from .root import HostRoot

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

_PRIVATE_UNIT = """\
[Unit]
Description=Registry that asks for a password
[Service]
ExecStart=/usr/bin/docker-registry serve /etc/docker/registry/private.yml
[Install]
WantedBy=multi-user.target
"""

# Names that are in no grid: what the nodes' resolvers forward to.
_DNS_UNIT = """\
[Unit]
Description=Name server of the lab
[Service]
ExecStart=/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --addn-hosts=/etc/hosts \\
        --address=/world.example/198.51.100.1 --local-ttl=1 --user=root --pid-file=
[Install]
WantedBy=multi-user.target
"""


class Registry:
    def ensure(self) -> None:
        """Have the test images in the cache."""

        images.ensure()

    def layers(self) -> list[Path]:
        return [images.registry_layer()]

    def prepare(self, root: HostRoot) -> None:
        crt, key = pki.certificate("registry", "172.30.0.5")
        root.copy(crt, "etc/docker/registry/registry.pem")
        root.copy(key, "etc/docker/registry/registry.key")
        public = _CONFIG.format(storage=_STORAGE, port=5000)
        root.write("etc/docker/registry/config.yml", public)
        root.write("etc/docker/registry/private.yml", _CONFIG.format(storage=_STORAGE, port=5001) + _AUTH)
        root.write("lib/systemd/system/lab-private-registry.service", _PRIVATE_UNIT)
        root.write("lib/systemd/system/lab-dns.service", _DNS_UNIT)
        root.write("etc/docker/registry/htpasswd", _HTPASSWD)
        # What is below the host's disk belongs to root.
        root.write("etc/systemd/system/docker-registry.service.d/lab.conf", "[Service]\nUser=root\n")
        for unit in ("docker-registry.service", "lab-private-registry.service", "lab-dns.service"):
            root.enable(unit)
