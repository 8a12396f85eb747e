"""The OpenAPI 3.1 document, built from the code.

Paths come from the URL map, security from the access policies, requests and responses from the
signatures of the views, errors from the problem table. The description of an error response lists
its codes (docs/decisions/023-openapi.md).
"""

import re
import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from werkzeug.routing.rules import Rule, parse_converter_args

from auth.cookies import SESSION
from provisioning.context import FAILED_STATUSES
from web import csv_export
from web.access_policy import POLICIES, Access, AccessPolicy
from web.api import OPERATIONS, PROFILE_CODES, OperationSpec
from web.errors import PROBLEMS
from web.problem_responses import INVALID_HOST, ProblemDocument
from web.session import SAFE_METHODS, is_api_path

Json = dict[str, Any]

PATH_PARAMETER = re.compile(r"<(?:int\((?P<bounds>[^)]*)\):)?(?P<name>\w+)>")
IMPLIED_METHODS = {"HEAD", "OPTIONS"}  # added by Flask
SIGNED_IN_CODES = ("unauthenticated", "provisioning_unavailable", "database_unavailable")
CODES_BY_ACCESS = {
    Access.PUBLIC: (),
    Access.SIGNED_IN: SIGNED_IN_CODES,
    Access.MENTORADO: (*SIGNED_IN_CODES, *PROFILE_CODES),
    Access.ADMIN: (*SIGNED_IN_CODES, "forbidden", *FAILED_STATUSES),
}
SCOPES: Mapping[Access, list[str]] = {
    Access.SIGNED_IN: [],
    Access.MENTORADO: ["mentorado"],
    Access.ADMIN: ["admin"],
}
API_DESCRIPTION = """All operations with their access rules and responses.

Errors are problem documents (RFC 9457): decide by their `code`. A known path with another method
answers 405 `method_not_allowed` and lists its methods in `Allow`."""
SECURITY: Json = {
    "bearerAuth": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A Clerk session token",
    },
    "cookieAuth": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION,
        "description": "The same token as a cookie; writes need `Origin` of this site",
    },
}
HEADERS: Json = {
    "X-Request-ID": {
        "description": "The reference code of this request",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before a retry",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Location": {"description": "URL of the progress", "schema": {"type": "string"}},
}


class ExactSchema(GenerateJsonSchema):
    """JSON Schemas without additional keys; no title but the unique names of the components."""

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """Forbid additional keys."""
        return super().typed_dict_schema(schema) | {"additionalProperties": False}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """Forbid additional keys."""
        return super().dataclass_schema(schema) | {"additionalProperties": False}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out the default None, which the type of a query parameter excludes."""
        described = super().default_schema(schema)
        if described.get("default", "") is None:
            del described["default"]
        return described

    def normalize_name(self, name: str) -> str:
        """Turn `Listed[User]` into `ListedUser`, because names allow no brackets."""
        return super().normalize_name(name.replace("[", "").replace("]", ""))

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Return False: a field's name is title enough."""
        return False


def build_document(app: Flask) -> Json:
    """Return the document of all API operations of the app, in the order of their paths."""
    operations = [
        (rule, method, spec, policy)
        for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
        if (spec := OPERATIONS.get(view := app.view_functions[rule.endpoint])) is not None
        if (policy := POLICIES.get(view)) is not None
        for method in sorted((rule.methods or set()) - IMPLIED_METHODS)
    ]
    types = {repr(ProblemDocument): ProblemDocument}
    for _, _, spec, _ in operations:
        types |= {repr(each): each for each in (*spec.responses.values(), spec.body) if each}
    found, definitions = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(each)) for name, each in types.items()],
        ref_template="#/components/schemas/{model}",
        schema_generator=ExactSchema,
    )
    components = {n: {**schema, "title": n} for n, schema in definitions.get("$defs", {}).items()}
    schemas = {name: schema for (name, _), schema in found.items()}
    paths: dict[str, Json] = {}
    for rule, method, spec, policy in operations:
        path = PATH_PARAMETER.sub(r"{\g<name>}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, method, spec, policy, schemas)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Neon Dashboard", "version": "1", "description": API_DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY, "headers": HEADERS},
        "tags": [
            {"name": name, "description": (docstring or "").partition("\n")[0]}
            for name in dict.fromkeys(_tag(rule) for rule, *_ in operations)
            for docstring in [sys.modules[app.blueprints[name].import_name].__doc__]
        ],
    }


