"""The OpenAPI 3.1 document, built from the code.

Paths come from the URL map, security from the access policies, requests and responses from the
signatures of the views, errors from the problem table.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Flask
from openapi_pydantic import (
    Components,
    Header,
    Info,
    MediaType,
    OpenAPI,
    Operation,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
    Tag,
)
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from werkzeug.routing.rules import Rule, parse_converter_args

from auth.cookies import SESSION
from provisioning.context import FAILED_STATUSES
from web.access_policy import Access, AccessPolicy, policy_of
from web.api import PROFILE_CODES, OperationSpec, operation_spec
from web.problem_responses import INVALID_HOST, ProblemDocument, is_api_path
from web.problems import PROBLEMS
from web.session import SAFE_METHODS
from web.validation import Query

JsonSchema = dict[str, Any]

PATH_PARAMETER = re.compile(r"<(?:int\((?P<bounds>[^)]*)\):)?(?P<name>\w+)>")
IMPLIED_METHODS = {"HEAD", "OPTIONS"}  # added by Flask
SCHEMA_REF = "#/components/schemas/{model}"
SIGNED_IN_CODES = ("unauthenticated", "provisioning_unavailable", "database_unavailable")
CODES_BY_ACCESS = {
    Access.PUBLIC: (),
    Access.SIGNED_IN: SIGNED_IN_CODES,
    Access.MENTORADO: (*SIGNED_IN_CODES, *PROFILE_CODES),
    Access.ADMIN: (*SIGNED_IN_CODES, "forbidden", *FAILED_STATUSES),
}


def error_codes_for(
    spec: OperationSpec, policy: AccessPolicy, method: str, path: str
) -> dict[int, list[str]]:
    """Return the error codes of an operation by status."""
    by_status: dict[int, list[str]] = {}
    for code in sorted({*_error_codes(spec, policy, method, path)}):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return dict(sorted(by_status.items()))


def _error_codes(
    spec: OperationSpec, policy: AccessPolicy, method: str, path: str
) -> Iterator[str]:
    yield "invalid_host"  # checked first in every request
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


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A number in a path, with the bounds of its URL converter."""

    name: str
    type_hint: Any
    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """One method of one path, with its specification and access policy."""

    endpoint: str
    method: str
    path: str
    access: Access
    spec: OperationSpec
    path_parameters: tuple[PathParameter, ...]
    error_codes: Mapping[int, list[str]]


def operations_of(app: Flask) -> Iterator[ApiOperation]:
    """Yield every API operation, in the order of their paths."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        spec, policy = operation_spec(view), policy_of(view)
        if spec is not None and policy is not None:
            for method in sorted((rule.methods or set()) - IMPLIED_METHODS):
                yield _api_operation(rule, method, policy, spec)


def _api_operation(
    rule: Rule, method: str, policy: AccessPolicy, spec: OperationSpec
) -> ApiOperation:
    return ApiOperation(
        rule.endpoint,
        method,
        PATH_PARAMETER.sub(r"{\g<name>}", rule.rule),
        policy.access,
        spec,
        tuple(_path_parameter(match, spec) for match in PATH_PARAMETER.finditer(rule.rule)),
        error_codes_for(spec, policy, method, rule.rule),
    )


def _path_parameter(match: re.Match[str], spec: OperationSpec) -> PathParameter:
    _, bounds = parse_converter_args(match["bounds"] or "")
    name = match["name"]
    return PathParameter(name, spec.path_parameters[name], bounds.get("min", 0), bounds.get("max"))


class ExactSchema(GenerateJsonSchema):
    """JSON Schemas without additional keys and without generated titles."""

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """Forbid additional keys."""
        return super().typed_dict_schema(schema) | {"additionalProperties": False}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """Forbid additional keys."""
        return super().dataclass_schema(schema) | {"additionalProperties": False}

    def normalize_name(self, name: str) -> str:
        """Turn `Listed[User]` into `ListedUser`, because names allow no brackets."""
        return super().normalize_name(name.replace("[", "").replace("]", ""))

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Return False: a field's name is title enough."""
        return False


class Schemas:
    """The schemas of types; `components` has those with a name."""

    def __init__(self, types: Iterable[Any]) -> None:
        types_by_name = {repr(each): each for each in types}
        schemas, definitions = TypeAdapter.json_schemas(
            [(name, "validation", TypeAdapter(each)) for name, each in types_by_name.items()],
            ref_template=SCHEMA_REF,
            schema_generator=ExactSchema,
        )
        self.components: dict[str, JsonSchema] = definitions.get("$defs", {})
        self._by_type = {name: schema for (name, _), schema in schemas.items()}

    def schema_for(self, type_: Any) -> Reference | Schema:
        """Return the schema of a type, or a reference to it."""
        return to_schema(self._by_type[repr(type_)])


def to_schema(schema: JsonSchema) -> Reference | Schema:
    """Return a JSON Schema as a part of the document."""
    if set(schema) == {"$ref"}:
        return Reference.model_validate(schema)
    return Schema.model_validate(schema)


def query_parameters(query: type[Query]) -> dict[str, JsonSchema]:
    """Return the schemas of a query's parameters, by name."""
    schema = TypeAdapter(query).json_schema(schema_generator=ExactSchema)
    fields: dict[str, JsonSchema] = schema["properties"]
    return fields


def integer_schema(type_hint: Any, minimum: int, maximum: int | None) -> JsonSchema:
    """Return the schema of a number in a path: the converter's bounds and its type hint."""
    bounds = {"minimum": minimum} if maximum is None else {"minimum": minimum, "maximum": maximum}
    return bounds | TypeAdapter(type_hint).json_schema()


