# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trap 6 and 7: a deploy that cannot succeed ends with the reason of each node, whole."""

from kontenalab.grid import unique


def test_each_node_is_named_with_its_constraint(grid):
    name = unique("nowhere")
    try:
        grid.ctl("service", "create", "--affinity=label==gpu=yes", name, "registry:5000/busybox:1", "--", "sleep", "1000")
        result = grid.deploy(name, check=False)
        assert result.returncode != 0
        said = result.stdout + result.stderr
        for node in ("node1", "node2", "node3"):
            assert node in said, said
        assert "gpu=yes" in said
    finally:
        grid.remove(name)


def test_port_conflict_names_the_holder(grid):
    first, second = unique("holder"), unique("late")
    with grid.service(first, "busybox:1", "--deploy-strategy=daemon", "--ports=8070:80", "--", "sleep", "infinity"):
        try:
            grid.ctl("service", "create", "--ports=8070:80", second, "registry:5000/busybox:1", "--", "sleep", "1000")
            result = grid.deploy(second, check=False)
            assert result.returncode != 0
            assert "8070" in result.stdout + result.stderr
            assert first in result.stdout + result.stderr
        finally:
            grid.remove(second)


def test_missing_image_is_named(grid):
    name = unique("noimage")
    try:
        grid.ctl("service", "create", name, "registry:5000/nosuch:9")
        result = grid.deploy(name, check=False)
        assert result.returncode != 0
        assert "registry:5000/nosuch:9" in result.stdout + result.stderr
    finally:
        grid.remove(name)


def test_malformed_image_name_is_refused_at_once(grid):
    result = grid.ctl("service", "create", unique("bad"), "registry:5000/UPPER case", check=False)
    assert result.returncode == 2
    assert "UPPER case" in result.stderr


def test_missing_program_is_named(grid):
    name = unique("noprogram")
    try:
        grid.ctl("service", "create", name, "registry:5000/busybox:1", "--", "/no/such/program")
        result = grid.deploy(name, check=False)
        assert result.returncode != 0
        assert "/no/such/program" in result.stdout + result.stderr
    finally:
        grid.remove(name)


def test_corrupt_layer_is_refused_by_its_digest(grid):
    name = unique("corrupt")
    try:
        grid.ctl("service", "create", name, "registry:5000/corrupt:1")
        result = grid.deploy(name, check=False)
        assert result.returncode != 0
        assert "corrupt" in result.stdout + result.stderr and "sha256:" in result.stdout + result.stderr
    finally:
        grid.remove(name)
