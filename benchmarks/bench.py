"""Measure every speed target beside its baseline: the tables of docs/performance.md.

    python -m benchmarks.bench --repetitions 5

Prints the tables and writes the figures as JSON. The exit code is 1 if any answer was wrong. A
missed target is printed and is no error, because machines differ.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import pairs, sweep_table
from benchmarks.class_start import measure_class_start
from benchmarks.growth import measure_growth
from benchmarks.report_table import Figure, markdown_table, write_json
from benchmarks.servers import PROJECT
from benchmarks.slices import QUICK, Sizes
from benchmarks.startup_costs import cold_start, throughput, trips

MOST_SWEEPS = 3  # each takes a minute
REPORT = PROJECT / "instance" / "bench" / "figures.json"
PARTS = (*pairs.PARTS, "class", "sweeps", "growth", "costs")


def main() -> int:
    """Measure the chosen parts; the exit code is 1 if any answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, action="append", help="one or more of the parts")
    parser.add_argument("--quick", action="store_true", help="short slices, to try it out")
    parser.add_argument("--json", type=Path, default=REPORT)
    options = parser.parse_args()
    parts: Sequence[str] = options.only or PARTS
    sizes = QUICK if options.quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure(Path(folder), parts, options.repetitions, sizes)
        if figures:
            print(markdown_table(figures), flush=True)
            write_json(figures, options.json)
        if "costs" in parts:
            _print_costs(Path(folder), options.repetitions)
    return 1 if any(figure.wrong for figure in figures) else 0


def _measure(folder: Path, parts: Sequence[str], repetitions: int, sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    chosen = [part for part in parts if part in pairs.PARTS]
    if chosen:
        figures += pairs.measure(folder / "pairs", chosen, repetitions, sizes)
    if "class" in parts:
        figures += measure_class_start(folder / "class", repetitions)
    if "sweeps" in parts:
        figures += sweep_table.measure(min(repetitions, MOST_SWEEPS))
    if "growth" in parts:
        figures += measure_growth(folder / "growth", repetitions)
    return figures


def _print_costs(folder: Path, repetitions: int) -> None:
    print("\n| request | round trips | statements |\n|---|---|---|")
    for line in trips(folder / "trips"):
        print(line, flush=True)
    print("\n| served by | warm reads | first logins |\n|---|---|---|")
    for line in throughput(folder / "throughput", repetitions):
        print(line, flush=True)
    print(f"\n{cold_start(folder / 'cold', repetitions)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
