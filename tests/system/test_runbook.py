"""Both runbooks have an entry for every alert and every error code, and working links."""

import re
from pathlib import Path

import pytest

from benchmarks.servers import PROJECT
from tests.system.test_monitoring import RULES
from web.errors import PROBLEMS

ENGLISH = PROJECT / "docs" / "operations.md"
PORTUGUESE = PROJECT / "docs" / "pt-BR" / "operacao.md"
ALERTS = [str(rule["alert"]) for rule in RULES]

both_runbooks = pytest.mark.parametrize(
    "runbook", [ENGLISH, PORTUGUESE], ids=lambda path: path.stem
)


def anchors(runbook: Path) -> set[str]:
    found = re.findall(r"(?m)^#+ (.+)$", runbook.read_text())
    return {heading.lower().replace(" ", "-") for heading in found}


def section(runbook: Path, number: int) -> str:
    """Return the text of a section; both runbooks have the same sections in the same order."""
    return re.split(r"(?m)^## .+$", runbook.read_text())[number]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_links_to_its_entry(rule: dict[str, dict[str, str]]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert PROJECT / page == ENGLISH
    assert (anchor, anchor in anchors(ENGLISH)) == (str(rule["alert"]).lower(), True)


@both_runbooks
def test_runbook_has_exactly_the_alerts_of_prometheus(runbook: Path) -> None:
    entries = re.findall(r"(?m)^### (\w+)$", section(runbook, 3))

    assert sorted(entries) == sorted(ALERTS)


@both_runbooks
def test_runbook_has_exactly_the_codes_of_the_program(runbook: Path) -> None:
    codes = re.findall(r"(?m)^\| `(\w+)` \|", section(runbook, 4))

    assert sorted(codes) == sorted(PROBLEMS)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_runbooks_name_the_same_states_commands_and_settings(number: int) -> None:
    english, portuguese = (
        set(re.findall(r"`([\w-]+|flask [^`]+)`", section(runbook, number)))
        for runbook in (ENGLISH, PORTUGUESE)
    )

    assert portuguese == english


@both_runbooks
def test_links_within_a_runbook_lead_to_headings(runbook: Path) -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", runbook.read_text()))

    assert links - anchors(runbook) == set()
