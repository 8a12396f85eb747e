"""All calls to the identity provider: with budget, single flight, circuit breaker and metrics.

1. Equal calls under way share one execution (single flight).
2. A call is refused while its circuit breaker is open, when its budget is spent, or when
   too many calls of its purpose are under way.
3. A worker thread makes the call. A caller stops waiting at its own deadline; the worker ends by
   the time limit of the HTTP request (core/bounded_http.py).
4. The result is counted and updates the circuit breaker.
"""

import enum
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    UnknownAtProviderError,
    UnusableAnswerError,
)
from core import metrics
from core.circuit_breaker import CircuitBreaker, CircuitOpenError
from core.single_flight import SingleFlight

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

CALL_SECONDS = 3.0  # the longest that a worker is busy with one call
PAGE_SECONDS = 30.0  # of five hundred users, for a command
MAX_RETRY_AFTER_SECONDS = 300.0  # limits Retry-After
BUSY_WAIT_SECONDS = 1.0


class Purpose(enum.Enum):
    """The purpose of a call. All but the first have a separate limit."""

    SIGNED_IN = "signed in"  # users who are signing in; limited by the whole budget only
    ANONYMOUS = "anonymous"  # handshake nonces, which any client can invent
    REFRESH = "refresh"  # expired sessions; a browser without one is redirected instead
    SIGN_OUT = "sign out"
    KEYS = "keys"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of calls: the largest burst, and the number per second in the long run."""

    burst: float
    per_second: float

    def part(self, fraction: float) -> "Rate":
        """Return a fraction of this rate, with a burst of at least one call."""
        return Rate(max(1.0, self.burst * fraction), self.per_second * fraction)


# Half of what Clerk allows an instance in ten seconds (https://clerk.com/docs/guides/how-clerk-works/
# system-limits: 1000 in production, 100 in development), because other programs use the same key.
PRODUCTION = Rate(burst=250, per_second=25)
DEVELOPMENT = Rate(burst=25, per_second=2.5)
# Users that background jobs look up in a minute, however often the sweep runs.
BACKGROUND = Rate(burst=100, per_second=100 / 60)
KEYS = Rate(burst=10, per_second=0.5)
# Worker threads of each purpose, and the limit of its calls under way or queued. With a slow
# provider no purpose can use up the threads of another.
WORKERS = {
    Purpose.SIGNED_IN: (8, 40),
    Purpose.ANONYMOUS: (2, 4),
    Purpose.REFRESH: (3, 10),
    Purpose.SIGN_OUT: (1, 8),
    Purpose.KEYS: (1, 1),
    Purpose.BACKGROUND: (2, 8),
}


class _Bucket:
    """A token bucket; the caller holds the lock."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self.left, self._counted_at = rate, rate.burst, now

    def seconds_until_next(self, now: float, reserve: int) -> float:
        """Return the seconds until there is a token besides `reserve` tokens; 0 if there is one."""
        refilled = (now - self._counted_at) * self._rate.per_second
        self.left, self._counted_at = min(self._rate.burst, self.left + refilled), now
        missing = 1 + reserve - self.left
        if missing <= 0:
            return 0.0
        return missing / self._rate.per_second if self._rate.per_second else math.inf


