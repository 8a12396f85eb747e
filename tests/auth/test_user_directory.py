"""The directory: few questions to the provider, answers for all who wait, and nobody waits long."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from threading import Barrier, Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from auth.call_budget import Rate
from auth.clerk_client import NOT_JSON, Document
from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    SecretKeyRefusedError,
    UnknownUserError,
    UnusableAnswerError,
)
from auth.identity import Identity
from auth.provider_calls import ProviderCalls
from auth.user_directory import UserDirectory
from core.metrics import OURS
from dev.fake_clerk import clerk_user
from tests.support.concurrency import Clock, Roll
from tests.support.users import ALICE, BOB, identity_of

CROWD = 30
AWAY, LIMITED = ProviderUnavailableError("status 500"), RateLimitedError(7)
STRANGE, KEY_REFUSED = UnusableAnswerError("422"), SecretKeyRefusedError(401)
RESULTS: dict[str, Exception | None] = {
    "ok": None,
    "not_found": UnknownUserError(),
    "unusable": STRANGE,
    "rate_limited": LIMITED,
    "error": AWAY,
}
PAUSED = "the provider has just failed"
RESTING = "the provider has asked for rest"
KNOWN_ALICE, KNOWN_BOB = (replace(identity_of(who), is_complete=True) for who in (ALICE, BOB))


class Source:
    """Describes people, notes what it is asked, can be in trouble and can be slow."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {w.clerk_id: clerk_user(w) for w in (ALICE, BOB)}
        self.unreadable: set[int] = set()  # offsets of users whom no parser can read
        self.asked: list[str] = []
        self.trouble: Exception | None = None
        self.answers_after = Event()
        self.answers_after.set()

    def user(self, clerk_id: str) -> Document:
        self._hear(clerk_id)
        found: Document = self.documents[clerk_id]
        return found

    def users(self, offset: int, limit: int) -> list[object]:
        self._hear("everybody")
        if self.unreadable.intersection(range(offset, offset + limit)):
            raise UnusableAnswerError(NOT_JSON)
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
def directory(source: Source, clock: Clock) -> UserDirectory:
    return UserDirectory(source, ProviderCalls(Rate(3, 0), clock))  # three questions in all


def refusal(directory: UserDirectory, clerk_id: str = BOB.clerk_id, **how: Any) -> str:
    with pytest.raises(ProviderUnavailableError) as caught:
        directory.look_up(clerk_id, **how)
    return str(caught.value)


def counted(**labels: str) -> float:
    return OURS.get_sample_value("identity_provider_requests_total", labels) or 0


def test_unknown_person_leaves_nothing_to_learn(directory: UserDirectory, source: Source) -> None:
    source.trouble = UnknownUserError()

    assert directory.look_up(BOB.clerk_id) == Identity(BOB.clerk_id, is_complete=True)


@pytest.mark.parametrize(
    ("told", "code"),
    [(clerk_user(ALICE), "another_user"), ({"id": None}, "not_a_user")],
    ids=["another", "none"],
)
def test_answer_that_describes_another_user_or_none_cannot_be_used(
    directory: UserDirectory, source: Source, told: Document, code: str
) -> None:
    source.documents[BOB.clerk_id] = told

    with pytest.raises(UnusableAnswerError) as caught:
        directory.look_up(BOB.clerk_id)

    assert (caught.value.code, directory.look_up(ALICE.clerk_id)) == (code, KNOWN_ALICE)


def test_answers_about_one_user_never_close_the_provider_to_others(source: Source) -> None:
    directory = UserDirectory(source, ProviderCalls(Rate(99, 0)))
    source.trouble = STRANGE
    for _ in range(20):
        with pytest.raises(UnusableAnswerError):
            directory.look_up(BOB.clerk_id)

    source.trouble = None

    assert (directory.is_answering, directory.look_up(ALICE.clerk_id)) == (True, KNOWN_ALICE)


@pytest.mark.parametrize("trouble", [AWAY, KEY_REFUSED], ids=["outage", "key"])
def test_trouble_for_everybody_closes_the_provider(
    directory: UserDirectory, source: Source, trouble: Exception
) -> None:
    source.trouble = trouble
    refusal(directory)

    assert (directory.is_answering, refusal(directory, ALICE.clerk_id)) == (False, PAUSED)


@pytest.mark.parametrize(
    "clerk_id",
    [
        "",
        " ",
        "null",
        "None",
        "u" * 65,
        "user\n",
        "a/b",
        "..",
        ".",
        "a?b",
        "a#b",
        "a%2fb",
        "a\\b",
        "\ud800",
    ],
    ids=ascii,
)
def test_id_that_the_provider_could_not_have_is_never_asked_about(
    directory: UserDirectory, source: Source, clerk_id: str
) -> None:
    found = directory.look_up(clerk_id)

    assert (found, found.is_unknown, source.asked) == (
        Identity(clerk_id, is_complete=True),
        True,
        [],
    )


def test_crowd_shares_one_question(directory: UserDirectory, source: Source) -> None:
    bob, start = Roll(BOB.clerk_id, crowd=CROWD), Barrier(CROWD)
    source.answers_after = bob.is_complete

    with ThreadPoolExecutor(CROWD) as pool:
        crowd = pool.map(
            lambda _: (start.wait(10), directory.look_up(bob, is_new=True))[1], range(CROWD)
        )

    assert (list(crowd), source.asked) == ([KNOWN_BOB] * CROWD, [BOB.clerk_id])


