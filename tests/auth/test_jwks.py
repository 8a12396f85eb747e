"""The issuer's keys are fetched when needed, limited in rate, and kept during an outage."""

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

from auth.clerk_client import ClerkClient
from auth.errors import (
    CallNeededError,
    InvalidTokenError,
    KeysUnavailableError,
    UnusableAnswerError,
)
from auth.jwks import (
    FIRST_WAIT_SECONDS,
    MAX_AGE_SECONDS,
    MAX_KEYS,
    REFETCH_COOLDOWN_SECONDS,
    WAIT_SECONDS,
    KeySet,
)
from auth.provider_calls import ProviderCalls, Purpose, Rate
from benchmarks.servers import eventually
from tests.support.concurrency import Clock, InterruptedKey, ThreadCountingKey
from tests.support.stopwatch import stopwatch

CALLERS = 8

Publish = Callable[[object], str]


@functools.cache
def public_jwk() -> dict[str, Any]:
    """A public key, generated once; the tests distinguish keys by their ids alone."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)


def entry(kid: str) -> dict[str, Any]:
    return {**public_jwk(), "kid": kid}


class Issuer:
    """Publishes keys and counts the fetches; it can fail and it can be slow."""

    def __init__(self) -> None:
        self.published: object = [entry("k1")]
        self.fetches = 0
        self.error: Exception | None = None
        self.may_answer = Event()
        self.may_answer.set()

    def __call__(self) -> Mapping[str, Any]:
        self.fetches += 1
        self.may_answer.wait(timeout=10)
        if self.error:
            raise self.error
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
    """A key set that uses the test's clock and has not fetched keys yet."""
    return KeySet(issuer, clock)


@pytest.fixture
def known(keys: KeySet) -> KeySet:
    """The key set after it has fetched `k1`."""
    keys.key("k1")
    return keys


def test_no_keys_are_fetched_before_the_first_token(keys: KeySet, issuer: Issuer) -> None:
    assert issuer.fetches == 0


def test_published_keys_are_fetched_once(keys: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry("k1"), entry("k2")]

    outcomes = [outcome(keys, kid) for kid in ("k1", "k2", "k1")]

    assert (outcomes, issuer.fetches) == (["k1", "k2", "k1"], 1)


def test_unpublished_key_makes_the_token_invalid(keys: KeySet) -> None:
    assert outcome(keys, "k2") == "UnknownKeyError"


def test_key_rotated_right_after_the_start_is_found(known: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry("k1"), entry("k2")]

    assert (outcome(known, "k2"), issuer.fetches) == ("k2", 2)


@pytest.mark.parametrize(("pause", "fetches"), [(0, 2), (59.9, 2), (60, 3), (239, 3)])
def test_unknown_key_causes_at_most_one_fetch_a_minute(
    known: KeySet, issuer: Issuer, clock: Clock, pause: float, fetches: int
) -> None:
    outcome(known, "k2")
    clock.seconds += pause

    outcomes = [outcome(known, kid) for kid in ("k2", "k3")]

    assert (outcomes, issuer.fetches) == (["UnknownKeyError"] * 2, fetches)


def test_rotated_key_replaces_the_old_one_after_the_cool_down(
    known: KeySet, issuer: Issuer, clock: Clock
) -> None:
    issuer.published = [entry("k2")]
    clock.seconds += 60

    assert [outcome(known, kid) for kid in ("k2", "k1")] == ["k2", "UnknownKeyError"]


@pytest.mark.parametrize("raised", [OSError(), TimeoutError(), ValueError()], ids=repr)
def test_known_keys_stay_during_an_outage(
    known: KeySet, issuer: Issuer, clock: Clock, raised: Exception
) -> None:
    issuer.error = raised
    clock.seconds += 60

    assert [outcome(known, kid) for kid in ("k2", "k1")] == ["UnknownKeyError", "k1"]


