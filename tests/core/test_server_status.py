"""Server status: the time without an answer starts with the first unanswered attempt."""

import pytest

from core.deadlines import scaled
from core.server_status import LONGEST_CONNECT_SECONDS, LONGEST_ROUND_TRIP_SECONDS, ServerStatus
from tests.support.concurrency import Clock


@pytest.fixture
def server(clock: Clock) -> ServerStatus:
    return ServerStatus(clock)


def test_untried_server_is_not_silent(server: ServerStatus, clock: Clock) -> None:
    clock.seconds += 5

    assert server.silent_seconds == 0


def test_silence_starts_with_the_first_failed_attempt(server: ServerStatus, clock: Clock) -> None:
    server.note_attempt()
    clock.seconds += 3
    server.note_failure()
    server.note_attempt()
    clock.seconds += 4

    assert server.silent_seconds == 7


def test_silence_starts_with_the_unanswered_statement(server: ServerStatus, clock: Clock) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_silence(0.6)
    server.note_attempt()
    clock.seconds += 1

    assert server.silent_seconds == pytest.approx(1.6)


def test_answer_ends_the_silence(server: ServerStatus, clock: Clock) -> None:
    server.note_attempt()
    clock.seconds += 3

    server.note_answer(None, is_connecting=False)

    assert (server.silent_seconds, server.can_open_several) == (0, True)


def test_answer_during_an_attempt_restarts_the_silence(server: ServerStatus, clock: Clock) -> None:
    server.note_attempt()
    clock.seconds += 3

    server.note_answer(None, is_connecting=True)
    clock.seconds += 1

    assert server.silent_seconds == 1


@pytest.mark.parametrize(("waited_seconds", "can_open_several"), [(0.1, True), (0.3, False)])
def test_slow_attempt_marks_the_server_as_not_answering(
    server: ServerStatus, clock: Clock, waited_seconds: float, can_open_several: bool
) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_attempt()
    clock.seconds += waited_seconds

    assert server.can_open_several is can_open_several


def test_failed_attempt_marks_the_server_as_not_answering(server: ServerStatus) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_attempt()
    server.note_failure()

    assert not server.can_open_several


def test_young_attempt_may_still_succeed(server: ServerStatus, clock: Clock) -> None:
    states = [server.is_connecting]
    server.note_attempt()
    states.append(server.is_connecting)
    clock.seconds += scaled(LONGEST_CONNECT_SECONDS)
    states.append(server.is_connecting)

    assert states == [False, True, False]


def test_attempts_after_a_failure_are_an_outage_until_an_answer(server: ServerStatus) -> None:
    server.note_attempt()
    server.note_failure()
    server.note_attempt()
    failed = server.is_connecting
    server.note_answer(None, is_connecting=False)
    server.note_attempt()

    assert (failed, server.is_connecting) == (False, True)


def test_attempts_after_a_statement_without_answer_are_an_outage(server: ServerStatus) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_silence(0.5)
    server.note_attempt()

    assert not server.is_connecting


@pytest.mark.parametrize(
    ("measured", "expected"), [(0.07, 0.07), (3.0, LONGEST_ROUND_TRIP_SECONDS), (None, 0.02)]
)
def test_round_trip_is_the_last_one_measured_with_a_limit(
    server: ServerStatus, measured: float | None, expected: float
) -> None:
    server.note_answer(0.02, is_connecting=False)

    server.note_answer(measured, is_connecting=False)

    assert server.round_trip_seconds == expected


def test_read_only_server_is_an_outage_until_a_connection_takes_writes(
    server: ServerStatus, clock: Clock
) -> None:
    server.note_read_only()
    clock.seconds += 3
    server.note_read_only()
    server.note_answer(None, is_connecting=False)
    during = (server.outage_seconds, server.silent_seconds)

    server.note_writable()

    assert (during, server.outage_seconds) == ((3, 0), 0)


def test_silent_server_is_an_outage(server: ServerStatus, clock: Clock) -> None:
    server.note_attempt()
    clock.seconds += 3

    assert server.outage_seconds == 3
