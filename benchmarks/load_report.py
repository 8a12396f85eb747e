"""What runs of the load test have shown, as one page to read, with Locust's own reports behind."""

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
class Line:
    """How one kind of request fared; times in milliseconds."""

    name: str
    times: int
    failed: int
    percentiles: list[int]
    slowest: int


@dataclass(frozen=True, slots=True)
class Result:
    """How a run went: Locust's files about it bear its name."""

    name: str
    is_good: bool
    lines: list[Line]


def read_result(folder: Path, name: str, *, is_good: bool) -> Result:
    """What Locust has written down of that run; nothing if it did not come to that."""
    statistics = folder / f"{name}.json"
    entries = json.loads(statistics.read_text()) if statistics.exists() else []
    lines = sorted(map(_line, entries), key=lambda line: (not _is_first(line), line.name))
    return Result(name, is_good, lines)


def write_report(folder: Path, results: Sequence[Result], problems: Sequence[str]) -> Path:
    """Write the page about these runs into the folder, and return its path."""
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


def _line(entry: Mapping[str, Any]) -> Line:
    took = sorted(int(ms) for ms, times in entry["response_times"].items() for _ in range(times))
    percentiles = [took[(len(took) - 1) * percent // 100] for percent in PERCENTS]
    slowest = round(entry["max_response_time"])
    return Line(entry["name"], entry["num_requests"], entry["num_failures"], percentiles, slowest)


def _is_first(line: Line) -> bool:
    return line.name.startswith("first login")
