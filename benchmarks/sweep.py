"""How fast is a sweep beside one raw statement, and what do others notice of it?

The yardstick is one `INSERT INTO mentorados … SELECT … FROM users` that writes the very rows a
sweep would, in one transaction, into the same table with the same indexes and foreign key. It asks
nothing, records nothing and holds everybody up until it commits. Raw statement and sweep take
turns on fresh tables; a sweep is timed from its start to its end, without starting Python.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.sweep_fixtures import content_of, fill, wrong_after
from benchmarks.sweep_latency import Noticed, measure_neighbours
from dev import postgres
from dev.databases import connect_to
from dev.servers import PROJECT, child_environment, served

PEOPLE, LINKABLE, REPETITIONS = 1_000_000, 10_000, 3
FEW = 100_000  # for the memory of a smaller sweep
KIBIBYTES = 1024
RAW = text("""
    INSERT INTO mentorados (user_id, nome_completo, email, foto_url, turma, created_automatically)
    SELECT id, name, email, image_url, 'neon', true FROM users
""")
# A process of its own, as `flask sweep` is one; its last line is for us.
CHILD = """
import json, resource, time
from web.services import EXTENSION
from sweep.scheduler import build_sweeper
from wsgi import app
with app.app_context():
    sweeper = build_sweeper(app.extensions[EXTENSION].provisioning)
    started = time.perf_counter()
    counts = sweeper.start("cli")
    seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_kib": peak, **counts.numbers()}))
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several measurements, and how far apart they were."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class SweepFigures:
    """What was found; seconds, ratios and kibibytes. `wrong` counts what must not be, by name."""

    people: int
    raw_seconds: Spread
    sweep_seconds: Spread
    ratio: Spread
    peak_kib_of_few: int
    peak_kib_of_all: int
    linkable: int
    linked_per_second: Spread
    neighbours: Sequence[Noticed]
    wrong: dict[str, int]


@dataclass(frozen=True, slots=True)
class _House:
    """An installation of our own: its folder and its database."""

    folder: Path
    url: str


@dataclass(frozen=True, slots=True)
class _Measured:
    """One repetition: seconds of the raw statement and of the sweep, and what was wrong after."""

    raw: float
    swept: float
    peak_kib: int
    wrong: dict[str, int]


def measure_sweeps(
    people: int = PEOPLE, linkable: int = LINKABLE, repetitions: int = REPETITIONS
) -> SweepFigures:
    """Measure all of it on servers of our own; takes some minutes for a million people."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), SCHEDULER="off") as app,
    ):
        house = _House(app.instance, postgres.start(app.instance))
        few = _pair(house, min(people, FEW))
        pairs = [_pair(house, people) for _ in range(repetitions)]
        links = [_link(house, linkable) for _ in range(repetitions)]
        crowd = people // 2
        neighbours = measure_neighbours(
            app,
            crowd,
            lambda: fill(house.url, crowd),
            lambda: run_sweep(house.folder),
            repetitions,
        )
        postgres.leave(app.instance)
    return SweepFigures(
        people=people,
        raw_seconds=_spread([pair.raw for pair in pairs]),
        sweep_seconds=_spread([pair.swept for pair in pairs]),
        ratio=_spread([pair.swept / pair.raw for pair in pairs]),
        peak_kib_of_few=few.peak_kib,
        peak_kib_of_all=max(pair.peak_kib for pair in pairs),
        linkable=linkable,
        linked_per_second=_spread([linkable / link.swept for link in links]),
        neighbours=neighbours,
        wrong=_sums([found.wrong for found in (few, *pairs, *links)]),
    )


def run_sweep(folder: Path) -> dict[str, Any]:
    """Sweep once in a process of its own; its seconds, its peak and its counts."""
    environment = child_environment({"INSTANCE_PATH": str(folder), "SCHEDULER": "off"})
    swept = subprocess.run(  # nosec B603 # our own words, no shell
        [sys.executable, "-c", CHILD],
        cwd=PROJECT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    figures: dict[str, Any] = json.loads(swept.stdout.splitlines()[-1])
    return figures


def _pair(house: _House, people: int) -> _Measured:
    """The raw statement, then a sweep of the same people, which must write the same rows."""
    fill(house.url, people)
    with connect_to(house.url) as connection:
        started = time.perf_counter()
        connection.execute(RAW)
        raw = time.perf_counter() - started
    content = content_of(house.url)
    fill(house.url, people)
    figures = run_sweep(house.folder)
    wrong = wrong_after(house.url, "mentorado_created")
    wrong["sweeps that wrote other rows"] = int(content_of(house.url) != content)
    return _Measured(raw, figures["seconds"], figures["peak_kib"], wrong)


def _link(house: _House, people: int) -> _Measured:
    fill(house.url, people, expected=True)
    figures = run_sweep(house.folder)
    wrong = wrong_after(house.url, "mentorado_linked")
    return _Measured(0.0, figures["seconds"], figures["peak_kib"], wrong)


def _sums(found: Sequence[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for wrong in found for name in wrong)
    return {name: sum(wrong.get(name, 0) for wrong in found) for name in names}


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def main() -> int:
    """Measure, print, and end with 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--linkable", type=int, default=LINKABLE)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of rows")
    asked = parser.parse_args()
    figures = measure_sweeps(asked.people, asked.linkable, asked.repetitions)
    print(json.dumps(asdict(figures)) if asked.json else "\n".join(_rows(figures)))
    return int(any(figures.wrong.values()))


def _rows(figures: SweepFigures) -> list[str]:
    seconds: Callable[[Spread], str] = lambda s: f"{s.median:.2f} ({s.least:.2f}-{s.most:.2f})"  # noqa: E731
    few, many = (kib / KIBIBYTES for kib in (figures.peak_kib_of_few, figures.peak_kib_of_all))
    linked = figures.linked_per_second
    least = f"(least {linked.least:.0f})"
    return [
        f"raw statement, {figures.people} people   {seconds(figures.raw_seconds)} s",
        f"sweep of the same                {seconds(figures.sweep_seconds)} s",
        f"ratio                            {seconds(figures.ratio)}",
        f"peak of memory                   {few:.0f} MB; {many:.0f} MB with all of them",
        f"linked, {figures.linkable} people   {linked.median:.0f} a second {least}",
        *(noticed.row() for noticed in figures.neighbours),
        *(f"{name}: {number}" for name, number in figures.wrong.items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