API_DESCRIPTION = """All operations with their access rules and responses.

Errors are problem documents (RFC 9457): decide by their `code`. A known path with another method
answers 405 `method_not_allowed` and lists its methods in `Allow`."""
SECURITY = {
    "bearerAuth": SecurityScheme(
        type="http", scheme="bearer", bearerFormat="JWT", description="A Clerk session token"
    ),
    "cookieAuth": SecurityScheme.model_validate(
        {
            "type": "apiKey",
            "in": "cookie",
            "name": SESSION,
            "description": "The same token as a cookie; writes need `Origin` of this site",
        }
    ),
}
SCOPES = {Access.SIGNED_IN: [], Access.MENTORADO: ["mentorado"], Access.ADMIN: ["admin"]}
TEXT, NUMBER = Schema.model_validate({"type": "string"}), {"type": "integer", "minimum": 1}
RESPONSE_HEADERS = {
    "X-Request-ID": Header(description="The reference code of this request", param_schema=TEXT),
    "Retry-After": Header(
        description="Seconds to wait before a retry",
        param_schema=Schema.model_validate(NUMBER),
    ),
    "Location": Header(description="URL of the progress", param_schema=TEXT),
}


def build_document(app: Flask) -> OpenAPI:
    """Build the document; raises ValidationError if it would be invalid."""
    operations = list(operations_of(app))
    schemas = Schemas(_types(operations))
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schemas
        )
    return OpenAPI(
        info=Info(title="Neon Dashboard", version="1", description=API_DESCRIPTION),
        paths={path: PathItem.model_validate(methods) for path, methods in paths.items()},
        components=Components(
            schemas={name: Schema.model_validate(s) for name, s in schemas.components.items()},
            securitySchemes=dict(SECURITY),
            headers=dict(RESPONSE_HEADERS),
        ),
        tags=[_tag(app, name) for name in dict.fromkeys(map(_tag_name, operations))],
    )


def _types(operations: Iterable[ApiOperation]) -> Iterable[object]:
    yield ProblemDocument
    for operation in operations:
        yield from operation.spec.responses.values()
        if operation.spec.body:
            yield operation.spec.body


def _tag_name(operation: ApiOperation) -> str:
    return operation.endpoint.partition(".")[0]


def _tag(app: Flask, name: str) -> Tag:
    docstring = sys.modules[app.blueprints[name].import_name].__doc__ or ""
    return Tag(name=name, description=docstring.partition("\n")[0])


def _operation(operation: ApiOperation, schemas: Schemas) -> Operation:
    scopes = SCOPES.get(operation.access)
    return Operation(
        operationId=operation.endpoint,
        summary=operation.spec.summary,
        tags=[_tag_name(operation)],
        parameters=_parameters(operation) or None,
        requestBody=_request_body(operation, schemas),
        responses={**_responses(operation, schemas), **_error_responses(operation, schemas)},
        security=[] if scopes is None else [{name: scopes} for name in SECURITY],
    )


def _parameters(operation: ApiOperation) -> list[Parameter | Reference]:
    query = operation.spec.query
    parameters = query_parameters(query) if query else {}
    return [
        *(
            _parameter("path", p.name, integer_schema(p.type_hint, p.minimum, p.maximum))
            for p in operation.path_parameters
        ),
        *(_parameter("query", name, schema) for name, schema in parameters.items()),
    ]


def _parameter(location: str, name: str, schema: JsonSchema) -> Parameter:
    flags = {"required": True} if location == "path" else {"allowEmptyValue": True}
    return Parameter.model_validate(
        {"name": name, "in": location, "schema": to_schema(schema), **flags}
    )


def _request_body(operation: ApiOperation, schemas: Schemas) -> RequestBody | None:
    body = operation.spec.body
    if body is None:
        return None
    content = {"application/json": MediaType(media_type_schema=schemas.schema_for(body))}
    is_required = any(field.is_required() for field in body.model_fields.values())
    return RequestBody(content=content, required=is_required)


def _responses(operation: ApiOperation, schemas: Schemas) -> Mapping[str, Response]:
    return {
        str(status): Response(
            description=HTTPStatus(status).phrase,
            headers=_headers("X-Request-ID", *(("Location",) if status == 202 else ())),
            content=_content(response_type, schemas) if status != 204 else None,
        )
        for status, response_type in operation.spec.responses.items()
    }


def _content(response_type: object, schemas: Schemas) -> dict[str, MediaType]:
    media_type = "text/plain" if response_type is str else "application/json"
    return {media_type: MediaType(media_type_schema=schemas.schema_for(response_type))}


def _error_responses(operation: ApiOperation, schemas: Schemas) -> Mapping[str, Response]:
    return {
        str(status): _error_response(codes, _problem_content(operation, status, codes, schemas))
        for status, codes in operation.error_codes.items()
    }


def _problem_content(
    operation: ApiOperation, status: int, codes: list[str], schemas: Schemas
) -> dict[str, MediaType]:
    if not is_api_path(operation.path) and codes != [INVALID_HOST]:
        return {"text/html": MediaType(media_type_schema=TEXT)}
    constraints = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    schema = Schema.model_validate({"allOf": [schemas.schema_for(ProblemDocument), constraints]})
    return {"application/problem+json": MediaType(media_type_schema=schema)}


def _error_response(codes: list[str], content: dict[str, MediaType]) -> Response:
    can_retry = any(PROBLEMS[code].can_retry for code in codes)
    return Response(
        description=", ".join(codes),
        headers=_headers("X-Request-ID", *(("Retry-After",) if can_retry else ())),
        content=content,
    )


def _headers(*names: str) -> dict[str, Header | Reference]:
    reference = "#/components/headers/{}"
    return {name: Reference.model_validate({"$ref": reference.format(name)}) for name in names}
