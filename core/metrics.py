"""Prometheus metrics, shared by all processes of a host (docs/reference/contract.md#metrics)."""

import json
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    generate_latest,
    values,
)
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

FILE_BYTES = 1 << 18  # about two thousand series; the size doubles when more are needed
SERIES_OVERHEAD_BYTES = 32  # of a series: its length, its padding, its value and its time
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the variable that prometheus_client reads
REGISTRY = CollectorRegistry()

SOURCES = ("page", "api", "webhook", "sweep", "admin", "cli")
OUTCOMES = ("existing", "created", "linked", "claimed", "ambiguous", "denied", "failed")
CACHE_RESULTS = ("hit", "miss", "hit_no_mentorado", "error")

_counter = partial(Counter, registry=REGISTRY)
_histogram = partial(Histogram, registry=REGISTRY)

ENSURES = _counter(
    "mentorado_ensure_total",
    "Ensure calls and profiles ensured by sweeps, by source and outcome.",
    ["entry", "outcome"],
)
# Up to ten seconds, because alerts watch for five; a request itself never takes more than two.
ENSURE_SECONDS = _histogram(
    "mentorado_ensure_seconds",
    "Duration of ensure calls, waiting included; batches of sweeps are not timed.",
    ["entry", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)
ENSURE_RETRIES = _counter(
    "mentorado_ensure_retries_total", "Units of work that were retried, by error.", ["reason"]
)
CACHE_REQUESTS = _counter(
    "session_cache_requests_total",
    "Lookups in the cache of request contexts, by result.",
    ["result"],
)
PROVIDER_REQUESTS = _counter(
    "identity_provider_requests_total",
    "Calls to the identity provider, by call and result.",
    ["call", "result"],
)
HTTP_REQUESTS = _counter("http_requests_total", "Requests answered.", ["method", "route", "status"])
HTTP_SECONDS = _histogram(
    "http_request_seconds",
    "Duration of requests.",
    ["method", "route"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)


class AllocatedDict(MmapedDict):
    """The metrics file of a process; its blocks are allocated before they are written to.

    prometheus_client maps sparse files: on a full disk the first write to a new page is a SIGBUS,
    which ends the whole process. Where the disk is full, or the folder cannot be written, this
    process counts in memory, and the other processes do not see its counts.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - as there
        super().__init__(_allocate(filename), read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        needed = self._used + len(key.encode()) + SERIES_OVERHEAD_BYTES
        if needed > self._capacity:
            self._grow(2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self, size: int) -> None:
        try:
            os.posix_fallocate(self._f.fileno(), 0, size)
        except OSError as err:
            log.warning("counters_kept_in_memory", error=err.strerror)
            counted = self._m[: self._capacity]
            self._f = Path(_create_memory_file(size)).open("r+b")  # noqa: SIM115 - as long as the process
            self._f.write(counted)
            self._f.flush()
        self._m = mmap.mmap(self._f.fileno(), size)
        self._capacity = size


class MultiprocessCollector(MultiProcessCollector):
    """Sums the metrics files of a folder while processes start and end."""

    def collect(self) -> Iterable[Metric]:
        """Sum the readable files; a file may be damaged, just created, or just removed."""
        try:
            return self._sum()
        except FileNotFoundError:  # a server that starts has removed files of ended processes
            return self._sum()

    def _sum(self) -> Iterable[Metric]:
        files = [str(file) for file in Path(self._path).glob("*.db")]
        readable = [file for file in files if _is_readable(file)]
        summed: Iterable[Metric] = self.merge(readable)  # type: ignore[no-untyped-call]
        return summed


def _is_readable(file: str) -> bool:
    """Whether all entries of a metrics file can be read; a damaged file is left out."""
    try:
        for key, *_ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
            json.loads(key)
    except FileNotFoundError:
        return False
    except Exception as err:  # the parser raises many kinds of errors for damaged bytes
        if Path(file).exists() and Path(file).stat().st_size:  # not just being created
            log.warning("counters_not_read", file=Path(file).name, error=type(err).__name__)
        return False
    return True


def _allocate(filename: str) -> str:
    """Return the file with its blocks allocated; a file in memory where the disk is full."""
    try:
        with Path(filename).open("a+b") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
    except OSError as err:
        log.warning("counters_kept_in_memory", error=err.strerror)
        return _create_memory_file(FILE_BYTES)
    return filename


def _create_memory_file(size: int) -> str:
    descriptor = os.memfd_create("counters")
    os.posix_fallocate(descriptor, 0, size)
    return f"/proc/self/fd/{descriptor}"


def enable_multiprocess(folder: Path) -> None:
    """Make this process and its children count into a folder that all processes of the host share.

    Call it before anything is counted: prometheus_client itself would read the variable only at
    import. The counts of a process stay when it ends, or sums would fall.
    """
    with suppress(OSError):  # then each process counts alone
        folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)
    values.MmapedDict = AllocatedDict  # type: ignore[attr-defined] # there is no public way
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    # Prometheus does not see the increase of a counter that first appears with 1, so those that
    # alerts watch appear with 0.
    for result in CACHE_RESULTS:
        CACHE_REQUESTS.labels(result)
    for source, outcome in product(SOURCES, OUTCOMES):
        ENSURES.labels(source, outcome)


def remove_dead_processes(folder: Path) -> None:
    """Delete the metrics files of processes that no longer run."""
    with suppress(OSError):  # a folder that cannot be read
        for file in folder.glob("*.db"):
            pid = file.stem.rpartition("_")[2]
            if pid.isdecimal() and not _is_running(int(pid)):
                file.unlink(missing_ok=True)


def render(collector: Collector) -> bytes:
    """Return the metrics of this host's processes and of one more collector as Prometheus' text.

    A process without a shared folder returns its own counts.
    """
    registry = CollectorRegistry()
    registry.register(_collector())
    registry.register(collector)
    return generate_latest(registry)


def cache_hit_ratio() -> float | None:
    """Return the share of this host's cache lookups that were hits; None before the first."""
    lookups = {
        sample.labels["result"]: sample.value
        for metric in _collector().collect()
        for sample in metric.samples
        if sample.name == "session_cache_requests_total"
    }
    return lookups.get("hit", 0.0) / sum(lookups.values()) if lookups else None


def _collector() -> Collector:
    try:
        return REGISTRY if values.ValueClass is values.MutexValue else MultiprocessCollector(None)  # type: ignore[no-untyped-call]
    except ValueError:  # the folder is gone
        return REGISTRY


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it belongs to another user
    return pid != os.getpid()  # an ended process may have had the id of this one
