"""The app under measurement, with the baseline view in the same server, and requests to both."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks.raw_client import BASELINE_PATH, Run, request_bytes, send_all
from benchmarks.servers import AppServer, run_app, start_redis
from dev.fake_clerk import DevIdentityProvider, DevUser

TARGET = "benchmarks.baseline_app:app"
ENSURE, ME, DASHBOARD = "/api/auth/ensure", "/api/auth/me", "/dashboard"
BASELINE_REQUEST = request_bytes("GET", f"{BASELINE_PATH}/")


@dataclass(frozen=True, slots=True)
class BenchApp:
    """A served app with the baseline view, and the identity provider of its users."""

    app: AppServer
    provider: DevIdentityProvider
    numbers: Iterator[int] = field(default_factory=count)

    def new_tokens(self, number: int) -> list[str]:
        """Return session tokens of new users."""
        return [self.provider.token(_user(next(self.numbers))) for _ in range(number)]

    def send_baseline(self, number: int, concurrency: int) -> Run:
        """Send requests to the baseline view."""
        return send_all(self.app.url, [BASELINE_REQUEST] * number, concurrency)

    def send(self, method: str, path: str, tokens: Sequence[str], concurrency: int) -> Run:
        """Send one request with each token."""
        requests = [request_bytes(method, path, token) for token in tokens]
        return send_all(self.app.url, requests, concurrency)


@contextmanager
def bench_app(folder: Path, *, with_redis: bool = False, **settings: str) -> Iterator[BenchApp]:
    """Serve a fresh app with an empty database; one process, the scheduler off."""
    folder.mkdir()
    if with_redis:
        with start_redis(folder) as store, bench_app(folder / "app", REDIS_URL=store.url) as app:
            yield app
        return
    with run_app(folder, TARGET, SCHEDULER="off", **settings) as process:
        yield BenchApp(process, DevIdentityProvider(folder / "identity"))


def _user(number: int) -> DevUser:
    return DevUser(f"user_bench_{number}", f"Pessoa {number}", f"p{number}@bench.example.com")


def rate(runs: Sequence[Run]) -> str:
    """Return the median of the runs' answers per second as text."""
    return f"{sorted(run.per_second for run in runs)[len(runs) // 2]:.0f}/s"
