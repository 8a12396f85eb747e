"""The load runs, and ends well, on a program that keeps its promise; also while things break."""

from pathlib import Path

import pytest

from benchmarks import load, load_with_faults
from benchmarks.load_report import Line, read_result

PEOPLE = 6
USUAL = (f"--users={PEOPLE}", "--slowest-first-login=60000")  # at any pace


def lines(report: Path, shape: str) -> dict[str, Line]:
    result = read_result(report, f"{shape}-{PEOPLE}", is_good=True)
    return {line.name: line for line in result.lines}


def test_every_shape_finds_everything_in_order_and_can_be_read_about(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shapes = ("at-once", "class-start", "stampede", "steady-day")

    exit_code = load.main([*USUAL, "--seconds=1", f"--report={tmp_path}", "--shape", *shapes])

    page = (tmp_path / "index.html").read_text()
    assert exit_code == 0, capfd.readouterr()
    assert [shape for shape in shapes if f'"{shape}-{PEOPLE}.html"' not in page] == []
    assert lines(tmp_path, "at-once")[f"first login, {PEOPLE} at once"].times % PEOPLE == 0
    assert lines(tmp_path, "class-start")["first login"].times == PEOPLE
    assert lines(tmp_path, "stampede").keys() == {"first login, 10 devices"}
    assert lines(tmp_path, "steady-day").keys() >= {"first login", "returning"}


def test_mishaps_are_noticed_and_cost_nobody_their_profile(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code = load_with_faults.main([*USUAL, "--seconds=0", f"--report={tmp_path}"])

    said = capfd.readouterr()
    assert exit_code == 0, said
    assert [name for name in load_with_faults.MISHAPS if f"{name}: over" not in said.out] == []
