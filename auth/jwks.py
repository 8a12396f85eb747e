"""The issuer's public keys: fetched in a worker thread, when needed, at most once a minute.

1. A known key is found without any wait, whatever the issuer does.
2. An unknown key id starts a fetch, unless one has just been made. Requests that wait for it leave
   after a part of a second, counted from its beginning; the worker ends by its own time limit.
3. While the issuer cannot be reached the known keys stay in force.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import jwt
import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from auth.call_budget import Share
from auth.errors import (
    CallNeededError,
    KeysUnavailableError,
    ProviderUnavailableError,
    UnknownKeyError,
    UnusableAnswerError,
)
from auth.provider_calls import ProviderCalls

log = structlog.get_logger(__name__)

FIRST_WAIT_SECONDS = 1.0  # while no key is known; a first login is answered within two
WAIT_SECONDS = 0.5  # for a key of a new id
REFETCH_COOLDOWN_SECONDS = 60.0  # docs/clerk.md: an unknown `kid` asks at most once a minute
RETRY_COOLDOWN_SECONDS = 2.0  # while no key is known at all, waiting longer would only hurt us
MOST_KEYS = 64
LONGEST_MODULUS = 1_400  # characters, of 8 192 bits; a larger key makes each check expensive

KeySource = Callable[[], Mapping[str, Any]]
Keys = dict[str, PyJWK]


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A fetch under way; requests wait for it until `until`, on the monotonic clock."""

    until: float
    ended: threading.Event = field(default_factory=threading.Event)


class KeySet:
    """The keys known so far; shared by threads. `clock` is monotonic, in seconds.

    `source` returns a JSON Web Key Set (RFC 7517). With `calls` it is a call to the provider;
    without, it is on this machine and answers at once.
    """

    def __init__(
        self,
        source: KeySource,
        clock: Callable[[], float] = time.monotonic,
        calls: ProviderCalls | None = None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._calls = calls
        self._keys: Keys = {}
        self._asked_at: float | None = None
        self._fetch: _Fetch | None = None
        self._lock = threading.RLock()

    @property
    def is_missing(self) -> bool:
        """Whether the issuer was asked and no user can sign in, because no key is known yet."""
        return self._asked_at is not None and not self._keys

    def key(self, kid: str, *, may_fetch: bool = True) -> PyJWK:
        """Return the key of that id; an unknown one is asked for, within the cool-down.

        Raises UnknownKeyError for a key the issuer does not publish, KeysUnavailableError while no
        key is known at all, and CallNeededError where a fetch could tell but `may_fetch` is False.
        The first keys are fetched in any case: without them it cannot be told who is asking.
        """
        key = self._keys.get(kid)
        if key is None:
            fetch = self._fetch_for(kid, may_fetch=may_fetch)
            if fetch is not None:
                fetch.ended.wait(max(0.0, fetch.until - time.monotonic()))
            key = self._keys.get(kid)
        if key is not None:
            return key
        if not self._keys:
            raise KeysUnavailableError("the issuer's keys are not known")
        raise UnknownKeyError("unknown key id")

    def is_current(self, key: PyJWK) -> bool:
        """Whether this very key is still the one of its id."""
        return self._keys.get(str(key.key_id)) is key

    def _fetch_for(self, kid: str, *, may_fetch: bool) -> _Fetch | None:
        """The fetch that may bring this key: the one under way, or a new one; None for none."""
        with self._lock:
            fetch = self._fetch
            if kid in self._keys or (fetch is None and not self._may_ask()):
                return None
            if not may_fetch and self._keys and self._calls is not None:
                raise CallNeededError("only the issuer can tell")
            return fetch or self._begin()

    def _may_ask(self) -> bool:
        """The first keys are asked for until there are some; later ones at most once a minute."""
        if self._asked_at is None:
            return True
        pause = REFETCH_COOLDOWN_SECONDS if self._keys else RETRY_COOLDOWN_SECONDS
        return self._clock() - self._asked_at >= pause

    def _begin(self) -> _Fetch | None:
        wait = WAIT_SECONDS if self._keys else FIRST_WAIT_SECONDS
        fetch = self._fetch = _Fetch(time.monotonic() + wait)
        self._started().add_done_callback(lambda done: self._end(fetch, done))
        return fetch

    def _started(self) -> Future[Keys]:
        """The keys to come; an error where no call may be made."""
        try:
            if self._calls is not None:
                return self._calls.start("jwks", "jwks", self._published, Share.KEYS)
            return _settled(self._published)
        except ProviderUnavailableError as err:
            return _settled_with(err)

    def _published(self) -> Keys:
        keys = usable_keys(self._source())
        if not keys:
            raise UnusableAnswerError("no_keys")
        return keys

    def _end(self, fetch: _Fetch, done: Future[Keys]) -> None:
        """Replace the keys, or keep the old ones where the fetch has failed."""
        err = done.exception()
        with self._lock:
            # The first keys were not asked for because one was missing among them.
            is_first = not self._keys and err is None
            self._asked_at = None if is_first else self._clock()
            self._keys = done.result() if err is None else self._keys
            self._fetch = None
        fetch.ended.set()
        if err is not None:
            log.warning("signing_keys_not_fetched", error=type(err).__name__)


def _settled(work: Callable[[], Keys]) -> Future[Keys]:
    """The result of work that is done at once."""
    future: Future[Keys] = Future()
    try:
        future.set_result(work())
    except Exception as err:  # as a worker's future holds any error
        future.set_exception(err)
    return future


def _settled_with(err: Exception) -> Future[Keys]:
    future: Future[Keys] = Future()
    future.set_exception(err)
    return future


def usable_keys(document: Mapping[str, Any]) -> Keys:
    """The RSA signing keys of a JSON Web Key Set, by their id; strange entries are passed over."""
    entries = document.get("keys")
    candidates = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    found = (key for entry in candidates for key in _rsa_key(entry))
    return dict(islice(found, MOST_KEYS))


def _rsa_key(entry: dict[str, Any]) -> list[tuple[str, PyJWK]]:
    """The key of one entry, or nothing: a strange entry must not hide the good ones beside it."""
    kid, modulus = entry.get("kid"), entry.get("n")
    if not isinstance(kid, str) or entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
        return []
    if not isinstance(modulus, str) or len(modulus) > LONGEST_MODULUS:
        return []
    try:
        return [(kid, jwt.PyJWK(entry, algorithm="RS256"))]
    except (PyJWTError, ValueError, TypeError):
        return []
