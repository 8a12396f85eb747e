"""The description of the API: valid, complete, and true."""

from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from openapi_pydantic import OpenAPI

from models import Mentorado
from tests.support.types import Sign
from tests.support.users import ALICE, BOB
from web.openapi import IMPLIED, PLACE
from web.problem_responses import API_PREFIXES
from web.problems import PROBLEMS

PAGES = {"/api/docs"}  # for people
MARCH = "/api/mentorados/me/metricas/2026/3"

Document = dict[str, Any]


@pytest.fixture
def document(client: FlaskClient) -> Document:
    """The description as everybody gets it."""
    found = client.get("/api/openapi.json").json
    assert isinstance(found, dict)
    return found


def operations(document: Document) -> dict[tuple[str, str], Document]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def problems(document: Document, path: str, method: str) -> set[str]:
    responses = document["paths"][path][method]["responses"]
    return {
        code
        for response in responses.values()
        for media in response.get("content", {}).values()
        for part in media["schema"].get("allOf", ())
        for code in part.get("properties", {}).get("code", {}).get("enum", ())
    }


def test_it_is_a_valid_document(document: Document) -> None:
    assert document["openapi"].startswith("3.1")
    assert OpenAPI.model_validate(document).info.title == "Neon Dashboard"


def test_programs_that_read_such_documents_can_read_it(document: Document) -> None:
    schema = schemathesis.openapi.from_dict(document)

    assert schema.statistic.operations.total == len(operations(document))


def test_every_call_of_the_api_is_described(app: Flask, document: Document) -> None:
    calls = {
        (method, PLACE.sub(r"{\g<name>}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(API_PREFIXES) or rule.endpoint.startswith("ops.")
        for method in (rule.methods or set()) - IMPLIED
        if rule.rule not in PAGES
    }

    assert set(operations(document)) == calls


def test_every_call_says_in_a_sentence_what_it_does(document: Document) -> None:
    silent = [call for call, told in operations(document).items() if not told["summary"]]

    assert silent == []


def test_every_documented_refusal_is_in_the_table(document: Document) -> None:
    refusals = [
        (int(status), code)
        for operation in operations(document).values()
        for status, response in operation["responses"].items()
        if "application/problem+json" in response.get("content", {})
        for code in response["description"].split(", ")
    ]

    assert {(PROBLEMS[code].status, code) for _, code in refusals} == set(refusals)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("get", "/healthz", {"invalid_host"}),
        ("get", "/api/openapi.json", {"invalid_host", "internal", "rate_limited"}),
        (
            "get",
            "/api/admin/sweeps/{run_id}",
            {
                *("unauthenticated", "forbidden", "not_found", "rate_limited"),
                *("provisioning_unavailable", "provisioning_needs_attention"),
                *("database_unavailable", "internal", "invalid_host"),
            },
        ),
    ],
)
def test_call_lists_what_can_happen_to_it(
    document: Document, method: str, path: str, expected: set[str]
) -> None:
    assert problems(document, path, method) == expected


def test_writes_can_be_too_large_of_another_kind_or_from_elsewhere(document: Document) -> None:
    told = problems(document, "/api/mentorados/me/metricas/{ano}/{mes}", "put")

    assert told >= {"payload_too_large", "unsupported_media_type", "csrf_failed", "invalid_input"}


@pytest.mark.parametrize(
    ("path", "method", "status", "header"),
    [
        ("/api/auth/me", "get", "429", "Retry-After"),
        ("/api/auth/me", "get", "503", "Retry-After"),
        ("/api/admin/sweeps", "post", "202", "Location"),
        ("/healthz", "get", "200", "X-Request-ID"),
    ],
)
def test_headers_that_say_how_to_go_on_are_described(
    document: Document, path: str, method: str, status: str, header: str
) -> None:
    assert header in document["paths"][path][method]["responses"][status]["headers"]


