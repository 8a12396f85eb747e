"""The audit fails for each result that is not clean, and reports when nothing was checked."""

import json

import pytest

from scripts.pip_audit import judge

SAFE = {"name": "flask", "version": "3.1.0", "vulns": []}
VULNERABLE = {"name": "jinja2", "version": "2.0", "vulns": [{"id": "PYSEC-2026-1"}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}
UNREACHABLE = "audit: the database is not reachable; nothing was checked"


def audit_output(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("output", "errors", "message", "code"),
    [
        (audit_output(SAFE), "", "audit: 1 packages, no known vulnerability", 0),
        (audit_output(SAFE, VULNERABLE, UNKNOWN), "", "audit: jinja2 2.0: PYSEC-2026-1", 1),
        (audit_output(UNKNOWN, UNKNOWN), "", UNREACHABLE, 0),
        (audit_output(SAFE, UNKNOWN), "", "audit: FAILED, not checked: ours", 1),
        (audit_output(), "", "audit: FAILED, not checked: anything", 1),
        ("", "ERROR: Could not connect to PyPI's vulnerability feed", UNREACHABLE, 0),
        ("", "requests: NameResolutionError(api)", UNREACHABLE, 0),
        ("", "ERROR: hashes are missing", "audit: FAILED\nERROR: hashes are missing", 1),
    ],
)
def test_each_result_has_a_message_and_an_exit_code(
    output: str, errors: str, message: str, code: int
) -> None:
    assert judge(output, errors) == (message, code)