def _tag(rule: Rule) -> str:
    return str(rule.endpoint).partition(".")[0]


def _operation(
    rule: Rule, method: str, spec: OperationSpec, policy: AccessPolicy, schemas: Json
) -> Json:
    scopes = SCOPES.get(policy.access)
    operation: Json = {
        "operationId": rule.endpoint,
        "summary": spec.summary,
        "tags": [_tag(rule)],
        "parameters": list(_parameters(rule, spec)),
        "responses": _responses(rule, method, spec, policy, schemas),
        "security": [] if scopes is None else [{name: scopes} for name in SECURITY],
    }
    if spec.body is not None:
        operation["requestBody"] = {
            "content": {"application/json": {"schema": schemas[repr(spec.body)]}},
            "required": any(field.is_required() for field in spec.body.model_fields.values()),
        }
    return operation


def _parameters(rule: Rule, spec: OperationSpec) -> Iterator[Json]:
    """Yield the numbers in the path, with the bounds of their converters, and the query."""
    for match in PATH_PARAMETER.finditer(rule.rule):
        _, bounds = parse_converter_args(match["bounds"] or "")
        limits = {f"{name}imum": bounds[name] for name in ("min", "max") if name in bounds}
        hint = TypeAdapter(spec.path_parameters[match["name"]]).json_schema()
        schema = {"minimum": 0, **limits, **hint}
        yield {"name": match["name"], "in": "path", "required": True, "schema": schema}
    if spec.query is not None:
        schema = TypeAdapter(spec.query).json_schema(schema_generator=ExactSchema)
        for name, each in schema["properties"].items():
            yield {"name": name, "in": "query", "schema": each, "allowEmptyValue": True}


def _responses(
    rule: Rule, method: str, spec: OperationSpec, policy: AccessPolicy, schemas: Json
) -> Json:
    responses = {
        str(status): _response(
            HTTPStatus(status).phrase,
            {} if status == 204 else _media(type_, schemas),
            ["Location"] if status == 202 else [],
        )
        for status, type_ in spec.responses.items()
    }
    codes_by_status: dict[int, list[str]] = {}
    for code in sorted({*_error_codes(rule.rule, method, spec, policy)}):
        codes_by_status.setdefault(PROBLEMS[code].status, []).append(code)
    problem = {"application/problem+json": {"schema": schemas[repr(ProblemDocument)]}}
    page = {"text/html": {"schema": {"type": "string"}}}
    for status, codes in sorted(codes_by_status.items()):
        is_document = is_api_path(rule.rule) or codes == [INVALID_HOST]
        can_retry = any(PROBLEMS[code].can_retry for code in codes)
        responses[str(status)] = _response(
            ", ".join(codes), problem if is_document else page, ["Retry-After"] if can_retry else []
        )
    return responses


def _response(description: str, content: Json, headers: list[str]) -> Json:
    names = ("X-Request-ID", *headers)
    references = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    response = {"description": description, "headers": references}
    return response | ({"content": content} if content else {})


def _media(type_: object, schemas: Json) -> Json:
    media_type = "text/plain" if type_ is str else "application/json"
    if csv_export.MEDIA_TYPE in getattr(type_, "__metadata__", ()):
        media_type = csv_export.MEDIA_TYPE
    return {media_type: {"schema": schemas[repr(type_)]}}


def _error_codes(
    path: str, method: str, spec: OperationSpec, policy: AccessPolicy
) -> Iterator[str]:
    yield INVALID_HOST  # checked first in every request
    yield from spec.error_codes
    yield from CODES_BY_ACCESS[policy.access]
    conditional_codes = (
        (is_api_path(path), ("internal",)),  # elsewhere an error is a page
        (not policy.unlimited, ("rate_limited",)),
        (method not in SAFE_METHODS, ("csrf_failed", "unsupported_media_type")),
        (spec.body is not None, ("payload_too_large", "invalid_input")),
        (spec.query is not None, ("invalid_input",)),
        ("<" in path, ("not_found",)),
    )
    for applies, codes in conditional_codes:
        yield from codes if applies else ()
