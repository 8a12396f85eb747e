"""Measure the latency of requests during a long background task.

One client sends requests at a constant rate, whatever the answers take: warm reads, first logins of
unknown users, and first logins of users that the sweep has not reached yet.
"""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import requests

from benchmarks.servers import AppServer
from dev.fake_clerk import DevIdentityProvider, DevUser

INTERVAL_SECONDS = 0.025
IDLE_SECONDS = 6.0
WARM = "GET /api/auth/me, warm"
NEW = "first login of an unknown user"
KNOWN = "first login of a known user"
KINDS = (WARM, NEW, WARM, KNOWN)
STRIDE = 7_919  # a prime: users from the whole range, none twice
LIFETIME_SECONDS = 3_600

Request = tuple[str, Callable[[requests.Session], requests.Response]]


@dataclass(frozen=True, slots=True)
class Latency:
    """The 95th percentile of one kind of request in milliseconds, without and with the task.

    The values are medians of the repetitions. `failed` counts requests without success.
    """

    kind: str
    idle_ms: float
    busy_ms: float
    ratio: float
    failed: int

    def row(self) -> str:
        """Return the values as one line of text."""
        change = f"{self.idle_ms:.1f} ms, during a sweep {self.busy_ms:.1f} ms"
        return f"p95 of {self.kind}: {change}, {self.ratio:.2f} x, {self.failed} failed"


def measure_latency(
    app: AppServer,
    users: int,
    prepare: Callable[[], None],
    task: Callable[[], object],
    repetitions: int,
) -> list[Latency]:
    """Send requests without the task, then during it; `prepare` fills the tables before each time.

    The tables then hold users `absent_1` to `absent_<users>` without a profile.
    """
    provider, numbers = DevIdentityProvider(app.instance / "identity"), itertools.count(1)
    idle, busy = list[dict[str, list[float]]](), list[dict[str, list[float]]]()
    for _ in range(repetitions):
        prepare()
        stream = _requests(app, provider, users, numbers)
        until = time.monotonic() + IDLE_SECONDS
        idle.append(_send_until(stream, lambda: time.monotonic() > until))  # noqa: B023 - called at once
        worker = threading.Thread(target=task)
        worker.start()
        busy.append(_send_until(stream, lambda: not worker.is_alive()))  # noqa: B023 - called at once
        worker.join()
    return [_latency(kind, idle, busy) for kind in (WARM, NEW, KNOWN)]


def _requests(
    app: AppServer, provider: DevIdentityProvider, users: int, numbers: Iterator[int]
) -> Iterator[Request]:
    """Yield requests of all kinds in turn; no user signs in twice."""
    warm = _header(provider, DevUser("user_warm", "Aline", "aline@example.org"))
    url = f"{app.url}/api/auth"
    for kind in itertools.cycle(KINDS):
        if kind == WARM:
            yield kind, partial(requests.Session.get, url=f"{url}/me", headers=warm)
            continue
        number = next(numbers) * STRIDE % users + 1
        name = f"absent_{number}" if kind == KNOWN else f"user_{number}"
        user = DevUser(name, f"Pessoa {number}", f"{number}@example.{len(name)}")
        headers = _header(provider, user)
        yield kind, partial(requests.Session.post, url=f"{url}/ensure", headers=headers)


def _header(provider: DevIdentityProvider, user: DevUser) -> dict[str, str]:
    return {"Authorization": f"Bearer {provider.token(user, lifetime_seconds=LIFETIME_SECONDS)}"}


def _send_until(stream: Iterator[Request], is_over: Callable[[], bool]) -> dict[str, list[float]]:
    """Send requests at a constant rate; returns milliseconds by kind, infinite for failures."""
    times: dict[str, list[float]] = {WARM: [], NEW: [], KNOWN: []}
    with requests.Session() as client:
        due = time.monotonic()
        while not is_over():
            due = max(due + INTERVAL_SECONDS, time.monotonic())
            kind, send = next(stream)
            time.sleep(max(0.0, due - time.monotonic()))
            started = time.perf_counter()
            answer = send(client)
            milliseconds = (time.perf_counter() - started) * 1000
            times[kind].append(milliseconds if answer.ok else float("inf"))
    return times


def _latency(
    kind: str, idle: Sequence[dict[str, list[float]]], busy: Sequence[dict[str, list[float]]]
) -> Latency:
    before, during = ([_p95(times[kind]) for times in each] for each in (idle, busy))
    ratios = [b / a for a, b in zip(before, during, strict=True)]
    failed = sum(times[kind].count(float("inf")) for times in (*idle, *busy))
    idle_ms, busy_ms, ratio = (statistics.median(each) for each in (before, during, ratios))
    return Latency(kind, idle_ms, busy_ms, ratio, failed)


def _p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)] if values else 0.0
