"""Where figures are taken: the app beside the bare view in one server, and people who sign in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks.raw_client import BARE, Run, ask_all, question
from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import Served, served, start_redis

TARGET = "benchmarks.baseline_app:app"
ENSURE, ME, DASHBOARD = "/api/auth/ensure", "/api/auth/me", "/dashboard"
BARE_VIEW = question("GET", f"{BARE}/")


@dataclass(frozen=True, slots=True)
class Ground:
    """A served app with the bare view beside it, and whoever signs in there."""

    app: Served
    provider: DevIdentityProvider
    numbers: Iterator[int] = field(default_factory=count)

    def newcomers(self, number: int) -> list[str]:
        """Session tokens of so many people whom nobody has seen before."""
        return [self.provider.token(self._somebody(next(self.numbers))) for _ in range(number)]

    def bare(self, number: int, lines: int) -> Run:
        """Ask the bare view so many times."""
        return ask_all(self.app.url, [BARE_VIEW] * number, lines)

    def ask(self, method: str, path: str, tokens: Sequence[str], lines: int) -> Run:
        """Ask once with each token."""
        return ask_all(self.app.url, [question(method, path, t) for t in tokens], lines)

    def _somebody(self, number: int) -> DevUser:
        return DevUser(f"user_bench_{number}", f"Pessoa {number}", f"p{number}@bench.example.com")


@contextmanager
def ground(folder: Path, *, with_redis: bool = False, **settings: str) -> Iterator[Ground]:
    """A fresh app with an empty database; one process, the scheduler off."""
    folder.mkdir()
    if with_redis:
        with start_redis(folder) as store, ground(folder / "app", REDIS_URL=store.url) as found:
            yield found
        return
    with served(folder, TARGET, SCHEDULER="off", **settings) as app:
        yield Ground(app, DevIdentityProvider(folder / "identity"))


def rate(runs: Sequence[Run]) -> str:
    """Their answers a second, in the middle of the field."""
    return f"{sorted(run.per_second for run in runs)[len(runs) // 2]:.0f}/s"
