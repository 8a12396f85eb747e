"""The issuer's public keys: fetched in a worker thread, when needed, at most once a minute.

1. A known key is returned without waiting.
2. An unknown key id starts a fetch, unless one has just been made. A request waits for it until
   half a second after the start of the fetch (one second while no key is known). The worker ends by
   its own time limit.
3. Keys that are four minutes old are fetched again beside the requests. Requests wait for that
   fetch, as in 2, once the keys have reached their maximum age of five minutes.
4. While the issuer cannot be reached, the known keys stay valid.
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

from auth.errors import (
    CallNeededError,
    KeysUnavailableError,
    UnknownKeyError,
    UnusableAnswerError,
)
from auth.provider_calls import ProviderCalls, Purpose

log = structlog.get_logger(__name__)

FIRST_WAIT_SECONDS = 1.0  # while no key is known; a first login is answered within two seconds
WAIT_SECONDS = 0.5  # for a key of a new id
REFETCH_COOLDOWN_SECONDS = 60.0  # docs/clerk.md: an unknown `kid` fetches at most once a minute
RETRY_COOLDOWN_SECONDS = 2.0  # while no key is known, because no user can sign in until then
MAX_AGE_SECONDS = 300.0  # as in Clerk's SDKs
RENEWAL_SECONDS = 240.0  # earlier than the maximum age, so that no request of a busy process waits
MAX_KEYS = 64
MAX_MODULUS_LENGTH = 1_400  # characters, of 8 192 bits; a larger key makes each check expensive

KeySource = Callable[[], Mapping[str, Any]]
Keys = dict[str, PyJWK]


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A fetch under way; requests wait for it until `wait_until`, on the monotonic clock.

    `is_renewal`: it was made for the age of the keys, so that no cool-down follows it.
    """

    wait_until: float
    is_renewal: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


class KeySet:
    """The keys known so far; shared by threads. `clock` is monotonic, in seconds.

    `source` returns a JSON Web Key Set (RFC 7517). With `calls` it is a call to the provider;
    without, it is local and returns at once.
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
        self._fetched_at: float | None = None
        self._renewed_at = 0.0  # when the keys were last fetched, or a renewal failed
        self._loaded_at = 0.0
        self._fetch: _Fetch | None = None
        self._lock = threading.RLock()

    @property
    def is_missing(self) -> bool:
        """Whether a fetch was made and no key is known, so that no user can sign in."""
        return self._fetched_at is not None and not self._keys

    def key(self, kid: str, *, may_fetch: bool = True) -> PyJWK:
        """Return the key of that id; an unknown one is fetched, subject to the cool-down.

        Raises UnknownKeyError for a key that the issuer does not publish, and KeysUnavailableError
        while no key is known. Raises CallNeededError where a fetch is needed but `may_fetch` is
        False. The first keys are fetched in any case: without them no token can be verified.
        """
        if self._clock() - self._loaded_at >= RENEWAL_SECONDS:
            self._renew_old_keys()
        key = self._keys.get(kid)
        if key is None:
            _wait_for(self._fetch_for(kid, may_fetch=may_fetch))
            key = self._keys.get(kid)
        if key is not None:
            return key
        if not self._keys:
            raise KeysUnavailableError("the issuer's keys are not known")
        raise UnknownKeyError("unknown key id")

    def is_current(self, key: PyJWK) -> bool:
        """Whether this key object is still the known key of its id."""
        if self._clock() - self._loaded_at >= RENEWAL_SECONDS:
            self._renew_old_keys()
        return self._keys.get(str(key.key_id)) is key

    def _renew_old_keys(self) -> None:
        """Fetch old keys again; wait for that only where they have reached their maximum age."""
        now = self._clock()
        if not self._keys:
            return
        with self._lock:
            fetch = self._fetch
            if fetch is None and now - self._renewed_at >= REFETCH_COOLDOWN_SECONDS:
                fetch = self._begin_fetch(is_renewal=True)
        if now - self._loaded_at >= MAX_AGE_SECONDS:
            _wait_for(fetch)

    def _fetch_for(self, kid: str, *, may_fetch: bool) -> _Fetch | None:
        """Return the fetch under way or a new one; None if the key is known or none may start."""
        with self._lock:
            fetch = self._fetch
            pause = REFETCH_COOLDOWN_SECONDS if self._keys else RETRY_COOLDOWN_SECONDS
            is_paused = self._fetched_at is not None and self._clock() - self._fetched_at < pause
            if kid in self._keys or (fetch is None and is_paused):
                return None
            if not may_fetch and self._keys and self._calls is not None:
                raise CallNeededError("a fetch of the issuer's keys")
            return fetch or self._begin_fetch()

    def _begin_fetch(self, *, is_renewal: bool = False) -> _Fetch:
        wait = WAIT_SECONDS if self._keys else FIRST_WAIT_SECONDS
        fetch = self._fetch = _Fetch(time.monotonic() + wait, is_renewal)
        future: Future[Keys] = Future()
        try:
            if self._calls is None:
                future.set_result(self._load_keys())
            else:
                future = self._calls.start("jwks", "jwks", self._load_keys, Purpose.KEYS)
        except Exception as err:  # as a worker's future holds any error
            future.set_exception(err)
        future.add_done_callback(lambda done: self._finish_fetch(fetch, done))
        return fetch

    def _load_keys(self) -> Keys:
        keys = usable_keys(self._source())
        if not keys:
            raise UnusableAnswerError("no_keys")
        return keys

    def _finish_fetch(self, fetch: _Fetch, done: Future[Keys]) -> None:
        """Replace the keys, or keep the old ones if the fetch failed."""
        err = done.exception()
        with self._lock:
            self._renewed_at = self._clock()
            # The first fetch was not made for a missing key either, so no cool-down follows it.
            is_first = not self._keys and err is None
            if not fetch.is_renewal:
                self._fetched_at = None if is_first else self._clock()
            if err is None:
                self._keys = _with_known_objects(done.result(), self._keys)
                self._loaded_at = self._clock()
            self._fetch = None
        fetch.ended.set()
        if err is not None:
            log.warning("signing_keys_not_fetched", error=type(err).__name__)


def _wait_for(fetch: _Fetch | None) -> None:
    if fetch is not None:
        fetch.ended.wait(max(0.0, fetch.wait_until - time.monotonic()))


def _with_known_objects(fetched: Keys, known: Keys) -> Keys:
    """Return the fetched keys; an unchanged one stays the same object, see `is_current`."""
    numbers = {kid: key.key.public_numbers() for kid, key in known.items()}
    return {
        kid: known[kid] if numbers.get(kid) == key.key.public_numbers() else key
        for kid, key in fetched.items()
    }


def usable_keys(document: Mapping[str, Any]) -> Keys:
    """Return the RSA signing keys of a JSON Web Key Set by id; other entries are skipped."""
    entries = document.get("keys")
    candidates = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    found = (key for entry in candidates for key in _rsa_key(entry))
    return dict(islice(found, MAX_KEYS))


def _rsa_key(entry: dict[str, Any]) -> list[tuple[str, PyJWK]]:
    """Return the key of one entry; empty for an unusable entry, which must not hide others."""
    kid, modulus = entry.get("kid"), entry.get("n")
    if not isinstance(kid, str) or entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
        return []
    if not isinstance(modulus, str) or len(modulus) > MAX_MODULUS_LENGTH:
        return []
    try:
        return [(kid, jwt.PyJWK(entry, algorithm="RS256"))]
    except (PyJWTError, ValueError, TypeError):
        return []
