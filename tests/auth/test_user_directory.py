"""The user directory: few requests, shared by concurrent callers, with limited waiting."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from threading import Barrier, Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from auth.clerk_calls import UserDirectory
from auth.clerk_client import Document
from auth.errors import (
    NOT_JSON,
    ProviderUnavailableError,
    RateLimitedError,
    SecretKeyRefusedError,
    UnknownAtProviderError,
    UnusableAnswerError,
)
from auth.identity import Identity
from auth.provider_calls import ProviderCalls, Rate
from core.metrics import REGISTRY
from dev.fake_clerk import clerk_user
from tests.support.concurrency import Clock, ThreadCountingKey
from tests.support.users import ALICE, BOB, identity_of

CALLERS = 30
UNAVAILABLE, LIMITED = ProviderUnavailableError("status 500"), RateLimitedError(7)
UNUSABLE, KEY_REFUSED = UnusableAnswerError("422"), SecretKeyRefusedError(401)
RESULTS: dict[str, Exception | None] = {
    "ok": None,
    "not_found": UnknownAtProviderError(),
    "unusable": UNUSABLE,
    "rate_limited": LIMITED,
    "error": UNAVAILABLE,
}
PAUSED = "the service has just failed"
RESTING = "the service has asked for rest"
KNOWN_ALICE, KNOWN_BOB = (replace(identity_of(user), is_complete=True) for user in (ALICE, BOB))


class FakeClerk:
    """Returns user documents and records requests; it can fail and it can be slow."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {w.clerk_id: clerk_user(w) for w in (ALICE, BOB)}
        self.unreadable: set[int] = set()  # offsets of users that make a page unreadable
        self.requests: list[str] = []
        self.error: Exception | None = None
        self.may_answer = Event()
        self.may_answer.set()

    def user(self, clerk_id: str) -> Document:
        self._record(clerk_id)
        result: Document = self.documents[clerk_id]
        return result

    def users(self, offset: int, limit: int) -> list[object]:
        self._record("users")
        if self.unreadable.intersection(range(offset, offset + limit)):
            raise UnusableAnswerError(NOT_JSON)
        return list(self.documents.values())[offset : offset + limit]

    def _record(self, request: str) -> None:
        self.requests.append(request)
        self.may_answer.wait(timeout=10)
        if self.error:
            raise self.error


@pytest.fixture
def fake_clerk() -> FakeClerk:
    return FakeClerk()


@pytest.fixture
def directory(fake_clerk: FakeClerk, clock: Clock) -> UserDirectory:
    return UserDirectory(fake_clerk, ProviderCalls(Rate(3, 0), clock))  # three requests in all


def look_up_error(directory: UserDirectory, clerk_id: str = BOB.clerk_id, **options: Any) -> str:
    with pytest.raises(ProviderUnavailableError) as caught:
        directory.look_up(clerk_id, **options)
    return str(caught.value)


def request_count(**labels: str) -> float:
    return REGISTRY.get_sample_value("identity_provider_requests_total", labels) or 0


def test_unknown_user_is_complete(directory: UserDirectory, fake_clerk: FakeClerk) -> None:
    fake_clerk.error = UnknownAtProviderError()

    assert directory.look_up(BOB.clerk_id) == Identity(BOB.clerk_id, is_complete=True)


@pytest.mark.parametrize(
    ("document", "code"),
    [(clerk_user(ALICE), "another_user"), ({"id": None}, "not_a_user")],
    ids=["another", "none"],
)
def test_document_of_another_user_or_none_is_unusable(
    directory: UserDirectory, fake_clerk: FakeClerk, document: Document, code: str
) -> None:
    fake_clerk.documents[BOB.clerk_id] = document

    with pytest.raises(UnusableAnswerError) as caught:
        directory.look_up(BOB.clerk_id)

    assert (caught.value.code, directory.look_up(ALICE.clerk_id)) == (code, KNOWN_ALICE)


def test_unusable_documents_never_open_the_circuit(fake_clerk: FakeClerk) -> None:
    directory = UserDirectory(fake_clerk, ProviderCalls(Rate(99, 0)))
    fake_clerk.error = UNUSABLE
    for _ in range(20):
        with pytest.raises(UnusableAnswerError):
            directory.look_up(BOB.clerk_id)

    fake_clerk.error = None

    assert (directory.is_answering, directory.look_up(ALICE.clerk_id)) == (True, KNOWN_ALICE)


@pytest.mark.parametrize("error", [UNAVAILABLE, KEY_REFUSED], ids=["outage", "key"])
def test_outage_opens_the_circuit(
    directory: UserDirectory, fake_clerk: FakeClerk, error: Exception
) -> None:
    fake_clerk.error = error
    look_up_error(directory)

    assert (directory.is_answering, look_up_error(directory, ALICE.clerk_id)) == (False, PAUSED)


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
def test_impossible_id_causes_no_request(
    directory: UserDirectory, fake_clerk: FakeClerk, clerk_id: str
) -> None:
    result = directory.look_up(clerk_id)

    assert (result, result.is_unknown, fake_clerk.requests) == (
        Identity(clerk_id, is_complete=True),
        True,
        [],
    )


def test_concurrent_lookups_share_one_request(
    directory: UserDirectory, fake_clerk: FakeClerk
) -> None:
    bob, start = ThreadCountingKey(BOB.clerk_id, expected_threads=CALLERS), Barrier(CALLERS)
    fake_clerk.may_answer = bob.all_arrived

    with ThreadPoolExecutor(CALLERS) as pool:
        user_documents = pool.map(
            lambda _: (start.wait(10), directory.look_up(bob, is_new=True))[1], range(CALLERS)
        )

    assert (list(user_documents), fake_clerk.requests) == ([KNOWN_BOB] * CALLERS, [BOB.clerk_id])


