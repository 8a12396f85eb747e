"""Shared flights: few questions, and no answer older than its question."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from core.single_flight import FreshSingleFlight
from tests.support.concurrency import Roll, threads_taking_turns_often

PASSENGERS = 20
DEPARTURES = 20_000


def test_lone_caller_asks_for_itself() -> None:
    assert FreshSingleFlight[str]().run("key", lambda: "answer") == ("answer", True)


def test_crowd_shares_two_flights() -> None:
    flights, roll, asked = FreshSingleFlight[int](), Roll("key", crowd=PASSENGERS), list[int]()

    def ask() -> int:
        asked.append(1)
        roll.is_complete.wait(timeout=10)
        return len(asked)

    with ThreadPoolExecutor(PASSENGERS) as pool:
        answers = list(pool.map(lambda _: flights.run(roll, ask), range(PASSENGERS)))

    assert sorted(answers) == [(1, True)] + [(2, False)] * (PASSENGERS - 2) + [(2, True)]
    assert len(asked) == 2


def test_other_keys_do_not_wait() -> None:
    flights = FreshSingleFlight[str]()

    answer = flights.run("a", lambda: flights.run("b", lambda: "inner")[0])

    assert answer == ("inner", True)


def test_error_reaches_whoever_asked_and_leaves_nothing_behind() -> None:
    flights = FreshSingleFlight[str]()

    with pytest.raises(LookupError):
        flights.run("key", lambda: dict[str, str]()["missing"])

    assert flights.run("key", lambda: "better") == ("better", True)


def test_flight_behind_a_failed_one_takes_off() -> None:
    flights, in_the_air, land = FreshSingleFlight[str](), Event(), Event()

    def fail() -> str:
        in_the_air.set()
        land.wait(timeout=10)
        raise LookupError

    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(flights.run, "key", fail)
        in_the_air.wait(timeout=10)
        second = pool.submit(flights.run, "key", lambda: "better")
        land.set()

    assert isinstance(failed.exception(), LookupError)
    assert second.result() == ("better", True)


def test_landing_leaves_the_flight_behind_it_in_the_air() -> None:
    flights, in_the_air, most = FreshSingleFlight[int](), list[int](), list[int]()

    def ask() -> int:
        in_the_air.append(1)
        most.append(len(in_the_air))
        return in_the_air.pop()

    with threads_taking_turns_often(), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: flights.run("key", ask)[0], range(DEPARTURES)))

    assert (sum(answers), max(most)) == (DEPARTURES, 1)
