"""The issuer's keys: asked for when needed, seldom enough, and kept while it is away."""

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from auth.call_budget import Rate, Share
from auth.clerk_client import ClerkClient
from auth.errors import (
    CallNeededError,
    InvalidTokenError,
    KeysUnavailableError,
    UnusableAnswerError,
)
from auth.jwks import FIRST_WAIT_SECONDS, MOST_KEYS, REFETCH_COOLDOWN_SECONDS, WAIT_SECONDS, KeySet
from auth.provider_calls import ProviderCalls
from dev.servers import eventually
from tests.support.concurrency import Clock, Meddled, Roll

CROWD = 8

Publish = Callable[[object], str]


@functools.cache
def public_half() -> dict[str, Any]:
    """A public key, made once; the tests tell keys apart by their ids alone."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)


def entry(kid: str) -> dict[str, Any]:
    return {**public_half(), "kid": kid}


class Issuer:
    """Publishes keys, counts how often it is asked, can be away and can be slow."""

    def __init__(self) -> None:
        self.published: object = [entry("k1")]
        self.asked = 0
        self.away: Exception | None = None
        self.answers_after = Event()
        self.answers_after.set()

    def __call__(self) -> Mapping[str, Any]:
        self.asked += 1
        self.answers_after.wait(timeout=10)
        if self.away:
            raise self.away
        return {"keys": self.published}


def outcome(keys: KeySet, kid: str) -> str:
    """The id of the key that was found, or the name of the error."""
    try:
        return str(keys.key(kid).key_id)
    except (InvalidTokenError, KeysUnavailableError) as err:
        return type(err).__name__


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> KeySet:
    """Asks the issuer by the clock, and knows nothing yet."""
    return KeySet(issuer, clock)


@pytest.fixture
def known(keys: KeySet) -> KeySet:
    """The same, with `k1` already known."""
    keys.key("k1")
    return keys


def test_nothing_is_asked_before_the_first_token(keys: KeySet, issuer: Issuer) -> None:
    assert issuer.asked == 0


def test_published_keys_are_asked_for_once(keys: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry("k1"), entry("k2")]

    found = [outcome(keys, kid) for kid in ("k1", "k2", "k1")]

    assert (found, issuer.asked) == (["k1", "k2", "k1"], 1)


def test_key_that_is_not_published_makes_the_token_invalid(keys: KeySet) -> None:
    assert outcome(keys, "k2") == "UnknownKeyError"


def test_key_that_was_rotated_right_after_the_start_is_found(known: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry("k1"), entry("k2")]

    assert (outcome(known, "k2"), issuer.asked) == ("k2", 2)


@pytest.mark.parametrize(("pause", "asked"), [(0, 2), (59.9, 2), (60, 3), (600, 3)])
def test_unknown_key_asks_again_at_most_once_a_minute(
    known: KeySet, issuer: Issuer, clock: Clock, pause: float, asked: int
) -> None:
    outcome(known, "k2")
    clock.seconds += pause

    found = [outcome(known, kid) for kid in ("k2", "k3")]

    assert (found, issuer.asked) == (["UnknownKeyError"] * 2, asked)


def test_rotated_key_is_found_after_the_pause_and_the_old_one_gone(
    known: KeySet, issuer: Issuer, clock: Clock
) -> None:
    issuer.published = [entry("k2")]
    clock.seconds += 60

    assert [outcome(known, kid) for kid in ("k2", "k1")] == ["k2", "UnknownKeyError"]


@pytest.mark.parametrize("trouble", [OSError(), TimeoutError(), ValueError()], ids=repr)
def test_known_keys_stay_while_the_issuer_is_away(
    known: KeySet, issuer: Issuer, clock: Clock, trouble: Exception
) -> None:
    issuer.away = trouble
    clock.seconds += 60

    assert [outcome(known, kid) for kid in ("k2", "k1")] == ["UnknownKeyError", "k1"]


def test_issuer_that_is_away_is_asked_once_a_minute_too(
    known: KeySet, issuer: Issuer, clock: Clock
) -> None:
    issuer.away = OSError()
    clock.seconds += 60

    found = [outcome(known, "k2") for _ in range(3)]

    assert (found, issuer.asked) == (["UnknownKeyError"] * 3, 2)


@pytest.mark.parametrize("trouble", [OSError(), ValueError()], ids=repr)
def test_nothing_can_be_told_while_no_key_was_ever_known(
    keys: KeySet, issuer: Issuer, trouble: Exception
) -> None:
    issuer.away = trouble

    assert outcome(keys, "k1") == "KeysUnavailableError"


@pytest.mark.parametrize(
    ("pause", "expected"), [(1.9, ("KeysUnavailableError", 1)), (2, ("k1", 2))]
)
def test_issuer_never_reached_is_asked_again_after_two_seconds(
    keys: KeySet, issuer: Issuer, clock: Clock, pause: float, expected: tuple[str, int]
) -> None:
    issuer.away = OSError()
    outcome(keys, "k1")

    issuer.away = None
    clock.seconds += pause

    assert (outcome(keys, "k1"), issuer.asked) == expected


@pytest.mark.parametrize(
    "strange",
    [
        "k2",
        None,
        ["k2"],
        {},
        {"kid": "k2", "kty": "RSA"},
        {"kid": "k2", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kid": "k2", "kty": "RSA", "n": "!", "e": "AQAB"},
        {"kid": "k2", "kty": "RSA", "n": 7, "e": []},
    ],
    ids=str,
)
def test_strange_entry_does_not_hide_the_good_one_beside_it(
    keys: KeySet, issuer: Issuer, strange: object
) -> None:
    issuer.published = [strange, entry("k1")]

    assert [outcome(keys, kid) for kid in ("k1", "k2")] == ["k1", "UnknownKeyError"]


@pytest.mark.parametrize(
    "change", [{"use": "enc"}, {"kty": "EC"}, {"kty": "oct"}, {"kty": None}, {"kid": 1}], ids=str
)
def test_key_of_another_kind_is_no_key(
    keys: KeySet, issuer: Issuer, change: dict[str, object]
) -> None:
    issuer.published = [{**entry("k1"), **change}]

    assert outcome(keys, "k1") == "KeysUnavailableError"


@pytest.mark.parametrize("published", [None, {}, [], "k1"], ids=str)
def test_answer_without_keys_does_not_forget_the_known_ones(
    known: KeySet, issuer: Issuer, clock: Clock, published: object
) -> None:
    issuer.published = published
    clock.seconds += 60

    assert [outcome(known, kid) for kid in ("k2", "k1")] == ["UnknownKeyError", "k1"]


def test_crowd_at_the_start_asks_once(keys: KeySet, issuer: Issuer) -> None:
    kid = Roll("k1", crowd=CROWD)
    issuer.answers_after = kid.is_complete

    with ThreadPoolExecutor(CROWD) as pool:
        found = list(pool.map(lambda _: outcome(keys, kid), range(CROWD)))

    assert (found, issuer.asked) == (["k1"] * CROWD, 1)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    """Publishes one document on a real HTTP server and returns its address."""
    body = bytearray()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            moved = self.path == "/moved.json"
            self.send_response(302 if moved else 200 if self.path == "/jwks.json" else 404)
            if moved:
                self.send_header("Location", "/jwks.json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def publish(document: object) -> str:
            body[:] = json.dumps(document).encode()
            return f"http://127.0.0.1:{server.server_port}/jwks.json"

        yield publish
        server.shutdown()
        thread.join()


def over_http(url: str) -> KeySet:
    return KeySet(ClerkClient(None, url, url).key_set, calls=ProviderCalls(Rate(99, 99)))


def test_published_keys_are_read_over_http(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")]})

    assert outcome(over_http(url), "k1") == "k1"


@pytest.mark.parametrize("document", [["k1"], "k1", None, 7], ids=repr)
def test_published_document_that_is_no_object_is_refused(
    publish: Publish, document: object
) -> None:
    url = publish(document)

    with pytest.raises(UnusableAnswerError):
        ClerkClient(None, url, url).key_set()


def test_page_that_is_not_there_counts_as_an_issuer_away(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")]}).replace("jwks", "gone")

    assert outcome(over_http(url), "k1") == "KeysUnavailableError"


def test_document_that_is_too_large_counts_as_an_issuer_away(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")], "more": "x" * 300_000})

    assert outcome(over_http(url), "k1") == "KeysUnavailableError"


def test_moved_document_is_followed(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")]}).replace("jwks", "moved")

    assert outcome(over_http(url), "k1") == "k1"


def test_only_the_first_keys_of_many_count(keys: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry(f"k{number}") for number in range(1000)]

    assert outcome(keys, f"k{MOST_KEYS - 1}") == f"k{MOST_KEYS - 1}"
    assert outcome(keys, f"k{MOST_KEYS}") == "UnknownKeyError"


def test_oversized_key_is_no_key(keys: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry("k1"), {**entry("k2"), "n": "A" * 100_000}]

    assert [outcome(keys, kid) for kid in ("k1", "k2")] == ["k1", "UnknownKeyError"]


@pytest.fixture
def slow(issuer: Issuer, clock: Clock) -> Iterator[KeySet]:
    """Fetches in a worker thread; the issuer answers when the test, or its end, lets it."""
    yield KeySet(issuer, clock, ProviderCalls(Rate(99, 99)))
    issuer.answers_after.set()


def seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_first_request_leaves_in_time_while_the_issuer_is_slow(
    slow: KeySet, issuer: Issuer
) -> None:
    issuer.answers_after.clear()

    waited = seconds_of(lambda: outcome(slow, "k1"))
    at_once = seconds_of(lambda: outcome(slow, "k1"))

    assert (waited < FIRST_WAIT_SECONDS + 1, at_once < FIRST_WAIT_SECONDS / 2) == (True, True)
    assert (outcome(slow, "k1"), issuer.asked) == ("KeysUnavailableError", 1)


def test_late_answer_serves_the_next_request(slow: KeySet, issuer: Issuer) -> None:
    issuer.answers_after.clear()
    first = outcome(slow, "k1")

    issuer.answers_after.set()

    assert first == "KeysUnavailableError"
    assert eventually(lambda: outcome(slow, "k1") == "k1")


def test_forged_keys_hold_no_other_request_while_the_issuer_is_slow(
    slow: KeySet, issuer: Issuer, clock: Clock
) -> None:
    slow.key("k1")
    issuer.answers_after.clear()

    with ThreadPoolExecutor(CROWD) as pool:
        began = time.monotonic()
        forged = [pool.submit(outcome, slow, f"forged_{number}") for number in range(CROWD)]
        known = seconds_of(lambda: outcome(slow, "k1"))
        answers = {each.result() for each in forged}

    assert (known < WAIT_SECONDS, time.monotonic() - began < WAIT_SECONDS + 1) == (True, True)
    assert (answers, seconds_of(lambda: outcome(slow, "forged")) < WAIT_SECONDS) == (
        {"UnknownKeyError"},
        True,
    )
    assert issuer.asked == 2


def test_request_that_may_not_call_is_told_that_only_a_call_can_tell(
    slow: KeySet, issuer: Issuer
) -> None:
    assert slow.key("k1", may_fetch=False).key_id == "k1"  # the first keys are fetched all the same
    with pytest.raises(CallNeededError):
        slow.key("k2", may_fetch=False)
    outcome(slow, "k2")

    with pytest.raises(InvalidTokenError):  # the cool-down answers by itself
        slow.key("k2", may_fetch=False)
    assert (slow.key("k1", may_fetch=False).key_id, issuer.asked) == ("k1", 2)


def test_spent_budget_counts_as_an_issuer_away(issuer: Issuer, clock: Clock) -> None:
    calls = ProviderCalls(Rate(1, 0), clock)
    keys = KeySet(issuer, clock, calls)
    keys.key("k1")
    for number in range(9):  # all that is left
        calls.run("test", number, str, Share.KEYS, wait_seconds=5)
    issuer.published = [entry("k1"), entry("k2")]

    found = [outcome(keys, kid) for kid in ("k2", "k1")]

    assert (found, issuer.asked) == (["UnknownKeyError", "k1"], 1)


@pytest.mark.parametrize("look", [1, 2, 3])
def test_key_that_is_taken_back_while_it_is_looked_up_is_known_or_not(
    clock: Clock, look: int
) -> None:
    issuer = Issuer()
    keys = KeySet(issuer, clock)
    keys.key("k1")

    def take_back() -> None:
        issuer.published = [entry("k2")]
        clock.seconds += REFETCH_COOLDOWN_SECONDS
        keys.key("k2")

    assert outcome(keys, Meddled("k1", at=look, meddle=take_back)) in ("k1", "UnknownKeyError")