class CallBudget:
    """Counts the calls of one process; shared by threads. `clock` is monotonic, in seconds.

    A tenth of the whole is reserved for nonces and sign-outs, so that a peak of new users does not
    lock out returning users. Published keys come from another host and have a separate limit.
    """

    def __init__(self, whole: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        per_second = min(BACKGROUND.per_second, whole.part(0.4).per_second)
        rates = {
            Purpose.ANONYMOUS: whole.part(0.2),
            Purpose.REFRESH: Rate(whole.part(0.1).burst, whole.part(0.2).per_second),
            Purpose.SIGN_OUT: whole.part(0.1),
            Purpose.KEYS: KEYS,
            Purpose.BACKGROUND: Rate(min(BACKGROUND.burst, whole.burst), per_second),
        }
        self._clock = clock
        self._reserve = int(whole.burst * 0.1)
        self._whole = _Bucket(whole, clock())
        self._shares = {purpose: _Bucket(rate, clock()) for purpose, rate in rates.items()}
        self._lock = threading.Lock()

    def take(self, purpose: Purpose) -> None:
        """Charge one call, or raise ProviderUnavailableError with the time to wait."""
        with self._lock:
            seconds = self._seconds_until_next(purpose)
            if seconds:
                raise ProviderUnavailableError("the budget of calls is spent", seconds)
            for bucket, _ in self._limits(purpose):
                bucket.left -= 1

    def has_call(self, purpose: Purpose) -> bool:
        """Whether a call of this purpose could be charged now."""
        with self._lock:
            return self._seconds_until_next(purpose) == 0

    def _seconds_until_next(self, purpose: Purpose) -> float:
        now, limits = self._clock(), self._limits(purpose)
        return max(bucket.seconds_until_next(now, reserve) for bucket, reserve in limits)

    def _limits(self, purpose: Purpose) -> list[tuple[_Bucket, int]]:
        """Return the buckets that a call of this purpose uses, each with its reserve."""
        limits = [(self._shares[purpose], 0)] if purpose in self._shares else []
        if purpose is not Purpose.KEYS:
            may_use_reserve = purpose in (Purpose.ANONYMOUS, Purpose.SIGN_OUT)
            limits.append((self._whole, 0 if may_use_reserve else self._reserve))
        return limits


class ProviderCalls:
    """Makes the calls of one process to the provider; one for an app, shared by its threads.

    Failures of anonymous calls, of refreshes, and of fetching keys from another host, do not refuse
    calls for users who are signing in: each of the four has a separate circuit breaker.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = CallBudget(rate, clock)
        self._single_flight = SingleFlight(clock)
        self._backend = CircuitBreaker(clock=clock)
        self._circuits: Mapping[Purpose, CircuitBreaker] = {
            **dict.fromkeys(Purpose, self._backend),
            Purpose.ANONYMOUS: CircuitBreaker(clock=clock),
            Purpose.REFRESH: CircuitBreaker(clock=clock),
            Purpose.KEYS: CircuitBreaker(longest_pause=2.0, clock=clock),
        }
        # Threads start with the first call of their purpose.
        self._pools = {
            purpose: ThreadPoolExecutor(workers, f"provider-{purpose.name.lower()}")
            for purpose, (workers, _) in WORKERS.items()
        }
        self._under_way: Counter[Purpose] = Counter()  # calls that are queued or made
        self._lock = threading.Lock()

    @property
    def is_answering(self) -> bool:
        """Whether the latest call of this process to the Backend API was answered."""
        return self._backend.is_closed

    def is_available(self, purpose: Purpose) -> bool:
        """Whether a call of this purpose would be made now."""
        try:
            self._backend.check()
            self._circuits[purpose].check()
        except CircuitOpenError:
            return False
        return self._budget.has_call(purpose)

    def start(
        self,
        call: str,
        key: Hashable,
        work: Callable[[], Answer],
        purpose: Purpose,
        *,
        keep_seconds: float = 0.0,
    ) -> Future[Answer]:
        """Begin a call in a worker thread, or join an equal one under way; returns its future.

        `call` is its name in metrics and logs. Calls with the same `call` and `key` are equal. A
        result is shared for `keep_seconds`. Raises ProviderUnavailableError where no call may be
        made. The future raises it as well, and UnknownAtProviderError and UnusableAnswerError from
        `work`.
        """
        begin = partial(self._submit, call, work, purpose, time.monotonic())
        return self._single_flight.share((call, key), begin, keep_seconds=keep_seconds)

    def run(
        self,
        call: str,
        key: Hashable,
        work: Callable[[], Answer],
        purpose: Purpose,
        *,
        wait_seconds: float,
        keep_seconds: float = 0.0,
    ) -> Answer:
        """As `start`, and wait up to `wait_seconds` for the result; raises the future's errors."""
        future = self.start(call, key, work, purpose, keep_seconds=keep_seconds)
        try:
            return future.result(wait_seconds)
        except FutureTimeoutError as err:
            raise ProviderUnavailableError("no answer in time") from err

    def _submit(
        self, call: str, work: Callable[[], Answer], purpose: Purpose, begun_at: float
    ) -> Future[Answer]:
        is_background = purpose is Purpose.BACKGROUND
        with self._lock:
            if self._under_way[purpose] >= WORKERS[purpose][1]:
                raise ProviderUnavailableError("too many calls are under way", BUSY_WAIT_SECONDS)
            try:
                if purpose is not Purpose.KEYS:
                    self._backend.check(may_probe=is_background)
                self._circuits[purpose].check(may_probe=is_background)
            except CircuitOpenError as err:
                raise ProviderUnavailableError(str(err), err.wait_seconds) from err
            self._budget.take(purpose)
            self._circuits[purpose].note_call()
            try:
                future = self._pools[purpose].submit(self._make_call, call, work, purpose, begun_at)
            except RuntimeError as err:
                raise ProviderUnavailableError("the process is ending") from err
            self._under_way[purpose] += 1
        future.add_done_callback(lambda _: self._note_end(purpose))
        return future

    def _note_end(self, purpose: Purpose) -> None:
        with self._lock:
            self._under_way[purpose] -= 1

    def _make_call(
        self, call: str, work: Callable[[], Answer], purpose: Purpose, begun_at: float
    ) -> Answer:
        """Make the call, count its result and update the circuit breaker.

        An unusable answer about one user does not open the circuit.
        """
        if time.monotonic() - begun_at > CALL_SECONDS:
            raise ProviderUnavailableError("waited too long for a worker")
        try:
            answer = work()
        except (UnknownAtProviderError, UnusableAnswerError) as err:
            is_unknown = isinstance(err, UnknownAtProviderError)
            self._note_answer(call, "not_found" if is_unknown else "unusable", purpose)
            if not is_unknown:
                log.warning("identity_answer_unusable", call=call, error=str(err))
            raise
        except Exception as err:  # every other error means that the provider was not reached
            self._note_failure(call, purpose, err)
            if isinstance(err, ProviderUnavailableError):
                raise
            raise ProviderUnavailableError(type(err).__name__) from err
        self._note_answer(call, "ok", purpose)
        return answer

    def _note_answer(self, call: str, result: str, purpose: Purpose) -> None:
        self._circuits[purpose].note_success()
        metrics.PROVIDER_REQUESTS.labels(call, result).inc()

    def _note_failure(self, call: str, purpose: Purpose, err: Exception) -> None:
        if isinstance(err, RateLimitedError):
            # The rate limit is that of the secret key, which all Backend API calls purpose.
            limited_share = Purpose.KEYS if purpose is Purpose.KEYS else Purpose.SIGNED_IN
            self._circuits[limited_share].refuse_for(min(err.seconds, MAX_RETRY_AFTER_SECONDS))
            result = "rate_limited"
        else:
            self._circuits[purpose].note_failure()
            result = "error"
        metrics.PROVIDER_REQUESTS.labels(call, result).inc()
        reason = str(err) if isinstance(err, ProviderUnavailableError) else type(err).__name__
        log.warning("identity_provider_unavailable", call=call, result=result, error=reason)
