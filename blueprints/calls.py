"""Which calls does the API have? Those of the URL map whose views describe themselves."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.routing.rules import Rule, parse_converter_args

from blueprints.described import Description, description_of
from blueprints.refusals import refusals
from blueprints.stance import Access, Stance, stance_of

PLACE = re.compile(r"<(?:int\((?P<bounds>[^)]*)\):)?(?P<name>\w+)>")
IMPLIED = {"HEAD", "OPTIONS"}  # Flask answers them by itself


@dataclass(frozen=True, slots=True)
class Place:
    """A number in an address, between the bounds that the router knows."""

    name: str
    hint: Any
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Call:
    """One method of one address, with what its view says and who may enter."""

    endpoint: str
    method: str
    path: str
    access: Access
    description: Description
    places: tuple[Place, ...]
    refusals: Mapping[int, list[str]]


def calls_of(app: Flask) -> Iterator[Call]:
    """Every described call, in the order of their addresses."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        description, stance = description_of(view), stance_of(view)
        if description is not None and stance is not None:
            for method in sorted((rule.methods or set()) - IMPLIED):
                yield _call(rule, method, stance, description)


def _call(rule: Rule, method: str, stance: Stance, description: Description) -> Call:
    return Call(
        rule.endpoint,
        method,
        PLACE.sub(r"{\g<name>}", rule.rule),
        stance.access,
        description,
        tuple(_place(found, description) for found in PLACE.finditer(rule.rule)),
        refusals(description, stance, method, rule.rule),
    )


def _place(found: re.Match[str], description: Description) -> Place:
    _, bounds = parse_converter_args(found["bounds"] or "")
    name = found["name"]
    return Place(name, description.ids[name], bounds.get("min", 0), bounds.get("max"))
