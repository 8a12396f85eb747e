"""Write the results of load tests as an HTML page with links to Locust's own reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment

PERCENTS = (50, 95, 99)
PAGE = Path(__file__).with_name("report.html")


@dataclass(frozen=True, slots=True)
class RequestStats:
    """The results of one kind of request; times in milliseconds."""

    name: str
    times: int
    failed: int
    percentiles: list[int]
    slowest: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run; Locust's files have its name."""

    name: str
    is_good: bool
    lines: list[RequestStats]


def read_result(folder: Path, name: str, *, is_good: bool) -> Result:
    """Read Locust's statistics of a run; without lines if Locust has written none."""
    statistics = folder / f"{name}.json"
    entries = json.loads(statistics.read_text()) if statistics.exists() else []
    lines = sorted(map(_line, entries), key=lambda line: (not _is_first_login(line), line.name))
    return Result(name, is_good, lines)


def write_report(folder: Path, results: Sequence[Result], problems: Sequence[str]) -> Path:
    """Write the page about these runs into the folder; returns its path."""
    page = Environment(autoescape=True).from_string(PAGE.read_text())
    report = folder / "index.html"
    report.write_text(
        page.render(
            verdict="FAILED" if problems else "every invariant and threshold held",
            when=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            problems=problems,
            runs=results,
            percents=PERCENTS,
        )
    )
    return report


def _line(entry: Mapping[str, Any]) -> RequestStats:
    counts = entry["response_times"].items()
    times = sorted(int(ms) for ms, count in counts for _ in range(count))
    percentiles = [times[(len(times) - 1) * percent // 100] for percent in PERCENTS]
    slowest = round(entry["max_response_time"])
    return RequestStats(
        entry["name"], entry["num_requests"], entry["num_failures"], percentiles, slowest
    )


def _is_first_login(line: RequestStats) -> bool:
    return line.name.startswith("first login")
