"""README and docs agree with the code: settings, links, and the modules they name."""

import re
from pathlib import Path

import pytest

from benchmarks.servers import PROJECT
from core.config import Config

README = PROJECT / "README.md"
DOCUMENTS = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
FOLDERS = re.findall(r"\]\(([a-z]+)\)", README.read_text())  # of the map in README

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(PROJECT).as_posix()
)


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    found = re.findall(r"(?m)^#+ (.+)$", document.read_text())
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


def is_module(name: str) -> bool:
    """Return whether a file has this path, from the root or from any folder of the project."""
    inside = (path for folder in FOLDERS for path in (PROJECT / folder).rglob(name))
    return (PROJECT / name).is_file() or any(inside)


def test_every_setting_is_in_the_table_and_no_other() -> None:
    table = README.read_text().split("## Settings")[1]

    names = re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)

    assert sorted(names) == sorted(name.upper() for name in Config.model_fields)


@each_document
def test_links_lead_to_files_and_headings(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text()):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@each_document
def test_named_modules_exist(document: Path) -> None:
    named = set(re.findall(r"`([a-z0-9_/]+\.py)`", document.read_text()))

    assert {name for name in named if not is_module(name)} == set()
