"""Compare a sweep with one raw statement, and measure the latency of requests beside a sweep.

The baseline is one `INSERT INTO mentorados … SELECT … FROM users` that writes the same rows as a
sweep, in one transaction, into the same table with the same indexes and foreign key. It decides
nothing, records no audit events and blocks logins until its commit. Raw statement and sweep
alternate on fresh tables. A sweep is timed without the start of Python.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.databases import connect_to
from benchmarks.servers import PROJECT, child_environment, run_app
from benchmarks.sweep_fixtures import content_hash, count_violations, fill
from benchmarks.sweep_latency import Latency, measure_latency
from dev import postgres

USERS, LINKABLE, REPETITIONS = 1_000_000, 10_000, 3
FEW_USERS = 100_000  # for the memory of a smaller sweep
KIBIBYTES = 1024
RAW = text("""
    INSERT INTO mentorados (user_id, nome_completo, email, foto_url, turma, created_automatically)
    SELECT id, name, email, image_url, 'neon', true FROM users
""")
# Runs in a process of its own, as `flask sweep` does; its last line holds the figures.
CHILD = """
import json, resource, time
from sweep.sweeper import Sweeper
from web.services import EXTENSION
from wsgi import app
with app.app_context():
    sweeper = Sweeper(app.extensions[EXTENSION].provisioning)
    started = time.perf_counter()
    counts = sweeper.start("cli")
    seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_kib": peak, **counts.numbers()}))
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, minimum and maximum of several measurements."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class SweepFigures:
    """The results in seconds, ratios and kibibytes; `wrong` counts violations by name."""

    users: int
    raw_seconds: Spread
    sweep_seconds: Spread
    ratio: Spread
    peak_kib_of_few: int
    peak_kib_of_all: int
    linkable: int
    linked_per_second: Spread
    latencies: Sequence[Latency]
    wrong: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Installation:
    """The folder and the database of an installation."""

    folder: Path
    url: str


@dataclass(frozen=True, slots=True)
class _Measured:
    """One repetition: seconds of the raw statement and of the sweep, and violations after it."""

    raw_seconds: float
    sweep_seconds: float
    peak_kib: int
    wrong: dict[str, int]


def measure_sweeps(
    users: int = USERS, linkable: int = LINKABLE, repetitions: int = REPETITIONS
) -> SweepFigures:
    """Measure everything on new servers; takes some minutes for a million users."""
    with (
        tempfile.TemporaryDirectory() as folder,
        run_app(Path(folder), SCHEDULER="off") as app,
    ):
        installation = _Installation(app.instance, postgres.start(app.instance))
        few = _compare(installation, min(users, FEW_USERS))
        pairs = [_compare(installation, users) for _ in range(repetitions)]
        links = [_link(installation, linkable) for _ in range(repetitions)]
        half = users // 2
        latencies = measure_latency(
            app,
            half,
            lambda: fill(installation.url, half),
            lambda: run_sweep(installation.folder),
            repetitions,
        )
        postgres.release(app.instance)
    return SweepFigures(
        users=users,
        raw_seconds=_spread([pair.raw_seconds for pair in pairs]),
        sweep_seconds=_spread([pair.sweep_seconds for pair in pairs]),
        ratio=_spread([pair.sweep_seconds / pair.raw_seconds for pair in pairs]),
        peak_kib_of_few=few.peak_kib,
        peak_kib_of_all=max(pair.peak_kib for pair in pairs),
        linkable=linkable,
        linked_per_second=_spread([linkable / link.sweep_seconds for link in links]),
        latencies=latencies,
        wrong=_sums([each.wrong for each in (few, *pairs, *links)]),
    )


def run_sweep(folder: Path) -> dict[str, Any]:
    """Sweep once in a process of its own; returns its seconds, peak memory and counts."""
    environment = child_environment({"INSTANCE_PATH": str(folder), "SCHEDULER": "off"})
    process = subprocess.run(  # nosec B603 # fixed arguments, no shell
        [sys.executable, "-c", CHILD],
        cwd=PROJECT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures


def _compare(installation: _Installation, users: int) -> _Measured:
    """Run the raw statement, then a sweep of the same users, which must write the same rows."""
    fill(installation.url, users)
    with connect_to(installation.url) as connection:
        started = time.perf_counter()
        connection.execute(RAW)
        raw_seconds = time.perf_counter() - started
    content = content_hash(installation.url)
    fill(installation.url, users)
    figures = run_sweep(installation.folder)
    wrong = count_violations(installation.url, "mentorado_created")
    wrong["sweeps that wrote other rows"] = int(content_hash(installation.url) != content)
    return _Measured(raw_seconds, figures["seconds"], figures["peak_kib"], wrong)


def _link(installation: _Installation, users: int) -> _Measured:
    """Sweep users who all have a pre-registered profile."""
    fill(installation.url, users, is_pre_registered=True)
    figures = run_sweep(installation.folder)
    wrong = count_violations(installation.url, "mentorado_linked")
    return _Measured(0.0, figures["seconds"], figures["peak_kib"], wrong)


def _sums(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for each in counts for name in each)
    return {name: sum(each.get(name, 0) for each in counts) for name in names}


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def main() -> int:
    """Measure and print; the exit code is 1 after any violation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=USERS)
    parser.add_argument("--linkable", type=int, default=LINKABLE)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of rows")
    options = parser.parse_args()
    figures = measure_sweeps(options.people, options.linkable, options.repetitions)
    print(json.dumps(asdict(figures)) if options.json else "\n".join(_rows(figures)))
    return int(any(figures.wrong.values()))


def _rows(figures: SweepFigures) -> list[str]:
    few, many = (kib / KIBIBYTES for kib in (figures.peak_kib_of_few, figures.peak_kib_of_all))
    linked = figures.linked_per_second
    return [
        f"raw statement, {figures.users} users    {_text(figures.raw_seconds)} s",
        f"sweep of the same                {_text(figures.sweep_seconds)} s",
        f"ratio                            {_text(figures.ratio)}",
        f"peak memory                      {few:.0f} MB; {many:.0f} MB with all users",
        f"linked, {figures.linkable} users    {linked.median:.0f}/s, lowest {linked.lowest:.0f}/s",
        *(latency.row() for latency in figures.latencies),
        *(f"{name}: {number}" for name, number in figures.wrong.items()),
    ]


def _text(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.lowest:.2f}-{spread.highest:.2f})"


if __name__ == "__main__":
    sys.exit(main())
