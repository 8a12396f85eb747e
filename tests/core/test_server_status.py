"""Server status: the silence starts with the first unanswered attempt."""

import pytest

from core.server_status import LONGEST_ROUND_TRIP_SECONDS, ServerStatus
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

    assert (server.silent_seconds, server.is_answering) == (0, True)


def test_answer_during_an_attempt_restarts_the_silence(server: ServerStatus, clock: Clock) -> None:
    server.note_attempt()
    clock.seconds += 3

    server.note_answer(None, is_connecting=True)
    clock.seconds += 1

    assert server.silent_seconds == 1


@pytest.mark.parametrize(("waited_seconds", "is_answering"), [(0.1, True), (0.3, False)])
def test_slow_attempt_marks_the_server_as_not_answering(
    server: ServerStatus, clock: Clock, waited_seconds: float, is_answering: bool
) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_attempt()
    clock.seconds += waited_seconds

    assert server.is_answering is is_answering


def test_failed_attempt_marks_the_server_as_not_answering(server: ServerStatus) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_attempt()
    server.note_failure()

    assert not server.is_answering


def test_first_attempt_ends_with_its_failure(server: ServerStatus) -> None:
    before = server.is_first_attempt
    server.note_attempt()
    during = server.is_first_attempt
    server.note_failure()

    assert (before, during, server.is_first_attempt) == (True, True, False)


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