@pytest.mark.parametrize(("pause", "expected"), [(0, 1), (4.9, 1), (5.1, 2), (600, 2)])
def test_lookup_of_a_new_user_is_shared_for_five_seconds(
    directory: UserDirectory, fake_clerk: FakeClerk, clock: Clock, pause: float, expected: int
) -> None:
    directory.look_up(BOB.clerk_id, is_new=True)

    clock.seconds += pause

    second_result = directory.look_up(BOB.clerk_id, is_new=True)
    assert (second_result, len(fake_clerk.requests)) == (KNOWN_BOB, expected)


def test_lookup_of_a_known_user_causes_a_new_request(
    directory: UserDirectory, fake_clerk: FakeClerk
) -> None:
    directory.look_up(BOB.clerk_id, is_new=True)

    directory.look_up(BOB.clerk_id)

    assert len(fake_clerk.requests) == 2


def test_running_request_is_never_repeated(fake_clerk: FakeClerk) -> None:
    directory = UserDirectory(fake_clerk, ProviderCalls(Rate(1, 0), count(step=3600).__next__))
    fake_clerk.may_answer.clear()

    early_error = {look_up_error(directory, wait_seconds=0) for _ in range(9)}
    fake_clerk.may_answer.set()

    assert early_error == {"no answer in time"}


def test_failure_stops_further_requests(directory: UserDirectory, fake_clerk: FakeClerk) -> None:
    fake_clerk.error = UNAVAILABLE

    result = [look_up_error(directory, user.clerk_id) for user in (BOB, BOB, ALICE)]

    assert (result, fake_clerk.requests) == (["status 500", PAUSED, PAUSED], [BOB.clerk_id])


def test_background_request_closes_the_circuit_again(
    directory: UserDirectory, fake_clerk: FakeClerk
) -> None:
    fake_clerk.error = UNAVAILABLE
    look_up_error(directory)

    fake_clerk.error = None
    directory.look_up(BOB.clerk_id, is_background=True)

    assert directory.look_up(ALICE.clerk_id) == KNOWN_ALICE


@pytest.mark.parametrize("seconds", [7, 300, 3600, float("inf")])
def test_waiting_time_of_the_provider_is_respected(
    directory: UserDirectory, fake_clerk: FakeClerk, clock: Clock, seconds: float
) -> None:
    fake_clerk.error = RateLimitedError(seconds)
    look_up_error(directory)

    clock.seconds += min(seconds, 300) - 0.1
    early_error = look_up_error(directory, is_background=True)
    clock.seconds += 0.1

    assert (early_error, look_up_error(directory)) == (RESTING, str(fake_clerk.error))


@pytest.mark.parametrize(("call", "result"), [*(("user", r) for r in RESULTS), ("users", "error")])
def test_request_is_counted(
    directory: UserDirectory, fake_clerk: FakeClerk, call: str, result: str
) -> None:
    fake_clerk.error, before = RESULTS[result], request_count(call=call, result=result)

    with suppress(ProviderUnavailableError, UnusableAnswerError):
        directory.look_up(BOB.clerk_id) if call == "user" else directory.page(0, 1)

    assert request_count(call=call, result=result) == before + 1


def test_outage_is_logged(directory: UserDirectory, fake_clerk: FakeClerk) -> None:
    fake_clerk.error = UNAVAILABLE

    with capture_logs() as logs:
        look_up_error(directory)

    event = {"event": "identity_provider_unavailable", "log_level": "warning"}
    assert logs == [event | {"call": "user", "result": "error", "error": "status 500"}]


def user_documents(number: int) -> dict[str, Any]:
    """Return documents of `number` users by their ids."""
    users = [replace(BOB, clerk_id=f"user_{index}") for index in range(number)]
    return {user.clerk_id: clerk_user(user) for user in users}


@pytest.mark.parametrize(
    "malformed", [None, 7, "user_2", [], {}, {"id": None}, {"id": "user_2", "email_addresses": 7}]
)
def test_malformed_entry_of_a_page_is_skipped(fake_clerk: FakeClerk, malformed: object) -> None:
    directory = UserDirectory(fake_clerk, ProviderCalls(Rate(99, 0)))
    fake_clerk.documents = {**user_documents(5), "user_2": malformed}

    pages = [directory.page(offset, 3) for offset in (0, 3)]

    result = [user.clerk_id for page in pages for user in page.identities]
    assert (result, [page.size for page in pages]) == (
        ["user_0", "user_1", "user_3", "user_4"],
        [3, 2],
    )


def test_unreadable_page_is_requested_in_halves(fake_clerk: FakeClerk) -> None:
    directory = UserDirectory(fake_clerk, ProviderCalls(Rate(99, 0)))
    fake_clerk.documents, fake_clerk.unreadable = user_documents(300), {7}

    page = directory.page(0, 500)

    assert (len(page.identities), page.size, len(fake_clerk.requests) < 25) == (299, 300, True)


def test_directory_without_a_readable_user_is_an_outage(fake_clerk: FakeClerk) -> None:
    directory = UserDirectory(fake_clerk, ProviderCalls(Rate(999, 0)))
    fake_clerk.documents, fake_clerk.unreadable = user_documents(500), set(range(500))

    with pytest.raises(ProviderUnavailableError, match="nothing"):
        directory.page(0, 500)

    assert len(fake_clerk.requests) < 100


def test_refused_page_is_an_outage(directory: UserDirectory, fake_clerk: FakeClerk) -> None:
    fake_clerk.error = UNUSABLE

    with pytest.raises(ProviderUnavailableError):
        directory.page(0, 2)
