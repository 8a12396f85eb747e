"""The directory: few questions to the provider, answers for all who wait, and nobody waits long."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from threading import Barrier, Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from identity.clerk_api import Document
from identity.directory import Directory, Page
from identity.errors import ProviderUnavailableError, RateLimitedError, UnknownUserError
from identity.local import clerk_user
from identity.throttle import Budget, Throttle
from metrics import OURS
from provisioning.identity import Identity
from tests.cast import ALICE, BOB, identity
from tests.crowding import Clock, Roll

CROWD = 30
AWAY, LIMITED = ProviderUnavailableError("status 500"), RateLimitedError(7)
RESULTS = {"ok": None, "not_found": UnknownUserError(), "rate_limited": LIMITED, "error": AWAY}
PAUSED = "the provider has just failed"
RESTING = "the provider has asked for rest"
KNOWN_ALICE, KNOWN_BOB = (replace(identity(who), is_complete=True) for who in (ALICE, BOB))


class Source:
    """Describes people, notes what it is asked, can be in trouble and can be slow."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {w.clerk_id: clerk_user(w) for w in (ALICE, BOB)}
        self.asked: list[str] = []
        self.trouble: Exception | None = None
        self.answers_after = Event()
        self.answers_after.set()

    def user(self, clerk_id: str) -> Document:
        self._hear(clerk_id)
        return self.documents[clerk_id]

    def users(self, offset: int, limit: int) -> list[Document]:
        self._hear("everybody")
        return list(self.documents.values())[offset : offset + limit]

    def _hear(self, question: str) -> None:
        self.asked.append(question)
        self.answers_after.wait(timeout=10)
        if self.trouble:
            raise self.trouble


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def directory(source: Source, clock: Clock) -> Directory:
    return Directory(source, Throttle(Budget(3, 0), clock), clock)  # three questions in all


def refusal(directory: Directory, clerk_id: str = BOB.clerk_id, **how: Any) -> str:
    with pytest.raises(ProviderUnavailableError) as caught:
        directory.look_up(clerk_id, **how)
    return str(caught.value)


def counted(**labels: str) -> float:
    return OURS.get_sample_value("identity_provider_requests_total", labels) or 0


def test_unknown_person_leaves_nothing_to_learn(directory: Directory, source: Source) -> None:
    source.trouble = UnknownUserError()

    assert directory.look_up(BOB.clerk_id) == Identity(BOB.clerk_id, is_complete=True)


@pytest.mark.parametrize("told", [clerk_user(ALICE), {"id": None}], ids=["another", "nobody"])
def test_answer_about_another_is_none(directory: Directory, source: Source, told: Document) -> None:
    source.documents[BOB.clerk_id] = told

    refusal(directory)

    assert directory.look_up(ALICE.clerk_id) == KNOWN_ALICE


def test_crowd_shares_one_question(directory: Directory, source: Source) -> None:
    bob, start = Roll(BOB.clerk_id, crowd=CROWD), Barrier(CROWD)
    source.answers_after = bob.is_complete

    with ThreadPoolExecutor(CROWD) as pool:
        crowd = pool.map(lambda _: (start.wait(10), directory.look_up(bob))[1], range(CROWD))

    assert (list(crowd), source.asked) == ([KNOWN_BOB] * CROWD, [BOB.clerk_id])


@pytest.mark.parametrize(("pause", "questions"), [(0, 1), (4.9, 1), (5.1, 2), (600, 2)])
def test_answer_is_shared_for_a_few_seconds(
    directory: Directory, source: Source, clock: Clock, pause: float, questions: int
) -> None:
    directory.look_up(BOB.clerk_id)

    clock.seconds += pause

    assert (directory.look_up(BOB.clerk_id), len(source.asked)) == (KNOWN_BOB, questions)


def test_question_under_way_is_not_put_again_however_long_it_takes(source: Source) -> None:
    directory = Directory(source, Throttle(Budget(1, 0)), count(step=3600).__next__)
    source.answers_after.clear()

    early = {refusal(directory, wait_seconds=0) for _ in range(9)}
    source.answers_after.set()

    assert early == {"no answer in time"}


def test_failure_keeps_everybody_from_asking(directory: Directory, source: Source) -> None:
    source.trouble = AWAY

    found = [refusal(directory, who.clerk_id) for who in (BOB, BOB, ALICE)]

    assert (found, source.asked) == (["status 500", PAUSED, PAUSED], [BOB.clerk_id])
    with pytest.raises(ProviderUnavailableError, match=PAUSED):
        directory.page(0, 1)


def test_probe_finds_out_that_the_provider_is_back(directory: Directory, source: Source) -> None:
    source.trouble = AWAY
    refusal(directory)

    source.trouble = None
    directory.look_up(BOB.clerk_id, is_probe=True)

    assert directory.look_up(ALICE.clerk_id) == KNOWN_ALICE


@pytest.mark.parametrize("told", [7, 300, 3600, float("inf")])
def test_wait_is_kept(directory: Directory, source: Source, clock: Clock, told: float) -> None:
    source.trouble = RateLimitedError(told)
    refusal(directory)

    clock.seconds += min(told, 300) - 0.1
    early = refusal(directory, is_probe=True)
    clock.seconds += 0.1

    assert (early, refusal(directory)) == (RESTING, str(source.trouble))


@pytest.mark.parametrize(("call", "result"), [*(("user", r) for r in RESULTS), ("users", "error")])
def test_question_is_counted(directory: Directory, source: Source, call: str, result: str) -> None:
    source.trouble, before = RESULTS[result], counted(call=call, result=result)

    with suppress(ProviderUnavailableError):
        directory.look_up(BOB.clerk_id) if call == "user" else directory.page(0, 1)

    assert counted(call=call, result=result) == before + 1


def test_trouble_is_logged(directory: Directory, source: Source) -> None:
    source.trouble = AWAY

    with capture_logs() as logs:
        refusal(directory)

    event = {"event": "identity_provider_unavailable", "log_level": "warning"}
    assert logs == [event | {"call": "user", "result": "error", "error": "status 500"}]


def test_page_counts_what_it_leaves_out(directory: Directory, source: Source) -> None:
    source.documents = {"1": clerk_user(ALICE), "2": {"id": None}, "3": clerk_user(BOB)}

    pages = [directory.page(offset, 2) for offset in (0, 1, 3)]

    assert pages == [Page([KNOWN_ALICE], 2), Page([KNOWN_BOB], 2), Page([], 0)]
