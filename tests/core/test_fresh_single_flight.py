"""Concurrent equal calls share executions, and no result is older than its call."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from core.single_flight import FreshSingleFlight
from tests.support.concurrency import Clock, ThreadCountingKey, frequent_thread_switches

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flight(clock: Clock) -> FreshSingleFlight[str]:
    return FreshSingleFlight(clock)


@pytest.mark.parametrize(
    ("received_before_begin", "expected"),
    [(0.5, ("first", False)), (0.0, ("first", False)), (-0.5, ("second", True))],
)
def test_request_shares_an_execution_that_began_after_it_was_received(
    flight: FreshSingleFlight[str],
    clock: Clock,
    received_before_begin: float,
    expected: tuple[str, bool],
) -> None:
    received_at = clock() - received_before_begin
    flight.run("key", lambda: "first")
    clock.seconds += 0.1

    assert flight.run("key", lambda: "second", received_at=received_at) == expected


def test_waiting_request_shares_the_running_execution(flight: FreshSingleFlight[str]) -> None:
    running, finish = Event(), Event()

    def execute() -> str:
        running.set()
        finish.wait(timeout=10)
        return "first"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flight.run, "key", execute)
        running.wait(timeout=10)
        second = pool.submit(flight.run, "key", lambda: "second", received_at=0.0)
        finish.set()

    assert [first.result(), second.result()] == [("first", True), ("first", False)]


def test_request_without_time_of_receipt_shares_no_ended_execution(
    flight: FreshSingleFlight[str],
) -> None:
    flight.run("key", lambda: "first")

    assert flight.run("key", lambda: "second") == ("second", True)


def test_failed_execution_is_not_shared_with_a_waiting_request(
    flight: FreshSingleFlight[str],
) -> None:
    with pytest.raises(LookupError):
        flight.run("key", lambda: dict[str, str]()["missing"])

    assert flight.run("key", lambda: "better", received_at=0.0) == ("better", True)


def test_result_is_not_shared_a_second_after_its_end(
    flight: FreshSingleFlight[str], clock: Clock
) -> None:
    received_at = clock()
    flight.run("key", lambda: "first")
    clock.seconds += 1.5

    assert flight.run("key", lambda: "second", received_at=received_at) == ("second", True)
