"""The load report shows the figures, the errors and the verdict of each run."""

import json
from pathlib import Path

import pytest

from benchmarks.load import Run, conclude, errors_logged
from benchmarks.load_report import RequestStats, Result, read_result

ENTRY = {"num_requests": 20, "num_failures": 1, "max_response_time": 1999.7}
TIMES = {"300": 10, "10": 9, "2000": 1}  # unordered, rounded as Locust does


def test_figures_of_first_logins_come_first(tmp_path: Path) -> None:
    entries = [
        {**ENTRY, "name": name, "response_times": TIMES} for name in ("again", "first login")
    ]
    (tmp_path / "at-once-10.json").write_text(json.dumps(entries))

    result = read_result(tmp_path, "at-once-10", is_good=True)

    figures = (20, 1, [300, 300, 300], 2000)
    assert result.lines == [RequestStats("first login", *figures), RequestStats("again", *figures)]


@pytest.mark.parametrize(
    ("is_good", "problems", "exit_code", "verdict"),
    [
        (True, [], 0, "every invariant and threshold held"),
        (True, ["1 people without exactly one profile"], 1, "FAILED"),
        (False, [], 1, "FAILED"),
    ],
)
def test_exit_code_and_report_have_the_same_verdict(
    tmp_path: Path, is_good: bool, problems: list[str], exit_code: int, verdict: str
) -> None:
    result = read_result(tmp_path, "of-which-nothing-is-known", is_good=is_good)

    code = conclude("load", tmp_path, [result], problems)

    page = (tmp_path / "index.html").read_text()
    assert (code, f"<h1>Load test: {verdict}</h1>" in page) == (exit_code, True)
    assert [problem for problem in problems if problem not in page] == []


def test_report_escapes_markup(tmp_path: Path) -> None:
    conclude("load", tmp_path, [Result("x", True, [])], ["logged: <script>"])

    assert "logged: &lt;script&gt;" in (tmp_path / "index.html").read_text()


def test_logged_errors_are_counted_unless_excused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    events = [("info", "cache_hit"), ("error", "Worker (pid:7) was killed"), ("error", "other")]
    lines = [json.dumps({"level": level, "event": event}) for level, event in events]
    log.write_text("\n".join(["Traceback", *lines]))

    assert [("other" in error) for error in errors_logged(log, ("Worker (pid:",))] == [True]
    assert len(errors_logged(log)) == 2


def test_run_becomes_options_of_locust() -> None:
    default, special = Run(50, 20), Run(10, 5, "stampede", 60_000, ("waiting", "lost"))

    assert default.options == ["-u", "50", "-r", "50", "-t", "20s"]
    assert special.options[6:] == [
        "--shape=stampede",
        "--slowest-first-login=60000",
        "--tolerate=waiting",
        "--tolerate=lost",
    ]
