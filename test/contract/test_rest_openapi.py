# SPDX-License-Identifier: LGPL-2.1-or-later
"""The description at /v1/openapi.json is OpenAPI 3.0, and says what is served: not less, and nothing else."""

import re
from collections.abc import Iterator

import pytest

from restlib import RestMaster

METHODS = {"get", "put", "post", "delete", "patch"}
TYPES = {"string", "integer", "number", "boolean", "array", "object"}
SCHEMA_KEYS = {"type", "description", "nullable", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "pattern", "enum", "items",
               "properties", "required"}  # fmt: skip


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with RestMaster(tmp_path_factory.mktemp("rest")) as m:
        yield m


@pytest.fixture(scope="module")
def api(master: RestMaster) -> dict:
    return master.get("/v1/openapi.json").json  # type: ignore[return-value]


def check_schema(s: dict) -> None:
    assert set(s) <= SCHEMA_KEYS, s
    assert "type" not in s or s["type"] in TYPES
    assert ("items" in s) == (s.get("type") == "array")
    if "pattern" in s:
        re.compile(s["pattern"])
    for one in [*s.get("properties", {}).values(), *([s["items"]] if "items" in s else [])]:
        check_schema(one)
    assert set(s.get("required", [])) <= set(s.get("properties", {}))


def test_it_is_openapi_3(api: dict) -> None:
    assert re.fullmatch(r"3\.0\.\d", api["openapi"]) and set(api) == {"openapi", "info", "paths", "components"}
    assert {"title", "version"} <= set(api["info"])
    assert api["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in api["paths"].items():
        assert path.startswith("/") and set(item) <= METHODS
        for operation in item.values():
            assert set(operation) <= {"summary", "parameters", "requestBody", "responses", "security", "x-kontena-operation", "x-kontena-role"}
            assert operation["summary"] and operation["responses"]
            assert all(re.fullmatch(r"\d{3}", status) and r["description"] for status, r in operation["responses"].items())
            assert all(s in ({}, {"token": []}) for s in operation["security"]) and operation["security"]
            in_path = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
            assert in_path == re.findall(r"\{(\w+)\}", path) and len(set(in_path)) == len(in_path)
            for p in operation["parameters"]:
                assert p["in"] in ("path", "query") and (p["in"] == "query" or p["required"] is True)
                check_schema(p["schema"])
            for media in operation.get("requestBody", {"content": {}})["content"].values():
                check_schema(media["schema"])


def test_all_that_is_described_is_there(master: RestMaster, api: dict) -> None:
    """Without a token each refuses, or answers if it is open; none is unknown."""
    for path, item in api["paths"].items():
        for method, operation in item.items():
            url = re.sub(r"\{\w+\}", "x", path)
            a = master.request(method.upper(), url, {} if method != "get" else None)
            if {} in operation["security"]:
                assert a.status != 404 or "{" in path, (method, path, a)
            else:
                assert a.status == 403 and a.json["error"] == "invalid_token", (method, path, a)


def test_the_reference_paths_of_this_part_are_described(api: dict) -> None:
    wanted = """GET / | GET /v1/ping | GET /code | POST /v1/auth | POST /oauth2/token | POST /oauth2/authorize | GET /oauth2/tokens | GET /oauth2/tokens/x
        | DELETE /oauth2/tokens/x | GET /authenticate | GET /cb | GET /v1/user | GET /v1/users | DELETE /v1/users/x | POST /v1/users/x/roles
        | DELETE /v1/users/x/roles/x | GET /v1/config | PATCH /v1/config | PUT /v1/config | DELETE /v1/config | GET /v1/config/x | DELETE /v1/config/x
        | GET /v1/grids | POST /v1/grids | GET /v1/grids/x | PUT /v1/grids/x | DELETE /v1/grids/x | GET /v1/grids/x/users | POST /v1/grids/x/users
        | DELETE /v1/grids/x/users/x | GET /v1/grids/x/audit_log | GET /v1/audit_logs | GET /v1/grids/x/event_logs | GET /v1/stacks/x/x/event_logs
        | GET /v1/services/x/x/x/event_logs"""  # fmt: skip
    served = {f"{m.upper()} {re.sub(r'{[^}]*}', 'x', p)}" for p, item in api["paths"].items() for m in item}
    missing = [w.strip() for w in wanted.split("|") if w.strip() not in served]
    assert missing == []
