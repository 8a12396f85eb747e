"""Concurrent equal calls share executions, and no result is older than its call."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from core.single_flight import FreshSingleFlight
from tests.support.concurrency import ThreadCountingKey, frequent_thread_switches

CALLERS = 20
CALLS = 20_000


def test_single_call_is_executed() -> None:
    assert FreshSingleFlight[str]().run("key", lambda: "answer") == ("answer", True)


def test_concurrent_calls_share_two_executions() -> None:
    flight, key, executions = (
        FreshSingleFlight[int](),
        ThreadCountingKey("key", expected_threads=CALLERS),
        list[int](),
    )

    def execute() -> int:
        executions.append(1)
        key.all_arrived.wait(timeout=10)
        return len(executions)

    with ThreadPoolExecutor(CALLERS) as pool:
        results = list(pool.map(lambda _: flight.run(key, execute), range(CALLERS)))

    assert sorted(results) == [(1, True)] + [(2, False)] * (CALLERS - 2) + [(2, True)]
    assert len(executions) == 2


def test_other_keys_do_not_wait() -> None:
    flight = FreshSingleFlight[str]()

    answer = flight.run("a", lambda: flight.run("b", lambda: "inner")[0])

    assert answer == ("inner", True)


def test_error_reaches_its_caller_and_is_not_kept() -> None:
    flight = FreshSingleFlight[str]()

    with pytest.raises(LookupError):
        flight.run("key", lambda: dict[str, str]()["missing"])

    assert flight.run("key", lambda: "better") == ("better", True)


def test_execution_after_a_failed_one_starts() -> None:
    flight, running, finish = FreshSingleFlight[str](), Event(), Event()

    def fail() -> str:
        running.set()
        finish.wait(timeout=10)
        raise LookupError

    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(flight.run, "key", fail)
        running.wait(timeout=10)
        second = pool.submit(flight.run, "key", lambda: "better")
        finish.set()

    assert isinstance(failed.exception(), LookupError)
    assert second.result() == ("better", True)


def test_executions_of_one_key_never_overlap() -> None:
    flight, running, max_running = FreshSingleFlight[int](), list[int](), list[int]()

    def execute() -> int:
        running.append(1)
        max_running.append(len(running))
        return running.pop()

    with frequent_thread_switches(), ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: flight.run("key", execute)[0], range(CALLS)))

    assert (sum(results), max(max_running)) == (CALLS, 1)
