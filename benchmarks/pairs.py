"""The speed targets of requests, each beside its yardstick, in alternating slices of one run."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.clerk_stub import ClerkStub, run_clerk_stub
from benchmarks.report_table import Figure, at_least, at_most
from benchmarks.slices import (
    AT_A_TIME,
    READERS,
    STAMPEDE,
    Installation,
    Sizes,
    Slice,
    alternate,
    install,
    install_naive,
)

# The ratios to reach, without and with Redis.
TARGETS = {
    "warm": (0.70, 0.58),
    "claims": (0.16, 0.14),
    "logins": (0.08, 0.07),
    "naive": (1.8, 1.6),
    "stampede": (3.0, 4.0),
}
# Without target: the least that a first login costs, whatever the app does.
LIMITS = ("floor", "floor-call")
NAMES = {
    "warm": "warm `GET /api/auth/me`",
    "claims": "first logins, all claims in the token",
    "logins": "first logins, no claims: one call to Clerk each",
    "naive": "first logins, no claims",
    "stampede": f"{STAMPEDE} simultaneous first requests of one user",
    "floor": "the statements of a first login alone, by psycopg2",
    "floor-call": "the same after its call to Clerk",
}
PARTS = (*TARGETS, *LIMITS)


def measure(folder: Path, parts: Sequence[str], repetitions: int, sizes: Sizes) -> Iterator[Figure]:
    """Yield a figure for each part, without and with Redis."""
    folder.mkdir()
    with run_clerk_stub(folder) as clerk:
        for with_redis in (False, True):
            subfolder = folder / ("redis" if with_redis else "process")
            with install(subfolder, clerk, sizes, with_redis=with_redis) as ours:
                for part in parts:
                    if with_redis and part in LIMITS:
                        continue  # they use no cache
                    if part == "naive":
                        naive_folder = folder / f"naive-{with_redis}"
                        pairs = _beside_naive(ours, naive_folder, clerk, repetitions)
                    else:
                        pairs = alternate(*_work(part, ours), repetitions)
                    yield _figure(part, pairs, with_redis=with_redis)


def _work(part: str, app: Installation) -> tuple[Callable[[], Slice], Callable[[], Slice]]:
    """Return the slice of a part and the slice of its yardstick, the bare view."""
    if part == "warm":
        return app.warm, lambda: app.bare(app.sizes.reads, READERS)
    if part == "stampede":
        return app.stampede, lambda: app.bare(STAMPEDE, STAMPEDE)
    if part in LIMITS:
        return (
            lambda: app.floor(with_call=part == "floor-call"),
            lambda: app.bare(app.sizes.reads, AT_A_TIME),
        )
    with_claims = part == "claims"
    return (
        lambda: app.logins(with_claims=with_claims),
        lambda: app.bare(app.sizes.reads, AT_A_TIME),
    )


def _beside_naive(
    ours: Installation, folder: Path, clerk: ClerkStub, repetitions: int
) -> list[tuple[Slice, Slice]]:
    with install_naive(folder, clerk, ours.sizes) as naive:
        return alternate(
            lambda: ours.logins(with_claims=False),
            lambda: naive.logins(with_claims=False),
            repetitions,
        )


def _figure(part: str, pairs: Sequence[tuple[Slice, Slice]], *, with_redis: bool) -> Figure:
    """Compare the runs of pairs: by time for a stampede, otherwise by answers per second."""
    work = f"{NAMES[part]}, {'Redis' if with_redis else 'the cache in the process'}"
    yardstick = "naive app" if part == "naive" else "bare view"
    wrong = sum(a.wrong + (0 if part == "naive" else b.wrong) for a, b in pairs)
    own, other = ([pair[side].run for pair in pairs] for side in (0, 1))
    if part == "stampede":
        ratios = [a.seconds / b.seconds for a, b in zip(own, other, strict=True)]
        texts = [
            f"{1000 * statistics.median(r.seconds for r in side):.0f} ms" for side in (own, other)
        ]
    else:
        ratios = [a.per_second / b.per_second for a, b in zip(own, other, strict=True)]
        texts = [f"{statistics.median(r.per_second for r in side):.0f}/s" for side in (own, other)]
    figure = Figure(work, texts[0], f"{yardstick}, {texts[1]}", ratios, wrong=wrong)
    if part in LIMITS:
        return figure
    target = TARGETS[part][with_redis]
    return at_most(target, figure) if part == "stampede" else at_least(target, figure)
