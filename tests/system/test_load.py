"""The load test runs and succeeds on a correct app, also while faults are injected."""

from pathlib import Path

import pytest

from benchmarks import load, load_with_faults
from benchmarks.load_report import RequestStats, read_result

USERS = 6
OPTIONS = (f"--users={USERS}", "--slowest-first-login=60000")  # no limit on the duration


def lines(report: Path, shape: str) -> dict[str, RequestStats]:
    result = read_result(report, f"{shape}-{USERS}", is_good=True)
    return {line.name: line for line in result.lines}


def test_every_load_shape_succeeds_and_writes_its_report(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shapes = ("at-once", "class-start", "stampede", "steady-day")

    exit_code = load.main([*OPTIONS, "--seconds=1", f"--report={tmp_path}", "--shape", *shapes])

    page = (tmp_path / "index.html").read_text()
    assert exit_code == 0, capfd.readouterr()
    assert [shape for shape in shapes if f'"{shape}-{USERS}.html"' not in page] == []
    assert lines(tmp_path, "at-once")[f"first login, {USERS} at once"].times % USERS == 0
    assert lines(tmp_path, "class-start")["first login"].times == USERS
    assert lines(tmp_path, "stampede").keys() == {"first login, 10 devices"}
    assert lines(tmp_path, "steady-day").keys() >= {"first login", "returning"}


def test_every_user_gets_a_profile_despite_injected_faults(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code = load_with_faults.main([*OPTIONS, "--seconds=0", f"--report={tmp_path}"])

    output = capfd.readouterr()
    assert exit_code == 0, output
    assert [name for name in load_with_faults.FAULTS if f"{name}: over" not in output.out] == []
