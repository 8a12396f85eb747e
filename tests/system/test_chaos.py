"""A chaos run of seconds: everything happens, everything is judged, and no rule is broken."""

import json
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos_rules import RULES, TIMED_RULES


def test_seconds_of_chaos_break_no_rule_and_are_on_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code = chaos.main(["--minutes=0.1", "--seed=1", "--busy", f"--report={tmp_path}"])

    said = capfd.readouterr().out
    kept = json.loads((tmp_path / "record.json").read_text())
    assert exit_code == 0, said
    assert (kept["seed"], kept["faults"] != []) == (1, True)
    assert min(len(kept["record"][name]) for name in ("answers", "changes")) > 50
    assert [rule for rule in (*RULES, *TIMED_RULES) if rule not in said] == []
