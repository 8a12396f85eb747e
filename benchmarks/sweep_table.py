"""What is measured of sweeps, as rows of the table."""

from benchmarks.report_table import Figure, at_least, at_most
from benchmarks.sweep import KIBIBYTES, LINKABLE, PEOPLE, Spread, measure_sweeps
from benchmarks.sweep_latency import Noticed

LINKS_PER_SECOND = 2_000


def measure(repetitions: int) -> list[Figure]:
    """A million people without profile, ten thousand who link, and what others notice of it."""
    found = measure_sweeps(repetitions=repetitions)
    wrong = sum(found.wrong.values())
    few, many = (kib / KIBIBYTES for kib in (found.peak_kib_of_few, found.peak_kib_of_all))
    swept = f"{found.sweep_seconds.median:.1f} s, {many:.0f} MB at most ({few:.0f} with 100,000)"
    raw = f"raw `INSERT … SELECT`, {found.raw_seconds.median:.1f} s"
    links = found.linked_per_second
    rates = [rate / LINKS_PER_SECOND for rate in (links.least, links.median, links.most)]
    beside = f"{LINKS_PER_SECOND:,}/s"
    return [
        at_most(
            1.5,
            Figure(f"sweep of {PEOPLE:,} people", swept, raw, _all(found.ratio), wrong=wrong),
        ),
        at_least(
            1, Figure(f"{LINKABLE:,} people who link", f"{links.median:.0f}/s", beside, rates)
        ),
        *map(_neighbour, found.neighbours),
    ]


def _neighbour(noticed: Noticed) -> Figure:
    busy, calm = f"{noticed.busy_ms:.1f} ms", f"in calm, {noticed.calm_ms:.1f} ms"
    work = f"p95 of {noticed.kind}, during a sweep"
    return at_most(2, Figure(work, busy, calm, [noticed.ratio], wrong=noticed.failed))


def _all(spread: Spread) -> list[float]:
    return [spread.least, spread.median, spread.most]
