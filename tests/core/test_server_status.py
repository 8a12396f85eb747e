"""Whether the server answers: silent from the first attempt that no answer follows."""

import pytest

from core.server_status import LONGEST_ROUND_TRIP_SECONDS, ServerStatus
from tests.support.concurrency import Clock


@pytest.fixture
def server(clock: Clock) -> ServerStatus:
    return ServerStatus(clock)


def test_server_that_nobody_has_tried_is_not_silent(server: ServerStatus, clock: Clock) -> None:
    clock.seconds += 5

    assert server.silent_seconds == 0


def test_silence_lasts_from_the_first_attempt_on(server: ServerStatus, clock: Clock) -> None:
    server.note_attempt()
    clock.seconds += 3
    server.note_failure()
    server.note_attempt()
    clock.seconds += 4

    assert server.silent_seconds == 7


def test_silence_lasts_from_the_statement_that_met_it_on(
    server: ServerStatus, clock: Clock
) -> None:
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


def test_answer_beside_an_attempt_starts_its_time_anew(server: ServerStatus, clock: Clock) -> None:
    server.note_attempt()
    clock.seconds += 3

    server.note_answer(None, is_connecting=True)
    clock.seconds += 1

    assert server.silent_seconds == 1


@pytest.mark.parametrize(("waited_seconds", "is_answering"), [(0.1, True), (0.3, False)])
def test_attempt_that_takes_long_makes_a_server_doubtful(
    server: ServerStatus, clock: Clock, waited_seconds: float, is_answering: bool
) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_attempt()
    clock.seconds += waited_seconds

    assert server.is_answering is is_answering


def test_attempt_that_failed_makes_a_server_doubtful(server: ServerStatus) -> None:
    server.note_answer(None, is_connecting=False)
    server.note_attempt()
    server.note_failure()

    assert not server.is_answering


def test_first_attempt_is_the_one_that_nothing_has_preceded(server: ServerStatus) -> None:
    before = server.is_first_attempt
    server.note_attempt()
    during = server.is_first_attempt
    server.note_failure()

    assert (before, during, server.is_first_attempt) == (True, True, False)


@pytest.mark.parametrize(
    ("measured", "expected"), [(0.07, 0.07), (3.0, LONGEST_ROUND_TRIP_SECONDS), (None, 0.02)]
)
def test_round_trip_is_the_last_one_measured_within_reason(
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
