"""What a host's processes count, under the names of CONTRACT section 6."""

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks for it
OURS = CollectorRegistry()

DOORS = ("page", "api", "webhook", "sweep", "admin", "cli")
OUTCOMES = ("existing", "created", "linked", "claimed", "ambiguous", "denied", "failed")
CACHE_RESULTS = ("hit", "miss", "hit_no_mentorado", "error")

ENSURES = Counter(
    "mentorado_ensure_total",
    "People whose profile was ensured, by door and outcome.",
    ["entry", "outcome"],
    registry=OURS,
)
# Up to five seconds, which the alerts watch for; a request itself never takes more than two.
ENSURE_SECONDS = Histogram(
    "mentorado_ensure_seconds",
    "How long ensuring took, waiting for others included; a sweep's batches are not timed.",
    ["entry", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
    registry=OURS,
)
ENSURE_RETRIES = Counter(
    "mentorado_ensure_retries_total",
    "Units of work tried again, by what went wrong.",
    ["reason"],
    registry=OURS,
)
CACHE_REQUESTS = Counter(
    "session_cache_requests_total",
    "Questions to the cache of request contexts.",
    ["result"],
    registry=OURS,
)
PROVIDER_REQUESTS = Counter(
    "identity_provider_requests_total",
    "Questions to the identity provider.",
    ["call", "result"],
    registry=OURS,
)
HTTP_REQUESTS = Counter(
    "http_requests_total", "Requests answered.", ["method", "route", "status"], registry=OURS
)
HTTP_SECONDS = Histogram(
    "http_request_seconds",
    "From the door to the answer.",
    ["method", "route"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
    registry=OURS,
)


class Together(MultiProcessCollector):
    """What the processes have counted that count into a folder, while some of them come and go."""

    def collect(self) -> Iterable[Metric]:
        """Sum up; prometheus_client would fail over a file that is just being made or dropped."""
        try:
            return self._sum()
        except FileNotFoundError:  # a server that starts has dropped what others have left
            return self._sum()

    def _sum(self) -> Iterable[Metric]:
        # A file is empty for the moment between its making and its first zero.
        begun = [str(file) for file in Path(self._path).glob("*.db") if file.stat().st_size]
        summed: Iterable[Metric] = self.merge(begun)  # type: ignore[no-untyped-call]
        return summed


def count_together(folder: Path) -> None:
    """Have this process and its children count into a folder that the host's others count into too.

    To be called before anything is counted: prometheus_client itself would look for the folder only
    while it is being imported. What a process has counted stays when it ends, or sums would fall.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    _start_at_zero()


def forget_the_ended(folder: Path) -> None:
    """Begin anew: drop what processes have counted that are no longer there."""
    for file in folder.glob("*.db"):
        if not _is_running(int(file.stem.rpartition("_")[2])):
            file.unlink(missing_ok=True)


def exposition(further: Collector) -> bytes:
    """All that this host's processes have counted, and what a further collector knows, as
    Prometheus' text; a process that does not count together tells what it has counted alone.
    """
    everything = CollectorRegistry()
    everything.register(_counted())
    everything.register(further)
    return generate_latest(everything)


def cache_hit_ratio() -> float | None:
    """How many of this host's questions the cache has answered; None before the first."""
    asked = {
        sample.labels["result"]: sample.value
        for metric in _counted().collect()
        for sample in metric.samples
        if sample.name == "session_cache_requests_total"
    }
    return asked.get("hit", 0.0) / sum(asked.values()) if asked else None


def _start_at_zero() -> None:
    """Have what alerts watch for be there from the start: Prometheus does not see a counter rise
    that begins with its first case.
    """
    for result in CACHE_RESULTS:
        CACHE_REQUESTS.labels(result)
    for door, outcome in product(DOORS, OUTCOMES):
        ENSURES.labels(door, outcome)


def _counted() -> Collector:
    is_alone = values.ValueClass is values.MutexValue
    return OURS if is_alone else Together(None)  # type: ignore[no-untyped-call]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return pid != os.getpid()  # ours is the number that an ended one has had before us
