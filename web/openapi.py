"""The description of the API (OpenAPI 3.1), made of what answers it.

Addresses come from the URL map, who may enter from the stances, requests and answers from the
signatures of the views, refusals from the table of problems. Nothing is said twice.
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
from provisioning.context import DENIED, UNDECIDED
from web.access_policy import Access, AccessPolicy, policy_of
from web.api import OperationSpec, spec_of
from web.problem_responses import INVALID_HOST, ProblemDocument, is_api_path
from web.problems import PROBLEMS
from web.session import SAFE_METHODS
from web.validation import Query

PROFILE_CODES = ("mentorado_required", *DENIED, *UNDECIDED)
OF_ANYBODY_KNOWN = ("unauthenticated", "provisioning_unavailable", "database_unavailable")
BY_ACCESS = {
    Access.PUBLIC: (),
    Access.SIGNED_IN: OF_ANYBODY_KNOWN,
    Access.MENTORADO: (*OF_ANYBODY_KNOWN, *PROFILE_CODES),
    Access.ADMIN: (*OF_ANYBODY_KNOWN, "forbidden", *UNDECIDED),
}


def error_codes_for(
    description: OperationSpec, stance: AccessPolicy, method: str, path: str
) -> dict[int, list[str]]:
    """The codes of a call by status."""
    by_status: dict[int, list[str]] = {}
    for code in sorted({*_codes(description, stance, method, path)}):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return dict(sorted(by_status.items()))


def _codes(
    description: OperationSpec, stance: AccessPolicy, method: str, path: str
) -> Iterator[str]:
    yield "invalid_host"  # the first thing that anybody is asked
    yield from description.codes
    yield from BY_ACCESS[stance.access]
    reasons = (
        (is_api_path(path), ("internal",)),  # whoever asks elsewhere is answered with a page
        (not stance.unlimited, ("rate_limited",)),
        (method not in SAFE_METHODS, ("csrf_failed", "unsupported_media_type")),
        (description.body is not None, ("payload_too_large", "invalid_input")),
        (description.query is not None, ("invalid_input",)),
        ("<" in path, ("not_found",)),
    )
    for applies, codes in reasons:
        yield from codes if applies else ()


PLACE = re.compile(r"<(?:int\((?P<bounds>[^)]*)\):)?(?P<name>\w+)>")
IMPLIED = {"HEAD", "OPTIONS"}  # Flask answers them by itself


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A number in an address, between the bounds that the router knows."""

    name: str
    hint: Any
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """One method of one address, with what its view says and who may enter."""

    endpoint: str
    method: str
    path: str
    access: Access
    description: OperationSpec
    places: tuple[PathParameter, ...]
    refusals: Mapping[int, list[str]]


def operations_of(app: Flask) -> Iterator[ApiOperation]:
    """Every described call, in the order of their addresses."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        description, stance = spec_of(view), policy_of(view)
        if description is not None and stance is not None:
            for method in sorted((rule.methods or set()) - IMPLIED):
                yield _call(rule, method, stance, description)


def _call(
    rule: Rule, method: str, stance: AccessPolicy, description: OperationSpec
) -> ApiOperation:
    return ApiOperation(
        rule.endpoint,
        method,
        PLACE.sub(r"{\g<name>}", rule.rule),
        stance.access,
        description,
        tuple(_place(found, description) for found in PLACE.finditer(rule.rule)),
        error_codes_for(description, stance, method, rule.rule),
    )


def _place(found: re.Match[str], description: OperationSpec) -> PathParameter:
    _, bounds = parse_converter_args(found["bounds"] or "")
    name = found["name"]
    return PathParameter(name, description.ids[name], bounds.get("min", 0), bounds.get("max"))


WHERE = "#/components/schemas/{model}"

JsonSchema = dict[str, Any]


class ExactSchema(GenerateJsonSchema):
    """Says what the types say: no keys but the named ones, and no made-up titles."""

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """An answer holds what its type names and nothing else."""
        return super().typed_dict_schema(schema) | {"additionalProperties": False}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """The same for the values that answers are made of."""
        return super().dataclass_schema(schema) | {"additionalProperties": False}

    def normalize_name(self, name: str) -> str:
        """`Listed[Person]` is a `ListedPerson` wherever brackets are not allowed."""
        return super().normalize_name(name.replace("[", "").replace("]", ""))

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - asked for each
        """A field's name is title enough."""
        return False


class Schemas:
    """Where each type is described; `components` holds the descriptions by name."""

    def __init__(self, types: Iterable[Any]) -> None:
        wanted = {repr(each): each for each in types}
        found, rest = TypeAdapter.json_schemas(
            [(name, "validation", TypeAdapter(each)) for name, each in wanted.items()],
            ref_template=WHERE,
            schema_generator=ExactSchema,
        )
        self.components: dict[str, JsonSchema] = rest.get("$defs", {})
        self._by_type = {name: schema for (name, _), schema in found.items()}

    def of(self, wanted: Any) -> Reference | Schema:
        """The description of a type, or where it stands."""
        return described_by(self._by_type[repr(wanted)])


def described_by(schema: JsonSchema) -> Reference | Schema:
    """A schema as the document holds it."""
    if set(schema) == {"$ref"}:
        return Reference.model_validate(schema)
    return Schema.model_validate(schema)


def fields_of(query: type[Query]) -> dict[str, JsonSchema]:
    """The parameters of a query, by name."""
    schema = TypeAdapter(query).json_schema(schema_generator=ExactSchema)
    fields: dict[str, JsonSchema] = schema["properties"]
    return fields


def number(hint: Any, least: int, most: int | None) -> JsonSchema:
    """A number in an address: what the router lets through, narrowed by what its hint says."""
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return bounds | TypeAdapter(hint).json_schema()


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


def build_document(app: Flask) -> OpenAPI:
    """Describe the app; raises ValidationError for what would be no valid document."""
    calls = list(operations_of(app))
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


def _types(calls: Iterable[ApiOperation]) -> Iterable[object]:
    yield ProblemDocument
    for call in calls:
        yield from call.description.answers.values()
        if call.description.body:
            yield call.description.body


def _room(call: ApiOperation) -> str:
    return call.endpoint.partition(".")[0]


def _tag(app: Flask, name: str) -> Tag:
    about = sys.modules[app.blueprints[name].import_name].__doc__ or ""
    return Tag(name=name, description=about.partition("\n")[0])


def _operation(call: ApiOperation, schemas: Schemas) -> Operation:
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


def _parameters(call: ApiOperation) -> list[Parameter | Reference]:
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


def _body(call: ApiOperation, schemas: Schemas) -> RequestBody | None:
    body = call.description.body
    if body is None:
        return None
    content = {"application/json": MediaType(media_type_schema=schemas.of(body))}
    is_needed = any(field.is_required() for field in body.model_fields.values())
    return RequestBody(content=content, required=is_needed)


def _answers(call: ApiOperation, schemas: Schemas) -> Mapping[str, Response]:
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


def _refusals(call: ApiOperation, schemas: Schemas) -> Mapping[str, Response]:
    return {
        str(status): _refusal(codes, _problem(call, status, codes, schemas))
        for status, codes in call.refusals.items()
    }


def _problem(
    call: ApiOperation, status: int, codes: list[str], schemas: Schemas
) -> dict[str, MediaType]:
    if not is_api_path(call.path) and codes != [INVALID_HOST]:
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
