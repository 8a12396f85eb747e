"""All calls to the identity provider: with budget, single flight, circuit breaker and metrics.

1. Equal calls under way share one execution (single flight).
2. A call is refused while its circuit breaker is open, when its budget is spent, or when its share
   has too many calls under way.
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


class Share(enum.Enum):
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
# Worker threads of each share, and the limit of its calls under way or queued. With a slow provider
# no share can use up the threads of another.
WORKERS = {
    Share.SIGNED_IN: (8, 40),
    Share.ANONYMOUS: (2, 4),
    Share.REFRESH: (3, 10),
    Share.SIGN_OUT: (1, 8),
    Share.KEYS: (1, 1),
    Share.BACKGROUND: (2, 8),
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
            Share.ANONYMOUS: whole.part(0.2),
            Share.REFRESH: Rate(whole.part(0.1).burst, whole.part(0.2).per_second),
            Share.SIGN_OUT: whole.part(0.1),
            Share.KEYS: KEYS,
            Share.BACKGROUND: Rate(min(BACKGROUND.burst, whole.burst), per_second),
        }
        self._clock = clock
        self._reserve = int(whole.burst * 0.1)
        self._whole = _Bucket(whole, clock())
        self._shares = {share: _Bucket(rate, clock()) for share, rate in rates.items()}
        self._lock = threading.Lock()

    def take(self, share: Share) -> None:
        """Charge one call, or raise ProviderUnavailableError with the time to wait."""
        with self._lock:
            seconds = self._seconds_until_next(share)
            if seconds:
                raise ProviderUnavailableError("the budget of calls is spent", seconds)
            for bucket, _ in self._limits(share):
                bucket.left -= 1

    def has_call(self, share: Share) -> bool:
        """Whether a call of this share could be charged now."""
        with self._lock:
            return self._seconds_until_next(share) == 0

    def _seconds_until_next(self, share: Share) -> float:
        now, limits = self._clock(), self._limits(share)
        return max(bucket.seconds_until_next(now, reserve) for bucket, reserve in limits)

    def _limits(self, share: Share) -> list[tuple[_Bucket, int]]:
        """Return the buckets that a call of this share uses, each with its reserve."""
        limits = [(self._shares[share], 0)] if share in self._shares else []
        if share is not Share.KEYS:
            may_use_reserve = share in (Share.ANONYMOUS, Share.SIGN_OUT)
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
        self._circuits: Mapping[Share, CircuitBreaker] = {
            **dict.fromkeys(Share, self._backend),
            Share.ANONYMOUS: CircuitBreaker(clock=clock),
            Share.REFRESH: CircuitBreaker(clock=clock),
            Share.KEYS: CircuitBreaker(longest_pause=2.0, clock=clock),
        }
        # Threads start with the first call of their share.
        self._pools = {
            share: ThreadPoolExecutor(workers, f"provider-{share.name.lower()}")
            for share, (workers, _) in WORKERS.items()
        }
        self._under_way: Counter[Share] = Counter()  # calls that are queued or made
        self._lock = threading.Lock()

    @property
    def is_answering(self) -> bool:
        """Whether the latest call of this process to the Backend API was answered."""
        return self._backend.is_closed

    def is_available(self, share: Share) -> bool:
        """Whether a call of this share would be made now."""
        try:
            self._backend.check()
            self._circuits[share].check()
        except CircuitOpenError:
            return False
        return self._budget.has_call(share)

    def start(
        self,
        call: str,
        key: Hashable,
        work: Callable[[], Answer],
        share: Share,
        *,
        keep_seconds: float = 0.0,
    ) -> Future[Answer]:
        """Begin a call in a worker thread, or join an equal one under way; returns its future.

        `call` is its name in metrics and logs. Calls with the same `call` and `key` are equal. A
        result is shared for `keep_seconds`. Raises ProviderUnavailableError where no call may be
        made. The future raises it as well, and UnknownAtProviderError and UnusableAnswerError from
        `work`.
        """
        begin = partial(self._submit, call, work, share, time.monotonic())
        return self._single_flight.share((call, key), begin, keep_seconds=keep_seconds)

    def run(
        self,
        call: str,
        key: Hashable,
        work: Callable[[], Answer],
        share: Share,
        *,
        wait_seconds: float,
        keep_seconds: float = 0.0,
    ) -> Answer:
        """As `start`, and wait up to `wait_seconds` for the result; raises the future's errors."""
        future = self.start(call, key, work, share, keep_seconds=keep_seconds)
        try:
            return future.result(wait_seconds)
        except FutureTimeoutError as err:
            raise ProviderUnavailableError("no answer in time") from err

    def _submit(
        self, call: str, work: Callable[[], Answer], share: Share, begun_at: float
    ) -> Future[Answer]:
        is_background = share is Share.BACKGROUND
        with self._lock:
            if self._under_way[share] >= WORKERS[share][1]:
                raise ProviderUnavailableError("too many calls are under way", BUSY_WAIT_SECONDS)
            try:
                if share is not Share.KEYS:
                    self._backend.check(may_probe=is_background)
                self._circuits[share].check(may_probe=is_background)
            except CircuitOpenError as err:
                raise ProviderUnavailableError(str(err), err.wait_seconds) from err
            self._budget.take(share)
            self._circuits[share].note_call()
            try:
                future = self._pools[share].submit(self._make_call, call, work, share, begun_at)
            except RuntimeError as err:
                raise ProviderUnavailableError("the process is ending") from err
            self._under_way[share] += 1
        future.add_done_callback(lambda _: self._note_end(share))
        return future

    def _note_end(self, share: Share) -> None:
        with self._lock:
            self._under_way[share] -= 1

    def _make_call(
        self, call: str, work: Callable[[], Answer], share: Share, begun_at: float
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
            self._note_answer(call, "not_found" if is_unknown else "unusable", share)
            if not is_unknown:
                log.warning("identity_answer_unusable", call=call, error=str(err))
            raise
        except Exception as err:  # every other error means that the provider was not reached
            self._note_failure(call, share, err)
            if isinstance(err, ProviderUnavailableError):
                raise
            raise ProviderUnavailableError(type(err).__name__) from err
        self._note_answer(call, "ok", share)
        return answer

    def _note_answer(self, call: str, result: str, share: Share) -> None:
        self._circuits[share].note_success()
        metrics.PROVIDER_REQUESTS.labels(call, result).inc()

    def _note_failure(self, call: str, share: Share, err: Exception) -> None:
        if isinstance(err, RateLimitedError):
            # The rate limit is that of the secret key, which all Backend API calls share.
            limited_share = Share.KEYS if share is Share.KEYS else Share.SIGNED_IN
            self._circuits[limited_share].refuse_for(min(err.seconds, MAX_RETRY_AFTER_SECONDS))
            result = "rate_limited"
        else:
            self._circuits[share].note_failure()
            result = "error"
        metrics.PROVIDER_REQUESTS.labels(call, result).inc()
        reason = str(err) if isinstance(err, ProviderUnavailableError) else type(err).__name__
        log.warning("identity_provider_unavailable", call=call, result=result, error=reason)
