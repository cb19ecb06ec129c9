# SPDX-License-Identifier: LGPL-2.1-or-later
"""`kontenactl bootstrap` on a bare machine: master, grid and node of it; and how such a machine stops being a node."""

import json

import pytest

from kontenalab.grid import NODE_CONF
from kontenalab.process import wait_until

IMAGE = "registry:5000/busybox:1"


@pytest.fixture(scope="module")
def host(lab):
    lab.boot(["registry"])
    host = lab.boot(["node8"])[0]
    host.write("/etc/kontena/noded.conf.d/lab.conf", NODE_CONF)
    yield host
    host.reset()


def ctl(host, *args, check=True, **kwargs):
    return host.run(["kontenactl", "--no-pager", *args], check=check, timeout=180, **kwargs)


def instances(host, name):
    return json.loads(ctl(host, "service", "show", "--json=short", name).stdout)["instances"]


def test_without_a_master_it_says_so(host):
    result = ctl(host, "service", "list", check=False)
    assert result.returncode == 8 and "systemctl start kontenad" in result.stderr


def test_only_root_can(host):
    result = ctl(host, "bootstrap", check=False, user="nobody")
    assert result.returncode == 7 and "root" in result.stderr


def test_one_command_makes_a_working_grid(host):
    said = ctl(host, "bootstrap", "--grid=single").stdout
    assert "Making the grid 'single'." in said and "is the master of the grid 'single' and a node of it" in said
    status = ctl(host, "status")
    assert "1 of 1 online" in status.stdout
    assert host.run("systemctl is-enabled kontenad kontena-noded").stdout.split() == ["enabled", "enabled"]

    deployed = ctl(host, "service", "create", "--deploy", "hello", IMAGE, "--", "sh", "-c", "echo hello from $KONTENA_SERVICE_NAME; sleep 1000")
    assert "'hello' is deployed: 1 of 1 running" in deployed.stdout
    assert [i["state"] for i in instances(host, "hello")] == ["running"]
    wait_until(lambda: "hello from hello" in ctl(host, "service", "logs", "hello").stdout, 20, "the log line", 0.5)


def test_it_can_be_repeated(host):
    node = ctl(host, "node", "list", "-q").stdout
    said = ctl(host, "bootstrap", "--grid=single").stdout
    assert "Grid 'single' exists." in said and "This machine is a node of it." in said
    assert ctl(host, "node", "list", "-q").stdout == node
    assert [i["state"] for i in instances(host, "hello")] == ["running"]


def test_a_failed_deploy_says_the_whole_reason(host):
    result = ctl(host, "service", "create", "--deploy", "nosuch", "registry:5000/nosuch:9", check=False)
    assert result.returncode == 1 and "registry:5000/nosuch" in result.stderr
    ctl(host, "service", "remove", "--force", "nosuch")


def test_a_deploy_is_followed_over_a_restart_of_the_master(host):
    process = host.popen(["kontenactl", "--no-pager", "service", "create", "--deploy", "--wait-for-port=80", "slow", IMAGE, "--",
                          "sh", "-c", "sleep 5; exec httpd -f -p 80"])  # fmt: skip
    wait_until(lambda: "slow" in ctl(host, "service", "list", "-q").stdout, 20, "the service", 0.2)
    wait_until(lambda: ctl(host, "deploy", "list", "-q", "slow").stdout.strip(), 20, "the deploy", 0.2)
    host.run("systemctl restart kontenad")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, (stdout, stderr)
    assert [i["state"] for i in instances(host, "slow")] == ["running"]
    ctl(host, "service", "remove", "--force", "slow")


def test_leaving_is_refused_while_instances_run(host):
    result = ctl(host, "node", "leave", check=False)
    assert result.returncode == 5 and "--force" in result.stderr
    assert [i["state"] for i in instances(host, "hello")] == ["running"]


def test_leaving_by_force_ends_them(host):
    unit = instances(host, "hello")[0]["unit"]
    ctl(host, "node", "leave", "--force")
    assert host.run(["systemctl", "is-active", unit], check=False).stdout.strip() in ("inactive", "failed")
    assert host.run("systemctl is-enabled kontena-noded", check=False).stdout.strip() == "disabled"
    assert host.run("ls /var/lib/kontena/node/key.pem", check=False).returncode != 0
    wait_until(lambda: json.loads(ctl(host, "node", "list", "--json=short").stdout)[0]["state"] == "offline", 60, "offline", 0.5)
