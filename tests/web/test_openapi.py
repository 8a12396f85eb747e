"""The OpenAPI document is valid and complete, and it matches the responses."""

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
from web.errors import PROBLEMS
from web.openapi import IMPLIED_METHODS, PATH_PARAMETER
from web.session import API_PREFIXES

PROBLEM = "application/problem+json"
PAGES = {"/api/docs"}  # HTML pages
MARCH = "/api/mentorados/me/metricas/2026/3"

Document = dict[str, Any]


@pytest.fixture
def document(client: FlaskClient) -> Document:
    """The document as an anonymous client receives it."""
    loaded = client.get("/api/openapi.json").json
    assert isinstance(loaded, dict)
    return loaded


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
        if PROBLEM in response.get("content", {})
        for code in response["description"].split(", ")
    }


def test_document_is_valid(document: Document) -> None:
    assert document["openapi"].startswith("3.1")
    assert OpenAPI.model_validate(document).info.title == "Neon Dashboard"


def test_titles_are_unique_and_errors_are_plain_references(document: Document) -> None:
    schemas = document["components"]["schemas"]
    problem_schemas = [
        content[PROBLEM]["schema"]
        for operation in operations(document).values()
        for response in operation["responses"].values()
        if PROBLEM in (content := response.get("content", {}))
    ]

    assert {name: schema["title"] for name, schema in schemas.items()} == {n: n for n in schemas}
    reference = {"$ref": "#/components/schemas/ProblemDocument"}
    assert all(schema == reference for schema in problem_schemas)


def test_schemathesis_can_read_the_document(document: Document) -> None:
    schema = schemathesis.openapi.from_dict(document)

    assert schema.statistic.operations.total == len(operations(document))


def test_every_route_of_the_api_is_documented(app: Flask, document: Document) -> None:
    routes = {
        (method, PATH_PARAMETER.sub(r"{\g<name>}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(API_PREFIXES) or rule.endpoint.startswith("ops.")
        for method in (rule.methods or set()) - IMPLIED_METHODS
        if rule.rule not in PAGES
    }

    assert set(operations(document)) == routes


def test_every_operation_has_a_summary(document: Document) -> None:
    without_summary = [
        call for call, documented in operations(document).items() if not documented["summary"]
    ]

    assert without_summary == []


def test_every_documented_error_is_in_the_problem_table(document: Document) -> None:
    documented = [
        (int(status), code)
        for operation in operations(document).values()
        for status, response in operation["responses"].items()
        if PROBLEM in response.get("content", {})
        for code in response["description"].split(", ")
    ]

    assert {(PROBLEMS[code].status, code) for _, code in documented} == set(documented)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("get", "/healthz", {"invalid_host"}),
        ("get", "/api/openapi.json", {"invalid_host", "internal", "rate_limited"}),
        (
            "get",
            "/api/admin/sweeps/{run_id}",
            {
                "unauthenticated",
                "forbidden",
                "not_found",
                "rate_limited",
                "provisioning_unavailable",
                "provisioning_needs_attention",
                "database_unavailable",
                "internal",
                "invalid_host",
            },
        ),
    ],
)
def test_operation_lists_its_errors(
    document: Document, method: str, path: str, expected: set[str]
) -> None:
    assert problems(document, path, method) == expected


def test_write_operation_lists_errors_of_its_body_and_origin(document: Document) -> None:
    documented = problems(document, "/api/mentorados/me/metricas/{ano}/{mes}", "put")

    assert documented >= {
        "payload_too_large",
        "unsupported_media_type",
        "csrf_failed",
        "invalid_input",
    }


@pytest.mark.parametrize(
    ("path", "method", "status", "header"),
    [
        ("/api/auth/me", "get", "429", "Retry-After"),
        ("/api/auth/me", "get", "503", "Retry-After"),
        ("/api/admin/sweeps", "post", "202", "Location"),
        ("/healthz", "get", "200", "X-Request-ID"),
    ],
)
def test_response_headers_are_documented(
    document: Document, path: str, method: str, status: str, header: str
) -> None:
    assert header in document["paths"][path][method]["responses"][status]["headers"]


def test_only_public_operations_need_no_token(document: Document) -> None:
    public = {
        path for (_, path), documented in operations(document).items() if not documented["security"]
    }

    assert public == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/webhooks/clerk",
        "/api/openapi.json",
    }


def test_ids_have_the_limits_of_the_router(document: Document) -> None:
    [parameter] = document["paths"]["/api/mentorados/{mentorado_id}"]["get"]["parameters"]

    assert parameter["schema"] == {"type": "integer", "minimum": 1, "maximum": 2_147_483_647}


def test_list_parameters_are_documented(document: Document) -> None:
    parameters = document["paths"]["/api/admin/users"]["get"]["parameters"]

    assert [parameter["name"] for parameter in parameters] == ["cursor", "limit", "q", "state"]
    bounds = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1, "default": 200}
    assert bounds.items() <= parameters[1]["schema"].items()


def test_only_the_profit_may_be_negative(document: Document) -> None:
    fields = document["components"]["schemas"]["MonthReport"]["properties"]
    minimums = {name: field["minimum"] for name, field in fields.items() if "minimum" in field}

    assert minimums.pop("lucro") == -2_147_483_648
    assert set(minimums.values()) == {0}


def status_of_valid_response(
    document: Document, call: str, headers: dict[str, str], client: FlaskClient
) -> int:
    """Send the request and validate the response against the document; return the status."""
    method, url, path, *body = call.split(" ")
    response = client.open(
        url,
        method=method,
        headers=headers,
        data="".join(body) or None,
        content_type="application/json",
    )
    documented = document["paths"][path][method.lower()]["responses"][str(response.status_code)]
    schema = documented["content"][response.mimetype]["schema"]
    jsonschema_rs.validate({**schema, "components": document["components"]}, response.json)
    return response.status_code


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
def test_responses_for_a_mentee_match_the_document(
    client: FlaskClient, document: Document, sign: Sign, call: str, status: int
) -> None:
    assert status_of_valid_response(document, call, sign(BOB), client) == status


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
def test_responses_for_an_admin_match_the_document(
    client: FlaskClient, document: Document, admin: dict[str, str], call: str, status: int
) -> None:
    assert status_of_valid_response(document, call, admin, client) == status


def test_response_of_a_merge_matches_the_document(
    client: FlaskClient, document: Document, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    client.put(MARCH, json={"lucro": 1}, headers=sign(ALICE))
    new = client.post("/api/admin/mentorados", json={"nome_completo": "Eva"}, headers=admin)
    into = (new.json or {})["id"]
    path = "/api/admin/mentorados/{mentorado_id}/merge"
    url = path.format(mentorado_id=alice.id)

    body = f'{{"into":{into},"dry_run":true}}'

    assert status_of_valid_response(document, f"POST {url} {path} {body}", admin, client) == 200
