"""Whoever is called at night finds an entry for what has called them."""

import re

import pytest

from dev.servers import PROJECT
from tests.system.test_monitoring import RULES
from web.problems import PROBLEMS

RUNBOOK = (PROJECT / "docs" / "operations.md").read_text()
HEADINGS = re.findall(r"(?m)^#+ (.+)$", RUNBOOK)
ANCHORS = {heading.lower().replace(" ", "-") for heading in HEADINGS}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_leads_to_its_entry(rule: dict[str, dict[str, str]]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert (PROJECT / page).is_file()
    assert (anchor, anchor in ANCHORS) == (str(rule["alert"]).lower(), True)


def test_every_problem_code_has_its_line_and_no_other() -> None:
    explained = re.findall(r"(?m)^\| `(\w+)` \|", RUNBOOK)

    assert sorted(explained) == sorted(PROBLEMS)


def test_links_within_the_runbook_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= ANCHORS
