"""The measurements of sweeps as rows of the results table."""

from benchmarks.report_table import Figure, at_least, at_most
from benchmarks.sweep import KIBIBYTES, LINKABLE, USERS, Spread, measure_sweeps
from benchmarks.sweep_latency import Latency

LINKS_PER_SECOND = 2_000


def measure(repetitions: int) -> list[Figure]:
    """Measure a sweep of a million users, one of ten thousand linkable users, and latencies."""
    figures = measure_sweeps(repetitions=repetitions)
    wrong = sum(figures.wrong.values())
    few, many = (kib / KIBIBYTES for kib in (figures.peak_kib_of_few, figures.peak_kib_of_all))
    swept = f"{figures.sweep_seconds.median:.1f} s, {many:.0f} MB at most ({few:.0f} with 100,000)"
    raw = f"raw `INSERT … SELECT`, {figures.raw_seconds.median:.1f} s"
    links = figures.linked_per_second
    ratios = [rate / LINKS_PER_SECOND for rate in _values(links)]
    baseline = f"{LINKS_PER_SECOND:,}/s"
    return [
        at_most(
            1.4,
            Figure(f"sweep of {USERS:,} users", swept, raw, _values(figures.ratio), wrong=wrong),
        ),
        at_least(
            1,
            Figure(
                f"{LINKABLE:,} users linked to pre-registered profiles",
                f"{links.median:.0f}/s",
                baseline,
                ratios,
            ),
        ),
        *map(_latency_figure, figures.latencies),
    ]


def _latency_figure(latency: Latency) -> Figure:
    busy, idle = f"{latency.busy_ms:.1f} ms", f"without sweep, {latency.idle_ms:.1f} ms"
    work = f"p95 of {latency.kind}, during a sweep"
    return at_most(2, Figure(work, busy, idle, [latency.ratio], wrong=latency.failed))


def _values(spread: Spread) -> list[float]:
    return [spread.lowest, spread.median, spread.highest]
