"""All calls to the identity provider: with budget, single flight, circuit breaker and metrics.

1. Equal calls under way share one execution (single flight).
2. A call is refused while its circuit breaker is open, when its budget is spent, or when its share
   has too many calls under way.
3. A worker thread makes the call. A caller stops waiting at its own deadline; the worker ends by
   the time limit of the HTTP request (core/bounded_http.py).
4. The result is counted and updates the circuit breaker.
"""

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import TypeVar

import structlog

from auth.call_budget import CallBudget, Rate, Share
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

CALL_SECONDS = 3.0  # the longest that a worker is busy with one call
MAX_REST_SECONDS = 300.0  # limits Retry-After
BUSY_WAIT_SECONDS = 1.0
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

Answer = TypeVar("Answer")


class _WorkerPool:
    """The worker threads of one share; they start with its first call."""

    def __init__(self, workers: int, max_calls: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=f"provider-{name}")
        self._max_calls, self._calls = max_calls, 0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise ProviderUnavailableError where too many calls are under way."""
        if self._calls >= self._max_calls:
            raise ProviderUnavailableError("too many calls are under way", BUSY_WAIT_SECONDS)

    def submit(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Run `work` in a worker; raises ProviderUnavailableError while the process ends."""
        with self._lock:
            self._calls += 1
        try:
            future = self._pool.submit(work)
        except RuntimeError as err:  # the process is ending
            self._release()
            raise ProviderUnavailableError("the process is ending") from err
        future.add_done_callback(lambda _: self._release())
        return future

    def _release(self) -> None:
        with self._lock:
            self._calls -= 1


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
        self._pools = {
            share: _WorkerPool(*size, share.name.lower()) for share, size in WORKERS.items()
        }
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
        pool = self._pools[share]
        with self._lock:
            pool.check()
            try:
                if share is not Share.KEYS:
                    self._backend.check(may_probe=is_background)
                self._circuits[share].check(may_probe=is_background)
            except CircuitOpenError as err:
                raise ProviderUnavailableError(str(err), err.wait_seconds) from err
            self._budget.take(share)
            self._circuits[share].note_call()
            return pool.submit(partial(self._make_call, call, work, share, begun_at))

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
            self._circuits[limited_share].refuse_for(min(err.seconds, MAX_REST_SECONDS))
            result = "rate_limited"
        else:
            self._circuits[share].note_failure()
            result = "error"
        metrics.PROVIDER_REQUESTS.labels(call, result).inc()
        reason = str(err) if isinstance(err, ProviderUnavailableError) else type(err).__name__
        log.warning("identity_provider_unavailable", call=call, result=result, error=reason)
