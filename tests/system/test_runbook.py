"""The runbook has an entry for each alert and each problem code."""

import re

import pytest

from dev.servers import PROJECT
from tests.system.test_monitoring import RULES
from web.problems import PROBLEMS

RUNBOOK = (PROJECT / "docs" / "operations.md").read_text()
HEADINGS = re.findall(r"(?m)^#+ (.+)$", RUNBOOK)
ANCHORS = {heading.lower().replace(" ", "-") for heading in HEADINGS}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_links_to_its_runbook_entry(rule: dict[str, dict[str, str]]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert (PROJECT / page).is_file()
    assert (anchor, anchor in ANCHORS) == (str(rule["alert"]).lower(), True)


def test_runbook_lists_exactly_the_problem_codes() -> None:
    explained = re.findall(r"(?m)^\| `(\w+)` \|", RUNBOOK)

    assert sorted(explained) == sorted(PROBLEMS)


def test_links_within_the_runbook_exist() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= ANCHORS
