"""What a host's processes count, under the names of CONTRACT section 6."""

import json
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
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

FILE_BYTES = 1 << 18  # some two thousand series; twice as much is allocated when they are more
ENTRY_OVERHEAD_BYTES = 32  # of a series: its length, its padding, its value and its time
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks for it
OURS = CollectorRegistry()

SOURCES = ("page", "api", "webhook", "sweep", "admin", "cli")
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


class AllocatedDict(MmapedDict):
    """A process's file of counters, whose blocks are allocated before they are written to.

    prometheus_client maps sparse files: on a full disk the first write to a new page is a SIGBUS,
    which ends the whole process. Where the disk has no room, or the folder cannot be written, this
    process goes on counting in memory, unseen by the others.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - as there
        super().__init__(_allocated(filename), read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        needed = self._used + len(key.encode()) + ENTRY_OVERHEAD_BYTES
        if needed > self._capacity:
            self._grow(2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self, size: int) -> None:
        try:
            os.posix_fallocate(self._f.fileno(), 0, size)
        except OSError as err:
            log.warning("counters_kept_in_memory", error=err.strerror)
            counted = self._m[: self._capacity]
            self._f = Path(_in_memory(size)).open("r+b")  # noqa: SIM115 - as long as the process
            self._f.write(counted)
            self._f.flush()
        self._m = mmap.mmap(self._f.fileno(), size)
        self._capacity = size


class MultiprocessCollector(MultiProcessCollector):
    """What the processes have counted that count into a folder, while some of them come and go."""

    def collect(self) -> Iterable[Metric]:
        """Sum up the files that can be read: one may be damaged, just created, or just removed."""
        try:
            return self._sum()
        except FileNotFoundError:  # a server that starts has removed what others have left
            return self._sum()

    def _sum(self) -> Iterable[Metric]:
        files = [str(file) for file in Path(self._path).glob("*.db")]
        readable = [file for file in files if _is_readable(file)]
        summed: Iterable[Metric] = self.merge(readable)  # type: ignore[no-untyped-call]
        return summed


def _is_readable(file: str) -> bool:
    """Whether a file of counters holds nothing but entries; a damaged one costs its counts only."""
    try:
        for key, *_ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
            json.loads(key)
    except FileNotFoundError:
        return False
    except Exception as err:  # whatever the bytes are
        if Path(file).exists() and Path(file).stat().st_size:  # not one that is just being created
            log.warning("counters_not_read", file=Path(file).name, error=type(err).__name__)
        return False
    return True


def _allocated(filename: str) -> str:
    """The file, with room on the disk; a file in memory where there is none."""
    try:
        with Path(filename).open("a+b") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
    except OSError as err:
        log.warning("counters_kept_in_memory", error=err.strerror)
        return _in_memory(FILE_BYTES)
    return filename


def _in_memory(size: int) -> str:
    descriptor = os.memfd_create("counters")
    os.posix_fallocate(descriptor, 0, size)
    return f"/proc/self/fd/{descriptor}"


def enable_multiprocess(folder: Path) -> None:
    """Have this process and its children count into a folder that the host's others count into too.

    To be called before anything is counted: prometheus_client itself would look for the folder only
    while it is being imported. What a process has counted stays when it ends, or sums would fall.
    """
    with suppress(OSError):  # then each process counts alone
        folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)
    values.MmapedDict = AllocatedDict  # type: ignore[attr-defined] # no other way is offered
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    _start_at_zero()


def remove_dead_processes(folder: Path) -> None:
    """Begin anew: drop what processes have counted that are no longer there."""
    for file in folder.glob("*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _is_running(int(pid)):
            with suppress(OSError):
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
    for door, outcome in product(SOURCES, OUTCOMES):
        ENSURES.labels(door, outcome)


def _counted() -> Collector:
    try:
        return OURS if values.ValueClass is values.MutexValue else MultiprocessCollector(None)  # type: ignore[no-untyped-call]
    except ValueError:  # the folder has gone
        return OURS


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return pid != os.getpid()  # ours is the number that an ended one has had before us