def test_only_public_calls_need_no_token(document: Document) -> None:
    open_to_all = {path for (_, path), told in operations(document).items() if not told["security"]}

    assert open_to_all == {
        *("/healthz", "/readyz", "/metrics"),
        *("/webhooks/clerk", "/api/openapi.json"),
    }


def test_ids_are_described_as_the_router_reads_them(document: Document) -> None:
    [place] = document["paths"]["/api/mentorados/{mentorado_id}"]["get"]["parameters"]

    assert place["schema"] == {"type": "integer", "minimum": 1, "maximum": 2_147_483_647}


def test_lists_are_described_as_their_query_is_read(document: Document) -> None:
    asked = document["paths"]["/api/admin/users"]["get"]["parameters"]

    assert [parameter["name"] for parameter in asked] == ["cursor", "limit", "q", "state"]
    bounds = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1, "default": 200}
    assert bounds.items() <= asked[1]["schema"].items()


def test_profit_alone_is_described_as_possibly_negative(document: Document) -> None:
    fields = document["components"]["schemas"]["MonthReport"]["properties"]
    least = {name: field["minimum"] for name, field in fields.items() if "minimum" in field}

    assert least.pop("lucro") == -2_147_483_648
    assert set(least.values()) == {0}


def check(document: Document, call: str, person: dict[str, str], client: FlaskClient) -> int:
    """Make the call and hold the answer against its description; returns the status."""
    method, url, path, *body = call.split(" ")
    answer = client.open(
        url,
        method=method,
        headers=person,
        data="".join(body) or None,
        content_type="application/json",
    )
    told = document["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    schema = told["content"][answer.mimetype]["schema"]
    jsonschema_rs.validate({**schema, "components": document["components"]}, answer.json)
    return answer.status_code


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("GET /api/auth/me /api/auth/me", 200),
        ("POST /api/auth/ensure /api/auth/ensure", 201),
        ("GET /api/auth/diagnostic /api/auth/diagnostic", 200),
        ("GET /api/mentorados/me/overview /api/mentorados/me/overview", 200),
        (f'PUT {MARCH} /api/mentorados/me/metricas/{{ano}}/{{mes}} {{"lucro":1}}', 200),
        (f'PUT {MARCH} /api/mentorados/me/metricas/{{ano}}/{{mes}} {{"lucro":-1}}', 200),
        (f'PUT {MARCH} /api/mentorados/me/metricas/{{ano}}/{{mes}} {{"leads":-1}}', 422),
        ("GET /api/admin/users /api/admin/users", 403),
    ],
)
def test_what_a_mentee_is_answered_is_as_described(
    client: FlaskClient, document: Document, sign: Sign, call: str, status: int
) -> None:
    assert check(document, call, sign(BOB), client) == status


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("GET /api/admin/users /api/admin/users", 200),
        ("GET /api/admin/mentorados?limit=1 /api/admin/mentorados", 200),
        ("GET /api/admin/audit /api/admin/audit", 200),
        ("GET /api/admin/settings/auto-create /api/admin/settings/auto-create", 200),
        ('POST /api/admin/sweeps /api/admin/sweeps {"dry_run":true}', 202),
        ("GET /api/admin/sweeps/7 /api/admin/sweeps/{run_id}", 404),
        ("GET /readyz /readyz", 200),
        ("POST /webhooks/clerk /webhooks/clerk", 503),
    ],
)
def test_what_an_admin_is_answered_is_as_described(
    client: FlaskClient, document: Document, admin: dict[str, str], call: str, status: int
) -> None:
    assert check(document, call, admin, client) == status


def test_merge_is_answered_as_described(
    client: FlaskClient, document: Document, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    client.put(MARCH, json={"lucro": 1}, headers=sign(ALICE))
    new = client.post("/api/admin/mentorados", json={"nome_completo": "Eva"}, headers=admin)
    into = (new.json or {})["id"]
    path = "/api/admin/mentorados/{mentorado_id}/merge"
    url = path.format(mentorado_id=alice.id)

    body = f'{{"into":{into},"dry_run":true}}'

    assert check(document, f"POST {url} {path} {body}", admin, client) == 200
