# SPDX-License-Identifier: LGPL-2.1-or-later
"""The search for a secret in all that is on a host's disk or shown to somebody there."""

import base64

from .host import Host

# Everything that is on a disk or shown to somebody; config.json of a running container and its ramfs are not: they are what it reads.
LOOK = """
n="$1"; h="$2"; found=
journalctl --no-pager -o export --boot=all 2>/dev/null | grep -a -c -e "$n" | grep -qvx 0 && found="$found journal"
grep -r -a -q -e "$n" -e "$h" /run/systemd/transient /run/systemd/system /etc/systemd 2>/dev/null && found="$found units"
grep -r -a -q -e "$n" -e "$h" /var/lib/kontena/node /var/lib/kontena/master /var/lib/kontena/instances 2>/dev/null && found="$found state"
for p in /proc/[0-9]*; do
  [ "$p" = /proc/$$ ] && continue
  tr '\\0' '\\n' < $p/cmdline 2>/dev/null | grep -v -x -F -e "sh" | grep -a -q -e "$n" && [ "$(cat $p/comm 2>/dev/null)" != grep ] && found="$found $p"
done
for u in $(systemctl list-units --all --plain --no-legend 'kontena*' | cut -d' ' -f1); do
  systemctl show --all "$u" | grep -a -q -e "$n" && found="$found property:$u"
done
echo "$found"
"""


def look(host: Host, needle: str) -> list[str]:
    """Where the text is. It is handed over in a file, so that the search is not what is found."""
    host.write("/run/needle", needle, 0o600)
    script = LOOK.replace('n="$1"; h="$2"', 'n=$(cat /run/needle); h=$(base64 -w0 /run/needle)')
    script = script.replace('-e "$n" -e "$h"', "-f /run/needles").replace('-e "$n"', "-f /run/needle")
    host.write("/run/needles", needle + "\n" + base64.b64encode(needle.encode()).decode() + "\n", 0o600)
    host.write("/run/look", script, 0o700)
    try:
        return host.run("sh /run/look", timeout=60).stdout.split()
    finally:
        host.run("rm -f /run/needle /run/needles /run/look")