@pytest.mark.parametrize(("pause", "questions"), [(0, 1), (4.9, 1), (5.1, 2), (600, 2)])
def test_answer_is_shared_for_a_few_seconds(
    directory: UserDirectory, source: Source, clock: Clock, pause: float, questions: int
) -> None:
    directory.look_up(BOB.clerk_id, is_new=True)

    clock.seconds += pause

    again = directory.look_up(BOB.clerk_id, is_new=True)
    assert (again, len(source.asked)) == (KNOWN_BOB, questions)


def test_user_who_is_known_is_asked_about_anew(directory: UserDirectory, source: Source) -> None:
    directory.look_up(BOB.clerk_id, is_new=True)

    directory.look_up(BOB.clerk_id)

    assert len(source.asked) == 2


def test_question_under_way_is_not_put_again_however_long_it_takes(source: Source) -> None:
    directory = UserDirectory(source, ProviderCalls(Rate(1, 0), count(step=3600).__next__))
    source.answers_after.clear()

    early = {refusal(directory, wait_seconds=0) for _ in range(9)}
    source.answers_after.set()

    assert early == {"no answer in time"}


def test_failure_keeps_everybody_from_asking(directory: UserDirectory, source: Source) -> None:
    source.trouble = AWAY

    found = [refusal(directory, who.clerk_id) for who in (BOB, BOB, ALICE)]

    assert (found, source.asked) == (["status 500", PAUSED, PAUSED], [BOB.clerk_id])


def test_background_finds_out_that_the_provider_is_back(
    directory: UserDirectory, source: Source
) -> None:
    source.trouble = AWAY
    refusal(directory)

    source.trouble = None
    directory.look_up(BOB.clerk_id, is_background=True)

    assert directory.look_up(ALICE.clerk_id) == KNOWN_ALICE


@pytest.mark.parametrize("told", [7, 300, 3600, float("inf")])
def test_wait_is_kept(directory: UserDirectory, source: Source, clock: Clock, told: float) -> None:
    source.trouble = RateLimitedError(told)
    refusal(directory)

    clock.seconds += min(told, 300) - 0.1
    early = refusal(directory, is_background=True)
    clock.seconds += 0.1

    assert (early, refusal(directory)) == (RESTING, str(source.trouble))


@pytest.mark.parametrize(("call", "result"), [*(("user", r) for r in RESULTS), ("users", "error")])
def test_question_is_counted(
    directory: UserDirectory, source: Source, call: str, result: str
) -> None:
    source.trouble, before = RESULTS[result], counted(call=call, result=result)

    with suppress(ProviderUnavailableError, UnusableAnswerError):
        directory.look_up(BOB.clerk_id) if call == "user" else directory.page(0, 1)

    assert counted(call=call, result=result) == before + 1


def test_trouble_is_logged(directory: UserDirectory, source: Source) -> None:
    source.trouble = AWAY

    with capture_logs() as logs:
        refusal(directory)

    event = {"event": "identity_provider_unavailable", "log_level": "warning"}
    assert logs == [event | {"call": "user", "result": "error", "error": "status 500"}]


def crowd(number: int) -> dict[str, Any]:
    """Documents of so many users, by their ids."""
    people = [replace(BOB, clerk_id=f"user_{index}") for index in range(number)]
    return {who.clerk_id: clerk_user(who) for who in people}


@pytest.mark.parametrize(
    "strange", [None, 7, "user_2", [], {}, {"id": None}, {"id": "user_2", "email_addresses": 7}]
)
def test_strange_entry_of_a_page_loses_none_of_the_others(source: Source, strange: object) -> None:
    directory = UserDirectory(source, ProviderCalls(Rate(99, 0)))
    source.documents = {**crowd(5), "user_2": strange}

    pages = [directory.page(offset, 3) for offset in (0, 3)]

    found = [who.clerk_id for page in pages for who in page.identities]
    assert (found, [page.size for page in pages]) == (
        ["user_0", "user_1", "user_3", "user_4"],
        [3, 2],
    )


def test_page_that_one_user_makes_unreadable_is_asked_for_in_halves(source: Source) -> None:
    directory = UserDirectory(source, ProviderCalls(Rate(99, 0)))
    source.documents, source.unreadable = crowd(300), {7}

    page = directory.page(0, 500)

    assert (len(page.identities), page.size, len(source.asked) < 25) == (299, 300, True)


def test_directory_of_which_nothing_can_be_read_is_given_up(source: Source) -> None:
    directory = UserDirectory(source, ProviderCalls(Rate(999, 0)))
    source.documents, source.unreadable = crowd(500), set(range(500))

    with pytest.raises(ProviderUnavailableError, match="nothing"):
        directory.page(0, 500)

    assert len(source.asked) < 100


def test_page_that_is_refused_as_a_whole_is_trouble(
    directory: UserDirectory, source: Source
) -> None:
    source.trouble = STRANGE

    with pytest.raises(ProviderUnavailableError):
        directory.page(0, 2)
