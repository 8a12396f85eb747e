"""The description of the API (OpenAPI 3.1), made of what answers it.

Addresses come from the URL map, who may enter from the stances, requests and answers from the
signatures of the views, refusals from the table of problems. Nothing is said twice.
"""

import sys
from collections.abc import Iterable, Mapping
from http import HTTPStatus

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

from blueprints.answers import UNADDRESSED, ProblemDocument, is_api_path
from blueprints.calls import Call, calls_of
from blueprints.problems import PROBLEMS
from blueprints.schemas import JsonSchema, Schemas, described_by, fields_of, number
from blueprints.stance import Access
from identity.cookies import SESSION

ABOUT = """What a program may ask for, by whom, and every answer it can get.

Refusals are problem documents (RFC 9457): go by their `code`. A known address asked with another
method answers 405 `method_not_allowed` and names its methods in `Allow`."""
SECURITY = {
    "bearerAuth": SecurityScheme(
        type="http", scheme="bearer", bearerFormat="JWT", description="A Clerk session token"
    ),
    "cookieAuth": SecurityScheme.model_validate(
        {
            "type": "apiKey",
            "in": "cookie",
            "name": SESSION,
            "description": "The same token, as browsers send it; writes need `Origin` of this site",
        }
    ),
}
ROLES = {Access.SIGNED_IN: [], Access.MENTORADO: ["mentorado"], Access.ADMIN: ["admin"]}
TEXT, NUMBER = Schema.model_validate({"type": "string"}), {"type": "integer", "minimum": 1}
HEADERS = {
    "X-Request-ID": Header(description="The reference code of this request", param_schema=TEXT),
    "Retry-After": Header(
        description="Seconds until another try is worth it",
        param_schema=Schema.model_validate(NUMBER),
    ),
    "Location": Header(description="Where to follow it", param_schema=TEXT),
}


def document_of(app: Flask) -> OpenAPI:
    """Describe the app; raises ValidationError for what would be no valid document."""
    calls = list(calls_of(app))
    schemas = Schemas(_types(calls))
    paths: dict[str, dict[str, Operation]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, schemas)
    return OpenAPI(
        info=Info(title="Neon Dashboard", version="1", description=ABOUT),
        paths={path: PathItem.model_validate(methods) for path, methods in paths.items()},
        components=Components(
            schemas={name: Schema.model_validate(s) for name, s in schemas.components.items()},
            securitySchemes=dict(SECURITY),
            headers=dict(HEADERS),
        ),
        tags=[_tag(app, name) for name in dict.fromkeys(map(_room, calls))],
    )


def _types(calls: Iterable[Call]) -> Iterable[object]:
    yield ProblemDocument
    for call in calls:
        yield from call.description.answers.values()
        if call.description.body:
            yield call.description.body


def _room(call: Call) -> str:
    return call.endpoint.partition(".")[0]


def _tag(app: Flask, name: str) -> Tag:
    about = sys.modules[app.blueprints[name].import_name].__doc__ or ""
    return Tag(name=name, description=about.partition("\n")[0])


def _operation(call: Call, schemas: Schemas) -> Operation:
    needed = ROLES.get(call.access)
    return Operation(
        operationId=call.endpoint,
        summary=call.description.summary,
        tags=[_room(call)],
        parameters=_parameters(call) or None,
        requestBody=_body(call, schemas),
        responses={**_answers(call, schemas), **_refusals(call, schemas)},
        security=[] if needed is None else [{name: needed} for name in SECURITY],
    )


def _parameters(call: Call) -> list[Parameter | Reference]:
    query = call.description.query
    asked = fields_of(query) if query else {}
    return [
        *(_parameter("path", p.name, number(p.hint, p.least, p.most)) for p in call.places),
        *(_parameter("query", name, schema) for name, schema in asked.items()),
    ]


def _parameter(where: str, name: str, schema: JsonSchema) -> Parameter:
    manner = {"required": True} if where == "path" else {"allowEmptyValue": True}
    return Parameter.model_validate(
        {"name": name, "in": where, "schema": described_by(schema), **manner}
    )


def _body(call: Call, schemas: Schemas) -> RequestBody | None:
    body = call.description.body
    if body is None:
        return None
    content = {"application/json": MediaType(media_type_schema=schemas.of(body))}
    is_needed = any(field.is_required() for field in body.model_fields.values())
    return RequestBody(content=content, required=is_needed)


def _answers(call: Call, schemas: Schemas) -> Mapping[str, Response]:
    return {
        str(status): Response(
            description=HTTPStatus(status).phrase,
            headers=_headers("X-Request-ID", *(("Location",) if status == 202 else ())),
            content=_content(answer, schemas) if status != 204 else None,
        )
        for status, answer in call.description.answers.items()
    }


def _content(answer: object, schemas: Schemas) -> dict[str, MediaType]:
    kind = "text/plain" if answer is str else "application/json"
    return {kind: MediaType(media_type_schema=schemas.of(answer))}


def _refusals(call: Call, schemas: Schemas) -> Mapping[str, Response]:
    return {
        str(status): _refusal(codes, _problem(call, status, codes, schemas))
        for status, codes in call.refusals.items()
    }


def _problem(call: Call, status: int, codes: list[str], schemas: Schemas) -> dict[str, MediaType]:
    if not is_api_path(call.path) and codes != [UNADDRESSED]:
        return {"text/html": MediaType(media_type_schema=TEXT)}
    these = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    said = Schema.model_validate({"allOf": [schemas.of(ProblemDocument), these]})
    return {"application/problem+json": MediaType(media_type_schema=said)}


def _refusal(codes: list[str], content: dict[str, MediaType]) -> Response:
    waits = any(PROBLEMS[code].can_retry for code in codes)
    return Response(
        description=", ".join(codes),
        headers=_headers("X-Request-ID", *(("Retry-After",) if waits else ())),
        content=content,
    )


def _headers(*names: str) -> dict[str, Header | Reference]:
    where = "#/components/headers/{}"
    return {name: Reference.model_validate({"$ref": where.format(name)}) for name in names}
