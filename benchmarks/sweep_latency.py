"""What do people who are on the site notice while somebody else's long work goes on?

One client asks at a steady pace, whatever the answers take: people who are known and warm, people
nobody has heard of, and people whom the work is just about to reach.
"""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import requests

from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import Served

PACE_SECONDS = 0.025
CALM_SECONDS = 6.0
WARM = "GET /api/auth/me, warm"
NEW = "first login of a stranger"
KNOWN = "first login of somebody known"
KINDS = (WARM, NEW, WARM, KNOWN)
STRIDE = 7_919  # a prime: people from all over the crowd, nobody twice
LIFETIME_SECONDS = 3_600

Ask = tuple[str, Callable[[requests.Session], requests.Response]]


@dataclass(frozen=True, slots=True)
class Noticed:
    """The 95th percentile of one kind of request in milliseconds, in calm and during the work;
    medians of the repetitions. `failed` counts answers that were none.
    """

    kind: str
    calm_ms: float
    busy_ms: float
    ratio: float
    failed: int

    def row(self) -> str:
        """A line to be read."""
        change = f"{self.calm_ms:.1f} ms, during a sweep {self.busy_ms:.1f} ms"
        return f"p95 of {self.kind}: {change}, {self.ratio:.2f} x, {self.failed} failed"


def measure_neighbours(
    app: Served,
    crowd: int,
    prepare: Callable[[], None],
    work: Callable[[], object],
    repetitions: int,
) -> list[Noticed]:
    """Ask in calm, then while the work goes on; `prepare` sets the tables up before each time.

    When it has, `crowd` people called `absent_<number>` are there without profile.
    """
    provider, numbers = DevIdentityProvider(app.instance / "identity"), itertools.count(1)
    calm, busy = list[dict[str, list[float]]](), list[dict[str, list[float]]]()
    for _ in range(repetitions):
        prepare()
        asks = _asks(app, provider, crowd, numbers)
        until = time.monotonic() + CALM_SECONDS
        calm.append(_asked(asks, lambda: time.monotonic() > until))  # noqa: B023 - used up at once
        worker = threading.Thread(target=work)
        worker.start()
        busy.append(_asked(asks, lambda: not worker.is_alive()))  # noqa: B023 - as above
        worker.join()
    return [_noticed(kind, calm, busy) for kind in (WARM, NEW, KNOWN)]


def _asks(
    app: Served, provider: DevIdentityProvider, crowd: int, numbers: Iterator[int]
) -> Iterator[Ask]:
    """Requests of all kinds in turn; nobody signs in twice."""
    warm = _header(provider, DevUser("user_warm", "Aline", "aline@example.org"))
    url = f"{app.url}/api/auth"
    for kind in itertools.cycle(KINDS):
        if kind == WARM:
            yield kind, partial(requests.Session.get, url=f"{url}/me", headers=warm)
            continue
        number = next(numbers) * STRIDE % crowd + 1
        name = f"absent_{number}" if kind == KNOWN else f"user_{number}"
        person = DevUser(name, f"Pessoa {number}", f"{number}@example.{len(name)}")
        headers = _header(provider, person)
        yield kind, partial(requests.Session.post, url=f"{url}/ensure", headers=headers)


def _header(provider: DevIdentityProvider, person: DevUser) -> dict[str, str]:
    return {"Authorization": f"Bearer {provider.token(person, lifetime_seconds=LIFETIME_SECONDS)}"}


def _asked(asks: Iterator[Ask], is_over: Callable[[], bool]) -> dict[str, list[float]]:
    """Milliseconds by kind; endless where the answer was none."""
    found: dict[str, list[float]] = {WARM: [], NEW: [], KNOWN: []}
    with requests.Session() as client:
        due = time.monotonic()
        while not is_over():
            due = max(due + PACE_SECONDS, time.monotonic())
            kind, ask = next(asks)
            time.sleep(max(0.0, due - time.monotonic()))  # the pace of the people outside
            started = time.perf_counter()
            answer = ask(client)
            lasted = (time.perf_counter() - started) * 1000
            found[kind].append(lasted if answer.ok else float("inf"))
    return found


def _noticed(
    kind: str, calm: Sequence[dict[str, list[float]]], busy: Sequence[dict[str, list[float]]]
) -> Noticed:
    before, after = ([_p95(times[kind]) for times in each] for each in (calm, busy))
    ratios = [b / a for a, b in zip(before, after, strict=True)]
    failed = sum(times[kind].count(float("inf")) for times in (*calm, *busy))
    calm_ms, busy_ms, ratio = (statistics.median(each) for each in (before, after, ratios))
    return Noticed(kind, calm_ms, busy_ms, ratio, failed)


def _p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)] if values else 0.0
