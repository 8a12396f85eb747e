"""The audit fails for whatever is not a clean answer, and says so where there was none."""

import json

import pytest

from scripts.pip_audit import judge

GOOD = {"name": "flask", "version": "3.1.0", "vulns": []}
BAD = {"name": "jinja2", "version": "2.0", "vulns": [{"id": "PYSEC-2026-1"}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}
UNREACHABLE = "audit: the database is not reachable; nothing was checked"


def said(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("output", "complaints", "words", "code"),
    [
        (said(GOOD), "", "audit: 1 packages, no known vulnerability", 0),
        (said(GOOD, BAD, UNKNOWN), "", "audit: jinja2 2.0: PYSEC-2026-1", 1),
        (said(UNKNOWN, UNKNOWN), "", UNREACHABLE, 0),
        (said(GOOD, UNKNOWN), "", "audit: FAILED, not checked: ours", 1),
        (said(), "", "audit: FAILED, not checked: anything", 1),
        ("", "ERROR: Could not connect to PyPI's vulnerability feed", UNREACHABLE, 0),
        ("", "requests: NameResolutionError(api)", UNREACHABLE, 0),
        ("", "ERROR: hashes are missing", "audit: FAILED\nERROR: hashes are missing", 1),
    ],
)
def test_each_outcome_has_its_words_and_its_exit_code(
    output: str, complaints: str, words: str, code: int
) -> None:
    assert judge(output, complaints) == (words, code)