def test_keys_are_fetched_once_a_minute_during_an_outage(
    known: KeySet, issuer: Issuer, clock: Clock
) -> None:
    issuer.error = OSError()
    clock.seconds += 60

    outcomes = [outcome(known, "k2") for _ in range(3)]

    assert (outcomes, issuer.fetches) == (["UnknownKeyError"] * 3, 2)


@pytest.mark.parametrize("raised", [OSError(), ValueError()], ids=repr)
def test_keys_are_unavailable_before_the_first_successful_fetch(
    keys: KeySet, issuer: Issuer, raised: Exception
) -> None:
    issuer.error = raised

    assert outcome(keys, "k1") == "KeysUnavailableError"


@pytest.mark.parametrize(
    ("pause", "expected"), [(1.9, ("KeysUnavailableError", 1)), (2, ("k1", 2))]
)
def test_failed_first_fetch_is_repeated_after_two_seconds(
    keys: KeySet, issuer: Issuer, clock: Clock, pause: float, expected: tuple[str, int]
) -> None:
    issuer.error = OSError()
    outcome(keys, "k1")

    issuer.error = None
    clock.seconds += pause

    assert (outcome(keys, "k1"), issuer.fetches) == expected


@pytest.mark.parametrize(
    "malformed",
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
def test_malformed_entry_does_not_hide_the_valid_one(
    keys: KeySet, issuer: Issuer, malformed: object
) -> None:
    issuer.published = [malformed, entry("k1")]

    assert [outcome(keys, kid) for kid in ("k1", "k2")] == ["k1", "UnknownKeyError"]


@pytest.mark.parametrize(
    "change", [{"use": "enc"}, {"kty": "EC"}, {"kty": "oct"}, {"kty": None}, {"kid": 1}], ids=str
)
def test_key_of_another_kind_is_ignored(
    keys: KeySet, issuer: Issuer, change: dict[str, object]
) -> None:
    issuer.published = [{**entry("k1"), **change}]

    assert outcome(keys, "k1") == "KeysUnavailableError"


@pytest.mark.parametrize("published", [None, {}, [], "k1"], ids=str)
def test_answer_without_keys_keeps_the_known_ones(
    known: KeySet, issuer: Issuer, clock: Clock, published: object
) -> None:
    issuer.published = published
    clock.seconds += 60

    assert [outcome(known, kid) for kid in ("k2", "k1")] == ["UnknownKeyError", "k1"]


def test_concurrent_first_requests_share_one_fetch(keys: KeySet, issuer: Issuer) -> None:
    kid = ThreadCountingKey("k1", expected_threads=CALLERS)
    issuer.may_answer = kid.all_arrived

    with ThreadPoolExecutor(CALLERS) as pool:
        outcomes = list(pool.map(lambda _: outcome(keys, kid), range(CALLERS)))

    assert (outcomes, issuer.fetches) == (["k1"] * CALLERS, 1)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    """Return a function that publishes one document on a real HTTP server and returns its URL."""
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


def key_set_over_http(url: str) -> KeySet:
    return KeySet(ClerkClient(None, url, url).key_set, calls=ProviderCalls(Rate(99, 99)))


def test_published_keys_are_read_over_http(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")]})

    assert outcome(key_set_over_http(url), "k1") == "k1"


@pytest.mark.parametrize("document", [["k1"], "k1", None, 7], ids=repr)
def test_document_that_is_no_object_is_refused(publish: Publish, document: object) -> None:
    url = publish(document)

    with pytest.raises(UnusableAnswerError):
        ClerkClient(None, url, url).key_set()


def test_missing_document_counts_as_an_outage(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")]}).replace("jwks", "gone")

    assert outcome(key_set_over_http(url), "k1") == "KeysUnavailableError"


def test_too_large_document_counts_as_an_outage(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")], "more": "x" * 300_000})

    assert outcome(key_set_over_http(url), "k1") == "KeysUnavailableError"


def test_redirect_is_followed(publish: Publish) -> None:
    url = publish({"keys": [entry("k1")]}).replace("jwks", "moved")

    assert outcome(key_set_over_http(url), "k1") == "k1"


def test_number_of_keys_is_limited(keys: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry(f"k{number}") for number in range(1000)]

    assert outcome(keys, f"k{MAX_KEYS - 1}") == f"k{MAX_KEYS - 1}"
    assert outcome(keys, f"k{MAX_KEYS}") == "UnknownKeyError"


def test_oversized_key_is_ignored(keys: KeySet, issuer: Issuer) -> None:
    issuer.published = [entry("k1"), {**entry("k2"), "n": "A" * 100_000}]

    assert [outcome(keys, kid) for kid in ("k1", "k2")] == ["k1", "UnknownKeyError"]


@pytest.fixture
def slow_keys(issuer: Issuer, clock: Clock) -> Iterator[KeySet]:
    """A key set that fetches in a worker thread; the issuer answers when the event is set."""
    yield KeySet(issuer, clock, ProviderCalls(Rate(99, 99)))
    issuer.may_answer.set()


def seconds_of(work: Callable[[], object]) -> float:
    with stopwatch() as watch:
        work()
    return watch.seconds


def test_first_request_ends_in_time_while_the_issuer_is_slow(
    slow_keys: KeySet, issuer: Issuer
) -> None:
    issuer.may_answer.clear()

    waited = seconds_of(lambda: outcome(slow_keys, "k1"))
    second_wait = seconds_of(lambda: outcome(slow_keys, "k1"))

    assert (waited < FIRST_WAIT_SECONDS + 1, second_wait < FIRST_WAIT_SECONDS / 2) == (True, True)
    assert (outcome(slow_keys, "k1"), issuer.fetches) == ("KeysUnavailableError", 1)


def test_late_answer_is_used_by_the_next_request(slow_keys: KeySet, issuer: Issuer) -> None:
    issuer.may_answer.clear()
    first = outcome(slow_keys, "k1")

    issuer.may_answer.set()

    assert first == "KeysUnavailableError"
    assert eventually(lambda: outcome(slow_keys, "k1") == "k1")


def test_forged_key_ids_do_not_delay_other_requests(
    slow_keys: KeySet, issuer: Issuer, clock: Clock
) -> None:
    slow_keys.key("k1")
    issuer.may_answer.clear()

    with ThreadPoolExecutor(CALLERS) as pool, stopwatch() as watch:
        forged = [pool.submit(outcome, slow_keys, f"forged_{number}") for number in range(CALLERS)]
        known = seconds_of(lambda: outcome(slow_keys, "k1"))
        answers = {call.result() for call in forged}

    assert (known < WAIT_SECONDS, watch.seconds < WAIT_SECONDS + 1) == (True, True)
    assert (answers, seconds_of(lambda: outcome(slow_keys, "forged")) < WAIT_SECONDS) == (
        {"UnknownKeyError"},
        True,
    )
    assert issuer.fetches == 2


def test_unknown_key_without_permission_to_fetch_raises_call_needed(
    slow_keys: KeySet, issuer: Issuer
) -> None:
    assert (
        slow_keys.key("k1", may_fetch=False).key_id == "k1"
    )  # the first keys are fetched in any case
    with pytest.raises(CallNeededError):
        slow_keys.key("k2", may_fetch=False)
    outcome(slow_keys, "k2")

    with pytest.raises(InvalidTokenError):  # no call during the cool-down
        slow_keys.key("k2", may_fetch=False)
    assert (slow_keys.key("k1", may_fetch=False).key_id, issuer.fetches) == ("k1", 2)


def test_exhausted_budget_counts_as_an_outage(issuer: Issuer, clock: Clock) -> None:
    calls = ProviderCalls(Rate(1, 0), clock)
    keys = KeySet(issuer, clock, calls)
    keys.key("k1")
    for number in range(9):  # the rest of the budget
        calls.run("test", number, str, Purpose.KEYS, wait_seconds=5)
    issuer.published = [entry("k1"), entry("k2")]

    outcomes = [outcome(keys, kid) for kid in ("k2", "k1")]

    assert (outcomes, issuer.fetches) == (["UnknownKeyError", "k1"], 1)


@pytest.mark.parametrize("lookup", [1, 2, 3])
def test_key_removed_during_its_lookup_causes_no_other_error(clock: Clock, lookup: int) -> None:
    issuer = Issuer()
    keys = KeySet(issuer, clock)
    keys.key("k1")

    def remove_key() -> None:
        issuer.published = [entry("k2")]
        clock.seconds += REFETCH_COOLDOWN_SECONDS
        keys.key("k2")

    assert outcome(keys, InterruptedKey("k1", at=lookup, before=remove_key)) in (
        "k1",
        "UnknownKeyError",
    )


@pytest.mark.parametrize(("age", "fetches"), [(239, 1), (240, 2), (300, 2)])
def test_old_keys_are_fetched_again(
    known: KeySet, issuer: Issuer, clock: Clock, age: float, fetches: int
) -> None:
    clock.seconds += age

    outcomes = [outcome(known, "k1") for _ in range(3)]

    assert (outcomes, issuer.fetches) == (["k1"] * 3, fetches)


def test_revoked_key_is_unknown_after_the_maximum_age(
    known: KeySet, issuer: Issuer, clock: Clock
) -> None:
    revoked = known.key("k1")
    issuer.published = [entry("k2")]
    clock.seconds += MAX_AGE_SECONDS

    assert not known.is_current(revoked)
    assert outcome(known, "k1") == "UnknownKeyError"


def test_unchanged_key_stays_the_same_object(known: KeySet, clock: Clock) -> None:
    key = known.key("k1")
    clock.seconds += MAX_AGE_SECONDS

    assert (known.is_current(key), known.key("k1") is key) == (True, True)


def test_old_keys_stay_while_the_issuer_fails_and_are_asked_for_once_a_minute(
    known: KeySet, issuer: Issuer, clock: Clock
) -> None:
    issuer.error = OSError()
    clock.seconds += 10 * MAX_AGE_SECONDS

    outcomes = [outcome(known, "k1") for _ in range(5)]
    clock.seconds += REFETCH_COOLDOWN_SECONDS

    assert (outcomes, outcome(known, "k1"), issuer.fetches) == (["k1"] * 5, "k1", 3)


def test_renewal_does_not_delay_the_fetch_for_an_unknown_key(
    known: KeySet, issuer: Issuer, clock: Clock
) -> None:
    clock.seconds += MAX_AGE_SECONDS
    outcome(known, "k1")
    issuer.published = [entry("k2")]

    assert (outcome(known, "k2"), issuer.fetches) == ("k2", 3)


def test_renewal_delays_no_request_before_the_maximum_age(
    slow_keys: KeySet, issuer: Issuer, clock: Clock
) -> None:
    key = slow_keys.key("k1")
    issuer.may_answer.clear()
    clock.seconds += MAX_AGE_SECONDS - 1

    assert seconds_of(lambda: slow_keys.is_current(key)) < WAIT_SECONDS
    assert eventually(lambda: issuer.fetches == 2)


def test_request_waits_briefly_for_the_renewal_of_keys_of_the_maximum_age(
    slow_keys: KeySet, issuer: Issuer, clock: Clock
) -> None:
    key = slow_keys.key("k1")
    issuer.may_answer.clear()
    clock.seconds += MAX_AGE_SECONDS

    started_at = time.monotonic()
    waited = seconds_of(lambda: slow_keys.is_current(key))

    assert time.monotonic() - started_at > WAIT_SECONDS / 2
    assert (waited < WAIT_SECONDS + 1, slow_keys.is_current(key)) == (True, True)
